"""Checkers of the exercises: `check_x(answer)` says "right", or "not yet: " and what is wrong.

One module a lesson. A checker runs the answer on small inputs and compares what comes back with
the right value and with what known mistakes return, so that it can name the mistake.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

Answer = Callable[..., Any]


class NotYet(Exception):
    """An answer is not right yet; the message says why."""


def checker(check: Callable[[Answer], None], guard: bool = True) -> Callable[[Answer], str]:
    """Turn a function that raises `NotYet` into a checker that says so in words.

    `guard=False`: the answer may return nothing and change what it is given.
    """
    @wraps(check)
    def say(answer: Answer) -> str:
        try:
            check(guarded(answer) if guard else answer)
        except NotYet as reason:
            return f"not yet: {reason}"
        except Exception as error:  # whatever the answer may do
            return f"not yet: it stops with {type(error).__name__}: {str(error)[:120]}"
        return "right"
    return say


def guarded(answer: Answer) -> Answer:
    """The answer; called, it raises `NotYet` if it returns nothing or changes a tensor it is given.

    A class or a module is left as it is.
    """
    if not callable(answer) or isinstance(answer, type | nn.Module):
        return answer

    @wraps(answer)
    def call(*given: Any, **named: Any) -> Any:
        kept = [(value, value.clone()) for value in (*given, *named.values())
                if isinstance(value, Tensor)]
        got = answer(*given, **named)
        for value, before in kept:
            if not value.equal(before) and not value.allclose(before, equal_nan=True):
                raise NotYet(f"{_name(answer, given, named, value)} itself was changed; compute "
                             "new tensors")
        if got is None:
            raise NotYet("it returns nothing; end with return")
        return got
    return call


def _name(answer: Answer, given: tuple, named: dict[str, Any], value: Tensor) -> str:
    """What the answer calls that value."""
    bound = inspect.signature(answer).bind(*given, **named).arguments
    return next((name for name, one in bound.items() if one is value), "what it was given")


def same(one: Any, other: Any, tolerance: float = 1e-4) -> bool:
    """Equal, numbers and tensors within `tolerance`; tensors must have one shape."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(
            same(a, b, tolerance) for a, b in zip(one, other, strict=True))
    try:
        one, other = torch.as_tensor(one), torch.as_tensor(other)
    except (TypeError, ValueError, RuntimeError):
        return type(one) is type(other) and one == other
    return one.shape == other.shape and torch.allclose(
        one.double(), other.double(), atol=tolerance, rtol=tolerance)


def expect(got: Any, right: Any, mistakes: dict[str, Any] | None = None,
           hint: str = "the values are others", tolerance: float = 1e-4) -> None:
    """Raise `NotYet` unless `got` is `right`.

    mistakes: what is wrong, in words -> the value that this mistake returns. `hint` is said when
    none of them fits. The shape is named where it differs.
    """
    if same(got, right, tolerance):
        return
    for words, value in (mistakes or {}).items():
        if same(got, value, tolerance):
            raise NotYet(words)
    if isinstance(right, Tensor):
        if not isinstance(got, Tensor):
            raise NotYet(f"it returns {type(got).__name__}, not a tensor")
        if got.shape != right.shape:
            raise NotYet(f"the shape is {tuple(got.shape)}, it should be {tuple(right.shape)}")
        if got.is_floating_point() and not got.isfinite().all():
            raise NotYet("there are values that are infinite or not a number")
    raise NotYet(hint)


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
