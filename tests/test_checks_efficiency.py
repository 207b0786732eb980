"""The checkers of notebook 12 name the mistake that was made."""

import numpy as np
import pytest

from bertlib.checks.efficiency import check_difference, check_head, check_minutes, check_rows


def minutes(curve, goal, reached=lambda a0, a1, goal: a0 < goal <= a1):
    for (t0, a0), (t1, a1) in zip(curve, curve[1:], strict=False):
        if reached(a0, a1, goal):
            return t0 + (t1 - t0) * (goal - a0) / (a1 - a0)


def last(curve, goal):
    return max((t for t in [minutes(curve[n:], goal) for n in range(len(curve) - 1)]
                if t is not None), default=None)


def difference(ddof, spread):
    return lambda one, other: (one.mean() - other.mean(), spread(
        np.var(one, ddof=ddof), np.var(other, ddof=ddof)))


WRONG = [
    (check_head, lambda width, words, share: 2 * width * words * share, "forward pass alone"),
    (check_head, lambda width, words, share: 6 * width * words, "all positions"),
    (check_head, lambda width, words, share: 3 * width * words * share, "2 FLOP"),
    (check_head, lambda width, words, share: 4 * width * words * share, "backward alone"),
    (check_minutes, lambda curve, goal: next(t for t, a in curve if a >= goal), "half-way"),
    (check_minutes, lambda curve, goal: minutes(curve, goal, lambda a, b, g: a < g < b),
     "exactly at the goal"),
    (check_minutes, lambda curve, goal: None, "nothing came back"),
    (check_minutes, last, "first crossing"),
    (check_minutes, lambda curve, goal: minutes(curve, goal) or 99.0, "never reached"),
    (check_rows, lambda rank, world, total: range(total), "more than once"),
    (check_rows, lambda rank, world, total: range(rank, total, world), "every fourth row"),
    (check_rows, lambda rank, world, total: [rank], "left out"),
    (check_rows, lambda rank, world, total: range(6 - 2 * rank, 8 - 2 * rank), "out of order"),
    (check_difference, difference(0, lambda a, b: np.sqrt(a / 3 + b / 4)), "ddof=1"),
    (check_difference, difference(1, lambda a, b: np.sqrt(a + b)), "single runs"),
    (check_difference, difference(1, lambda a, b: np.sqrt(a / 3) + np.sqrt(b / 4)),
     "standard deviations do not"),
    (check_difference, lambda one, other: (0.0, 0.0), "mean(ours) - mean(theirs)"),
]


@pytest.mark.parametrize(("check", "answer", "words"), WRONG)
def test_a_mistake_is_named(check, answer, words, diagnosed):
    diagnosed(check, answer, words)


def test_right_answers_pass():
    assert check_head(lambda width, words, share: 6 * width * words * share) == "right"
    assert check_minutes(minutes) == "right"
    assert check_rows(lambda rank, world, total: range(2 * rank, 2 * rank + 2)) == "right"
    assert check_difference(difference(1, lambda a, b: np.sqrt(a / 3 + b / 4))) == "right"
