"""Checkers of notebook 12: FLOP of a head, minutes to a goal, shares of ranks, a difference."""

from functools import partial
from itertools import chain

import numpy as np

from bertlib.checks import checker, expect, number, require
from bertlib.checks.calling import Answer


@checker
def check_head(answer: Answer) -> None:
    """FLOP a token of a masked-only head, forward and backward."""
    for width, words, share in ((256, 8192, 0.15), (96, 1000, 0.4)):
        right = 6 * width * words * share
        mistakes = {
            "the stub still stands": 0.0,
            "that is the forward pass alone; backward costs twice as much again": right / 3,
            "that is backward alone": right * 2 / 3,
            "that is the head on all positions": right / share,
            "a multiplication *and* an addition: 2 FLOP for each pair": right / 2,
        }
        expect(answer(width, words, share), right, mistakes, "another number" if width == 256 else
               "right for 256, 8192 and 0.15, but not for 96, 1000 and 0.4", tolerance=1e-3)


@partial(checker, guard=False)  # None is an answer
def check_minutes(answer: Answer) -> None:
    """When a curve first reaches a goal, straight lines between its points."""
    curve = [(0, 0.0), (2, 0.2), (4, 0.3), (6, 0.25), (8, 0.4)]
    tests = (
        (0.25, 3.0, "between 2 and 4 minutes lie 0.2 and 0.3; 0.25 is half-way"),
        (0.28, 3.6, "take the first crossing; the curve falls and rises again later"),
        (0.3, 4.0, "a point that is exactly at the goal has reached it"),
        (0.35, 7.333333, "between 6 and 8 minutes lie 0.25 and 0.4; 0.35 is two thirds of the way"),
    )
    for goal, value, words in tests:
        got = number(answer(list(curve), goal))
        require(got is not None, "nothing came back; the stub still stands?")
        told = f"{got:.3g}" if isinstance(got, int | float) else "it"
        expect(got, value, hint=f"{words}; {goal} returned {told}", tolerance=1e-6)
    require(answer(list(curve), 0.9) is None, "0.9 is never reached: None")
    kept = list(curve)
    answer(kept, 0.3)
    require(kept == curve, "curve itself was changed; work on a copy")


@checker
def check_rows(answer: Answer) -> None:
    """Each rank's share of the rows: all of them, none twice, in order."""
    for world, total in ((4, 8), (2, 6), (3, 12), (1, 5)):
        parts = [answer(rank, world, total) for rank in range(world)]
        require(not any(isinstance(part, int | float) for part in parts),
                "it returns one number, not the rows of a rank: return a range")
        parts = [list(map(number, part)) for part in parts]
        every, told = list(chain(*parts)), f"with {world} ranks and {total} rows"
        require(len(every) <= total,
                f"{len(every)} rows in all; some row is trained on more than once")
        require(sorted(every) == list(range(total)), f"{told} some are left out, or taken twice")
        require(world == 1 or parts[0] != list(range(0, total, world)),
                "every fourth row is a fair share, but the order asked for is 0, 1 | 2, 3")
        require(every == list(range(total)), f"{told} the ranks are out of order")
        require(len({len(part) for part in parts}) == 1, f"{told} the shares are not equal")


@checker
def check_difference(answer: Answer) -> None:
    """The difference of two means and its standard error."""
    for ours, theirs in (([0.30, 0.32, 0.31], [0.28, 0.29, 0.30, 0.29]),
                         ([0.5, 0.1, 0.9, 0.2, 0.6], [0.7, 0.4])):
        got = answer(np.array(ours), np.array(theirs))
        require(isinstance(got, tuple | list) and len(got) == 2,
                "return two numbers: the difference and its error")
        gap, m, n = np.mean(ours) - np.mean(theirs), len(ours), len(theirs)
        one, other = np.var(ours, ddof=1), np.var(theirs, ddof=1)
        raw_one, raw_other = np.var(ours), np.var(theirs)
        expect(got[0], float(gap), {}, "the first number should be mean(ours) - mean(theirs) = "
               f"{gap:.2f}", 1e-7)
        expect(got[1], float(np.sqrt(one / m + other / n)), {
            "variances of a sample divide by n - 1 (ddof=1)": np.sqrt(raw_one / m + raw_other / n),
            "that is the spread of single runs; a mean of n is steadier by sqrt(n)":
                np.sqrt(one + other),
            "that is the spread of single runs, and variances of a sample divide by n - 1":
                np.sqrt(raw_one + raw_other),
            "variances add up, standard deviations do not": np.sqrt(one / m) + np.sqrt(other / n),
            "the root is missing: that is the squared error": one / m + other / n,
            "that is the error of the first mean alone": np.sqrt(one / m),
        }, "the error is another number", tolerance=1e-7)
