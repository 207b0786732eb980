"""Pairs of sentences: neighbours are neighbours, the others are not, and no speech leaks."""

import pytest

from bertlib.finetune.pairs import KINDS, neighbours, pairs
from bertlib.finetune.periods import speeches
from bertlib.plumbing.files import InputError


@pytest.fixture(scope="module")
def found():
    return {kind: pairs(kind, train=400, held=100) for kind in KINDS}


@pytest.fixture(scope="module")
def beside():
    """All neighbours of each speech."""
    return {speech.title: set(neighbours(speech)) for speech in speeches()}


def test_half_are_true_and_no_speech_stands_in_two_splits(found, held):
    for kind, rows in found.items():
        for split, count in (("train", 400), ("val", 100), ("test", 100)):
            labels = [row.label for row in rows[split]]
            assert [labels.count(name) for name in KINDS[kind]] == [count // 2] * 2
            if split != "train":
                assert {row.place for row in rows[split]} <= set(held[split])
        assert not {row.place for row in rows["train"]} & {*held["val"], *held["test"]}


def test_the_second_follows_the_first_exactly_if_the_label_says_so(found, beside):
    for kind, rows in found.items():
        for row in rows["train"] + rows["test"]:
            true = row.texts in beside[row.place]
            assert true is (row.label == KINDS[kind][0]), row
            if row.label == "swapped":
                assert row.texts[::-1] in beside[row.place]


def test_a_random_sentence_comes_from_another_speech(found, beside):
    seconds = {title: {two for _, two in its} for title, its in beside.items()}
    wrong = [row for row in found["next"]["train"] if row.label == "random"]
    assert sum(row.texts[1] in seconds[row.place] for row in wrong) <= len(wrong) // 100


def test_the_draw_is_always_the_same_and_bounded(found):
    assert pairs("order", train=400, held=100) == found["order"]
    assert pairs("order", train=400, held=100, seed=2) != found["order"]
    with pytest.raises(InputError, match="and 10,000,000 are asked for"):
        pairs("next", train=10**7)
    with pytest.raises(InputError, match="Did you mean 'order'"):
        pairs("ordre")
