"""Checkers of how notebook 01 uses a vocabulary: words, the longest match, ids, text, padding."""

import random

import torch

from bertlib.checks import checker, expect, require
from bertlib.checks.calling import Answer
from bertlib.tokens import SPECIAL_TOKENS, Tokenizer

FRAME = ("[CLS]", "[SEP]", "[PAD]")
SEEDS = range(40)  # of the texts of chance that an answer must be right for
SIGNS = "abcABC019 _-'.$<~\t\u00e9\u00c5\u00a7\u20ac\u2019\u00ab\u4eac\u5317\u200b\u00b2\u00df"

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
    backend = Tokenizer([*SPECIAL_TOKENS, "a"], lowercase=True).backend
    for seed in SEEDS:
        text = "".join(random.Random(seed).choices(SIGNS, k=12))
        washed = backend.normalizer.normalize_str(text)
        right = [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(washed)]
        expect(list(answer(text)), right, hint=f"{text!r} should become {right}, not "
               f"{list(answer(text))}")


def longest(word: str, vocab: set[str], limit: int = 100, mark: str = "##",
            shortest: bool = False) -> tuple[list[str], bool]:
    """The pieces of the longest match, and whether they reach the end; or with a mistake."""
    pieces: list[str] = []
    start = 0
    while start < len(word) <= limit:
        ends = range(len(word), start, -1)
        fits = [end for end in (reversed(ends) if shortest else ends)
                if (mark if start else "") + word[start:end] in vocab]
        if not fits:
            break
        pieces.append((mark if start else "") + word[start:fits[0]])
        start = fits[0]
    return pieces, start == len(word)


@checker
def check_cut(answer: Answer) -> None:
    """answer(word, vocab) -> the pieces of the longest match from the left, or one [UNK]."""
    vocab = {"s", "sea", "shells", "##s", "##sh", "##shell", "##e", "##a", "##h", "##l", "a"}
    for word in ("seashells", "sea", "seax", "xsea", "seaxsea"):
        _judge_cut(answer, word, vocab)
    require(list(answer("a" * 101, set(vocab))) == ["[UNK]"],
            "a word of more than 100 letters should be one [UNK]")
    require(list(answer("a" * 100, set(vocab))) == ["a", *["##a"] * 99],
            "a word of 100 letters is not too long yet")
    for seed in SEEDS:
        dice = random.Random(seed)
        vocab = {mark + "".join(dice.choices("abc", k=dice.randint(1, 3)))
                 for mark in ("", "##") * 12}
        for _ in range(5):
            _judge_cut(answer, "".join(dice.choices("abc", k=dice.randint(1, 9))), vocab)


def _judge_cut(answer: Answer, word: str, vocab: set[str]) -> None:
    got = answer(word, set(vocab))
    require(not isinstance(got, str), "it returns one text; return a list of pieces")
    got, (pieces, whole) = [str(piece) for piece in got], longest(word, vocab)
    told = f"{word!r} became {' '.join(got) or 'nothing'}; the vocabulary is {sorted(vocab)}"
    if not whole:
        require(got != [], "a word that cannot be built returns nothing; it should be [UNK]")
        require("[UNK]" in got, "a word that cannot be built returns its pieces so far instead of "
                f"one [UNK]: {told}")
        require(got == ["[UNK]"], "beside [UNK] stand pieces; a word that cannot be built is one "
                f"[UNK]: {told}")
        return
    require(got != [word] or pieces == got, "the whole word is no piece of this vocabulary: cut it")
    expect(got, pieces, {
        f"{word!r} can be built, but it returned [UNK]": ["[UNK]"],
        "a piece that goes on has no ##": [piece.removeprefix("##") for piece in pieces],
        "inside a word a piece must be looked up with its ##": longest(word, vocab, mark="")[0],
        "it takes the shortest match, not the longest": longest(word, vocab, shortest=True)[0],
    }, f"the longest match is {' '.join(pieces)}, but {told}")


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
    plain = [token for token in tokenizer.vocab if token[0] not in "[#"]
    drawn = [" ".join(random.Random(seed).choices(
        [*plain, "[MASK]", "seas", "xyz", "The", "seash."], k=6)) for seed in SEEDS]
    for text, mistakes in (*tests, *((text, {}) for text in drawn)):
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
            f'"{text}" should become {" ".join(tokenizer.tokens(right))}, not '
            f"{' '.join(tokenizer.tokens(one for one in got if 0 <= one < len(vocab)))}")


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
    for seed in SEEDS:
        tokens = " ".join(random.Random(seed).choices(
            [*FRAME, "[UNK]", "sea ##s", "#", "a ##1 ##[", "]"], k=7)).split()
        right = " ".join(token for token in tokens if token not in FRAME).replace(" ##", "")
        expect(answer(list(tokens)), right, hint=f"{tokens} became {answer(list(tokens))!r}")


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
