"""What all checkers share: right, a named mistake, a wrong shape, a crash."""

import inspect

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bertlib.checks import calling, checker, expect, require, same
from bertlib.checks.calling import alike, ask, copied, guarded, watched


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


def test_nan_is_a_value_that_a_mistake_may_have():
    gap = torch.tensor([float("nan"), 1.0])

    @checker
    def check(answer):
        expect(answer(), torch.ones(2), {"0 / 0 is not a number": gap})

    assert check(lambda: torch.tensor([0.0, 1.0]) / torch.tensor([0.0, 1.0])) == (
        "not yet: 0 / 0 is not a number")
    assert "infinite or not a number" in check(lambda: gap.flip(0))


def stops(x):
    table = {"a": x}
    return table["b"]


def stops_inside(x):
    return F.linear(x, x[:, None], stops.missing)


def long_winded(x):
    raise ValueError("a" * 500 + "\n\n  and the remedy stands at the end")


def test_an_error_is_told_with_all_its_words_and_the_line_of_the_learner():
    number = inspect.getsourcelines(stops)[1] + 2
    assert check_double(stops) == ("not yet: it stops with KeyError: 'b' "
                                   f"(your line {number}: return table[\"b\"])")
    assert "your line" in check_double(stops_inside) and "F.linear" in check_double(stops_inside)
    said = check_double(lambda x: F.cross_entropy(x, x[:, None]))
    assert "RuntimeError: " in said and "(your line " in said and "F.cross_entropy" in said
    assert "a" * 500 + " and the remedy stands at the end" in check_double(long_winded)
    assert check_double(lambda: 1).endswith("takes 0 positional arguments but 1 was given")


def test_what_no_checker_thought_of_is_no_error_of_the_learner():
    check = checker(lambda answer: require(answer().ndim == 1, "not flat"))
    assert check(lambda: [1]) == ("not yet: what it returns cannot be judged: AttributeError: "
                                  "'list' object has no attribute 'ndim'")
    assert check(torch.ones(2)).startswith("not yet: this is Tensor, not a function")


def endless(x):
    while len(x):
        x = x + 0
    return x


def test_an_answer_that_does_not_end_is_ended(monkeypatch):
    monkeypatch.setattr(calling, "MOST_LINES", 1_000)
    said = check_double(endless)
    assert "it does not end" in said and ("while len(x):" in said or "x = x + 0" in said)
    assert check_double(lambda x: sum([x for _ in range(2)], 0 * x)) == "right"


@pytest.mark.parametrize("value, change", [
    (torch.ones(2), lambda x: x.mul_(2)), (torch.ones(2).bool(), lambda x: x.zero_()),
    (torch.ones(2), lambda x: x.resize_(1)), (torch.tensor([float("nan")]), lambda x: x.zero_()),
    ([1, 2], lambda x: x.pop()), ([torch.ones(2)], lambda x: x[0].zero_()),
    ({"a"}, lambda x: x.clear()), ({"a": [1]}, lambda x: x["a"].append(2)),
    (np.ones(2), lambda x: x.sort() or x.fill(0)), (([1],), lambda x: x[0].clear()),
])
def test_a_change_of_what_is_given_is_noticed_whatever_it_is(value, change):
    def answer(x):
        change(x)
        return 1

    with pytest.raises(calling.NotYet, match="x itself was changed"):
        guarded(answer)(copied(value))
    with pytest.raises(calling.NotYet, match="x itself was changed"):
        guarded(answer)(x=copied(value))
    assert guarded(lambda x: 1)(copied(value)) == 1 and alike(value, copied(value))


def test_generators_are_answers_and_stop_inside_the_answer():
    assert ask(lambda: (n for n in range(3))) == [0, 1, 2]
    with pytest.raises(calling.NotYet, match="ZeroDivisionError.*your line"):
        ask(lambda: (1 / n for n in (1, 0)))


def test_calls_are_watched_by_name_however_they_are_written():
    answer, called = watched(lambda x: F.relu(x) + torch.nn.Softmax(-1)(x) + x.exp())
    answer(torch.ones(2))
    torch.ones(2).log()
    assert {"relu", "softmax", "exp"} <= called and "log" not in called
