"""A page with hidden words and what a model says of them, as plain text and as HTML.

Pure functions of a `Page`: the same page makes the same bytes. The HTML says everything in words
and tables, so that it can be read without style, colour or script (sites that show notebooks
strip them); text stays text, see `literal`.

    plain    the /king/✓ went /to/✗(from) sea
    HTML     the **[MASK]**¹ went **[MASK]**² sea, and a table of guesses for 1 and 2
"""

import html
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bertlib.plumbing.files import InputError, short
from bertlib.plumbing.page import Hole, Page, percent
from bertlib.plumbing.texts import check_characters
from bertlib.tokens import Tokenizer

LOOKED_THROUGH = 2_000_000  # characters of a typed text: a few seconds to encode
KEPT = 10_000  # characters of what a model reads of it; 512 ordinary words have some 3,000

SILENT = ("[CLS]", "[SEP]", "[PAD]")  # not shown
STYLES = {  # contrast of black on these grounds is above 15:1 (WCAG asks for 4.5:1)
    True: "background:#d7f0dd;color:#000;border-bottom:2px solid #14692c",
    False: "background:#fbe3d6;color:#000;border-bottom:2px dashed #a33a00",
    None: "background:#e8e8e8;color:#000;border-bottom:2px dotted #555",
}


def walk(page: Page) -> Iterator[tuple[str, str, Hole | None]]:
    """(space before, token as read, its hole or None): pieces joined to the token before."""
    holes = {hole.position: hole for hole in page.holes}
    for place, token in enumerate(page.tokens):
        if token not in SILENT:
            joined = token.startswith("##")
            yield "" if joined else " ", token.removeprefix("##"), holes.get(place)


def whole(page: Page, hole: Hole, token: str) -> str:
    """A guessed token as one reads it: a piece together with the visible pieces before it."""
    if not token.startswith("##"):
        return token
    hidden = {other.position for other in page.holes}
    start = hole.position - 1
    while start > 0 and page.tokens[start].startswith("##") and start not in hidden:
        start -= 1
    before = page.tokens[start : hole.position]
    if start < 0 or start in hidden or page.tokens[start] in SILENT:
        return token
    return "".join(piece.removeprefix("##") for piece in (*before, token)) + f" ({token})"


def page_text(page: Page) -> str:
    """Plain text: `/guess/` with a check mark, or a cross and the true word."""
    parts = []
    for space, token, hole in walk(page):
        if hole is None:
            parts.append(space + token)
            continue
        mark = {True: "✓", False: f"✗({hole.truth})", None: ""}[hole.right]
        parts.append(f" /{hole.guesses[0].token}/{mark}")
    return "".join(parts).strip()


def guesses_text(page: Page) -> str:
    """One line a hole: the guesses with their shares, then how the true word fares."""
    lines = []
    for number, verdict, truth, rank, share, *guesses in rows(page):
        known = f"; {verdict}: true word {truth}, rank {rank}, {share}" if verdict else ""
        lines.append(f"[{number}] {', '.join(guesses)}{known}")
    return "\n".join(lines)


def summary(page: Page) -> str:
    """The count in words: `13 of 15 right (87%).`"""
    if not page.holes:
        return "Nothing is hidden."
    if not page.known():
        return f"{len(page.holes)} hidden, the true words are unknown."
    return f"{page.right()} of {page.known()} right ({page.right() / page.known():.0%})."


def literal(text: str) -> str:
    """Text as HTML that shows just that text: no markup, and no formula.

    Where notebooks are shown, MathJax sets the text between two dollar signs as a formula, as that
    from `\\(` to `\\)`, if no element parts the two. So each such sign has an element of its own.
    """
    return re.sub(r"[$\\]", r"<span>\g<0></span>", html.escape(text))


def passage_html(page: Page) -> str:
    """The text with numbered `[MASK]`s in bold."""
    parts, number = [], 0
    for space, token, hole in walk(page):
        if hole is None:
            parts.append(space + literal(token))
        else:
            number += 1
            parts.append(f"{space}<b style='{STYLES[hole.right]}'>[MASK]</b><sup>{number}</sup>")
    return f"<p style='line-height:1.9;max-width:46em'>{''.join(parts).strip()}</p>"


