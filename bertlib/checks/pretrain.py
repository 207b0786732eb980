"""Checkers of notebook 07: the unigram loss, a schedule, weights of micro batches."""

import math

import torch

from bertlib.checks import checker, expect, number, require
from bertlib.checks.calling import Answer


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


@checker
def check_schedule(answer: Answer) -> None:
    """Warm-up by equal steps, half a cosine down to the floor, then the floor."""
    tests = (
        (0, 0.1, "step 0 should be 1/warmup: a rate of 0 wastes a step, 1 is no warm-up"),
        (4, 0.5, "the climb is by equal steps, 1/warmup each"),
        (9, 1.0, "step warmup - 1 should have reached the peak"),
        (60, 0.55, "half-way the cosine lies midway between peak and floor"),
        (35, 0.1 + 0.9 * (1 + 0.5**0.5) / 2, "between, it bends: a straight line is no cosine"),
        (110, 0.1, "at the end the floor is reached, not zero"),
        (500, 0.1, "after the end it stays at the floor (a cosine would rise again)"),
    )
    for step, value, words in tests:
        got = number(answer(step))
        told = f"{got:.3g}" if isinstance(got, int | float) else "it"
        expect(got, value, hint=f"{words}; step {step} returned {told}")
    for step in (0, 3, 4, 9, 14, 24, 30):
        done = min(1.0, (step - 4) / 20)
        right = (step + 1) / 4 if step < 4 else 0.2 + 0.8 * (1 + math.cos(math.pi * done)) / 2
        expect(answer(step, 4, 24, 0.2), right, hint="right by default, but not with warmup=4, "
               f"end=24, floor=0.2: step {step} should be at {right:.3g}; use the arguments")


@checker
def check_weights(answer: Answer) -> None:
    """Weights of micro batches' means, so that the sum is the large batch's mean."""
    for parts in ([[1.0, 2.0, 3.0], [10.0]], [[4.0], [0.5, 0.25], [1.0] * 5]):
        lengths, sums = [len(part) for part in parts], [sum(part) for part in parts]
        total, n = sum(lengths), len(parts)
        got = answer([torch.tensor(part) for part in parts])
        require(not isinstance(got, int | float), "it returns one number, not a list of weights")
        got = [number(weight) for weight in got]
        require(len(got) == n, f"there are {len(got)} weights for {n} micro batches")
        expect(got, [length / total for length in lengths], {
            "the losses are added up; two micro batches make twice the gradient": [1.0] * n,
            "a mean of means; the lone word of the second part counts three times": [1 / n] * n,
            "the weights do not add up to 1; divide by all hidden words":
                [float(length) for length in lengths],
            "turned around: the part with more hidden words weighs more":
                [(total - length) / total / (n - 1) for length in lengths],
            "the losses themselves decide; count the hidden words": [x / sum(sums) for x in sums],
        }, "the weights are others" if n == 2 else
            "right for parts of 3 and 1 words, but not for parts of 1, 2 and 5")
