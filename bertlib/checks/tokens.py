"""Checkers of how notebook 01 learns a vocabulary: pairs, merges, the loop, what a merge gains."""

import math
import random
from collections import Counter
from collections.abc import Callable

from bertlib.checks import checker, expect, number, require
from bertlib.checks.calling import Answer, NotYet
from bertlib.plumbing.vocab import SPECIAL_TOKENS

WORDS = Counter({"sees": 3, "seas": 2, "see": 4, "bees": 1, "banana": 2})
SEEDS = range(40)  # of the small languages that an answer must be right for


def letters(word: str) -> list[str]:
    """A word as its letters, each after the first with its ##."""
    return [word[0], *("##" + letter for letter in word[1:])]


def merge(parts: list[str], pair: tuple[str, str]) -> list[str]:
    """The parts of a word with `pair` made one piece wherever it stands, from the left."""
    merged: list[str] = []
    for piece in parts:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece.removeprefix("##")
        else:
            merged.append(piece)
    return merged


def pairs_of(pieces: dict[str, list[str]], words: Counter) -> Counter:
    """How often each pair of pieces stands side by side in a text of so many words."""
    pairs: Counter = Counter()
    for word, times in words.items():
        for pair in zip(pieces[word], pieces[word][1:], strict=False):
            pairs[pair] += times
    return pairs


def language(seed: int) -> tuple[Counter, dict[str, list[str]]]:
    """A small text of chance: its words with their counts, and pieces after a few merges."""
    dice = random.Random(seed)
    words = Counter({"".join(dice.choices("abc", k=dice.randint(1, 7))): dice.randint(1, 6)
                     for _ in range(6)})
    pieces = {word: letters(word) for word in words}
    for _ in range(dice.randint(0, 3)):
        for pair in dice.sample(sorted(pairs_of(pieces, words)), 1):
            pieces = {word: merge(parts, pair) for word, parts in pieces.items()}
    return words, pieces


@checker
def check_pairs(answer: Answer) -> None:
    """answer(pieces, words) -> {pair: times}; pieces: word -> its parts, words: word -> times."""
    _judge_pairs(answer, {word: letters(word) for word in WORDS}, WORDS)
    for seed in SEEDS:
        words, pieces = language(seed)
        _judge_pairs(answer, pieces, words)


def _judge_pairs(answer: Answer, pieces: dict[str, list[str]], words: Counter) -> None:
    got = answer({word: list(parts) for word, parts in pieces.items()}, Counter(words))
    right = pairs_of(pieces, words)
    require(isinstance(got, dict), f"it returns {type(got).__name__}, not a Counter")
    require(all(isinstance(pair, tuple) for pair in got), "a pair is a tuple of two pieces, "
            "not a text: the place where they part would be lost")
    ordered = sorted(right)
    in_a_row = [piece for word in words for piece in pieces[word]]
    sets = Counter({pair: sum(times for word, times in words.items() if pair in pairs_of(
        pieces, Counter([word]))) for pair in ordered})

    def counts(pairs: Counter) -> list[int]:
        return [pairs.get(pair, 0) for pair in ordered]
    strange = [pair for pair in got if pair not in right and got[pair]]
    require(not strange or not all(pair[::-1] in right for pair in got),
            f"the pairs are turned around: {strange[:1]}")
    require(not set(strange) & set(zip(in_a_row, in_a_row[1:], strict=False)), "the last piece "
            f"of a word and the first of the next are no pair: {strange[:1]}")
    require(not strange, f"no word has the pair {strange[:1]}; pieces keep their ##")
    other = next((pair for pair in ordered if got.get(pair, 0) != right[pair]), ("", ""))
    cut = ", ".join(f"{times} x {' '.join(pieces[word])}" for word, times in words.items())
    expect(counts(got), counts(right), {
        "no pair is counted": [0] * len(ordered),
        "each word counts once; it counts as often as it stands in the text":
            counts(pairs_of(pieces, Counter(dict.fromkeys(words, 1)))),
        "a pair that stands twice in a word counts once; in banana (##a, ##n) stands twice":
            counts(sets),
    }, f"({', '.join(other)}) stands {right[other]} times in {cut}, not {got.get(other, 0)}")


