"""Attention as notebook 03 builds it is taken in any style, and its mistakes are told apart."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bertlib.attention import MultiHeadAttention, distance_bias, explicit_attention, padding_bias
from bertlib.checks.heads_full import (
    check_distance_bias,
    check_explicit_attention,
    check_multi_head_attention,
    check_padding_bias,
)


def explicit(q, k, v, bias=0, scale=None, dim=-1):
    weights = (q @ k.mT * (scale or q.shape[-1] ** -0.5) + bias).softmax(dim)
    return weights @ v, weights


def by_sum(q, k, v, bias=None):
    scores = (q[..., :, None, :] * k[..., None, :, :]).sum(-1) / math.sqrt(q.size(-1))
    powers = (scores if bias is None else scores + bias).exp()
    weights = powers / powers.sum(-1, keepdim=True)
    return torch.einsum("bhqk,bhkd->bhqd", weights, v), weights


def late(q, k, v, bias=0):
    weights = (q @ k.mT / 2).softmax(-1) + bias
    return weights @ v, weights


def by_where(mask):
    return torch.where(mask, 0.0, -math.inf)[:, None, None]


def by_loops(heads, length):
    return torch.tensor([[[[-slope * abs(key - query - offset) for key in range(length)]
                           for query in range(length)] for slope, offset in heads]])


def table(make):
    def answer(heads, length):
        place = torch.arange(length)
        return torch.stack([make(place - place[:, None], *head) for head in heads])[None].float()
    return answer


class Mine(nn.Module):
    """All by hand, head after head."""

    def __init__(self, config):
        super().__init__()
        self.H, self.p = config.n_head, config.attention_dropout
        for name in ("query", "key", "value", "output"):
            setattr(self, name, nn.Linear(config.d_model, config.d_model, config.bias))
        if config.qk_norm:
            self.qk_gain = nn.Parameter(torch.ones(config.n_head, 1, 1))

    def forward(self, x, bias=None):
        heads = []
        for n, (q, k, v) in enumerate(zip(*(part(x).chunk(self.H, -1) for part in (
                self.query, self.key, self.value)), strict=True)):
            if hasattr(self, "qk_gain"):
                q, k = (t / (t.square().mean(-1, keepdim=True) + 1e-7).sqrt() for t in (q, k))
                q = q * self.qk_gain[n]
            scores = q @ k.mT / q.shape[-1] ** 0.5
            if bias is not None:
                scores = scores + bias[:, min(n, bias.shape[1] - 1)]
            heads.append(F.dropout(scores.softmax(-1), self.p, self.training) @ v)
        return torch.cat(heads, -1)


def other(forward, base=MultiHeadAttention, **names):
    return type("Other", (base,), {"forward": forward, **names})


def explicit_forward(cut=None, merge=None, scale=None, roles=(0, 1, 2), use_bias=True, norm=None):
    def forward(self, x, bias=None):
        q, k = self.queries_and_keys(x) if norm is None else norm(self, x)
        parts = q, k, self.split(self.value(x))
        if cut:
            parts = [cut(part(x), self.n_head) for part in (self.query, self.key, self.value)]
        q, k, v = (parts[n] for n in roles)
        mixed, _ = explicit_attention(q, k, v, bias if use_bias else None, scale)
        p = self.dropout if self.training else 0
        return F.dropout(merge(mixed) if merge else mixed.transpose(1, 2).flatten(2), p)
    return forward


def no_norm(self, x):
    return self.split(self.query(x)), self.split(self.key(x))


def norm_of_all(self, x):
    q, k = (F.rms_norm(part(x), (12,)) for part in (self.query, self.key))
    gain = 1 if self.qk_gain is None else self.qk_gain
    return (self.split(q) * gain, self.split(k)) if self.qk_gain is not None else no_norm(self, x)


def gain_for_both(self, x):
    q, k = self.queries_and_keys(x)
    return q, k if self.qk_gain is None else k * self.qk_gain


def no_gain(self, x):
    q, k = no_norm(self, x)
    return (q, k) if self.qk_gain is None else (F.rms_norm(q, (4,)), F.rms_norm(k, (4,)))


def renamed(self, config):
    MultiHeadAttention.__init__(self, config)
    self.values = self.value
    del self.value


def no_super(self, config):
    self.query = nn.Linear(config.d_model, config.d_model)


def always_bias(self, config):
    MultiHeadAttention.__init__(self, config)
    for part in (self.query, self.key, self.value, self.output):
        part.bias = nn.Parameter(torch.zeros(config.d_model))


def flat_gain(self, config):
    MultiHeadAttention.__init__(self, config)
    if config.qk_norm:
        self.qk_gain = nn.Parameter(torch.ones(config.n_head))


def plain_gain(self, config):
    MultiHeadAttention.__init__(self, config)
    if config.qk_norm:
        del self.qk_gain
        self.qk_gain = torch.ones(config.n_head, 1, 1)


def dropout_always(self, x, bias=None):
    return F.dropout(MultiHeadAttention.forward(self, x, bias), 0.5)


def never_dropout(self, x, bias=None):
    self.dropout = 0.0
    return MultiHeadAttention.forward(self, x, bias)


def with_output(self, x, bias=None):
    return self.output(MultiHeadAttention.forward(self, x, bias))


def in_place(self, x, bias=None):
    return MultiHeadAttention.forward(self, x.mul_(2), bias)


RIGHT = [
    (check_explicit_attention, explicit_attention), (check_explicit_attention, by_sum),
    (check_padding_bias, padding_bias), (check_padding_bias, by_where),
    (check_padding_bias, lambda mask: (1 - mask[:, None, None].int()) * -1e9),
    (check_distance_bias, distance_bias), (check_distance_bias, by_loops),
    (check_multi_head_attention, MultiHeadAttention), (check_multi_head_attention, Mine),
    (check_multi_head_attention, other(explicit_forward())),
]

HEADS = [
    (other(explicit_forward(cut=lambda x, h: x.view(len(x), h, x.shape[1], -1))), "mixes tokens"),
    (other(explicit_forward(merge=lambda x: x.reshape(2, 5, 12))), "heads are merged by a reshape"),
    (other(explicit_forward(scale=1.0)), "the scores are not scaled"),
    (other(explicit_forward(scale=1 / 6)), "divided by D/H, not by its square root"),
    (other(explicit_forward(scale=12**-0.5)), "the root of D, not of D/H"),
    (other(explicit_forward(roles=(1, 0, 2))), "queries and keys are exchanged"),
    (other(explicit_forward(roles=(0, 1, 1))), "the keys were handed over"),
    (other(explicit_forward(use_bias=False)), "the bias is not used"),
    (other(explicit_forward(scale=1.0, use_bias=False)), "not scaled; and the bias is not used"),
    (other(explicit_forward(norm=no_norm)), "queries and keys are not normed"),
    (other(explicit_forward(norm=norm_of_all)), "norm each head by itself"),
    (other(explicit_forward(norm=gain_for_both)), "keys have no gain"),
    (other(explicit_forward(norm=no_gain)), "the gain of the queries is forgotten"),
    (other(with_output), "that is left to the block"),
    (other(dropout_always), "two calls differ in evaluation"),
    (other(never_dropout), "attention_dropout is not used in training"),
    (other(in_place), "x itself was changed"),
    (other(lambda self, x, bias=None: None), "it returns nothing"),
    (other(lambda self, x: MultiHeadAttention.forward(self, x)), "TypeError"),
    (other(MultiHeadAttention.forward, __init__=renamed),
     "'value.bias' is missing; there is 'values"),
    (other(MultiHeadAttention.forward, __init__=always_bias), "'key.bias' is one part too many"),
    (other(MultiHeadAttention.forward, __init__=flat_gain),
     "'qk_gain' is [3], it should be [3, 1,"),
    (other(MultiHeadAttention.forward, __init__=plain_gain), "'qk_gain' is a tensor, which nobody"),
    (other(MultiHeadAttention.forward, nn.Module, __init__=no_super), "AttributeError"),
    (MultiHeadAttention.forward, "hand over the class itself"),
    (type("Plain", (), {"__init__": lambda self, config: None}), "one of nn.Module"),
]

WRONG = [(check_multi_head_attention, answer, words) for answer, words in HEADS] + [
    (check_explicit_attention, lambda *g: explicit(*g)[0], "return two tensors"),
    (check_explicit_attention, lambda *g: explicit(*g)[::-1], "first the mixed values"),
    (check_explicit_attention, lambda q, k, v, bias=0: explicit(q, k, v, bias, 1.0), "not scaled"),
    (check_explicit_attention, lambda q, k, v, bias=0: explicit(q, k, v, bias, 1 / 4), "its root"),
    (check_explicit_attention, lambda q, k, v, bias=0: explicit(q, k, v, bias, dim=-2), "dim -2"),
    (check_explicit_attention, lambda q, k, v, bias=0: explicit(q, k, v), "the bias is not used"),
    (check_explicit_attention, lambda q, k, v, bias=0: explicit(q, k, v, bias / 2),
     "is scaled, too"),
    (check_explicit_attention, late, "after the softmax"),
    (check_explicit_attention, lambda q, k, v, bias=0: (explicit(q, k, k, bias)[0], explicit(
        q, k, v, bias)[1]), "the keys are mixed"),
    (check_explicit_attention, lambda q, k, v, bias=0: explicit(k, q, v, bias), "exchanged"),
    (check_explicit_attention, lambda q, k, v: explicit(q, k, v), "TypeError"),
    (check_explicit_attention, lambda q, k, v, bias=0: explicit(q.div_(2), k, v, bias, 1.0),
     "q itself was changed"),
    (check_padding_bias, lambda mask: by_where(~mask), "upside down"),
    (check_padding_bias, lambda mask: by_where(mask)[:, 0, 0], "the axes are missing"),
    (check_padding_bias, lambda mask: by_where(mask)[:, 0], "four axes"),
    (check_padding_bias, lambda mask: by_where(mask).mT, "strikes out queries"),
    (check_padding_bias, lambda mask: mask[:, None, None], "true and false"),
    (check_padding_bias, lambda mask: mask[:, None, None].float(), "take 0 and -inf"),
    (check_padding_bias, lambda mask: by_where(mask) + 1, "tokens should get 0"),
    (check_padding_bias, lambda mask: by_where(mask.logical_not_()), "mask itself was changed"),
    (check_distance_bias, table(lambda d, s, o: -s * d.abs()), "offset is not used"),
    (check_distance_bias, table(lambda d, s, o: -s * (d + o).abs()), "to the wrong side"),
    (check_distance_bias, table(lambda d, s, o: -s * (d - o)), "absolute value"),
    (check_distance_bias, table(lambda d, s, o: s * (d - o).abs()), "the heads gain"),
    (check_distance_bias, table(lambda d, s, o: -(s * d - o).abs()), "take off the offset first"),
    (check_distance_bias, lambda heads, n: distance_bias(heads, n).mT, "to the wrong side"),
    (check_distance_bias, lambda heads, n: distance_bias(heads, n)[0], "the first axis"),
    (check_distance_bias, lambda heads, n: distance_bias(heads[:1] * len(heads), n),
     "of the first"),
    (check_distance_bias, lambda heads, n: distance_bias(heads, 5), "the shape is (1, 1, 5, 5)"),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass_however_they_are_written(check, answer):
    assert check(answer) == "right"


@pytest.mark.parametrize(("check", "answer", "words"), WRONG)
def test_a_mistake_is_named(check, answer, words, diagnosed):
    diagnosed(check, answer, words)
