"""The puzzle: how many, which, and what stands there instead."""

import pytest
import torch

from bertlib.masking import Masker, MaskingConfig, NextToken, mask_rate_at
from bertlib.plumbing.files import InputError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def full_rows(tokenizer, rows: int = 64, length: int = 130) -> torch.Tensor:
    ids = torch.randint(5, len(tokenizer), (rows, length), generator=generator())
    ids[:, 0], ids[:, -1] = tokenizer.special.cls, tokenizer.special.sep
    return ids


def test_the_rate_moves_in_a_straight_line():
    assert [mask_rate_at(p, 0.30, 0.15) for p in (0, 0.5, 1)] == pytest.approx([0.3, 0.225, 0.15])


def test_every_full_row_hides_the_same_number(tokenizer, masker):
    ids = full_rows(tokenizer)
    masked = masker(ids, generator())
    per_row = torch.bincount(masked.positions // ids.shape[1], minlength=len(ids))
    assert per_row.tolist() == [round(0.15 * 128)] * len(ids)
    assert torch.equal(masked.labels, ids.flatten()[masked.positions])
    assert masked.attention_mask is None


def test_shares_are_80_10_10(tokenizer, masker):
    ids = full_rows(tokenizer, rows=2000)
    masked = masker(ids, generator())
    shown = masked.input_ids.flatten()[masked.positions]
    hidden = (shown == tokenizer.special.mask).float().mean()
    same = (shown == masked.labels).float().mean()
    assert hidden == pytest.approx(0.8, abs=0.01)
    assert same == pytest.approx(0.1, abs=0.01)
    assert not set(shown.unique().tolist()) & {0, 1, 2, 3}  # a random word is never special


def test_only_chosen_positions_change(tokenizer, masker):
    ids = full_rows(tokenizer)
    masked = masker(ids, generator())
    untouched = torch.ones(ids.numel(), dtype=torch.bool)
    untouched[masked.positions] = False
    assert torch.equal(masked.input_ids.flatten()[untouched], ids.flatten()[untouched])


def test_padding_and_specials_are_never_hidden_and_short_rows_hide_one(tokenizer, masker):
    special = tokenizer.special
    ids = torch.full((3, 10), special.pad)
    for row, length in enumerate((1, 3, 6)):
        ids[row, 0] = special.cls
        ids[row, 1 : 1 + length] = 100
        ids[row, 1 + length] = special.sep
    for seed in range(20):
        masked = masker(ids, generator(seed))
        assert set(masked.labels.tolist()) == {100}
        assert torch.bincount(masked.positions // 10).tolist() == [1, 1, 1]
    assert torch.equal(masked.attention_mask, ids != special.pad)


def test_the_same_seed_draws_the_same_puzzle(tokenizer, masker):
    ids = full_rows(tokenizer)
    one, two, other = (masker(ids, generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(one.input_ids, two.input_ids)
    assert not torch.equal(one.input_ids, other.input_ids)


def test_a_rate_of_zero_hides_the_least_not_the_usual_share(tokenizer, masker):
    assert len(masker(full_rows(tokenizer), generator(), rate=0.0).positions) == 64  # one a row


def test_shares_are_settings(tokenizer):
    masker = Masker(tokenizer, MaskingConfig(rate=0.5, masked=1.0, random=0.0))
    masked = masker(full_rows(tokenizer), generator())
    assert (masked.input_ids.flatten()[masked.positions] == tokenizer.special.mask).all()
    assert len(masked.positions) == 64 * 64


@pytest.mark.parametrize("shares", [{"rate": 0.0}, {"rate": 1.0}, {"masked": 0.95},
                                    {"random": -0.1}])
def test_impossible_shares_are_refused(shares):
    with pytest.raises(InputError):
        MaskingConfig(**shares)


@pytest.mark.parametrize("padded", [False, True])
def test_rows_of_a_puzzle_are_the_puzzle_of_those_rows(tokenizer, masker, padded):
    ids = full_rows(tokenizer, rows=5, length=20)
    if padded:
        ids[3, 12:] = tokenizer.special.pad
    whole = masker(ids, generator())
    for start, stop in ((0, 2), (2, 4), (4, 5)):
        part, mine = whole.rows(start, stop), whole.positions // 20
        chosen = (mine >= start) & (mine < stop)
        assert torch.equal(part.input_ids, whole.input_ids[start:stop])
        assert torch.equal(part.positions, whole.positions[chosen] - 20 * start)
        assert torch.equal(part.labels, whole.labels[chosen])
        assert torch.equal(part.labels, ids[start:stop].flatten()[part.positions])
        if padded:
            assert torch.equal(part.attention_mask, whole.attention_mask[start:stop])
        else:
            assert part.attention_mask is None


def test_each_token_asks_for_the_next_word_or_end_of_a_document(tokenizer):
    pad, unk, cls, sep, _ = vars(tokenizer.special).values()
    ids = torch.tensor([[cls, 50, unk, sep, 60, 61, 62, sep],  # what is last is given, not known
                        [cls, 70, 71, sep, pad, pad, pad, pad]])
    puzzle = NextToken(tokenizer).ask(ids)
    assert puzzle.positions.tolist() == [0, 2, 3, 4, 5, 8, 9, 10]
    assert puzzle.labels.tolist() == [50, sep, 60, 61, 62, 70, 71, sep]
    assert torch.equal(puzzle.input_ids, ids) and puzzle.attention_mask is None


def test_the_next_token_is_the_same_whatever_is_drawn_or_hidden(tokenizer, masker, dataset):
    ahead, ids = NextToken(tokenizer), dataset.chunks(slice(0, 9))
    some = [ahead.ask(ids), ahead(ids, generator(1)), ahead(ids, generator(2), rate=0.7),
            dataset.frozen(slice(0, 9), ahead)]
    for puzzle in some:
        assert torch.equal(puzzle.input_ids, ids)
        assert torch.equal(puzzle.positions, some[0].positions)
        assert torch.equal(puzzle.labels, some[0].labels)
    assert not torch.equal(dataset.frozen(slice(0, 9), masker).input_ids, ids)  # the control
