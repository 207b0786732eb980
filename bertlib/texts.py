"""Text files as people have them, plain or compressed, one or a folder of them, as documents.

Where a document begins is told by `parted`:

    titles   a line ` = Title = `, as in WikiText; ` = = Section = = ` opens none (the default)
    blank    a blank line, as in BERT's own input
    lines    each line is one

In .jsonl files, as data sets on the hub come, each line is a document: an object with a "text".
"""

import codecs
import gzip
import hashlib
import io
import json
import lzma
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from bertlib.files import InputError, short

PARTED = ("titles", "blank", "lines")
PLAIN = (".txt", ".text", ".tokens", ".raw")
RECORDS = (".jsonl", ".ndjson", ".json")
OPENERS = {".xz": lzma.open, ".gz": gzip.open}
ENDINGS = (*PLAIN, *RECORDS, *OPENERS)
TITLE = re.compile(r" ?= [^=](.*[^=])? = *")
BLOCK = 1 << 20  # bytes that are decoded at once
LONG_LINE = 20_000  # characters; a longer line is cut at a space
LONGEST_RECORD = 50_000_000  # characters of one JSON line
DAMAGED = (OSError, EOFError, lzma.LZMAError, zlib.error)


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
    """The documents of a text in order, each a list of paragraphs without blank ones.

    Lines may end as on Unix, Windows or old Macs; a line of over 20,000 characters comes as
    several paragraphs, cut at spaces. Raises `InputError`, which names file and line, for what
    is missing, damaged, binary, not UTF-8, another kind of JSON, or empty.
    """
    if parted not in PARTED:
        raise InputError(f"Documents are parted by '{parted}'; use one of {', '.join(PARTED)}.")
    empty = True
    for file in text_files(path):
        documents = _records(file) if _kind(file) == "records" else _prose(file, parted)
        for document in documents:
            empty = False
            yield document
    if empty:
        raise InputError(f"The input '{path}' holds no text; pass a file with some.")


def cut(text: str, limit: int) -> Iterator[str]:
    """Pieces of at most `limit` characters, cut at spaces where there are any; nothing is lost."""
    start = 0
    while len(text) - start > limit:
        end = text.rfind(" ", start + 1, start + limit + 1)
        end = end if end > start else start + limit
        yield text[start:end]
        start = end
    yield text[start:]


def _kind(path: Path) -> str:
    """"prose" or "records" (JSON lines) by the file's ending, whatever its case; "" if unknown."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in OPENERS:
        suffixes.pop()
        if not suffixes:
            return "prose"
    last = suffixes[-1] if suffixes else ""
    return "records" if last in RECORDS else "prose" if last in PLAIN else ""


def _decoded(path: Path) -> Iterator[str]:
    """Blocks of a file's text, all line ends as newlines."""
    opener = OPENERS.get(path.suffix.lower(), open)
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")(), True)
    line = 1  # that a block begins in
    try:
        with opener(path, "rb") as stream:
            while True:
                block = stream.read(BLOCK)
                waits = decoder.getstate()[1] & 1  # a \r that may yet turn out to be \r\n
                text = decoder.decode(block, final=not block)
                if "\0" in text:
                    line += text.count("\n", 0, text.index("\0"))
                    raise InputError(f"'{path}' looks like a binary file, not text: there is a "
                                     f"zero byte in line {line}; pass text.")
                yield text
                line += text.count("\n")
                if not block:
                    return
    except UnicodeDecodeError as error:
        good, bad = error.object[: error.start], error.object[error.start]
        line += len(re.findall(rb"\r\n?|\n", good)) + (waits and not good.startswith(b"\n"))
        raise InputError(
            f"'{path}' is not UTF-8 text: byte 0x{bad:02x} in line {line}; convert it first, for "
            "example with iconv -f latin1 -t utf-8."
        ) from None
    except DAMAGED as error:
        raise InputError(f"'{path}' is damaged or cannot be read: {error}.") from None


def _lines(path: Path, limit: int) -> Iterator[str]:
    """The lines of a file with their newline; of a line over `limit`, pieces without one."""
    rest = ""
    for text in _decoded(path):
        *whole, rest = (rest + text).split("\n")
        for line in whole:
            *pieces, last = (line,) if len(line) <= limit else cut(line, limit)
            yield from pieces
            yield last + "\n"
        *pieces, rest = cut(rest, limit)
        yield from pieces
    if rest:
        yield rest + "\n"


def _prose(path: Path, parted: str) -> Iterator[list[str]]:
    document: list[str] = []
    begun = True  # nothing but blank lines was seen
    fresh = True  # a line begins, not a further piece of a long one
    for line in _lines(path, LONG_LINE):
        text = line.strip()
        if begun and text:
            _refuse_json(path, text)
            begun = False
        ends = line.endswith("\n")
        if document and fresh and ends and _parts(line, text, parted):
            yield document
            document = []
        fresh = ends
        if text:
            document.append(text)
        if parted == "lines" and document and ends:
            yield document
            document = []
    if document:
        yield document


def _parts(line: str, text: str, parted: str) -> bool:
    """Whether a document ends before this line, `text` without the spaces around it."""
    if parted == "titles":
        return text[:2] == "= " and TITLE.fullmatch(line[:-1]) is not None
    return parted == "blank" and not text


def _refuse_json(path: Path, first: str) -> None:
    """`InputError` if a text file begins as JSON does: it would be trained on as prose."""
    if first in "[{" or re.match(r'[\[{]\s*["{]', first):
        raise InputError(f"'{path}' holds JSON, not prose; write one object with the key \"text\" "
                         "a line and name the file .jsonl.")


def _records(path: Path) -> Iterator[list[str]]:
    for number, line in enumerate(_lines(path, LONGEST_RECORD), 1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)["text"]
        except (ValueError, TypeError, KeyError, RecursionError):
            text = None
        if not isinstance(text, str):
            raise InputError(f"'{path}', line {number}: this is no JSON object with a string "
                             "\"text\"; write one such object a line.")
        check_characters(text, f"'{path}', line {number},")
        paragraphs = [piece.strip() for paragraph in text.splitlines()
                      for piece in cut(paragraph, LONG_LINE)]
        if document := [paragraph for paragraph in paragraphs if paragraph]:
            yield document