def inline_html(page: Page) -> str:
    """The text with the first guess in each hole: `/guess/✓`, or `/guess/✗` and the truth."""
    parts = []
    for space, token, hole in walk(page):
        shown = literal(token)
        if hole is not None:
            mark = {True: "✓", False: "✗", None: ""}[hole.right]
            truth = f"<s style='opacity:.85'>{shown}</s>" if hole.right is False else ""
            guess = literal(hole.guesses[0].token)
            shown = f"<mark style='{STYLES[hole.right]}'>/{guess}/{mark}</mark>{truth}"
            space = " "
        parts.append(space + shown)
    return (f"<p style='line-height:1.9;max-width:46em'>{''.join(parts).strip()}</p>"
            f"<p><b>{summary(page)}</b> ✓ right; ✗ wrong, the true word struck through "
            "behind it.</p>")


def rows(page: Page) -> list[list[str]]:
    """The guesses in words, one row a hole: number, verdict, truth, its rank and share, guesses."""
    told = []
    for number, hole in enumerate(page.holes, 1):
        known = ["", "unknown", "", ""] if hole.truth is None else [
            hole.verdict(), whole(page, hole, hole.truth), f"{hole.rank:,}",
            percent(hole.probability)]
        guesses = [f"{whole(page, hole, g.token)} {percent(g.probability)}" for g in hole.guesses]
        told.append([str(number), *known, *guesses])
    return told


def headings(page: Page) -> list[str]:
    """What stands over the columns of `rows`."""
    columns = max((len(hole.guesses) for hole in page.holes), default=0)
    return ["hole", "right?", "true word", "its rank", "its share",
            *(f"guess {n}" for n in range(1, columns + 1))]


def table_html(page: Page) -> str:
    """The guesses as a table: one row a hole, first guesses first, percentages in figures."""
    body = "".join(_row("td", row) for row in rows(page))
    return f"<table>{_row('th', headings(page))}{body}</table>"


def _row(kind: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{kind}>{literal(cell)}</{kind}>" for cell in cells) + "</tr>"


def page_html(page: Page, title: str = "") -> str:
    """The passage, the count, and the table of guesses."""
    head = f"<p><b>{literal(title)}</b></p>" if title else ""
    table = table_html(page) if page.holes else ""
    return f"{head}{passage_html(page)}<p>{summary(page)}</p>{table}"


class Typed(NamedTuple):
    """The beginning of a text that a model reads, and what there is to say of it."""

    ids: list[int]
    offsets: list[tuple[int, int]]  # of each token in the text; (0, 0) of what is not in it
    text: str
    message: str


def read_typed(tokenizer: Tokenizer, text: str, max_tokens: int) -> Typed:
    """At most `max_tokens` of a text; what is left out and what is unknown is told in `message`.

    Raises `InputError` if there is no word, too long a text, or half a character.
    """
    check_characters(text)
    if len(text) > LOOKED_THROUGH:
        raise InputError(f"The text has {len(text):,} characters, this page looks through at most "
                         f"{LOOKED_THROUGH:,}; pass a part of it.")
    encoding, special, message = tokenizer.backend.encode(text), tokenizer.special, ""
    ids, offsets = encoding.ids[:max_tokens], encoding.offsets[:max_tokens]
    if len(encoding) <= 2:
        raise InputError("There is no word in the text; type a sentence.")
    if len(encoding) > max_tokens:
        ids[-1], offsets[-1], text = special.sep, (0, 0), text[: offsets[max_tokens - 2][1]]
        message = (f"The text has {len(encoding):,} tokens, the model reads {max_tokens}: "
                   "the rest is left out. ")
    if len(text) > KEPT:
        raise InputError(f"The first {len(ids)} tokens of the text have {len(text):,} characters, "
                         f"this page keeps at most {KEPT:,}; shorten its long words and gaps.")
    unknown = [short(text[start:end], 40) for token, (start, end) in zip(ids, offsets, strict=True)
               if token == special.unk]
    if unknown:
        message += f"Not in the vocabulary, read as [UNK]: {' '.join(unknown[:8])}"
    return Typed(ids, offsets, text, message)
