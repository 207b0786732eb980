"""One state of a run: read as tensors and plain values, checked, and put back where it was."""

import io
import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import torch
from msgspec import Meta, convert

from bertlib.plumbing.files import InputError, read_bytes, sha256

MAX_BYTES = 64 << 30  # of a checkpoint, where nothing tells how large it should be
MAX_PICKLED = 4 << 20  # bytes that say which tensors a checkpoint holds
HARMLESS = re.compile(  # what a pickle of tensors and plain values calls
    r"collections OrderedDict|torch\._utils _rebuild_tensor_v2|torch \w+Storage")
Shapes = Mapping[str, torch.Size]


class Weights(TypedDict):
    """What every checkpoint holds."""

    model: dict[str, torch.Tensor]


class State(Weights):
    """A run's checkpoints tell their step, too."""

    step: NotRequired[Annotated[int, Meta(ge=0)]]


class RandomState(TypedDict):
    """Where the random generators of the CPU and, on CUDA, of the current GPU stand."""

    cpu: torch.Tensor
    cuda: torch.Tensor | None  # or another GPU's


class RunState(Weights):
    """What a checkpoint to go on from holds: see `Trainer.state`."""

    step: Annotated[int, Meta(ge=0)]
    optimizers: list[dict[str, Any]]
    scaler: dict[str, Any]
    batches: dict[str, Annotated[int, Meta(ge=0)]]
    tokens: Annotated[int, Meta(ge=0)]
    seconds: Annotated[float, Meta(ge=0)]
    random: list[RandomState]


def load_state(path: Path, digest: str | None = None, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Read one checkpoint as tensors and plain values only, checked against its SHA-256.

    Raises `InputError` if it cannot be read, differs from its hash, or is no checkpoint.
    """
    try:
        content = read_bytes(path, max_bytes)
    except OSError as error:
        reason = error.strerror
        raise InputError(f"Cannot read the checkpoint '{path}' ({reason}).") from None
    if digest is not None and sha256(content) != digest:
        raise InputError(f"The checkpoint '{path}' is damaged: its SHA-256 differs from the index.")
    return parse_state(content, path)


def parse_state(content: bytes, path: Path) -> dict[str, Any]:
    """What the bytes of the checkpoint `path` hold; `InputError` if that is no checkpoint."""
    try:
        require_plain(content)
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        convert(state, State)
        return state
    except Exception as error:  # torch raises many kinds for a broken file
        name = type(error).__name__
        raise InputError(f"'{path}' is no checkpoint that can be read ({name}).") from None


def require_plain(content: bytes) -> None:
    """`ValueError` for an archive that unpacks to more than it is, or calls more than it needs."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > len(content):
            raise ValueError("its parts overlap")
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError("it is compressed")
            if entry.filename.endswith("data.pkl"):
                if entry.file_size > MAX_PICKLED:
                    raise ValueError("its list of tensors is too long")
                for code, argument, _ in pickletools.genops(archive.read(entry)):
                    called = code.name == "GLOBAL" and HARMLESS.fullmatch(argument or "")
                    if code.name in ("GLOBAL", "STACK_GLOBAL", "INST") and not called:
                        raise ValueError(f"it calls {argument}")


def random_state(device: torch.device) -> RandomState:
    """The state now."""
    gpu = None if device.type == "cpu" else torch.get_device_module(device).get_rng_state()
    return {"cpu": torch.get_rng_state(), "cuda": gpu}


def set_random_state(device: torch.device, state: RandomState) -> None:
    """Go on from a `random_state`; the GPU's part is left out on a machine without one."""
    torch.set_rng_state(state["cpu"])
    if device.type != "cpu" and state["cuda"] is not None:
        torch.get_device_module(device).set_rng_state(state["cuda"])


def shapes(weights: Mapping[str, torch.Tensor]) -> Shapes:
    """The shape of each tensor by its name."""
    return {name: tensor.shape for name, tensor in weights.items()}


def expected_bytes(model: torch.nn.Module) -> int:
    """How large a checkpoint of `model` may be: weights, two moments of each, and some."""
    return (64 << 20) + 16 * sum(tensor.numel() for tensor in model.state_dict().values())


def check_shapes(own: Shapes, weights: Shapes, name: str) -> None:
    """`InputError` that names the first tensor of `weights` that does not fit a model's `own`."""
    for key in sorted(own.keys() | weights.keys()):
        if key not in weights or key not in own:
            where = "the checkpoint" if key in weights else "the model"
            raise InputError(f"{name}: only {where} has '{key}'; use the settings of its run.")
        if weights[key] != own[key]:
            theirs, ours = tuple(weights[key]), tuple(own[key])
            raise InputError(
                f"{name} has another shape: '{key}' is {theirs}, the model's is {ours}; use the "
                "settings that the checkpoint was made with."
            )


def load_weights(model: torch.nn.Module, weights: dict[str, torch.Tensor], name: str) -> None:
    """Put `weights` into `model`; errors as in `check_shapes`."""
    check_shapes(shapes(model.state_dict()), shapes(weights), name)
    model.load_state_dict(weights)
