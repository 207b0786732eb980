"""Datasets on disk and batches in memory.

A dataset file is a gzip stream of msgpack objects: a header (`Header`), then blocks of chunks.
Ids travel as bytes, not as lists of ints: a chunk of 128 tokens takes 256 bytes and no parsing.
Each chunk also carries one frozen puzzle, so that all who validate score the same masks.
"""

import glob
import gzip
import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import msgpack
import numpy as np
import torch
from torch import Tensor

from bertlib.files import InputError
from bertlib.masking import Masked, Masker
from bertlib.tokens import Tokenizer

FORMAT, VERSION = "bertlib-mlm", 1
HEADER_LIMIT = 64 * 1024  # bytes
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


def id_type(vocab_size: int) -> np.dtype:
    """The smallest unsigned type that holds every id."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


class Dataset:
    """One split in memory: ids [N, T], positions [N, M] in a chunk, replaced [N, M]."""

    def __init__(self, header: Header, block: Block):
        self.header = header
        self.ids, self.positions, self.replaced = block.ids, block.positions, block.replaced

    def __len__(self) -> int:
        return self.header.count

    def chunks(self, index) -> Tensor:
        """Token ids [B, T] (int64) of the chunks at `index`."""
        return torch.from_numpy(self.ids[index].astype(np.int64))

    def all_ids(self) -> Tensor:
        """Every token id [N, T] (int64), to count words."""
        return self.chunks(slice(None))

    def frozen(self, index, masker: Masker) -> Masked:
        """The chunks at `index` with the masks stored in the file."""
        ids = self.chunks(index)
        positions = torch.from_numpy(self.positions[index].astype(np.int64))  # [B, M]
        used = positions < ids.shape[1]
        flat = (positions + torch.arange(len(ids))[:, None] * ids.shape[1])[used]
        replaced = torch.from_numpy(self.replaced[index].astype(np.int64))[used]
        return masker.puzzle(ids, flat, ids.reshape(-1)[flat], replaced)


def load_dataset(path: Path, tokenizer: Tokenizer) -> Dataset:
    """Read a dataset file, checking header, vocabulary, count and hash.

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
            return Dataset(header, _read_blocks(unpacker, header))
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


def _read_blocks(unpacker: msgpack.Unpacker, header: Header) -> Block:
    kind, where = id_type(header.vocab_size), np.dtype("<u2")
    shapes = {
        "ids": (header.max_len, kind),
        "positions": (header.n_masked, where),
        "replaced": (header.n_masked, kind),
    }
    digest, seen, parts = hashlib.sha256(), 0, {name: [] for name in shapes}
    while seen < header.count:
        block = unpacker.unpack()
        rows = block["count"]
        for name, (width, dtype) in shapes.items():
            digest.update(block[name])
            parts[name].append(np.frombuffer(block[name], dtype).reshape(rows, width))
        seen += rows
    if seen != header.count or unpacker.read_bytes(1):
        raise ValueError(f"the header announces {header.count} chunks, the file holds others")
    if digest.hexdigest() != header.sha256:
        raise ValueError("its SHA-256 does not match")
    joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    if max(joined["ids"].max(), joined["replaced"].max()) >= header.vocab_size:
        raise ValueError("it holds ids outside the vocabulary")
    return Block(**joined)


def find_files(pattern: str) -> list[Path]:
    """The files that match `pattern`, in the order of their names; `InputError` if none does."""
    paths = sorted(Path(name) for name in glob.glob(str(pattern)))
    if not paths:
        raise InputError(f"No dataset matches '{pattern}'; make one with prepare-mlm-dataset.")
    return paths


class Batches:
    """Endless training batches: files rotate by epoch, chunks are shuffled, masks drawn.

    Order and masks depend on `seed` and the number of the batch only, so that a stopped run
    goes on exactly where it was: `seek(n)` makes batch n the next one.
    """

    def __init__(self, paths: list[Path], masker: Masker, tokenizer: Tokenizer, seed: int,
                 dynamic: bool = True):
        self.paths, self.masker, self.tokenizer = paths, masker, tokenizer
        self.seed, self.dynamic = seed, dynamic
        self.served = self.epoch = self.cursor = 0
        self._open(0)

    def _open(self, epoch: int) -> None:
        """Begin `epoch`: its file (round robin) and its order of chunks."""
        number = epoch % len(self.paths)
        if epoch == 0 or len(self.paths) > 1:
            self.data = load_dataset(self.paths[number], self.tokenizer)
        self.order = np.random.default_rng((self.seed, epoch)).permutation(len(self.data))
        self.epoch, self.cursor = epoch, 0

    def state(self) -> dict[str, int]:
        """What a checkpoint has to keep."""
        return {"served": self.served, "epoch": self.epoch, "cursor": self.cursor}

    def restore(self, state: dict[str, int]) -> None:
        """Go on where `state` was taken."""
        self._open(state["epoch"])
        self.served, self.cursor = state["served"], state["cursor"]

    def require(self, size: int) -> None:
        """`InputError` if the file has fewer than `size` chunks, too few for one batch."""
        if size > len(self.data):
            raise InputError(
                f"The batch size is {size}, but '{self.paths[0]}' has only {len(self.data)} "
                "chunks; choose a smaller batch_size."
            )

    def next(self, size: int, rate: float) -> Masked:
        """The next `size` chunks, with `rate` of their tokens masked (dynamic masks)."""
        self.require(size)
        if self.cursor + size > len(self.order):
            self._open(self.epoch + 1)
        index = self.order[self.cursor : self.cursor + size]
        self.cursor += size
        self.served += 1
        if not self.dynamic:
            return self.data.frozen(index, self.masker)
        seed = np.random.SeedSequence((self.seed, self.served)).generate_state(1)[0]
        generator = torch.Generator().manual_seed(int(seed))
        return self.masker(self.data.chunks(index), generator, rate)


def in_order(data: Dataset, masker: Masker, size: int, most: int = 0) -> Iterator[Masked]:
    """Batches of the frozen puzzles in the file's order; the first `most` chunks, 0 for all."""
    end = min(most or len(data), len(data))
    for start in range(0, end, size):
        yield data.frozen(slice(start, min(start + size, end)), masker)
