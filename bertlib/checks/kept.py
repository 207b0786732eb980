"""Checker of notebook 10: attention of one new token, with the keys and values that were kept."""

import math
from typing import Any

import torch
from torch import Tensor

from bertlib.checks import checker, mistakes, require, same
from bertlib.checks.calling import Answer, NotYet

# What may go wrong when a token reads: each part, its right choice first, then mistakes in words.
CHOICES: dict[str, dict[Any, str]] = {
    "reads": {"all": "", "itself": "the new token reads itself alone; it reads all that was kept, "
              "too", "before": "the new token does not read itself; join its key and value first"},
    "scale": {"root": "", "none": "the scores are not divided by the root of D",
              "width": "the scores are divided by D; by its root",
              "keys": "the scores are divided by the root of the number of keys; by that of D"},
    "softmax": {True: "", False: "there is no softmax over the scores"},
    "asks": {"query": "", "x": "the token itself asks; make its query first: x @ w_q"},
}


def _read(query: Tensor, keys: Tensor, values: Tensor, scale: str, softmax: bool) -> Tensor:
    width, count = len(query), max(1, len(keys))
    by = {"root": math.sqrt(width), "none": 1.0, "width": width, "keys": math.sqrt(count)}[scale]
    scores = query @ keys.T / by  # [P + 1]
    return (scores.softmax(-1) if softmax else scores) @ values  # [D]


def _mixed(x: Tensor, matrices: Tensor, choice: dict[str, Any]) -> Tensor:
    """What each token [T, D] mixes with one choice for each part, right or wrong: [T, D]."""
    queries, keys, values = x @ matrices  # [T, D] each
    asking = queries if choice["asks"] == "query" else x
    rows = []
    for t in range(len(x)):
        first, end = {"all": (0, t + 1), "itself": (t, t + 1), "before": (0, t)}[choice["reads"]]
        rows.append(_read(asking[t], keys[first:end], values[first:end], choice["scale"],
                          choice["softmax"]))
    return torch.stack(rows)


def _walk(answer: Answer, x: Tensor, matrices: Tensor) -> tuple[Tensor, Any]:
    """Hand the tokens over one by one: what each mixed [T, D], and what is kept at the end."""
    kept, rows = (x[:0], x[:0]), []
    for number, token in enumerate(x):
        got = answer(token, *matrices, kept)
        require(isinstance(got, list | tuple) and len(got) == 2, "return two things: what the "
                "token mixes, and what is kept now, (keys, values)")
        mixed, kept = got
        require(isinstance(kept, list | tuple) and len(kept) == 2 and all(
            isinstance(part, Tensor) for part in kept), "what is kept must be (keys, values), two "
            "tensors")
        _require_one_more(kept, number, x)
        require(isinstance(mixed, Tensor) and mixed.shape == token.shape, "what the token mixes "
                f"must be [D] = {tuple(token.shape)}, not {tuple(getattr(mixed, 'shape', ()))}")
        rows.append(mixed)
    return torch.stack(rows), kept


def _require_one_more(kept: Any, number: int, x: Tensor) -> None:
    """`NotYet` unless keys and values are those of one token more than before."""
    for name, part in zip(("keys", "values"), kept, strict=True):
        if part.shape == (number + 1, x.shape[1]):
            continue
        if len(part) == number:
            raise NotYet(f"after token {number + 1} there are {number} {name}: those of the new "
                         "token were not kept for the next")
        raise NotYet(f"after token {number + 1} the {name} are {tuple(part.shape)}, they should be "
                     f"[P + 1, D] = {(number + 1, x.shape[1])}")


@checker
def check_kept(answer):
    """answer(x [D], w_q, w_k, w_v [D, D], (keys, values) [P, D]) -> mixed [D], (keys, values)."""
    right_choice = {part: next(iter(ways)) for part, ways in CHOICES.items()}
    for seed, length, width in ((0, 5, 4), (1, 3, 6)):
        draw = torch.Generator().manual_seed(seed)
        x = torch.randn(length, width, generator=draw)
        matrices = torch.randn(3, width, width, generator=draw)
        mixed, kept = _walk(answer, x, matrices)
        wrong = mistakes(CHOICES, lambda choice, x=x, m=matrices: _mixed(x, m, choice), 2)
        right = _mixed(x, matrices, right_choice)
        if not same(mixed, right):
            raise NotYet(next((words for words, rows in wrong.items() if same(mixed, rows)),
                              "what the tokens mix differs from causal attention over all of them"))
        _judge_kept(kept, x, x @ matrices)


def _judge_kept(kept: Any, x: Tensor, made: Tensor) -> None:
    """`NotYet` unless the keys and values of all tokens are kept, in their order."""
    queries, keys, values = made
    for words, pair in {
        "the result is right, but you keep the tokens and make their keys and values anew each "
        "time: keep the keys and values": (x, x),
        "the result is right, but the new key stands in front; put it at the end": (
            keys.flip(0), values.flip(0)),
        "keys and values are kept the wrong way round": (values, keys),
        "you keep queries; nobody asks for them again": (queries, values),
    }.items():
        require(not same(list(kept), list(pair)), words)
    require(same(list(kept), [keys, values]), "the result is right, but what is kept are not the "
            "keys x @ w_k and the values x @ w_v of all tokens")
