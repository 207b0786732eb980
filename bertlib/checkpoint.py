"""Checkpoints that survive: written whole or not at all, hashed.

Two states to go on from are kept, and the weights that did best.
"""

import io
import math
import re
import zipfile
from pathlib import Path
from typing import Annotated, Any, TypedDict

import torch
from msgspec import Meta, convert

from bertlib.plumbing.files import InputError, atomic_write, clear_leftovers, read_bytes, sha256
from bertlib.plumbing.records import Missing, read_json, write_json
from bertlib.plumbing.states import MAX_BYTES, load_state, parse_state

INDEX = "index.json"
NAME = r"^(step|best)_[0-9]{8,}b?\.pt\Z"  # a file of the folder, never a path


class Entry(TypedDict):
    """A checkpoint in the index."""

    file: Annotated[str, Meta(pattern=NAME)]
    step: Annotated[int, Meta(ge=0)]
    sha256: str


class Best(Entry):
    """The one with the lowest validation loss; val_chunks: how many were scored, 0 for all."""

    val_loss: float
    val_chunks: int


class Index(TypedDict):
    """What index.json says."""

    best: Best | None
    checkpoints: list[Entry]


class Checkpoints:
    """The checkpoints in one folder, with an index of their hashes.

    `entries` lists, oldest first, the states to go on from, `best` the weights with the lowest
    validation loss so far. `notes` are sentences for the reader: what was lost or damaged, and
    what is done about it. Without an index, or with a damaged one, the files are found by their
    names, if the checksums inside them are right.
    """

    def __init__(self, folder: Path, keep: int = 2, max_bytes: int = MAX_BYTES):
        """max_bytes: that a checkpoint may have."""
        self.folder, self.keep, self.max_bytes = Path(folder), keep, max_bytes
        self.entries: list[Entry] = []
        self.best: Best | None = None
        self.notes: list[str] = []
        self.is_indexed = True
        try:
            index = read_json(self.folder / INDEX, Index, "it is made anew")
            self.entries, self.best = index["checkpoints"], index["best"]
        except Missing:
            self._recover("is missing")
        except InputError:
            self._recover("is damaged")

    def _recover(self, problem: str) -> None:
        """Take up what lies in the folder without its index."""
        names = sorted(path.name for path in self.folder.glob("*.pt") if re.match(NAME, path.name))
        for name in names:
            try:
                content = read_bytes(self.folder / name, self.max_bytes)
                state = parse_state(content, self.folder / name)
                if zipfile.ZipFile(io.BytesIO(content)).testzip() is not None:
                    continue
                entry: Entry = {"file": name, "step": state["step"], "sha256": sha256(content)}
                if name.startswith("step"):
                    others = [other for other in self.entries if other["step"] != entry["step"]]
                    self.entries = [*others, entry]
                else:
                    told = {key: state[key] for key in ("val_loss", "val_chunks")}
                    self.best = convert(entry | told, Best)
            except (InputError, OSError, KeyError, ValueError):
                continue
        self.is_indexed = not names
        if names:
            self.notes.append(f"'{self.folder / INDEX}' {problem}: {len(self.entries)} states to "
                              "go on from were found by their names, and their own checksums are "
                              "right")

    def clear(self) -> None:
        """Remove what a killed process left: half a file, or one that the index does not list."""
        clear_leftovers(self.folder, "*")
        listed = self._listed()
        for path in self.folder.glob("*.pt") if self.is_indexed else ():
            if re.match(NAME, path.name) and path.name not in listed:
                path.unlink()

    def _listed(self) -> set[str]:
        """The names of the files in the index."""
        return {entry["file"] for entry in (*self.entries, *([self.best] if self.best else ()))}

    def save(self, state: dict[str, Any], step: int) -> Path:
        """Write `state` (tensors and plain values) and drop what is old."""
        entry = self._write(f"step_{step:08d}", state, step)
        others = [old for old in self.entries if old["step"] != step]
        listed, self.entries = self.entries, [*others, entry][-self.keep :]
        self._write_index([old for old in listed if old not in self.entries])
        return self.folder / entry["file"]

    def save_best(self, weights: dict[str, torch.Tensor], step: int, val_loss: float,
                  val_chunks: int) -> bool:
        """Keep `weights` if no others did better on the same chunks; returns whether they did.

        A best one that was scored on other chunks cannot be compared, and is replaced.
        """
        best = self.best
        if not math.isfinite(val_loss) or (best is not None and best["val_chunks"] == val_chunks
                                           and best["val_loss"] <= val_loss):
            return False
        told = {"val_loss": val_loss, "val_chunks": val_chunks}
        entry = self._write(f"best_{step:08d}", {"model": weights, "step": step, **told}, step)
        self.best = {**entry, "val_loss": val_loss, "val_chunks": val_chunks}
        self._write_index([best] if best else [])
        return True

    def _write(self, stem: str, state: dict[str, Any], step: int) -> Entry:
        """A new file: one that the index lists must stay as it is until the index is another."""
        if self.entries and not self.folder.is_dir():
            raise InputError(f"The folder '{self.folder}' was removed while its run was at work; "
                             "begin a new run with --resume never.")
        self.folder.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        name = f"{stem}b.pt" if f"{stem}.pt" in self._listed() else f"{stem}.pt"
        with atomic_write(self.folder / name) as stream:
            stream.write(buffer.getbuffer())
        return {"file": name, "step": step, "sha256": sha256(buffer.getbuffer())}

    def _write_index(self, dropped: list[Entry]) -> None:
        write_json(self.folder / INDEX, {"best": self.best, "checkpoints": self.entries})
        for entry in dropped:
            (self.folder / entry["file"]).unlink(missing_ok=True)

    def newest(self) -> dict[str, Any] | None:
        """The newest state that is whole, or None if there never was one.

        A damaged file is passed over for the one before, and noted; `InputError` if all are.
        """
        for entry in reversed(self.entries):
            try:
                return load_state(self.folder / entry["file"], entry["sha256"], self.max_bytes)
            except InputError as error:
                problem = error
                self.notes.append(f"step {entry['step']} is passed over: {error}")
        if self.entries:
            raise InputError(f"No checkpoint in '{self.folder}' is whole: {problem}")
        return None

    def best_state(self) -> dict[str, Any]:
        """The weights with the lowest validation loss, {"model", "step"}; `InputError` if none."""
        if self.best is None:
            raise InputError(f"'{self.folder}' holds no scored weights; train first.")
        return load_state(self.folder / self.best["file"], self.best["sha256"], self.max_bytes)
