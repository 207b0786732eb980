"""Checkers of notebook 07: loss of frequencies, PMI, the clock of a run, an error, a forecast."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from bertlib.checks import checker, expect, number
from bertlib.checks.calling import Answer
from bertlib.settings import Settings


@checker
def check_unigram(answer: Answer) -> None:
    """Loss in nats of always answering with the training frequencies."""
    counts, labels = torch.tensor([6.0, 1.0, 1.0]), torch.tensor([0, 1, 1, 2])
    p = counts / counts.sum()
    own = torch.bincount(labels) / len(labels)
    expect(answer(counts, labels), -float(p.log()[labels].mean()), {
        "the loss is 0: the stub still stands": 0.0,
        "the logarithm has base 2; nats need the natural one": -float(p.log2()[labels].mean()),
        "this is the entropy of training; average over the labels": -float((p * p.log()).sum()),
        "this is the entropy of the labels; the frequencies are those of training":
            -float((own * own.log()).sum()),
        "the sign is turned around": float(p.log()[labels].mean()),
        "you added up; take the mean": -float(p.log()[labels].sum()),
        "softmax is taken of the counts; a frequency is count / sum":
            -float(counts.log_softmax(0)[labels].mean()),
        "the counts are not divided by their sum": -float(counts.log()[labels].mean()),
        "that is the logarithm of the mean; take the mean of the logarithms":
            -float(p[labels].mean().log()),
    }, "another number")
    counts, labels = torch.tensor([5, 0, 1, 9, 5]), torch.tensor([4, 3, 3])
    expect(answer(counts, labels), -float((counts / 20).log()[labels].mean()),
           hint="right for counts 6, 1, 1, but not for 5, 0, 1, 9, 5 and the labels 4, 3, 3")


def information_mistakes(pairs: Tensor) -> dict[str, Tensor]:
    """Mistake in words -> the table that it returns; under "" the right one."""
    joint = pairs / pairs.sum()  # [V, C]
    word, often = joint.sum(1, keepdim=True), joint.sum(0)

    def table(word: Tensor, context: Tensor, joint: Tensor = joint) -> Tensor:
        return (joint / (word * context)).log().clamp(min=0)

    powered = often**0.75
    context = powered / powered.sum()
    plain = (joint / (word * context)).log()
    return {
        "": plain.clamp(min=0),
        "the counts come back as they were": pairs,
        "below 0 there should be 0, also where a pair never occurs (its logarithm is -inf)": plain,
        "the power 0.75 of the contexts is missing": table(word, often),
        "the contexts do not add up to 1 after the power 0.75": table(word, powered),
        "the power belongs to the contexts (columns), not to the words (rows)":
            table(word**0.75 / (word**0.75).sum(), often),
        "words have the power 0.75, too; only contexts should":
            table(word**0.75 / (word**0.75).sum(), context),
        "the logarithm is missing": joint / (word * context),
        "the logarithm has base 2; nats need the natural one": (plain / math.log(2)).clamp(min=0),
        "what chance would do is missing: divide by p(word) q(context)": table(word, context**0),
        "the pairs are counts; divide them by their sum": table(word, context, pairs),
    }


@checker
def check_positive_pmi(answer: Answer) -> None:
    """`answer(pairs [V, C])` returns the positive pointwise mutual information [V, C]."""
    pairs = torch.tensor([[8.0, 1.0, 0.0], [1.0, 6.0, 2.0], [0.0, 1.0, 1.0], [4.0, 4.0, 1.0]])
    mistakes = information_mistakes(pairs)
    right = mistakes.pop("")
    got = answer(pairs.clone())
    expect(got, right, mistakes, "ln of p(word, context) / (p(word) q(context)), at least 0")
    wide = torch.rand(5, 9, generator=torch.Generator().manual_seed(0))
    expect(answer(wide), information_mistakes(wide)[""],
           hint="right for a table of 4 x 3, but not for one of 5 x 9")


@checker
def check_progress(answer: Answer) -> None:
    """`answer(step, seconds, settings)` returns the share of a run that is done, 0..1."""
    timed = replace(Settings.make("cpu"), max_iters=400, budget_minutes=2.0)
    moments = ((100, 60.0), (300, 30.0), (0, 0.0), (400, 10.0), (10, 130.0))
    steps, clock = [step / 400 for step, _ in moments], [seconds / 120 for _, seconds in moments]
    larger = [max(pair) for pair in zip(steps, clock, strict=True)]
    right = [min(1.0, share) for share in larger]
    expect([number(answer(*moment, timed)) for moment in moments], right, {
        "the run also ends at max_iters; what is nearer to its end counts":
            [min(1.0, share) for share in clock],
        "the run also ends at max_iters, and after the last second it should stay at 1": clock,
        "the clock is not looked at: budget_minutes": steps,
        "the *smaller* share is taken; the run ends when the first limit is reached":
            [min(pair) for pair in zip(steps, clock, strict=True)],
        "budget_minutes are minutes, and the clock tells seconds":
            [min(1.0, max(share, 60 * time)) for share, time in zip(steps, clock, strict=True)],
        "after the last step or the last second it should stay at 1": larger,
        "that is the share that is left": [1 - share for share in right],
        "the two shares are added; take the larger one":
            [min(1.0, sum(pair)) for pair in zip(steps, clock, strict=True)],
    }, f"for the steps and seconds {moments} of 400 and 120 it should be {right}")
    expect(answer(100, 1e6, replace(timed, budget_minutes=0.0)), 0.25,
           hint="budget_minutes = 0 means that only steps count")


def error_mistakes(values: Tensor, group: Tensor) -> dict[str, float]:
    """Mistake in words -> the error that it returns; under "" the right one."""
    rows = [values[group == n] for n in group.unique()]
    apart = torch.stack([(row - values.mean()).sum() for row in rows])
    means = torch.stack([row.mean() for row in rows])
    many, whole = len(rows), len(values)
    right = (apart.square().sum() * many / (many - 1)).sqrt() / whole
    last = int(group.max()) + 1
    return {name: float(value) for name, value in {
        "": right,
        "each value counts by itself; those of one stretch share their luck":
            values.std() / whole**0.5,
        "each value counts by itself; those of one stretch share their luck (and K - 1)":
            values.std(correction=0) / whole**0.5,
        "a short stretch counts as much as a long one; add up differences, not means":
            means.std() / many**0.5,
        "that is the spread of one stretch's mean, not the error of the mean of all": means.std(),
        "the factor G / (G - 1) is missing": apart.square().sum().sqrt() / whole,
        "G counts numbers that no value has; take those that occur":
            (apart.square().sum() * last / (last - 1)).sqrt() / whole,
        "the root is missing": apart.square().sum() * many / (many - 1) / whole**2,
        "divide by the number of values, not of stretches": right * whole / many,
        "divide by the number of values": right * whole,
        "differences of unlike sign cancel: square them before you add": 0.0,
    }.items()}


@checker
def check_standard_error(answer: Answer) -> None:
    """`answer(values [K], group [K])` returns the standard error of the mean, by groups."""
    values = torch.tensor([1.0, 2.0, 4.0, 7.0, 7.5, 9.0, 3.0, 2.5, 2.0])
    group = torch.tensor([0, 0, 0, 1, 1, 1, 1, 4, 4])
    mistakes = error_mistakes(values, group)
    right = mistakes.pop("")
    expect(answer(values.clone(), group.clone()), right, mistakes,
           "for each stretch the sum of (value - mean of all); square, add, root, divide by K",
           tolerance=1e-3)
    values = torch.rand(40, generator=torch.Generator().manual_seed(3))
    group = torch.arange(40).flip(0) // 7
    expect(answer(values, group), error_mistakes(values, group)[""],
           hint="right for 9 values, but not for 40, whose stretches come in falling order",
           tolerance=1e-3)


def line_at(x: Tensor, y: Tensor, at: float) -> float:
    """The line of least squares through points (x, y), at one place."""
    apart = x - x.mean()
    return float(y.mean() + (apart * y).sum() / apart.square().sum() * (at - x.mean()))


def forecast_mistakes(tokens: Tensor, losses: Tensor, at: float) -> dict[str, float]:
    """Mistake in words -> the forecast that it returns; under "" the right one."""
    x, y, goal = tokens.double().log(), losses.double(), math.log(at)
    ends, last = [0, -1], [-2, -1]
    flat = x - x.mean()
    return {
        "": line_at(x, y, goal),
        "that is the last loss; nothing is extended": float(y[-1]),
        "that is the mean of the losses": float(y.mean()),
        "the line goes through tokens; take their logarithm": line_at(tokens.double(), y, at),
        "the place `at` needs a logarithm, too": line_at(x, y, at),
        "the logarithm of the losses is taken, too": math.exp(line_at(x, y.log(), goal)),
        "only the last two points are used; fit all": line_at(x[last], y[last], goal),
        "only the first and the last point are used; fit all": line_at(x[ends], y[ends], goal),
        "the line does not pass through the means: it is a slope without a level":
            float((flat * y).sum() / flat.square().sum() * goal),
    }


@checker
def check_forecast(answer: Answer) -> None:
    """`answer(tokens [n], losses [n], at)` extends the line of losses over ln(tokens)."""
    tokens = torch.tensor([1e6, 2e6, 4e6, 5e6])
    losses = torch.tensor([4.2, 3.5, 3.3, 3.1])
    mistakes = forecast_mistakes(tokens, losses, 1e7)
    right = mistakes.pop("")
    expect(answer(tokens.clone(), losses.clone(), 1e7), right, mistakes,
           "the line of least squares through (ln tokens, loss), at ln `at`", tolerance=1e-3)
    tokens, losses = torch.tensor([3.0, 9.0, 12.0, 40.0, 50.0]), torch.tensor([5.0, 4, 4.5, 3, 2])
    expect(answer(tokens, losses, 100.0), forecast_mistakes(tokens, losses, 100.0)[""],
           hint="right for four looks, but not for five others", tolerance=1e-3)
