"""Checkers of notebook 07: the unigram loss, a schedule, weights of micro batches."""

import torch

from bertlib.checks import Answer, NotYet, checker, expect, require, same


@checker
def check_unigram(answer: Answer) -> None:
    """Loss in nats of always answering with the training frequencies."""
    counts, labels = torch.tensor([6.0, 1.0, 1.0]), torch.tensor([0, 1, 1, 2])
    p = counts / counts.sum()
    expect(float(answer(counts, labels)), -float(p.log()[labels].mean()), {
        "the loss is 0: the stub still stands": 0.0,
        "the logarithm has base 2; nats need the natural one": -float(p.log2()[labels].mean()),
        "this is the entropy of training; average over the labels": -float((p * p.log()).sum()),
        "the sign is turned around": float(p.log()[labels].mean()),
        "you added up; take the mean": -float(p.log()[labels].sum()),
    }, "another number")


@checker
def check_schedule(answer: Answer) -> None:
    """Warm-up by equal steps, half a cosine down to the floor, then the floor."""
    tests = (
        (0, 0.1, "step 0 should be 1/warmup: a rate of 0 wastes a step, 1 is no warm-up"),
        (9, 1.0, "step warmup - 1 should have reached the peak"),
        (60, 0.55, "half-way the cosine lies midway between peak and floor"),
        (35, 0.1 + 0.9 * (1 + 0.5**0.5) / 2, "between, it bends: a straight line is no cosine"),
        (110, 0.1, "at the end the floor is reached, not zero"),
        (500, 0.1, "after the end it stays at the floor (a cosine would rise again)"),
    )
    for step, value, words in tests:
        got = answer(step)
        require(same(got, value), f"{words}; step {step} returned {got:.3g}")


@checker
def check_weights(answer: Answer) -> None:
    """Weights of micro batches' means, so that the sum is the large batch's mean."""
    parts = [torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0])]
    got = [float(weight) for weight in answer(parts)]
    if len(got) != len(parts):
        raise NotYet(f"there are {len(got)} weights for {len(parts)} micro batches")
    expect(got, [0.75, 0.25], {
        "the losses are added up; two micro batches make twice the gradient": [1.0, 1.0],
        "a mean of means; the lone word of the second part counts three times": [0.5, 0.5],
        "the weights do not add up to 1; divide by all hidden words": [3.0, 1.0],
        "turned around: the part with more hidden words weighs more": [0.25, 0.75],
    }, "the weights are others")