MERGES: tuple[tuple[str, str, str, dict[str, str]], ...] = (  # parts, pair, right, mistakes
    ("c ##a ##b ##a ##b", "##a ##b", "c ##ab ##ab", {
        "nothing was merged": "c ##a ##b ##a ##b",
        "only the first place in the word is merged; the pair stands there twice":
            "c ##ab ##a ##b",
        "the ## of the right piece is left inside": "c ##a##b ##a##b",
        "the left piece loses its ## when it is merged": "c ab ab"}),
    ("c ##a ##a ##a", "##a ##a", "c ##aa ##a", {
        "where places overlap the left one comes first": "c ##a ##aa",
        "places that overlap are both merged: a letter is used twice": "c ##aa ##aa"}),
    ("s ##a ##t", "a ##t", "s ##a ##t", {
        "a merge was made inside a longer piece: (a, ##t) does not fit ##a ##t; compare whole "
        "pieces (str.replace does not)": "s ##at"}),
    ("a ##bc", "a ##b", "a ##bc", {
        "a merge was made inside a longer piece: (a, ##b) does not fit a ##bc; compare whole "
        "pieces (str.replace does not)": "abc"}),
    ("a", "a ##b", "a", {}),
    ("a ##b", "a ##b", "ab", {"the pair at the end of a word is left": "a ##b"}),
)


@checker
def check_merge(answer: Answer) -> None:
    """answer(parts, pair) -> the parts with that pair made one piece wherever it stands."""
    def ask(parts: list[str], pair: tuple[str, str]) -> list[str]:
        got = answer(list(parts), pair)
        require(not isinstance(got, str), "it returns one text; return a list of pieces")
        return list(got)

    for before, both, right, mistakes in MERGES:
        one, other = both.split()
        got = ask(before.split(), (one, other))
        expect(got, right.split(), {name: value.split() for name, value in mistakes.items()},
               f"{before} with the merge ({one}, {other}) should be {right}, not "
               f"{' '.join(map(str, got))}")
    for seed in SEEDS:
        words, pieces = language(seed)
        for pair in sorted(pairs_of(pieces, words)):
            for parts in pieces.values():
                got, wanted = ask(parts, pair), merge(parts, pair)
                expect(got, wanted, hint=f"{' '.join(parts)} with the merge ({', '.join(pair)}) "
                       f"should be {' '.join(wanted)}, not {' '.join(map(str, got))}")


def learn(words: Counter, size: int, score: Callable = pairs_of, once: bool = False,
          stale: bool = False, rare: bool = False, tie: str = "old") -> list[str]:
    """A vocabulary by the best pair, rightly or with a mistake."""
    pieces = {word: letters(word) for word in words}
    plain = sorted({letter for word in words for letter in word})
    inside = sorted({"##" + letter for word in words for letter in word[1:]})
    vocab = [*SPECIAL_TOKENS, *plain, *inside]
    fixed = score(pieces, words)
    while len(vocab) < size:
        counted = Counter(dict.fromkeys(words, 1)) if once else words
        pairs = fixed if stale else score(pieces, counted)
        if not pairs:
            break
        sign = {"old": 1, "new": -1, "seen": 0}[tie]
        best = min(pairs, key=lambda pair: (pairs[pair] if rare else -pairs[pair], *(
            sign * vocab.index(piece) for piece in pair)))
        fixed = Counter({pair: times for pair, times in fixed.items() if pair != best})
        piece = best[0] + best[1].removeprefix("##")
        vocab += [piece] if piece not in vocab else []
        pieces = {word: merge(parts, best) for word, parts in pieces.items()}
    return vocab


@checker
def check_learn(answer: Answer) -> None:
    """answer(words, size, score=...) -> a vocabulary of so many tokens, from counted words.

    The special tokens come first, then the letters and the ##letters of the text, sorted, then a
    piece for each merge of the pair with the highest score, by default the most frequent; of equal
    ones the pair whose first piece, then second, is older.
    """
    for words, size in ((WORDS, 24), (Counter({"aaaa": 5, "abab": 3, "b": 9}), 14)):
        _judge_learn(answer, words, size)
    require(len(list(answer(Counter({"ab": 1}), 100))) == 9, "where no pair is left, it ends: of "
            "the text 'ab' nine tokens can be learned")
    for seed in SEEDS:
        _judge_learn(answer, language(seed)[0], 10 + seed % 12)

    def strange(pieces: dict[str, list[str]], words: Counter) -> Counter:
        return Counter({pair: 1 / times for pair, times in pairs_of(pieces, words).items()})

    expect(list(answer(Counter(WORDS), 24, strange)), learn(WORDS, 24, strange), {
        "the score that is passed is not asked: it still merges the most frequent pair":
            learn(WORDS, 24)}, "right for the most frequent pair, but not for another score")


