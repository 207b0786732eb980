"""Checkers of notebook 04: LayerNorm, GELU, dropout, the pre-norm block, its parameters."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bertlib.bert import BertConfig
from bertlib.blocks import Block
from bertlib.checks import checker, expect, mistakes, require, same
from bertlib.checks.calling import watched

# What may go wrong in a LayerNorm: each part, its right choice first, then mistakes in words.
NORM_CHOICES: dict[str, dict[Any, str]] = {
    "axis": {-1: "", 1: "it was normalised over the tokens, not over the features of each one",
             0: "it was normalised over the batch, not over the features of each token",
             (1, 2): "all tokens of a sentence share a mean; each token has its own"},
    "centred": {True: "", False: "the mean was not subtracted"},
    "correction": {0: "", 1: "the variance is the unbiased one (divided by D - 1); divide by D"},
    "eps": {"inside": "", "outside": "eps is added outside the root; it belongs inside",
            "none": "eps was forgotten", "both": "eps was added twice"},
    "root": {0.5: "", 1.0: "you divide by the variance; divide by its square root",
             0.0: "the mean comes off, but nothing is divided by the root of the variance"},
    "gain": {True: "", False: "the gain was forgotten"},
    "shift": {True: "", False: "the shift was forgotten"},
}


def _norm(x: Tensor, gain: Tensor, shift: Tensor, eps: float, choice: dict) -> Tensor:
    """LayerNorm with one choice for each part, right or wrong."""
    variance = x.var(choice["axis"], correction=choice["correction"], keepdim=True)
    centre = x.mean(choice["axis"], keepdim=True) if choice["centred"] else 0.0
    inside = eps if choice["eps"] in ("inside", "both") else 0.0
    outside = eps if choice["eps"] in ("outside", "both") else 0.0
    out = (x - centre) / ((variance + inside) ** choice["root"] + outside)
    return out * (gain if choice["gain"] else 1.0) + (shift if choice["shift"] else 0.0)


@checker
def check_layer_norm(answer):
    """answer(x [B, T, D], gain [D], shift [D], eps) -> [B, T, D]."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 4, generator=draw)
    gain, shift = torch.tensor([0.5, 1.5, -1.0, 2.0]), torch.tensor([0.3, -0.2, 0.1, 0.7])
    eps = 0.3  # large, so that one sees where it stands
    right = F.layer_norm(x, (4,), gain, shift, eps)
    got = answer(x, gain, shift, eps)
    wrong = mistakes(NORM_CHOICES, lambda choice: _norm(x, gain, shift, eps, choice), 3,
                     "; and ")
    expect(got, right, wrong | {"nothing was done to x": x},
           "over the last axis: subtract the mean, divide by the root of (variance + eps), times "
           "gain, plus shift")
    wide = 5 + torch.randn(1, 5, 7, generator=draw)
    gain, shift = torch.randn(2, 7, generator=draw)
    expect(answer(wide, gain, shift, 1e-5), F.layer_norm(wide, (7,), gain, shift, 1e-5),
           hint="right for [2, 3, 4] and eps 0.3, but not for [1, 5, 7] and eps 0.00001")


@checker
def check_gelu(answer):
    """answer(x [..]) -> x times the share of the normal distribution below x."""
    x = torch.linspace(-4, 4, 17)
    below = 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    density = torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    mistakes = {
        "that is the tanh approximation; close, but the exact one uses erf":
            F.gelu(x, approximate="tanh"),
        "that is the sigmoid approximation; use erf": x * torch.sigmoid(1.702 * x),
        "that is SiLU, x times a sigmoid; the gate here is the normal distribution": F.silu(x),
        "that is ReLU": F.relu(x),
        "nothing was bent: it returns x": x,
        "that is the share below x alone; multiply it by x": below,
        "you multiplied by the density of the normal distribution; take the share below x":
            x * density,
        "inside erf, divide x by the square root of 2": 0.5 * x * (1 + torch.erf(x)),
        "add 1 to erf before halving: a share lies between 0 and 1":
            0.5 * x * torch.erf(x / math.sqrt(2)),
        "halve it: 1 + erf runs from 0 to 2": 2 * x * below,
        "that is x times the share *above* x": x * (1 - below),
    }
    expect(answer(x.clone()), x * below, mistakes, "x * (1 + erf(x / sqrt 2)) / 2", tolerance=1e-5)
    expect(answer(torch.tensor([-40.0, 0.0, 40.0])), torch.tensor([0.0, 0.0, 40.0]),
           hint="right between -4 and 4, but -40, 0 and 40 should become 0, 0 and 40")


