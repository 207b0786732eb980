"""Checkers of notebook 06: AdamW, clipping, resuming."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertlib.checks import checker, expect, mistakes, require, same
from bertlib.checks.adamw import (
    BETA1,
    BETA2,
    DECAY,
    EPS,
    LR,
    MOMENTS,
    MOVES,
    START,
    STEPS,
    gradient_of,
    run_adamw,
)
from bertlib.checks.calling import Answer, alike, copied


@partial(checker, guard=False)
def check_adamw(answer: Answer) -> None:
    """`answer(weight, gradient, m, v, t, lr, beta1, beta2, eps, decay)` changes weight, m and v."""
    weight, m, v = START.clone(), torch.zeros(3), torch.zeros(3)
    seen = []
    for t in range(1, STEPS + 1):
        gradient = gradient_of(t)
        answer(weight, gradient, m, v, t, LR, BETA1, BETA2, EPS, DECAY)
        require(same(gradient, gradient_of(t)), "the gradient itself was changed; m and v keep it")
        seen.append([weight.clone(), m.clone(), v.clone()])
    require(not same(weight, START), "the weight did not move; change it in place, with sub_ or "
            "-= (weight = weight - ... makes a new tensor)")
    require(not same(seen[0][0], START - LR * gradient_of(1)), "that is plain gradient descent; m, "
            "v and decay are missing")
    for name, value in (("m", m), ("v", v)):
        require(bool(value.any()), f"{name} is still 0: update m and v in place (lerp_, mul_, "
                "add_), or the next step knows nothing of this one")
    right = run_adamw()
    wrong = mistakes(MOMENTS, lambda choice: [row[1:] for row in run_adamw(**choice)], 2)
    expect([row[1:] for row in seen], [row[1:] for row in right], wrong,
           "m or v is wrong already; m is beta1 * m + (1 - beta1) * gradient, v the same with "
           "beta2 and the square of the gradient")
    require(bool(torch.stack([row[0] for row in seen]).isfinite().all()), "the weight is infinite "
            "or not a number: at the first step t is 1, and 1 - beta**0 would be 0")
    wrong = mistakes(MOVES, lambda choice: [row[0] for row in run_adamw(**choice)], 2)
    expect([row[0] for row in seen], [row[0] for row in right], wrong, "m and v are right, the "
           "step is not: the weight times 1 - lr * decay, minus lr * m_hat / (sqrt(v_hat) + eps)")


CLIP_CASES = (
    ([torch.tensor([2.0, 1.0]), torch.tensor([[2.0], [4.0]])], 1.0),
    ([torch.tensor([0.3, 0.0]), torch.tensor([[0.0], [0.4]])], 1.0),
    ([torch.tensor([6.0, -8.0]), torch.tensor([[0.5], [0.0]])], 2.0),
    ([torch.zeros(2), torch.zeros(2, 1)], 1.0),
)


def clipped(gradients: list[Tensor], limit: float) -> list[Tensor]:
    """Gradients scaled together so that their common norm is at most `limit`."""
    norm = float(torch.cat([g.flatten() for g in gradients]).norm())
    return [g * (limit / norm if norm > limit else 1.0) for g in gradients]


def clip_mistakes(gradients: list[Tensor], limit: float) -> dict[str, list[Tensor]]:
    """What known mistakes return."""
    flat = torch.cat([g.flatten() for g in gradients])
    norm = float(flat.norm())
    always = [g * limit / norm for g in gradients]
    wrong = {
        "each tensor was clipped by its own norm, which turns the step to another direction; "
        "take one norm over all": [g * min(1.0, limit / float(g.norm())) for g in gradients],
        "each number was clipped by itself, which turns the step to another direction":
            [g.clamp(-limit, limit) for g in gradients],
        "the root is missing: this divides by the squared norm":
            [g * min(1.0, limit / norm**2) for g in gradients],
        "the norm is the sum of absolute values; take the root of the sum of squares":
            [g * min(1.0, limit / float(flat.abs().sum())) for g in gradients],
        "the norms of the tensors were added; square them before, and take the root after":
            [g * min(1.0, limit / sum(float(g.norm()) for g in gradients)) for g in gradients],
        "the gradients came back as they were": gradients,
    }
    if norm < limit:
        wrong = {"a small gradient was scaled up to the limit; leave it as it is": always} | wrong
    return wrong


@checker
def check_clip(answer: Answer) -> None:
    """`answer(gradients, limit)` returns the list of clipped gradients."""
    for gradients, limit in CLIP_CASES:
        got, flat = answer([g.clone() for g in gradients], limit), torch.cat(
            [g.flatten() for g in gradients])
        require(isinstance(got, list | tuple), f"it returns {type(got).__name__}, not a list of "
                "tensors")
        require(len(got) == len(gradients), f"{len(got)} tensors came back, not {len(gradients)}")
        require(all(isinstance(g, Tensor) for g in got), "return a list of tensors")
        if not flat.any():
            expect(got, gradients, hint="gradients that are all 0 have the norm 0, by which "
                   "nobody can divide; they should come back as they are")
            continue
        wrong = {words: value for words, value in clip_mistakes(gradients, limit).items()
                 if not same(value, clipped(gradients, limit))}
        expect(got, clipped(gradients, limit), wrong, f"with limit {limit} the values are others",
               tolerance=1e-5)


class ToyRun(SimpleNamespace):
    """A run of a few steps: `model` with dropout, `optimizer`, and `place` in the data."""


def toy_run() -> ToyRun:
    """A run that has not begun."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    return ToyRun(model=model, optimizer=torch.optim.AdamW(model.parameters(), lr=0.05), place=0)


def go(run: ToyRun, steps: int) -> list[float]:
    """Train; the batch is drawn from the place in the data alone."""
    losses = []
    for _ in range(steps):
        x = torch.randn(6, 4, generator=torch.Generator().manual_seed(run.place))  # [B, D]
        loss = F.mse_loss(run.model(x), x.sum(1, keepdim=True))
        run.optimizer.zero_grad()
        loss.backward()
        run.optimizer.step()
        run.place += 1
        losses.append(loss.item())
    return losses


def toy_state(run: ToyRun) -> dict[str, Any]:
    """All that the run is; no tensor is shared with it."""
    return copied({"model": run.model.state_dict(), "optimizer": run.optimizer.state_dict(),
                   "random": torch.get_rng_state(), "place": run.place})


LOST = {
    "model": "the weights are not those of the checkpoint",
    "optimizer": "the state of the optimiser is missing: AdamW forgot its moments, so the first "
                 "loss agrees and the next do not",
    "random": "the random state is not set, or something drew numbers after it was: dropout will "
              "draw other masks (torch.set_rng_state)",
    "place": "the place in the data is missing: the run begins again with the first batches",
}


@partial(checker, guard=False)
def check_resume(answer: Answer) -> None:
    """`answer(run, state)` puts a saved state into a new run."""
    kept = torch.get_rng_state()
    try:
        whole = toy_run()
        go(whole, 3)
        state, wanted = toy_state(whole), toy_state(whole)
        straight = go(whole, 3)
        run = toy_run()
        answer(run, state)
        require(alike(state, wanted), "state itself was changed; others may want to go on from it")
        found = toy_state(run)
        for part, words in LOST.items():
            require(alike(found[part], wanted[part]), words)
        require(go(run, 3) == straight, "all parts are there, but the losses differ")
    finally:
        torch.set_rng_state(kept)
