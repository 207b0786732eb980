"""A text file, plain or compressed, as a stream of documents, and documents as chunks.

The layout is WikiText's: a line ` = Title = ` opens a document, ` = = Section = = ` does not, and
each other line is a paragraph. A file without titles is one long document.
"""

import gzip
import lzma
import random
import re
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np

from bertlib.files import InputError
from bertlib.vocab import SpecialIds

SPLITS = ("train", "val", "test")
SHARES = (0,) * 8 + (1, 2)  # of each ten documents 8 train, 1 validates, 1 tests
SPLIT_SEED = 123
SUFFIXES = (".txt", ".tokens", ".xz", ".gz")
TITLE = re.compile(r"^ ?= [^=](.*[^=])? = *\n?$")
LONGEST_LINE = 50_000_000  # characters; a text with longer paragraphs is not prose
PIECE = 20_000  # characters; longer documents are cut at paragraphs
SMALL_FILE = 2_000_000  # characters; below, pieces are a hundredth of the file
DAMAGED = (OSError, EOFError, lzma.LZMAError, zlib.error)


def open_text(path: Path) -> IO[str]:
    """Open a .txt, .tokens, .xz or .gz file as UTF-8 text; raises `InputError` if it cannot be."""
    path = Path(path)
    if path.suffix not in SUFFIXES:
        kinds = ", ".join(SUFFIXES)
        raise InputError(f"The input '{path}' has an unknown ending; use one of {kinds}.")
    if path.is_dir():
        raise InputError(f"The input '{path}' is a folder; pass one text file.")
    if not path.is_file():
        raise InputError(f"The input '{path}' does not exist; check the path.")
    opener = {".xz": lzma.open, ".gz": gzip.open}.get(path.suffix, open)
    return opener(path, "rt", encoding="utf-8-sig", newline="\n")


def read_lines(stream: IO[str], path: Path) -> Iterator[str]:
    """The lines of `stream`; what is no text ends in one `InputError` that names the file."""
    number = 0
    try:
        while line := stream.readline(LONGEST_LINE):
            number += 1
            if "\0" in line or len(line) == LONGEST_LINE:
                raise InputError(f"'{path}' looks like a binary file, not text (line {number}).")
            yield line
    except UnicodeDecodeError:
        raise InputError(
            f"'{path}' is not UTF-8 text (after line {number}); is it a binary file? "
            "Pass text, or convert it to UTF-8 first."
        ) from None
    except DAMAGED as error:
        raise InputError(f"'{path}' is damaged or cannot be read: {error}.") from None


def read_documents(path: Path) -> Iterator[list[str]]:
    """The documents of a file, each a list of paragraphs, in order.

    A document longer than a piece (20,000 characters, or a hundredth of a small file) comes as
    several, cut between paragraphs. Raises `InputError` for a missing, binary or empty file.
    """
    with open_text(path) as stream:
        lines = read_lines(stream, path)
        head, size = [], 0
        for line in lines:
            head.append(line)
            size += len(line)
            if size > SMALL_FILE:
                break
        limit = PIECE if size > SMALL_FILE else max(200, min(PIECE, size // 100))
        yield from _cut(chain(head, lines), limit, path)


def split_documents(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Documents with the number of their split: of each ten in a row 8, 1 and 1, in a drawn order.

    The draw is always the same: datasets of several seeds, which training rotates, differ in
    their masks only, and none trains on what another one validates.
    """
    draw, order = random.Random(SPLIT_SEED), []
    for document in read_documents(path):
        if not order:
            order = draw.sample(SHARES, len(SHARES))
        yield order.pop(), document


def _cut(lines: Iterator[str], limit: int, path: Path) -> Iterator[list[str]]:
    document, length, empty = [], 0, True
    for line in lines:
        is_title = line.startswith((" = ", "= ")) and TITLE.match(line) is not None
        if document and (is_title or length > limit):
            yield document
            document, length = [], 0
        if text := line.strip():
            document.append(text)
            length += len(text)
            empty = False
    if document:
        yield document
    if empty:
        raise InputError(f"The input '{path}' holds no text; pass a file with some.")


class Packer:
    """Cuts documents into chunks [CLS] ... [SEP] of exactly `max_len` tokens.

    "token": documents run on, parted by [SEP], so that no chunk is padded; the tail that fills
    no chunk is left out. "text": each text becomes one chunk, cut if long and padded if short.
    """

    def __init__(self, special: SpecialIds, max_len: int, kind: np.dtype, segment: str = "token"):
        self.special, self.max_len, self.kind = special, max_len, kind
        self.packed = segment == "token"
        self.rest = np.empty(0, kind)
        self.lost = 0  # tokens that no chunk holds

    def __call__(self, texts: list[list[int]]) -> np.ndarray:
        """Ids of some texts -> chunks [n, T]; keeps what does not fill the last one."""
        room = self.max_len - 2
        if not self.packed:
            chunks = np.full((len(texts), self.max_len), self.special.pad, self.kind)
            for chunk, ids in zip(chunks, texts, strict=True):
                ids = [self.special.cls, *ids[:room], self.special.sep]
                chunk[: len(ids)] = ids
            self.lost += sum(max(0, len(ids) - room) for ids in texts)
            return chunks
        stream = np.concatenate([self.rest, *(np.array(ids, self.kind) for ids in texts)])
        n = len(stream) // room
        chunks = np.empty((n, self.max_len), self.kind)
        chunks[:, 0], chunks[:, -1] = self.special.cls, self.special.sep
        chunks[:, 1:-1] = stream[: n * room].reshape(n, room)
        self.rest = stream[n * room :]
        return chunks


def segments(paragraphs: list[str], characters: int) -> list[str]:
    """Cut a document into texts of at most `characters`, at the spaces between words."""
    text, pieces, start = " ".join(paragraphs), [], 0
    while start < len(text):
        end = start + characters
        if end < len(text):
            end = max(text.rfind(" ", start, end + 1), start + 1)
            end = end if end > start + 1 else start + characters
        pieces.append(text[start:end].strip())
        start = end
    return [piece for piece in pieces if piece]
