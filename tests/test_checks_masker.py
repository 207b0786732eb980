"""The masker that notebook 02 builds is taken in any style, and its mistakes are told apart."""

from dataclasses import replace

import pytest
import torch

from bertlib.checks.masker import check_masker, check_n_hidden, check_rows
from bertlib.masking import Masked, Masker, MaskingConfig, n_hidden


class ByHand:
    """Row by row, with lists."""

    def __init__(self, tokenizer, config=None):
        self.config, self.tokenizer = config or MaskingConfig(), tokenizer
        special = tokenizer.special
        self.never = {special.pad, special.cls, special.sep, special.unk}

    def choose(self, ids, rate, generator):
        found = []
        for row, line in enumerate(ids.tolist()):
            places = [n for n, token in enumerate(line) if token not in self.never]
            count = max(1, round(rate * len(places))) if places else 0
            order = torch.randperm(len(places), generator=generator)[:count].tolist()
            found += sorted(row * len(line) + places[n] for n in order)
        return torch.tensor(found, dtype=torch.int64)

    def replace(self, labels, generator):
        kind = torch.rand(len(labels), generator=generator)
        shown = labels.clone()
        random = (kind >= self.config.masked) & (kind < self.config.masked + self.config.random)
        words = torch.tensor(self.tokenizer.ordinary_ids)
        shown[random] = words[torch.randint(len(words), (int(random.sum()),), generator=generator)]
        shown[kind < self.config.masked] = self.tokenizer.special.mask
        return shown

    def __call__(self, ids, generator, rate=None):
        positions = self.choose(ids, rate or self.config.rate, generator)
        labels = ids.view(-1)[positions]
        flat = ids.flatten().index_put((positions,), self.replace(labels, generator))
        real = ids.ne(self.tokenizer.special.pad)
        return Masked(flat.reshape(ids.shape), positions, labels, real if not real.all() else None)


def changed(**parts):
    """The masker of the course, whose puzzle is changed: name -> what is made of it."""
    class Changed(Masker):
        def __call__(self, ids, generator, rate=None):
            puzzle = super().__call__(ids, generator, rate)
            return replace(puzzle, **{name: make(puzzle, ids) for name, make in parts.items()})
    return Changed


class InPlace(Masker):
    def puzzle(self, ids, positions, labels, replaced):
        ids.view(-1)[positions] = replaced
        return Masked(ids, positions, labels)


class HidesUnknown(Masker):
    def __init__(self, tokenizer, config=None):
        super().__init__(tokenizer, config)
        self.maskable[tokenizer.special.unk] = True


