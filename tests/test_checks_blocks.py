"""Checkers of notebook 04 name the true mistake, and accept right answers of any style."""

import math

import pytest
import torch
import torch.nn.functional as F

from bertlib.checks.blocks import (
    check_count,
    check_dropout,
    check_gelu,
    check_layer_norm,
)


def norm(x, gain, shift, eps, dim=-1, correction=0, outside=0.0):
    spread = (x.var(dim, correction=correction, keepdim=True) + eps).sqrt() + outside
    return (x - x.mean(dim, keepdim=True)) / spread * gain + shift


def dropout(x, p, training, seed=None):
    if not training:
        return x
    if seed is not None:
        torch.manual_seed(seed)
    return x * (torch.rand_like(x) >= p) / (1 - p)


def kept(x, p):
    return x * (torch.rand_like(x) >= p)


def count(d, f, bias):
    return 4 * d * d + 2 * d * f + 2 * d + bias * (5 * d + f + 2 * d)


WRONG = [
    (check_layer_norm, lambda x, g, s, e: x, "nothing was done"),
    (check_layer_norm, lambda x, g, s, e: None, "end with return"),
    (check_layer_norm, lambda x, g, s, e: norm(x, g, s, e, correction=1), "unbiased"),
    (check_layer_norm, lambda x, g, s, e: norm(x, g, s, 0, outside=e), "outside the root"),
    (check_layer_norm, lambda x, g, s, e: norm(x, g, s, 0), "eps was forgotten"),
    (check_layer_norm, lambda x, g, s, e: norm(x, g, s, e, dim=1), "over the tokens"),
    (check_layer_norm, lambda x, g, s, e: norm(x, g, s, e, dim=0), "over the batch"),
    (check_layer_norm, lambda x, g, s, e: norm(x, g, s, e, dim=(1, 2)), "share a mean"),
    (check_layer_norm, lambda x, g, s, e: norm(x, 1, s, e), "gain was forgotten"),
    (check_layer_norm, lambda x, g, s, e: norm(x, g, 0, e), "shift was forgotten"),
    (check_layer_norm, lambda x, g, s, e: norm(x, 1, 0, e), "gain was forgotten; and the shift"),
    (check_layer_norm, lambda x, g, s, e: norm(x, g, s, 0, correction=1, outside=e),
     "unbiased one (divided by D - 1); divide by D; and eps is added outside"),
    (check_layer_norm, lambda x, g, s, e: x / (x.var(-1, correction=0, keepdim=True) + e).sqrt()
     * g + s, "mean was not subtracted"),
    (check_layer_norm, lambda x, g, s, e: (x - x.mean(-1, keepdim=True))
     / (x.var(-1, correction=0, keepdim=True) + e) * g + s, "divide by its square root"),
    (check_layer_norm, lambda x, g, s, e: norm(x.sub_(1), g, s, e), "x itself"),
    (check_layer_norm, lambda x, g, s, e: x - x.mean(-1, keepdim=True),
     "nothing is divided by the root of the variance; and the gain was forgotten; and"),
    (check_layer_norm, lambda x, g, s, e: (x - x.mean(-1, keepdim=True)) * g + s,
     "nothing is divided by the root of the variance"),
    (check_layer_norm, lambda x, g, s, e: norm(x, g, s, 0.3), "but not for [1, 5, 7]"),
    (check_layer_norm, lambda x, g, s, e: F.layer_norm(x, (4,), g, s, e), "RuntimeError"),
    (check_gelu, lambda x: F.gelu(x, approximate="tanh"), "tanh"),
    (check_gelu, lambda x: F.gelu(x.clamp(-9, 9)), "right between -4 and 4"),
    (check_gelu, lambda x: F.gelu(x).half().long(), "whole numbers"),
    (check_gelu, lambda x: x * torch.sigmoid(1.702 * x), "sigmoid approximation"),
    (check_gelu, F.silu, "SiLU"),
    (check_gelu, F.relu, "ReLU"),
    (check_gelu, lambda x: x, "nothing was bent"),
    (check_gelu, lambda x: (1 + torch.erf(x / 2**0.5)) / 2, "multiply it by x"),
    (check_gelu, lambda x: x * torch.exp(-x * x / 2) / (2 * math.pi) ** 0.5, "density"),
    (check_gelu, lambda x: x * (1 + torch.erf(x)) / 2, "square root of 2"),
    (check_gelu, lambda x: x * torch.erf(x / 2**0.5) / 2, "add 1"),
    (check_gelu, lambda x: x * (1 + torch.erf(x / 2**0.5)), "halve"),
    (check_gelu, lambda x: x * (1 - torch.erf(x / 2**0.5)) / 2, "above"),
    (check_dropout, lambda x, p, training: x, "nothing was dropped"),
    (check_dropout, lambda x, p, training: None, "end with return"),
    (check_dropout, lambda x, p, training: kept(x, p) if training else x, "not scaled"),
    (check_dropout, lambda x, p, training: kept(x, p) * (1 - p) if training else x,
     "multiplied by 1 - p; divide"),
    (check_dropout, lambda x, p, training: kept(x, p) / p if training else x, "divided by p"),
    (check_dropout, lambda x, p, training: kept(x, p) / (1 - p), "drops in evaluation"),
    (check_dropout, lambda x, p, training: kept(x, p) if training else x * (1 - p), "2014"),
    (check_dropout, lambda x, p, training: kept(x, 1 - p) / p if training else x,
     "not the share that stays"),
    (check_dropout, lambda x, p, training: x * (torch.rand(x.shape[-1]) >= p) / (1 - p)
     if training else x, "its own luck"),
    (check_dropout, lambda x, p, training: x * (torch.rand(x.shape[1:]) >= p) / (1 - p)
     if training else x, "its own luck"),
    (check_dropout, lambda x, p, training: x * (torch.rand(*x.shape[:2], 1) >= p) / (1 - p)
     if training else x, "its own luck"),
    (check_dropout, lambda x, p, training: dropout(x, 0.2, training), "with p = 0 everything"),
    (check_dropout, F.dropout, "write it with torch.rand"),
    (check_dropout, lambda x, p, training: torch.nn.Dropout(p).train(training)(x),
     "write it with torch.rand"),
    (check_dropout, lambda x, p, training: dropout(x, p, training, seed=1), "new mask"),
    (check_dropout, lambda x, p, training: F.dropout(x, p, training, inplace=True), "x itself"),
    (check_count, lambda d, f, b: 0, "add up four matrices"),
    (check_count, lambda d, f, b: None, "end with return"),
    (check_count, lambda d, f, b: 12 * d * d, "rule of thumb"),
    (check_count, lambda d, f, b: 4 * d * d + 2 * d * f, "biases and norms"),
    (check_count, lambda d, f, b: count(d, f, b) - d * d - b * d, "output projection"),
    (check_count, lambda d, f, b: count(d, f, b) - 2 * d * (1 + b), "norms were forgotten"),
    (check_count, lambda d, f, b: count(d, f, b) - b * (5 * d + f), "biases of the linear"),
    (check_count, lambda d, f, b: count(d, f, b) - d * (1 + b), "two norms"),
    (check_count, lambda d, f, b: count(d, f, b) - d * f, "two matrices"),
    (check_count, lambda d, f, b: count(d, 4 * d, b), "d_ff is given"),
    (check_count, lambda d, f, b: count(d, f, True), "not heeded"),
    (check_count, lambda d, f, b: count(d, f, b) - (0 if b else 2 * d), "still have their gains"),
    (check_count, lambda d, f, b: count(d, f, b) + (0 if b else 2 * d), "no shift"),
    (check_count, lambda d, f, b: count(d, f, b) + b * (f - d), "narrowing"),
]

