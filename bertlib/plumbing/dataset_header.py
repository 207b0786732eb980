"""What a dataset file says about itself: its counts, and the text that it is made of."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta

from bertlib.plumbing.files import InputError, short
from bertlib.plumbing.vocab import Rules, SpecialIds

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
FORMAT, VERSION = "bertlib-mlm", 2
SHORTEST, LONGEST = 16, 2048  # tokens in a chunk
CHUNKS_IN_BLOCK = 4096  # of a file; its last block may have fewer

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]  # SHA-256


@dataclass(frozen=True)
class Origin:
    """Which text a dataset is made of, and how it was dealt out and read (see `corpus`)."""

    source: str  # name of the input
    source_sha256: str  # of its bytes
    parted: str  # what parts documents
    unit: str  # "documents" or "passages"
    wikitext: bool  # whether its marks were joined and <unk> read as [UNK]
    vocab_size: Positive
    vocab_sha256: Hash
    lowercase: bool
    strip_accents: bool | None
    special_ids: SpecialIds
    segment: Literal["token", "text"]  # "token": packed; "text": cut at word boundaries and padded
    split_chinese: bool = True

    def rules(self) -> dict[str, bool | None]:
        """How the text was washed, as `vocab.Rules.as_dict` tells it."""
        return Rules(self.lowercase, self.strip_accents, self.split_chinese).as_dict()


@dataclass(frozen=True)
class Header:
    """What a dataset file says about itself; `parse_header` holds it to the types written here."""

    count: Positive  # chunks
    max_len: Annotated[int, Meta(ge=SHORTEST, le=LONGEST)]  # tokens in one, with [CLS] and [SEP]
    n_masked: Positive  # positions stored for a chunk; unused ones point nowhere (max_len)
    n_tokens: Positive  # tokens that are not padding
    n_unknown: Count  # of them [UNK]
    n_lost: Count  # tokens of the text at the end of the split that fill no chunk
    seed: Annotated[int, Meta(ge=0, lt=2**32)]
    mask_rate: Annotated[float, Meta(gt=0, lt=1)]
    split: Split
    origin: Origin
    sha256: Hash  # of the arrays of all blocks, in order
    format: str = FORMAT
    version: int = VERSION

    @property
    def vocab_size(self) -> int:
        """Words in the vocabulary, V."""
        return self.origin.vocab_size

    @property
    def special(self) -> list[int]:
        """The ids of the special tokens."""
        return list(asdict(self.origin.special_ids).values())

    def arrays(self) -> dict[str, tuple[int, np.dtype]]:
        """(numbers for a chunk, their type) of each array, in the order of a block."""
        kind, where = id_type(self.vocab_size), np.dtype("<u2")
        return {"ids": (self.max_len, kind), "positions": (self.n_masked, where),
                "replaced": (self.n_masked, kind)}

    @property
    def row(self) -> np.dtype:
        """All that belongs to one chunk, side by side, as a NumPy type."""
        return np.dtype([(name, kind, (width,)) for name, (width, kind) in self.arrays().items()])

    @property
    def n_bytes(self) -> int:
        """Of all arrays."""
        return self.count * self.row.itemsize


def id_type(vocab_size: int) -> np.dtype:
    """The smallest unsigned type that holds every id."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def parse_header(entries: Any, path: Path) -> Header:
    """The header of the file `path` from its plain values.

    Raises `InputError` for another format or version, `ValueError` for what no header says.
    """
    if not isinstance(entries, dict) or entries.get("format") != FORMAT:
        raise InputError(f"'{path}' is not a dataset of this course; use prepare-mlm-dataset.")
    if entries.get("version") != VERSION:
        raise InputError(f"The dataset '{path}' has version {short(entries.get('version'))}, this "
                         f"code reads {VERSION}; make it again with prepare-mlm-dataset.")
    header = msgspec.convert(entries, Header)
    if asdict(header) != entries:
        raise ValueError("the header has other entries than it should")
    ids = header.special
    if (header.n_masked > header.max_len - 2 or header.n_lost >= header.max_len
            or not header.n_unknown <= header.n_tokens <= header.count * header.max_len
            or len(set(ids)) < len(ids) or not 0 <= min(ids) < max(ids) < header.vocab_size):
        raise ValueError("the header holds impossible counts")
    return header
