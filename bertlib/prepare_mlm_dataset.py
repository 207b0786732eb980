"""Prepare MLM dataset for pre-training of a BERT model.

Example usage:
python -m bertlib.prepare_mlm_dataset -i wiki.train.tokens -l wiki -o wiki/datasets
                                      -m 128 -v wiki/vocab

This will generate the following files:
    wiki/datasets/train_wiki_128_123.msgpack.gz
    wiki/datasets/val_wiki_128_123.msgpack.gz
    wiki/datasets/test_wiki_128_123.msgpack.gz
where wiki is the label, 128 is the max length, and 123 is the random seed.
"""

import argparse
import gzip
import hashlib
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import msgpack
import numpy as np
import torch
from tqdm import tqdm

from bertlib.corpus import SPLITS, Packer, segments, split_documents
from bertlib.dataset_file import Block, Header, id_type
from bertlib.files import InputError, atomic_write, check_output_folder, run_command
from bertlib.masking import Masker, MaskingConfig
from bertlib.tokens import Tokenizer

BATCH_CHARACTERS = 1_000_000  # text that is encoded at once: enough to keep all cores busy
CHUNKS_IN_BLOCK = 4096
CHARACTERS_PER_TOKEN = 3.6  # a little under English prose's 4.2: few segments overflow


@dataclass(frozen=True)
class PrepareConfig:
    """One preparation: what to read, how to cut and mask it, where to write."""

    input: Path
    label: str
    output: Path
    vocab: Path
    max_len: int = 128
    seed: int = 123
    segment: str = "token"
    masking: MaskingConfig = MaskingConfig()

    def __post_init__(self):
        if not re.fullmatch(r"[\w.-]+", self.label) or self.label.startswith("."):
            raise InputError(
                f"The label '{self.label}' becomes part of a file name; use letters, digits, "
                "'_', '-' and '.' only."
            )
        if not 16 <= self.max_len <= 2048:
            raise InputError(f"max-len is {self.max_len}; it must lie in 16..2048.")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"The seed is {self.seed}; it must lie in 0..{2**32 - 1}.")
        if self.segment not in ("token", "text"):
            raise InputError(f"The segment mode is '{self.segment}'; use 'token' or 'text'.")

    def path(self, split: str) -> Path:
        """Where a split goes, such as wiki/datasets/train_wiki_128_123.msgpack.gz."""
        name = f"{split}_{self.label}_{self.max_len}_{self.seed}.msgpack.gz"
        return Path(self.output) / name


class SplitWriter:
    """Masks and writes the chunks of one split: blocks to a temporary file, header last."""

    def __init__(self, split: str, config: PrepareConfig, tokenizer: Tokenizer):
        self.split, self.config, self.tokenizer = split, config, tokenizer
        kind = id_type(len(tokenizer))
        self.packer = Packer(tokenizer.special, config.max_len, kind, config.segment)
        self.waiting = np.empty((0, config.max_len), kind)  # chunks that fill no block yet
        self.masker = Masker(tokenizer, config.masking)
        self.generator = torch.Generator().manual_seed(config.seed * 3 + SPLITS.index(split))
        self.n_masked = max(1, round(config.masking.rate * (config.max_len - 2)))
        self.count = self.n_tokens = 0
        self.digest = hashlib.sha256()
        self.spool = tempfile.TemporaryFile(dir=config.output)  # noqa: SIM115 (closed by prepare)
        self.zip = gzip.GzipFile("", "wb", compresslevel=1, fileobj=self.spool, mtime=0)

    def add(self, texts: list[list[int]]) -> None:
        """Pack some texts (token ids); write the blocks that are full."""
        self.waiting = np.concatenate([self.waiting, self.packer(texts)])
        while len(self.waiting) >= CHUNKS_IN_BLOCK:
            self.flush()

    def flush(self) -> None:
        """Mask and write one block of the chunks that wait (at the end a short one)."""
        block, self.waiting = np.split(self.waiting, [CHUNKS_IN_BLOCK])
        if len(block) == 0:
            return
        packed = self.mask(block).pack()
        for name in ("ids", "positions", "replaced"):
            self.digest.update(packed[name])
        self.zip.write(msgpack.packb(packed))

    def mask(self, ids: np.ndarray) -> Block:
        """Chunks [n, T] with a frozen puzzle each; rows with fewer masks are filled up."""
        tokens = torch.from_numpy(ids.astype(np.int64))
        puzzle = self.masker(tokens, self.generator)
        rows, columns = puzzle.positions // ids.shape[1], puzzle.positions % ids.shape[1]
        slots = torch.arange(len(rows)) - torch.searchsorted(rows, rows)  # 0, 1, 2 in each row
        positions = np.full((len(ids), self.n_masked), ids.shape[1], "<u2")
        replaced = np.zeros((len(ids), self.n_masked), ids.dtype)
        positions[rows, slots] = columns
        replaced[rows, slots] = puzzle.input_ids.reshape(-1)[puzzle.positions]
        self.count += len(ids)
        self.n_tokens += int((tokens != self.tokenizer.special.pad).sum())
        return Block(ids, positions, replaced)

    def finish(self) -> Header:
        """Put the header in front and the whole in its place, all or nothing."""
        self.zip.close()
        header = Header(
            count=self.count, max_len=self.config.max_len, n_masked=self.n_masked,
            n_tokens=self.n_tokens, seed=self.config.seed, mask_rate=self.config.masking.rate,
            segment=self.config.segment, split=self.split, source=Path(self.config.input).name,
            vocab_size=len(self.tokenizer), vocab_sha256=self.tokenizer.sha256,
            special_ids=asdict(self.tokenizer.special), sha256=self.digest.hexdigest(),
        )
        self.spool.seek(0)
        with atomic_write(self.config.path(self.split)) as stream:
            with gzip.GzipFile("", "wb", fileobj=stream, mtime=0) as front:
                front.write(msgpack.packb(asdict(header)))
            shutil.copyfileobj(self.spool, stream, 1 << 20)
        return header


