"""Files that ask for far more memory than they are worth: little is taken, one sentence is told.

Each is read by a process of its own, whose peak (VmHWM, as Linux counts) is the most it ever held.
"""

import gzip
import hashlib
import lzma
import multiprocessing
import os
import re
import resource
import signal
import sys
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import msgpack
import numpy as np
import pytest
from conftest import VOCAB
from test_dataset_file import objects, rewrite, unpacked

from bertlib.corpus import Corpus
from bertlib.data import load_dataset
from bertlib.plumbing.dataset_file import MOST_HEADER, Block
from bertlib.plumbing.dataset_header import parse_header
from bertlib.plumbing.device import process_memory
from bertlib.plumbing.files import InputError
from bertlib.plumbing.texts import read_paragraphs
from bertlib.plumbing.vocab import load_vocab
from bertlib.tokens import Tokenizer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts of Linux")
MOST = 1000  # MB that a process may take; Python with PyTorch alone takes some 250
MEGABYTE = 1_000_000
CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(["bertlib.prepare_mlm_dataset", "bertlib.plumbing.device",
                                 "pytest"])


def peak(work, *arguments) -> tuple[int, str]:
    """(MB, sentence) of a process that calls `work`, the sentence of an `InputError`, if any."""
    with ProcessPoolExecutor(1, CHILDREN) as pool:
        return pool.submit(measured, work, *arguments).result()


def measured(work, *arguments) -> tuple[int, str]:
    signal.alarm(600)  # ends a process that waits for ever
    try:
        work(*arguments)
        sentence = ""
    except InputError as error:
        sentence = str(error)
    return process_memory() // MEGABYTE, sentence


def refusal(work, path) -> str:
    """The sentence with which a process refuses `path` without having taken much memory."""
    megabytes, sentence = peak(work, path)
    assert megabytes < MOST and path.name in sentence and "\n" not in sentence, megabytes
    return sentence


def packed(*parts: tuple[bytes, int]) -> bytes:
    """A .gz of `parts`, each some bytes and how often they come; made without much work."""
    return b"".join(gzip.compress(content, 1) * times for content, times in parts)


def hold(megabytes: int) -> None:
    bytearray(b"x") * (megabytes * MEGABYTE)  # and give it back


def test_the_helper_sees_what_a_process_takes():
    (small, _), (large, _) = peak(hold, 1), peak(hold, 1000)
    assert small < MOST / 2 and 900 < large - small < 1100 and large > MOST


# -- datasets ---------------------------------------------------------------------------------

def load(path) -> None:
    load_dataset(path, Tokenizer.load(VOCAB))


ZEROS = bytes(16 * MEGABYTE)
BEGIN = b"\x84\xa5count\xcd\x10\x00\xa3ids"  # of a block with 4,096 chunks
NAMES = b"".join(b"\xa4%04x\x80" % n for n in range(1 << 16))
BODIES = {
    "2 GB of ids": ("too early", (BEGIN + b"\xc6\x80\0\0\0", 1), (ZEROS, 128)),
    "lists": ("max_array_len", (BEGIN + b"\xdd\0\xff\0\0", 1), (b"\x90" * len(ZEROS), 6)),
    "maps": ("max_map_len", (BEGIN + b"\xdf\0\x28\0\0", 1), (NAMES, 40)),
    "an endless name": ("too early", (b"\x84\xdb\x7f\0\0\0", 1), (ZEROS, 128)),
    "endless entries": ("other entries", (b"\xdf\xff\xff\xff\xff", 1),
                        (b"\xa1a\xc0" * 3_000_000, 1)),
    "zeros": ("other entries", (BEGIN + b"\xc6\1\0\0\0", 1), (ZEROS, 64)),
    "pads": ("no word", (BEGIN + b"\xc6\1\0\0\0" + bytes(1 << 24), 1),
             (b"\xa9positions\xc5\x20\0" + bytes(1 << 13), 1),
             (b"\xa8replaced\xc5\x20\0" + bytes(1 << 13), 1), (ZEROS, 64)),
}


