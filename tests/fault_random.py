"""Random values of all types, random texts, and random changes to what was sound."""

import random
from collections.abc import Callable
from typing import Any

import torch

NUMBERS = (0, 1, -1, 2, 7, 12, 100, 2**31, -(2**31), 2**63, 2**64, 10**30, -(10**18), 0.0, -0.0,
           0.5, -0.5, 1e-300, 1e300, float("inf"), float("-inf"), float("nan"))
WORDS = ("", " ", "x", "null", "nan", "True", "0", "-1", "1e9", "1_000", "٣", "../x", "/", "a\nb",
         "\0", "\x1b[2J", "<script>alert(1)</script>", "[MASK]", "[UNK]", "##s", "é", "e\u0301",
         "\ufeff", "\u2028", "\u202e", "中文", "😀", "\ud800", "x" * 300, "{0}",
         "%s", "'", '"', "\\")


def some_text(draw: random.Random, most: int = 40) -> str:
    """Words of the world, odd words and any characters at all, in any order."""
    parts = []
    for _ in range(int(2 ** draw.uniform(0, 5)) if draw.random() < 0.9 else most):
        kind = draw.random()
        if kind < 0.4:
            parts.append(draw.choice(("the", "sea", "of", "at", ".", "[MASK]", "[SEP]", "[CLS]")))
        elif kind < 0.7:
            parts.append(draw.choice(WORDS))
        else:
            top = draw.choice((0x7F, 0xFF, 0xFFFF, 0x10FFFF))
            parts.append("".join(chr(draw.randint(0, top)) for _ in range(draw.randint(1, 8))))
    return draw.choice(("", " ", " ", "\n")).join(parts)


def some_bytes(draw: random.Random) -> bytes:
    """Bytes of any kind, few or many."""
    return draw.randbytes(int(2 ** draw.uniform(0, 12)))


def some_value(draw: random.Random, depth: int = 2) -> Any:
    """A plain value of any type."""
    kind = draw.randrange(8 if depth else 5)
    if kind == 0:
        return draw.choice((None, True, False))
    if kind < 3:
        return draw.choice(NUMBERS)
    if kind < 5:
        return draw.choice(WORDS)
    few = range(draw.randint(0, 3))
    if kind == 5:
        return {draw.choice(WORDS): some_value(draw, depth - 1) for _ in few}
    return [some_value(draw, depth - 1) for _ in few]


def some_tensor(draw: random.Random) -> torch.Tensor:
    """A small tensor of any type and shape."""
    shape = [draw.choice((0, 1, 2, 16, 64)) for _ in range(draw.randint(0, 3))]
    kind = draw.choice((torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.uint8,
                        torch.bool, torch.complex64))
    return torch.zeros(shape, dtype=kind) if draw.random() < 0.5 else torch.full(
        shape, draw.choice((0, 1, float("nan"))) if kind.is_floating_point else 1, dtype=kind)


def mutated(draw: random.Random, values: Any, make: Callable[[random.Random], Any] = some_value
            ) -> Any:
    """Plain values with one to three of their parts changed; `values` are left alone."""
    for _ in range(draw.randint(1, 3)):
        values = _changed(draw, values, make)
    return values


def _changed(draw: random.Random, values: Any, make: Callable[[random.Random], Any]) -> Any:
    if not isinstance(values, dict | list) or not values or draw.random() < 0.1:
        return make(draw)
    copy = values.copy()
    keys = list(copy) if isinstance(copy, dict) else list(range(len(copy)))
    key = draw.choice(keys)
    chance = draw.random()
    if chance < 0.15:
        del copy[key]
    elif chance < 0.3 and isinstance(copy, dict):
        copy[draw.choice((*WORDS, key))] = make(draw)
    elif chance < 0.4:
        copy[key] = copy[draw.choice(keys)]
    else:
        copy[key] = _changed(draw, copy[key], make)
    return copy
