"""Checkers of notebook 03: scaled scores, the padding mask, heads, the whole, its entropy."""

import math
from typing import Any

import torch
from torch import Tensor

from bertlib.attention import padding_bias
from bertlib.checks import checker, expect, mistakes, require, same

MIXES = "heads are split by a reshape that mixes tokens; cut the features, then transpose"


def _draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _score_mistakes(q: Tensor, k: Tensor) -> dict[str, Tensor]:
    batch, n_head, length, width = q.shape
    plain, swapped = q @ k.transpose(-2, -1), k @ q.transpose(-2, -1)
    scaled = plain / math.sqrt(width)
    return {
        "the scores are not scaled; divide by the square root of D/H": plain,
        "divided by D/H, not by its square root": plain / width,
        "divided by the root of D; the width of *one* head counts, D/H":
            plain / math.sqrt(n_head * width),
        "divided by D; take the square root of D/H": plain / (n_head * width),
        "divided by the root of T; take the last axis of q, D/H": plain / math.sqrt(length),
        "divided by the root of H; take the last axis of q, D/H": plain / math.sqrt(n_head),
        "multiplied by the square root of D/H; divide": plain * math.sqrt(width),
        "the softmax is not asked for yet": scaled.softmax(-1),
        "rows and columns are exchanged: row = who asks; it is q @ k.transpose(-2, -1)":
            swapped / math.sqrt(width),
        "rows and columns are exchanged, and the scores are not scaled": swapped,
        "the queries are compared with themselves": q @ q.transpose(-2, -1) / math.sqrt(width),
        "the keys are compared with themselves": k @ k.transpose(-2, -1) / math.sqrt(width),
        "k was reshaped, not transposed: that mixes its tokens":
            q @ k.reshape(batch, n_head, width, length) / math.sqrt(width),
    }


@checker
def check_scores(answer):
    """answer(q, k), both [B, H, T, D/H] -> scaled scores [B, H, T, T]."""
    for width in (5, 7):
        q, k = _draw(0, 2, 3, 4, width), _draw(1, 2, 3, 4, width)
        got = answer(q, k)
        right = q @ k.transpose(-2, -1) / math.sqrt(width)
        fixed = f"right for heads of 5 features, wrong for {width}; read the width off q"
        hint = "q @ k.transpose(-2, -1), divided by the root of D/H"
        expect(got, right, _score_mistakes(q, k), hint if width == 5 else fixed)


def _mask_mistakes(scores: Tensor, mask: Tensor) -> dict[str, Tensor]:
    keys, queries = mask[:, None, None, :], mask[:, None, :, None]
    masked, plain = torch.where(keys, scores, -math.inf), scores.softmax(-1)
    rows = "queries were struck out, not keys: take attention_mask[:, None, None, :]"
    return {
        "the mask was not used: padding still has weight": plain,
        "the mask was applied after the softmax: rows no longer sum to 1": plain * keys,
        "-inf was put in after the softmax; it belongs into the scores":
            torch.where(keys, plain, -math.inf),
        "scores of padding were set to 0; e^0 is 1, take -inf":
            torch.where(keys, scores, 0.0).softmax(-1),
        "True and False were added as 1 and 0; add 0 and -inf": (scores + keys).softmax(-1),
        "the mask is upside down: True is a real token, False is padding":
            torch.where(keys, -math.inf, scores).softmax(-1),
        rows: torch.where(queries, scores, -math.inf).softmax(-1),
        rows + " (and -inf)": torch.where(queries, scores, -1e9).softmax(-1),
        "queries were struck out, not keys, and after the softmax": plain * queries,
        "keys *and* queries were struck out: a row with nobody left to read becomes nan":
            torch.where(keys & queries, scores, -math.inf).softmax(-1),
        "keys *and* queries were struck out: strike out keys only":
            torch.where(keys & queries, scores, -1e9).softmax(-1),
        "softmax over the queries (dim -2); each row is a budget: dim -1": masked.softmax(-2),
        "softmax over the queries (dim -2), and the mask was not used": scores.softmax(-2),
        "softmax over the queries (dim -2), mask applied after it": scores.softmax(-2) * keys,
        "softmax over the heads (dim 1); take dim -1": masked.softmax(1),
        "these are the masked scores; the softmax is missing": masked,
        "that is the logarithm of the weights": masked.log_softmax(-1),
    }


