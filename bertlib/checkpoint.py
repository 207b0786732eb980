"""Checkpoints that survive: written whole or not at all, hashed, two kept, the best marked."""

import io
import json
from pathlib import Path
from typing import Any

import torch

from bertlib.files import InputError, atomic_write, sha256, write_json

INDEX = "index.json"


class Checkpoints:
    """The checkpoints in one folder, with an index of their hashes.

    The index lists, oldest first, {"file", "step", "sha256", "val_loss"} and the best file.
    """

    def __init__(self, folder: Path, keep: int = 2):
        self.folder, self.keep = Path(folder), keep
        self.entries: list[dict[str, Any]] = []
        self.best: str | None = None
        if (path := self.folder / INDEX).exists():
            try:
                index = json.loads(path.read_text(encoding="utf-8"))
                self.entries, self.best = index["checkpoints"], index["best"]
            except (ValueError, KeyError, TypeError):
                raise InputError(
                    f"The index '{path}' is damaged; move the folder away to start again."
                ) from None

    def save(self, state: dict[str, Any], step: int, val_loss: float | None) -> Path:
        """Write `state` (tensors and plain values) and drop what is old and not the best."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        path = self.folder / f"step_{step:08d}.pt"
        with atomic_write(path) as stream:
            stream.write(buffer.getbuffer())
        self.entries = [entry for entry in self.entries if entry["file"] != path.name]
        digest = sha256(buffer.getbuffer())
        self.entries.append(
            {"file": path.name, "step": step, "sha256": digest, "val_loss": val_loss}
        )
        self._drop_old()
        return path

    def _drop_old(self) -> None:
        scored = [entry for entry in self.entries if entry["val_loss"] is not None]
        best = min(scored, key=lambda entry: entry["val_loss"], default=None)
        self.best = best and best["file"]
        kept = self.entries[-self.keep :]
        kept = [entry for entry in self.entries if entry in kept or entry is best]
        old, self.entries = [e for e in self.entries if e not in kept], kept
        write_json(self.folder / INDEX, {"best": self.best, "checkpoints": self.entries})
        for entry in old:
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
        """The state with the lowest validation loss; `InputError` if there is none."""
        for entry in self.entries:
            if entry["file"] == self.best:
                return load_state(self.folder / entry["file"], entry["sha256"])
        raise InputError(f"'{self.folder}' holds no scored checkpoint; train first.")


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
