"""The checkers of learning a vocabulary: right answers of several kinds, mistakes by name."""

import math
from collections import Counter

import pytest

from bertlib.checks.tokens import (
    check_gain,
    check_learn,
    check_merge,
    check_pairs,
    learn,
    merge,
    pairs_of,
)
from bertlib.plumbing.vocab import SPECIAL_TOKENS


def by_index(pieces, words):
    pairs = {}
    for word in words:
        parts = pieces[word]
        for n in range(len(parts) - 1):
            pairs[parts[n], parts[n + 1]] = pairs.get((parts[n], parts[n + 1]), 0) + words[word]
    return pairs


def across(pieces, words):
    row = [piece for word in words for piece in pieces[word]]
    return Counter(zip(row, row[1:], strict=False))


def sets(pieces, words):
    return Counter({pair: sum(times for word, times in words.items() if pair in set(
        zip(pieces[word], pieces[word][1:], strict=False))) for pair in pairs_of(pieces, words)})


def merge_by_index(parts, pair):
    merged, place = [], 0
    while place < len(parts):
        fits = tuple(parts[place:place + 2]) == tuple(pair)
        merged.append(pair[0] + pair[1][2:] if fits else parts[place])
        place += 1 + fits
    return merged


def by_text(parts, pair):
    return " ".join(parts).replace(" ".join(pair), pair[0] + pair[1][2:]).split()


def by_text_from_the_left(parts, pair):
    """The same, but a pair is only found where a piece begins."""
    text = " " + " ".join(parts)
    return text.replace(" " + " ".join(pair), " " + pair[0] + pair[1][2:]).split()


def first_only(parts, pair):
    for place in range(len(parts) - 1):
        if (parts[place], parts[place + 1]) == pair:
            return [*parts[:place], pair[0] + pair[1][2:], *parts[place + 2:]]
    return parts


def from_the_right(parts, pair):
    pieces, place = list(parts), len(parts) - 2
    while place >= 0:
        if tuple(pieces[place:place + 2]) == pair:
            pieces[place:place + 2] = [pair[0] + pair[1][2:]]
        place -= 1
    return pieces


def learn_by_heap(words, size, score=pairs_of):
    """The same vocabulary, by sorting all pairs each time."""
    pieces = {word: [word[0], *("##" + c for c in word[1:])] for word in words}
    number = {token: n for n, token in enumerate(learn(words, 0))}
    while len(number) < size:
        pairs = sorted(score(pieces, words).items(), key=lambda item: (
            -item[1], number[item[0][0]], number[item[0][1]]))
        if not pairs:
            break
        (one, other), _ = pairs[0]
        number.setdefault(one + other[2:], len(number))
        pieces = {word: merge_by_index(parts, (one, other)) for word, parts in pieces.items()}
    return list(number)


def doubled(words, size):
    vocab = learn(words, size - 1)
    return [*vocab, vocab[-1]]


def deaf(words, size, score=None):
    return learn(words, size)


def f(count):
    return count * math.log(count) if count else 0.0


def gain(n, a, b, total):
    before = f(a) + f(b) - f(total)
    return f(a - n) + f(b - n) + f(n) - f(total - n) - before


def gain_by_shares(n, a, b, total):
    """The same, as a sum over tokens of the log of their shares."""
    rest, after = total - a - b, total - n
    old = sum(c * math.log(c / total) for c in (a, b) if c)
    new = sum(c * math.log(c / after) for c in (a - n, b - n, n) if c)
    return new - old + rest * (math.log(total) - math.log(after))


def gain_without_zero(n, a, b, total):
    def side(count):
        return count * math.log(count)
    return (side(a - n) + side(b - n) + side(n) - side(total - n)
            - side(a) - side(b) + side(total))


RIGHT = [
    (check_pairs, pairs_of), (check_pairs, by_index),
    (check_merge, merge), (check_merge, merge_by_index),
    (check_learn, learn), (check_learn, learn_by_heap),
    (check_gain, gain), (check_gain, gain_by_shares),
]

