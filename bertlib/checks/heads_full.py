"""Checkers of attention with all options of bertlib's: its weights, its biases, its heads."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bertlib.attention import MultiHeadAttention, distance_bias, explicit_attention, padding_bias
from bertlib.bert import BertConfig
from bertlib.checks import checker, expect, mistakes, require, same
from bertlib.checks.attention import CHOICES, mix
from bertlib.checks.calling import Answer, ask, guarded
from bertlib.checks.modules import build, draw, right_one

RAGGED = torch.arange(5) < torch.tensor([[5], [3]])  # [B, T], two rows of 5 and 3 tokens


@checker
def check_explicit_attention(answer: Answer) -> None:
    """answer(q, k, v, bias=None) -> (mixed values [B, H, T, D/H], weights [B, H, T, T])."""
    q, k, v = draw(3, 2, 3, 5, 4).unbind(0)
    for bias in (None, padding_bias(RAGGED), draw(1, 3, 5, 5, seed=1)):
        got = answer(q, k, v) if bias is None else answer(q, k, v, bias)
        require(isinstance(got, tuple | list) and len(got) == 2, "return two tensors: the mixed "
                "values and the weights")
        mixed, weights = explicit_attention(q, k, v, bias)
        added = 0 if bias is None else bias
        told = "without a bias" if bias is None else "with a bias"
        require(not same(got[0], weights), "first the mixed values, then the weights")
        expect(got[1], weights, {
            "these are the scores; the softmax is missing": q @ k.mT / 2 + added,
            "the scores are not scaled; divide by the root of D/H": (q @ k.mT + added).softmax(-1),
            "divided by D/H, not by its root": (q @ k.mT / 4 + added).softmax(-1),
            "softmax over the queries (dim -2); each row is a budget: dim -1":
                (q @ k.mT / 2 + added).softmax(-2),
            "the bias is not used; add it to the scores": (q @ k.mT / 2).softmax(-1),
            "the bias is scaled, too; add it to the scaled scores":
                ((q @ k.mT + added) / 2).softmax(-1),
            "the bias is added after the softmax": (q @ k.mT / 2).softmax(-1) + added,
            "the bias is multiplied with the scores; add it": (q @ k.mT / 2 * added).softmax(-1),
            "rows and columns are exchanged": (k @ q.mT / 2 + added).softmax(-1),
        }, f"the weights {told} are others: softmax of q k^T / sqrt(D/H) + bias")
        expect(got[0], mixed, {"the keys are mixed, not the values": weights @ k,
                               "the weights are turned: weights @ v": weights.mT @ v},
               f"the weights {told} are right, the mixed values are not: weights @ v")


@checker
def check_padding_bias(answer: Answer) -> None:
    """answer(attention_mask [B, T] bool) -> [B, 1, 1, T]: 0 at tokens, -inf at padding."""
    for mask in (RAGGED, torch.tensor([[False, True, True]]), torch.ones(3, 4).bool()):
        right, got = padding_bias(mask), torch.as_tensor(answer(mask.clone()))
        require(got.dtype != torch.bool, "these are true and false; numbers are added to the "
                "scores: 0 and -inf")
        shapes = {"the axes are missing: [B, T] is no [B, 1, 1, T]": mask.shape,
                  "that is [B, T, 1] or [B, 1, T]; four axes are needed: [B, 1, 1, T]":
                      (len(mask), 1, mask.shape[1]),
                  "that strikes out queries; keys are the last axis: [B, 1, 1, T]":
                      right.mT.shape}
        for words, shape in shapes.items():
            require(right.shape == shape or got.shape != shape, words)
        low = got.double().exp()  # -1e9 will do as well as -inf
        ones = right.double().exp()
        require(got.shape != right.shape or not same(low, 1 - ones) or same(low, ones),
                "the mask is upside down: -inf belongs to padding, where it is False")
        expect(low, ones, {
            "these are 1 and 0; a score of 0 still gets weight, so take 0 and -inf": ones.exp(),
            "tokens should get 0, so that their scores stay as they are":
                ones * math.e,
        }, "0 where the mask is True, -inf where it is False")


def distance_mistakes(heads: tuple[tuple[float, int], ...], length: int) -> dict[str, Tensor]:
    """Mistake in words -> the table that it returns."""
    place, right = torch.arange(length), distance_bias(heads, length)
    distance = (place[None, :] - place[:, None]).float()  # [T, T], key minus query

    def table(make: Callable[[float, int], Tensor]) -> Tensor:
        return torch.stack([make(slope, offset) for slope, offset in heads])[None]

    return {
        "the first axis is missing: [1, H, T, T]": right[0],
        "the heads gain by distance; take it off: -slope": -right,
        "the heads look to the wrong side: |key - query - offset|, and a row is a query": right.mT,
        "the offset is not used": table(lambda slope, offset: -slope * distance.abs()),
        "a place to the left counts as near: take the absolute value":
            table(lambda slope, offset: -slope * (distance - offset)),
        "the slope multiplies the distance only; take off the offset first":
            table(lambda slope, offset: -(slope * distance - offset).abs()),
        "all heads have the slope and offset of the first": right[:, :1].expand_as(right),
    }


@checker
def check_distance_bias(answer: Answer) -> None:
    """answer(heads, length) -> [1, H, T, T]; a head (slope, offset) looks `offset` to the right.

    It loses `slope` for each token between the key and that place.
    """
    for heads, length in ((((2.0, 1), (0.5, -1), (0.25, 0)), 5), (((1.0, 2),), 4)):
        right = distance_bias(heads, length)
        expect(answer(heads, length), right, distance_mistakes(heads, length), f"for heads {heads} "
               f"and {length} tokens the first row should be {right[0, 0, 0].tolist()}")


NORMS = {"right": "", "none": "queries and keys are not normed: F.rms_norm over each head",
         "whole": "queries and keys are normed over all D features; norm each head by itself",
         "no gain": "the gain of the queries is forgotten: q times qk_gain",
         "keys too": "keys have no gain; only queries are multiplied by it"}
# What may go wrong in the class: what may in the whole, what it returns, and how it is normed.
PARTS = {name: CHOICES[name] for name in ("split", "scale", "dim", "merge", "roles")} | {
    "mask": {"before": "", "none": "the bias is not used; add it to the scores",
             "after": "the bias is used after the softmax; add it to the scores"},
    "output": {False: "", True: "the output projection is applied; that is left to the block"}}


def projected(module: Any, x: Tensor, norm: str) -> dict[str, Tensor]:
    """Queries, keys, values and x, each [B, T, D], normed as `norm` says."""
    q, k, v = (part(x) for part in (module.query, module.key, module.value))
    if module.qk_gain is not None and norm != "none":
        width = (-1,) if norm == "whole" else (module.n_head, -1)
        gain = module.qk_gain.detach().view(-1, 1)  # [H, 1]
        q, k = (F.rms_norm(part.unflatten(-1, width), (part.unflatten(-1, width).shape[-1],))
                for part in (q, k))
        q, k = (part.flatten(2).unflatten(-1, (module.n_head, -1)) for part in (q, k))
        q, k = q if norm == "no gain" else q * gain, k * gain if norm == "keys too" else k
        q, k = q.flatten(2), k.flatten(2)
    return {"q": q, "k": k, "v": v, "x": x}


@checker
@torch.no_grad()
def check_multi_head_attention(answer: Answer) -> None:
    """The class MultiHeadAttention(config): forward(x [B, T, D], bias=None) -> [B, T, D].

    Parts query, key, value, output (nn.Linear) and, with config.qk_norm, qk_gain [H, 1, 1]. The
    output projection is left to the block. config: d_model, n_head, bias, qk_norm,
    attention_dropout.
    """
    _judge_heads(answer, 2, qk_norm=False)
    _judge_heads(answer, 3, qk_norm=True)


def _judge_heads(answer: Answer, heads: int, qk_norm: bool) -> None:
    """With this number of heads, with and without a bias, in evaluation and in training."""
    config = BertConfig.preset("tiny", d_model=12, n_head=heads, bias=not qk_norm,
                               qk_norm=qk_norm, attention_dropout=0.5)
    right: Any = right_one(MultiHeadAttention, config)
    mine, x = build(answer, config, right), draw(2, 5, 12)
    call, near = guarded(mine), distance_bias(((0.5, 1),) * heads, 5)
    norms = NORMS if qk_norm else {"right": ""}

    def make(choice: dict, bias: Tensor) -> Tensor:
        got = mix(projected(right, x, choice["norm"]), heads, bias, choice | {"heads": True})
        return right.output(got) if choice["output"] else got

    for bias in ((padding_bias(RAGGED) + near,), ()):
        got = call(x, *bias)
        require(same(got, call(x, *bias)), "two calls differ in evaluation; dropout is for "
                "training: self.training")
        wrong = mistakes({"norm": norms, **PARTS}, partial(make, bias=(*bias, torch.zeros(1))[0]),
                         2, "; and ")
        expect(got, right(x, *bias), wrong, f"the values {'with' if qk_norm else 'without'} "
               f"qk_norm and with{'' if bias else 'out'} a bias are others")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        one, other = (ask(mine.train(), x) for _ in range(2))
    require(not same(one, other), "attention_dropout is not used in training")
