"""The training loop: batch, loss, gradient, step; now and then a look at validation.

A run loses nothing: checkpoints carry the weights, both optimisers, the random state and the
place in the data, so that a stopped run goes on bit for bit (same machine, same threads).
"""

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from bertlib.bert import BertForMaskedLM
from bertlib.checkpoint import Checkpoints, load_weights
from bertlib.data import Batches, Dataset, in_order
from bertlib.device import autocast, flops_per_token, measured_peak, pick_device, pick_precision
from bertlib.masking import Masked, Masker
from bertlib.optim import build_optimizers, mask_rate, rate_factor, set_rates
from bertlib.runlog import RunLog
from bertlib.settings import Settings

Watcher = Callable[[int, BertForMaskedLM, Path], None]


class Score(NamedTuple):
    """Validation: mean loss in nats, share of right guesses, number of masked words."""

    loss: float
    accuracy: float
    count: int


@torch.no_grad()
def evaluate(model: BertForMaskedLM, batches: Iterator[Masked], device: torch.device,
             dtype: torch.dtype) -> Score:
    """Score `model` on puzzles; all masked positions count, the unchanged ones too."""
    was_training = model.training
    model.eval()
    loss = right = count = 0.0
    for batch in batches:
        batch = batch.to(device)
        with autocast(device, dtype):
            out = model(batch.input_ids, batch.positions, batch.labels, batch.attention_mask)
        loss += float(out.loss) * len(batch.labels)
        right += int((out.logits.argmax(-1) == batch.labels).sum())
        count += len(batch.labels)
    model.train(was_training)
    return Score(loss / count, right / count, int(count))


