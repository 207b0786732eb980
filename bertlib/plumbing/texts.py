"""Text files as people have them, plain or compressed, one or a folder of them, as documents.

Where a document begins is told by `parted`:

    titles   a line ` = Title = `, as in WikiText; ` = = Section = = ` opens none (the default)
    blank    a blank line, as in BERT's own input
    lines    each line is one

In .jsonl files, as data sets on the hub come, each line is a document: an object with a "text".
"""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from bertlib.plumbing.files import InputError, short
from bertlib.plumbing.lines import BLOCK, PACKED, cut, read_lines

PARTED = ("titles", "blank", "lines")
PLAIN = (".txt", ".text", ".tokens", ".raw")
RECORDS = (".jsonl", ".ndjson", ".json")
ENDINGS = (*PLAIN, *RECORDS, *PACKED)
TITLE = re.compile(r" ?= [^=](.*[^=])? = *")
PARAGRAPH = re.compile("[^\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")  # as str.splitlines parts them
LONG_LINE = 20_000  # characters; a longer line is cut at a space
LONGEST_RECORD = 15_000_000  # characters of one JSON line; "War and Peace" has three million


def check_characters(text: str, place: str = "") -> None:
    """`InputError` if `text` holds a lone surrogate, half of a character, as strings may."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{place or f'The text {short(text, 60)}'} holds "
                         f"{ascii(text[error.start])}, letter {error.start + 1:,}, which is half a "
                         "character or a byte that is not UTF-8; take it out.") from None


def text_files(path: Path) -> list[Path]:
    """The files of a text: `path` itself, or all texts of that folder, in the order of names.

    Raises `InputError` if there is none, or if the ending of a single file is unknown.
    """
    path = Path(path)
    if path.is_dir():
        found = sorted((p for p in path.iterdir() if p.is_file() and _kind(p)),
                       key=lambda p: p.name)
        if not found:
            raise InputError(f"There is no text in the folder '{path}' ({', '.join(ENDINGS)}); "
                             "put some there.")
        return found
    if not path.exists():
        raise InputError(f"The input '{path}' does not exist; check the path.")
    if not path.is_file():
        raise InputError(f"The input '{path}' is no regular file; write its text to one first.")
    if not _kind(path):
        raise InputError(f"The input '{path}' has an unknown ending; use one of "
                         f"{', '.join(ENDINGS)}.")
    return [path]


def text_sha256(path: Path) -> str:
    """What tells one text from another: SHA-256 of its files' bytes, in order."""
    digest = hashlib.sha256()
    for file in text_files(path):
        try:
            with file.open("rb") as stream:
                while block := stream.read(BLOCK):
                    digest.update(block)
        except OSError as error:
            raise InputError(f"Cannot read '{file}' ({error.strerror}).") from None
    return digest.hexdigest()


def read_documents(path: Path, parted: str = "titles") -> Iterator[list[str]]:
    """The documents of a text in order, each a list of paragraphs; errors as `read_paragraphs`."""
    document: list[str] = []
    for begins, text in read_paragraphs(path, parted):
        if begins and document:
            yield document
            document = []
        document.append(text)
    yield document


def read_paragraphs(path: Path, parted: str = "titles") -> Iterator[tuple[bool, str]]:
    """The paragraphs of a text in order, without blank ones: (whether a document begins, text).

    Lines may end as on Unix, Windows or old Macs; a line of over 20,000 characters comes as
    several paragraphs, cut at spaces. However long a document is, little of it is in memory.
    Raises `InputError`, which names file and line, for what is missing, damaged, binary, not
    UTF-8, another kind of JSON, or empty.
    """
    if parted not in PARTED:
        raise InputError(f"Documents are parted by '{parted}'; use one of {', '.join(PARTED)}.")
    empty = True
    for file in text_files(path):
        for paragraph in _records(file) if _kind(file) == "records" else _prose(file, parted):
            empty = False
            yield paragraph
    if empty:
        raise InputError(f"The input '{path}' holds no text; pass a file with some.")


def _kind(path: Path) -> str:
    """"prose" or "records" (JSON lines) by the file's ending, whatever its case; "" if unknown."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
        if not suffixes:
            return "prose"
    last = suffixes[-1] if suffixes else ""
    return "records" if last in RECORDS else "prose" if last in PLAIN else ""


def _prose(path: Path, parted: str) -> Iterator[tuple[bool, str]]:
    begins = first = True  # first: nothing but blank lines was seen
    fresh = True  # a line begins, not a further piece of a long one
    for _, line in read_lines(path, LONG_LINE):
        text, ends = line.strip(), line.endswith("\n")
        begins = begins or (fresh and ends and _parts(line, text, parted))
        fresh = ends
        if text:
            if first:
                _refuse_json(path, text)
            yield begins, text
            begins = first = False
        if parted == "lines" and ends:
            begins = True


def _parts(line: str, text: str, parted: str) -> bool:
    """Whether a document ends before a line; `text` is the line without the spaces around."""
    if parted == "titles":
        return text[:2] == "= " and TITLE.fullmatch(line[:-1]) is not None
    return parted == "blank" and not text


def _refuse_json(path: Path, first: str) -> None:
    """`InputError` if a text file begins as JSON does: it would be trained on as prose."""
    if first in "[{" or re.match(r'[\[{]\s*["{]', first):
        raise InputError(f"'{path}' holds JSON, not prose; write one object with the key \"text\" "
                         "a line and name the file .jsonl.")


def _records(path: Path) -> Iterator[tuple[bool, str]]:
    for number, line in read_lines(path, LONGEST_RECORD):
        if not line.isspace():
            begins = True
            for paragraph in PARAGRAPH.finditer(_text_of(line, f"'{path}', line {number:,}")):
                for piece in map(str.strip, cut(paragraph.group(), LONG_LINE)):
                    if piece:
                        yield begins, piece
                        begins = False


def _text_of(record: str, place: str) -> str:
    """The "text" of a JSON line; `InputError` if it is no such line."""
    if not record.endswith("\n"):
        raise InputError(f"{place}: this is longer than {LONGEST_RECORD:,} characters; write its "
                         "text as several documents, one object a line.")
    try:
        text = json.loads(record)["text"]
    except (ValueError, TypeError, KeyError, RecursionError):
        text = None
    if not isinstance(text, str):
        raise InputError(f"{place}: this is no JSON object with a string \"text\"; write one such "
                         "object a line.")
    check_characters(text, f"{place},")
    return text
