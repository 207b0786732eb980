"""The checkers of notebook 07 name the mistake that was made."""

import math

import numpy as np
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
    (check_unigram, lambda c, y: c.log_softmax(0)[y].mean().neg(), "softmax is taken"),
    (check_unigram, lambda c, y: -c.log()[y].mean(), "not divided by their sum"),
    (check_unigram, lambda c, y: -shares(c)[y].mean().log(), "mean of the logarithms"),
    (check_unigram, lambda c, y: -shares(torch.bincount(y)).log()[y].mean(), "those of training"),
    (check_unigram, lambda c, y: -(c / 8).log()[y].mean(), "but not for 5, 0, 1, 9, 5"),
    (check_unigram, lambda c, y: -shares(c.add_(1)).log()[y].mean(), "c itself was changed"),
    (check_unigram, lambda c, y: -shares(c).log()[y], "one number is asked"),
    (check_unigram, lambda c, y: "0.9", "it returns str, not a number"),
    (check_schedule, lambda step, *rest: schedule(step), "use the arguments"),
    (check_schedule, lambda step, warmup=10, end=110, floor=0.1: schedule(step, warmup, end, 0.1),
     "use the arguments"),
    (check_schedule, lambda step, *rest: schedule(step, *rest) ** (1 + (step == 4)), "equal steps"),
    (check_schedule, lambda step: [schedule(step)], "the shape is (1,)"),
    (check_schedule, lambda step: schedule(step), "TypeError"),
    (check_schedule, lambda step: schedule(step, first=0), "step 0 should be 1/warmup"),
    (check_schedule, line, "a straight line is no cosine"),
    (check_schedule, lambda step: schedule(step, floor=0.0), "midway between peak and floor"),
    (check_schedule, lambda step: schedule(step) if step <= 110 else 1.0, "rise again"),
    (check_weights, lambda parts: [1.0, 1.0], "twice the gradient"),
    (check_weights, lambda parts: [0.5, 0.5], "mean of means"),
    (check_weights, lambda parts: [float(len(part)) for part in parts], "do not add up to 1"),
    (check_weights, lambda parts: [0.25, 0.75], "turned around"),
    (check_weights, lambda parts: [1.0], "1 weights for 2"),
    (check_weights, lambda parts: torch.tensor([3, 1]) / 4, "2 weights for 3"),
    (check_weights, lambda parts: [0.75, 0.25, 0][:len(parts)], "parts of 1, 2 and 5"),
    (check_weights, lambda parts: [part.sum() / sum(p.sum() for p in parts) for part in parts],
     "count the hidden words"),
    (check_weights, lambda parts: [len(parts.pop()) / 4 for _ in (1, 2)], "parts itself"),
    (check_weights, lambda parts: 0.75, "one number, not a list"),
]


@pytest.mark.parametrize(("check", "answer", "words"), WRONG)
def test_a_mistake_is_named(check, answer, words, diagnosed):
    diagnosed(check, answer, words)


def test_right_answers_pass_in_other_words():
    assert check_unigram(lambda c, y: torch.nn.functional.nll_loss(
        (c / c.sum()).log()[None].expand(len(y), -1), y)) == "right"
    assert check_schedule(schedule) == "right"
    assert check_unigram(lambda c, y: sum(math.log(c.sum() / c[n]) for n in y) / len(y)) == "right"
    assert check_schedule(lambda *given: torch.tensor([schedule(*given)])) == "right"
    lengths = [lambda parts: torch.tensor([float(len(part)) for part in parts]),
               lambda parts: np.array([part.numel() for part in parts])]
    for counts in lengths:
        assert check_weights(lambda parts, counts=counts: shares(counts(parts))) == "right"
    assert check_weights(lambda parts: (len(p) / len(torch.cat(parts)) for p in parts)) == "right"
