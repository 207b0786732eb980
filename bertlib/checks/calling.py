"""How a checker calls an answer, so that whatever it does is told in a sentence."""

import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

Answer = Callable[..., Any]
MOST_LINES = 1_000_000  # that a call of an answer may run before it counts as endless


class NotYet(Exception):
    """An answer is not right yet; the message says why."""


def ask(answer: Answer, *given: Any, **named: Any) -> Any:
    """What the answer returns; raises `NotYet` with its own line if it stops, or does not end."""
    try:
        with _patience(_home(answer)):
            got = answer(*given, **named)
            return list(got) if isinstance(got, Iterator) else got
    except NotYet:
        raise
    except Exception as error:  # whatever the answer may do
        steps = traceback.extract_tb(error.__traceback__)
        own = [step for step in steps if step.filename == _home(answer)]
        where = f" (your line {own[-1].lineno}: {own[-1].line})" if own else ""
        raise NotYet(f"it stops with {told(error)}{where}") from error


def asked(answer: Answer) -> Answer:
    """The answer, called by `ask`; a class stays a class."""
    return answer if isinstance(answer, type) else lambda *a, **b: ask(answer, *a, **b)


def guarded(answer: Answer) -> Answer:
    """The answer; called, it raises `NotYet` if it returns nothing or changes what it is given.

    A class is left as it is.
    """
    if isinstance(answer, type):
        return answer

    def call(*given: Any, **named: Any) -> Any:
        kept = [(value, copied(value)) for value in (*given, *named.values())]
        got = ask(answer, *given, **named)
        for value, before in kept:
            if not alike(value, before):
                remedy = "compute new tensors" if isinstance(value, Tensor) else "work on a copy"
                raise NotYet(f"{_name(answer, given, named, value)} itself was changed; {remedy}")
        if got is None:
            raise NotYet("it returns nothing; end with return")
        return got
    return call


def method(thing: Any, name: str) -> Answer:
    """The method or part `name` of what an answer made; `NotYet` if there is none."""
    if not hasattr(thing, name):
        raise NotYet(f"the class {type(thing).__name__} has no '{name}'")
    return getattr(thing, name)


def told(error: Exception) -> str:
    """The name of an error and all that it says, in one line."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _home(answer: Answer) -> str:
    """The file, or the cell of a notebook, that an answer is written in; "" if nobody knows."""
    if not inspect.isroutine(answer):
        answer = next(filter(inspect.isfunction, vars(
            answer if isinstance(answer, type) else type(answer)).values()), answer)
    return getattr(getattr(inspect.unwrap(answer), "__code__", None), "co_filename", "")


@contextmanager
def _patience(home: str) -> Iterator[None]:
    """`NotYet` after `MOST_LINES` lines of the file `home`; not under a debugger."""
    lines = 0

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal lines
        if frame.f_code.co_filename != home:
            return None
        lines += event == "line"
        if lines > MOST_LINES:
            line = traceback.extract_stack(frame, 1)[0]
            raise NotYet(f"it does not end: it is still busy after {MOST_LINES:,} lines (your line "
                         f"{line.lineno}: {line.line})")
        return trace

    before = sys.gettrace()
    sys.settrace(before or trace)
    try:
        yield
    finally:
        sys.settrace(before)


def _name(answer: Answer, given: tuple, named: dict[str, Any], value: Any) -> str:
    """What the answer calls that value."""
    bound = inspect.signature(getattr(answer, "forward", answer)).bind(*given, **named).arguments
    return next((name for name, one in bound.items() if one is value), "what it was given")


def copied(value: Any) -> Any:
    """A copy that shares no tensor, array, list, dictionary, set or dataclass with `value`."""
    if isinstance(value, dict):
        return {key: copied(part) for key, part in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **copied(_parts(value)))
    if isinstance(value, list | tuple | set):
        parts = map(copied, value)
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, Tensor):
        return value.detach().clone()
    return value.copy() if isinstance(value, np.ndarray) else value


def _parts(value: Any) -> dict[str, Any]:
    """The fields of a dataclass by name."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def alike(one: Any, other: Any) -> bool:
    """Equal to the last bit, through lists and dictionaries; nan equals nan."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if is_dataclass(one) and type(one) is type(other):
        return alike(_parts(one), _parts(other))
    if isinstance(one, Tensor | np.ndarray):
        one, other = torch.as_tensor(one), torch.as_tensor(other)
        return one.shape == other.shape and bool(
            ((one == other) | one.isnan() & other.isnan()).all())
    return one is other or one == other


class Calls(TorchFunctionMode):
    """While it is entered, `names` collects which functions of PyTorch are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.names.add(getattr(func, "__name__", ""))
        return func(*args, **kwargs or {})


def watched(answer: Answer) -> tuple[Answer, set[str]]:
    """The answer, and the set that takes the names of PyTorch's functions that it calls."""
    calls = Calls()

    def call(*given: Any, **named: Any) -> Any:
        with calls:
            return answer(*given, **named)
    return call, calls.names