@checker
def check_masked_weights(answer):
    """answer(scores [B, H, T, T], attention_mask [B, T] bool) -> weights [B, H, T, T]."""
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]]).bool()
    scores = _draw(2, 2, 3, 4, 4) + 6 * ~mask[:, None, None, :]  # padding is tempting
    got = answer(scores, mask)
    right = scores.masked_fill(~mask[:, None, None, :], -math.inf).softmax(-1)
    hint = "mask the scores at the keys with -inf, then take the softmax over dim -1"
    if isinstance(got, Tensor) and got.shape == right.shape and got.isfinite().all():
        most = float((got * ~mask[:, None, None, :]).max())
        if 1e-6 < most < 1:
            hint = f"padding still gets a weight of up to {most:.2g}; add -inf to its scores"
    expect(got, right, _mask_mistakes(scores, mask), hint)
    scores, mask = _draw(6, 3, 2, 5, 5), torch.arange(5) < torch.tensor([[4], [5], [1]])
    expect(answer(scores, mask), scores.masked_fill(~mask[:, None, None], -math.inf).softmax(-1),
           _mask_mistakes(scores, mask), "right for [2, 3, 4, 4], but not for [3, 2, 5, 5]")


def _split(x: Tensor, n_head: int) -> Tensor:
    return x.unflatten(-1, (n_head, -1)).transpose(1, 2)


def _split_mistakes(x: Tensor, n_head: int) -> dict[str, Tensor]:
    batch, length, width = x.shape
    d, right = width // n_head, _split(x, n_head)
    return {
        MIXES: x.reshape(batch, n_head, length, d),
        "the transpose is missing: it is [B, T, H, D/H]": right.transpose(1, 2),
        "x was transposed before it was cut: that mixes tokens":
            x.transpose(1, 2).reshape(batch, n_head, length, d),
        "a head took every H-th feature; its D/H features stand side by side":
            x.reshape(batch, length, d, n_head).permute(0, 3, 1, 2),
        "the last two axes are exchanged: it is [B, H, D/H, T]": right.transpose(-2, -1),
        "H stands before B; the order is [B, H, T, D/H]": right.transpose(0, 1),
        "B and H are merged into one axis; keep both": right.flatten(0, 1),
        "n_head is how many heads there are, not how wide they are": _split(x, d),
        "nothing was cut: it returns x": x,
        "all heads got the same slice": right[:, :1].expand(-1, n_head, -1, -1),
    } | ({"n_head was not used: there are always 2 heads": _split(x, 2)} if n_head == 4 else {})


@checker
def check_split(answer):
    """answer(x [B, T, D], n_head) -> [B, H, T, D/H]."""
    for seed, shape in enumerate([(2, 5, 12, 4), (2, 4, 6, 2), (3, 7, 15, 5), (4, 1, 3, 1)]):
        x, n_head = _draw(seed, *shape[:3]), shape[3]
        got = answer(x, n_head)
        require(not isinstance(got, list | tuple) or not isinstance(got[0], Tensor),
                "it returns several tensors; stack them along dim 1")
        expect(got, _split(x, n_head), _split_mistakes(x, n_head),
               "first [B, T, H, D/H], then exchange T and H" if seed == 0 else
               f"right for 4 heads of 3 features, not for [B, T, D] = {shape[:3]}, H = {n_head}")


# What may go wrong in the whole: each part, its right choice first, then mistakes in words.
CHOICES: dict[str, dict[Any, str]] = {
    "split": {"right": "", "view": MIXES},
    "scale": {"root": "", "none": "the scores are not scaled",
              "full": "divided by D/H, not by its square root",
              "wide": "divided by the root of D, not of D/H"},
    "mask": {"before": "", "none": "the mask was not used",
             "after": "the mask was applied after the softmax"},
    "dim": {-1: "", -2: "softmax over the queries (dim -2)"},
    "merge": {"right": "", "view": "heads are merged by a reshape that mixes tokens; transpose "
                                   "back, then flatten"},
    "roles": {"qkv": "", "kqv": "queries and keys are exchanged",
              "qkk": "the keys were handed over; mix the values",
              "qkx": "x itself was handed over; mix the values"},
    "heads": {True: "", False: "there is one head only; n_head was not used"},
    "side": {True: "", False: "the matrices were used transposed; it is x @ w"},
}


