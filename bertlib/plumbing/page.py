"""Texts with holes and what is guessed for them: plain values, and where they come from."""

import sys
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from bertlib.plumbing.files import InputError
from bertlib.plumbing.records import MOST_BYTES, read_json, write_json


def percent(share: float | None) -> str:
    """A probability for people: 45%, 0.3%, under 0.1%; nothing where there is none."""
    if share is None:
        return ""
    if share < 0.0005:
        return "under 0.1%"
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"


class Guess(NamedTuple):
    """A word and the probability 0..1 that the model assigns it."""

    token: str
    probability: float


@dataclass(frozen=True)
class Hole:
    """A hidden token: where it stands, what the model guesses, and how it likes the truth.

    guesses: best first. truth, rank (1: it is the first guess) and probability (0..1) are None
    where nobody knows what stood there.
    """

    position: int
    guesses: tuple[Guess, ...]
    truth: str | None = None
    rank: int | None = None
    probability: float | None = None

    @property
    def right(self) -> bool | None:
        """Whether the first guess is the truth; None if that is unknown."""
        return None if self.truth is None else self.guesses[0].token == self.truth

    def verdict(self) -> str:
        """✓ right, ✗ wrong, or nothing."""
        return {True: "✓ right", False: "✗ wrong", None: ""}[self.right]


@dataclass(frozen=True)
class Page:
    """The tokens of a text (true ones where known) and its holes, in the order of the text."""

    tokens: tuple[str, ...]
    holes: tuple[Hole, ...]

    def __post_init__(self):
        for hole in self.holes:
            if not 0 <= hole.position < len(self.tokens) or not hole.guesses:
                raise ValueError(f"the hole at {hole.position} is in no token, or has no guess")

    def right(self) -> int:
        """How many first guesses are right."""
        return sum(hole.right is True for hole in self.holes)

    def known(self) -> int:
        """How many holes have a known truth."""
        return sum(hole.truth is not None for hole in self.holes)


def save_page(page: Page, path: Path) -> None:
    """As JSON, shares with four digits."""
    plain = asdict(page)
    for hole in plain["holes"]:
        hole["guesses"] = [[token, round(share, 4)] for token, share in hole["guesses"]]
        hole["probability"] = hole["probability"] and round(hole["probability"], 6)
    write_json(path, plain)


def load_page(path: Path) -> Page:
    """From JSON that `save_page` wrote; `InputError` if it is damaged."""
    return read_json(path, Page, "write the page again")


def read_questions(path: Path) -> dict[str, str]:
    """The lines of a file, or of stdin for "-", each by its place, such as Line 3 of 'a.txt'.

    Raises `InputError` if there is no line, if they are no text, or more than `MOST_BYTES`.
    """
    name = "stdin" if str(path) == "-" else f"'{path}'"
    try:
        with nullcontext(sys.stdin.buffer) if name == "stdin" else open(path, "rb") as stream:
            content = stream.read(MOST_BYTES + 1)
        lines = content.decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(f"Cannot read {name} ({reason}); pass a text file, one text a "
                         "line.") from None
    if len(content) > MOST_BYTES:
        raise InputError(f"{name} has more than {MOST_BYTES:,} bytes; pass it in parts.")
    if lines[-1] == "":
        lines.pop()
    if not lines:
        raise InputError(f"{name} is empty; pass a file of one text a line.")
    return {f"Line {number:,} of {name}": line.removesuffix("\r")
            for number, line in enumerate(lines, 1)}
