"""The checkers of notebook 07 name the mistake that was made."""

import itertools
import math

import numpy as np
import pytest
import torch

from bertlib.checks import pretrain as checks
from bertlib.checks import same
from bertlib.checks.pretrain import (
    check_forecast,
    check_positive_pmi,
    check_progress,
    check_standard_error,
    check_unigram,
)
from bertlib.counts import positive_pmi


def shares(counts):
    return counts / counts.sum()


def information(pairs, power=0.75, words=1.0, low=0.0):
    joint = shares(pairs)
    chance = shares(joint.sum(1) ** words)[:, None] * shares(joint.sum(0) ** power)
    return (joint / chance).log().clamp(min=low)


def progress(step, seconds, settings):
    done = step / settings.max_iters
    if settings.budget_minutes:
        done = max(done, seconds / 60 / settings.budget_minutes)
    return min(done, 1.0)


def clock(step, seconds, settings):
    return min(1.0, seconds / 60 / settings.budget_minutes)


def error(values, group, of=None, factor=True):
    _, place = group.unique(return_inverse=True)
    sums = torch.zeros(int(place.max()) + 1).index_add_(0, place, values - values.mean())
    many = len(sums)
    scale = many / (many - 1) if factor else 1.0
    return (sums.square().sum() * scale).sqrt() / (of or len(values))


def counted_up(values, group):
    sums = torch.zeros(int(group.max()) + 1).index_add_(0, group, values - values.mean())
    return (sums.square().sum() * len(sums) / (len(sums) - 1)).sqrt() / len(values)


def by_means(values, group):
    means = torch.stack([values[group == n].mean() for n in group.unique()])
    return means.std() / len(means) ** 0.5


def fitted(x, y, at):
    slope, level = np.polyfit(np.asarray(x, float), np.asarray(y, float), 1)
    return level + slope * at


def forecast(tokens, losses, at):
    return fitted(tokens.log(), losses, math.log(at))


WRONG = [
    (check_unigram, lambda c, y: torch.tensor(0.0), "the stub still stands"),
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
    (check_positive_pmi, lambda n: n, "come back as they were"),
    (check_positive_pmi, lambda n: information(n, low=-math.inf), "-inf"),
    (check_positive_pmi, lambda n: information(n, power=1.0), "power 0.75 of the contexts"),
    (check_positive_pmi, lambda n: information(n, words=0.75), "words have the power"),
    (check_positive_pmi, lambda n: information(n, power=1.0, words=0.75), "not to the words"),
    (check_positive_pmi, lambda n: information(n, low=-math.inf).exp(), "logarithm is missing"),
    (check_positive_pmi, lambda n: information(n) / math.log(2), "base 2"),
    (check_positive_pmi, lambda n: information(n.T).T, "not to the words"),
    (check_positive_pmi, lambda n: information(n) * (len(n) == 4), "but not for one of 5 x 9"),
    (check_positive_pmi, lambda n: 2 * information(n), "ln of p(word, context)"),
    (check_positive_pmi, lambda n: information(n.mul_(2)), "n itself was changed"),
    (check_progress, lambda step, seconds, one: 0.0, "it should be [0.5"),
    (check_progress, lambda step, seconds, one: step / one.max_iters, "clock is not looked at"),
    (check_progress, clock, "the run also ends at max_iters"),
    (check_progress, lambda step, seconds, one: min(1.0, step / 400, seconds / 120), "smaller"),
    (check_progress, lambda step, seconds, one: min(1, max(step / 400, seconds / 2)), "minutes"),
    (check_progress, lambda step, seconds, one: max(step / 400, seconds / 120), "stay at 1"),
    (check_progress, lambda *given: 1 - progress(*given), "share that is left"),
    (check_progress, lambda step, seconds, one: min(1, step / 400 + seconds / 120), "added"),
    (check_progress, lambda step, seconds, one: max(min(1, step / 400), clock(step, seconds, one)),
     "ZeroDivisionError"),
    (check_progress, lambda step, seconds, one: min(1, max(step / 400, seconds / 120)),
     "only steps count"),
    (check_standard_error, lambda x, g: x.std() / 3, "by itself"),
    (check_standard_error, lambda x, g: x.std(correction=0) / 3, "by itself"),
    (check_standard_error, by_means, "a short stretch counts as much"),
    (check_standard_error, lambda x, g: by_means(x, g) * 3**0.5, "spread of one stretch"),
    (check_standard_error, lambda x, g: error(x, g, factor=False), "G / (G - 1) is missing"),
    (check_standard_error, counted_up, "numbers that no value has"),
    (check_standard_error, lambda x, g: error(x, g) ** 2, "root is missing"),
    (check_standard_error, lambda x, g: error(x, g, of=3), "not of stretches"),
    (check_standard_error, lambda x, g: error(x, g, of=1), "divide by the number of values"),
    (check_standard_error, lambda x, g: (x - x.mean()).sum(), "cancel"),
    (check_standard_error, lambda x, g: error(x, g, of=9), "but not for 40"),
    (check_forecast, lambda t, y, at: y[-1], "nothing is extended"),
    (check_forecast, lambda t, y, at: y.mean(), "mean of the losses"),
    (check_forecast, fitted, "take their logarithm"),
    (check_forecast, lambda t, y, at: fitted(t.log(), y, at), "`at` needs a logarithm"),
    (check_forecast, lambda t, y, at: math.exp(forecast(t, y.log(), at)), "of the losses is taken"),
    (check_forecast, lambda t, y, at: forecast(t[-2:], y[-2:], at), "last two"),
    (check_forecast, lambda t, y, at: forecast(t[[0, -1]], y[[0, -1]], at), "first and the last"),
    (check_forecast, lambda t, y, at: forecast(t[:4], y[:4], at), "but not for five others"),
    (check_forecast, lambda t, y, at: None, "returns nothing"),
]