def batches(config: PrepareConfig) -> Iterator[tuple[list[str], list[tuple[int, int, bool]]]]:
    """Texts to encode at once, each with (split, characters, whether a document ends with it)."""
    texts, marks, size = [], [], 0
    length = int((config.max_len - 2) * CHARACTERS_PER_TOKEN)
    for split, document in split_documents(config.input):
        parts = document if config.segment == "token" else segments(document, length)
        lengths = [len(part) for part in parts]
        texts += parts
        marks += [(split, n, i == len(parts)) for i, n in enumerate(lengths, 1)]
        size += sum(lengths)
        if size > BATCH_CHARACTERS:
            yield texts, marks
            texts, marks, size = [], [], 0
    yield texts, marks


def prepare(config: PrepareConfig, progress: bool = False) -> dict[str, Header]:
    """Write the three files of `config`; gives their headers by split.

    Streams: batches are encoded on all cores while those before are masked and compressed.
    Raises `InputError` for bad input; then no file is written and older ones are left alone.
    """
    tokenizer = Tokenizer.load(config.vocab)
    check_output_folder(config.output)
    with ExitStack() as stack:
        stack.enter_context(one_thread())
        writers = [SplitWriter(split, config, tokenizer) for split in SPLITS]
        for writer in writers:
            stack.callback(writer.spool.close)
        bar = stack.enter_context(
            tqdm(total=_size(config.input), unit="B", unit_scale=True,
                 disable=None if progress else True)  # None: shown on a terminal only
        )
        for encodings, marks in tokenizer.encode_stream(batches(config)):
            bar.update(_write(writers, encodings, marks))
        for writer in writers:
            writer.flush()
            if writer.count == 0:
                raise InputError(
                    f"The input '{config.input}' is too short: the {writer.split} split got no "
                    f"chunk of {config.max_len} tokens; pass more text or a smaller max-len."
                )
        return {writer.split: writer.finish() for writer in writers}


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: its idle threads would spin on cores that the tokenizer needs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _size(path: Path) -> int | None:
    """Bytes of text in a file, if it is not compressed; for the progress bar."""
    return path.stat().st_size if path.suffix in (".txt", ".tokens") and path.exists() else None


def _write(writers: list[SplitWriter], encodings: list, marks: list[tuple[int, int, bool]]) -> int:
    """Hand each text to its split; gives the number of characters."""
    separator = [writers[0].tokenizer.special.sep] if writers[0].packer.packed else []
    for number, writer in enumerate(writers):
        writer.add([
            encoding.ids + separator if ends else encoding.ids
            for encoding, (split, _, ends) in zip(encodings, marks, strict=True)
            if split == number
        ])
    return sum(characters for _, characters, _ in marks)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parse = argparse.ArgumentParser(
        prog="prepare_mlm_dataset", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parse.add_argument
    add("-i", "--input", required=True, type=Path, help="The input text file to be processed.")
    add("-l", "--label", required=True, help="The label to be used for the dataset.")
    add("-o", "--output", required=True, type=Path, help="The output directory for the dataset.")
    add("-m", "--max-len", required=True, type=int, help="The maximum length of the tokens.")
    add("-v", "--vocab", required=True, type=Path,
        help="The directory containing the vocabulary files.")
    add("-s", "--seed", type=int, help="The random seed to be used (drawn if missing).")
    add("--segment", default="token", metavar="{token,text}",
        help="Cut by tokens and pack (default), or by characters at words and pad.")
    return parse


def main(arguments: list[str] | None = None) -> None:
    """Prepare as the command line says and print what was written."""
    options = parser().parse_args(arguments)
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1000)
        print(f"seed: {options.seed} (drawn; pass -s {options.seed} to get the same files)")
    config = PrepareConfig(**vars(options))
    for split, header in prepare(config, progress=True).items():
        padding = 1 - header.n_tokens / (header.count * header.max_len)
        print(f"{config.path(split)}: {header.count:,} chunks, {padding:.1%} padding")


def command() -> None:
    """Entry point of the console script."""
    sys.exit(run_command(main))


if __name__ == "__main__":
    command()
