"""The block of notebook 04 is taken in any style, and its mistakes are told apart."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bertlib.attention import MultiHeadAttention
from bertlib.blocks import Block, FeedForward, squared_relu
from bertlib.checks.layers_full import check_block, check_feed_forward, check_squared_relu


class Wide(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.up = nn.Linear(config.d_model, config.d_ff, config.bias)
        self.down = nn.Linear(config.d_ff, config.d_model, config.bias)
        self.name = config.activation

    def forward(self, x):
        wide = F.linear(x, self.up.weight, self.up.bias)
        bent = F.gelu(wide) if self.name == "gelu" else wide.clamp(min=0) ** 2
        return F.linear(bent, self.down.weight, self.down.bias)


def wide(forward):
    return type("Other", (Wide,), {"forward": forward})


class Mine(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.kind, self.p = config.norm, config.dropout
        self.attention, self.feed_forward = MultiHeadAttention(config), Wide(config)
        self.attention_norm = nn.LayerNorm(config.d_model, config.norm_eps, bias=config.bias)
        self.ffn_norm = nn.LayerNorm(config.d_model, config.norm_eps, bias=config.bias)

    def drop(self, x):
        return F.dropout(x, self.p, self.training)

    def attend(self, x, bias):
        return self.attention.output(self.attention(x, bias))

    def parts(self, x, bias, one, two):
        """What a forward works with; all positions are kept."""
        return (x, lambda h: self.drop(self.attend(h, bias)),
                lambda h: self.drop(self.feed_forward(h)), one, two)

    def forward(self, x, bias=None, keep=None):
        mixed = self.attend(self.attention_norm(x) if self.kind == "pre" else x, bias)
        if keep is not None:
            x, mixed = (t.reshape(-1, t.shape[-1]).index_select(0, keep) for t in (x, mixed))
        x = x + self.drop(mixed)
        if self.kind == "pre":
            return x + self.drop(self.feed_forward(self.ffn_norm(x)))
        x = self.attention_norm(x)
        return self.ffn_norm(x + self.drop(self.feed_forward(x)))


def block(post=None, pre=None):
    """`Mine`, with another way for one of the two kinds: (x, attend, think, norm, norm) -> x."""
    def forward(self, x, bias=None, keep=None):
        own = pre if self.kind == "pre" else post
        if own is None:
            return Mine.forward(self, x, bias, keep)
        x = own(*self.parts(x, bias, self.attention_norm, self.ffn_norm))
        return x if keep is None else x.flatten(0, 1)[keep]
    return type("Other", (Mine,), {"forward": forward})


def other(forward, **names):
    return type("Other", (Mine,), {"forward": forward, **names})


def early(self, x, bias=None, keep=None):
    if keep is not None:
        return Mine.forward(self, x.flatten(0, 1)[keep][None])[0]
    return Mine.forward(self, x, bias)


def in_a_row(self, x, bias=None, keep=None):
    x = Mine.forward(self, x, bias)
    return x if keep is None else x[0, keep % x.shape[1]]


def stream_dropout(self, x, bias=None, keep=None):
    return self.drop(Mine.forward(self, x, bias, keep))


def shared_norms(self, config):
    Mine.__init__(self, config)
    del self.ffn_norm


def wrong_width(self, config):
    Mine.__init__(self, config)
    self.feed_forward.down = nn.Linear(config.d_ff, config.d_ff)


def pre_norm(x, a, f, n, m):
    x = x + a(n(x))
    return x + f(m(x))


RIGHT = [
    (check_squared_relu, squared_relu), (check_squared_relu, lambda x: x.clamp(min=0) * x),
    (check_squared_relu, lambda x: torch.where(x > 0, x**2, torch.zeros(())).tolist()),
    (check_feed_forward, FeedForward), (check_feed_forward, Wide),
    (check_block, Block), (check_block, Mine), (check_block, block(pre=pre_norm)),
]

WRONG = [
    (check_squared_relu, F.relu, "that is ReLU"),
    (check_squared_relu, lambda x: x**2, "negative numbers become 0"),
    (check_squared_relu, lambda x: x * x.abs(), "keep their sign"),
    (check_squared_relu, lambda x: F.relu(-x) ** 2, "signs are exchanged"),
    (check_squared_relu, lambda x: x.relu_().square(), "x itself was changed"),
    (check_squared_relu, lambda x: F.relu(x) ** 3, "times itself"),
    (check_feed_forward, wide(lambda self, x: self.down(self.up(x))), "nothing is bent"),
    (check_feed_forward, wide(lambda self, x: F.gelu(self.down(self.up(x)))), "after the second"),
    (check_feed_forward, wide(lambda self, x: self.down(F.relu(self.up(x)))), "that is ReLU"),
    (check_feed_forward, wide(lambda self, x: self.down(F.gelu(self.up(x)))), "not heeded"),
    (check_feed_forward, wide(lambda self, x: self.down(F.gelu(self.up(x), approximate="tanh"))),
     "approximation by tanh"),
    (check_feed_forward, wide(lambda self, x: x + Wide.forward(self, x)), "x is added"),
    (check_feed_forward, wide(lambda self, x: self.up(self.down(x))), "RuntimeError"),
    (check_feed_forward, FeedForward.forward, "hand over the class"),
    (check_block, block(post=pre_norm), "that is pre-norm; config.norm is 'post'"),
    (check_block, block(post=lambda x, a, f, n, m: x + n(a(x)) + m(f(x + n(a(x))))),
     "the norms stand inside the addition"),
    (check_block, block(post=lambda x, a, f, n, m: m(n(a(x)) + f(n(a(x))))), "first addition"),
    (check_block, block(post=lambda x, a, f, n, m: m(f(n(x + a(x))))), "second addition"),
    (check_block, block(post=lambda x, a, f, n, m: n(x + a(x)) + f(n(x + a(x)))), "second norm is"),
    (check_block, block(post=lambda x, a, f, n, m: m(x + a(x) + f(x + a(x)))), "first norm is"),
    (check_block, block(post=lambda x, a, f, n, m: n(n(x + a(x)) + f(n(x + a(x))))), "used twice"),
    (check_block, block(post=lambda x, a, f, n, m: m(x + f(n(x + a(x))))), "adds to the old x"),
    (check_block, block(pre=lambda x, a, f, n, m: m(n(x + a(x)) + f(n(x + a(x))))), "post-norm"),
    (check_block, block(pre=lambda x, a, f, n, m: x + a(n(x)) + f(n(x + a(n(x))))),
     "attention_norm is used twice; the second half has ffn_norm"),
    (check_block, block(pre=lambda x, a, f, n, m: n(x) + a(n(x)) + f(m(n(x) + a(n(x))))),
     "the first residual is taken from the normed x"),
    (check_block, block(pre=lambda x, a, f, n, m: x + a(n(x)) + f(x + a(n(x)))), "second norm was"),
    (check_block, other(lambda self, x, bias=None, keep=None: Mine.forward(self, x, None, keep)),
     "the bias is not handed to attention"),
    (check_block, other(Mine.forward, attend=lambda self, x, bias: self.attention(x, bias)),
     "output projection is not applied"),
    (check_block, other(Mine.forward, drop=lambda self, x: F.dropout(x, self.p)),
     "two calls differ"),
    (check_block, other(Mine.forward, drop=lambda self, x: x), "config.dropout is not used"),
    (check_block, other(stream_dropout), "dropout falls on the stream"),
    (check_block, other(lambda self, x, bias=None, keep=None: Mine.forward(self, x, bias)),
     "keep is not heeded"),
    (check_block, other(early), "dropped before attention"),
    (check_block, other(in_a_row), "in the flattened batch"),
    (check_block, other(Mine.forward, __init__=shared_norms), "'ffn_norm.bias' is missing"),
    (check_block, other(Mine.forward, __init__=wrong_width), "it should be [12"),
    (check_block, other(lambda self, x, bias=None, keep=None: x.add_(1)), "x itself was changed"),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass_however_they_are_written(check, answer):
    assert check(answer) == "right"


@pytest.mark.parametrize(("check", "answer", "words"), WRONG)
def test_a_mistake_is_named(check, answer, words, diagnosed):
    diagnosed(check, answer, words)
