"""How fast data come in: a text prepared beside the tokenizer alone, a prepared file loaded.

The commands are `python -m bertlib.bench prepare` and `python -m bertlib.bench load`; started as
a module, this one is a single measurement in a process of its own.
"""

import argparse
import lzma
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bertlib.corpus import Corpus
from bertlib.data import load_dataset
from bertlib.masking import MaskingConfig
from bertlib.packing import SplitWriter
from bertlib.plumbing.commands import Parser
from bertlib.plumbing.dataset_folder import dataset_path
from bertlib.plumbing.dataset_header import CHUNKS_IN_BLOCK, Origin
from bertlib.plumbing.device import process_memory
from bertlib.plumbing.files import PROJECT, InputError, atomic_write
from bertlib.plumbing.texts import text_files
from bertlib.prepare_mlm_dataset import PrepareConfig, batches, prepare
from bertlib.tokens import Tokenizer

VOCAB = PROJECT / "wiki" / "vocab"
SEQ_LEN = 128


class Measured(NamedTuple):
    """Seconds, and what the process held, in MB."""

    seconds: float
    peak: float
    growth: float  # of the peak since the start, when the libraries are there
    own: float  # growth that stays at the end, pages of mapped files left out


def time_tokenizer(text: Path) -> float:
    """Seconds that `encode_batch_fast` alone takes for the text, in the batches of `prepare`."""
    tokenizer, seconds = Tokenizer.load(VOCAB), 0.0
    for texts, _ in batches(Corpus(text), tokenizer.unknown_sign):
        start = time.perf_counter()
        tokenizer.encode_batch(texts)
        seconds += time.perf_counter() - start
    return seconds


def time_prepare(text: Path) -> float:
    """Seconds that the whole preparation takes, files written."""
    start = time.perf_counter()
    prepare(PrepareConfig(text, "bench", text.parent, VOCAB))
    return time.perf_counter() - start


def time_load(path: Path) -> float:
    """Seconds from a dataset file to its first batch of 32 chunks."""
    tokenizer = Tokenizer.load(VOCAB)
    start = time.perf_counter()
    load_dataset(path, tokenizer).chunks(slice(32))
    return time.perf_counter() - start


TIMERS = {"tokenizer": time_tokenizer, "prepare": time_prepare, "load": time_load}


def measure(what: str, path: Path) -> Measured:
    """One timer on a file, in a process of its own."""
    command = [sys.executable, "-m", "bertlib.bench.data", what, str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Measured(*map(float, done.stdout.split()))


def repeat_corpus(path: Path, megabytes: float) -> None:
    """Write the embedded corpus to `path` as often as it takes to have so many megabytes."""
    files = text_files(PROJECT / "wiki" / "input")
    text = b"".join(lzma.decompress(file.read_bytes()) for file in files)
    with path.open("wb") as stream:
        for _ in range(math.ceil(megabytes * 1e6 / len(text))):
            stream.write(text)


def random_dataset(folder: Path, tokens: int) -> Path:
    """A training file of so many tokens, with ids about as frequent as words are (Zipf's law)."""
    tokenizer = Tokenizer.load(VOCAB)
    origin = Origin("random", "", "", "", False, len(tokenizer), tokenizer.sha256,
                    tokenizer.lowercase, tokenizer.strip_accents, tokenizer.special, "token")
    writer = SplitWriter("train", tokenizer, origin, MaskingConfig(), SEQ_LEN, 1, folder)
    ordinary = np.array(tokenizer.ordinary_ids, writer.waiting.dtype)
    draw, left = np.random.default_rng(0), tokens // SEQ_LEN
    path = dataset_path(folder, "train", "random", SEQ_LEN, 1)
    with closing(writer), atomic_write(path) as stream:
        while left:
            rows = min(left, CHUNKS_IN_BLOCK)
            ranks = len(ordinary) ** draw.random((rows, SEQ_LEN)) - 1  # P(rank) ~ 1 / rank
            writer.waiting = ordinary[ranks.astype(np.int64)]  # past the packer: it takes texts
            writer.flush()
            left -= rows
        writer.finish(stream)
    return path


def forget(path: Path) -> None:
    """Ask the system to drop a file from its page cache, so that the next reader needs the disk."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def bench_prepare(arguments: list[str]) -> None:
    """Alternate tokenizer and preparation over some rounds; print speeds, ratio and memory."""
    parse = Parser(prog="bench prepare", description=bench_prepare.__doc__)
    parse.add_argument("--megabytes", type=float, default=100.0, help="of text (default 100)")
    parse.add_argument("--rounds", type=int, default=3)
    options = parse.parse_args(arguments)
    _require(options, "megabytes", 1)
    _require(options, "rounds", 1)
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        repeat_corpus(text, options.megabytes)
        size = text.stat().st_size / 1e6
        seconds: dict[str, list[float]] = {"tokenizer": [], "prepare": []}
        for _ in range(options.rounds):
            for name, results in seconds.items():
                got = measure(name, text)
                results.append(got.seconds)
                print(f"{name:10} {size / got.seconds:6.2f} MB/s, peak {got.peak:,.0f} MB")
    ratios = [a / b for a, b in zip(seconds["tokenizer"], seconds["prepare"], strict=True)]
    print(f"prepare runs at {statistics.median(ratios):.0%} of the tokenizer's own speed "
          f"(median of {options.rounds} rounds, {size:,.0f} MB)")


def bench_load(arguments: list[str]) -> None:
    """Time the first and the later loads of one dataset file, each in a fresh process."""
    parse = Parser(prog="bench load", description=bench_load.__doc__)
    parse.add_argument("--tokens", type=int, default=100_000_000, help="default 100,000,000")
    parse.add_argument("--rounds", type=int, default=3)
    options = parse.parse_args(arguments)
    _require(options, "tokens", SEQ_LEN)
    _require(options, "rounds", 1)
    found: dict[str, list[Measured]] = {"first": [], "later": [], "later, from disk": []}
    with tempfile.TemporaryDirectory() as folder:
        path = random_dataset(Path(folder), options.tokens)
        copy = path.with_name(f"{path.name}.unpacked")
        for _ in range(options.rounds):
            copy.unlink(missing_ok=True)
            found["first"].append(measure("load", path))
            found["later"].append(measure("load", path))
            forget(copy)
            found["later, from disk"].append(measure("load", path))
        sizes = [file.stat().st_size / 1e6 for file in (path, copy)]
    print(f"{options.tokens:,} tokens: {sizes[0]:,.0f} MB packed, {sizes[1]:,.0f} MB unpacked; "
          f"median of {options.rounds} rounds")
    for name, results in found.items():
        seconds, _, growth, own = map(statistics.median, zip(*results, strict=True))
        print(f"{name:17} {seconds:7.3f} s, memory +{growth:,.0f} MB at most; +{own:,.0f} MB stay, "
              "mapped file pages left out")


def _require(options: argparse.Namespace, name: str, least: int) -> None:
    if not getattr(options, name) >= least:
        raise InputError(f"--{name} is {getattr(options, name)}; it must be at least {least}.")


def _measure_here(what: str, path: str) -> None:
    peak, own = process_memory(), process_memory("RssAnon")
    seconds = TIMERS[what](Path(path))
    after = process_memory()
    print(seconds, *(n / 1e6 for n in (after, after - peak, process_memory("RssAnon") - own)))


if __name__ == "__main__":
    _measure_here(*sys.argv[1:])
