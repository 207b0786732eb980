"""Closer looks at the puzzle: how a word is cut, and what becomes of a row that is masked."""

import torch

from bertlib.figures.diagram import EDGE, INK, Canvas, Picture
from bertlib.figures.maps import ANSWER, SENTENCE, course, words
from bertlib.figures.plots import GREY, OURS
from bertlib.masking import Masker

WORD, LETTER = "lighthouses", 40  # what is cut, and the width of a letter
SQUARES, SQUARE, SEED = 16, 20, 5  # of a row: how many side by side, how wide; whose dice
MARKS = {"[MASK]": "M", "random": "?", "kept": "="}
SHOWN = ("[MASK]", "king", ANSWER)  # in the hole of the sentence


def tries(word: str) -> list[tuple[int, int, str, bool]]:
    """What WordPiece looks up, in order: (start, end, piece, whether there is such a piece)."""
    vocab, start, seen = set(words().vocab), 0, []
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = ("##" if start else "") + word[start:end]
            seen.append((start, end, piece, piece in vocab))
            if piece in vocab:
                break
        start = end
    return seen


def longest_match(word: str = WORD) -> Picture:
    """Lesson 01: the longest piece that fits in front, then the longest that goes on."""
    steps, left = tries(word), 122
    pieces, end = [piece for *_, piece, found in steps if found], 74 + 27 * len(steps)
    c = Canvas(700, end + 70, f"How WordPiece cuts '{word}'", (
        "The longest piece in the vocabulary that fits in front is taken, then the longest that "
        f"goes on, marked ##, until nothing is left. {len(steps)} pieces are looked up, "
        f"{len(pieces)} of them are found: {', '.join(pieces)}."))
    for n, letter in enumerate(word):
        c.box(left + n * LETTER, 20, LETTER, 36, "data", letter, size=18)
    begins = True
    for n, (start, stop, piece, found) in enumerate(steps):
        x, y, width = left + start * LETTER, 74 + 27 * n, (stop - start) * LETTER
        if begins:
            c.text(left - 14, y + 10, "go on here" if start else "begin here", size=12, fill=GREY,
                   anchor="end")
        c.box(x, y, width, 21, "learned" if found else "gone", piece, bold=found,
              fill=INK if found else GREY)
        c.text(left + len(word) * LETTER + 14, y + 10, "✓ a piece" if found else "✗ no such piece",
               size=12, anchor="start", bold=found, fill=OURS if found else GREY)
        if found:
            c.line((x + width / 2, y + 22), (x + width / 2, end + 7))
            c.box(x, end + 10, width, 42)
            c.text(x + width / 2, end + 22, piece)
            c.text(x + width / 2, end + 40, str(words().vocab.index(piece)), size=12, fill=GREY,
                   mono=True)
        begins = found
    c.text(left - 14, end + 22, "tokens", size=12, fill=GREY, anchor="end")
    c.text(left - 14, end + 40, "ids", size=12, fill=GREY, anchor="end")
    return c.picture()


def fates() -> dict[int, str]:
    """What the dice of a seed make of a full row: place -> what is shown there."""
    masker, length = Masker(words()), course().seq_len
    special, word = words().special, words().vocab.index(ANSWER)
    row = torch.tensor([[special.cls, *[word] * (length - 2), special.sep]])  # [1, T]
    puzzle = masker(row, torch.Generator().manual_seed(SEED))
    shown = puzzle.input_ids.flatten()[puzzle.positions].tolist()  # [K]
    names = {special.mask: "[MASK]", word: "kept"}
    return {place: names.get(number, "random")
            for place, number in zip(puzzle.positions.tolist(), shown, strict=True)}


def masked_row() -> Picture:
    """Lesson 02: which tokens of a row are chosen, and what is shown in their place."""
    chosen, config, length = fates(), Masker(words()).config, course().seq_len
    shares = (config.masked, config.random, 1 - config.masked - config.random)
    c = Canvas(700, 262, "How one row is masked", (
        f"A row of {length} tokens as squares. {length - 2} are ordinary tokens, and "
        f"{config.rate:.0%} of them, {len(chosen)}, are chosen. Of the chosen ones "
        f"{shares[0]:.0%} show [MASK], {shares[1]:.0%} a random word, and {shares[2]:.0%} stay "
        "as they are; the answer is the true word each time."))
    c.text(24, 30, f"1. Choose {config.rate:.0%} of a row", bold=True, anchor="start")
    for place in range(length):
        x, y = 24 + place % SQUARES * SQUARE, 50 + place // SQUARES * SQUARE
        if place in chosen:
            c.box(x, y, SQUARE - 3, SQUARE - 3, "hidden", MARKS[chosen[place]], size=12, bold=True)
        else:
            frame = place in (0, length - 1)
            c.add("rect", x=x, y=y, width=SQUARE - 3, height=SQUARE - 3,
                  fill=EDGE if frame else "#e6e6e4")
    c.text(24, 226, f"{len(chosen)} of {length - 2}. The dark ones, [CLS] and [SEP],",
           size=12, fill=GREY, anchor="start")
    c.text(24, 243, "frame the row and are never chosen.", size=12, fill=GREY, anchor="start")
    c.text(372, 30, "2. What the model gets to see", bold=True, anchor="start")
    for n, (mark, share, shown) in enumerate(zip(MARKS.values(), shares, SHOWN, strict=True)):
        y = 78 + 51 * n
        c.box(372, y - 10, 20, 20, "hidden", mark, size=12, bold=True)
        c.text(402, y, f"{share:.0%}", anchor="start")
        c.text(546, y, SENTENCE.removesuffix(ANSWER), anchor="end")
        c.box(550, y - 14, 58, 28, "hidden", shown)
        c.line((608, y), (625, y))
    c.box(628, 57, 52, 144, "step")
    c.text(654, 119, "answer", size=12)
    c.text(654, 138, ANSWER, bold=True)
    c.text(372, 226, "The answer is the true word each time.", size=12, fill=GREY, anchor="start")
    c.text(372, 243, f"The other {length - 2 - len(chosen)} words are only read.", size=12,
           fill=GREY, anchor="start")
    return c.picture()
