"""The dataset file that travels, and the unpacked one beside it that loads at once.

A dataset file is a gzip stream of msgpack objects: a header (`Header`), then blocks of chunks.
Ids travel as bytes, not as lists of ints: a chunk of 128 tokens takes 256 bytes and no parsing.
Each chunk also carries one frozen puzzle, so that all who validate score the same masks.

The first load writes all arrays into `<name>.unpacked`, which later loads map into memory. That
file is never more than a copy: one that does not fit the header, or cannot be written, is made
anew or done without.
"""

import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import msgpack
import numpy as np

from bertlib.dataset_header import Header, parse_header
from bertlib.files import InputError, atomic_write
from bertlib.tokens import Tokenizer

T = TypeVar("T")
BLOCK_LIMIT = 64 * 1024 * 1024  # bytes of one block, before compression
UNREADABLE = (OSError, EOFError, zlib.error, ValueError, TypeError, LookupError,
              msgpack.exceptions.UnpackException)


@dataclass(frozen=True)
class Block:
    """Chunks with their frozen masks: ids [n, T], positions [n, M], replaced [n, M]."""

    ids: np.ndarray
    positions: np.ndarray
    replaced: np.ndarray

    def pack(self) -> dict[str, bytes | int]:
        """As a msgpack object: the count and three strings of little-endian bytes."""
        arrays = {name: getattr(self, name).tobytes() for name in ("ids", "positions", "replaced")}
        return {"count": len(self.ids), **arrays}

    def check_ids(self, vocab_size: int) -> None:
        """`ValueError` if an id lies outside the vocabulary."""
        if max(self.ids.max(), self.replaced.max()) >= vocab_size:
            raise ValueError("it holds ids outside the vocabulary")


def read_dataset(path: Path, tokenizer: Tokenizer) -> tuple[Header, Block]:
    """Header and chunks of a dataset file; from its unpacked copy, if that is there and whole.

    Raises `InputError` if the file is missing, truncated, altered, of another format or made
    with another vocabulary. Never decompresses more than the header announces.
    """
    def whole(unpacker: msgpack.Unpacker) -> tuple[Header, Block]:
        header = parse_header(unpacker.unpack(), path)
        _check_vocab(header, tokenizer, path)
        copy = path.with_name(f"{path.name}.unpacked")
        return header, map_unpacked(copy, header) or _unpack(unpacker, header, copy)

    path = Path(path)
    return _open(path, whole)


def read_header(path: Path) -> Header:
    """What a dataset file says about itself; errors as in `read_dataset`."""
    return _open(path, lambda unpacker: parse_header(unpacker.unpack(), path))


def _open(path: Path, read: Callable[[msgpack.Unpacker], T]) -> T:
    """What `read` makes of a dataset file; all that can go wrong as one `InputError`."""
    if not Path(path).is_file():
        raise InputError(f"There is no dataset '{path}'; make it with prepare-mlm-dataset.")
    try:
        with gzip.open(path) as stream:
            return read(msgpack.Unpacker(
                stream, read_size=1 << 20, max_buffer_size=BLOCK_LIMIT, max_map_len=32))
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(
            f"The dataset '{path}' is truncated or altered ({error}); make it again with "
            "prepare-mlm-dataset."
        ) from None


def _check_vocab(header: Header, tokenizer: Tokenizer, path: Path) -> None:
    origin = header.origin
    if (origin.vocab_sha256 != tokenizer.sha256
            or origin.special_ids != asdict(tokenizer.special)):
        raise InputError(
            f"The dataset '{path}' was made with another vocabulary ({header.vocab_size} tokens, "
            f"this one has {len(tokenizer)}); pass that vocabulary or prepare the dataset again."
        )
    if (origin.lowercase, origin.strip_accents) != (tokenizer.lowercase, tokenizer.strip_accents):
        made, now = ("lower-cased" if lower else "cased"
                     for lower in (origin.lowercase, tokenizer.lowercase))
        raise InputError(f"The dataset '{path}' was read as {made} text (strip_accents "
                         f"{origin.strip_accents}), the vocabulary is now read as {now} "
                         f"({tokenizer.strip_accents}); undo that in tokenizer_config.json, or "
                         "prepare the dataset again.")


def _unpack(unpacker: msgpack.Unpacker, header: Header, copy: Path) -> Block:
    """All chunks, mapped from a fresh unpacked copy; in memory if none can be written."""
    blocks = list(_read_blocks(unpacker, header))
    with suppress(OSError):  # a read-only folder, a full disk
        write_unpacked(copy, header, blocks)
        if mapped := map_unpacked(copy, header):
            return mapped
    return Block(**{name: np.concatenate([getattr(block, name) for block in blocks])
                    for name in header.arrays()})


def _read_blocks(unpacker: msgpack.Unpacker, header: Header) -> Iterator[Block]:
    digest, left = hashlib.sha256(), header.count
    while left > 0:
        packed = unpacker.unpack()
        if not 0 < packed["count"] <= left:
            raise ValueError(f"the header announces {header.count} chunks, the file holds others")
        left -= packed["count"]
        arrays = {}
        for name, (width, kind) in header.arrays().items():
            digest.update(packed[name])
            arrays[name] = np.frombuffer(packed[name], kind).reshape(packed["count"], width)
        block = Block(**arrays)
        block.check_ids(header.vocab_size)
        yield block
    if unpacker.read_bytes(1):
        raise ValueError(f"the header announces {header.count} chunks, the file holds others")
    if digest.hexdigest() != header.sha256:
        raise ValueError("its SHA-256 does not match")


def write_unpacked(path: Path, header: Header, blocks: list[Block]) -> None:
    """Write the raw arrays one after the other, then 32 bytes of SHA-256; all or nothing.

    The hash covers the header's own and the arrays, so that it also tells of which dataset this
    is the copy. Raises `OSError` if the file cannot be written.
    """
    digest = hashlib.sha256(str(header.sha256).encode())
    with atomic_write(path) as stream:
        for name in header.arrays():
            for block in blocks:
                digest.update(getattr(block, name))
                stream.write(getattr(block, name))
        stream.write(digest.digest())


def map_unpacked(path: Path, header: Header) -> Block | None:
    """The arrays of an unpacked file, read-only; None if it is missing, damaged or another's.

    Its length, its hash and the range of its ids are checked each time. Pages that nobody
    reads take no memory, and several processes share those that are read.
    """
    try:
        raw = np.asarray(np.memmap(path, mode="r"))  # bytes, as a plain array
    except (OSError, ValueError):  # missing or unreadable, or empty
        return None
    arrays, end = {}, 0
    for name, (width, kind) in header.arrays().items():
        start, end = end, end + header.count * width * kind.itemsize
        arrays[name] = raw[start:end]
    digest = hashlib.sha256(str(header.sha256).encode())
    digest.update(raw[:end])
    if len(raw) != end + digest.digest_size or raw[end:].tobytes() != digest.digest():
        return None
    block = Block(**{name: arrays[name].view(kind).reshape(header.count, width)
                     for name, (width, kind) in header.arrays().items()})
    try:
        block.check_ids(header.vocab_size)
    except ValueError:
        return None
    return block