@pytest.mark.parametrize(("check", "answer", "words"), WRONG)
def test_a_mistake_is_named(check, answer, words, diagnosed):
    diagnosed(check, answer, words)


def least_squares(tokens, losses, at):
    x = torch.stack([torch.ones(len(tokens)), tokens.log10()], 1)
    level, slope = torch.linalg.lstsq(x, losses[:, None]).solution[:, 0]
    return level + slope * math.log10(at)


def by_loop(values, group):
    kinds, mean = set(group.tolist()), values.mean()
    total = sum(float((values[group == n] - mean).sum()) ** 2 for n in kinds)
    return math.sqrt(total * len(kinds) / (len(kinds) - 1)) / len(values)


RIGHT = [
    (check_unigram, lambda c, y: torch.nn.functional.nll_loss(
        (c / c.sum()).log()[None].expand(len(y), -1), y)),
    (check_unigram, lambda c, y: sum(math.log(c.sum() / c[n]) for n in y) / len(y)),
    (check_positive_pmi, information), (check_positive_pmi, positive_pmi),
    (check_progress, progress),
    (check_progress, lambda *given: torch.tensor([progress(*given)])),
    (check_standard_error, error), (check_standard_error, by_loop),
    (check_forecast, forecast), (check_forecast, least_squares),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass_in_other_words(check, answer):
    assert check(answer) == "right"


@pytest.mark.parametrize("values", [
    checks.error_mistakes(torch.tensor([1.0, 2, 4, 7, 7.5, 9, 3, 2.5, 2]),
                          torch.tensor([0, 0, 0, 1, 1, 1, 1, 4, 4])),
    checks.forecast_mistakes(torch.tensor([1e6, 2e6, 4e6, 5e6]),
                             torch.tensor([4.2, 3.5, 3.3, 3.1]), 1e7),
    checks.information_mistakes(torch.tensor([[8.0, 1, 0], [1, 6, 2], [0, 1, 1], [4, 4, 1]])),
])
def test_no_two_mistakes_look_alike(values):
    assert not [pair for pair in itertools.combinations(values, 2)
                if same(values[pair[0]], values[pair[1]], 1e-3)]
