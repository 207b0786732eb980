"""The weights in a published folder, in whichever of three ways they are stored there.

One model.safetensors; several of them with an index; or pytorch_model.bin, a pickle, of which
nothing but tensors is read.
"""

import hashlib
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bertlib.plumbing.files import InputError, open_regular, read_bytes, short
from bertlib.plumbing.records import read_json
from bertlib.plumbing.states import require_plain

MAX_BYTES = 4 << 30  # of a weights file
WHOLE, INDEX, PICKLED = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"
UNREADABLE = (SafetensorError, OSError, ValueError, RuntimeError, OverflowError)
SHARD = re.compile(r"[\w-]+\.safetensors")  # a plain name: no other folder


class Weights:
    """Safetensors files: the shapes of their tensors are known before any of them is read.

    Raises `InputError` if one cannot be read, is larger than a BERT, or holds a tensor that
    another one holds too.
    """

    def __init__(self, paths: Iterable[Path]):
        self.shapes: dict[str, torch.Size] = {}
        self.paths: dict[str, Path] = {}  # of each tensor
        for path in paths:
            _check_size(path)
            with _opened(path) as file:
                found = {name: torch.Size(file.get_slice(name).get_shape())
                         for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
            for name in self.shapes.keys() & found:
                raise InputError(f"'{path}' and '{self.paths[name]}' both hold '{name}'; get the "
                                 "folder again.")
            self.shapes |= found
            self.paths |= dict.fromkeys(found, path)

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Some of the tensors, as float32."""
        wanted, found = set(names), {}
        for path in dict.fromkeys(self.paths.values()):
            with _opened(path) as file:
                for name in wanted.intersection(file.keys()):
                    found[name] = file.get_tensor(name).float()
        return found


class Pickled(Weights):
    """A pytorch_model.bin of at most `max_bytes`; it is in memory from the start."""

    def __init__(self, path: Path, max_bytes: int):
        try:
            content = read_bytes(path, max_bytes)
            require_plain(content)
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            self.tensors = {name: tensor for name, tensor in state.items()
                            if isinstance(tensor, Tensor)}
        except InputError:
            raise
        except Exception as error:  # torch raises many kinds for a broken file
            reason = short(str(error) or type(error).__name__)
            raise InputError(f"'{path}' holds no weights that can be read ({reason}); save the "
                             "model anew with a recent transformers.") from None
        self.shapes = {name: tensor.shape for name, tensor in self.tensors.items()}

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Some of the tensors, as float32."""
        return {name: self.tensors[name].float() for name in names}


def find_weights(folder: Path, max_bytes: int) -> Weights:
    """The weights in a folder, looked for as transformers does; `InputError` if there are none.

    `max_bytes` may be in memory before their shapes are known.
    """
    folder = Path(folder)
    if (folder / WHOLE).exists():
        return Weights([folder / WHOLE])
    if (folder / INDEX).exists():
        return _sharded(folder)
    if (folder / PICKLED).exists():
        return Pickled(folder / PICKLED, max_bytes)
    raise InputError(f"There are no weights in '{folder}'; it must hold {WHOLE}, {INDEX} with its "
                     f"files, or {PICKLED}.")


def _sharded(folder: Path) -> Weights:
    path = folder / INDEX
    told = read_json(path, dict[str, Any], "get the folder again", is_sealed=False)
    places = told.get("weight_map")
    if not isinstance(places, dict) or not places:
        raise InputError(f"'{path}' has no weight_map; get the folder again.")
    for place in places.values():
        if not isinstance(place, str) or not SHARD.fullmatch(place):
            raise InputError(f"'{path}' names the file {short(place)}; it must be a safetensors "
                             "file of the same folder.")
    weights = Weights([folder / name for name in sorted(set(places.values()))])
    if (other := weights.paths.keys() ^ places.keys()):
        raise InputError(f"'{path}' and the files that it names do not hold the same tensors: one "
                         f"of them only has '{min(other)}'; get the folder again.")
    return weights


def check_hash(path: Path, digest: str, teller: str) -> None:
    """`InputError` if a weights file has another SHA-256 than the file `teller` beside it says."""
    with _readable(path) as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != digest:
        raise InputError(f"The weights '{path}' are damaged: their SHA-256 differs from "
                         f"{teller}; get the folder again.")


def _check_size(path: Path) -> None:
    with _readable(path):
        pass


@contextmanager
def _readable(path: Path) -> Iterator[Any]:
    try:
        with open_regular(path, MAX_BYTES) as stream:
            yield stream
    except OSError as error:
        raise InputError(f"Cannot read the weights '{path}' ({error.strerror}).") from None


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, "pt") as file:
            yield file
    except UNREADABLE as error:
        name = type(error).__name__
        raise InputError(f"'{path}' is no safetensors file that can be read ({name}).") from None
