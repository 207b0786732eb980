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
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import msgpack
import numpy as np

from bertlib.files import InputError, atomic_write
from bertlib.tokens import Tokenizer

FORMAT, VERSION = "bertlib-mlm", 1
MOST_IDS = 4_000_000_000  # ids in one file: what a header may claim before it is refused
BLOCK_LIMIT = 64 * 1024 * 1024  # bytes of one block, before compression
UNREADABLE = (OSError, EOFError, zlib.error, ValueError, TypeError, LookupError,
              msgpack.exceptions.UnpackException)


@dataclass(frozen=True)
class Header:
    """What a dataset file says about itself."""

    count: int  # chunks
    max_len: int  # tokens in a chunk, [CLS] and [SEP] counted
    n_masked: int  # masked positions stored for a chunk; unused ones point nowhere (max_len)
    n_tokens: int  # tokens that are not padding
    seed: int
    mask_rate: float
    segment: str  # "token": packed; "text": cut at word boundaries and padded
    split: str
    source: str  # name of the input file
    vocab_size: int
    vocab_sha256: str
    special_ids: dict[str, int]
    sha256: str  # of the arrays of all blocks, in order
    format: str = FORMAT
    version: int = VERSION

    def arrays(self) -> dict[str, tuple[int, np.dtype]]:
        """(numbers for a chunk, their type) of each array, in the order of a block."""
        kind, where = id_type(self.vocab_size), np.dtype("<u2")
        return {"ids": (self.max_len, kind), "positions": (self.n_masked, where),
                "replaced": (self.n_masked, kind)}


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


def id_type(vocab_size: int) -> np.dtype:
    """The smallest unsigned type that holds every id."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def read_dataset(path: Path, tokenizer: Tokenizer) -> tuple[Header, Block]:
    """Header and chunks of a dataset file; from its unpacked copy, if that is there and whole.

    Raises `InputError` if the file is missing, truncated, altered, of another format or made
    with another vocabulary. Never decompresses more than the header announces.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no dataset '{path}'; make it with prepare-mlm-dataset.")
    try:
        with gzip.open(path) as stream:
            unpacker = msgpack.Unpacker(
                stream, read_size=1 << 20, max_buffer_size=BLOCK_LIMIT, max_map_len=32
            )
            header = _read_header(unpacker, path)
            _check_vocab(header, tokenizer, path)
            copy = path.with_name(f"{path.name}.unpacked")
            return header, map_unpacked(copy, header) or _unpack(unpacker, header, copy)
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(
            f"The dataset '{path}' is truncated or altered ({error}); make it again with "
            "prepare-mlm-dataset."
        ) from None


def _read_header(unpacker: msgpack.Unpacker, path: Path) -> Header:
    entries = unpacker.unpack()
    if not isinstance(entries, dict) or entries.get("format") != FORMAT:
        raise InputError(f"'{path}' is not a dataset of this course; use prepare-mlm-dataset.")
    if entries.get("version") != VERSION:
        version = entries.get("version")
        raise InputError(
            f"The dataset '{path}' has version {version!r}, this code reads {VERSION}; make it "
            "again with prepare-mlm-dataset."
        )
    if set(entries) != {field.name for field in fields(Header)}:
        raise ValueError("the header has other entries than it should")
    header = Header(**entries)
    whole = (header.count, header.max_len, header.n_masked, header.vocab_size)
    if not all(isinstance(n, int) and n > 0 for n in whole) or header.n_masked > header.max_len:
        raise ValueError("the header holds impossible counts")
    if header.count * header.max_len > MOST_IDS:
        raise ValueError("the header announces more ids than a file may hold")
    return header


def _check_vocab(header: Header, tokenizer: Tokenizer, path: Path) -> None:
    if header.vocab_sha256 != tokenizer.sha256 or header.special_ids != asdict(tokenizer.special):
        raise InputError(
            f"The dataset '{path}' was made with another vocabulary ({header.vocab_size} tokens, "
            f"this one has {len(tokenizer)}); pass that vocabulary or prepare the dataset again."
        )


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
