"""The checkers of the lesson on tokens: right answers of several kinds, mistakes by name."""

import math

import pytest

from bertlib.checks.tokens import (
    check_fertility,
    check_gain,
    check_join,
    check_replay,
    check_spans,
)

FRAME = ("[CLS]", "[SEP]", "[PAD]")


def fertility(rows, frame=FRAME):
    inner = [token for row in rows for token in row if token not in frame]
    return len(inner) / sum(not token.startswith("##") for token in inner)


def fertility_by_counting(rows):
    tokens = words = 0
    for row in rows:
        for token in row:
            tokens += token not in FRAME
            words += token not in FRAME and token[:2] != "##"
    return tokens / words


def mean_of_means(rows):
    return sum(fertility([row]) for row in rows) / len(rows)


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


def letters(word):
    return [word[0], *("##" + letter for letter in word[1:])]


def replay(word, merges, cut=lambda piece: piece.removeprefix("##"), first_only=False):
    pieces = letters(word)
    for a, b in merges:
        place = 0
        while place < len(pieces) - 1:
            if (pieces[place], pieces[place + 1]) == (a, b):
                pieces[place:place + 2] = [a + cut(b)]
                if first_only:
                    break
            place += 1
    return pieces


def replay_by_rank(word, merges):
    """The oldest merge that fits, again and again, as BPE is often written."""
    rank, pieces = {pair: n for n, pair in enumerate(merges)}, letters(word)
    while True:
        pairs = [pair for pair in zip(pieces, pieces[1:], strict=False) if pair in rank]
        if not pairs:
            return tuple(pieces)
        best, merged = min(pairs, key=rank.get), []
        for piece in pieces:
            if merged and (merged[-1], piece) == best:
                merged[-1] += piece.removeprefix("##")
            else:
                merged.append(piece)
        pieces = merged


def longest_match(word, merges):
    vocab = set(letters(word)) | {a + b.removeprefix("##") for a, b in merges}
    return [piece for piece, _, _ in spans(word, vocab)]


def by_text(word, merges):
    """The merges as replacements in a text, which also finds them inside of longer pieces."""
    text = " ".join(letters(word))
    for a, b in merges:
        text = text.replace(f"{a} {b}", a + b[2:])
    return text.split()


def by_text_from_the_left(word, merges):
    """The same, but a pair is only found where a piece begins."""
    text = " " + " ".join(letters(word))
    for a, b in merges:
        text = text.replace(f" {a} {b}", " " + a + b[2:])
    return text.split()


def from_the_right(word, merges):
    pieces = letters(word)
    for pair in merges:
        place = len(pieces) - 2
        while place >= 0:
            if tuple(pieces[place:place + 2]) == pair:
                pieces[place:place + 2] = [pair[0] + pair[1][2:]]
            place -= 1
    return pieces


def spans(word, vocab, limit=100, mark="##", shown="##", shortest=False, partial=False):
    found, start = [], 0
    if len(word) > limit:
        return [("[UNK]", 0, len(word))]
    while start < len(word):
        ends = range(len(word), start, -1)
        for end in reversed(ends) if shortest else ends:
            if (mark if start else "") + word[start:end] in vocab:
                found.append(((shown if start else "") + word[start:end], start, end))
                start = end
                break
        else:
            return found if partial else [("[UNK]", 0, len(word))]
    return found


def partial_and_unknown(word, vocab):
    found = spans(word, vocab, partial=True)
    end = found[-1][2] if found else 0
    return found if end == len(word) else [*found, ("[UNK]", end, len(word))]


def spans_with_marks(word, vocab):
    return [(piece, start, start + len(piece)) for piece, start, _ in spans(word, vocab)]


def stands_still(word, vocab):
    found, start = [], 0
    while start < len(word):
        found = [(word[start:], start, len(word))]
    return found


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


@pytest.mark.parametrize(("check", "answer"), [
    (check_fertility, fertility), (check_fertility, fertility_by_counting),
    (check_join, join), (check_join, join_letter_by_letter),
    (check_replay, replay), (check_replay, replay_by_rank),
    (check_spans, spans), (check_spans, lambda word, vocab: iter(spans(word, vocab))),
    (check_gain, gain), (check_gain, gain_by_shares),
])
def test_right_answers_pass_however_they_are_written(check, answer):
    assert check(answer) == "right"


