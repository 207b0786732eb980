"""Checkers of the exercises: `check_x(answer)` says "right", or "not yet: " and what is wrong.

A checker runs the answer on small inputs and compares what comes back with the right value and
with what known mistakes return, so that it can name the mistake. The exercises of each lesson:

    00 start   01 tokens   02 masking   03 attention   04 blocks
    05 bert    06 trainer  07 pretrain  08 predict     11 distill, taught
    12 efficiency

What a lesson builds, in the names and shapes of this package, so that it can hold its weights:

    01 wordpiece   02 masker   03 heads   04 layers   05 model, whole   06 rates, loop, saving

`calling` runs an answer, `modules` builds a class; `draws` judges chance, `adamw` and `museum` are
for lesson 06.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from itertools import product
from typing import Any

import torch
from torch import Tensor

from bertlib.checks.calling import Answer, NotYet, asked, guarded, told


def checker(check: Callable[[Answer], None], guard: bool = True) -> Callable[[Answer], str]:
    """Turn a function that raises `NotYet` into a checker that says so in words.

    `guard=False`: the answer may return nothing and change what it is given.
    """
    @wraps(check)
    def say(answer: Answer) -> str:
        if not callable(answer):
            return (f"not yet: this is {type(answer).__name__}, not a function; hand over the "
                    "function itself, without brackets")
        try:
            check(guarded(answer) if guard else asked(answer))
        except NotYet as reason:
            return f"not yet: {reason}"
        except Exception as error:  # a kind of value that no checker thought of
            return f"not yet: what it returns cannot be judged: {told(error)}"
        return "right"
    return say


def number(value: Any) -> Any:
    """A tensor or an array of one number as that number; all else as it is."""
    with suppress(AttributeError, RuntimeError, ValueError):
        return value.item()
    return value


def same(one: Any, other: Any, tolerance: float = 1e-4) -> bool:
    """Equal, numbers and tensors within `tolerance`; tensors must have one shape; nan is nan."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(
            same(a, b, tolerance) for a, b in zip(one, other, strict=True))
    try:
        one, other = (torch.as_tensor(value, dtype=torch.float64) for value in (one, other))
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return type(one) is type(other) and one == other
    return one.shape == other.shape and one.device == other.device and torch.allclose(
        one, other, atol=tolerance, rtol=tolerance, equal_nan=True)


def expect(got: Any, right: Any, mistakes: dict[str, Any] | None = None,
           hint: str = "the values are others", tolerance: float = 1e-4) -> None:
    """Raise `NotYet` unless `got` is `right`.

    mistakes: what is wrong, in words -> the value that this mistake returns. If none of them fits
    and `got` is of another kind (type, shape, device, nan), that is said, else `hint`.
    """
    if isinstance(right, int | float) or isinstance(right, Tensor) and right.ndim == 0:
        got = number(got)
    if same(got, right, tolerance):
        return
    for words, value in (mistakes or {}).items():
        if same(got, value, tolerance):
            raise NotYet(words)
    raise NotYet(_kind(got, right, hint) or hint)


def _kind(got: Any, right: Any, hint: str) -> str:
    """What is wrong with `got` whatever its values are; "" if nothing is."""
    if isinstance(right, list | tuple | str):
        kinds = str if isinstance(right, str) else list | tuple
        asked_for = "a text" if isinstance(right, str) else "a list"
        return "" if isinstance(got, kinds) else (
            f"it returns {type(got).__name__}, not {asked_for}; {hint}")
    one = not isinstance(right, Tensor) or right.ndim == 0
    try:
        got, right = torch.as_tensor(got), torch.as_tensor(right)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return f"it returns {type(got).__name__}, not a {'number' if one else 'tensor'}"
    if got.shape != right.shape:
        asked_for = "one number is asked" if one else f"it should be {tuple(right.shape)}"
        return f"the shape is {tuple(got.shape)}, {asked_for}"
    if got.device != right.device:
        return f"it is on the device '{got.device}'; what it was given is on '{right.device}'"
    if not got.isfinite().all():
        return "it is infinite or not a number" if one else (
            "there are values that are infinite or not a number")
    if right.is_floating_point() and not one and not got.is_floating_point():
        return f"these are whole numbers ({got.dtype}); the values asked for have fractions"
    return ""


def mistakes(choices: dict[str, dict[Any, str]], make: Callable[[dict[str, Any]], Any],
             together: int, joint: str = " and ") -> dict[str, Any]:
    """What up to `together` mistakes return: their words -> the value, single ones first.

    choices: a part of the answer -> each way to write it -> what is wrong with that, or "".
    `make` returns the value for one way a part.
    """
    rows = []
    for values in product(*choices.values()):
        choice = dict(zip(choices, values, strict=True))
        faults = [words for part, value in choice.items() if (words := choices[part][value])]
        if 1 <= len(faults) <= together:
            rows.append((len(faults), joint.join(faults), make(choice)))
    return {words: value for _, words, value in sorted(rows, key=lambda row: row[0])}


def require(good: bool, words: str) -> None:
    """Raise `NotYet(words)` unless `good`."""
    if not good:
        raise NotYet(words)
