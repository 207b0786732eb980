"""How right answers are, as plain values for a report."""

from typing import Any

import torch
from torch import Tensor


def confusion(truth: Tensor, guess: Tensor, classes: int) -> Tensor:
    """How often each class [row] was taken for each [column]: two [n] of ids -> [C, C]."""
    return torch.bincount(truth * classes + guess, minlength=classes**2).view(classes, classes)


def of_classes(table: Tensor) -> dict[str, Any]:
    """Accuracy and macro F1 of a confusion table [C, C]; of two classes Matthews' correlation too.

    Macro F1 is the mean over the classes that were there or were guessed, as in scikit-learn. The
    correlation (Matthews 1975) is 0 where one class alone was there, or was guessed.
    """
    counts = table.double()
    right, there, guessed = counts.diagonal(), counts.sum(1), counts.sum(0)  # [C]
    seen = there + guessed > 0
    f1 = 2 * right[seen] / (there + guessed)[seen]
    found = {"accuracy": float(right.sum() / counts.sum()), "macro_f1": float(f1.mean())}
    if len(table) == 2:
        root = (there.prod() * guessed.prod()).sqrt()
        found["matthews"] = float(counts.det() / root) if root else 0.0
    return found | {"confusion": table.tolist()}


def of_numbers(truth: Tensor, guess: Tensor) -> dict[str, Any]:
    """Pearson's correlation (None if one of both never changes) and the root of the mean square.

    Two [n] of numbers; the root is in their unit.
    """
    both = torch.stack([truth, guess]).double()
    changes = (both != both[:, :1]).any(1).all()
    pearson = float(torch.corrcoef(both)[0, 1]) if changes else None
    return {"pearson": pearson, "rmse": float((both[0] - both[1]).square().mean().sqrt())}
