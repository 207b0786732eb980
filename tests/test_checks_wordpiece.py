"""What notebook 01 builds is taken in any style, and its mistakes are told apart."""

import re
import unicodedata
from collections import Counter

import pytest
import torch
from tokenizers.implementations import BertWordPieceTokenizer

from bertlib.checks.wordpiece import (
    check_basic_words,
    check_cut,
    check_encode,
    check_learn,
    check_merge,
    check_pad,
    check_pairs,
    learn,
    merge,
    pairs_of,
)
from bertlib.plumbing.vocab import SPECIAL_TOKENS
from bertlib.tokens import Tokenizer

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


def learn_by_heap(words, size):
    """The same vocabulary, by sorting all pairs each time."""
    pieces = {word: [word[0], *("##" + c for c in word[1:])] for word in words}
    number = {token: n for n, token in enumerate(learn(words, 0))}
    while len(number) < size:
        pairs = sorted(pairs_of(pieces, words).items(), key=lambda item: (
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


RIGHT = [
    (check_basic_words, basic), (check_basic_words, library), (check_basic_words, one_by_one),
    (check_pairs, pairs_of), (check_pairs, by_index),
    (check_merge, merge), (check_merge, merge_by_index),
    (check_learn, learn), (check_learn, learn_by_heap),
    (check_cut, cut), (check_cut, cut_by_regex),
    (check_encode, encode), (check_encode, encode_by_library),
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
    (check_merge, by_text, "inside a longer piece"),
    (check_merge, lambda parts, pair: merge(parts, pair[::-1]), "became c ##a ##ba ##b"),
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
    (check_cut, lambda word, vocab: cut(word, vocab, lambda pieces: [*pieces, "[UNK]"]),
     "beside [UNK] stand pieces"),
    (check_cut, lambda word, vocab: cut(word, vocab, lambda pieces: pieces), "its pieces so far"),
    (check_cut, lambda word, vocab: cut(word, vocab, mark=""), "looked up with its ##"),
    (check_cut, lambda word, vocab: cut(word, vocab, longest=999), "more than 100"),
    (check_cut, lambda word, vocab: " ".join(cut(word, vocab)), "a list of pieces"),
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
    (check_encode, lambda text, vocab: list(vocab), "these are tokens"),
    (check_encode, lambda text, vocab: encode(text + "snow", {}), "KeyError"),
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