def _judge_learn(answer: Answer, words: Counter, size: int) -> None:
    got, right, alphabet = list(answer(Counter(words), size)), learn(words, size), learn(words, 0)
    require(got[:5] == list(SPECIAL_TOKENS), "the five special tokens should stand first, in "
            f"their order: {' '.join(SPECIAL_TOKENS)}")
    require(set(alphabet) <= set(got), "a letter of the text is missing; every letter needs its "
            "token, at the beginning of a word and, with ##, inside")
    require(got[:len(alphabet)] == alphabet, "the alphabet comes next: the letters sorted, then "
            "the letters with ## sorted")
    require(len(set(got)) == len(got), "a token stands twice; another merge made it already")
    expect(got, right, {
        "no pair was merged": alphabet,
        "one token too few": right[:-1], "one token too many": learn(words, size + 1),
        "each word counts once; it counts as often as it stands in the text":
            learn(words, size, once=True),
        "the pairs are counted before the first merge only; count anew after each":
            learn(words, size, stale=True),
        "the rarest pair is merged": learn(words, size, rare=True),
        "of equally frequent pairs the newest is merged; take the one whose pieces are older":
            learn(words, size, tie="new"),
        "of equally frequent pairs the first seen is merged; take the one whose pieces are "
        "older": learn(words, size, tie="seen"),
    }, f"of {dict(words)} {' '.join(right[len(alphabet):])} should be learned after the alphabet, "
        f"not {' '.join(map(str, got[len(alphabet):]))}")


@checker
def check_gain(answer: Answer) -> None:
    """How much a merge raises the log likelihood of the text under its piece frequencies."""
    def right(n, a, b, total):
        before = _side(a) + _side(b) - _side(total)
        return _side(a - n) + _side(b - n) + _side(n) - _side(total - n) - before

    n, a, b, total = 4, 6, 10, 40
    value, longer = right(n, a, b, total), _side(total) - _side(total - n)
    mistakes = {
        "the text keeps its old length; each merge makes it one token shorter": value - longer,
        "a and b keep their old counts; each merge uses one of both up": _side(n) + longer,
        "a and b keep their old counts, and the text its old length": _side(n),
        "the text grows; each merge makes it one token shorter":
            value - longer + _side(total) - _side(total + n),
        "the sign is turned around: after minus before": -value,
        "the logarithm has base 2; nats need the natural one": value / math.log(2),
        "that is the likelihood after the merge; take off what it was before":
            _side(a - n) + _side(b - n) + _side(n) - _side(total - n),
        "that is count / (count a * count b), the short cut": n / (a * b),
        "that is the count of the pair alone": float(n),
        "that compares the pair with chance only; what is left of a and b changes, too":
            n * math.log(n * total / (a * b)),
        "the new piece itself is missing": value - _side(n),
        "the loss a token, not the sum over the text": value / total,
    }
    expect(answer(n, a, b, total), value, mistakes, "another number")
    expect(answer(3, 9, 5, 50), right(3, 9, 5, 50),
           hint="right for n=4, a=6, b=10, total=40, but not for n=3, a=9, b=5, total=50")
    for n, a, b in ((4, 4, 10), (4, 10, 4), (4, 4, 4)):
        used_up = math.nan
        try:
            used_up = number(answer(n, a, b, 40))
        except NotYet as stop:
            if not isinstance(stop.__cause__, ValueError | ZeroDivisionError):
                raise
        require(not isinstance(used_up, float) or math.isfinite(used_up), "it is right while "
                "something is left of a and b; a piece used up has count 0, and 0 * log 0 is 0")
        expect(used_up, right(n, a, b, 40), hint="the number is another where a or b is used up")


def _side(count: float) -> float:
    """count * log(count), which is 0 at 0: what a piece adds to the log likelihood."""
    return count * math.log(count) if count else 0.0
