"""The dataset file that travels, and the unpacked one beside it that loads at once.

A dataset file is two gzip members: a header (`Header`), then blocks of chunks, as msgpack objects.
Ids travel as bytes, not as lists of ints: a chunk of 128 tokens takes 256 bytes and no parsing.
Each chunk also carries one frozen puzzle, so that all who validate score the same masks.

The first load writes the chunks as one NumPy array into `<name>.unpacked`, which later loads map
into memory. That file is never more than a copy: one that does not fit the header, or cannot be
written, is made anew or done without. A file that lies is refused before more than a block of it
is in memory.
"""

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgpack
import numpy as np

from bertlib.plumbing.dataset_header import CHUNKS_IN_BLOCK, Header, parse_header
from bertlib.plumbing.files import InputError, atomic_write

MOST_HEADER = 1 << 16  # bytes, packed or not; honest ones have about a thousand
MOST_PACKED = 1032  # bytes that gzip can pack into one, the limit of its format
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
        return {"count": len(self.ids)} | {name: a.tobytes() for name, a in vars(self).items()}

    def add_to(self, digest: Any) -> None:
        """Go on with the SHA-256 that a header has: of the arrays of each block in order."""
        for array in vars(self).values():
            digest.update(np.ascontiguousarray(array))

    def check_ranges(self, header: Header) -> None:
        """`ValueError` if an id lies outside the vocabulary or a position outside its chunk."""
        if max(self.ids.max(), self.replaced.max()) >= header.vocab_size:
            raise ValueError("it holds ids outside the vocabulary")
        if self.positions.max() > header.max_len:
            raise ValueError("it holds positions outside a chunk")

    def check(self, header: Header) -> None:
        """`ValueError` unless the masks are such as `Masker` draws: ascending, words for words.

        Only a chunk that holds no word, such as one of [UNK] alone, has none.
        """
        self.check_ranges(header)
        special, places = header.origin.special_ids, self.positions
        words = np.ones(header.vocab_size, bool)  # or [MASK], which is put in place of words
        words[[special.pad, special.unk, special.cls, special.sep]] = False
        used = places < header.max_len  # [n, M]
        labels = np.take_along_axis(self.ids, np.minimum(places, header.max_len - 1), 1)
        if not (words[labels] & words[self.replaced])[used].all():
            raise ValueError("it hides what is no word")
        if not ((places[:, 1:] > places[:, :-1]) | ~used[:, 1:]).all():
            raise ValueError("its masks are in disorder")
        if (used[:, 0] != words[self.ids].any(1)).any():
            raise ValueError("it holds words, but hides none")


def read_dataset(path: Path, header: Header) -> Block:
    """The chunks of a dataset file; from its unpacked copy, if that is there and whole.

    Raises `InputError` if the file is missing, truncated, altered, of another format or not of
    that header, or if neither the disk nor the memory has room for its chunks.
    """
    path = Path(path)
    copy = path.with_name(f"{path.name}.unpacked")
    if mapped := map_unpacked(copy, header):
        return mapped
    with suppress(OSError):  # a read-only folder, a full disk
        write_unpacked(copy, header, _read_blocks(path, header))
        if mapped := map_unpacked(copy, header):
            return mapped
    try:
        return _gather(header, _read_blocks(path, header))
    except MemoryError:
        raise InputError(f"The dataset '{path}' takes {header.n_bytes:,} bytes unpacked; free as "
                         "much space in its folder.") from None


def read_header(path: Path) -> Header:
    """What a dataset file says about itself; errors as in `read_dataset`."""
    with _refused(path), Path(path).open("rb") as file:
        header = parse_header(msgpack.unpackb(_read_front(file)), path)
        if header.n_bytes > MOST_PACKED * os.fstat(file.fileno()).st_size:
            raise ValueError(f"no file of its size holds {header.count:,} chunks")
        return header


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """All that can go wrong while a dataset file is read, as one `InputError`."""
    if not Path(path).is_file():
        raise InputError(f"There is no dataset '{path}'; make it with prepare-mlm-dataset.")
    try:
        yield
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(
            f"The dataset '{path}' is truncated or altered ({str(error) or 'it ends too early'}); "
            "make it again with prepare-mlm-dataset."
        ) from None


def _read_front(file: BinaryIO) -> bytes:
    """The first gzip member of a file, which then stands behind it."""
    start, member = file.read(MOST_HEADER), zlib.decompressobj(wbits=31)  # 31: gzip's own frame
    front = member.decompress(start, MOST_HEADER)
    if not member.eof:  # only at the end is the CRC checked
        raise ValueError("its header has no end")
    file.seek(len(start) - len(member.unused_data))
    return front


