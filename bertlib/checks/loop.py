"""Checkers of what notebook 06 builds: gradients in parts, one step, a score, the loop."""

import math
from copy import deepcopy

import torch
from torch import Tensor, nn

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.checks import checker, expect, number, require
from bertlib.checks.calling import Answer
from bertlib.masking import Masked


def puzzle() -> Masked:
    """Six rows with 1, 2, 3, 1, 0 and 5 holes: [6, 5]; the last row is padded."""
    ids = torch.randint(1, 11, (6, 5), generator=torch.Generator().manual_seed(0))
    positions = torch.tensor([2, 5, 7, 10, 12, 14, 16, 25, 26, 27, 28, 29])
    labels = torch.randint(11, (12,), generator=torch.Generator().manual_seed(1))
    return Masked(ids, positions, labels, torch.arange(5) < torch.tensor([[5]] * 5 + [[4]]))


def small(dropout: float = 0.0) -> BertForMaskedLM:
    """A small model, always the same; the learner's random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return BertForMaskedLM(BertConfig(11, 5, 8, 2, 1, dropout=dropout, init_std=0.3,
                                          attention_dropout=0.0)).train()


def loss_of(model: BertForMaskedLM, batch: Masked) -> Tensor:
    """The mean loss over the hidden words of a batch, in nats."""
    loss = model(batch.input_ids, batch.positions, batch.labels, batch.attention_mask).loss
    assert loss is not None
    return loss


def gradient(model: nn.Module) -> Tensor:
    """All gradients in a row; 0 where there is none."""
    return torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten()
                      for p in model.parameters()])


def gradient_of(parts: list[Masked], shares: list[float]) -> Tensor:
    """The gradient of a weighted sum of the parts' mean losses."""
    model = small()
    for part, share in zip(parts, shares, strict=True):
        (loss_of(model, part) * share).backward()
    return gradient(model)


@checker
def check_accumulate(answer: Answer) -> None:
    """answer(model, micro, masked) -> the loss, gradients of the large batch left in .grad.

    micro: `Masked` parts of one large batch, masked: the hidden words of all of them.
    """
    whole = puzzle()
    parts = [whole.rows(0, 2), whole.rows(2, 5), whole.rows(5, 6)]
    counts, model = [len(part.labels) for part in parts], small()
    masked, n = sum(counts), len(parts)
    losses = [float(loss_of(model, part).detach()) for part in parts]
    got = answer(model, parts, masked)
    found, last = gradient(model), [0.0, 0.0, counts[2] / masked]
    require(bool(found.any()), "no gradient is left; call backward() for each part")
    expect(found, gradient_of([whole], [1.0]), {
        "a mean of means: a part with few hidden words counts as much as one with many":
            gradient_of(parts, [1 / n] * n),
        "the parts are added up as if each were a batch of its own; weight each by its hidden "
        "words": gradient_of(parts, [1.0] * n),
        "only the last part is left; zero_grad() belongs before the first":
            gradient_of(parts, last),
        "only the last part is left, and it is not weighted": gradient_of(parts, [0.0, 0.0, 1.0]),
        "the losses are not means any more: multiply by len(labels) / masked":
            gradient_of(parts, [float(count) for count in counts]),
        "turned around: multiply by len(labels) / masked":
            gradient_of(parts, [masked / count for count in counts]),
    }, "the gradients are others than those of the large batch", tolerance=1e-5)
    require(not isinstance(got, Tensor) or not got.requires_grad, "the loss still holds the whole "
            "graph; return loss.detach() or a number")
    total = sum(loss * count / masked for loss, count in zip(losses, counts, strict=True))
    expect(got, total, {
        "the gradients are right, the loss is that of the last part": losses[-1],
        "the gradients are right, the loss is the last part's share of it":
            losses[-1] * counts[-1] / masked,
        "the gradients are right, the loss is a mean of means": sum(losses) / n,
        "the gradients are right, the losses are added up": sum(losses),
    }, f"the gradients are right, the loss should be {total:.3f}")


def steps() -> list[list[Masked]]:
    """The micro batches of two steps: 1 and 5 hidden words, 1 and 5."""
    whole = puzzle()
    return [[whole.rows(0, 1), whole.rows(1, 3)], [whole.rows(3, 5), whole.rows(5, 6)]]


def step_weights(rate: bool = True, clear: bool = True, each: bool = False, clipped: bool = True,
                 by_words: bool = True) -> Tensor:
    """All weights after two steps of plain gradient descent, rightly or with mistakes."""
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5 if rate else 0.01)
    for micro in steps():
        masked = sum(len(part.labels) for part in micro)
        for part in micro:
            (loss_of(model, part) * (len(part.labels) / masked if by_words else 0.5)).backward()
        for some in [[p] for p in model.parameters()] if each else [list(model.parameters())]:
            if clipped:
                torch.nn.utils.clip_grad_norm_(some, 0.2)
        optimizer.step()
        if clear:
            optimizer.zero_grad()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@checker
