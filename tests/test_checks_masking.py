"""The checkers of notebook 02 name the mistake that was made, and pass every right way."""

import pytest
import torch

from bertlib.checks import draws as d
from bertlib.checks import masking as m
from bertlib.masking import Masker, MaskingConfig, n_hidden
from bertlib.tokens import Tokenizer


def choose(ids, special, rate, generator):
    ordinary = ~torch.isin(ids, special)
    scores = torch.rand(ids.shape, generator=generator).masked_fill(~ordinary, -1)
    order = scores.argsort(1, descending=True).argsort(1)
    wanted = n_hidden(ordinary.sum(1), rate)
    return (order < wanted[:, None]).flatten().nonzero().flatten()


def choose_by_shuffling(ids, special, rate, generator):
    chosen = []
    for row, line in enumerate(ids.tolist()):
        places = [i for i, token in enumerate(line) if token not in special.tolist()]
        order = torch.randperm(len(places), generator=generator).tolist()
        count = max(1, round(rate * len(places)))
        chosen += sorted(row * len(line) + places[i] for i in order[:count])
    return torch.tensor(chosen)


def row_by_row(pick):
    """In each row as many of its places as are asked, as `pick(places, n, generator)` says."""
    def answer(ids, special, rate, generator):
        rows = [words(row, special).nonzero().flatten() for row in ids]
        counts = n_hidden(torch.tensor([len(row) for row in rows]), rate).tolist()
        return torch.cat([number * ids.shape[1] + pick(row, n, generator).sort().values
                          for number, (row, n) in enumerate(zip(rows, counts, strict=True))])
    return answer


def with_putting_back(places, n, generator):
    return places[torch.randint(len(places), (n,), generator=generator)] if n else places[:0]


def one_block(places, n, generator):
    start = int(torch.randint(len(places) - n + 1, (), generator=generator))
    return places[start:start + n]


def of_the_first_twelve(places, n, generator):
    return places[torch.randperm(max(n, 12), generator=generator)[:n]]


def rather_in_front(places, n, generator):
    chances = torch.linspace(3, 1, len(places))
    return places[torch.multinomial(chances, n, generator=generator)] if n else places[:0]


def same_columns(ids, special, rate, generator):
    scores = torch.rand(ids.shape[1], generator=generator).expand(ids.shape)
    rank = scores.masked_fill(~words(ids, special), -1).argsort(1, descending=True).argsort(1)
    wanted = n_hidden(words(ids, special).sum(1, keepdim=True), rate)
    return (rank < wanted).flatten().nonzero().flatten()


def choose_from(candidates, generator_of=lambda g: g):
    """Choose as above, from other candidates or with another generator."""
    def answer(ids, special, rate, generator):
        keep = candidates(ids, special)
        scores = torch.rand(ids.shape, generator=generator_of(generator)).masked_fill(~keep, -1)
        wanted = n_hidden(keep.sum(1), rate)
        best = scores.topk(int(wanted.max()), 1).indices
        taken = torch.arange(best.shape[1]) < wanted[:, None]
        rows = torch.arange(len(ids))[:, None] * ids.shape[1]
        return (rows + best)[taken].sort().values
    return answer


def words(ids, special):
    return ~torch.isin(ids, special)


def but(*tokens):
    return choose_from(lambda ids, special: ~torch.isin(ids, torch.tensor(tokens)))


def maybe_none(ids, special, rate, generator):
    rows = words(ids, special)
    scores = torch.rand(ids.shape, generator=generator).masked_fill(~rows, -1)
    rank = scores.argsort(1, descending=True).argsort(1)
    return (rank < (rows.sum(1, keepdim=True) * rate).round()).flatten().nonzero().flatten()


def by_chance(ids, special, rate, generator):
    draw = torch.rand(ids.shape, generator=generator)
    return ((draw < rate) & words(ids, special)).flatten().nonzero().flatten()


def same_in_all(ids, special, rate, generator):
    scores = torch.rand(ids.shape, generator=generator).masked_fill(~words(ids, special), -1)
    rows = torch.arange(len(ids))[:, None] * ids.shape[1]
    return (rows + scores.topk(6, 1).indices).flatten().sort().values


