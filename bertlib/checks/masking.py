"""Checkers of notebook 02: where to hide, what to show instead, what to ask, what counting says."""

import torch
from torch import Tensor

from bertlib.checks import checker, expect, require, same
from bertlib.checks.calling import Answer
from bertlib.checks.draws import (
    CLS,
    DRAWS,
    MASK,
    ORDINARY,
    PAD,
    RATE,
    SEP,
    drawn,
    judge_chance,
    judge_kinds,
    judge_positions,
    judge_share,
    judge_words,
    odd_page,
    ordinary,
    page,
    seeded,
    table,
)


@checker
def check_choose(answer):
    """choose(ids [B, T], special, rate, generator) -> flat positions [K], ascending.

    `special` are ids that are no words; `rate` of a row's words are hidden, at least one.
    """
    judge_choose(answer)


@torch.random.fork_rng(devices=[])
def judge_choose(answer: Answer) -> None:
    """`NotYet` unless the answer is what `check_choose` asks for."""
    ids, special = page(), torch.tensor([PAD, CLS, SEP])

    def call(generator, ids=ids, rate=RATE):
        return answer(ids.clone(), special, rate, generator)

    taken = []
    for seed in range(DRAWS):
        taken.append(call(seeded(seed)))
        judge_positions(taken[-1], ids)
    positions = drawn(call, "masks")
    require(same(positions, positions.sort().values), "the positions are not in ascending order")
    hits = torch.stack([table(positions, ids) for positions in taken])  # [N, B, T]
    for counts in hits.sum(2).tolist():
        judge_share(counts)
    judge_chance(hits[:, :3, 1:-1], hits[:, 3, 1:21])
    for other, rate, wanted in ((ids, 0.4, [17, 17, 17, 8]), (odd_page(), 0.4, [7, 6, 1, 7, 0]),
                                (odd_page(), 0.1, [2, 2, 1, 2, 0])):
        positions = call(seeded(0), other, rate)
        judge_positions(positions, other)
        got = table(positions, other).sum(1).tolist()
        require(got != [2, 2, 0, 2, 0], "a row of three words hides none at a rate of 0.1; at "
                "least one is hidden where there is a word")
        require(got == wanted, f"right for one page at a rate of 0.15; at {rate} rows of "
                f"{ordinary(other).sum(1).tolist()} words should hide {wanted}, not {got}")


@checker
def check_replace(answer):
    """replace(labels [K], mask_id, ordinary, generator, masked=0.8, random=0.1) -> shown [K]."""
    judge_replace(answer)
    judge_shares(lambda labels, generator: answer(labels, MASK, ORDINARY.clone(), generator,
                                                  masked=0.5, random=0.5))


def judge_shares(show: Answer) -> None:
    """`NotYet` unless show(labels, generator) hides half of the labels and draws the others."""
    labels = ORDINARY[torch.arange(4_000) % 900]
    shown = show(labels.clone(), seeded(0))
    shares = [float((shown == x).double().mean()) for x in (torch.tensor(MASK), labels)]
    require(abs(shares[0] - 0.5) < 0.05 and shares[1] < 0.02, "with masked=0.5 and random=0.5 "
            f"{shares[0]:.0%} show [MASK] and {shares[1]:.0%} their own word; use the shares that "
            "are asked for, not 0.8 and 0.1")


@torch.random.fork_rng(devices=[])
def judge_replace(answer: Answer) -> None:
    """`NotYet` unless the answer is what `check_replace` asks for."""
    labels = ORDINARY[500 + torch.arange(20_000) % 40]  # few: one sees where random words are from

    def call(generator, labels=labels):
        shown = answer(labels.clone(), MASK, ORDINARY.clone(), generator)
        require(isinstance(shown, Tensor) and shown.shape == labels.shape,
                "it should return one token for each label: a tensor [K]")
        require(not shown.is_floating_point(), f"the ids are {shown.dtype}, no whole numbers")
        return shown

    taken = torch.stack([call(seeded(seed)) for seed in range(40)])  # [40, K]
    masked = (taken == MASK).double()
    share = masked.mean(1).tolist()
    require(min(share) < 1, "every hole shows [MASK]; 10% should show a random word and 10% the "
            "true one")
    require(not set(share) <= {0.0, 1.0} or max(share) == 0,
            "one draw decides for the whole batch; draw for each hole")
    judge_kinds(drawn(call, "replacements"), labels)
    judge_words(taken[(taken != MASK) & (taken != labels)])
    fixed = float(((masked.mean(0) - 0.5).abs() == 0.5).double().mean())
    require(fixed < 0.01, f"{fixed:.0%} of the holes have the same fate in every draw; which of "
            "them show [MASK] must be drawn, too")
    agree = float((masked[:, 1:] == masked[:, :-1]).double().mean())
    require(abs(agree - 0.68) < 0.02, f"neighbouring holes agree in {agree:.0%}, by chance it is "
            "68%; draw for each hole")
    call(seeded(0), labels[:7])


