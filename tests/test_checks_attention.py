"""Checkers of notebook 03 name the true mistake, and accept right answers of any style."""

import math

import pytest
import torch
import torch.nn.functional as F

from bertlib.attention import explicit_attention, padding_bias
from bertlib.checks.attention import (
    check_entropy,
    check_masked_weights,
    check_multi_head,
    check_scores,
    check_split,
)

INF = math.inf


def scores(q, k, width=None):
    return q @ k.transpose(-2, -1) / math.sqrt(width or q.shape[-1])


def keys(m):
    return m[:, None, None, :]


def split(x, h):
    return x.view(*x.shape[:2], h, -1).transpose(1, 2)


def cut(x, h):
    return x.reshape(len(x), h, x.shape[1], -1)


def merge(x):
    return x.transpose(1, 2).flatten(2)


def whole(x, a, b, c, h, m, split=split, width=None, merge=merge, dim=-1, after=False):
    q, k, v = split(x @ a, h), split(x @ b, h), split(x @ c, h)
    table = scores(q, k, width) + (0 if after else padding_bias(m))
    weights = table.softmax(dim) * (keys(m) if after else 1)
    return merge(weights @ v)


def in_place(q, k):
    q /= math.sqrt(q.shape[-1])
    return q @ k.transpose(-2, -1)


def strange_rows(x, a, b, c, h, m):
    """Right for real tokens, not a number where padding reads."""
    return whole(x, a, b, c, h, m).masked_fill(~m[..., None], math.nan)