def _dropout_calls(answer, x: Tensor, p: float) -> list[Tensor]:
    """Two training calls, an evaluation, one with p = 0; the random state is put back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        calls = [answer(x, p, True), answer(x, p, True), answer(x, p, False), answer(x, 0.0, True)]
    for got in calls:
        require(isinstance(got, Tensor), f"it returns {type(got).__name__}, not a tensor")
        require(got.shape == x.shape, f"the shape is {tuple(got.shape)}, not {tuple(x.shape)}")
    return calls


@checker
def check_dropout(answer):
    """answer(x, p, training) -> x with a share p set to 0 and the rest scaled, if training."""
    answer, called = watched(answer)
    p, x = 0.2, torch.linspace(1, 2, 40_000).view(20, 40, 50)  # [B, T, D]
    one, two, plain, whole = _dropout_calls(answer, x, p)
    require(bool((plain != 0).all()), "it drops in evaluation, too (training=False)")
    require(not same(plain, x * (1 - p)), "in evaluation you multiply by 1 - p: the way of 2014; "
            "here training divides by it, and evaluation leaves x alone")
    require(same(plain, x), "in evaluation (training=False) x must come back as it is")
    gone = one == 0
    share = float(gone.float().mean())
    require(share > 0, "nothing was dropped in training")
    require(abs(share - (1 - p)) > 0.05, f"{share:.0%} were dropped: p is the share that goes, "
            "not the share that stays")
    lines = [bool((gone.all(dim) | ~gone.any(dim)).all()) for dim in range(x.ndim)]
    require(not any(lines), "whole rows or columns are dropped together; each number has its own "
            "luck")
    require(abs(share - p) < 0.02, f"a share of {share:.2f} was dropped with p = {p}")
    require(not torch.equal(gone, two == 0), "each call must draw a new mask; this one repeats")
    ratio = (one / x)[~gone]
    for words, value in (("what stays was not scaled; divide it by 1 - p", 1.0),
                         ("you multiplied by 1 - p; divide by it, so that the mean stays", 1 - p),
                         ("you divided by p; divide by the share that stays, 1 - p", 1 / p)):
        require(not same(ratio, torch.full_like(ratio, value)), words)
    require(same(ratio, torch.full_like(ratio, 1 / (1 - p))), "what stays must be x / (1 - p)")
    require(float((whole != x).float().mean()) < 1e-3, "with p = 0 everything stays as it is")
    require(not any("dropout" in name for name in called), "the values are right, but a dropout of "
            "PyTorch makes them; write it with torch.rand")


COUNT_MISTAKES = {
    "12 D^2 is the rule of thumb; biases, norms and d_ff have their say":
        lambda d, f, b: 12 * d * d,
    "the matrices are right; biases and norms were forgotten":
        lambda d, f, b: 4 * d * d + 2 * d * f,
    "the norms were forgotten":
        lambda d, f, b: 4 * d * d + 2 * d * f + b * (5 * d + f),
    "the biases of the linear layers were forgotten":
        lambda d, f, b: 4 * d * d + 2 * d * f + 2 * d * (1 + b),
    "a block has two norms": lambda d, f, b: 4 * d * d + 2 * d * f + b * (5 * d + f) + d * (1 + b),
    "the output projection of attention was forgotten":
        lambda d, f, b: 3 * d * d + 2 * d * f + b * (4 * d + f) + 2 * d * (1 + b),
    "d_ff is given; it is not always 4 * d_model":
        lambda d, f, b: 12 * d * d + b * 9 * d + 2 * d * (1 + b),
    "bias=False was not heeded": lambda d, f, b: 4 * d * d + 2 * d * f + 9 * d + f,
    "without biases the norms have no shift either":
        lambda d, f, b: 4 * d * d + 2 * d * f + b * (5 * d + f) + 4 * d,
    "without biases the norms still have their gains":
        lambda d, f, b: 4 * d * d + 2 * d * f + b * (9 * d + f),
    "the feed-forward layer has two matrices":
        lambda d, f, b: 4 * d * d + d * f + b * (5 * d + f) + 2 * d * (1 + b),
    "the narrowing layer has a bias of d_model numbers, the widening one of d_ff":
        lambda d, f, b: 4 * d * d + 2 * d * f + b * (4 * d + 2 * f) + 2 * d * (1 + b),
}


@checker
def check_count(answer):
    """answer(d_model, d_ff, bias) -> how many numbers a block learns."""
    shapes = [(6, 20, True), (8, 40, False), (10, 40, True)]
    got, right = [answer(*shape) for shape in shapes], []
    for d_model, d_ff, bias in shapes:
        block = Block(BertConfig(d_model=d_model, n_head=2, d_ff=d_ff, bias=bias))
        right.append(sum(p.numel() for p in block.parameters()))
    mistakes = {words: [count(d, f, int(b)) for d, f, b in shapes]
                for words, count in COUNT_MISTAKES.items()}
    expect(got, right, mistakes, f"for d_model=6, d_ff=20 with biases it returns {got[0]}; "
           "add up four matrices, two matrices, their biases, two norms", tolerance=1e-6)
