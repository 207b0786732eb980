"""Lesson 10: one row as two puzzles, and what a writer need not compute again.

    show_svg(two_puzzles())
"""

from bertlib.figures.diagram import Canvas, Picture
from bertlib.figures.plots import GREY, OURS, THEIRS

WORDS = ("[CLS]", "the", "king", "lost", "his", "crown")
HIDDEN = 3  # the place that BERT's puzzle hides
LEFT, PITCH, CELL, HIGH = 150, 90, 78, 32
STEPS, SQUARE = 6, 26  # tokens written, and the width of a square of the table


def two_puzzles() -> Picture:
    """One row twice: one word hidden and asked from both sides, or each asked from its left."""
    asked = len(WORDS) - 1
    c = Canvas(700, 318, "One row, two puzzles", (
        f"Above, BERT's: of the row {' '.join(WORDS)} the word '{WORDS[HIDDEN]}' is hidden by "
        "[MASK], and all words, left and right of it, help to guess that one. Below, GPT's: "
        f"nothing is hidden; each word is asked for the word after it, which makes {asked} "
        "questions of one row, and the last of them is answered from all words before it."))
    c.text(24, 28, "BERT: fill the hole, 1 question", bold=True, anchor="start")
    c.text(24, 172, f"GPT: what comes next, {asked} questions", bold=True, anchor="start")
    for y, words in ((116, WORDS[:HIDDEN] + ("[MASK]",) + WORDS[HIDDEN + 1:]), (270, WORDS)):
        c.text(24, y + HIGH / 2, "what it sees", size=12, fill=GREY, anchor="start")
        for n, word in enumerate(words):
            c.box(LEFT + n * PITCH, y, CELL, HIGH, "hidden" if word == "[MASK]" else "data", word)
    _answers(c, 46, {HIDDEN: WORDS[HIDDEN]})
    for n in range(len(WORDS)):
        colour, width = (THEIRS, 2.2) if n == HIDDEN else (OURS, 1.4)
        c.line((_middle(n), 116), (_middle(HIDDEN) + 7 * (n - HIDDEN), 81), colour=colour,
               width=width)
    _answers(c, 192, dict(enumerate(WORDS[1:])))
    for n in range(asked):
        c.line((_middle(n), 270), (_middle(n), 227), colour=THEIRS, width=2.2)
        if n < asked - 1:
            c.line((_middle(n), 270), (_middle(asked - 1) - 9 * (asked - 1 - n), 227),
                   colour=OURS)
    return c.picture()


def _middle(column: int) -> float:
    return LEFT + column * PITCH + CELL / 2


def _answers(c: Canvas, y: float, words: dict[int, str]) -> None:
    """A row of right answers, each above the place that is asked."""
    c.text(24, y + HIGH / 2, "what is right", size=12, fill=GREY, anchor="start")
    for n, word in words.items():
        c.box(LEFT + n * PITCH, y, CELL, HIGH, "result", word)


def kept_rows() -> Picture:
    """Who reads whom while tokens are written one by one: computed anew each time, or kept."""
    anew, kept = STEPS * (STEPS + 1) // 2, STEPS
    c = Canvas(700, 276, "Keys and values that are kept", (
        f"Two triangles of {STEPS} rows, one row for each step of writing; step t reads t tokens. "
        f"Left: all tokens of a row are computed anew, {anew} in all. Right: only the newest of "
        f"each row is computed, {kept} in all; keys and values of the others are kept from the "
        "rows above."))
    for x, title, words in ((60, "computed anew", f"{anew} tokens through the blocks"),
                            (410, "keys and values kept", f"{kept} tokens through the blocks")):
        c.text(x, 28, title, bold=True, anchor="start")
        c.text(x, 252, words, size=12, fill=GREY, anchor="start")
        c.text(x - 10, 47, "step", size=12, fill=GREY, anchor="end")
        for t in range(STEPS):
            y = 54 + t * 31
            c.text(x - 10, y + SQUARE / 2, f"{t + 1}", size=12, fill=GREY, anchor="end")
            for n in range(t + 1):
                is_new = n == t or x < 400
                c.box(x + n * 31, y, SQUARE, SQUARE, "bar" if is_new else "gone")
    c.box(620, 62, 20, 14, "bar")
    c.text(647, 69, "now", size=12, anchor="start")
    c.box(620, 88, 20, 14, "gone")
    c.text(647, 95, "kept", size=12, anchor="start")
    return c.picture()
