"""What all checkers share: right, a named mistake, a wrong shape, a crash."""

import torch

from bertlib.checks import checker, expect, same


@checker
def check_double(answer):
    x = torch.tensor([1.0, 2.0])
    mistakes = {"that is the square": x * x, "nothing was changed": x}
    expect(answer(x.clone()), 2 * x, mistakes, "not twice x")
    kept = x.clone()
    answer(kept)


def test_a_mistake_is_named():
    assert check_double(lambda x: x + x) == "right"
    assert check_double(lambda x: x**2) == "not yet: that is the square"
    assert check_double(lambda x: x) == "not yet: nothing was changed"
    assert check_double(lambda x: 3 * x) == "not yet: not twice x"


def test_what_is_no_answer_is_told_apart():
    assert check_double(lambda x: None) == "not yet: it returns nothing; end with return"
    assert check_double(lambda x: x[:1]) == "not yet: the shape is (1,), it should be (2,)"
    assert "infinite" in check_double(lambda x: x / 0)
    assert check_double(lambda x: "x") == "not yet: it returns str, not a tensor"
    assert check_double(lambda: 1).startswith("not yet: it stops with TypeError")
    assert check_double(lambda x: x.mul_(2)) == (
        "not yet: x itself was changed; compute new tensors")


def test_equal_within_a_tolerance_and_only_with_the_same_shape():
    assert same([1.0, torch.tensor(2.0)], [1.00001, 2.0]) and not same([1.0], [1.0, 2.0])
    assert same("a", "a") and not same("a", 1) and not same(torch.zeros(2), torch.zeros(1, 2))
    assert not same(1.0, 1.01) and same(1.0, 1.01, tolerance=0.1)
