"""Checkers of what notebook 02 builds: how many to hide, the masker, rows of a puzzle."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bertlib.checks import checker, expect, require
from bertlib.checks.calling import Answer, ask, guarded, method
from bertlib.checks.draws import (
    ORDINARY,
    PAD,
    RATE,
    SPECIAL,
    UNK,
    judge_positions,
    page,
    seeded,
    table,
)
from bertlib.checks.masking import judge_choose, judge_replace, judge_shares
from bertlib.masking import Masked, MaskingConfig
from bertlib.tokens import SPECIAL_TOKENS, Tokenizer


@checker
def check_n_hidden(answer: Answer) -> None:
    """answer(counts [n], rate) -> how many of so many words are hidden, at least one if any."""
    counts = torch.tensor([0, 1, 2, 5, 12, 20, 42, 126])
    for rate in (0.15, 0.4, 0.97):
        plain = (counts.double() * rate).round().long()
        right = plain.clamp(min=1).minimum(counts)
        got = answer(counts.clone(), rate)
        expect(got, right, {
            "a row with a few words hides none; at least one is hidden": plain,
            "a row without words hides one of them; no more than there are":
                plain.clamp(min=1),
            "the numbers are cut off; round them": (counts * rate).long().clamp(min=1).minimum(
                counts),
            "the numbers are cut off, so that a row with a few words hides none; round them, and "
            "hide at least one": (counts * rate).long(),
            "the numbers are rounded up": (counts * rate).ceil().long(),
            "these are no whole numbers; round": counts * rate,
        }, f"at a rate of {rate} rows of {counts.tolist()} words should hide {right.tolist()}")
        require(isinstance(got, Tensor) and not got.is_floating_point(), "the numbers count words; "
                "return them as int64: .long()")


def tokenizer() -> Tokenizer:
    """A thousand words; the special tokens are somewhere among them."""
    vocab = [f"w{number}" for number in range(len(ORDINARY) + len(SPECIAL))]
    for place, token in zip(SPECIAL, SPECIAL_TOKENS, strict=True):
        vocab[place] = token
    return Tokenizer(vocab)


@checker
@torch.random.fork_rng(devices=[])
def check_masker(answer: Answer) -> None:
    """The class Masker(tokenizer, config) with choose, replace, and a call that returns `Masked`.

    choose(ids [B, T], rate, generator) -> positions [K]; replace(labels [K], generator) -> what is
    shown [K]; masker(ids, generator, rate=None) -> the puzzle, at the config's rate by default.
    [UNK] is no word to hide.
    """
    require(isinstance(answer, type), "hand over the class itself, not an object of it")
    masker = ask(answer, tokenizer(), MaskingConfig(rate=RATE))
    choose, show = (guarded(method(masker, name)) for name in ("choose", "replace"))
    judge_choose(lambda ids, special, rate, generator: choose(ids, rate, generator))
    judge_replace(lambda labels, mask_id, ordinary, generator: show(labels, generator))
    _judge_unknown(choose)
    _judge_puzzle(guarded(masker))
    half = ask(answer, tokenizer(), MaskingConfig(masked=0.5, random=0.5))
    judge_shares(guarded(method(half, "replace")))


def _judge_unknown(choose: Answer) -> None:
    """[UNK] stays; a row of two words hides one."""
    ids = page()
    ids[0, 1:-1], ids[1, 3:-1] = UNK, UNK
    for seed in range(20):
        positions = choose(ids.clone(), RATE, seeded(seed))
        require(not bool((ids.flatten()[positions] == UNK).any()), "[UNK] was masked; which word "
                "it was nobody knows, so it cannot be asked for")
        counts = table(positions, ids).sum(1).tolist()
        require(counts[0] == 0, "a row without words hides something")
        require(counts[1] == 1, f"a row of two words hides {counts[1]}; it should hide one, so "
                "that each row counts")


def _judge_puzzle(masker: Answer) -> None:
    """The parts of `Masked` fit together, with padding and without."""
    for ids in (page(), page()[:3]):
        puzzle = masker(ids.clone(), seeded(1))
        _judge_parts(puzzle, ids)
        hidden = table(puzzle.positions, ids).sum(1).tolist()
        require(hidden == [6, 6, 6, 3][:len(ids)], f"rows of 42 words hide {hidden[0]}; without a "
                "rate the config's is taken, 0.15")
        more = masker(ids.clone(), seeded(1), 0.4).positions
        require(table(more, ids).sum(1).tolist() == [17, 17, 17, 8][:len(ids)],
                "the rate that is passed is not heeded: masker(ids, generator, 0.4)")


def _judge_parts(puzzle: Any, ids: Tensor) -> None:
    require(isinstance(puzzle, Masked), f"it returns {type(puzzle).__name__}; return a Masked("
            "input_ids, positions, labels, attention_mask)")
    judge_positions(puzzle.positions, ids)
    holes, shown = table(puzzle.positions, ids), puzzle.input_ids
    expect(puzzle.labels, ids[holes], {
        "the labels are what is shown; they are the true words, taken before":
            shown.flatten()[puzzle.positions],
        "the labels are a table [B, T]; with positions they are [K]": ids.where(holes, -100),
    }, "the labels are others than the ids at the positions")
    require(shown.shape == ids.shape, f"input_ids is {tuple(shown.shape)}, not {tuple(ids.shape)}: "
            "give it the shape of ids")
    require(bool((shown == ids)[~holes].all()), "input_ids differs from ids where nothing is "
            "hidden")
    require(not shown.equal(ids), "nothing is hidden in input_ids: put what is shown at the "
            "positions")
    real, mask = ids != PAD, puzzle.attention_mask
    if bool(real.all()):
        require(mask is None, "attention_mask should be None where no sequence is padded: then "
                "attention need not look at it")
        return
    require(mask is not None, "attention_mask is None, but a sequence is padded")
    expect(mask, real, {
        "attention_mask is upside down: True is a token, False is padding": ~real,
        "attention_mask is True everywhere; padding is False": torch.ones_like(real),
        "attention_mask strikes out the holes; they are read as any other token": real & ~holes,
    }, "attention_mask is another one")


@checker
def check_rows(answer: Answer) -> None:
    """answer(masked, start, stop) -> the `Masked` of those sequences, positions counted anew."""
    ids = torch.arange(24).view(4, 6) + 100
    positions = torch.tensor([1, 5, 6, 10, 13, 17, 18, 22])  # both ends of rows among them
    labels, mask = ids.flatten()[positions], ids % 6 != 3
    whole = Masked(ids, positions, labels, mask)
    for start, stop in ((1, 3), (0, 2), (2, 4), (0, 4), (3, 4)):
        inside = (positions >= start * 6) & (positions < stop * 6)
        for one in (whole, replace(whole, attention_mask=None)):
            got = answer(one, start, stop)
            require(isinstance(got, Masked), f"it returns {type(got).__name__}, not a Masked")
            told = f"rows({start}, {stop})"
            expect(got.input_ids, ids[start:stop], {"the last row is missing": ids[start:stop - 1],
                   "one row too many": ids[start:stop + 1]}, f"input_ids of {told} are others")
            expect(got.positions, positions[inside] - start * 6, {
                "positions are still counted from the first row of all": positions[inside],
                "the positions of all rows are kept": positions,
                "positions are counted in each row; they are flat, over the rows that are left":
                    positions[inside] % 6,
                "start is taken off, not start * T": positions[inside] - start,
            }, f"positions of {told} should be {(positions[inside] - start * 6).tolist()}")
            expect(got.labels, labels[inside], {
                "the labels of all rows are kept": labels,
                "the labels are cut like rows; take those of the positions": labels[start:stop],
            }, f"labels of {told} are others")
            mask_of = one.attention_mask
            require((got.attention_mask is None) == (mask_of is None), "attention_mask is None "
                    "if it was None, else its rows")
            if mask_of is not None:
                expect(got.attention_mask, mask_of[start:stop], {
                    "attention_mask has still all rows": mask_of}, "attention_mask is another one")
