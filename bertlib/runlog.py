"""The record of a run: log.txt to read, metrics.jsonl to compute with, TensorBoard events.

And what one sees meanwhile: the progress bar.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from bertlib.device import measured_peak
from bertlib.files import InputError


class RunLog:
    """Appends to `logs/` of a run folder; each line is whole on disk when `write` returns."""

    def __init__(self, folder: Path, step: int = 0):
        """Go on at `step`: TensorBoard then hides what a killed run wrote after it."""
        self.folder = Path(folder) / "logs"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.text = _append(self.folder / "log.txt")
        self.metrics = _append(self.folder / "metrics.jsonl")
        self.events = SummaryWriter(str(self.folder), purge_step=step + 1 if step else None)

    def say(self, message: str) -> None:
        """One line in log.txt, with the time of day."""
        self.text.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")

    def write(self, kind: str, step: int, **values: Any) -> None:
        """One record of a `kind` ("train", "val") at a step: to all three places."""
        self.metrics.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        parts = [f"{name} {_short(value)}" for name, value in values.items()]
        self.say(f"{kind} step {step}: {', '.join(parts)}")
        for name, value in values.items():
            self.events.add_scalar(f"{kind}/{name}", value, step)
        self.events.flush()

    def close(self) -> None:
        """Close all files."""
        for stream in (self.text, self.metrics, self.events):
            stream.close()


class NoLog(RunLog):
    """What a rank that is not the writer logs to: nowhere."""

    def __init__(self):
        pass

    def say(self, message: str) -> None:
        """Nothing."""

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def _append(path: Path) -> TextIO:
    """Open a text to write whole lines at its end; one that a crash cut off is ended first."""
    with path.open("a+b") as stream:
        if stream.tell():
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                stream.write(b"\n")
    return path.open("a", encoding="utf-8", buffering=1)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}"


def read_metrics(folder: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """The records of a run, oldest first; of two for one step (after a resume) the last one.

    A last line that was cut off by a crash is left out; `InputError` if there is no file.
    """
    path = Path(folder) / "logs" / "metrics.jsonl"
    if not path.exists():
        raise InputError(f"There is no '{path}'; train first.")
    records = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        records[record["kind"], record["step"]] = record
    chosen = [r for r in records.values() if kind in (None, r["kind"])]
    return sorted(chosen, key=lambda record: record["step"])


@contextmanager
def progress_bar(done: float, flops: float, device: torch.device, dtype: torch.dtype,
                 show: bool) -> Iterator[Callable[[float, int, int, float], None]]:
    """A bar over the run, `done` 0..1 of it already; gives a function to move it.

    That takes the share done, the step, tokens and seconds so far, and also tells tokens/s and
    MFU: the share of the machine's peak that `flops` a token make (Chowdhery et al. 2022).
    """
    peak = measured_peak(device, dtype) if show else 0.0
    form = "{percentage:3.0f}%|{bar:20}| {elapsed}<{remaining} {postfix}"
    with tqdm(total=1.0, initial=done, bar_format=form, disable=not show) as bar:
        def advance(progress: float, step: int, tokens: int, seconds: float,
                    loss: float | None = None, accuracy: float | None = None) -> None:
            speed = tokens / max(seconds, 1e-9)
            share = f", MFU {speed * flops / peak:.0%}" if peak else ""
            bar.set_postfix_str(f"step {step}, {speed:,.0f} tokens/s{share}", refresh=False)
            bar.update(progress - bar.n)

        yield advance