def _read_blocks(path: Path, header: Header) -> Iterator[Block]:
    """The blocks of a dataset file, each checked; `InputError` if they are not those announced."""
    special = header.origin.special_ids
    digest, left, n_tokens, n_unknown, n_hidden = hashlib.sha256(), header.count, 0, 0, 0
    with _refused(path), path.open("rb") as file:
        _read_front(file)
        unpacker = _unpacker(file, header)
        while left > 0:
            block = _read_block(unpacker, header, left)
            block.check(header)
            block.add_to(digest)
            left -= len(block.ids)
            n_tokens += int((block.ids != special.pad).sum())
            n_unknown += int((block.ids == special.unk).sum())
            n_hidden += int((block.positions < header.max_len).sum())
            yield block
        if unpacker.read_bytes(1):
            raise ValueError(f"it holds more than the {header.count:,} chunks it announces")
        if (n_tokens, n_unknown) != (header.n_tokens, header.n_unknown) or n_hidden == 0:
            raise ValueError("it holds other tokens than it announces, or no word")
        if digest.hexdigest() != header.sha256:
            raise ValueError("its SHA-256 does not match")


def _unpacker(file: BinaryIO, header: Header) -> msgpack.Unpacker:
    """What reads the blocks, object by object; none may be larger than an array, or nested."""
    limit = CHUNKS_IN_BLOCK * max(width * kind.itemsize for width, kind in header.arrays().values())
    return msgpack.Unpacker(gzip.open(file), read_size=1 << 20, max_buffer_size=limit + (1 << 20),
                            max_bin_len=limit, max_array_len=0, max_map_len=0, max_ext_len=0)


def _read_block(unpacker: msgpack.Unpacker, header: Header, left: int) -> Block:
    n_entries = min(unpacker.read_map_header(), 4)
    packed = {unpacker.unpack(): unpacker.unpack() for _ in range(n_entries)}
    if packed.keys() != {"count", *header.arrays()}:
        raise ValueError("a block has other entries than it should")
    if packed["count"] != (count := min(left, CHUNKS_IN_BLOCK)):
        raise ValueError(f"a block holds {packed['count']:,} chunks, it should hold {count:,}")
    return Block(**{name: np.frombuffer(packed[name], kind).reshape(count, width)
                    for name, (width, kind) in header.arrays().items()})


# -- the unpacked copy ------------------------------------------------------------------------


def _rows(block: Block, header: Header) -> np.ndarray:
    """The chunks of a block as one array, a row each: [n] of `Header.row`."""
    rows = np.empty(len(block.ids), header.row)
    for name in header.arrays():
        rows[name] = getattr(block, name)
    return rows


def _block(rows: np.ndarray) -> Block:
    """The columns of rows, which are not copied."""
    return Block(rows["ids"], rows["positions"], rows["replaced"])


def _gather(header: Header, blocks: Iterable[Block]) -> Block:
    """All chunks in memory."""
    rows, first = np.empty(header.count, header.row), 0
    for block in blocks:
        rows[first : first + len(block.ids)] = _rows(block, header)
        first += len(block.ids)
    return _block(rows)


def _front(header: Header) -> bytes:
    """The first bytes of the file that `np.save` makes of all rows: type and shape."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {
        "descr": np.lib.format.dtype_to_descr(header.row), "fortran_order": False,
        "shape": (header.count,)})
    return stream.getvalue()


def write_unpacked(path: Path, header: Header, blocks: Iterable[Block]) -> None:
    """Write the file that `np.save` makes of all rows, but block by block; all or nothing.

    Raises `OSError` if the file cannot be written.
    """
    with atomic_write(path) as stream:
        stream.write(_front(header))
        for block in blocks:
            stream.write(_rows(block, header).data)


def map_unpacked(path: Path, header: Header) -> Block | None:
    """The arrays of an unpacked file, read-only; None if it is missing, damaged or another's.

    All is hashed and held to its range each time. Pages that nobody reads take no memory, and
    several processes share those that are read.
    """
    if not path.is_file():
        return None
    with suppress(OSError, ValueError):  # unreadable, too short, numbers out of their range
        with path.open("rb") as stream:
            front = _front(header)
            if stream.read(len(front)) != front:  # so that NumPy parses no other's words
                return None
            if stream.seek(0, 2) != len(front) + header.n_bytes:
                return None
        rows, digest = np.asarray(np.load(path, mmap_mode="r")), hashlib.sha256()
        for first in range(0, header.count, CHUNKS_IN_BLOCK):
            block = _block(rows[first : first + CHUNKS_IN_BLOCK])
            block.check_ranges(header)
            block.add_to(digest)
        if digest.hexdigest() == header.sha256:
            return _block(rows)
    return None
