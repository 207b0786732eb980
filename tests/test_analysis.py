"""What a model knows, counted in parts: on hand-made holes whose answers are known."""

import math

import pytest
import torch

from bertlib.analysis import (
    Bin,
    Holes,
    Part,
    by_frequency,
    by_kind,
    by_part,
    by_place,
    by_sign,
    calibration,
    calibration_error,
    collect,
    head_shares,
    in_context,
    judge,
    key_groups,
    kind,
    neighbours,
    shared_neighbours,
    spread,
    surest_mistakes,
    table,
)
from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.masking import Masked
from bertlib.predict import attention_maps, guess_chunk
from bertlib.scoring import evaluate

MASK = 4


def made(label, guess, seen=None, place=None, confidence=None, nats=None) -> Holes:
    """Holes from lists; what is not given is 0."""
    zero = [0] * len(label)
    seen, place, confidence = seen or [MASK] * len(label), place or zero, confidence or zero
    return Holes(*map(torch.tensor, (zero, place, label, seen, guess)),
                 torch.tensor(confidence, dtype=torch.float), torch.tensor(nats or zero).float(),
                 torch.tensor([1 + (a != b) for a, b in zip(label, guess, strict=True)]))


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    return BertForMaskedLM(BertConfig.preset("tiny", vocab_size=len(tokenizer))).eval()


def test_logits_become_guesses_ranks_and_losses():
    logits = torch.tensor([[0.5, 0.25, 0.125, 0.125], [0.5, 0.25, 0.125, 0.125]]).log()
    ids = torch.tensor([[9, 4, 9], [7, 9, 9]])
    puzzle = Masked(ids, torch.tensor([1, 3]), torch.tensor([0, 3]))
    holes = judge(logits, puzzle, torch.tensor([20, 30]))
    assert holes.chunk.tolist() == [20, 30] and holes.place.tolist() == [1, 0]
    assert holes.seen.tolist() == [4, 7] and holes.label.tolist() == [0, 3]
    assert holes.guess.tolist() == [0, 0] and holes.right.tolist() == [True, False]
    assert holes.rank.tolist() == [1, 3]  # the tie at place 3 and 4 does not push it down
    assert torch.allclose(holes.nats, torch.tensor([math.log(2), math.log(8)]))
    assert torch.allclose(holes.confidence, torch.tensor([0.5, 0.5])) and len(holes) == 2
    assert holes.where(holes.right).chunk.tolist() == [20]


def test_the_collected_holes_are_those_of_the_page_and_of_the_score(model, dataset, masker,
                                                                    tokenizer):
    holes = collect(model, dataset, masker, [7, 2, 5], size=2)
    pages = [guess_chunk(model, dataset, number, masker, tokenizer) for number in (7, 2, 5)]
    told = [hole for page in pages for hole in page.holes]
    assert holes.place.tolist() == [hole.position for hole in told]
    assert holes.rank.tolist() == [hole.rank for hole in told]
    assert holes.right.tolist() == [hole.right for hole in told]
    shares = torch.tensor([hole.probability for hole in told])
    assert torch.allclose((-holes.nats).exp(), shares, rtol=1e-4)
    assert holes.chunk.unique().tolist() == [2, 5, 7]
    puzzles = [dataset.frozen(slice(n, n + 1), masker) for n in (7, 2, 5)]
    score = evaluate(model, iter(puzzles), torch.device("cpu"), torch.float32)
    assert float(holes.nats.mean()) == pytest.approx(score.loss, rel=1e-5)
    assert float(holes.right.float().mean()) == pytest.approx(score.accuracy)


def test_temperature_changes_the_doubt_but_no_guess(model, dataset, masker):
    plain, sharp = (collect(model, dataset, masker, [0, 1], temperature) for temperature in (1, .1))
    assert torch.equal(plain.guess, sharp.guess) and torch.equal(plain.rank, sharp.rank)
    assert (sharp.confidence > plain.confidence).all()


def test_chunks_are_spread_over_the_whole_file():
    assert spread(10, 4) == [0, 2, 5, 7]
    assert spread(3, 9) == [0, 1, 2]
    assert spread(4845, 512)[-1] > 4800


def test_parts_are_counted():
    holes = made([7, 8, 8, 8], [7, 7, 8, 7], nats=[1, 2, 3, 4])
    eight = by_part(holes, {"eight": holes.label == 8, "nine": holes.label == 9})
    assert eight == [Part("eight", 3, pytest.approx(1 / 3), 3.0)]
    assert Part("half", 100, 0.5, 1).error == pytest.approx(0.05)
    told = table([Part("a", 1234, 0.5, 1.234), Part("long name", 5, 1.0, 0.0)], "word")
    assert told.splitlines() == ["word       holes   right   error  nats",
                                 "a          1,234   50.0%    1.4%  1.23",
                                 "long name      5  100.0%    0.0%  0.00"]


def test_what_stood_in_the_hole():
    groups = by_sign(made([7, 7, 7], [7, 7, 7], seen=[MASK, 7, 9]), MASK)
    assert [keep.tolist() for keep in groups.values()] == [
        [True, False, False], [False, True, False], [False, False, True]]


