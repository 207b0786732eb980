"""Checkers of what notebook 01 builds: words, pairs, a vocabulary, the cut, ids and padding."""

from collections import Counter
from functools import reduce

import torch

from bertlib.checks import checker, expect, require
from bertlib.checks.calling import Answer
from bertlib.checks.tokens import judge_replay, judge_spans
from bertlib.tokens import SPECIAL_TOKENS, Tokenizer

# A text, its words, and what known mistakes make of it.
TEXTS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("The  Sea", "the sea", {"capitals are left: BERT reads small letters": "The Sea"}),
    ("Don't stop.", "don ' t stop .", {
        "marks are left on the words; each is a word of its own": "don't stop.",
        "marks are dropped; each is a word of its own": "don t stop",
        "marks are dropped, and the parts run together": "dont stop",
        "a mark inside a word parts it, too": "don't stop ."}),
    ("a_b <$5>", "a _ b < $ 5 >", {
        "$ and < are no punctuation to Unicode, but BERT parts all ASCII signs": "a _ b <$5>",
        "_ belongs to \\w, but not to a word": "a_b < $ 5 >"}),
    ("Café Åse", "cafe ase", {
        "accents are left; decompose (NFD) and drop category Mn": "café åse",
        "letters with an accent are dropped; only the accent goes": "caf se",
        "the text is decomposed, but the accents are left": "cafe\u0301 a\u030ase"}),
    ("ab\u200bc\td\x00e", "abc de", {
        "control signs (category C) are left inside words": "ab\u200bc d\x00e",
        "a tab is a control sign, too, but stands for a space": "abcde",
        "control signs go, they do not part words": "ab c d e"}),
    ("北京ok’", "北 京 ok ’", {
        "a Chinese sign is a word of its own": "北京ok ’",
        "marks beyond ASCII are marks, too: Unicode's categories P": "北 京 ok’",
        "marks beyond ASCII and Chinese signs stand alone, too": "北京ok’"}),
    ("x² ﬁne", "x² ﬁne", {"NFKC rewrites letters (² becomes 2); take NFD": "x2 fine"}),
    (" ", "", {}),
)


@checker
def check_basic_words(answer: Answer) -> None:
    """answer(text) -> the words of a text before WordPiece cuts them, as uncased BERT does."""
    for text, words, mistakes in TEXTS:
        got = answer(text)
        require(not isinstance(got, str), "it returns one text; return a list of words")
        require(list(got) == words.split() or "" not in got, "there are empty words in the list")
        expect(list(got), words.split(), {name: value.split() for name, value in mistakes.items()},
               f"{text!r} should become {words.split()}, not {list(got)}")


WORDS = Counter({"sees": 3, "seas": 2, "see": 4, "bees": 1, "banana": 2})


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


@checker
def check_pairs(answer: Answer) -> None:
    """answer(pieces, words) -> {pair: times}; pieces: word -> its parts, words: word -> times."""
    pieces = {word: letters(word) for word in WORDS}
    got = answer(pieces, WORDS)
    require(isinstance(got, dict), f"it returns {type(got).__name__}, not a Counter")
    require(all(isinstance(pair, tuple) for pair in got), "a pair is a tuple of two pieces, "
            "not a text: the place where they part would be lost")
    ordered = sorted(pairs_of(pieces, WORDS))
    once = Counter(dict.fromkeys(WORDS, 1))
    in_a_row = [piece for word in WORDS for piece in pieces[word]]
    sets = Counter({pair: sum(times for word, times in WORDS.items()
                              if pair in pairs_of(pieces, Counter([word]))) for pair in ordered})

    def counts(pairs: Counter) -> list[int]:
        return [pairs.get(pair, 0) for pair in ordered]

    strange = [pair for pair in got if pair not in ordered and got[pair]]
    require(not strange or not all(pair[::-1] in ordered for pair in got),
            f"the pairs are turned around: {strange[:1]}")
    require(not set(strange) & set(zip(in_a_row, in_a_row[1:], strict=False)), "the last piece "
            f"of a word and the first of the next are no pair: {strange[:1]}")
    require(not strange, f"no word has the pair {strange[:1]}; pieces keep their ##")
    expect(counts(got), counts(pairs_of(pieces, WORDS)), {
        "each word counts once; it counts as often as it stands in the text":
            counts(pairs_of(pieces, once)),
        "a pair that stands twice in a word counts once; in banana (##a, ##n) stands twice":
            counts(sets),
    }, "the counts are others")


@checker
def check_merge(answer: Answer) -> None:
    """answer(parts, pair) -> the parts with that pair made one piece wherever it stands."""
    got = answer(["a", "##b"], ("a", "##b"))
    require(not isinstance(got, str), "it returns one text; return a list of pieces")
    judge_replay(lambda word, merges: reduce(answer, merges, letters(word)))


