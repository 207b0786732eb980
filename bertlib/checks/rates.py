"""Checkers of what notebook 06 builds before a step: its rate, and which parameters decay."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.checks import checker, expect, number, require
from bertlib.checks.calling import Answer
from bertlib.optim import rate_factor
from bertlib.settings import Settings

RATES = {
    "cosine": Settings.make("cuda", learning_rate=2.0, min_learning_rate=0.5, warmup_iters=4,
                            lr_decay_iters=24, max_iters=40, schedule="cosine"),
    "linear": Settings.make("cuda", learning_rate=1.5, min_learning_rate=0.3, warmup_iters=2,
                            lr_decay_iters=24, max_iters=20, schedule="linear"),
}


def rates(one: Settings, factor: Callable[..., Any] = rate_factor, **other: Any) -> list[Any]:
    """The factor at each step of a run and one past its end; `other`: changes of the settings."""
    changed = replace(one, **other)
    return [factor(changed, step, min(1.0, step / one.max_iters))
            for step in range(one.max_iters + 2)]


def rate_mistakes(one: Settings) -> dict[str, list[float]]:
    """Mistake in words -> the factors that it returns."""
    right, peak, low = rates(one), one.learning_rate, one.min_learning_rate
    w, end, last = one.warmup_iters, one.lr_decay_iters, one.max_iters
    head, steps = right[:w], range(w, last + 2)

    def bent(step: int, start: int, end: int) -> float:
        done = (step - start) / (end - start)
        return low / peak + (1 - low / peak) * (1 + math.cos(math.pi * done)) / 2

    line = [max(low / peak, 1 - (1 - low / peak) * (step - w) / (end - w)) for step in steps]
    own = {
        "the cosine begins at step 0; it begins after the warm-up":
            head + [bent(min(step, end), 0, end) for step in steps],
        "after lr_decay_iters it rises again; it stays at the floor":
            head + [bent(step, w, end) for step in steps],
        "that is a straight line; schedule says 'cosine'": head + line,
        "the cosine ends at max_iters; it ends at lr_decay_iters":
            head + [bent(min(step, last), w, last) for step in steps],
    } if one.schedule == "cosine" else {
        "that is a cosine; schedule says 'linear'": rates(replace(one, schedule="cosine")),
        "the line ends at lr_decay_iters; it follows progress, to the end of the run": head + line,
    }
    return own | {
        "the warm-up begins with 0: step 0 should be 1 / warmup_iters":
            [*(step / w for step in range(w)), *right[w:]],
        "that is the peak at every step: warm-up and decay are missing": [1.0] * (last + 2),
        "there is no warm-up": [1.0] * w + right[w:],
        "there is no warm-up, and the rest begins at step 0": rates(one, warmup_iters=0),
        "the floor is missing: it falls to 0": rates(one, min_learning_rate=0.0),
        "the floor is a learning rate; as a share of the peak it is min / peak":
            rates(one, min_learning_rate=low * peak),
        "that is the rate itself; return its share of the peak": [peak * each for each in right],
        "it is constant after the warm-up": head + [1.0 for _ in steps],
    }


@checker
def check_rate_factor(answer: Answer) -> None:
    """answer(settings, step, progress) -> the learning rate as a share of its peak.

    warmup_iters equal steps, then `schedule`: "cosine" follows step up to lr_decay_iters, "linear"
    follows progress (0..1); both end at min_learning_rate / learning_rate, and stay there.
    """
    for name, one in RATES.items():
        right, got = rates(one), rates(one, lambda *given: number(answer(*given)))
        require(all(isinstance(each, int | float) for each in got), "return one number")
        step = next((n for n, pair in enumerate(zip(right, got, strict=True))
                     if abs(pair[0] - pair[1]) > 1e-4), 0)
        expect(got, right, rate_mistakes(one), f"with schedule='{name}' step {step} should be at "
               f"{right[step]:.3g}, not {got[step]:.3g}")


@checker
def check_parameter_groups(answer: Answer) -> None:
    """answer(model, matrices, weight_decay) -> AdamW's groups [{"params", "weight_decay"}].

    `matrices` belong to another optimiser. Other matrices and embeddings decay; biases, norms and
    gains (such as qk_gain [H, 1, 1]) do not.
    """
    model = BertForMaskedLM(BertConfig.preset("tiny", vocab_size=11, d_model=8, n_head=2,
                                              qk_norm=True))
    names = {id(p): name for name, p in model.named_parameters()}
    for matrices in ([], [block.feed_forward.up.weight for block in model.encoder.blocks]):
        taken, found = {id(p) for p in matrices}, {}
        got = answer(model, matrices, 0.25)
        require(isinstance(got, list | tuple) and all(isinstance(group, dict) and {
            "params", "weight_decay"} <= set(group) for group in got), "return a list of "
            "dictionaries with 'params' and 'weight_decay'")
        for group in got:
            require(len(group["params"]) > 0, "a group is empty, which an optimiser refuses")
            for p in group["params"]:
                require(id(p) in names, "these are names or copies; the optimiser needs the "
                        "parameters themselves")
                require(id(p) not in found, f"`{names[id(p)]}` is in two groups")
                found[id(p)] = group["weight_decay"]
        stolen, lost = set(found) & taken, set(names) - taken - set(found)
        require(not stolen, "matrices that another optimiser has are in a group, too; compare by "
                "id: `in` compares tensors number by number")
        require(not lost, f"`{names[next(iter(lost or names))]}` is in no group; it would never "
                "be trained")
        for p, name in ((p, names[id(p)]) for p in model.parameters() if id(p) in found):
            if found[id(p)]:
                require(p.ndim != 3, f"`{name}` {list(p.shape)} decays; a gain for each head is no "
                        "matrix")
                require(p.ndim == 2, f"`{name}` decays; biases and norms should not")
                require(found[id(p)] == 0.25, f"`{name}` decays by {found[id(p)]}, not by the 0.25 "
                        "that is given")
            require(p.ndim != 2 or found[id(p)], f"`{name}` is a matrix and should decay")
