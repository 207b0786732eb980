"""What a dataset file says about itself: its counts, and the text that it is made of."""

from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_origin, get_type_hints

import numpy as np

from bertlib.files import InputError

T = TypeVar("T")
FORMAT, VERSION = "bertlib-mlm", 2
MOST_IDS = 4_000_000_000  # ids in one file: what a header may claim before it is refused


@dataclass(frozen=True)
class Origin:
    """Which text a dataset is made of, and how it was dealt out and read (see `corpus`)."""

    source: str  # name of the input
    source_sha256: str  # of its bytes
    parted: str  # what parts documents
    unit: str  # "documents", "passages" or "pieces"
    wikitext: bool  # whether its marks were joined and <unk> read as [UNK]
    vocab_size: int
    vocab_sha256: str
    lowercase: bool
    strip_accents: bool | None
    special_ids: dict[str, int]
    segment: str  # "token": packed; "text": cut at word boundaries and padded


@dataclass(frozen=True)
class Header:
    """What a dataset file says about itself."""

    count: int  # chunks
    max_len: int  # tokens in a chunk, [CLS] and [SEP] counted
    n_masked: int  # masked positions stored for a chunk; unused ones point nowhere (max_len)
    n_tokens: int  # tokens that are not padding
    n_unknown: int  # of them [UNK]
    n_lost: int  # tokens of the text at the end of the split that fill no chunk
    seed: int
    mask_rate: float
    split: str
    origin: Origin
    sha256: str  # of the arrays of all blocks, in order
    format: str = FORMAT
    version: int = VERSION

    @property
    def vocab_size(self) -> int:
        """Words in the vocabulary, V."""
        return self.origin.vocab_size

    @property
    def special(self) -> list[int]:
        """The ids of the special tokens."""
        return list(self.origin.special_ids.values())

    def arrays(self) -> dict[str, tuple[int, np.dtype]]:
        """(numbers for a chunk, their type) of each array, in the order of a block."""
        kind, where = id_type(self.vocab_size), np.dtype("<u2")
        return {"ids": (self.max_len, kind), "positions": (self.n_masked, where),
                "replaced": (self.n_masked, kind)}


def id_type(vocab_size: int) -> np.dtype:
    """The smallest unsigned type that holds every id."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def parse_header(entries: Any, path: Path) -> Header:
    """The header of the file `path` from its plain values.

    Raises `InputError` for another format or version, `ValueError` for entries that no header has.
    """
    if not isinstance(entries, dict) or entries.get("format") != FORMAT:
        raise InputError(f"'{path}' is not a dataset of this course; use prepare-mlm-dataset.")
    if entries.get("version") != VERSION:
        version = entries.get("version")
        raise InputError(
            f"The dataset '{path}' has version {version!r}, this code reads {VERSION}; make it "
            "again with prepare-mlm-dataset."
        )
    origin = _checked(Origin, entries.get("origin"))
    header = _checked(Header, entries | {"origin": origin})
    whole = (header.count, header.max_len, header.n_masked, header.vocab_size)
    if min(whole) <= 0 or header.n_masked > header.max_len:
        raise ValueError("the header holds impossible counts")
    if header.count * header.max_len > MOST_IDS:
        raise ValueError("the header announces more ids than a file may hold")
    return header


def _checked(kind: type[T], entries: Any) -> T:
    """A dataclass from a dictionary; `ValueError` if names or types are not its fields'."""
    wanted = get_type_hints(kind)
    if not isinstance(entries, dict) or set(entries) != set(wanted):
        raise ValueError("the header has other entries than it should")
    for name, its in wanted.items():
        its = its if isinstance(its, UnionType) else get_origin(its) or its
        value = entries[name]
        if not isinstance(value, its) or (its is int and isinstance(value, bool)):
            raise ValueError(f"the header's {name} is of another type")
    return kind(**entries)
