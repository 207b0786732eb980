"""Scores against what is reckoned by hand."""

import math

import pytest
import torch

from bertlib.plumbing.metrics import confusion, of_classes, of_numbers


def test_two_classes_by_hand():
    truth = torch.tensor([1] * 5 + [0] * 5)
    guess = torch.tensor([1, 1, 1, 0, 0, 1, 0, 0, 0, 0])
    table = confusion(truth, guess, 2)
    assert table.tolist() == [[4, 1], [2, 3]]  # rows are the truth
    found = of_classes(table)
    assert found["accuracy"] == pytest.approx(0.7)
    assert found["macro_f1"] == pytest.approx((8 / 11 + 6 / 9) / 2)
    assert found["matthews"] == pytest.approx((3 * 4 - 1 * 2) / math.sqrt(4 * 5 * 5 * 6))
    assert found["confusion"] == [[4, 1], [2, 3]]


def test_macro_f1_counts_classes_that_were_there_or_guessed():
    found = of_classes(torch.tensor([[2, 0, 1, 0], [0, 0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]]))
    assert found["macro_f1"] == pytest.approx((2 * 2 / 6 + 2 / 3 + 0) / 3)
    assert found["accuracy"] == pytest.approx(3 / 5) and "matthews" not in found
    assert of_classes(torch.tensor([[3, 0], [2, 0]]))["matthews"] == 0


def test_numbers_by_hand():
    found = of_numbers(torch.tensor([1.0, 2, 3]), torch.tensor([1.0, 3, 2]))
    assert found == pytest.approx({"pearson": 0.5, "rmse": math.sqrt(2 / 3)})
    assert of_numbers(torch.tensor([1.0, 2]), torch.tensor([5.0, 5]))["pearson"] is None
    assert of_numbers(torch.tensor([1.0]), torch.tensor([3.0])) == {"pearson": None, "rmse": 2.0}