def learn(words: Counter, size: int, once: bool = False, stale: bool = False,
          rare: bool = False, tie: str = "old") -> list[str]:
    """A vocabulary by the most frequent pair, rightly or with a mistake."""
    pieces = {word: letters(word) for word in words}
    plain = sorted({letter for word in words for letter in word})
    inside = sorted({"##" + letter for word in words for letter in word[1:]})
    vocab = [*SPECIAL_TOKENS, *plain, *inside]
    fixed = pairs_of(pieces, words)
    while len(vocab) < size:
        counted = Counter(dict.fromkeys(words, 1)) if once else words
        pairs = fixed if stale else pairs_of(pieces, counted)
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
    """answer(words, size) -> a vocabulary of so many tokens, from words and their counts.

    The special tokens come first, then the letters and the ##letters of the text, sorted, then a
    piece for each merge of the most frequent pair; of equal ones the pair whose first piece, then
    second, is older.
    """
    for words, size in ((WORDS, 24), (Counter({"aaaa": 5, "abab": 3, "b": 9}), 14)):
        got, right = list(answer(Counter(words), size)), learn(words, size)
        start = [token for token in learn(words, 0) if token not in SPECIAL_TOKENS]
        require(got[:5] == list(SPECIAL_TOKENS), "the five special tokens should stand first, in "
                f"their order: {' '.join(SPECIAL_TOKENS)}")
        require(set(start) <= set(got), "a letter of the text is missing; every letter needs its "
                "token, at the beginning of a word and, with ##, inside")
        require(got[5:5 + len(start)] == start, "the alphabet comes next: the letters sorted, then "
                "the letters with ## sorted")
        require(len(set(got)) == len(got), "a token stands twice; another merge made it already")
        expect(got, right, {
            "no pair was merged": learn(words, 0),
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
        }, f"after the alphabet {' '.join(right[5 + len(start):])} should be learned, not "
            f"{' '.join(map(str, got[5 + len(start):]))}")
    expect(len(answer(Counter({"ab": 1}), 100)), 9, hint="where no pair is left, it ends")


@checker
def check_cut(answer: Answer) -> None:
    """answer(word, vocab) -> the pieces of the longest match from the left, or one [UNK]."""
    def spans(word, vocab):
        pieces, start = answer(word, vocab), 0
        require(not isinstance(pieces, str), "it returns one text; return a list of pieces")
        if list(pieces) == ["[UNK]"]:
            return [("[UNK]", 0, len(word))]
        found = []
        for piece in pieces:
            found.append((piece, start, start := start + len(str(piece).removeprefix("##"))))
        return found
    judge_spans(spans)


@checker
def check_encode(answer: Answer) -> None:
    """answer(text, vocab) -> ids of [CLS] text [SEP]; vocab: token -> id, uncased.

    A [MASK] that is written in the text is the special token.
    """
    words = ["sea", "##s", "the", ".", "'", "s", "a", "[", "]", "mask", "##sh"]
    tokenizer = Tokenizer([*words[:4], *SPECIAL_TOKENS, *words[4:]], lowercase=True)
    vocab = {token: number for number, token in enumerate(tokenizer.vocab)}
    special = tokenizer.special
    tests: tuple[tuple[str, dict[str, list[int]]], ...] = (
        ("the seas .", {}),
        ("The sea's.", {"capitals are left, so that the word is unknown": [
            special.unk, *tokenizer.encode("sea's.", False)]}),
        ("a xyz seash", {"an unknown word is left out; it becomes [UNK]":
                          tokenizer.encode("a seash", False)}),
        ("seax", {"a word that cannot be built is one [UNK], its pieces are dropped":
                  [vocab["sea"], special.unk]}),
        ("the [MASK].", {"[MASK] is cut like a word; it is one token": [
            vocab[token] for token in ("the", "[", "mask", "]", ".")]}),
        ("", {}),
    )
    for text, mistakes in tests:
        inner, got = tokenizer.encode(text, False), answer(text, dict(vocab))
        require(not isinstance(got, str), "it returns one text; return a list of ids")
        got = list(got)
        require(not any(isinstance(one, str) for one in got), "these are tokens; look up their ids")
        right = [special.cls, *inner, special.sep]
        expect(got, right, {
            "[CLS] and [SEP] are missing": inner, "[SEP] is missing at the end": right[:-1],
            "[CLS] is missing at the beginning": right[1:],
            "[CLS] and [SEP] changed places": [special.sep, *inner, special.cls],
        } | {words: [special.cls, *ids, special.sep] for words, ids in mistakes.items()},
            f"{text!r} should become {' '.join(tokenizer.tokens(right))}, not "
            f"{' '.join(tokenizer.tokens(one for one in got if 0 <= one < len(vocab)))}")


@checker
def check_pad(answer: Answer) -> None:
    """answer(rows, pad) -> (input_ids [B, T], attention_mask [B, T]), True where a token is."""
    for rows, pad in (([[2, 9, 9, 3], [2, 3], [2, 7, 3]], 0), ([[5, 1]], 7), ([[1], [4, 4]], 9)):
        got = answer([list(row) for row in rows], pad)
        require(isinstance(got, tuple | list) and len(got) == 2,
                "return two tables: the ids and the mask")
        longest = max(map(len, rows))
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
        left = torch.tensor([[pad] * (longest - len(row)) + row for row in rows])
        mask = torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]
        shortest = min(map(len, rows))
        expect(got[0], ids, {
            "padding stands in front; it follows the text": left,
            "the rows are cut to the shortest; fill them up to the longest": ids[:, :shortest],
            "the filling is 0; it is the id `pad`": ids.where(mask, torch.tensor(0)),
        }, "the ids are others")
        expect(got[1], mask, {
            "the mask is upside down: True (or 1) is a token, False padding": ~mask,
            "the mask is all true; padding is False": torch.ones_like(mask),
        }, "the mask is another one")