def mix(parts: dict[str, Tensor], n_head: int, bias: Tensor, c: dict) -> Tensor:
    """Multi-head attention with one choice for each part of `CHOICES`, right or wrong.

    parts: "q", "k", "v" and "x", each [B, T, D]; bias broadcasts to [B, H, T, T].
    """
    batch, length, width = parts["x"].shape
    n_head = n_head if c["heads"] else 1
    shape = (batch, n_head, length, width // n_head)
    cut = [_split(parts[name], n_head) if c["split"] == "right" else parts[name].reshape(shape)
           for name in c["roles"]]
    scale = {"root": shape[-1]**0.5, "none": 1.0, "full": shape[-1], "wide": width**0.5}
    scores = cut[0] @ cut[1].transpose(-2, -1) / scale[c["scale"]]
    weights = (scores + bias if c["mask"] == "before" else scores).softmax(c["dim"])
    mixed = (weights * bias.exp() if c["mask"] == "after" else weights) @ cut[2]
    merged = mixed.transpose(1, 2).flatten(2)
    return mixed.reshape(parts["x"].shape) if c["merge"] == "view" else merged


def _whole(x: Tensor, matrices: dict[str, Tensor], n_head: int, mask: Tensor, c: dict) -> Tensor:
    """The same from x [B, T, D], matrices [D, D] and the mask [B, T] of padding."""
    parts = {name: x @ (w if c["side"] else w.T) for name, w in matrices.items()} | {"x": x}
    return mix(parts, n_head, padding_bias(mask), c)


@checker
@torch.no_grad()
def check_multi_head(answer):
    """answer(x [B, T, D], w_q, w_k, w_v [D, D], n_head, attention_mask [B, T]) -> [B, T, D]."""
    hint = "project, split, scores, mask, softmax, mix, transpose, flatten"
    for shape, n_head, lengths in (((2, 5, 6), 2, (5, 3)), ((3, 4, 12), 3, (4, 1, 3)),
                                   ((1, 7, 4), 1, (6,))):
        x, (w_q, w_k, w_v) = _draw(3, *shape), _draw(4, 3, shape[-1], shape[-1]).unbind(0)
        mask = torch.arange(shape[1]) < torch.tensor(lengths)[:, None]
        got = answer(x, w_q, w_k, w_v, n_head, mask)
        if isinstance(got, Tensor):
            require(got.shape != (2, 2, 5, 3), "the heads are not merged: transpose, then flatten")
            require(not same(got, x @ w_v), "nothing was mixed: every token keeps its own value")
        _judge_whole(got, (x, {"q": w_q, "k": w_k, "v": w_v}, n_head, mask), hint)
        hint = "right for 2 heads of 3 features, but not for others; read them off n_head and x"


def _judge_whole(got: Any, given: tuple[Tensor, dict[str, Tensor], int, Tensor], hint: str) -> None:
    """Compare with multi-head attention and its mistakes; what padding reads is nobody's business.

    given: x, the matrices by name, the number of heads and the mask.
    """
    mask = given[3]
    right = _whole(*given, {part: next(iter(choices)) for part, choices in CHOICES.items()})
    if not isinstance(got, Tensor) or got.shape != right.shape:
        expect(got, right)
        got = torch.as_tensor(got)
    wrong = mistakes(CHOICES, lambda choice: _whole(*given, choice), 2, "; and ")
    expect(got[mask], right[mask], {words: value[mask] for words, value in wrong.items()
                                    if not same(value[mask], right[mask])}, hint)
    require(bool(got.isfinite().all()), "rows of padding are not a number: strike out keys, not "
            "queries")


@checker
def check_entropy(answer):
    """answer(weights [B, H, T, T]) -> the entropy of each row in nats, [B, H, T]."""
    weights = _draw(5, 2, 3, 4, 4).softmax(-1)
    weights[0, 0] = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25] * 4, [0, 0, 0.9, 0.1]])
    right = torch.special.entr(weights).sum(-1)
    mistakes = {
        "0 * ln 0 is not a number; a weight of 0 must add 0": -(weights * weights.log()).sum(-1),
        "the logarithm has base 2; nats need the natural one": right / math.log(2),
        "the sign is turned around": -right,
        "that is the mean over the keys; take the sum": right / 4,
        "that is a share of the most, ln T; return nats": right / math.log(4),
        "that is e to the entropy": right.exp(),
        "the sum runs over the queries (dim -2); a row is one distribution: dim -1":
            torch.special.entr(weights).sum(-2),
        "you added up all queries; each row has its own entropy":
            torch.special.entr(weights).sum((-2, -1)),
        "all rows were averaged; each has its own entropy": right.mean(),
        "the sum is missing: one number for each row": torch.special.entr(weights),
        "each logarithm counts by its weight: w ln w": -weights.log().sum(-1),
    }
    expect(answer(weights), right, mistakes, "minus the sum over the last axis of w ln w")
    weights = _draw(6, 1, 3, 7, 7).mul(9).softmax(-1)
    expect(answer(weights), torch.special.entr(weights).sum(-1),
           hint="right for [2, 3, 4, 4], but not for [1, 3, 7, 7]")