def of_all_tokens(ids, special, rate, generator):
    scores = torch.rand(ids.shape, generator=generator).masked_fill(~words(ids, special), -1)
    rows = torch.arange(len(ids))[:, None] * ids.shape[1]
    best = scores.topk(round(rate * ids.shape[1]), 1).indices
    return (rows + best).flatten().sort().values


def replace(labels, mask_id, ordinary, generator, masked=0.8, random=0.1):
    draw = torch.rand(labels.shape, generator=generator)
    picks = ordinary[torch.randint(len(ordinary), labels.shape, generator=generator)]
    shown = torch.where(draw < masked + random, picks, labels)
    return torch.where(draw < masked, mask_id, shown)


def replace_by_kinds(labels, mask_id, ordinary, generator, masked=0.8, random=0.1):
    kind = torch.randint(100, labels.shape, generator=generator) / 100
    shown = labels.clone()
    shown[kind < masked] = mask_id
    strange = (kind >= masked) & (kind < masked + random)
    shown[strange] = ordinary[torch.randint(len(ordinary), (int(strange.sum()),),
                                            generator=generator)]
    return shown


def replace_shares(masked, random):
    def answer(labels, mask_id, ordinary, generator):
        draw = torch.rand(labels.shape, generator=generator)
        picks = ordinary[torch.randint(len(ordinary), labels.shape, generator=generator)]
        shown = torch.where(draw < masked + random, picks, labels)
        return shown.masked_fill(draw < masked, mask_id)
    return answer


def replace_with(picks, shape=lambda labels: labels.shape):
    def answer(labels, mask_id, ordinary, generator):
        draw = torch.rand(shape(labels), generator=generator)
        shown = torch.where(draw < 0.9, picks(labels, ordinary, generator), labels)
        return shown.masked_fill(draw < 0.8, mask_id)
    return answer


def good_picks(labels, ordinary, generator):
    return ordinary[torch.randint(len(ordinary), labels.shape, generator=generator)]


def by_place(labels, mask_id, ordinary, generator):
    """80/10/10, but always the same holes."""
    kind = torch.arange(len(labels)) * 7 % 10
    shown = torch.where(kind == 0, good_picks(labels, ordinary, generator), labels)
    return shown.masked_fill(kind > 1, mask_id)


