"""What AdamW makes of three gradients, rightly and with the mistakes that are made with it."""

from typing import Any

import torch
from torch import Tensor

LR, BETA1, BETA2, EPS, DECAY = 0.1, 0.9, 0.99, 1e-2, 0.5  # a large eps and decay: mistakes show
STEPS, START = 3, torch.tensor([1.0, 2.0, -3.0])
# What may go wrong in m and v: each part, its right choice first, then mistakes in words.
MOMENTS: dict[str, dict[Any, str]] = {
    "l2": {False: "", True: "the decay was added to the gradient: that is Adam with L2, where it "
                            "is divided by the root, too; shrink the weight itself"},
    "betas": {"right": "", "turned": "beta and 1 - beta changed places in m and v",
              "swapped": "beta1 belongs to m, beta2 to v", "sum": "what is new in m and v is not "
              "multiplied by 1 - beta"},
    "power": {2: "", 1: "v averages absolute values; it needs the squares of the gradients",
              0: "v averages the gradients; it needs their squares"},
    "keep": {"all": "", "none": "there is no memory: each step sees only its own gradient",
             "hats": "m and v are kept after bias correction; keep them as they were before"},
}
# What may go wrong in the step that they make.
MOVES: dict[str, dict[Any, str]] = {
    "hats": {"t": "", "none": "bias correction is missing: m and v start at 0 and must be divided "
                              "by 1 - beta**t",
             "1": "m and v are divided by 1 - beta; it is 1 - beta**t, which goes to 1",
             "m": "v is not corrected: divide it by 1 - beta2**t",
             "v": "m is not corrected: divide it by 1 - beta1**t"},
    "decay": {"right": "", "none": "the weight does not decay",
              "raw": "the decay is not multiplied by the learning rate",
              "after": "the weight was shrunk after the step; shrink the weight from before it"},
    "eps": {"after": "", "inside": "eps stands inside the root; it is added after it",
            "none": "eps is forgotten"},
    "root": {0.5: "", 1.0: "the root of v is missing"},
    "sign": {-1: "", 1: "the step goes uphill: subtract it"},
}


def gradient_of(step: int) -> Tensor:
    """Gradients [3] of very different size, the same at each call."""
    return torch.tensor([1.0, -0.02, 30.0]) * (1 + 0.5 * step)


def _mean(old: Tensor, new: Tensor, beta: float, betas: str) -> Tensor:
    keep, take = (1 - beta, beta) if betas == "turned" else (beta, 1 - beta)
    return keep * old + (1 if betas == "sum" else take) * new


def run_adamw(l2: bool = False, betas: str = "right", power: int = 2, keep: str = "all",
              hats: str = "t", decay: str = "right", eps: str = "after", root: float = 0.5,
              sign: int = -1) -> list[list[Tensor]]:
    """The weight, m and v after each of three steps, rightly or with mistakes."""
    weight, m, v = START.clone(), torch.zeros(3), torch.zeros(3)
    one, two = (BETA2, BETA1) if betas == "swapped" else (BETA1, BETA2)
    rows = []
    for t in range(1, STEPS + 1):
        gradient = gradient_of(t) + (DECAY * weight if l2 else 0)
        m, v = (0 * m, 0 * v) if keep == "none" else (m, v)
        m = _mean(m, gradient, one, betas)
        v = _mean(v, {2: gradient**2, 1: gradient.abs(), 0: gradient}[power], two, betas)
        n = 1 if hats == "1" else t
        m_hat = m / (1 - BETA1**n) if hats in ("t", "1", "m") else m
        v_hat = v / (1 - BETA2**n) if hats in ("t", "1", "v") else v
        m, v = (m_hat, v_hat) if keep == "hats" else (m, v)
        below = (v_hat + EPS * (eps == "inside")) ** root + EPS * (eps == "after")
        step, rate = sign * LR * m_hat / below, {"raw": 1.0, "none": 0.0}.get(decay, LR)
        shrink = 1 - (0 if l2 else rate * DECAY)
        weight = (weight + step) * shrink if decay == "after" else weight * shrink + step
        rows.append([weight, m, v])
    return rows