WRONG = [
    (check_fertility, lambda rows: 1.0, "one token a word"),
    (check_fertility, lambda rows: sum(map(len, rows)) / 6, "counted as tokens of the text"),
    (check_fertility, lambda rows: fertility(rows, ()), "as tokens and as words"),
    (check_fertility, lambda rows: 1 / fertility(rows), "on its head"),
    (check_fertility, lambda rows: fertility(rows) - 1, "only the pieces with ##"),
    (check_fertility, mean_of_means, "mean of means"),
    (check_fertility, lambda rows: fertility(rows, (*FRAME, "[UNK]")), "[UNK] is left out"),
    (check_fertility, lambda rows: None, "returns nothing"),
    (check_fertility, lambda rows: fertility([[t for t in row if t != "["] for row in rows]),
     "six tokens, four words"),
    (check_fertility, lambda rows: fertility([row[1:row.index("[SEP]")] for row in rows]),
     "six tokens, four words"),
    (check_fertility, lambda rows: fertility([[row.pop(), *row] for row in rows]),
     "rows itself was changed; work on a copy"),
    (check_fertility, lambda rows: [fertility([row]) for row in rows], "one number is asked"),
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
    (check_join, in_front_and_at_the_end, "a [SEP] in the middle"),
    (check_join, lambda tokens: tokens.clear(), "tokens itself was changed; work on a copy"),
    (check_join, lambda tokens: tokens, "not a text"),
    (check_replay, by_text, "(a, ##t) does not fit ##a ##t"),
    (check_replay, by_text_from_the_left, "(a, ##b) does not fit a ##bc"),
    (check_replay, lambda word, merges: replay(word, [merges.pop(0) for _ in list(merges)]),
     "merges itself was changed"),
    (check_replay, lambda word, merges: " ".join(replay(word, merges)), "one text"),
    (check_replay, lambda word, merges: [word], "fall into letters"),
    (check_replay, lambda word, merges: list(word), "needs its ##"),
    (check_replay, lambda word, merges: letters(word), "nothing was merged"),
    (check_replay, lambda word, merges: replay(word, merges, first_only=True), "only the first"),
    (check_replay, lambda word, merges: replay(word, merges, cut=str), "left inside"),
    (check_replay, from_the_right, "the left one comes first"),
    (check_replay, longest_match, "longest match"),
    (check_replay, lambda word, merges: replay(word, merges[::-1]), "from the last to the first"),
    (check_spans, lambda word, vocab: [(word, 0, len(word))], "no piece of this vocabulary"),
    (check_spans, lambda word, vocab: [p for p, _, _ in spans(word, vocab)], "(piece, start, end)"),
    (check_spans, lambda word, vocab: spans(word, vocab, shown=""), "second piece has no ##"),
    (check_spans, lambda word, vocab: spans(word, vocab, mark=""), "looked up with its ##"),
    (check_spans, lambda word, vocab: spans(word, vocab, shortest=True), "shortest match"),
    (check_spans, lambda word, vocab: spans(word, vocab, partial=True), "its pieces so far"),
    (check_spans, partial_and_unknown, "beside [UNK]"),
    (check_spans, spans_with_marks, "counts the ##"),
    (check_spans, lambda word, vocab: spans(word, vocab, limit=1000), "more than 100"),
    (check_spans, lambda word, vocab: spans(word, vocab, limit=99), "not too long yet"),
    (check_spans, lambda word, vocab: spans(word, vocab)[:99], "not too long yet"),
    (check_spans, lambda word, vocab: spans(word, {vocab.pop(), *vocab}), "vocab itself"),
    (check_spans, stands_still, "it does not end"),
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


@pytest.mark.parametrize(("check", "answer", "words"), WRONG)
def test_a_mistake_is_named(check, answer, words, diagnosed):
    diagnosed(check, answer, words)