def test_frequencies_and_places_fall_into_one_bin_each():
    counts = torch.tensor([0.0, 9, 10, 99, 100, 5000])
    groups = by_frequency(made([0, 1, 2, 3, 4, 5], [0] * 6), counts, (0, 10, 100))
    assert {name: keep.int().tolist() for name, keep in groups.items()} == {
        "0 to 9": [1, 1, 0, 0, 0, 0], "10 to 99": [0, 0, 1, 1, 0, 0],
        "100 or more": [0, 0, 0, 0, 1, 1]}
    groups = by_place(made([0] * 4, [0] * 4, place=[1, 3, 4, 9]), (1, 4, 10))
    assert {name: keep.int().tolist() for name, keep in groups.items()} == {
        "1 to 3": [1, 1, 0, 0], "4 to 9": [0, 0, 1, 1]}


@pytest.mark.parametrize(("token", "name"), [
    ("king", "word or its start"), ("19th", "word or its start"), ("é", "word or its start"),
    ("##ing", "word piece"), ("##7", "word piece"), ("1990", "number"),
    (",", "punctuation"), ("—", "punctuation"), ("#", "punctuation"),
])
def test_kinds_of_tokens(token, name):
    assert kind(token) == name


def test_kinds_of_holes(tokenizer):
    ids = [tokenizer.vocab.index(token) for token in ("king", ",", "##s", "2")]
    groups = by_kind(made(ids, ids), tokenizer)
    assert {name: keep.nonzero().item() for name, keep in groups.items()} == {
        "punctuation": 1, "word or its start": 0, "word piece": 2, "number": 3}


def test_bins_of_confidence_and_their_gap():
    confidence = torch.tensor([0.05, 0.09, 0.29, 0.95, 1.0, 1.0])
    right = torch.tensor([False, True, True, True, True, False])
    bins = calibration(confidence, right, 10)
    assert [(one.count, round(one.low, 3), round(one.high, 3)) for one in bins] == [
        (2, 0, 0.1), (1, 0.2, 0.3), (3, 0.9, 1)]
    assert [one.accuracy for one in bins] == [0.5, 1.0, pytest.approx(2 / 3)]
    by_hand = (2 * (0.5 - 0.07) + 0.71 + 3 * abs(2 / 3 - 2.95 / 3)) / 6
    assert calibration_error(bins) == pytest.approx(by_hand, rel=1e-5)
    assert calibration_error([Bin(0, 1, 3, 0.4, 0.4), Bin(0, 1, 1, 0.5, 0.9)]) == pytest.approx(0.1)
    assert [(one.low, one.high) for one in calibration(torch.tensor([0.25]), torch.tensor([True]))
            ] == [(0.2, 0.3)]  # ten, if nobody asks
    assert calibration(torch.tensor([0.0]), torch.tensor([False]), 10)[0].low == 0


def test_neighbours_are_sorted_by_angle_without_the_word_itself():
    rows = torch.tensor([[1.0, 0], [5.0, 1.0], [0, 2.0], [-1.0, -0.5]])
    cosines, ids = neighbours(rows, torch.tensor([0, 2]), 2)
    assert ids.tolist() == [[1, 2], [1, 0]]
    assert torch.allclose(cosines[0], torch.tensor([5 / 26**0.5, 0.0]))
    assert shared_neighbours(rows, rows, torch.tensor([0, 1, 2]), 2) == 1
    turned = torch.tensor([[1.0, 0], [5.0, 1.0], [0, -2.0], [-1.0, -0.5]])
    assert shared_neighbours(rows, turned, torch.tensor([0]), 1) == 1
    apart = torch.tensor([[1.0, 0], [0, 1.0], [0, 2.0], [1.0, 0.1]])
    assert shared_neighbours(rows, apart, torch.tensor([0]), 1) == 0


def test_heads_are_summed_by_distance_and_by_what_they_read():
    left = torch.tensor([[1.0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    even = torch.full((4, 4), 0.25)
    maps = torch.stack((left, even))[None, None].expand(1, 2, 2, 4, 4)  # [1, B, H, T, T]
    first = torch.tensor([[True, False, False, False]]).expand(2, 4)
    shares = head_shares(maps, {"first": first}, reach=1)
    assert {name: share[0].tolist() for name, share in shares.items()} == {
        "-1": [0.75, 3 / 16], "itself": [0.25, 0.25], "+1": [0, 3 / 16], "farther": [0, 6 / 16],
        "first": [0.5, 0.25]}


def test_shares_of_heads_add_up(model, tokenizer, dataset):
    ids = dataset.chunks(slice(0, 2))
    groups = key_groups(ids, tokenizer)
    assert groups["[CLS]"].sum() == 2 and groups["punctuation"].any()
    assert not groups["punctuation"][ids == tokenizer.special.sep].any()
    shares = head_shares(attention_maps(model, ids), groups)
    near = sum(share for name, share in shares.items() if name not in groups)
    assert torch.allclose(near, torch.ones(2, 4), atol=1e-5)


def test_the_surest_mistakes_come_first():
    holes = made([1, 2, 3, 4], [1, 9, 9, 9], confidence=[0.9, 0.2, 0.8, 0.5])
    assert surest_mistakes(holes, 2).tolist() == [2, 3]
    assert surest_mistakes(holes, 9).tolist() == [2, 3, 1]


def test_a_mistake_is_shown_in_its_context():
    tokens = ["[CLS]", "the", "spo", "##ke", "##n", "word", "##s", "[SEP]"]
    assert in_context(tokens, 5, "<x>", 3) == "spoken <x> ##s [SEP]"
    assert in_context(tokens, 0, "<x>", 1) == "<x> the"