class Trainer:
    """Trains `model` by `settings`; keeps logs and checkpoints in `folder`."""

    def __init__(self, settings: Settings, model: BertForMaskedLM, batches: Batches, val: Dataset,
                 masker: Masker, folder: Path, watch: Watcher | None = None):
        self.settings, self.batches, self.val, self.masker = settings, batches, val, masker
        self.device = pick_device(settings.device)
        self.dtype = pick_precision(settings.precision, self.device)
        self.model = model.to(self.device)
        self.watch, self.folder = watch, Path(folder)
        self.optimizers = build_optimizers(model, settings, self.dtype)
        halves = self.dtype == torch.float16
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=halves)
        if settings.compile:
            for block in model.encoder.blocks:  # one small graph, used by all layers
                block.compile()
        (self.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        self.checkpoints = Checkpoints(self.folder / "checkpoints", settings.keep_checkpoints)
        self.log = RunLog(folder)
        self.step = self.tokens = 0
        self.seconds = 0.0  # of training, validation and saving left out
        self.val_loss: float | None = None
        self.last_score = -1  # the step of the latest validation
        self.stopped = False

    # -- where the run stands ------------------------------------------------------------

    def progress(self) -> float:
        """The share of the run that is done, by training time or else by steps."""
        settings = self.settings
        by_steps = self.step / settings.max_iters
        if settings.budget_minutes:
            return min(1.0, max(by_steps, self.seconds / (60 * settings.budget_minutes)))
        return min(1.0, by_steps)

    def state(self) -> dict[str, Any]:
        """All that a checkpoint keeps."""
        cuda = torch.cuda.get_rng_state() if self.device.type == "cuda" else None
        return {
            "settings": self.settings.as_dict(), "model": self.model.state_dict(),
            "vocab_sha256": self.val.header.vocab_sha256,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(), "batches": self.position, "step": self.step,
            "tokens": self.tokens, "seconds": self.seconds, "random": torch.get_rng_state(),
            "random_cuda": cuda, "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
        }

    def restore(self, state: dict[str, Any], random: bool = True) -> None:
        """Go on from `state`; `random=False` leaves the random state alone (for a test)."""
        load_weights(self.model, state["model"], "The checkpoint")
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.scaler.load_state_dict(state["scaler"])
        self.batches.restore(state["batches"])
        self.step, self.tokens, self.seconds = state["step"], state["tokens"], state["seconds"]
        if random:
            torch.set_rng_state(state["random"])
            if state["random_cuda"] is not None:
                torch.cuda.set_rng_state(state["random_cuda"])

    # -- one step ------------------------------------------------------------------------

    def fetch(self) -> tuple[list[Masked], dict[str, int]]:
        """The micro batches of one step, and the place in the data after them."""
        rate = mask_rate(self.settings, self.progress())
        micro = [self.batches.next(self.settings.batch_size, rate)
                 for _ in range(self.settings.micro_steps)]
        if self.device.type == "cuda" and self.settings.async_to_device:
            micro = [batch.pin_memory() for batch in micro]
        return micro, self.batches.state()

    def train_step(self, micro: list[Masked]) -> Tensor:
        """One update from the mean loss over all masked words of the micro batches."""
        set_rates(self.optimizers, rate_factor(self.settings, self.step, self.progress()))
        loss = self.accumulate(micro)
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        if self.settings.grad_clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.grad_clip)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        self.scaler.update()
        return loss

    def accumulate(self, micro: list[Masked]) -> Tensor:
        """Add up gradients as if the micro batches were one; each counts by its masked words."""
        total = sum(len(batch.labels) for batch in micro)
        summed = torch.zeros((), device=self.device)
        for batch in micro:
            batch = batch.to(self.device, non_blocking=self.settings.async_to_device)
            with autocast(self.device, self.dtype):
                out = self.model(batch.input_ids, batch.positions, batch.labels,
                                 batch.attention_mask)
            loss = out.loss * (len(batch.labels) / total)
            self.scaler.scale(loss).backward()
            summed += loss.detach()
        return summed

    # -- the run -------------------------------------------------------------------------

    def run(self, show_progress: bool = False) -> Score:
        """Train to the end, or to the step that an interrupt falls in; gives the last score."""
        self.position = self.batches.state()
        self.model.train()
        with _interrupt_sets(self), self._bar(show_progress) as bar, ThreadPoolExecutor(1) as pool:
            ahead = self.device.type == "cuda" and self.settings.async_to_device
            waiting, saved_at, loss = None, time.monotonic(), None
            self._look(loss)
            while self.progress() < 1 and not self.stopped:
                start = time.perf_counter()
                micro, self.position = waiting.result() if waiting else self.fetch()
                waiting = pool.submit(self.fetch) if ahead else None
                loss = self.train_step(micro)
                self.step += 1
                self.tokens += sum(batch.input_ids.numel() for batch in micro)
                self.seconds += time.perf_counter() - start
                self._advance(bar)
                if self.step % self.settings.val_interval == 0 and self.progress() < 1:
                    self._look(loss)
                if self.step & (self.step - 1) == 0:  # 1, 2, 4, 8, ...
                    self._show()
                if time.monotonic() - saved_at > 60 * self.settings.checkpoint_minutes:
                    self.save()
                    saved_at = time.monotonic()
        score = self._look(loss, whole=not self.stopped)
        self.save()
        self.log.say("interrupted" if self.stopped else "finished")
        self.log.close()
        return score

    def save(self) -> None:
        """Keep everything as it is after this step."""
        scored = self.val_loss if self.last_score == self.step else None
        self.checkpoints.save(self.state(), self.step, scored)

    def _look(self, loss, whole: bool = False) -> Score:
        """Validate and write down where the run stands."""
        most = 0 if whole else self.settings.val_chunks
        batches = in_order(self.val, self.masker, 64, most)
        score = evaluate(self.model, batches, self.device, self.dtype)
        self.val_loss, self.last_score = score.loss, self.step
        if loss is not None:
            factor = rate_factor(self.settings, max(0, self.step - 1), self.progress())
            self.log.write("train", self.step, loss=float(loss), lr_factor=factor)
        self.log.write("val", self.step, loss=score.loss, accuracy=score.accuracy,
                       masked=score.count, tokens=self.tokens, seconds=round(self.seconds, 2))
        if self.step == 0 or whole:
            self._show()
        return score

    def _show(self) -> None:
        if self.watch:
            self.watch(self.step, self.model, self.folder)

    @contextmanager
    def _bar(self, show: bool) -> Iterator[tqdm]:
        config, rate = self.model.config, self.settings.final_mask_rate
        self.flops = flops_per_token(config, rate)
        self.peak = measured_peak(self.device, self.dtype) if show else 0.0
        form = "{percentage:3.0f}%|{bar:20}| {elapsed}<{remaining} {postfix}"
        with tqdm(total=1.0, initial=self.progress(), bar_format=form, disable=not show) as bar:
            yield bar

    def _advance(self, bar: tqdm) -> None:
        speed = self.tokens / max(self.seconds, 1e-9)
        share = f", MFU {speed * self.flops / self.peak:.0%}" if self.peak else ""
        bar.set_postfix_str(f"step {self.step}, {speed:,.0f} tokens/s{share}", refresh=False)
        bar.update(self.progress() - bar.n)


@contextmanager
def _interrupt_sets(trainer: Trainer) -> Iterator[None]:
    """Ctrl-C ends the run after the current step; a second one ends it at once."""
    def stop(_number, _frame):
        trainer.stopped = True
        signal.signal(signal.SIGINT, previous)

    try:
        previous = signal.signal(signal.SIGINT, stop)
    except ValueError:  # not the main thread: signals are not ours to catch
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