def check_step(answer: Answer) -> None:
    """answer(model, optimizer, micro, lr, limit) -> the loss before the step, in nats.

    One step by the mean loss over all hidden words of the `Masked` parts in the list `micro`: at
    the rate `lr`, gradients clipped to a common norm of at most `limit`, none left over from or
    for another step.
    """
    model = small()
    start = torch.cat([p.detach().flatten() for p in model.parameters()])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    first = puzzle().rows(0, 3)  # in one piece
    before = float(loss_of(deepcopy(model), first).detach())
    losses = [answer(model, optimizer, micro, 0.5, 0.2) for micro in steps()]
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    require(not weights.equal(start), "no weight moved: backward() fills the gradients, then "
            "step() uses them; zero_grad() in between would empty them")
    expect(weights, step_weights(), {
        "gradients of the step before are still there: zero_grad()": step_weights(clear=False),
        "the rate is not set: group['lr'] = lr for each group": step_weights(rate=False),
        "the rate is not set, nor are the gradients emptied":
            step_weights(rate=False, clear=False),
        "the gradients are not clipped before the step": step_weights(clipped=False),
        "each tensor is clipped by itself, which turns the step; take one norm over all":
            step_weights(each=True),
        "neither clipped nor emptied": step_weights(clipped=False, clear=False),
        "the rate is not set, nor are the gradients clipped":
            step_weights(rate=False, clipped=False),
        "a mean of means: each part should count by its hidden words":
            step_weights(by_words=False),
    }, "the weights after two steps are others: rate, zero_grad, accumulate, clip, step",
        tolerance=1e-5)
    require(not isinstance(losses[0], Tensor) or not losses[0].requires_grad, "the loss still "
            "holds the whole graph; return a number")
    expect(losses[0], before, hint="the weights are right; return the mean loss over all hidden "
           f"words, taken before the step: {before:.3f}")


@checker
def check_evaluate(answer: Answer) -> None:
    """answer(model, batches) -> (loss, accuracy, count) over all hidden words of all batches.

    Without dropout and gradients; the model is left in the mode in which it came.
    """
    model, whole = small(dropout=0.5), puzzle()
    parts = [whole.rows(0, 2), whole.rows(4, 5), whole.rows(2, 6)]  # the second has no hidden word
    out = deepcopy(model).eval()(whole.input_ids, whole.positions, whole.labels,
                                 whole.attention_mask)
    hits = (out.logits.argmax(-1) == whole.labels).float()
    each = torch.nn.functional.cross_entropy(out.logits, whole.labels, reduction="none").detach()
    split, n = 3, len(whole.labels)
    kept = [p.detach().clone() for p in model.parameters()]
    for mode in (True, False):
        got = answer(model.train(mode), parts)
        require(isinstance(got, tuple | list) and len(got) == 3, "return three numbers: loss, "
                "accuracy, count")
        loss, accuracy, count = map(number, got)
        require(isinstance(loss, int | float), f"the loss is {type(loss).__name__}, not a number")
        halves = [(values[:split].mean() + values[split:].mean()) / 2 for values in (each, hits)]
        expect(loss, each.mean(), {
            "a batch without hidden words makes it not a number; pass it over": math.nan,
            "a mean of means: each hidden word of all batches should count the same": halves[0],
            "the losses are added up": each.sum(), "that is the sum of the means": 2 * halves[0],
            "that is the loss of the last batch": each[split:].mean(),
        }, f"the loss should be {float(each.mean()):.3f}, not {loss:.3f}: is dropout still on? "
           "model.eval()")
        expect(accuracy, hits.mean(), {
            "the accuracy is a mean of means": halves[1],
            "that is the count of right guesses, not their share": hits.sum(),
            "the accuracy is a percentage": 100 * hits.mean(),
            "that is the share of wrong guesses": 1 - hits.mean(),
        }, f"the accuracy should be {float(hits.mean()):.3f}")
        expect(count, n, {"that is the number of batches": 3, "that counts all tokens": 35},
               f"there are {n} hidden words")
        require(model.training == mode, "the model is left in evaluation, though it came in "
                "training" if mode else "the model came in evaluation and is left in training")
    require(all(p.grad is None and p.equal(old) for p, old in zip(
        model.parameters(), kept, strict=True)), "an evaluation changes neither weights nor "
        "gradients")


def run_of(max_iters: int, val_interval: int) -> list[str]:
    """What happens in a run, in its order."""
    events = ["look"]
    for n in range(max_iters):
        events.append(f"step {n}")
        events += ["look"] if (n + 1) % val_interval == 0 and n + 1 < max_iters else []
    return [*events, "look", "save"]


@checker
def check_loop(answer: Answer) -> None:
    """answer(step, look, save, max_iters, val_interval) -> what the last look returned.

    A look before the first step, after every val_interval steps and, once, at the end; then a
    save. `step(n)` is told its number, from 0.
    """
    for n, k in ((6, 2), (5, 3)):
        seen: list[str] = []

        def look(seen: list[str] = seen) -> int:
            seen.append("look")
            return seen.count("look")

        got = answer(lambda number, seen=seen: seen.append(f"step {number}"), look,
                     lambda seen=seen: seen.append("save"), n, k)
        right, steps = run_of(n, k), [event for event in seen if event.startswith("step")]
        told = f"with max_iters={n}, val_interval={k}: "
        require(len(steps) == n, f"{told}{len(steps)} steps")
        require(steps[0] == "step 0", "the steps are counted from 0")
        late = ["look", *(event for i in range(n) for event in (
            [f"step {i}", "look"] if i % k == 0 else [f"step {i}"])), "look", "save"]
        expect(seen, right, {
            "nothing is looked at before the first step; where did it begin?": right[1:],
            "nothing is looked at after the last step": [*right[:-2], "save"],
            "nothing is looked at on the way": ["look", *steps, "look", "save"],
            "the run is not saved at the end": right[:-1],
            "the run is saved before the last look": [*right[:-2], "save", "look"],
            "it is looked at twice at the end": [*right[:-1], "look", "save"],
            "looks follow step 0, val_interval, ...: one step too early": late,
            "it is looked at after each step; val_interval is not used": [
                "look", *(event for step in steps for event in (step, "look")), "save"],
        }, f"{told}{', '.join(seen)}; it should be {', '.join(right)}")
        expect(got, right.count("look"), hint="return what the last look returned")
