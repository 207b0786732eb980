"""The training loop: batch, loss, gradient, step; now and then a look at validation.

A run loses nothing: checkpoints carry the weights, both optimisers, the random state and the
place in the data, so that a stopped run goes on bit for bit (same machine, same threads; from
three ranks on up to the order of sums).

Several ranks train one model (`bertlib.ranks`). Batches are the same however many share them, and
so are the losses, up to that order.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from bertlib.bert import BertForMaskedLM
from bertlib.checkpoint import Checkpoints, load_weights, random_state, set_random_state
from bertlib.data import Batches, Dataset, in_order
from bertlib.device import autocast, flops_per_token, pick_device, pick_precision
from bertlib.masking import Masked, Masker
from bertlib.optim import batch_size, build_optimizers, mask_rate, rate_factor, set_rates
from bertlib.ranks import ALONE, Ranks
from bertlib.runlog import NoLog, RunLog, progress_bar
from bertlib.scoring import Score, evaluate
from bertlib.settings import Settings

Watcher = Callable[[int, BertForMaskedLM, Path], None]


class Portion(NamedTuple):
    """What one rank computes in a step: its rows of each micro batch, and what all ranks share.

    `masked` counts the masked words of the whole step; `position` is the place in the data after.
    """

    micro: list[Masked]
    masked: int
    position: dict[str, int]


class Trainer:
    """Trains `model` by `settings`; the writer keeps logs and checkpoints in `folder`."""

    def __init__(self, settings: Settings, model: BertForMaskedLM, batches: Batches, val: Dataset,
                 masker: Masker, folder: Path, watch: Watcher | None = None,
                 ranks: Ranks = ALONE):
        ranks.require(batch_size(settings, progress=0))
        self.settings, self.batches, self.val, self.masker = settings, batches, val, masker
        self.device = pick_device(settings.device)
        self.dtype = pick_precision(settings.precision, self.device)
        self.model = model.to(self.device)
        self.watch, self.folder, self.ranks = watch, Path(folder), ranks
        self.optimizers = build_optimizers(model, settings, self.dtype)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        if settings.compile:
            for block in model.encoder.blocks:  # one small graph, used by all layers
                block.compile()
        self.replica = self.model if ranks.world == 1 else DistributedDataParallel(
            self.model, forward_sync_buffers=False, gradient_as_bucket_view=True)
        if not ranks.is_writer:  # so far all drew the same numbers; dropout shall differ
            torch.manual_seed(ranks.seed(settings.seed, 0))
        (self.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        self.checkpoints = Checkpoints(self.folder / "checkpoints", settings.keep_checkpoints)
        self.log = RunLog(folder) if ranks.is_writer else NoLog()
        self.step = self.tokens = 0
        self.seconds = 0.0  # of training, validation and saving left out
        self.val_loss: float | None = None
        self.last_score = -1  # the step of the latest validation
        self.interrupted = False  # somebody asked this rank to stop
        self.stopped = False  # all ranks know it

    # -- where the run stands ------------------------------------------------------------

    def progress(self, ahead: int = 0) -> float:
        """The share of the run that is done `ahead` steps from now, by training time or steps."""
        share, minutes = (self.step + ahead) / self.settings.max_iters, self.settings.budget_minutes
        if minutes:
            share = max(share, self.seconds / (60 * minutes))
        return min(1.0, share)

    def state(self) -> dict[str, Any]:
        """All that a checkpoint keeps; all ranks must call, as each has its own random state."""
        return {
            "settings": self.settings.as_dict(), "model": self.model.state_dict(),
            "vocab_sha256": self.val.header.vocab_sha256,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(), "batches": self.position, "step": self.step,
            "tokens": self.tokens, "seconds": self.seconds,
            "random": self.ranks.gather(random_state(self.device)),
            "threads": torch.get_num_threads(), "torch": str(torch.__version__),
        }

    def restore(self, state: dict[str, Any], random: bool = True) -> None:
        """Go on from `state`; `random=False` leaves the random state alone (for a test)."""
        load_weights(self.model, state["model"], "The checkpoint")
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.scaler.load_state_dict(state["scaler"])
        self.batches.restore(state["batches"])
        self.step, self.tokens, self.seconds = state["step"], state["tokens"], state["seconds"]
        if random and self.ranks.rank < len(state["random"]):
            set_random_state(self.device, state["random"][self.ranks.rank])
        elif random:  # there were fewer ranks
            torch.manual_seed(self.ranks.seed(self.settings.seed, self.step))

    # -- one step ------------------------------------------------------------------------

    def fetch(self, progress: float) -> Portion:
        """The micro batches of the step at `progress`: their size and masks follow the recipe."""
        size, rate = batch_size(self.settings, progress), mask_rate(self.settings, progress)
        micro = [self.batches.next(size, rate) for _ in range(self.settings.micro_steps)]
        masked = sum(len(batch.labels) for batch in micro)
        micro = [self.ranks.share(batch) for batch in micro]
        if self.device.type == "cuda" and self.settings.async_to_device:
            micro = [batch.pin_memory() for batch in micro]
        return Portion(micro, masked, self.batches.state())

    def train_step(self, micro: list[Masked], masked: int) -> Tensor:
        """One update by the mean loss over all `masked` words; gives this rank's part of it."""
        set_rates(self.optimizers, rate_factor(self.settings, self.step, self.progress()))
        loss = self.accumulate(micro, masked)
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        if self.settings.grad_clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.grad_clip)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        self.scaler.update()
        return loss

    def accumulate(self, micro: list[Masked], masked: int) -> Tensor:
        """Add up gradients as if the micro batches were one; each counts by its masked words."""
        summed = torch.zeros((), device=self.device)
        for number, batch in enumerate(micro, 1):
            batch = batch.to(self.device, non_blocking=self.settings.async_to_device)
            alone = self.ranks.world == 1 or number == len(micro)
            with nullcontext() if alone else self.replica.no_sync():  # ranks talk once a step
                with autocast(self.device, self.dtype):
                    out = self.replica(batch.input_ids, batch.positions, batch.labels,
                                       batch.attention_mask)
                loss = out.loss * (len(batch.labels) / masked)
                # the ranks' gradients are averaged, but their losses are parts of one sum
                self.scaler.scale(loss * self.ranks.world).backward()
            summed += loss.detach()
        return summed

    # -- the run -------------------------------------------------------------------------

    def run(self, show_progress: bool = False) -> Score:
        """Train to the end, or to the step that an interrupt falls in; gives the last score."""
        self.position = self.batches.state()
        self.model.train()
        cost = flops_per_token(self.model.config, self.settings.final_mask_rate)
        bar = progress_bar(self.progress(), cost, self.device, self.dtype, show_progress)
        with _interrupt_sets(self), bar as advance, ThreadPoolExecutor(1) as pool:
            ahead = self.device.type == "cuda" and self.settings.async_to_device
            waiting, saved_at, loss = None, time.monotonic(), None
            self._look(loss)
            while self.progress() < 1 and not self.stopped:
                start = time.perf_counter()
                portion = waiting.result() if waiting else self.fetch(self.progress())
                waiting = pool.submit(self.fetch, self.progress(1)) if ahead else None
                loss = self.train_step(portion.micro, portion.masked)
                self._count(portion, time.perf_counter() - start)
                if self.step & (self.step - 1) == 0:  # 1, 2, 4, 8, ...
                    self._show()
                waited = (time.monotonic() - saved_at) / 60
                due = self._agree(waited > self.settings.checkpoint_minutes)
                advance(self.progress(), self.step, self.tokens, self.seconds)
                if self.step % self.settings.val_interval == 0 and self.progress() < 1:
                    self._look(loss)
                if due:
                    self.save()
                    saved_at = time.monotonic()
            score = self._look(loss, whole=not self.stopped)
            self.save()
        self.log.say("interrupted" if self.stopped else "finished")
        self.log.close()
        return score

    def _count(self, portion: Portion, seconds: float) -> None:
        self.step += 1
        self.position = portion.position
        self.tokens += self.ranks.world * sum(batch.input_ids.numel() for batch in portion.micro)
        self.seconds += seconds

    def _agree(self, due: bool) -> bool:
        """Let all ranks go by the slowest clock and by any interrupt; gives if one is due."""
        self.seconds, stopped, due = self.ranks.most(self.seconds, self.interrupted, due)
        self.stopped = bool(stopped)
        return bool(due)

    def save(self) -> None:
        """Keep everything as it is after this step; all ranks must call, the writer writes."""
        state = self.state()
        scored = self.val_loss if self.last_score == self.step else None
        if self.ranks.is_writer:
            self.checkpoints.save(state, self.step, scored)

    def _look(self, loss: Tensor | None, whole: bool = False) -> Score:
        """Validate, each rank on its share, and write down where the run stands."""
        most = self.settings.final_chunks if whole else self.settings.val_chunks
        share = in_order(self.val, self.masker, 64, most, self.ranks.rank, self.ranks.world)
        score = evaluate(self.model, share, self.device, self.dtype, self.ranks)
        self.val_loss, self.last_score = score.loss, self.step
        if loss is not None:
            factor = rate_factor(self.settings, max(0, self.step - 1), self.progress())
            loss = float(self.ranks.sum(loss))
            self.log.write("train", self.step, loss=loss, lr_factor=factor)
        self.log.write("val", self.step, loss=score.loss, accuracy=score.accuracy,
                       masked=score.count, tokens=self.tokens, seconds=round(self.seconds, 2))
        if self.step == 0 or whole:
            self._show()
        return score

    def _show(self) -> None:
        if self.watch and self.ranks.is_writer:
            self.watch(self.step, self.model, self.folder)


@contextmanager
def _interrupt_sets(trainer: Trainer) -> Iterator[None]:
    """Ctrl-C or SIGTERM ends the run after the current step; a second one ends it at once."""
    def stop(number, _frame):
        trainer.interrupted = True
        signal.signal(number, previous[number])

    if threading.current_thread() is not threading.main_thread():
        yield  # signals are not ours to catch
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in previous:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
