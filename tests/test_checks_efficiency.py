"""The checkers of notebook 12 name the mistake that was made."""

import numpy as np
import pytest
import torch

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
    (check_head, lambda width, words, share: 6 * width * words * 0.15, "but not for 96"),
    (check_head, lambda width, words, share: "many", "it returns str, not a number"),
    (check_minutes, lambda curve, goal: 3.6 if goal == 0.28 else minutes(curve, goal) and min(
        minutes(curve, goal), 7.0), "two thirds"),
    (check_minutes, lambda curve, goal: str(minutes(curve, goal)), "not a number"),
    (check_minutes, lambda curve, goal: minutes(curve, goal) if goal < 1 and curve.sort(
        key=lambda point: -point[0]) else minutes(sorted(curve), goal), "curve itself"),
    (check_minutes, lambda curve, goal: curve[goal], "TypeError"),
    (check_rows, lambda rank, world, total: range(2 * rank, 2 * rank + 2), "2 ranks and 6 rows"),
    (check_rows, lambda rank, world, total: rank * 2, "one number, not the rows"),
    (check_rows, lambda rank, world, total: [[0, 1, 2], [3], [4, 5], [6, 7]][rank], "not equal"),
    (check_difference, difference(1, lambda a, b: a / 3 + b / 4), "the root is missing"),
    (check_difference, difference(0, lambda a, b: np.sqrt(a + b)), "single runs, and variances"),
    (check_difference, difference(1, lambda a, b: np.sqrt(a / 3)), "the first mean alone"),
    (check_difference, difference(1, lambda a, b: np.sqrt(a / 3 + b / 4)), "the error is another"),
    (check_difference, lambda one, other: one.mean() - other.mean(), "return two numbers"),
    (check_difference, lambda one, other: (np.subtract(one, one, out=one).sum(), 0), "one itself"),
    (check_difference, lambda one, other: (0.0, 0.0), "mean(ours) - mean(theirs)"),
]


@pytest.mark.parametrize(("check", "answer", "words"), WRONG)
def test_a_mistake_is_named(check, answer, words, diagnosed):
    diagnosed(check, answer, words)


def welch(ours, theirs):
    return ours.mean() - theirs.mean(), np.sqrt(sum(np.var(x, ddof=1) / len(x)
                                                    for x in (ours, theirs)))


def by_hand(ours, theirs):
    means = [sum(x) / len(x) for x in (ours, theirs)]
    squares = [sum((value - mean) ** 2 for value in x) / (len(x) - 1) / len(x)
               for x, mean in zip((ours, theirs), means, strict=True)]
    return [torch.tensor(means[0] - means[1]), sum(squares) ** 0.5]


def interpolated(curve, goal):
    times, values = map(np.array, zip(*curve, strict=True))
    reached = np.flatnonzero(values >= goal)
    if len(reached):
        two = slice(reached[0] - 1, reached[0] + 1)
        return np.interp(goal, values[two], times[two])


RIGHT = [
    (check_head, lambda width, words, share: 6 * width * words * share),
    (check_head, lambda width, words, share: torch.tensor([3 * 2 * width * words * share])),
    (check_minutes, minutes), (check_minutes, interpolated),
    (check_rows, lambda rank, world, total: range(total)[rank * (n := total // world):][:n]),
    (check_rows, lambda rank, world, total: torch.arange(total).chunk(world)[rank]),
    (check_rows, lambda rank, world, total: np.split(np.arange(total), world)[rank].tolist()),
    (check_difference, welch), (check_difference, by_hand),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass_however_they_are_written(check, answer):
    assert check(answer) == "right"