@pytest.mark.parametrize("kind", BODIES)
def test_blocks_that_lie_are_refused(kind, train_path, tmp_path):
    words, *parts = BODIES[kind]
    body, path = packed(*parts), tmp_path / "lie.msgpack.gz"
    lie = {"count": len(body) // 5, "max_len": 2048, "n_masked": 1, "n_tokens": len(body)}
    path.write_bytes(packed((msgpack.packb(objects(train_path)[0] | lie), 1)) + body)
    assert words in refusal(load, path)
    assert list(tmp_path.iterdir()) == [path]  # no unpacked copy, whole or half


def test_headers_that_lie_are_refused(train_path, tmp_path):
    path = tmp_path / "lie.msgpack.gz"
    path.write_bytes(gzip.compress(b"\xdd\3\0\0\0" + b"\x90" * 50 * MEGABYTE))
    assert path.stat().st_size < MOST_HEADER and "no end" in refusal(load, path)
    header, block = objects(train_path)
    assert "of its size" in refusal(load, rewrite(header | {"count": 10**9}, [block], path))


def many_chunks(train_path, path, times: int) -> int:
    """Write a dataset of a block of 4,096 chunks, so often; returns the bytes of all its arrays."""
    header, block = objects(train_path)
    header, block = parse_header(header, path), Block(**{
        name: np.resize(np.frombuffer(block[name], kind).reshape(-1, width), (4096, width))
        for name, (width, kind) in parse_header(header, path).arrays().items()})
    digest = hashlib.sha256()
    for _ in range(times):
        for array in vars(block).values():
            digest.update(array)
    special = header.origin.special_ids
    header = replace(header, count=4096 * times, sha256=digest.hexdigest(),
                     n_tokens=int((block.ids != special.pad).sum()) * times,
                     n_unknown=int((block.ids == special.unk).sum()) * times)
    path.write_bytes(packed((msgpack.packb(asdict(header)), 1),
                            (msgpack.packb(block.pack()), times)))
    return header.n_bytes


def load_with(room: int, path) -> None:
    """Load with `room` bytes of memory at most, pages of mapped files not counted."""
    tokenizer = Tokenizer.load(VOCAB)
    before = int(re.search(r"VmData:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (before + room, -1))
    load_dataset(path, tokenizer)


def test_a_large_dataset_takes_the_memory_of_a_block(train_path, tmp_path):
    path = tmp_path / "many.msgpack.gz"
    n_bytes = many_chunks(train_path, path, 150)
    assert n_bytes > 40 * MEGABYTE
    _, sentence = peak(load_with, 20 * MEGABYTE, path)
    assert sentence == "" and unpacked(path).stat().st_size > n_bytes
    unpacked(path).unlink()
    unpacked(path).mkdir()  # so that all must stay in memory
    assert f"{n_bytes:,} bytes" in peak(load_with, 20 * MEGABYTE, path)[1]
    assert peak(load_with, 100 * MEGABYTE, path)[1] == ""


@pytest.mark.parametrize("kind", ["pipe", "sparse"])
def test_what_stands_in_place_of_a_copy_is_replaced(kind, train_path, tmp_path):
    path = tmp_path / "train.msgpack.gz"
    path.write_bytes(train_path.read_bytes())
    if kind == "pipe":
        os.mkfifo(unpacked(path))
    else:
        unpacked(path).touch()
        os.truncate(unpacked(path), 4 << 30)
    megabytes, sentence = peak(load, path)
    assert megabytes < MOST and sentence == "" and unpacked(path).stat().st_size < MEGABYTE


def test_a_pipe_is_no_dataset(tmp_path):
    os.mkfifo(tmp_path / "pipe.msgpack.gz")
    assert "no dataset" in refusal(load, tmp_path / "pipe.msgpack.gz")


# -- texts ------------------------------------------------------------------------------------

def read(path) -> None:
    for _ in read_paragraphs(path):
        pass


def deal_out(path) -> None:
    for _ in Corpus(path).paragraphs():
        pass


def test_an_xz_file_that_asks_for_a_gigabyte_is_refused(tmp_path):
    content = bytearray(lzma.compress(b"some text", filters=[{"id": lzma.FILTER_LZMA2}]))
    size = content[12] * 4  # of the block's header, which its CRC follows
    assert content[14:16] == b"\x21\x01"  # LZMA2 has one property: the size of its dictionary
    content[16] = 36  # 1 GB
    content[12 + size : 16 + size] = zlib.crc32(content[12 : 12 + size]).to_bytes(4, "little")
    assert lzma.decompress(content) == b"some text"
    (tmp_path / "x.xz").write_bytes(content)
    assert "xz -9" in refusal(read, tmp_path / "x.xz")


def test_a_gigabyte_of_blank_lines_is_passed_and_counted(tmp_path):
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(packed((b"\n" * 16 * MEGABYTE, 60), (b" \n" * 5 * MEGABYTE, 8),
                            (b'{"text": 5}\n', 1)))
    assert "line 1,000,000,001" in refusal(read, path)


def test_a_json_line_that_is_too_long_is_refused(tmp_path):
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(packed((b'{"text": "', 1), (b"the sea . " * 100_000, 49), (b'"}\n', 1)) * 4)
    assert "line 1:" in (sentence := refusal(read, path)) and "15,000,000" in sentence


@pytest.mark.parametrize(("text", "more"), [("\U0001f30a" * 14_999_000, ""),
                                            ("sea", '{"":{}},' * 1_874_000)],
                         ids=["of the widest characters", "with much else"])
def test_the_longest_json_line_is_read(tmp_path, text, more):
    (tmp_path / "x.jsonl").write_text(f'{{"text": "{text}", "more": [{more} 0]}}\n')
    megabytes, sentence = peak(read, tmp_path / "x.jsonl")
    assert megabytes < MOST and sentence == ""


def test_a_text_without_titles_or_even_lines_is_dealt_out_in_little_memory(tmp_path):
    for times in (1, 200):
        (tmp_path / f"{times}.gz").write_bytes(packed((b"the sea and the sky . " * 45_000, times)))
    (small, _), (large, _) = (peak(deal_out, tmp_path / f"{times}.gz") for times in (1, 200))
    assert large - small < 50


# -- vocabularies -----------------------------------------------------------------------------

@pytest.mark.parametrize(("kind", "words"), [
    ("sparse", "4,294,967,296 bytes"), ("pipe", "no regular file"), ("folder", "no regular file"),
    ("blank lines", "60,000,000 lines"), ("short tokens", "20,000,000 lines"),
])
def test_a_vocabulary_that_is_none_is_refused(tmp_path, kind, words):
    path = tmp_path / "vocab.txt"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes({"blank lines": b"\n" * 60, "short tokens": b"ab\n" * 20}.get(kind, b"")
                         * MEGABYTE)
    if kind == "sparse":
        os.truncate(path, 4 << 30)
    assert words in refusal(load_vocab, tmp_path if kind == "folder" else path)
