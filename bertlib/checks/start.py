"""Checkers of notebook 00: rank of the true word, top-k accuracy, perplexity, temperature."""

import torch
from torch import Tensor

from bertlib.checks import checker, expect, require, same
from bertlib.checks.calling import watched

WORDS = 10  # of the small vocabulary that the checks use


def puzzle(ranks: list[int]) -> tuple[Tensor, Tensor]:
    """Logits [K, V] and labels [K] such that the true word of hole i has rank `ranks[i]`."""
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.empty(len(ranks), WORDS), []
    for row, rank in zip(logits, ranks, strict=True):
        order = torch.randperm(WORDS, generator=generator)  # best first
        row[order] = torch.linspace(2.0, -2.5, WORDS)
        labels.append(int(order[rank - 1]))
    return logits, torch.tensor(labels)


@checker
def check_rank(answer):
    """`answer(logits, label)` returns the rank of the true word, 1 for the best one."""
    logits = torch.tensor([0.1, 2.0, -1.0, 0.7, 1.2, 0.2, -0.4, 0.3])
    label, order = 3, logits.argsort(descending=True)
    got = answer(logits.clone(), label)
    expect(got, 3, {
        "0 is no rank; count the words that score higher, and add 1": 0,
        "the best word has rank 1, not 0; add 1": 2,
        "you counted from the worst word; more is better": 6,
        "you counted the words that score lower; more is better, and the best has rank 1": 5,
        "that is the id of the best word, not the rank of the true one": 1,
        "that is the word that stands at place `label` of the order; ask the other way round: "
        "at which place does `label` stand?": int(order[label]),
        "that is the true word's logit; count how many are higher": 0.7,
        "that is the true word's probability; count how many are higher":
            float(logits.softmax(0)[label]),
    }, "another number than 3 for scores 0.1, 2, -1, 0.7, 1.2, 0.2, -0.4, 0.3 and label 3")
    for rank in (1, 4, WORDS):
        scores, labels = puzzle([rank])
        expect(answer(scores[0], int(labels[0])), rank,
               hint=f"right for one example, but not for a word of rank {rank} among {WORDS}")
    tied = torch.tensor([1.0, 3.0, 3.0, 0.0])
    for label, rank in ((1, 1), (2, 1), (0, 3)):
        expect(answer(tied.clone(), label), rank,
               hint="right while all scores differ; a word with the very same score does not "
                    "stand above the true one, so count those that are strictly higher")


@checker
def check_top_k(answer):
    """`answer(logits, labels, k)` returns the share of holes whose truth is among the k best."""
    counts = {1: 5, 2: 2, 3: 1, 4: 1, WORDS: 2}  # rank of the true word -> holes
    logits, labels = puzzle([rank for rank, holes in counts.items() for _ in range(holes)])
    total = len(labels)
    got = answer(logits.clone(), labels.clone(), 3)
    expect(got, 8 / total, {
        "it returns 0": 0,
        "only the best guess counts; look at the k best": 5 / total,
        "you took k - 1 guesses": 7 / total,
        "you took k + 1 guesses": 9 / total,
        "only the k-th guess counts; any of the first k will do": 1 / total,
        "these are the k worst words; the highest logits are the best": 2 / total,
        "that is the share of misses": 3 / total,
        "you divided by the number of guesses, k for each hole; divide by the number of holes":
            8 / (3 * total),
        "that is how many holes; divide by their number": 8,
        "that is a percentage; a share lies between 0 and 1": 800 / total,
        "there is one value a hole; take their mean": torch.tensor([1.0] * 8 + [0.0] * 3),
    }, f"another share than {8 / total:.3f}; {total} holes, 8 of them with the truth among 3")
    expect(answer(logits, labels, 1), 5 / total,
           hint="right for k=3, but with k=1 it should be the share of right first guesses")
    expect(answer(logits, labels, WORDS), 1.0,
           hint="with k as large as the vocabulary every hole counts")


@checker
def check_perplexity(answer):
    """`answer(losses)` returns the perplexity of losses [K] in nats, one number."""
    losses = torch.tensor([1.0, 2.0, 6.0])
    mean = losses.mean()
    got = answer(losses.clone())
    expect(got, float(mean.exp()), {
        "you took exp of each loss and then the mean, so that one bad word drowns the others; "
        "first the mean, then exp": float(losses.exp().mean()),
        "that is the mean loss; exp is missing": float(mean),
        "losses in nats belong to exp; 2 to the power of the mean is for bits": float(2.0**mean),
        "you took the sum; take the mean": float(losses.sum().exp()),
        "the sign is turned around: that is the typical probability, 1/perplexity":
            float((-mean).exp()),
        "that is the median word's; take the mean": float(losses.median().exp()),
        "that is one value a word; return one number": losses.exp(),
        "that is 10 to the power of the mean; losses in nats belong to exp": float(10.0**mean),
    }, "another number than exp(3) = 20.1 for the losses 1, 2 and 6")
    sure = torch.full((5,), 4.0).log()
    expect(answer(sure), 4.0, hint="four equally likely words should make 4")


@checker
def check_temperature(answer):
    """`answer(logits, temperature)` returns softmax(logits / temperature) over the last axis."""
    answer, called = watched(answer)
    logits = torch.tensor([[2.0, 1.0, 0.5, -1.0], [0.3, -0.2, 1.5, 0.0]])
    hot = 2.0
    right, powers = (logits / hot).softmax(-1), (logits / hot).exp()
    got = answer(logits.clone(), hot)
    expect(got, right, {
        "temperature was not used, and each row should sum to 1, not the whole table":
            logits.exp() / logits.exp().sum(),
        "temperature was not used": logits.softmax(-1),
        "you multiplied by the temperature; divide, so that above 1 the differences shrink":
            (logits * hot).softmax(-1),
        "you divided after softmax; divide the logits": logits.softmax(-1) / hot,
        "exp came first; divide the logits, then take exp, or temperature cancels":
            logits.exp() / hot,
        "the rows do not sum to 1; divide by the sum of each row": powers,
        "the whole table sums to 1; divide by the sum of each row (dim=-1, keepdim=True)":
            powers / powers.sum(),
        "the columns sum to 1; sum over the words, the last axis": (logits / hot).softmax(0),
        "these are logarithms of the shares; take exp": (logits / hot).log_softmax(-1),
        "you divided by the largest power, not by the sum":
            powers / powers.amax(-1, keepdim=True),
        "these are the divided logits; softmax is missing": logits / hot,
    })
    expect(answer(logits.clone(), 0.5), (logits / 0.5).softmax(-1),
           hint="right for temperature 2, but not for 0.5")
    large = torch.as_tensor(answer(torch.tensor([[1000.0, 999.0]]), 1.0))
    require(bool(large.isfinite().all()),
            "exp(1000) is infinite; subtract each row's largest logit first, which changes no "
            "share")
    expect(large, torch.tensor([[1000.0, 999.0]]).softmax(-1),
           hint="right, but not for the logits 1000 and 999")
    rows = torch.tensor([[1000.0, 999.0], [-1000.0, -1001.0]])
    require(same(answer(rows, 1.0), rows.softmax(-1)),
            "each row needs its own largest logit; you subtracted that of the whole table")
    expect(answer(logits[0].clone(), hot), right[0],
           hint="right for a table [K, V], but not for a single row [V]; use the last axis, -1")
    require(not any("softm" in name for name in called),
            "the shares are right, but a softmax of PyTorch makes them; do it with exp and a sum")