@checker
def check_labels(answer):
    """make_labels(ids [B, T], input_ids [B, T], positions [K]) -> labels [B, T] with -100."""
    ids = torch.tensor([[CLS, 111, 112, 113, SEP], [CLS, 121, 122, 123, SEP]])
    positions = torch.tensor([1, 3, 7])
    flat = ids.flatten()
    shown = flat.clone()
    shown[positions] = torch.tensor([MASK, 113, 131])  # hidden, kept, random
    input_ids = shown.view_as(ids)

    def grid(values: Tensor, background: int = -100) -> Tensor:
        table = torch.full_like(flat, background)
        table[positions] = values
        return table.view_as(ids)

    right, visible = grid(flat[positions]), flat.clone()
    visible[positions] = -100
    mistakes = {
        "the label is the replaced token, not the true one": grid(shown[positions]),
        "a hole that shows its true word has no label; ask `positions`, do not compare the texts":
            torch.where(input_ids != ids, ids, -100),
        "every token has its label, so that words in plain view are graded, too": ids,
        "every token has a label, and it is what the model sees": input_ids,
        "the other places hold 0, which is a token; -100 says: do not grade":
            grid(flat[positions], 0),
        "the other places hold -1; F.cross_entropy leaves out -100": grid(flat[positions], -1),
        "it is the wrong way round: the holes hold -100": visible.view_as(ids),
        "these are the K labels; put them into a table [B, T]": flat[positions],
        "it is still flat; give it the shape of ids: .view_as(ids)": right.flatten(),
    }
    got = answer(ids.clone(), input_ids.clone(), positions.clone())
    expect(got, right, mistakes, "the labels are others")
    require(isinstance(got, Tensor), f"it returns {type(got).__name__}, not a tensor")
    require(got.dtype == torch.int64, f"the labels are no int64, which F.cross_entropy wants, but "
            f"{got.dtype}")
    tall = ids.view(5, 2)
    expect(answer(tall.clone(), tall + 1, torch.tensor([2, 9])), torch.tensor(
        [[-100, -100], [int(tall[1, 0]), -100], *[[-100, -100]] * 2, [-100, int(tall[4, 1])]]),
        hint="right for [2, 5], but not for a batch of another shape, [5, 2]")
    expect(answer(ids.clone(), ids.clone(), positions[:0]), torch.full_like(ids, -100),
           hint="without holes all labels are -100")


@checker
def check_bigram(answer):
    """bigram_guess(text [N], left [n], vocab_size) -> guesses [n]."""
    text = torch.tensor([5, 6, 7, 5, 6, 7, 5, 6, 9, 7, 8, 8, 8, 8, 8, 5, 8, 3])
    left = torch.tensor([5, 6, 9, 4, 3])  # 4 was never seen; nothing ever followed 3
    after = torch.zeros(10, 10)
    for one, other in zip(text[:-1].tolist(), text[1:].tolist(), strict=True):
        after[one, other] += 1
    counts = torch.bincount(text, minlength=10)
    most = int(counts.argmax())

    def with_backoff(table: Tensor) -> Tensor:
        return torch.where(table[left].sum(1) > 0, table[left].argmax(1), most)

    mistakes = {
        "the guess is always 0": torch.zeros_like(left),
        "the context is not asked: always the most frequent word": torch.full_like(left, most),
        "it looks at the word before the context, not at the one that follows it":
            with_backoff(after.T),
        "it looks at the word before the context, and does not back off": after.T[left].argmax(1),
        "a context that was never seen has a row of zeros, whose argmax is 0; back off to the "
        "most frequent word": after[left].argmax(1),
        "without a known context it repeats the context": torch.where(
            after[left].sum(1) > 0, after[left].argmax(1), left),
        "the counts were divided by the frequency of the guess: that prefers rare words":
            with_backoff(after / counts.clamp(min=1)),
        "these are the counts; the guess is the word that has the highest: argmax":
            after[left].max(1).values,
    }
    expect(answer(text.clone(), left.clone(), 10), with_backoff(after), mistakes,
           "the guesses are others")
    for words, spare in ((4, 0), (7, 5)):
        _check_bigram_by_chance(answer, words, words + spare)


def _check_bigram_by_chance(answer: Answer, words: int, vocab_size: int) -> None:
    """A text of chance; where several words come first, each of them is right."""
    text = torch.randint(words, (90,), generator=seeded(words))
    left = torch.arange(vocab_size).flip(0)
    after = torch.zeros(vocab_size, vocab_size)
    after.index_put_((text[:-1], text[1:]), torch.ones(len(text) - 1), accumulate=True)
    alone = torch.bincount(text, minlength=vocab_size).float()
    rows = torch.where(after[left].sum(1, keepdim=True) > 0, after[left], alone)  # [n, V]
    guess = torch.as_tensor(answer(text.clone(), left.clone(), vocab_size)).long()
    require(guess.shape == left.shape, f"the shape is {tuple(guess.shape)}, it should be "
            f"{tuple(left.shape)}: a guess for each context")
    best = rows.gather(1, guess[:, None])[:, 0] == rows.max(1).values
    require(bool(best.all()), f"right for one text, but not for another one of {words} words in a "
            f"vocabulary of {vocab_size}: after {left[~best][:1].tolist()} others come more often")