RIGHT = [
    (check_layer_norm, lambda x, g, s, e: F.layer_norm(x, x.shape[-1:], g, s, e)),
    (check_layer_norm, lambda x, g, s, e: s + g * (x - x.mean(-1, keepdim=True))
     * (x.square().mean(-1, keepdim=True) - x.mean(-1, keepdim=True).square() + e).rsqrt()),
    (check_gelu, F.gelu),
    (check_gelu, lambda x: x * torch.distributions.Normal(0, 1).cdf(x)),
    (check_gelu, lambda x: torch.tensor([v * (1 + math.erf(v / 2**0.5)) / 2 for v in x.tolist()])),
    (check_gelu, lambda x: torch.special.ndtr(x.double()) * x.double()),
    (check_dropout, dropout),
    (check_dropout, lambda x, p, training: x.masked_fill(torch.rand(x.shape) < p, 0) / (1 - p)
     if training else x),
    (check_dropout, lambda x, p, training: x.clone() if not training
     else torch.where(torch.rand(x.shape) < p, torch.zeros_like(x), x / (1 - p))),
    (check_dropout, lambda x, p, training: x * torch.bernoulli(torch.full_like(x, 1 - p)) / (1 - p)
     if training else x),
    (check_count, count),
    (check_count, lambda d, f, b: sum((d * d + b * d) * 4 for _ in "x") + (d * f + b * f)
     + (f * d + b * d) + 2 * (d + b * d)),
]


@pytest.mark.parametrize(("check", "answer", "words"), WRONG)
def test_a_wrong_answer_is_told_its_mistake(check, answer, words, diagnosed):
    diagnosed(check, answer, words)


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass_however_they_are_written(check, answer):
    assert check(answer) == "right"


def test_checking_dropout_leaves_the_random_state_of_the_learner_alone():
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    assert check_dropout(lambda x, p, training: x.clone() if not training
                         else x * (torch.rand_like(x) >= p) / (1 - p)) == "right"
    assert torch.equal(torch.rand(3), wanted)
