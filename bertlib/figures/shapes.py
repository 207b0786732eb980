"""The shape ledger: one forward pass, step by step, with the shape of what each step returns.

    print(ledger(model, ids))

Letters as in `bertlib`: B T D H V K. Steps inside attention that no module owns (the table of
scores) are caught as PyTorch's functions are called.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

QUIET = (nn.Dropout, nn.Identity, nn.ModuleList)  # they change no shape
TABLES = ("scores", "weights")  # who reads from whom
LAST = {"up": "d_ff", "decoder": "V", "head": "V"}  # letters of last axes, by the step's name
STATES = ("embedding", "embeddings", "token", "token_type", "position", "query", "key", "value",
          "attention", "output", "feed_forward", "down", "transform", "encoder")
SOFTMAX = (torch.softmax, Tensor.softmax, F.softmax)


class Step(NamedTuple):
    """One step of a forward pass: its name and the shape of what it returns."""

    name: str
    shape: tuple[int, ...]


def first_tensor(value: Any) -> Tensor | None:
    """The tensor in what a module returned: itself, or the first one in a tuple."""
    if isinstance(value, tuple):
        return next((found for part in value if (found := first_tensor(part)) is not None), None)
    return value if isinstance(value, Tensor) else None


class _Watch(TorchFunctionMode):
    """Notes the score tables of attention, under the name of the module that runs."""

    def __init__(self, steps: list[Step]):
        super().__init__()
        self.steps, self.inside = steps, [""]

    def note(self, name: str, shape) -> None:
        self.steps.append(Step(name.strip("."), tuple(shape)))

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function is F.scaled_dot_product_attention:  # the kernel never writes the table down
            self.note(f"{self.inside[-1]}.scores", (*args[0].shape[:-1], args[1].shape[-2]))
        elif function in SOFTMAX and result.ndim >= 3:
            self.note(f"{self.inside[-1]}.weights", result.shape)
        return result


@torch.no_grad()
def trace(model: nn.Module, *inputs: Tensor, **named: Tensor) -> list[Step]:
    """Run `model` once on the inputs and list each step in the order in which it ends."""
    steps: list[Step] = []
    hooks: list[RemovableHandle] = []
    watch = _Watch(steps)
    for place, tensor in enumerate(inputs):
        watch.note(f"input {place}" if place else "input", tensor.shape)
    for name, tensor in named.items():
        if isinstance(tensor, Tensor):
            watch.note(name, tensor.shape)

    def begins(module, _args, name):
        watch.inside.append(name)

    def ends(module, _args, result, name):
        watch.inside.pop()
        tensor = first_tensor(result)
        if tensor is not None and not isinstance(module, QUIET):
            watch.note(name or type(module).__name__, tensor.shape)

    for name, module in model.named_modules():
        hooks.append(module.register_forward_pre_hook(
            lambda module, args, name=name: begins(module, args, name)))
        hooks.append(module.register_forward_hook(
            lambda module, args, result, name=name: ends(module, args, result, name)))
    try:
        with watch:
            model(*inputs, **named)
    finally:
        for hook in hooks:
            hook.remove()
    return steps


def sizes(model: nn.Module, steps: list[Step]) -> dict[str, int]:
    """What each letter stands for, as far as the model's config and its first input tell."""
    config, first = getattr(model, "config", None), steps[0].shape
    known = dict(zip("BT", first, strict=False))
    if config is not None:
        known |= {"D": config.d_model, "H": config.n_head, "D/H": config.d_model // config.n_head,
                  "d_ff": getattr(config, "d_ff", 0), "V": getattr(config, "vocab_size", 0)}
    return known


def last_letter(name: str, axes: int) -> str:
    """What the name of a step tells of its last axis: a letter, or nothing."""
    part = name.split(".")[-1]
    if part in TABLES or "mask" in part or "bias" in part:
        return "T"
    if part.split(" ")[0] == "input":
        return {3: "D", 4: "T"}.get(axes, "")  # states; what is added to scores
    if part in LAST:
        return LAST[part]
    return "D" if part in STATES or part.endswith("norm") else ""


def letters(shape: tuple[int, ...], known: dict[str, int], name: str = "",
            given: bool = False) -> str:
    """The shape in letters, a number where none fits: (2, 4, 16, 16) -> "B H T T".

    Where several letters have one size, the name of the step decides, else it is the number.
    `given`: the step is an input, not a result.
    """
    pair = shape == (known.get("B"), known.get("T"))
    told = last_letter(name, len(shape))
    if len(shape) == 1 or (pair and given):
        return " ".join("BT") if pair else "K"
    front = {2: "K", 3: "BT", 4: "BHT"}.get(len(shape), "")
    if not front:
        return ""
    *sizes_before, size = shape
    names = ("D", "V", "d_ff", "D/H", *(() if told in ("D", "V", "d_ff") else "T"))
    fitting = [told] if known.get(told) == size else [n for n in names if known.get(n) == size]
    last = fitting[0] if len(fitting) == 1 else str(size)
    if front == "K":
        return "B T" if pair and last == "T" else f"K {last}"
    spread = given and len(shape) == 4  # an axis of 1 is one for all
    return " ".join([letter if known.get(letter) == n and not (spread and n == 1) else str(n)
                     for letter, n in zip(front, sizes_before, strict=True)] + [last])


def told_letters(steps: list[Step], known: dict[str, int], given: int) -> list[str]:
    """The letters of each step, of which the first `given` are inputs.

    A module that hands on what its last part made has the letters of that part.
    """
    told: list[str] = []
    for place, (name, shape) in enumerate(steps):
        before = steps[place - 1] if place > given else Step("", ())
        whole = place == len(steps) - 1 or before.name.startswith(f"{name}.")
        if whole and shape == before.shape and before.name.split(".")[-1] not in TABLES:
            told.append(told[-1])
        else:
            told.append(letters(shape, known, name, place < given))
    return told


def repeats(name: str) -> bool:
    """Whether a step belongs to a block after the first, which does what the first did."""
    parts = name.split(".")
    return "blocks" in parts[:-1] and parts[parts.index("blocks") + 1] != "0"


def ledger(model: nn.Module, *inputs: Tensor, **named: Tensor) -> str:
    """The steps of one forward pass as a table: name, shape, letters; the first block in full."""
    steps = trace(model, *inputs, **named)
    known = sizes(model, steps)
    given = len(inputs) + sum(isinstance(value, Tensor) for value in named.values())
    lines = []
    for (name, shape), told in zip(steps, told_letters(steps, known, given), strict=True):
        inner = repeats(name)
        if inner and name.split(".")[-2] != "blocks":
            continue
        lines.append((name, str(shape), "as block 0" if inner else told))
    width = max(len(name) for name, _, _ in lines)
    wide = max(len(shape) for _, shape, _ in lines)
    return "\n".join(f"{name:{width}}  {shape:{wide}}  {told}".rstrip()
                     for name, shape, told in lines)
