"""Checkers of notebook 03, what the learner builds of the parts: the module, and turned hands."""

from typing import Any

import torch
from torch import Tensor, nn

from bertlib.attention import padding_bias
from bertlib.checks import NotYet, checker, expect, require
from bertlib.checks.attention import check_multi_head
from bertlib.told import wave_table

LAYERS = ("query", "key", "value", "output")


@torch.no_grad()
def _filled(answer: type[nn.Module], width: int, n_head: int, matrices: list[Tensor],
            output: float) -> nn.Module:
    """A module of the learner's class: x @ matrix in each projection, `output` times x in that."""
    module = answer(width, n_head)
    for name, matrix in zip(LAYERS, [*matrices, torch.eye(width) * output], strict=True):
        layer: Any = getattr(module, name, None)
        require(isinstance(layer, nn.Linear) and layer.weight.shape == matrix.shape,
                f"self.{name} is no nn.Linear(d_model, d_model)")
        layer.weight.copy_(matrix.T)
        if layer.bias is not None:
            layer.bias.zero_()
    return module.eval()


@checker
@torch.no_grad()
def _check_module(answer):
    """What only a module can get wrong."""
    require(isinstance(answer, type) and issubclass(answer, nn.Module),
            "pass the class itself, a child of nn.Module")
    matrices = list(torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(4)).unbind(0))
    x = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(3))
    alone, scaled = (_filled(answer, 6, 2, matrices, output)(x) for output in (1.0, 3.0))
    if alone is None:
        raise NotYet("forward returns nothing; end with return")
    require(alone.equal(scaled), "forward applies self.output; leave that to the block, which may "
                                 "need it at a few positions only")


def check_attention(answer: Any) -> str:
    """answer(d_model, n_head) is a module: x [B, T, D], bias -> mixed values [B, T, D].

    Its four linear layers are called as in bertlib; the diagnosis is that of `check_multi_head`.
    """
    if (said := _check_module(answer)) != "right":
        return said

    def whole(x, w_q, w_k, w_v, n_head, attention_mask):
        module = _filled(answer, x.shape[-1], n_head, [w_q, w_k, w_v], 1.0)
        return module(x, padding_bias(attention_mask))
    return check_multi_head(whole)


@checker
def check_turn(answer):
    """answer(hands [T, 2n], rates [n], offset) -> the hands of `offset` tokens further on."""
    rates, length = torch.tensor([0.3, 1.0, 2.2]), 7
    hands = wave_table(rates, length)
    for offset in (2, -3):
        sin, cos = hands.chunk(2, dim=-1)  # [T, n] each
        ahead, back = _turned(hands, rates * offset), _turned(hands, -rates * offset)
        new_sin, new_cos = ahead.chunk(2, dim=-1)
        wrong = {
            "the hands are as they were: they were not turned": hands,
            "turned the other way: that is `offset` tokens back": back,
            "all hands turn by `offset` radians; each has its own rate":
                _turned(hands, torch.full((3,), float(offset))),
            "each hand turns by its rate alone; it is rate times offset": _turned(hands, rates),
            "sines and cosines are exchanged: first all sines, then all cosines":
                torch.cat((new_cos, new_sin), dim=-1),
            "sine and cosine of each rate stand side by side; first all sines, then all cosines":
                torch.stack((new_sin, new_cos), dim=-1).flatten(-2),
            "the cosine has a plus; cos(a + b) = cos a cos b - sin a sin b":
                torch.cat((new_sin, back.chunk(2, dim=-1)[1]), dim=-1),
            "the sine has a minus; sin(a + b) = sin a cos b + cos a sin b":
                torch.cat((back.chunk(2, dim=-1)[0], new_cos), dim=-1),
            "only the sines were turned": torch.cat((new_sin, cos), dim=-1),
            "only the cosines were turned": torch.cat((sin, new_cos), dim=-1),
            "the table was moved: what leaves at one end comes in at the other; turn each hand":
                hands.roll(-offset, 0),
        }
        expect(answer(hands, rates, offset), ahead, wrong,
               "sin(a + b) = sin a cos b + cos a sin b, with a in the hands and b = rates * offset")


def _turned(hands: Tensor, angles: Tensor) -> Tensor:
    (sin, cos), s, c = hands.chunk(2, dim=-1), angles.sin(), angles.cos()
    return torch.cat((sin * c + cos * s, cos * c - sin * s), dim=-1)
