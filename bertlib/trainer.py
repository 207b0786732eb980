"""The training loop: batch, loss, gradient, step; now and then a look at validation.

A run loses nothing: checkpoints carry the weights, both optimisers, the random state and the
place in the data, so that a stopped run goes on bit for bit (same machine, same threads; from
three ranks on up to the order of sums).

Several ranks train one model (`plumbing.ranks`). Batches are the same however many share them,
and so are the losses, up to that order.
"""

import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bertlib.bert import BertForMaskedLM
from bertlib.checkpoint import Checkpoints
from bertlib.data import Batches, Dataset, batch_size_at, in_order
from bertlib.masking import Masked, Masker, mask_rate_at
from bertlib.optim import Learner, rate_factor
from bertlib.plumbing.device import return_freed_memory
from bertlib.plumbing.files import InputError
from bertlib.plumbing.interrupts import asks_to_stop
from bertlib.plumbing.ranks import ALONE, Ranks
from bertlib.plumbing.runlog import RunLog, progress_bar
from bertlib.plumbing.states import expected_bytes, random_state, set_random_state
from bertlib.scoring import Score, evaluate, flops_per_token
from bertlib.settings import Settings

LOOK = 10  # steps between looks at the loss on a GPU, where each look waits for it
Watcher = Callable[[int, BertForMaskedLM, Path], None]


class Portion(NamedTuple):
    """What one rank computes in a step: its rows of each micro batch, and what all ranks share.

    `masked` counts the masked words of the whole step; `position` is the place in the data after.
    """

    micro: list[Masked]
    masked: int
    position: dict[str, int]


