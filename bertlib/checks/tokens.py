"""Checkers of the lesson on tokens: fertility, joining, replayed merges, spans, likelihood."""

import math

from bertlib.checks import checker, expect, number, require
from bertlib.checks.calling import Answer, NotYet

FRAME = ("[CLS]", "[SEP]", "[PAD]")


@checker
def check_fertility(answer: Answer) -> None:
    """Tokens a word of rows of tokens; what only frames a text does not count."""
    rows = [["[CLS]", "sea", "##s", "##hore", "[SEP]"], ["[CLS]", "the", "sea", "[SEP]", "[PAD]"],
            ["[CLS]", "[UNK]", "of", "a", "[SEP]"]]
    inner = [[token for token in row if token not in FRAME] for row in rows]
    tokens, words = sum(map(len, inner)), sum(map(_words, inner))
    framed = sum(map(len, rows))
    pieces = tokens - words
    known = [[token for token in row if token != "[UNK]"] for row in inner]
    mistakes = {
        "that is one token a word: a piece with ## does not begin a word": 1.0,
        "[CLS], [SEP] and [PAD] are counted as tokens of the text": framed / words,
        "[CLS], [SEP] and [PAD] are counted as words": tokens / sum(map(_words, rows)),
        "[CLS], [SEP] and [PAD] are counted, as tokens and as words":
            framed / sum(map(_words, rows)),
        "that is words a token: the fraction stands on its head": words / tokens,
        "only the pieces with ## are counted; the one that begins a word is a token, too":
            pieces / words,
        "a mean of means: a short row counts as much as a long one; add up first":
            sum(len(row) / _words(row) for row in inner) / len(inner),
        "[UNK] is left out, but it stands for a word": sum(map(len, known)) / sum(
            map(_words, known)),
        "that is the number of tokens a row": tokens / len(rows),
    }
    expect(answer([list(row) for row in rows]), tokens / words, mistakes, "another number")
    expect(answer([["[CLS]", "[", "#", "##1", "]", "[SEP]", "a", "##b", "[SEP]"]]), 6 / 4,
           hint="right for one text, but not for [CLS] [ # ##1 ] [SEP] a ##b [SEP]: six tokens, "
                "four words")


@checker
def check_join(answer: Answer) -> None:
    """Tokens back to text: pieces joined, the frame left out, one space between words."""
    tokens = ["[CLS]", "she", "sells", "sea", "##sh", "##ells", "[SEP]", "[PAD]"]
    got, right = answer(list(tokens)), "she sells seashells"
    require(isinstance(got, str), f"it returns {type(got).__name__}, not a text")
    require(not any(token in got for token in FRAME), "[CLS], [SEP] and [PAD] are left in the text")
    require(got != right.replace(" ", ""), "no word is parted from the next; spaces are missing")
    require(got.split() != ["she", "sells", "sea", "##sh", "##ells"],
            "the pieces are not joined: each still has its ## and a space before it")
    require("#" not in got, "the pieces are joined, but the ## is left inside the word")
    require(got.split() != ["she", "sells", "sea", "sh", "ells"],
            "the ## is gone, but a space still stands before the piece")
    require("  " not in got and got == got.strip() or got.split() != right.split(),
            "spaces are left over, doubled or at an end")
    expect(got, right, hint=f"{tokens[1:6]} became {got!r}")
    expect(answer(["c", "#", "1", "##s"]), "c # 1s", {
        "a lone # is a token of its own; only a leading ## says 'goes on'": "c 1s",
        "a lone # was joined to its neighbour; only a leading ## says 'goes on'": "c# 1s",
        "a lone # was joined to its neighbours; only a leading ## says 'goes on'": "c#1s",
    }, "a token that is one # should stay as it is")
    expect(answer(["[CLS]", "[UNK]", "[MASK]", "[", "]", "[SEP]"]), "[UNK] [MASK] [ ]", {
        "what begins with [ was left out, but [UNK], [MASK] and a bracket stand for something; "
        "leave out [CLS], [SEP] and [PAD] alone": "]",
    }, "only [CLS], [SEP] and [PAD] are left out; [UNK], [MASK] and brackets stay")
    expect(answer(["[CLS]", "a", "##b", "[SEP]", "c", "[SEP]"]), "ab c",
           hint="two texts in a row: a [SEP] in the middle is left out, too, and parts two words")
    expect(answer([]), "", hint="no tokens should become an empty text")


@checker
def check_replay(answer: Answer) -> None:
    """A word cut by replaying the learned merges, oldest first, on its letters."""
    judge_replay(answer)


