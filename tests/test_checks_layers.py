"""Checkers of the feed-forward layer and the block: right classes of any style, each mistake."""

import pytest
import torch.nn.functional as F
from torch import nn

from bertlib import blocks
from bertlib.attention import MultiHeadAttention
from bertlib.checks.layers import check_block, check_feed_forward


class FeedForward(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.up = nn.Linear(config.d_model, config.d_ff)
        self.down = nn.Linear(config.d_ff, config.d_model)

    def forward(self, x):
        return self.down(F.gelu(self.up(x)))


class Block(nn.Module):
    """Right; `post` and `pre` are the lines that the children get wrong."""

    def __init__(self, config):
        super().__init__()
        self.is_pre = config.norm == "pre"
        self.attention = MultiHeadAttention(config)
        self.attention_norm = nn.LayerNorm(config.d_model, eps=config.norm_eps)
        self.feed_forward = FeedForward(config)
        self.ffn_norm = nn.LayerNorm(config.d_model, eps=config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def attend(self, x, bias):
        return self.dropout(self.attention.output(self.attention(x, bias)))

    def think(self, x):
        return self.dropout(self.feed_forward(x))

    def post(self, x, bias):
        x = self.attention_norm(x + self.attend(x, bias))
        return self.ffn_norm(x + self.think(x))

    def pre(self, x, bias):
        x = x + self.attend(self.attention_norm(x), bias)
        return x + self.think(self.ffn_norm(x))

    def forward(self, x, bias=None):
        return self.pre(x, bias) if self.is_pre else self.post(x, bias)


def changed(kind, name, function):
    """A child of `kind` with one method replaced."""
    return type("Answer", (kind,), {name: function})


def layer(forward):
    return changed(FeedForward, "forward", forward)


def slip_in_published_code(self, x, bias):
    x = self.attention_norm(x)
    x = x + self.attend(x, bias)
    x = self.ffn_norm(x)
    return x + self.think(x)


def noisy_stream(self, x, bias):
    x = self.dropout(x + self.attention.output(self.attention(self.attention_norm(x), bias)))
    return x + self.think(self.ffn_norm(x))


class OwnEps(Block):
    def __init__(self, config):
        super().__init__(config)
        self.ffn_norm = nn.LayerNorm(config.d_model)


class Narrow(FeedForward):
    def __init__(self, config):
        super().__init__(config)
        self.up = nn.Linear(config.d_model, 4 * config.d_model)


@pytest.mark.parametrize("check, answer", [
    (check_feed_forward, FeedForward), (check_feed_forward, blocks.FeedForward),
    (check_block, Block), (check_block, blocks.Block)])
def test_right_classes_of_any_style_are_accepted(check, answer):
    assert check(answer) == "right"


@pytest.mark.parametrize("answer, words", [
    (layer(lambda s, x: s.down(s.up(x))), "nothing bends"),
    (layer(lambda s, x: s.down(F.relu(s.up(x)))), "ReLU"),
    (layer(lambda s, x: s.down(F.gelu(s.up(x), approximate="tanh"))), "tanh"),
    (layer(lambda s, x: F.gelu(s.down(s.up(x)))), "after the second layer"),
    (layer(lambda s, x: x + s.down(F.gelu(s.up(x)))), "left to the block"),
    (layer(lambda s, x: None), "end with return"),
    (Narrow, "self.up has weights of (16, 4)"), (FeedForward.forward, "pass the class itself"),
])
def test_a_wrong_feed_forward_is_told_what_is_wrong(answer, words, diagnosed):
    diagnosed(check_feed_forward, answer, words)


@pytest.mark.parametrize("answer, words", [
    (changed(Block, "post", Block.pre), "post-norm: the norm comes after the addition; this"),
    (changed(Block, "pre", Block.post), "pre-norm: the norm stands after the addition"),
    (changed(Block, "pre", slip_in_published_code), "residual is taken from the normed x"),
    (changed(Block, "post", slip_in_published_code), "after the addition, of x itself"),
    (changed(Block, "attend", lambda s, x, b: s.dropout(s.attention(x, b))), "output is missing"),
    (changed(Block, "attend", lambda s, x, b: s.attention.output(s.attention(x))), "padding"),
    (changed(Block, "post", lambda s, x, b: s.attention_norm(x + s.attend(x, b))),
     "the second half is missing"),
    (changed(Block, "think", lambda s, x: s.feed_forward(x)), "put self.dropout around both"),
    (changed(Block, "pre", noisy_stream), "dropout falls on the stream"),
    (changed(Block, "forward", lambda s, x, bias=None: None), "end with return"),
    (OwnEps, "another eps"),
])
def test_a_wrong_block_is_told_what_is_wrong(answer, words, diagnosed):
    diagnosed(check_block, answer, words)
