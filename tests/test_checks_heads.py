"""Checkers of the module and of turned hands in notebook 03: right answers, and each mistake."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bertlib.checks.heads import check_attention, check_turn
from bertlib.told import turn


class Attention(nn.Module):
    """A right answer; its children below go wrong in one place each."""

    def __init__(self, d_model, n_head):
        super().__init__()
        self.n_head = n_head
        self.query, self.key, self.value, self.output = (
            nn.Linear(d_model, d_model) for _ in range(4))

    def split(self, x):
        return x.unflatten(-1, (self.n_head, -1)).transpose(1, 2)

    def mix(self, scores, v):
        return scores.softmax(dim=-1) @ v

    def forward(self, x, bias=0.0):
        q, k, v = (self.split(to(x)) for to in (self.query, self.key, self.value))
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]) + bias
        return self.mix(scores, v).transpose(1, 2).flatten(2)


class Fused(Attention):
    def forward(self, x, bias=None):
        q, k, v = (self.split(to(x)) for to in (self.query, self.key, self.value))
        return F.scaled_dot_product_attention(q, k, v, bias).transpose(1, 2).reshape(x.shape)


class Projects(Attention):
    def forward(self, x, bias=0.0):
        return self.output(super().forward(x, bias))


class View(Attention):
    def split(self, x):
        return x.view(x.shape[0], self.n_head, x.shape[1], -1)


class Deaf(Attention):
    def forward(self, x, bias=0.0):
        return super().forward(x, 0.0)


class Columns(Attention):
    def mix(self, scores, v):
        return scores.softmax(dim=-2) @ v


class Silent(Attention):
    def forward(self, x, bias=0.0):
        super().forward(x, bias)


class Narrow(Attention):
    def __init__(self, d_model, n_head):
        super().__init__(d_model, n_head)
        self.key = nn.Linear(d_model, d_model // n_head)


@pytest.mark.parametrize("answer", [Attention, Fused])
def test_right_modules_of_any_style_are_accepted(answer):
    assert check_attention(answer) == "right"


@pytest.mark.parametrize("answer, words", [
    (Projects, "forward applies self.output"), (View, "reshape that mixes tokens"),
    (Deaf, "the mask was not used"), (Columns, "over the queries"), (Silent, "end with return"),
    (Narrow, "self.key is no nn.Linear"), (Attention(6, 2), "pass the class itself"),
    (lambda d_model, n_head: None, "pass the class itself"),
])
def test_a_wrong_module_is_told_what_is_wrong(answer, words, diagnosed):
    diagnosed(check_attention, answer, words)


def by_hand(hands, rates, offset, sign=1, angle=None):
    sin, cos = hands.chunk(2, dim=-1)
    b = rates * offset if angle is None else angle(rates, offset)
    return torch.cat((sin * b.cos() + sign * cos * b.sin(),
                      cos * b.cos() - sign * sin * b.sin()), dim=-1)


@pytest.mark.parametrize("answer", [
    by_hand, lambda hands, rates, offset: hands @ turn(rates, offset).T])
def test_hands_may_be_turned_in_any_style(answer):
    assert check_turn(answer) == "right"


@pytest.mark.parametrize("answer, words", [
    (lambda h, r, d: h, "not turned"),
    (lambda h, r, d: by_hand(h, r, d, sign=-1), "the other way"),
    (lambda h, r, d: by_hand(h, r, d, angle=lambda r, d: torch.tensor(float(d))), "its own rate"),
    (lambda h, r, d: by_hand(h, r, 1), "rate times offset"),
    (lambda h, r, d: by_hand(h, r, d).roll(3, 1), "exchanged"),
    (lambda h, r, d: by_hand(h, r, d).unflatten(1, (2, 3)).mT.flatten(1), "side by side"),
    (lambda h, r, d: torch.cat((h[:, :3], by_hand(h, r, d)[:, 3:]), 1), "only the cosines"),
    (lambda h, r, d: torch.cat((by_hand(h, r, d)[:, :3], h[:, 3:]), 1), "only the sines"),
    (lambda h, r, d: h.roll(-d, 0), "the table was moved"),
    (lambda h, r, d: by_hand(h, r, d)[:, :3], "the shape is"),
    (lambda h, r, d: by_hand(h, r, 2), "sin(a + b)"),
])
def test_wrong_turns_are_told_apart(answer, words, diagnosed):
    diagnosed(check_turn, answer, words)
