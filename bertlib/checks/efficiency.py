"""Checkers of notebook 12: FLOP of a head, minutes to a goal, shares of ranks, a difference."""

from functools import partial

import numpy as np

from bertlib.checks import Answer, NotYet, checker, expect, require, same


@checker
def check_head(answer: Answer) -> None:
    """FLOP a token of a masked-only head, forward and backward."""
    right = 6 * 256 * 8192 * 0.15
    mistakes = {
        "the stub still stands": 0.0,
        "that is the forward pass alone; backward costs twice as much again": right / 3,
        "that is backward alone": right * 2 / 3,
        "that is the head on all positions": right / 0.15,
        "a multiplication *and* an addition: 2 FLOP for each pair": right / 2,
    }
    got = float(answer(256, 8192, 0.15))  # millions: compared as shares of the right number
    expect(got / right, 1.0, {words: value / right for words, value in mistakes.items()},
           "another number", tolerance=1e-3)


@partial(checker, guard=False)  # None is an answer
def check_minutes(answer: Answer) -> None:
    """When a curve first reaches a goal, straight lines between its points."""
    curve = [(0, 0.0), (2, 0.2), (4, 0.3), (6, 0.25), (8, 0.4)]
    tests = (
        (0.25, 3.0, "between 2 and 4 minutes lie 0.2 and 0.3; 0.25 is half-way"),
        (0.28, 3.6, "take the first crossing; the curve falls and rises again later"),
        (0.3, 4.0, "a point that is exactly at the goal has reached it"),
    )
    for goal, value, words in tests:
        got = answer(curve, goal)
        require(got is not None, "nothing came back; the stub still stands?")
        require(same(got, value, 1e-6), f"{words}; {goal} returned {got:.3g}")
    require(answer(curve, 0.9) is None, "0.9 is never reached: None")


@checker
def check_rows(answer: Answer) -> None:
    """Each rank's share of the rows: all of them, none twice, in order."""
    parts = [list(answer(rank, 4, 8)) for rank in range(4)]
    every = [row for part in parts for row in part]
    require(len(every) <= 8, f"{len(every)} rows in all; some row is trained on more than once")
    require(sorted(every) == list(range(8)), "some rows are left out, or taken twice")
    require(parts[0] != [0, 4],
            "every fourth row is a fair share, but the order asked for is 0, 1 | 2, 3")
    require(every == list(range(8)), "the ranks are out of order")
    require(all(len(part) == 2 for part in parts), "the shares are not equal")


@checker
def check_difference(answer: Answer) -> None:
    """The difference of two means and its standard error."""
    ours, theirs = np.array([0.30, 0.32, 0.31]), np.array([0.28, 0.29, 0.30, 0.29])
    got = answer(ours, theirs)
    if not isinstance(got, tuple | list) or len(got) != 2:
        raise NotYet("return two numbers: the difference and its error")
    require(same(float(got[0]), 0.02, 1e-7),
            "the first number should be mean(ours) - mean(theirs) = 0.02")
    one, other = np.var(ours, ddof=1), np.var(theirs, ddof=1)
    expect(float(got[1]), float(np.sqrt(one / 3 + other / 4)), {
        "variances of a sample divide by n - 1 (ddof=1)":
            float(np.sqrt(np.var(ours) / 3 + np.var(theirs) / 4)),
        "that is the spread of single runs; a mean of n is steadier by sqrt(n)":
            float(np.sqrt(one + other)),
        "variances add up, standard deviations do not":
            float(one**0.5 / 3**0.5 + other**0.5 / 2),
    }, "the error is another number", tolerance=1e-7)