class MaybeNone(ByHand):
    def choose(self, ids, rate, generator):
        positions = super().choose(ids, rate, generator)
        few = torch.bincount(positions // ids.shape[1], minlength=len(ids)) == 1
        enough = ids.shape[1] < 20
        return positions if enough else positions[~few[positions // ids.shape[1]]]


class OwnRate(Masker):
    def __call__(self, ids, generator, rate=None):
        return super().__call__(ids, generator)


class NoDefault(Masker):
    def __call__(self, ids, generator, rate=0.4):
        return super().__call__(ids, generator, rate)


class FixedShares(Masker):
    def __init__(self, tokenizer, config=None):
        super().__init__(tokenizer)


class Doubles(Masker):
    def choose(self, ids, rate, generator):
        positions = super().choose(ids, rate, generator)
        return torch.cat([positions[:1], positions[:-1]])


class Nameless:
    def __init__(self, tokenizer, config):
        pass


def rows_by_mask(puzzle, start, stop):
    length = puzzle.input_ids.shape[1]
    keep = (puzzle.positions // length >= start) & (puzzle.positions // length < stop)
    mask = puzzle.attention_mask
    return Masked(puzzle.input_ids[start:stop], puzzle.positions[keep] - start * length,
                  puzzle.labels[keep], None if mask is None else mask[start:stop])


def spoilt(**parts):
    def answer(puzzle, start, stop):
        right = rows_by_mask(puzzle, start, stop)
        return replace(right, **{name: make(puzzle, start, stop) for name, make in parts.items()})
    return answer


RIGHT = [
    (check_n_hidden, n_hidden),
    (check_n_hidden, lambda counts, rate: torch.tensor(
        [max(1, round(n * rate)) if n else 0 for n in counts.tolist()])),
    (check_masker, Masker), (check_masker, ByHand),
    (check_rows, Masked.rows), (check_rows, rows_by_mask),
]

WRONG = [
    (check_n_hidden, lambda counts, rate: (counts * rate).round().long(), "at least one is hidden"),
    (check_n_hidden, lambda counts, rate: (counts * rate).round().long().clamp(min=1),
     "no more than there are"),
    (check_n_hidden, lambda counts, rate: (counts * rate).long().clamp(min=1).minimum(counts),
     "cut off"),
    (check_n_hidden, lambda counts, rate: (counts * rate).long(), "round them, and hide at least"),
    (check_n_hidden, lambda counts, rate: (counts * rate).ceil(), "rounded up"),
    (check_n_hidden, lambda counts, rate: counts * rate, "no whole numbers"),
    (check_n_hidden, lambda counts, rate: n_hidden(counts, rate).double(), "as int64"),
    (check_n_hidden, lambda counts, rate: n_hidden(counts.clamp_(min=1), rate),
     "counts itself was changed"),
    (check_masker, Masker.__call__, "hand over the class itself"),
    (check_masker, InPlace, "ids itself was changed"),
    (check_masker, HidesUnknown, "[UNK] was masked"),
    (check_masker, MaybeNone, "it should hide one"),
    (check_masker, OwnRate, "rate that is passed is not heeded"),
    (check_masker, NoDefault, "without a rate the config's"),
    (check_masker, FixedShares, "use the shares that are asked for"),
    (check_masker, Doubles, "chosen twice"),
    (check_masker, Nameless, "the class Nameless has no 'choose'"),
    (check_masker, lambda: None, "hand over the class"),
    (check_masker, changed(labels=lambda p, ids: p.input_ids.flatten()[p.positions]),
     "what is shown; they are the true words"),
    (check_masker, changed(labels=lambda p, ids: torch.full_like(ids.flatten(), -100).index_put(
        (p.positions,), p.labels).view_as(ids)), "with positions they are [K]"),
    (check_masker, changed(labels=lambda p, ids: p.labels.flip(0)), "others than the ids"),
    (check_masker, changed(input_ids=lambda p, ids: p.input_ids.flatten()), "the shape of ids"),
    (check_masker, changed(input_ids=lambda p, ids: p.input_ids.flip(0)),
     "where nothing is hidden"),
    (check_masker, changed(input_ids=lambda p, ids: ids), "nothing is hidden in input_ids"),
    (check_masker, changed(attention_mask=lambda p, ids: None), "but a sequence is padded"),
    (check_masker, changed(attention_mask=lambda p, ids: ids == 7), "upside down"),
    (check_masker, changed(attention_mask=lambda p, ids: ids > -1), "True everywhere"),
    (check_masker, changed(attention_mask=lambda p, ids: ids != 7), "should be None"),
    (check_masker, changed(attention_mask=lambda p, ids: (ids != 7) & (p.input_ids == ids)),
     "attention_mask is another one"),
    (check_rows, spoilt(positions=lambda p, a, b: rows_by_mask(p, a, b).positions + a * 6),
     "counted from the first row of all"),
    (check_rows, spoilt(positions=lambda p, a, b: p.positions), "of all rows are kept"),
    (check_rows, spoilt(positions=lambda p, a, b: rows_by_mask(p, a, b).positions % 6),
     "counted in each row"),
    (check_rows, spoilt(positions=lambda p, a, b: rows_by_mask(p, a, b).positions + 5 * a),
     "not start * T"),
    (check_rows, spoilt(labels=lambda p, a, b: p.labels), "labels of all rows"),
    (check_rows, spoilt(labels=lambda p, a, b: p.labels[a:b]), "cut like rows"),
    (check_rows, spoilt(attention_mask=lambda p, a, b: p.attention_mask), "still all rows"),
    (check_rows, spoilt(input_ids=lambda p, a, b: p.input_ids[a:b + 1]), "one row too many"),
    (check_rows, lambda p, a, b: (p.input_ids[a:b], p.positions), "not a Masked"),
    (check_rows, lambda p, a, b: Masked(p.input_ids.zero_(), p.positions, p.labels), "itself was"),
    (check_rows, lambda p, a, b: rows_by_mask(replace(p, attention_mask=p.attention_mask[:]), a, b),
     "TypeError"),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass_however_they_are_written(check, answer):
    assert check(answer) == "right"


@pytest.mark.parametrize(("check", "answer", "words"), WRONG)
def test_a_mistake_is_named(check, answer, words, diagnosed):
    diagnosed(check, answer, words)