class Trainer:
    """Trains `model` by `settings`; the writer keeps logs and checkpoints in `folder`.

    Nothing is written before `run` or `save`.
    """

    def __init__(self, settings: Settings, model: BertForMaskedLM, batches: Batches, val: Dataset,
                 masker: Masker, folder: Path, watch: Watcher | None = None, ranks: Ranks = ALONE):
        self.settings, self.watch, self.ranks = settings, watch, ranks
        self.batches, self.val, self.masker = batches, val, masker
        self.learner = Learner(settings, model, ranks)
        self.model, self.device, self.dtype = model, self.learner.device, self.learner.dtype
        self.step = self.tokens = 0
        self.seconds = 0.0  # of training, validation and saving left out
        self.position = batches.state()
        self.log, self.score = RunLog(None), Score(math.nan, math.nan, 0)  # on the way
        self.saved: int | None = None  # step of the newest checkpoint
        self.interrupted = self.stopped = False  # somebody asked this rank to stop; all know it
        self.open(folder)

    def open(self, folder: Path) -> None:
        """Keep logs and checkpoints in `folder` from now on; nothing is written yet."""
        self.folder = Path(folder)
        self.checkpoints = Checkpoints(self.folder / "checkpoints", self.settings.keep_checkpoints,
                                       expected_bytes(self.model))

    def progress(self, ahead: int = 0) -> float:
        """The share of the run that is done `ahead` steps from now, by training time or steps."""
        share, minutes = (self.step + ahead) / self.settings.max_iters, self.settings.budget_minutes
        if minutes:
            share = max(share, self.seconds / (60 * minutes))
        return min(1.0, share)

    def state(self) -> dict[str, Any]:
        """All that a checkpoint keeps; all ranks must call, as each has its own random state."""
        return {**self.learner.state(), "batches": self.position, "step": self.step,
                "tokens": self.tokens, "seconds": self.seconds,
                "random": self.ranks.gather(random_state(self.device))}

    def restore(self, state: Mapping[str, Any], random: bool = True) -> None:
        """Go on from `state`; `random=False` leaves the random state alone (for a test)."""
        self.learner.restore(state)
        self.position = state["batches"]
        self.batches.restore(self.position)
        self.step, self.tokens, self.seconds = state["step"], state["tokens"], state["seconds"]
        self.saved = self.step
        if random and self.ranks.rank < len(state["random"]):
            set_random_state(self.device, state["random"][self.ranks.rank])
        elif random:  # there were fewer ranks
            torch.manual_seed(self.ranks.seed(self.settings.seed, self.step))

    def fetch(self, progress: float) -> Portion:
        """The micro batches of the step at `progress`: their size and masks follow the recipe."""
        size = batch_size_at(progress, self.settings.first_batch_size, self.settings.batch_size)
        rate = mask_rate_at(progress, self.settings.mask_rate, self.settings.final_mask_rate)
        micro = [self.batches.next(size, rate) for _ in range(self.settings.micro_steps)]
        masked = sum(len(batch.labels) for batch in micro)
        if self.ranks.world > 1:
            micro = [batch.rows(*self.ranks.span(len(batch.input_ids))) for batch in micro]
        if self.device.type == "cuda" and self.settings.async_to_device:
            micro = [batch.pin_memory() for batch in micro]
        return Portion(micro, masked, self.batches.state())

    def train_step(self, micro: list[Masked], masked: int) -> Tensor:
        """One update at the rate of this moment; returns this rank's part of the loss."""
        factor = rate_factor(self.settings, self.step, self.progress())
        return self.learner.step(micro, masked, factor)

    # -- the run -------------------------------------------------------------------------

    def run(self, show_progress: bool = False) -> Score:
        """Train to the end, or to the step that an interrupt falls in; returns the last score.

        Raises `InputError` if training diverges; checkpoints of before are kept.
        """
        self.log = RunLog(self.folder if self.ranks.is_writer else None, self.step)
        among = f", {self.ranks.world} ranks" if self.ranks.world > 1 else ""
        self.log.say("; ".join([f"on {self.device}, {self.dtype}{among}, from step {self.step}",
                                *self.checkpoints.notes]))
        self.model.train()
        cost = flops_per_token(self.model.config, self.settings.final_mask_rate)
        bar = progress_bar(self.progress(), cost, self.device, self.dtype, show_progress)
        with asks_to_stop(self.interrupt), bar as advance, ThreadPoolExecutor(1) as pool:
            self._train(advance, pool)
            score = self._end()
        self.log.close()
        return score

    def _train(self, advance: Callable[..., None], pool: Executor) -> None:
        """Step after step, with looks at validation and saves between."""
        ahead = self.device.type == "cuda" and self.settings.async_to_device
        waiting, saved_at, loss = None, time.monotonic(), None
        self._look()
        while self.progress() < 1 and not self.stopped:
            start = time.perf_counter()
            portion = waiting.result() if waiting else self.fetch(self.progress())
            waiting = pool.submit(self.fetch, self.progress(1)) if ahead else None
            loss = self.train_step(portion.micro, portion.masked)
            if self.device.type == "cpu" or self.step % LOOK == 0:
                self._require_finite(float(loss))
            self._count(portion, time.perf_counter() - start)
            if self.step & (self.step - 1) == 0:  # 1, 2, 4, 8, ...
                self._show()
            waited = (time.monotonic() - saved_at) / 60
            due = self._agree(waited > self.settings.checkpoint_minutes)
            advance(self.progress(), self.step, self.tokens, self.seconds,
                    loss=self.score.loss, accuracy=self.score.accuracy)
            if self.step % self.settings.val_interval == 0 and self.progress() < 1:
                self._note(loss)
                self._look()
            if due:
                self.save()
                saved_at = time.monotonic()
        if loss is not None:
            self._note(loss)

    def _end(self) -> Score:
        """Save and look for the last time; after an interrupt, saving comes first."""
        if self.stopped:
            self.save()
            self.log.say(f"interrupted, step {self.step} is saved")
            return self._look()
        score = self._look()
        if self.settings.val_chunks != self.settings.final_chunks:
            score = self._look(whole=True)
        self._show()
        self.save()
        self.log.say("finished")
        return score

    def interrupt(self) -> None:
        """Ask the run to end after the step that it is in."""
        self.interrupted = True

    def _require_finite(self, value: float, name: str = "loss") -> None:
        if math.isfinite(value):
            return
        entries, rates = self.checkpoints.entries, self.settings
        kept = f"step {entries[-1]['step']} is kept" if entries else "there is no checkpoint yet"
        raise InputError(
            f"Training diverged: a {name} of {value} at step {self.step} ({kept} in "
            f"'{self.folder}'). Begin a new run with a lower learning_rate (it is "
            f"{rates.learning_rate:g}) or matrix_learning_rate ({rates.matrix_learning_rate:g}), "
            f"a warm-up (warmup_iters, {rates.warmup_iters}) or grad_clip ({rates.grad_clip:g})."
        )

    def _count(self, portion: Portion, seconds: float) -> None:
        self.step += 1
        self.position = portion.position
        self.tokens += self.ranks.world * sum(batch.input_ids.numel() for batch in portion.micro)
        self.seconds += seconds

    def _agree(self, due: bool) -> bool:
        """Let all ranks go by the slowest clock and any interrupt; returns if a save is due."""
        self.seconds, stopped, saves = self.ranks.max(self.seconds, self.interrupted, due)
        self.stopped = bool(stopped)
        return bool(saves)

    def save(self) -> None:
        """Keep all as it is after this step, once; all ranks must call, the writer writes."""
        if self.saved == self.step:
            return
        self._require_finite(0.0 if self.learner.is_finite() else math.nan, "weight")
        state = self.state()
        if self.ranks.is_writer:
            self.checkpoints.save(state, self.step)
        self.saved = self.step

    def _exam(self, chunks: int) -> Score:
        """Score on the first so many chunks, 0 for all; each rank on its share."""
        share = in_order(self.val, self.masker, 64, chunks, self.ranks.rank, self.ranks.world)
        score = evaluate(self.model, share, self.device, self.dtype, self.ranks)
        self._require_finite(score.loss)
        return score

    def _look(self, whole: bool = False, keep: bool = True) -> Score:
        """Validate and write it down; `keep` the weights if they did best on the way so far."""
        chunks = self.settings.final_chunks if whole else self.settings.val_chunks
        score = self._exam(chunks)
        if not whole:
            self.score = score
            if keep and self.step and self.ranks.is_writer:
                self.checkpoints.save_best(self.model.state_dict(), self.step, score.loss, chunks)
        self.log.write("whole" if whole else "val", self.step, loss=score.loss,
                       accuracy=score.accuracy, masked=score.count, tokens=self.tokens,
                       seconds=round(self.seconds, 2))
        if self.step == 0:
            self._show()
        return_freed_memory()
        return score

    def _note(self, loss: Tensor) -> None:
        """Write down the loss of the step before; all ranks must call."""
        value = float(self.ranks.sum(loss))
        self._require_finite(value)
        factor = rate_factor(self.settings, max(0, self.step - 1), self.progress())
        self.log.write("train", self.step, loss=value, lr_factor=factor)

    def _show(self) -> None:
        if self.watch and self.ranks.is_writer:
            self.watch(self.step, self.model, self.folder)