WRONG = [
    (check_scores, lambda q, k: None, "end with return"),
    (check_scores, lambda q, k: scores(q, k, 1), "not scaled; divide by the square root"),
    (check_scores, lambda q, k: scores(q, k, q.shape[-1] ** 2), "divided by D/H, not by its"),
    (check_scores, lambda q, k: scores(q, k, 3 * q.shape[-1]), "divided by the root of D;"),
    (check_scores, lambda q, k: scores(q, k, 9 * q.shape[-1] ** 2), "divided by D; take"),
    (check_scores, lambda q, k: scores(q, k, q.shape[-2]), "root of T"),
    (check_scores, lambda q, k: scores(q, k, q.shape[1]), "root of H"),
    (check_scores, lambda q, k: q @ k.mT * q.shape[-1] ** 0.5, "multiplied"),
    (check_scores, lambda q, k: scores(q, k).softmax(-1), "softmax is not asked"),
    (check_scores, lambda q, k: scores(k, q), "rows and columns are exchanged"),
    (check_scores, lambda q, k: k @ q.mT, "exchanged, and the scores are not scaled"),
    (check_scores, lambda q, k: scores(q, q), "queries are compared"),
    (check_scores, lambda q, k: scores(k, k), "keys are compared"),
    (check_scores, lambda q, k: scores(q, k.reshape(2, 3, -1, 4).mT), "k was reshaped"),
    (check_scores, lambda q, k: scores(q, k, 5), "wrong for 7"),
    (check_scores, lambda q, k: q.transpose(-2, -1) @ k, "the shape is (2, 3, 5, 5)"),
    (check_scores, in_place, "itself was changed"),
    (check_masked_weights, lambda s, m: s.softmax(-1), "not used"),
    (check_masked_weights, lambda s, m: s.softmax(-1) * keys(m), "after the softmax: rows"),
    (check_masked_weights, lambda s, m: s.softmax(-1).masked_fill(~keys(m), -INF),
     "-inf was put in after"),
    (check_masked_weights, lambda s, m: (s * keys(m)).softmax(-1), "set to 0"),
    (check_masked_weights, lambda s, m: (s + keys(m)).softmax(-1), "added as 1"),
    (check_masked_weights, lambda s, m: s.masked_fill(keys(m), -INF).softmax(-1), "upside down"),
    (check_masked_weights, lambda s, m: s.masked_fill(~m[:, None, :, None], -INF).softmax(-1),
     "queries were struck out, not keys"),
    (check_masked_weights, lambda s, m: s.masked_fill(~m[:, None, :, None], -1e9).softmax(-1),
     "queries were struck out, not keys"),
    (check_masked_weights, lambda s, m: s.softmax(-1) * m[:, None, :, None],
     "not keys, and after"),
    (check_masked_weights, lambda s, m: s.masked_fill(
        ~(keys(m) & m[:, None, :, None]), -INF).softmax(-1), "keys *and* queries"),
    (check_masked_weights, lambda s, m: (s + padding_bias(m)).softmax(-2), "(dim -2); each row"),
    (check_masked_weights, lambda s, m: s.softmax(-2), "(dim -2), and the mask was not used"),
    (check_masked_weights, lambda s, m: s.softmax(-2) * keys(m), "applied after it"),
    (check_masked_weights, lambda s, m: (s + padding_bias(m)).softmax(1), "over the heads"),
    (check_masked_weights, lambda s, m: s + padding_bias(m), "softmax is missing"),
    (check_masked_weights, lambda s, m: (s + padding_bias(m)).log_softmax(-1), "logarithm"),
    (check_masked_weights, lambda s, m: (s - 10.0 * ~keys(m)).softmax(-1),
     "padding still gets a weight"),
    (check_masked_weights, lambda s, m: s.masked_fill_(~keys(m), -INF).softmax(-1),
     "itself was changed"),
    (check_split, cut, "mixes tokens"),
    (check_split, lambda x, h: x.unflatten(-1, (h, -1)), "transpose is missing"),
    (check_split, lambda x, h: x.mT.reshape(len(x), h, x.shape[1], -1), "before it was cut"),
    (check_split, lambda x, h: x.unflatten(-1, (-1, h)).permute(0, 3, 1, 2), "every H-th"),
    (check_split, lambda x, h: split(x, h).mT, "last two axes"),
    (check_split, lambda x, h: split(x, h).transpose(0, 1), "H stands before B"),
    (check_split, lambda x, h: split(x, h).flatten(0, 1), "merged into one"),
    (check_split, lambda x, h: x.unflatten(-1, (-1, h)).transpose(1, 2), "not how wide"),
    (check_split, lambda x, h: x, "nothing was cut"),
    (check_split, lambda x, h: x.chunk(h, -1), "stack them"),
    (check_split, lambda x, h: torch.stack([x[..., :x.shape[-1] // h]] * h, 1), "same slice"),
    (check_split, lambda x, h: split(x, 4 if x.shape[1] == 5 else 2 if x.shape[1] == 4 else 1),
     "the shape is (3, 1, 7, 15)"),
    (check_masked_weights, lambda s, m: (s + padding_bias(m)).softmax(-1) if s.shape[-1] == 4
     else s.softmax(-1), "the mask was not used"),
    (check_masked_weights, lambda s, m: (s + padding_bias(m)).softmax(-1)
     + 0.001 * (s.shape[-1] == 5), "not for [3, 2, 5, 5]"),
    (check_scores, lambda q, k: scores(q, k).to("meta"), "on the device 'meta'"),
    (check_scores, lambda q, k: (scores(q, k) * 100).round().int(), "whole numbers (torch.int32)"),
    (check_entropy, lambda w: torch.special.entr(w).sum(-1) if w.shape[-1] == 4
     else w.sum(-1), "not for [1, 3, 7, 7]"),
    (check_split, lambda x, h: split(x, 4), "it stops with RuntimeError"),
    (check_split, lambda x, h: split(x, 1), "the shape is (2, 1, 5, 12)"),
    (check_split, lambda x, h: split(x, 2), "always 2 heads"),
    (check_multi_head, lambda x, a, b, c, h, m: x @ c, "nothing was mixed"),
    (check_multi_head, lambda x, a, b, c, h, m: None, "end with return"),
    (check_multi_head, lambda *g: whole(*g, merge=lambda x: x), "heads are not merged"),
    (check_multi_head, lambda *g: whole(*g, split=cut), "heads are split by a reshape"),
    (check_multi_head, lambda *g: whole(*g, merge=lambda x: x.reshape(2, 5, 6)),
     "heads are merged by a reshape"),
    (check_multi_head, lambda *g: whole(*g, split=cut, merge=lambda x: x.reshape(2, 5, 6)),
     "heads are split by a reshape"),
    (check_multi_head, lambda *g: whole(*g, width=1), "not scaled"),
    (check_multi_head, lambda *g: whole(*g, width=9), "divided by D/H, not by its square root"),
    (check_multi_head, lambda *g: whole(*g, width=6), "root of D, not of D/H"),
    (check_multi_head, lambda *g: whole(*g, after=True), "mask was applied after the softmax"),
    (check_multi_head, lambda *g: whole(*g[:-1], torch.ones(2, 5).bool()), "mask was not used"),
    (check_multi_head, lambda *g: whole(*g, dim=-2), "over the queries (dim -2)"),
    (check_multi_head, lambda *g: whole(*g, width=1, after=True), "not scaled; and the mask was "
     "applied after"),
    (check_multi_head, lambda x, a, b, c, h, m: whole(x, a, b, c, 1, m), "one head only"),
    (check_multi_head, lambda x, a, b, c, h, m: whole(x, b, a, c, h, m), "exchanged"),
    (check_multi_head, lambda x, a, b, c, h, m: whole(x, a, b, b, h, m), "keys were handed over"),
    (check_multi_head, lambda x, a, b, c, h, m: whole(x, a, b, torch.eye(6), h, m), "x itself"),
    (check_multi_head, lambda x, a, b, c, h, m: whole(x, a.T, b.T, c.T, h, m), "transposed"),
    (check_multi_head, lambda x, a, b, c, h, m: whole(x, a, b, c, 2, m), "read them off n_head"),
    (check_multi_head, lambda x, a, b, c, h, m: whole(x, a, b, c, h, m, width=3),
     "read them off n_head"),
    (check_multi_head, lambda *g: whole(*g)[:, :5, :6], "the shape is (3, 4, 6)"),
    (check_multi_head, lambda *g: list(whole(*g)), "it returns list, not a tensor"),
    (check_multi_head, lambda x, a, b, c, h, m: whole(x, a, b, c, h, m.fill_(True)), "m itself"),
    (check_multi_head, strange_rows, "rows of padding are not a number"),
    (check_multi_head, lambda x, *g: whole(x.mul_(2), *g), "x itself was changed"),
    (check_entropy, lambda w: -(w * w.log()).sum(-1), "must add 0"),
    (check_entropy, lambda w: torch.special.entr(w).sum(-1) / math.log(2), "base 2"),
    (check_entropy, lambda w: -torch.special.entr(w).sum(-1), "sign"),
    (check_entropy, lambda w: torch.special.entr(w).mean(-1), "take the sum"),
    (check_entropy, lambda w: torch.special.entr(w).sum(-1).exp(), "e to the entropy"),
    (check_entropy, lambda w: torch.special.entr(w).sum(-2), "queries (dim -2)"),
    (check_entropy, lambda w: torch.special.entr(w).sum((-1, -2)), "all queries"),
    (check_entropy, lambda w: torch.special.entr(w).sum(-1).mean(), "all rows were averaged"),
    (check_entropy, lambda w: torch.special.entr(w), "sum is missing"),
    (check_entropy, lambda w: -w.log().sum(-1), "w ln w"),
]

RIGHT = [
    (check_scores, scores),
    (check_scores, lambda q, k: torch.einsum("bhqd,bhkd->bhqk", q, k) * q.size(-1) ** -0.5),
    (check_scores, lambda q, k: (q / q.shape[-1] ** 0.25) @ (k / k.shape[-1] ** 0.25).mT),
    (check_masked_weights, lambda s, m: (s + padding_bias(m)).softmax(-1)),
    (check_masked_weights, lambda s, m: (s - 1e9 * (1 - keys(m).float())).softmax(-1)),
    (check_masked_weights, lambda s, m: F.normalize(s.softmax(-1) * keys(m), p=1, dim=-1)),
    (check_masked_weights, lambda s, m: torch.where(keys(m), s.double(), -INF).softmax(-1)),
    (check_split, split),
    (check_split, lambda x, h: torch.stack(x.chunk(h, -1), 1)),
    (check_split, lambda x, h: torch.einsum("bthd->bhtd", x.view(*x.shape[:2], h, -1)).tolist()),
    (check_split, lambda x, h: x.transpose(1, 2).unflatten(1, (h, -1)).transpose(2, 3)),
    (check_multi_head, whole),
    (check_multi_head, lambda x, a, b, c, h, m: merge(F.scaled_dot_product_attention(
        split(x @ a, h), split(x @ b, h), split(x @ c, h), attn_mask=keys(m)))),
    (check_multi_head, lambda x, a, b, c, h, m: merge(explicit_attention(
        split(x @ a, h), split(x @ b, h), split(x @ c, h), padding_bias(m))[0])),
    (check_multi_head, lambda *g: whole(*g) * g[-1][..., None]),
    (check_multi_head, lambda *g: whole(*g).tolist()),
    (check_entropy, lambda w: torch.special.entr(w).sum(-1)),
    (check_entropy, lambda w: -(w * w.clamp_min(1e-12).log()).sum(-1)),
    (check_entropy, lambda w: torch.distributions.Categorical(probs=w).entropy()),
    (check_entropy, lambda w: -torch.xlogy(w, w).sum(-1)),
]


@pytest.mark.parametrize(("check", "answer", "words"), WRONG)
def test_a_wrong_answer_is_told_its_mistake(check, answer, words, diagnosed):
    diagnosed(check, answer, words)


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass_however_they_are_written(check, answer):
    assert check(answer) == "right"


@pytest.mark.parametrize("words", ["not scaled", "mask was not used", "dim -2"])
def test_three_mistakes_at_once_are_not_named_as_one_of_them(words):
    said = check_multi_head(lambda x, a, b, c, h, m: whole(
        x, a, b, c, h, torch.ones(2, 5).bool(), width=1, dim=-2))
    assert said.startswith("not yet: ") and words not in said