def in_pairs(labels, mask_id, ordinary, generator):
    draw = torch.rand((len(labels) + 1) // 2, generator=generator).repeat_interleave(2)
    draw = draw[:len(labels)]
    shown = torch.where(draw < 0.9, good_picks(labels, ordinary, generator), labels)
    return shown.masked_fill(draw < 0.8, mask_id)


def squared(labels, ordinary, generator):
    picks = torch.rand(labels.shape, generator=generator).square() * len(ordinary)
    return ordinary[picks.long()]


def overwrite(labels, mask_id, ordinary, generator):
    shown = labels.masked_fill(torch.rand(labels.shape, generator=generator) < 0.8, mask_id)
    again = torch.rand(labels.shape, generator=generator) < 0.1
    return torch.where(again, good_picks(labels, ordinary, generator), shown)


def in_place(labels, mask_id, ordinary, generator):
    return labels.masked_fill_(torch.rand(labels.shape, generator=generator) < 0.8, mask_id)


def make_labels(ids, input_ids, positions):
    labels = torch.full_like(ids, -100).flatten()
    labels[positions] = ids.flatten()[positions]
    return labels.view_as(ids)


def labels_by_where(ids, input_ids, positions):
    hole = torch.zeros(ids.numel(), dtype=torch.bool)
    hole[positions] = True
    return torch.where(hole.view_as(ids), ids, -100)


def of_shown(ids, input_ids, positions):
    return make_labels(input_ids, ids, positions)


def overwriting_ids(ids, input_ids, positions):
    good = make_labels(ids, input_ids, positions)
    ids.copy_(good)
    return ids


def bigram_guess(text, left, vocab_size, turned=False, backoff=True):
    table = torch.zeros(vocab_size, vocab_size)
    first, second = (text[1:], text[:-1]) if turned else (text[:-1], text[1:])
    table.index_put_((first, second), torch.ones(len(text) - 1), accumulate=True)
    known, most = table[left].sum(1) > 0, torch.bincount(text).argmax()
    return torch.where(known, table[left].argmax(1), most) if backoff else table[left].argmax(1)


def bigram_by_dictionary(text, left, vocab_size):
    from collections import Counter
    text, after = text.tolist(), {}
    for one, other in zip(text[:-1], text[1:], strict=True):
        after.setdefault(one, Counter())[other] += 1
    most = Counter(text)
    return torch.tensor([after.get(w, most).most_common(1)[0][0] for w in left.tolist()])


RIGHT = [
    (m.check_choose, choose), (m.check_choose, choose_by_shuffling),
    (m.check_choose, choose_from(words)),
    (m.check_choose, row_by_row(lambda places, n, g: places[
        torch.randperm(len(places), generator=g)[:n]])),
    (m.check_choose, row_by_row(lambda places, n, g: places[torch.multinomial(
        torch.ones(len(places)), n, generator=g)] if n else places)),
    (m.check_replace, replace), (m.check_replace, replace_by_kinds),
    (m.check_labels, make_labels), (m.check_labels, labels_by_where),
    (m.check_bigram, bigram_guess), (m.check_bigram, bigram_by_dictionary),
]

WRONG = [
    (m.check_choose, lambda *a: None, "returns nothing"),
    (m.check_choose, lambda ids, *a: torch.arange(12), "[CLS] was masked"),
    (m.check_choose, but(d.PAD, d.SEP), "[CLS] was masked"),
    (m.check_choose, but(d.PAD, d.CLS), "[SEP] was masked"),
    (m.check_choose, but(d.SEP, d.CLS), "[PAD] was masked"),
    (m.check_choose, choose_from(words, lambda g: None), "global generator, so that they differ"),
    (m.check_choose, choose_from(words, lambda g: torch.Generator().manual_seed(0)),
     "the same for every generator"),
    (m.check_choose, by_chance, "must all hide the same number"),
    (m.check_choose, same_in_all, "hides less"),
    (m.check_choose, of_all_tokens, "taken of all 44 tokens"),
    (m.check_choose, lambda *a: choose(*a).flip(0), "not in ascending order"),
    (m.check_choose, lambda *a: torch.cat([choose(*a), choose(*a)]), "chosen twice"),
    (m.check_choose, lambda ids, special, *a: words(ids, special), "table of true and false"),
    (m.check_choose, row_by_row(with_putting_back), "chosen twice"),
    (m.check_choose, row_by_row(one_block), "two holes are neighbours"),
    (m.check_choose, row_by_row(of_the_first_twelve), "of the 146 words were hidden in none"),
    (m.check_choose, row_by_row(rather_in_front), "far more often than others"),
    (m.check_choose, same_columns, "in the same columns"),
    (m.check_choose, lambda ids, special, rate, g: choose(ids, special, 0.15, g), "at 0.4 rows of"),
    (m.check_choose, maybe_none, "at least one is hidden"),
    (m.check_choose, lambda ids, special, rate, g: choose(ids[:, :44], special, rate, g)
     if ids.shape[1] == 44 else torch.arange(1, 18), "right for one page"),
    (m.check_choose, lambda ids, *a: choose(ids.fill_(500), *a), "ids itself was changed"),
    (m.check_choose, lambda *a: choose(*a).tolist(), "it returns no tensor"),
    (m.check_replace, lambda labels, mask_id, ordinary, generator, masked=0.8, random=0.1: replace(
        labels, mask_id, ordinary, generator), "the shares that are asked for"),
    (m.check_replace, replace_shares(0.8, 0.1), "unexpected keyword argument 'masked'"),
    (m.check_replace, lambda labels, mask_id, *a: torch.full_like(labels, mask_id),
     "every hole shows [MASK]"),
    (m.check_replace, replace_shares(0.8, 0.0), "no hole shows a random word"),
    (m.check_replace, replace_shares(0.8, 0.2), "no hole shows its true word"),
    (m.check_replace, replace_shares(0.0, 0.5), "no hole shows [MASK]"),
    (m.check_replace, replace_shares(0.8, 0.02), "10% of the remaining fifth"),
    (m.check_replace, replace_shares(0.6, 0.2), "80%, 10% and 10% are asked for"),
    (m.check_replace, overwrite, "overwrite a tenth of the [MASK]s"),
    (m.check_replace, in_place, "labels itself was changed"),
    (m.check_replace, replace_with(good_picks, lambda labels: ()), "one draw decides"),
    (m.check_replace, replace_with(lambda labels, ordinary, g: torch.randint(
        1_000, labels.shape, generator=g)), "may be special tokens"),
    (m.check_replace, replace_with(lambda labels, ordinary, g: ordinary[torch.randint(
        len(ordinary), (), generator=g)]), "all random words are the same"),
    (m.check_replace, lambda labels, mask_id, ordinary, g: replace(labels, mask_id, ordinary, None),
     "global generator"),
    (m.check_replace, replace_with(lambda labels, ordinary, g: labels[torch.randperm(
        len(labels), generator=g)]), "taken from the labels"),
    (m.check_replace, replace_with(lambda labels, ordinary, g: ordinary[torch.randint(
        2, labels.shape, generator=g)]), "993 of the 995"),
    (m.check_replace, replace_with(lambda labels, ordinary, g: ordinary[torch.randint(
        len(ordinary) - 1, labels.shape, generator=g)]), "1 of the 995"),
    (m.check_replace, replace_with(squared), "some random words come far more often"),
    (m.check_replace, by_place, "the same fate in every draw"),
    (m.check_replace, in_pairs, "neighbouring holes agree"),
    (m.check_replace, lambda labels, *a: replace(labels[:-1], *a), "one token for each label"),
    (m.check_replace, lambda *a: replace(*a).float(), "no whole numbers"),
    (m.check_labels, lambda *a: make_labels(*a).tolist(), "it returns list, not a tensor"),
    (m.check_labels, lambda *a: make_labels(*a).int(), "no int64"),
    (m.check_labels, lambda ids, shown, p: make_labels(ids, shown, p) if ids.shape == (2, 5)
     else torch.full_like(ids, -100), "of another shape, [5, 2]"),
    (m.check_labels, lambda ids, *a: ids.clone(), "in plain view"),
    (m.check_labels, of_shown, "the replaced token, not the true one"),
    (m.check_labels, lambda ids, shown, p: torch.where(shown != ids, ids, -100), "has no label"),
    (m.check_labels, lambda *a: make_labels(*a).clamp(min=0), "hold 0, which is a token"),
    (m.check_labels, lambda *a: make_labels(*a).flatten(), "still flat"),
    (m.check_labels, lambda ids, shown, p: ids.flatten()[p], "the K labels"),
    (m.check_labels, lambda *a: make_labels(*a).float(), "no int64"),
    (m.check_labels, overwriting_ids, "itself was changed"),
    (m.check_bigram, lambda text, left, v: torch.zeros_like(left), "always 0"),
    (m.check_bigram, lambda *a: bigram_guess(*a, turned=True), "the word before the context"),
    (m.check_bigram, lambda *a: bigram_guess(*a, turned=True, backoff=False), "does not back off"),
    (m.check_bigram, lambda *a: bigram_guess(*a, backoff=False), "a row of zeros"),
    (m.check_bigram, lambda text, left, v: bigram_guess(text, left, 10) if v == 10
     else torch.zeros_like(left), "right for one text, but not for another one of 4 words"),
    (m.check_bigram, lambda *a: bigram_guess(*a)[:, None], "the shape is (5, 1)"),
    (m.check_bigram, lambda text, left, v: torch.full_like(left, 8), "the context is not asked"),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass_however_they_are_written(check, answer):
    assert check(answer) == "right"


@pytest.mark.parametrize(("check", "answer", "words"), WRONG)
def test_wrong_answers_are_told_what_is_wrong(check, answer, words, diagnosed):
    diagnosed(check, answer, words)


def test_the_masker_of_the_course_passes_its_own_checks():
    vocab = [f"w{i}" for i in range(1_000)]
    for place, name in zip(d.SPECIAL, ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), strict=True):
        vocab[place] = name
    masker = Masker(Tokenizer(vocab), MaskingConfig(rate=d.RATE))
    assert m.check_choose(lambda ids, special, *rest: masker.choose(ids, *rest)) == "right"
    m.judge_replace(lambda labels, a, b, g: masker.replace(labels, g))


def test_checking_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    m.check_choose(choose_from(words, lambda g: None))
    m.check_replace(lambda labels, mask_id, ordinary, g: replace(labels, mask_id, ordinary, None))
    assert torch.equal(before, torch.get_rng_state())