def judge_replay(answer: Answer) -> None:
    """`NotYet` unless answer(word, merges) returns the pieces that the merges make of a word."""
    def ask(word, *merges):
        got = answer(word, list(merges))
        require(not isinstance(got, str), "it returns one text; return a list of pieces")
        return list(got)

    expect(ask("sea"), ["s", "##e", "##a"], {
        "each letter after the first needs its ##": ["s", "e", "a"],
        "the first letter begins the word: no ## there": ["##s", "##e", "##a"],
        "without a merge the word should fall into letters": ["sea"],
    }, "without a merge the word should fall into its letters, s ##e ##a")
    twice = ask("cabab", ("##a", "##b"))
    require(not any("#" in piece[2:] for piece in twice),
            "the ## of the right piece is left inside")
    expect(twice, ["c", "##ab", "##ab"], {
        "nothing was merged": ["c", "##a", "##b", "##a", "##b"],
        "only the first place in the word is merged; the pair stands there twice":
            ["c", "##ab", "##a", "##b"],
        "the left piece loses its ## when it is merged": ["c", "ab", "ab"],
    }, f"c ##a ##b ##a ##b with the merge (##a, ##b) became {' '.join(map(str, twice))}")
    expect(ask("caaa", ("##a", "##a")), ["c", "##aa", "##a"], {
        "where places overlap the left one comes first": ["c", "##a", "##aa"],
        "places that overlap are both merged: a letter is used twice": ["c", "##aa", "##aa"],
    }, "c ##a ##a ##a with the merge (##a, ##a) should become c ##aa ##a")
    inside = ("a merge was made inside a longer piece: ({}, {}) does not fit {}; compare whole "
              "pieces (str.replace does not)")
    expect(ask("sat", ("a", "##t")), ["s", "##a", "##t"],
           {inside.format("a", "##t", "##a ##t"): ["s", "##at"]},
           "s ##a ##t with the merge (a, ##t) should stay: ##a is not a")
    require(ask("abc", ("##b", "##c"), ("a", "##b")) != ["abc"],
            inside.format("a", "##b", "a ##bc"))
    expect(ask("a", ("a", "##b")), ["a"], hint="a word of one letter is one piece")
    merges = ("##b", "##c"), ("a", "##b"), ("ab", "##c")
    expect(ask("abc", *merges), ["a", "##bc"], {
        "that is the longest match; here the merges are replayed in their order": ["abc"],
        "the merges are replayed from the last to the first": ["ab", "##c"],
    }, "the oldest merge comes first, even if a later one would reach further")


@checker
def check_spans(answer: Answer) -> None:
    """Greedy longest match, with the place of each piece in the word; [UNK] for the whole."""
    judge_spans(answer)


def judge_spans(answer: Answer) -> None:
    """`NotYet` unless answer(word, vocab) returns (piece, start, end) of the longest match."""
    vocab = {"s", "sea", "shells", "##s", "##sh", "##shell", "##e", "##a", "##h", "##l", "a"}

    def ask(word):
        got = answer(word, set(vocab))
        got = list(got)
        if not all(isinstance(part, tuple | list) and len(part) == 3 for part in got):
            raise NotYet("return one (piece, start, end) for each piece")
        return [tuple(part) for part in got]

    got = ask("seashells")
    names = [str(piece) for piece, _, _ in got]
    require(names != ["seashells"], "the whole word is no piece of this vocabulary: cut it")
    require(names != ["sea", "shell", "s"], "the second piece has no ##")
    require([name[-6:] for name in names] != ["sea", "shells"],
            "inside a word a piece must be looked up with its ##")
    require(names[:2] != ["s", "##e"], "it takes the shortest match, not the longest")
    require(names != ["[UNK]"], "'seashells' can be built, but it returned [UNK]")
    expect(names, ["sea", "##shell", "##s"], hint=f"'seashells' became {' '.join(map(str, names))}")
    expect(got, [("sea", 0, 3), ("##shell", 3, 8), ("##s", 8, 9)], {
        "the span counts the ##, which is not in the word":
            [("sea", 0, 3), ("##shell", 3, 10), ("##s", 8, 11)],
        "the spans run on with the ##, which is not in the word":
            [("sea", 0, 3), ("##shell", 3, 10), ("##s", 10, 13)],
        "the end is the last letter's place; like in a slice it is one further":
            [("sea", 0, 2), ("##shell", 3, 7), ("##s", 8, 8)],
        "each span begins at 0 again": [("sea", 0, 3), ("##shell", 0, 5), ("##s", 0, 1)],
        "the third number is the length, not the end":
            [("sea", 0, 3), ("##shell", 3, 5), ("##s", 8, 1)],
    }, f"the pieces are right, the spans are not: {got}")
    for word in ("seax", "xsea", "seaxsea"):
        _expect_unknown(ask(word), word)
    require(ask("a" * 101) == [("[UNK]", 0, 101)],
            "a word of more than 100 letters should be one [UNK]")
    require(ask("a" * 100) == [("##a"[2 * (n == 0):], n, n + 1) for n in range(100)],
            "a word of 100 letters is not too long yet")


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
        require(not isinstance(used_up, float) or math.isfinite(used_up),
                "it is right while something is left of a and b; a piece that is used up has count "
                "0, and 0 * log 0 is 0")
        expect(used_up, right(n, a, b, 40), hint="the number is another where a or b is used up")


def _words(row: list[str]) -> int:
    return sum(not token.startswith("##") for token in row)


def _side(count: float) -> float:
    """count * log(count), which is 0 at 0: what a piece adds to the log likelihood."""
    return count * math.log(count) if count else 0.0


def _expect_unknown(got: list[tuple], word: str) -> None:
    """The spans of a word that cannot be built must be one [UNK] over all of it."""
    names = [piece for piece, _, _ in got]
    if "[UNK]" not in names:
        raise NotYet("a word that cannot be built returns its pieces so far instead of one [UNK]"
                     if got else "a word that cannot be built returns nothing; it should be [UNK]")
    require(len(got) == 1, "beside [UNK] stand pieces; a word that cannot be built is one [UNK]")
    require(got == [("[UNK]", 0, len(word))], "the span of [UNK] should be the whole word")
