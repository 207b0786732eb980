"""The record of a run: log.txt to read, metrics.jsonl to compute with, TensorBoard events.

And what one sees meanwhile: its progress.
"""

import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch
from IPython import get_ipython
from IPython.display import DisplayHandle
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from bertlib.plumbing.device import measured_peak
from bertlib.plumbing.files import InputError
from bertlib.plumbing.records import Missing, append_record, open_lines, read_records


class TrainRecord(msgspec.Struct, tag_field="kind", tag="train"):
    """The loss (nats) of the batch of a step, and its share of the peak learning rates."""

    step: int
    loss: float
    lr_factor: float


class ValRecord(msgspec.Struct, tag_field="kind", tag="val"):
    """A look at validation: loss (nats) and accuracy (0..1) on so many masked words.

    masked: of a GPT the tokens that were predicted. tokens and seconds: of training until then.
    """

    step: int
    loss: float
    accuracy: float
    masked: int
    tokens: int
    seconds: float


class WholeRecord(ValRecord, tag_field="kind", tag="whole"):
    """The last look, on all that validates: another exam than those on the way."""


class RunLog:
    """Appends to `logs/` of a run folder; each line is whole on disk when `write` returns.

    Without a folder it writes nowhere: so do the ranks that are not the writer.
    """

    def __init__(self, folder: Path | None, step: int = 0):
        """Go on at `step`: TensorBoard then hides what a killed run wrote after it.

        Raises `InputError` if a record of before is damaged.
        """
        self.is_open = folder is not None
        if folder is None:
            return
        self.folder = Path(folder) / "logs"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.text = open_lines(self.folder / "log.txt")
        self.metrics = open_lines(self.folder / "metrics.jsonl")
        read_metrics(folder)
        self.events = SummaryWriter(str(self.folder), purge_step=step + 1 if step else None)

    def say(self, message: str) -> None:
        """One line in log.txt, with the time of day."""
        if self.is_open:
            self.text.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")

    def write(self, kind: str, step: int, **values: Any) -> None:
        """One record of a `kind` ("train", "val", "whole") at a step: to all three places."""
        if not self.is_open:
            return
        append_record(self.metrics, {"kind": kind, "step": step, **values})
        parts = [f"{name} {_short(value)}" for name, value in values.items()]
        self.say(f"{kind} step {step}: {', '.join(parts)}")
        for name, value in values.items():
            self.events.add_scalar(f"{kind}/{name}", value, step)
        self.events.flush()

    def close(self) -> None:
        """Close all files."""
        for stream in (self.text, self.metrics, self.events) if self.is_open else ():
            stream.close()


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}"


def read_metrics(folder: Path, *kinds: str) -> list[dict[str, Any]]:
    """The records of a run, oldest first, of all kinds or some; of two for one step the last one.

    A last line that was cut off by a crash is left out; `InputError` if there is no file, or if a
    line is damaged.
    """
    path = Path(folder) / "logs" / "metrics.jsonl"
    try:
        records = {(r["kind"], r["step"]): r
                   for r in read_records(path, TrainRecord | ValRecord | WholeRecord)}
    except Missing:
        raise InputError(f"There is no '{path}'; train first.") from None
    chosen = [r for r in records.values() if not kinds or r["kind"] in kinds]
    return sorted(chosen, key=lambda record: record["step"])


@contextmanager
def progress_bar(done: float, flops: float, device: torch.device, dtype: torch.dtype, show: bool,
                 clock: Callable[[], float] = time.monotonic) -> Iterator[Callable[..., None]]:
    """Tell how a run goes on, the share `done` (0..1) of which is over; yields a function to call.

    That takes the share done, the step, tokens and seconds of training so far, and the loss (nats)
    and accuracy (0..1) of the latest validation, None if unknown. The line that it makes of them
    is rewritten on a terminal and in a live notebook; elsewhere, where output is stored, it is
    printed at once and then at most once a minute. `flops` a token make the MFU: their share of
    the machine's peak (Chowdhery et al. 2022). `clock` returns seconds.
    """
    if not show:
        yield lambda *numbers, **scores: None
        return
    peak, left, due = measured_peak(device, dtype), TimeLeft(clock), -math.inf
    with _place(done) as (rewritten, put):
        def advance(progress: float, step: int, tokens: int, seconds: float,
                    loss: float | None = None, accuracy: float | None = None) -> None:
            nonlocal due
            remaining = left(progress)
            if clock() < due and (progress < 1 or not rewritten):
                return
            due = clock() + (0.5 if rewritten else 60)
            speed = tokens / max(seconds, 1e-9)
            parts = [f"step {step:,}", "" if loss is None else f"loss {loss:.3f}",
                     "" if accuracy is None else f"accuracy {accuracy:.1%}",
                     f"{speed:,.0f} tokens/s",
                     f"MFU {speed * flops / peak:.0%}" if peak else "", remaining]
            put(", ".join(filter(None, parts)), progress)

        yield advance


class TimeLeft:
    """How long a run will still take, by the share of it that was done since the first call."""

    def __init__(self, clock: Callable[[], float]):
        self.clock = clock
        self.first: tuple[float, float] | None = None

    def __call__(self, progress: float) -> str:
        """In words, such as "6 minutes left"; empty at the first call and at the end."""
        now = self.clock()
        self.first = self.first or (now, progress)
        since, begun = self.first
        if progress <= begun or progress >= 1:
            return ""
        minutes = (now - since) / (progress - begun) * (1 - progress) / 60
        if minutes < 1:
            return "less than a minute left"
        number, unit = (minutes, "minute") if minutes < 120 else (minutes / 60, "hour")
        return f"{number:,.0f} {unit}{'s' if round(number) > 1 else ''} left"


@contextmanager
def _place(done: float) -> Iterator[tuple[bool, Callable[[str, float], None]]]:
    """Where progress is told now: whether a line replaces the one before, and what puts it there.

    Jupyter's server names the notebook in a variable. Its page and file then keep the last line
    only; papermill, nbconvert and nbval do not set it: they store, and papermill --log-output
    passes on what is printed, but no line that is rewritten.
    """
    if sys.stderr.isatty():
        form = "{percentage:3.0f}%|{bar:10}| {desc}"
        with tqdm(total=1.0, initial=done, bar_format=form, dynamic_ncols=True) as bar:
            def rewrite(line: str, progress: float) -> None:
                bar.n = progress
                bar.set_description_str(line)  # and draws
            yield True, rewrite
    elif "JPY_SESSION_NAME" in os.environ and get_ipython():
        handle = DisplayHandle()
        handle.display({"text/plain": "training begins"}, raw=True)
        yield True, lambda line, _: handle.update({"text/plain": line}, raw=True)
    else:
        yield False, lambda line, _: print(line, flush=True)
