"""The checkers of notebook 07 name the mistake that was made."""

import math

import pytest
import torch

from bertlib.checks.pretrain import check_schedule, check_unigram, check_weights


def schedule(step, warmup=10, end=110, floor=0.1, first=1):
    if step < warmup:
        return (step + first) / warmup
    done = min(1, (step - warmup) / (end - warmup))
    return floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2


def line(step):
    return schedule(step) if step < 10 else max(0.1, 1 - 0.9 * (step - 10) / 100)


def shares(counts):
    return counts / counts.sum()


WRONG = [
    (check_unigram, lambda c, y: -shares(c).log2()[y].mean(), "base 2"),
    (check_unigram, lambda c, y: -(shares(c) * shares(c).log()).sum(), "entropy of training"),
    (check_unigram, lambda c, y: shares(c).log()[y].mean(), "sign"),
    (check_unigram, lambda c, y: -shares(c).log()[y].sum(), "take the mean"),
    (check_schedule, lambda step: schedule(step, first=0), "step 0 should be 1/warmup"),
    (check_schedule, line, "a straight line is no cosine"),
    (check_schedule, lambda step: schedule(step, floor=0.0), "midway between peak and floor"),
    (check_schedule, lambda step: schedule(step) if step <= 110 else 1.0, "rise again"),
    (check_weights, lambda parts: [1.0, 1.0], "twice the gradient"),
    (check_weights, lambda parts: [0.5, 0.5], "mean of means"),
    (check_weights, lambda parts: [float(len(part)) for part in parts], "do not add up to 1"),
    (check_weights, lambda parts: [0.25, 0.75], "turned around"),
    (check_weights, lambda parts: [1.0], "1 weights for 2"),
]


@pytest.mark.parametrize(("check", "answer", "words"), WRONG)
def test_a_mistake_is_named(check, answer, words, diagnosed):
    diagnosed(check, answer, words)


def test_right_answers_pass_in_other_words():
    assert check_unigram(lambda c, y: torch.nn.functional.nll_loss(
        (c / c.sum()).log()[None].expand(len(y), -1), y)) == "right"
    assert check_schedule(schedule) == "right"
    assert check_weights(lambda parts: torch.tensor([3, 1]) / 4) == "right"
