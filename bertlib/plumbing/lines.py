"""The lines of a text file, packed or not, whatever ends them, and however many there are."""

import codecs
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from bertlib.plumbing.files import InputError

PACKED = (".xz", ".gz")
LINE_END = re.compile(r"(\n\n*(?:\s*\n)?)")  # with the blank lines that follow
BLOCK = 1 << 20  # bytes that are decoded at once
XZ_MEMORY = 100_000_000  # bytes; to unpack what xz -9 packed takes 68 million
DAMAGED = (OSError, EOFError, lzma.LZMAError, zlib.error)


def cut(text: str, limit: int) -> Iterator[str]:
    """Pieces of at most `limit` characters, cut at spaces where there are any; nothing is lost."""
    start = 0
    while len(text) - start > limit:
        end = text.rfind(" ", start + 1, start + limit + 1)
        end = end if end > start else start + limit
        yield text[start:end]
        start = end
    yield text[start:]


def read_lines(path: Path, limit: int) -> Iterator[tuple[int, str]]:
    """(number, line with its newline) of a file; of a line over `limit`, pieces without one.

    Of blank lines in a row only a few are told, so that a gigabyte of them takes seconds.
    Raises `InputError` for what is damaged, binary or not UTF-8.
    """
    number, rest = 1, ""
    for text in _decoded(path):
        line, *others = LINE_END.split(text)
        for end, following in zip(others[::2], others[1::2], strict=True):
            line = rest + line
            *pieces, line = cut(line, limit) if len(line) > limit else (line,)
            for piece in pieces:
                yield number, piece
            yield number, line + "\n"
            if len(end) > 1:
                yield number + 1, "\n"
            number, rest, line = number + end.count("\n"), "", following
        *pieces, rest = cut(rest + line, limit)
        for piece in pieces:
            yield number, piece
    if rest:
        yield number, rest + "\n"


def _decoded(path: Path) -> Iterator[str]:
    """Blocks of a file's text, all line ends as newlines."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")(), True)
    line = 1  # that a block begins in
    try:
        for block in chain(filter(None, _bytes(path)), [b""]):
            waits = decoder.getstate()[1] & 1  # a \r that may yet turn out to be \r\n
            text = decoder.decode(block, final=not block)
            if "\0" in text:
                line += text.count("\n", 0, text.index("\0"))
                raise InputError(f"'{path}' looks like a binary file, not text: there is a "
                                 f"zero byte in line {line}; pass text.")
            yield text
            line += text.count("\n")
    except UnicodeDecodeError as error:
        good, bad = error.object[: error.start], error.object[error.start]
        line += len(re.findall(rb"\r\n?|\n", good)) + (waits and not good.startswith(b"\n"))
        raise InputError(
            f"'{path}' is not UTF-8 text: byte 0x{bad:02x} in line {line}; convert it first, for "
            "example with iconv -f latin1 -t utf-8."
        ) from None
    except DAMAGED as error:
        if "Memory usage limit" in str(error):
            raise InputError(f"'{path}' takes more than {XZ_MEMORY:,} bytes of memory to unpack; "
                             "pack it anew with xz -9, or less.") from None
        raise InputError(f"'{path}' is damaged or cannot be read: {error}.") from None


def _bytes(path: Path) -> Iterator[bytes]:
    """Blocks of a file's bytes, unpacked if it is packed; some may be empty."""
    with path.open("rb") as file:
        if path.suffix.lower() == ".xz":
            yield from _unxz(file)
        elif path.suffix.lower() == ".gz":
            with gzip.open(file) as stream:
                yield from iter(lambda: stream.read(BLOCK), b"")
        else:
            yield from iter(lambda: file.read(BLOCK), b"")


def _unxz(file: BinaryIO) -> Iterator[bytes]:
    """The same of an .xz file: streams in a row, with zero bytes between them if with any.

    `lzma.open` would set no limit to the memory that a file asks for, and drop what follows zeros.
    """
    unpacker = None
    while packed := file.read(BLOCK):
        while packed := packed if unpacker else packed.lstrip(b"\0"):
            unpacker = unpacker or lzma.LZMADecompressor(memlimit=XZ_MEMORY)
            yield unpacker.decompress(packed, BLOCK)
            while not (unpacker.needs_input or unpacker.eof):
                yield unpacker.decompress(b"", BLOCK)
            packed, unpacker = unpacker.unused_data, None if unpacker.eof else unpacker
    if unpacker:
        raise EOFError("it ends too early")
