"""Documents as chunks [CLS] ... [SEP] of one length, masked and written: one file a split."""

import gzip
import hashlib
import os
import shutil
import tempfile
from array import array
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import msgpack
import numpy as np
import torch

from bertlib.masking import Masker, MaskingConfig, n_hidden
from bertlib.plumbing.dataset_file import Block
from bertlib.plumbing.dataset_header import CHUNKS_IN_BLOCK, SPLITS, Header, Origin, Split, id_type
from bertlib.tokens import Tokenizer


class Packer:
    """Cuts documents into chunks [CLS] ... [SEP] of exactly `max_len` tokens.

    "token": documents run on, parted by [SEP], so that no chunk is padded; the tail that fills
    no chunk waits in `rest`. "text": a chunk holds text of one document, ends before a word
    begins, and is padded; nothing is lost.
    """

    def __init__(self, tokenizer: Tokenizer, max_len: int, segment: str = "token"):
        self.special, self.max_len = tokenizer.special, max_len
        self.kind = id_type(len(tokenizer))
        self.packed = segment == "token"
        self.begins = np.array([not token.startswith("##") for token in tokenizer.vocab])
        self.rest = np.empty(0, self.kind)  # "token": what no chunk holds yet
        self.document = array(self.kind.char)  # "text": what was read of the one that goes on

    def __call__(self, texts: Iterable[tuple[list[int], bool]]) -> np.ndarray:
        """(ids of a text, whether a document ends with it) -> the chunks [n, T] that are full."""
        if self.packed:
            stream: list[int] = []
            for ids, ends in texts:
                stream += ids
                if ends:
                    stream.append(self.special.sep)
            return self._run_on(np.concatenate([self.rest, np.array(stream, self.kind)]))
        rows = []
        for ids, ends in texts:
            self.document.extend(ids)
            if ends:
                rows += self._alone(np.array(self.document, self.kind))
                self.document = array(self.kind.char)
        return np.array(rows, self.kind).reshape(-1, self.max_len)

    def n_rest(self) -> int:
        """Tokens of the text that no chunk holds."""
        return int((self.rest != self.special.sep).sum()) + len(self.document)

    def _run_on(self, stream: np.ndarray) -> np.ndarray:
        room = self.max_len - 2
        n = len(stream) // room
        chunks = np.empty((n, self.max_len), self.kind)
        chunks[:, 0], chunks[:, -1] = self.special.cls, self.special.sep
        chunks[:, 1:-1] = stream[: n * room].reshape(n, room)
        self.rest = stream[n * room :]
        return chunks

    def _alone(self, ids: np.ndarray) -> list[np.ndarray]:
        """A document's chunks, each ending before a word begins unless a word is longer."""
        rows: list[np.ndarray] = []
        start, room = 0, self.max_len - 2
        while start < len(ids):
            end = min(start + room, len(ids))
            if end < len(ids):
                starts = np.flatnonzero(self.begins[ids[start + 1 : end + 1]])
                end = start + 1 + int(starts[-1]) if len(starts) else end
            row = np.full(self.max_len, self.special.pad, self.kind)
            row[0], row[1 : end - start + 1] = self.special.cls, ids[start:end]
            row[end - start + 1] = self.special.sep
            rows.append(row)
            start = end
        return rows


class SplitWriter:
    """Packs, masks and writes one split: blocks to a temporary file, then header and all."""

    def __init__(self, split: Split, tokenizer: Tokenizer, origin: Origin, masking: MaskingConfig,
                 max_len: int, seed: int, folder: Path):
        self.split, self.origin, self.seed = split, origin, seed
        self.unknown, self.pad = tokenizer.special.unk, tokenizer.special.pad
        self.packer = Packer(tokenizer, max_len, origin.segment)
        self.waiting = np.empty((0, max_len), self.packer.kind)  # chunks that fill no block yet
        self.masker = Masker(tokenizer, masking)
        self.generator = torch.Generator().manual_seed(seed * 3 + SPLITS.index(split))
        self.n_masked = int(n_hidden(torch.tensor(max_len - 2), masking.rate))
        self.count = self.n_tokens = self.n_unknown = self.n_hidden = 0
        self.digest = hashlib.sha256()
        self.spool = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (see close)
        self.zip = gzip.GzipFile("", "wb", compresslevel=1, fileobj=self.spool, mtime=0)

    def add(self, texts: Iterable[tuple[list[int], bool]]) -> None:
        """Take texts as `Packer` does; write the blocks that are full."""
        self.waiting = np.concatenate([self.waiting, self.packer(texts)])
        while len(self.waiting) >= CHUNKS_IN_BLOCK:
            self.flush()

    def flush(self) -> None:
        """Mask and write one block of the chunks that wait (at the end a short one)."""
        block, self.waiting = np.split(self.waiting, [CHUNKS_IN_BLOCK])
        if len(block) == 0:
            return
        masked = self.mask(block)
        masked.add_to(self.digest)
        self.zip.write(msgpack.packb(masked.pack()))

    def mask(self, ids: np.ndarray) -> Block:
        """Chunks [n, T] with a frozen puzzle each; rows with fewer masks are filled up."""
        tokens = torch.from_numpy(ids.astype(np.int64))  # [n, T]
        puzzle = self.masker(tokens, self.generator)
        rows, columns = puzzle.positions // ids.shape[1], puzzle.positions % ids.shape[1]
        slots = torch.arange(len(rows)) - torch.searchsorted(rows, rows)  # 0, 1, 2 in each row
        positions = np.full((len(ids), self.n_masked), ids.shape[1], "<u2")
        replaced = np.zeros((len(ids), self.n_masked), ids.dtype)
        positions[rows, slots] = columns
        replaced[rows, slots] = puzzle.input_ids.reshape(-1)[puzzle.positions]
        self.count += len(ids)
        self.n_tokens += int((tokens != self.pad).sum())
        self.n_unknown += int((tokens == self.unknown).sum())
        self.n_hidden += len(rows)
        return Block(ids, positions, replaced)

    def header(self) -> Header:
        """What the file will say about itself, once all is written."""
        return Header(
            count=self.count, max_len=self.packer.max_len, n_masked=self.n_masked,
            n_tokens=self.n_tokens, n_unknown=self.n_unknown, n_lost=self.packer.n_rest(),
            seed=self.seed, mask_rate=self.masker.config.rate, split=self.split,
            origin=self.origin, sha256=self.digest.hexdigest(),
        )

    def finish(self, stream: BinaryIO) -> None:
        """Copy header and blocks to `stream`, down to the disk."""
        self.zip.close()
        self.spool.seek(0)
        with gzip.GzipFile("", "wb", fileobj=stream, mtime=0) as front:
            front.write(msgpack.packb(asdict(self.header())))
        shutil.copyfileobj(self.spool, stream, 1 << 20)
        stream.flush()
        os.fsync(stream.fileno())

    def close(self) -> None:
        """Give the temporary file back, whatever was written."""
        self.zip.close()  # first: a zip that is left to the collector writes to a closed file
        self.spool.close()
