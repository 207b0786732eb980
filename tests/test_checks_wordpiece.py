"""Checkers of using a vocabulary: answers in any style are taken, mistakes are told apart."""

import re
import unicodedata

import pytest
import torch
from tokenizers.implementations import BertWordPieceTokenizer

from bertlib.checks.wordpiece import (
    check_basic_words,
    check_cut,
    check_encode,
    check_join,
    check_pad,
)
from bertlib.plumbing.vocab import SPECIAL_TOKENS
from bertlib.tokens import Tokenizer

FRAME = ("[CLS]", "[SEP]", "[PAD]")
SIGNS = "".join(map(chr, [*range(33, 48), *range(58, 65), *range(91, 97), *range(123, 127)]))


def basic(text, form="NFD", marks=SIGNS, lower=str.lower, control="C", drop=("Mn",), keep="\t\n\r",
          chinese=True, more="P", blank=""):
    text = "".join(c if c in keep or unicodedata.category(c)[0] != control else blank for c in text)
    text = "".join(c for c in unicodedata.normalize(form, lower(text))
                   if unicodedata.category(c) not in drop)
    alone = [c for c in text if c in marks or unicodedata.category(c)[0] == more
             or chinese and "\u4e00" <= c <= "\u9fff"]
    for c in dict.fromkeys(alone):
        text = text.replace(c, f" {c} ")
    return text.split()


def library(text):
    vocab = {token: number for number, token in enumerate(SPECIAL_TOKENS)}
    backend = BertWordPieceTokenizer(vocab, lowercase=True)._tokenizer
    washed = backend.normalizer.normalize_str(text)
    return [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(washed)]


def one_by_one(text):
    words, word = [], ""
    for c in unicodedata.normalize("NFD", text):
        kind = unicodedata.category(c)
        if kind == "Mn" or kind[0] == "C" and not c.isspace():
            continue
        single = c in SIGNS or kind[0] == "P" or "\u4e00" <= c <= "\u9fff"
        if c.isspace() or single:
            words += [word, c] if single else [word]
            word = ""
        else:
            word += c.lower()
    return [w for w in [*words, word] if w]


def cut(word, vocab, unknown=lambda pieces: ["[UNK]"], mark="##", longest=100):
    pieces, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = (mark if start else "") + word[start:end]
            if piece in vocab:
                break
        else:
            return unknown(pieces)
        pieces.append(piece)
        start = end
    return pieces if len(word) <= longest else ["[UNK]"]


def shortest(word, vocab):
    pieces, start = [], 0
    for end in range(1, len(word) + 1):
        piece = ("##" if start else "") + word[start:end]
        if piece in vocab:
            pieces.append(piece)
            start = end
    return pieces if start == len(word) else cut(word, vocab)


def from_the_end(word, vocab):
    """The longest piece that ends the word first."""
    pieces, end = [], len(word)
    while end:
        fits = [n for n in range(end) if ("##" if n else "") + word[n:end] in vocab]
        if not fits:
            return cut(word, vocab)
        pieces.insert(0, ("##" if fits[0] else "") + word[fits[0]:end])
        end = fits[0]
    return pieces if len(word) <= 100 else ["[UNK]"]


def stands_still(word, vocab):
    while word:
        word = word[0:]
    return word


def cut_by_regex(word, vocab):
    if len(word) > 100:
        return ["[UNK]"]
    first = re.compile("|".join(sorted((p for p in vocab if p[:2] != "##"), key=len)[::-1]))
    rest = re.compile("|".join(sorted((p[2:] for p in vocab if p[:2] == "##"), key=len)[::-1]))
    pieces, start = [], 0
    while start < len(word):
        found = (rest if start else first).match(word, start)
        if not found:
            return ["[UNK]"]
        pieces.append(("##" if start else "") + found[0])
        start = found.end()
    return pieces


def encode(text, vocab, basic=basic, cut=cut, ends=("[CLS]", "[SEP]")):
    words = [part if part == "[MASK]" else basic(part) for part in re.split(r"(\[MASK\])", text)]
    flat = [word for part in words for word in ([part] if part == "[MASK]" else part)]
    pieces = [p for word in flat for p in ([word] if word == "[MASK]" else cut(word, vocab))]
    return [vocab[piece] for piece in (*ends[:1], *pieces, *ends[1:])]