WRONG = [
    (check_pairs, lambda pieces, words: pairs_of(pieces, Counter(list(words))), "counts once; it"),
    (check_pairs, sets, "in banana"),
    (check_pairs, across, "the first of the next"),
    (check_pairs, lambda pieces, words: {a + " " + b: n for (a, b), n in pairs_of(
        pieces, words).items()}, "a tuple of two pieces"),
    (check_pairs, lambda pieces, words: {pair[::-1]: n for pair, n in pairs_of(
        pieces, words).items()}, "turned around"),
    (check_pairs, lambda pieces, words: list(pairs_of(pieces, words)), "not a Counter"),
    (check_pairs, lambda pieces, words: pairs_of(pieces, words) and words.clear() or {},
     "words itself was changed"),
    (check_pairs, lambda pieces, words: pairs_of(pieces, words) if len(words) == 5 else Counter(),
     "no pair is counted"),
    (check_pairs, lambda pieces, words: pairs_of(pieces, words) + Counter(
        dict.fromkeys(pairs_of(pieces, words), 1)), "times in"),
    (check_merge, by_text, "inside a longer piece"),
    (check_merge, lambda parts, pair: merge(parts, pair[::-1]),
     "(##a, ##b) should be c ##ab ##ab, not c ##a ##ba ##b"),
    (check_merge, by_text_from_the_left, "(a, ##b) does not fit a ##bc"),
    (check_merge, first_only, "only the first place"),
    (check_merge, from_the_right, "the left one comes first"),
    (check_merge, lambda parts, pair: [*merge(parts[:-1], pair), parts[-1]], "only the first"),
    (check_merge, lambda parts, pair: merge(parts, pair) if len(parts) < 6 else parts, "should be"),
    (check_merge, lambda parts, pair: parts, "nothing was merged"),
    (check_merge, lambda parts, pair: " ".join(merge(parts, pair)), "list of pieces"),
    (check_merge, lambda parts, pair: [*merge(parts[:4], pair), *parts[4:]],
     "only the first place"),
    (check_merge, lambda parts, pair: [p.replace("c##", "c") for p in merge(
        parts, (pair[0], pair[1][2:]))], "nothing was merged"),
    (check_merge, lambda parts, pair: parts.pop() and parts, "parts itself was changed"),
    (check_learn, lambda words, size: learn(words, size)[5:], "special tokens should stand first"),
    (check_learn, lambda words, size: [t for t in learn(words, size) if t != "##s" and t != "##a"],
     "a letter of the text is missing"),
    (check_learn, lambda words, size: [*SPECIAL_TOKENS, *sorted(learn(words, size)[5:])],
     "the alphabet comes next"),
    (check_learn, doubled, "stands twice"),
    (check_learn, lambda words, size: learn(words, 0), "no pair was merged"),
    (check_learn, lambda words, size: learn(words, size - 1), "too few"),
    (check_learn, lambda words, size: learn(words, size + 1), "too many"),
    (check_learn, lambda words, size: learn(words, size, once=True), "each word counts once"),
    (check_learn, lambda words, size: learn(words, size, stale=True), "count anew after each"),
    (check_learn, lambda words, size: learn(words, size, rare=True), "the rarest pair"),
    (check_learn, lambda words, size: learn(words, size, tie="seen"), "the first seen is merged"),
    (check_learn, lambda words, size: learn(words, min(size, 30) if size < 99 else 9)[:size] + (
        ["x"] if size > 99 else []), "where no pair is left"),
    (check_learn, deaf, "the score that is passed is not asked"),
    (check_learn, lambda words, size: learn(words, size), "takes 2 positional arguments but 3"),
    (check_learn, lambda words, size, score=pairs_of: learn(words, size, score,
     tie="seen" if words.total() > 18 else "old"), "the first seen is merged"),
    (check_gain, lambda n, a, b, total: 0.0, "another number"),
    (check_gain, lambda n, a, b, total: n, "count of the pair alone"),
    (check_gain, lambda n, a, b, total: n / (a * b), "the short cut"),
    (check_gain, lambda n, a, b, total: -gain(n, a, b, total), "turned around"),
    (check_gain, lambda n, a, b, total: gain(n, a, b, total) / math.log(2), "base 2"),
    (check_gain, lambda n, a, b, total: f(a - n) + f(b - n) + f(n) - f(a) - f(b),
     "keeps its old length"),
    (check_gain, lambda n, a, b, total: f(n) - f(total - n) + f(total), "keep their old counts;"),
    (check_gain, lambda n, a, b, total: n * math.log(n * total / (a * b)), "with chance only"),
    (check_gain, gain_without_zero, "0 * log 0 is 0"),
    (check_gain, lambda n, a, b, total: gain(n, max(a, n + 1), b, total), "a or b is used up"),
    (check_gain, lambda n, a, b, total: gain(4, 6, 10, 40), "but not for n=3"),
    (check_gain, lambda n, a, b, total: gain(n, a, b), "TypeError: gain() missing 1 required"),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass_however_they_are_written(check, answer):
    assert check(answer) == "right"


@pytest.mark.parametrize(("check", "answer", "words"), WRONG)
def test_a_mistake_is_named(check, answer, words, diagnosed):
    diagnosed(check, answer, words)
