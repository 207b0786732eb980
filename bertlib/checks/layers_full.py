"""Checkers of the bend, the feed-forward layer and the block with all options of bertlib's."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertlib.attention import padding_bias
from bertlib.bert import BertConfig
from bertlib.blocks import ACTIVATIONS, Block, FeedForward
from bertlib.checks import checker, expect, require, same
from bertlib.checks.blocks import pre_norm_mistakes
from bertlib.checks.calling import Answer, ask, guarded
from bertlib.checks.modules import build, draw, right_one

Made = dict[str, Tensor]  # what is wrong -> what then comes out


@checker
def check_squared_relu(answer: Answer) -> None:
    """answer(x) -> max(x, 0)^2, of any shape."""
    for x in (torch.linspace(-3, 3, 13), draw(2, 3, 4)):
        expect(answer(x.clone()), F.relu(x).square(), {
            "that is ReLU; square it": F.relu(x), "nothing was done to x": x,
            "that is x^2: negative numbers become 0 before they are squared": x.square(),
            "negative numbers keep their sign; they become 0": x * x.abs(),
            "that is GELU": F.gelu(x), "that is the root of ReLU; square it": F.relu(x).sqrt(),
            "the signs are exchanged: positive numbers stay": F.relu(-x).square(),
        }, "max(x, 0), times itself")


def _feed_forward_mistakes(right: Any, x: Tensor, name: str) -> Made:
    up, down, bend = right.up, right.down, ACTIVATIONS[name]
    another = ACTIVATIONS["relu2" if name == "gelu" else "gelu"]
    return {
        "nothing is bent between the two layers": down(up(x)),
        "it is bent after the second layer; bend the wide one": bend(down(up(x))),
        "it is bent twice; only the wide layer is": bend(down(bend(up(x)))),
        "config.activation is not heeded": down(another(up(x))),
        "that is ReLU; config.activation names another": down(F.relu(up(x))),
        "that is GELU's approximation by tanh; take the exact one":
            down(F.gelu(up(x), approximate="tanh")),
        "x is added; that is left to the block": x + right(x),
        "the bias of the second layer is forgotten": bend(up(x)) @ down.weight.T,
    }


@checker
@torch.no_grad()
def check_feed_forward(answer: Answer) -> None:
    """The class FeedForward(config): forward(x [.., D]) -> [.., D]; parts up and down (nn.Linear).

    config: d_model, d_ff, bias, activation ("gelu" or "relu2").
    """
    for name, bias in (("gelu", True), ("relu2", False)):
        config = BertConfig.preset("tiny", d_model=4, d_ff=11, activation=name, bias=bias)
        right = right_one(FeedForward, config)
        mine = guarded(build(answer, config, right))
        for x in (draw(2, 3, 4), draw(5, 4, seed=1)):
            expect(mine(x.clone()), right(x), _feed_forward_mistakes(right, x, name),
                   f"the values are others with activation '{name}': down(bend(up(x)))")


def _post_norm_mistakes(x: Tensor, attend: Any, think: Any, one: Any, two: Any) -> Made:
    """What known mistakes in a post-norm block return."""
    middle = one(x + attend(x))
    pre = x + attend(one(x))
    return {
        "that is pre-norm; config.norm is 'post'": pre + think(two(pre)),
        "the norms stand inside the addition: norm(x + f(x)), not x + norm(f(x))":
            x + one(attend(x)) + two(think(x + one(attend(x)))),
        "the first addition is missing": two(one(attend(x)) + think(one(attend(x)))),
        "the second addition is missing": two(think(middle)),
        "both additions are missing": two(think(one(attend(x)))),
        "the first norm is missing": two(x + attend(x) + think(x + attend(x))),
        "the second norm is missing": middle + think(middle),
        "both norms are missing": x + attend(x) + think(x + attend(x)),
        "attention_norm is used twice; the second half has ffn_norm":
            one(middle + think(middle)),
        "the norms are exchanged": one(two(x + attend(x)) + think(two(x + attend(x)))),
        "the second half adds to the old x": two(x + think(middle)),
        "the feed-forward reads the old x": two(middle + think(x)),
        "the second half is missing": middle,
    }


def _attend(right: Any, bias: Tensor | None, x: Tensor, projected: bool = True) -> Tensor:
    mixed = right.attention(x, bias)
    return right.attention.output(mixed) if projected else mixed


def _block_mistakes(right: Any, x: Tensor, bias: Tensor, kind: str) -> Made:
    def all_of(bias: Tensor | None, projected: bool = True) -> tuple[Tensor, Made]:
        attend = partial(_attend, right, bias, projected=projected)
        parts = x, attend, right.feed_forward, right.attention_norm, right.ffn_norm
        if kind == "pre":
            middle = x + attend(parts[3](x))
            wrong = {words.replace("norm_1", "attention_norm").replace("norm_2", "ffn_norm"): value
                     for words, value in pre_norm_mistakes(*parts).items()}
            return middle + parts[2](parts[4](middle)), wrong
        middle = parts[3](x + attend(x))
        return parts[4](middle + parts[2](middle)), _post_norm_mistakes(*parts)

    return {
        "the bias is not handed to attention: padding is read": all_of(None)[0],
        "attention's output projection is not applied: self.attention.output(mixed)":
            all_of(bias, projected=False)[0],
    } | all_of(bias)[1]


@checker
@torch.no_grad()
def check_block(answer: Answer) -> None:
    """The class Block(config): forward(x [B, T, D], bias=None, keep=None) -> [B, T, D] or [K, D].

    Parts attention, attention_norm, feed_forward, ffn_norm, of any class with the right weights;
    config.norm says "post" or "pre". `keep` [K] are flat positions; only they go on after the
    values are mixed. Dropout falls on what a sublayer returns, before it is added.
    """
    for kind, bias in (("post", True), ("pre", True), ("pre", False)):
        config = BertConfig.preset("tiny", d_model=12, n_head=3, norm=kind, bias=bias, dropout=0.5,
                                   attention_dropout=0.0, norm_eps=0.1)
        right = right_one(Block, config)
        mine, x = build(answer, config, right), draw(2, 5, 12)
        call, padding = guarded(mine), padding_bias(torch.arange(5) < torch.tensor([[5], [3]]))
        told = f"with norm='{kind}' and bias={bias}"
        got = call(x, padding)
        require(same(got, call(x, padding)), "two calls differ in evaluation; dropout is for "
                "training")
        expect(got, right(x, padding), _block_mistakes(right, x, padding, kind),
               f"the values {told} are others")
        expect(call(x), right(x), hint=f"right with a bias, but not without one, {told}")
        _judge_keep(call, right, x, padding)
        _judge_dropout(mine, x)


def _judge_keep(call: Answer, right: nn.Module, x: Tensor, bias: Tensor) -> None:
    keep = torch.tensor([1, 4, 7])
    early = right(x.flatten(0, 1)[keep][None])[0]
    got = call(x, bias, keep)
    require(got.shape != x.shape, "keep is not heeded: only its positions should come back, [K, D]")
    expect(got, right(x, bias, keep), {
        "the others are dropped before attention; those that stay must still hear them": early,
        "keep counts in the flattened batch [B * T], not in a row": right(x, bias)[:, keep % 5][0],
    }, "with keep the values are others")


def _judge_dropout(mine: nn.Module, x: Tensor) -> None:
    """In training: something is dropped, and where nothing is added nothing is lost."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        one, other = (ask(mine.train(), x) for _ in range(2))
        require(not same(one, other), "config.dropout is not used in training")
        silent: Any = mine
        for layer in (silent.attention.output, silent.feed_forward.down):
            for parameter in layer.parameters():
                parameter.zero_()
        require(same(ask(mine, x), ask(mine.eval(), x)), "dropout falls on the stream; it belongs "
                "on what a sublayer returns, before that is added")