def encode_by_library(text, vocab):
    return Tokenizer(sorted(vocab, key=vocab.get), lowercase=True).encode(text)


def without_mask(text, vocab):
    pieces = [piece for word in basic(text) for piece in cut(word, vocab)]
    return [vocab[piece] for piece in ("[CLS]", *pieces, "[SEP]")]


def pad(rows, pad, left=False, mask=lambda m: m, filling=None):
    longest = max(map(len, rows))
    fill = [[pad if filling is None else filling] * (longest - len(row)) for row in rows]
    ids = torch.tensor([f + r if left else r + f for f, r in zip(fill, rows, strict=True)])
    real = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, mask(real)


def join(tokens):
    return " ".join(token for token in tokens if token not in FRAME).replace(" ##", "")


def in_front_and_at_the_end(tokens):
    words = [token for token in tokens if token != "[PAD]"]
    return " ".join(words[1:-1] if words[:1] == ["[CLS]"] else words).replace(" ##", "")


def join_letter_by_letter(tokens):
    text = ""
    for token in tokens:
        if token in FRAME:
            continue
        text += token[2:] if token.startswith("##") else (" " if text else "") + token
    return text


RIGHT = [
    (check_basic_words, basic), (check_basic_words, library), (check_basic_words, one_by_one),
    (check_cut, cut), (check_cut, cut_by_regex), (check_cut, lambda *a: iter(cut(*a))),
    (check_encode, encode), (check_encode, encode_by_library),
    (check_join, join), (check_join, join_letter_by_letter),
    (check_pad, pad), (check_pad, lambda rows, p: [x.tolist() for x in pad(rows, p)]),
    (check_pad, lambda rows, p: (torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(row) for row in rows], True, p), torch.nn.utils.rnn.pad_sequence(
            [torch.ones(len(row)).bool() for row in rows], True, False))),
]

