"""Checkpoints that survive: written whole or not at all, hashed.

Two states to go on from are kept, and the weights that did best.
"""

import io
import json
import math
import re
from pathlib import Path
from typing import Any

import torch

from bertlib.files import InputError, atomic_write, sha256, write_json

INDEX = "index.json"
NAME = re.compile(r"(step|best)_\d{8,}\.pt")


class Checkpoints:
    """The checkpoints in one folder, with an index of their hashes.

    `entries` lists, oldest first, {"file", "step", "sha256"} of states to go on from. `best` is
    the entry of the weights with the lowest validation loss so far, with "val_loss" and
    "val_chunks": how many chunks were scored, 0 for all.
    """

    def __init__(self, folder: Path, keep: int = 2):
        self.folder, self.keep = Path(folder), keep
        self.entries: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        if (path := self.folder / INDEX).exists():
            try:
                index = json.loads(path.read_text(encoding="utf-8"))
                self.entries, self.best = index["checkpoints"], index["best"]
                for entry in self.entries + [self.best] * (self.best is not None):
                    if not NAME.fullmatch(entry["file"]) or entry["step"] < 0:
                        raise ValueError(entry["file"])
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                raise InputError(
                    f"The index '{path}' is damaged; move the folder away to start again."
                ) from None

    def save(self, state: dict[str, Any], step: int) -> Path:
        """Write `state` (tensors and plain values) and drop what is old."""
        entry = self._write(f"step_{step:08d}.pt", state, step)
        self.entries = [old for old in self.entries if old["file"] != entry["file"]] + [entry]
        old, self.entries = self.entries[: -self.keep], self.entries[-self.keep :]
        self._write_index(old)
        return self.folder / entry["file"]

    def save_best(self, weights: dict[str, torch.Tensor], step: int, val_loss: float,
                  val_chunks: int) -> bool:
        """Keep `weights` if no others did better on the same chunks; returns whether they did.

        A best one that was scored on other chunks cannot be compared, and is replaced.
        """
        best = self.best
        same = best is not None and best["val_chunks"] == val_chunks
        if not math.isfinite(val_loss) or (same and best["val_loss"] <= val_loss):
            return False
        entry = self._write(f"best_{step:08d}.pt", {"model": weights, "step": step}, step)
        self.best = entry | {"val_loss": val_loss, "val_chunks": val_chunks}
        self._write_index([best] if best and best["file"] != entry["file"] else [])
        return True

    def _write(self, name: str, state: dict[str, Any], step: int) -> dict[str, Any]:
        self.folder.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        with atomic_write(self.folder / name) as stream:
            stream.write(buffer.getbuffer())
        return {"file": name, "step": step, "sha256": sha256(buffer.getbuffer())}

    def _write_index(self, dropped: list[dict[str, Any]]) -> None:
        write_json(self.folder / INDEX, {"best": self.best, "checkpoints": self.entries})
        for entry in dropped:
            (self.folder / entry["file"]).unlink(missing_ok=True)

    def newest(self) -> dict[str, Any] | None:
        """The newest state that is whole, or None if there never was one.

        A damaged file is passed over for the one before; `InputError` if all are damaged.
        """
        for entry in reversed(self.entries):
            try:
                return load_state(self.folder / entry["file"], entry["sha256"])
            except InputError as error:
                problem = error
        if self.entries:
            raise InputError(f"No checkpoint in '{self.folder}' is whole: {problem}")
        return None

    def best_state(self) -> dict[str, Any]:
        """The weights with the lowest validation loss, {"model", "step"}; `InputError` if none."""
        if self.best is None:
            raise InputError(f"'{self.folder}' holds no scored weights; train first.")
        return load_state(self.folder / self.best["file"], self.best["sha256"])


def load_state(path: Path, digest: str | None = None) -> dict[str, Any]:
    """Read one checkpoint as tensors and plain values only, checked against its SHA-256."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        reason = error.strerror
        raise InputError(f"Cannot read the checkpoint '{path}' ({reason}).") from None
    if digest is not None and sha256(content) != digest:
        raise InputError(f"The checkpoint '{path}' is damaged: its SHA-256 differs from the index.")
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a broken file
        name = type(error).__name__
        raise InputError(f"'{path}' is no checkpoint that can be read ({name}).") from None


def random_state(device: torch.device) -> dict[str, torch.Tensor | None]:
    """Where the random generators of the CPU and, on CUDA, of the current GPU stand."""
    cuda = torch.cuda.get_rng_state() if device.type == "cuda" else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_random_state(device: torch.device, state: dict[str, torch.Tensor | None]) -> None:
    """Go on from a `random_state`; the GPU's part is left out on a machine without one."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"])


def load_weights(model: torch.nn.Module, weights: dict[str, torch.Tensor], name: str) -> None:
    """Put `weights` into `model`; `InputError` that names the first tensor that does not fit."""
    own = model.state_dict()
    for key in sorted(own.keys() | weights.keys()):
        if key not in weights or key not in own:
            where = "the checkpoint" if key in weights else "the model"
            raise InputError(f"{name}: only {where} has '{key}'; use the settings of its run.")
        if weights[key].shape != own[key].shape:
            theirs, ours = tuple(weights[key].shape), tuple(own[key].shape)
            raise InputError(
                f"{name} has another shape: '{key}' is {theirs}, the model's is {ours}; use the "
                "settings that the checkpoint was made with."
            )
    model.load_state_dict(weights)