WRONG = [
    (check_basic_words, lambda text: basic(text, lower=str), "capitals are left"),
    (check_basic_words, lambda text: basic(text, marks="", more="-"), "left on the words"),
    (check_basic_words, lambda text: re.findall(r"\w+", text.lower()), "marks are dropped; each"),
    (check_basic_words, lambda text: re.findall(r"\w+|[^\w\s]", text.lower()), "_ belongs to"),
    (check_basic_words, lambda text: basic(text, marks=""), "parts all ASCII signs"),
    (check_basic_words, lambda text: basic(text, drop=(), form="NFC"),
     "accents are left; decompose"),
    (check_basic_words, lambda text: basic(text, drop=()), "but the accents are left"),
    (check_basic_words, lambda text: [w.encode("ascii", "ignore").decode() for w in basic(
        text, drop=(), form="NFC")], "letters with an accent are dropped"),
    (check_basic_words, lambda text: basic(text, control="-"), "left inside words"),
    (check_basic_words, lambda text: basic(text, keep=""), "a tab is a control sign"),
    (check_basic_words, lambda text: basic(text, blank=" "), "do not part words"),
    (check_basic_words, lambda text: basic(text, chinese=False), "a Chinese sign"),
    (check_basic_words, lambda text: basic(text, more="-"), "marks beyond ASCII are marks"),
    (check_basic_words, lambda text: basic(text, form="NFKD"), "NFKC rewrites letters"),
    (check_basic_words, lambda text: text.lower().split(" "), "empty words"),
    (check_basic_words, lambda text: " ".join(basic(text)), "return a list of words"),
    (check_cut, lambda word, vocab: cut(word, vocab, lambda pieces: [*pieces, "[UNK]"]),
     "beside [UNK] stand pieces"),
    (check_cut, lambda word, vocab: cut(word, vocab, lambda pieces: pieces), "its pieces so far"),
    (check_cut, lambda word, vocab: cut(word, vocab, mark=""), "looked up with its ##"),
    (check_cut, lambda word, vocab: cut(word, vocab, longest=999), "more than 100"),
    (check_cut, lambda word, vocab: " ".join(cut(word, vocab)), "a list of pieces"),
    (check_basic_words, lambda text: basic(text, lower=str.casefold), "should become"),
    (check_cut, lambda word, vocab: [word], "no piece of this vocabulary"),
    (check_cut, lambda word, vocab: cut(word, vocab) if len(word) < 100 else ["[UNK]"],
     "not too long yet"),
    (check_cut, lambda word, vocab: [p.strip("#") for p in cut(word, vocab)], "has no ##"),
    (check_cut, shortest, "the shortest match"),
    (check_cut, from_the_end, "the longest match is"),
    (check_cut, lambda word, vocab: cut(word, {*vocab, "##"}) and vocab.pop(), "vocab itself"),
    (check_cut, stands_still, "it does not end"),
    (check_encode, lambda text, vocab: encode(text, vocab)[1:-1], "[CLS] and [SEP] are missing"),
    (check_encode, lambda text, vocab: encode(text, vocab)[:-1], "[SEP] is missing"),
    (check_encode, lambda text, vocab: encode(text, vocab, ends=("[SEP]", "[CLS]")),
     "changed places"),
    (check_encode, lambda text, vocab: encode(text, vocab, lambda t: basic(t, lower=str)),
     "capitals are left"),
    (check_encode, lambda text, vocab: encode(text, vocab, cut=lambda w, v: cut(
        w, v, lambda pieces: [])), "an unknown word is left out"),
    (check_encode, lambda text, vocab: encode(text, vocab, cut=lambda w, v: cut(
        w, v, lambda pieces: [*pieces, "[UNK]"])), "its pieces are dropped"),
    (check_encode, without_mask, "[MASK] is cut like a word"),
    (check_encode, lambda text, vocab: encode(text, vocab) if text.count("[MASK]") < 2
     else without_mask(text, vocab), "[MASK]"),
    (check_encode, lambda text, vocab: list(vocab), "these are tokens"),
    (check_encode, lambda text, vocab: encode(text + "snow", {}), "KeyError"),
    (check_join, lambda tokens: " ".join(tokens), "[CLS], [SEP] and [PAD] are left"),
    (check_join, lambda tokens: " ".join(t for t in tokens if t not in FRAME), "not joined"),
    (check_join, lambda tokens: "".join(t for t in tokens if t not in FRAME).replace("##", ""),
     "spaces are missing"),
    (check_join, lambda tokens: join([t.replace("##", "##@@") for t in tokens]).replace("@@", "##"),
     "the ## is left inside"),
    (check_join, lambda tokens: join(tokens[:3] + [t.strip("#") for t in tokens[3:]]),
     "a space still stands before"),
    (check_join, lambda tokens: " ".join("" if t in FRAME else t for t in tokens).replace(
        " ##", ""), "spaces are left over"),
    (check_join, lambda tokens: " ".join(t for t in tokens if t not in FRAME).replace(" #", "#")
        .replace("##", ""), "lone # was joined"),
    (check_join, lambda tokens: join(t for t in tokens if t.strip("#")), "lone # is a token"),
    (check_join, lambda tokens: join([t for t in tokens if t[0] != "["]), "what begins with ["),
    (check_join, lambda tokens: join([t for t in tokens if t == "[" or t[0] != "["]),
     "brackets stay"),
    (check_join, lambda tokens: join(tokens) if len(tokens) < 9 and "##1" not in tokens
     else join(tokens).replace("1", "# #1"), "became"),
    (check_join, in_front_and_at_the_end, "a [SEP] in the middle"),
    (check_join, lambda tokens: tokens.clear(), "tokens itself was changed; work on a copy"),
    (check_join, lambda tokens: tokens, "not a text"),
    (check_pad, lambda rows, p: pad(rows, p, left=True), "padding stands in front"),
    (check_pad, lambda rows, p: pad(rows, p, mask=lambda m: 1 - m), "upside down"),
    (check_pad, lambda rows, p: pad(rows, p, mask=torch.ones_like), "all true"),
    (check_pad, lambda rows, p: pad(rows, p, filling=0), "the id `pad`"),
    (check_pad, lambda rows, p: [torch.tensor([row[:2] for row in rows])] * 2,
     "cut to the shortest"),
    (check_pad, lambda rows, p: pad(rows, p)[0], "return two tables"),
    (check_pad, lambda rows, p: [row.append(p) for row in rows], "rows itself was changed"),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass_however_they_are_written(check, answer):
    assert check(answer) == "right"


@pytest.mark.parametrize(("check", "answer", "words"), WRONG)
def test_a_mistake_is_named(check, answer, words, diagnosed):
    diagnosed(check, answer, words)
