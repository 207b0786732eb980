"""Files that are too much: bombs, deep nesting, huge numbers; and what is no file at all.

Each child may take 1 GB beyond what it starts with, and some seconds: a reader that wants more
has no right to it.
"""

import gzip
import json
import lzma
import os
import random
import shutil
import socket
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from fault_child import attempt
from fault_damage import resumed
from fault_hostile import rewrite
from fault_kinds import Found, Kind, complaints, misread
from fault_museum import READERS, RUN, museum, true_reading
from fault_world import HALF, World

from bertlib.plumbing.files import sha256

READ = {  # each file, and a reader that reads it
    f"{RUN}/run.json": "Identity.read", f"{RUN}/vocab.txt": "bertlib.load",
    f"{RUN}/tokenizer_config.json": "bertlib.load",
    f"{RUN}/checkpoints/index.json": "bertlib.load",
    f"{RUN}/checkpoints/step_00000012.pt": "bertlib.load",
    f"{RUN}/checkpoints/best_00000012.pt": "bertlib.load(best=True)",
    f"{RUN}/report.json": "export", f"{RUN}/logs/metrics.jsonl": "read_metrics",
    f"{RUN}/logs/samples.jsonl": "read_samples", "page.json": "load_page",
    "shipped/config.json": "load of a shipped model",
    "shipped/vocab.txt": "load of a shipped model",
    "shipped/tokenizer_config.json": "load of a shipped model",
    "shipped/model.safetensors": "load of a shipped model",
    "reference/config.json": "load of a published model",
    "reference/vocab.txt": "load of a published model",
    "reference/model.safetensors": "load of a published model",
    "datasets/train_toy_32_123.msgpack.gz": "load_dataset",
    "datasets/val_toy_32_123.msgpack.gz.unpacked": "load_dataset",
    "vocab/vocab.txt": "Tokenizer.load", "vocab/tokenizer_config.json": "Tokenizer.load",
    "plain.txt": "read_documents of plain.txt", "records.jsonl": "read_documents of records.jsonl",
    "small.txt.gz": "read_documents of small.txt.gz",
    "small.txt.xz": "read_documents of small.txt.xz",
}
UNSIGNED = ("reference/", "plain", "records", "vocab/")  # where one text is as good as another
HINTS = ("facts of run.json", "index.json", "step_", "best_")


def read(world: World, name: str, spoil: Callable[[Path], None], how: str,
         seconds: float = 60) -> Iterator[Found]:
    """Spoil a file of the museum, and read it."""
    truth = true_reading(world, READ[name])
    with world.spoiled(museum(world)) as base:
        spoil(base / name)
        outcome = attempt(lambda tell: READERS[READ[name]](base), seconds)
    for found in misread(f"{name} for {READ[name]}", outcome, truth, *HINTS, detail=how):
        if found.column != "silent" or not name.startswith(UNSIGNED):
            yield found


# -- no file -------------------------------------------------------------------------------------


def become_socket(path: Path) -> None:
    """A socket of that name, which nobody listens to."""
    there = os.getcwd()
    os.chdir(path.parent)  # its whole path may be too long for a socket
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path.name)
    os.chdir(there)


NO_FILES: dict[str, Callable[[Path], None]] = {
    "a named pipe": os.mkfifo, "a folder": os.mkdir, "a socket": become_socket,
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path.name),
}


def no_file(world: World, draw: random.Random, number: int) -> Iterator[Found]:
    """In the place of a file stands something that has no end, or no beginning."""
    name = list(READ)[number // len(NO_FILES)]
    how = list(NO_FILES)[number % len(NO_FILES)]

    def spoil(path: Path) -> None:
        path.unlink()
        NO_FILES[how](path)

    yield from read(world, name, spoil, how)


WRITTEN = ("run.json", "lock", "logs/log.txt", "logs/metrics.jsonl", "logs/samples.jsonl",
           "checkpoints/index.json", f"checkpoints/step_{HALF + 1:08d}.pt", "plot.png",
           "report.json", "checkpoints", "logs")


def no_file_to_write(world: World, draw: random.Random, number: int) -> Iterator[Found]:
    """The same where a run that is resumed will write."""
    name = WRITTEN[number // len(NO_FILES)]
    how = list(NO_FILES)[number % len(NO_FILES)]
    with world.spoiled(world.half) as base:
        path = base / RUN / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        NO_FILES[how](path)
        outcome = attempt(lambda tell: resumed(tell, base))
    yield from complaints(f"{name}, {how}, in a half-done run", outcome)


# -- JSON that is too much -----------------------------------------------------------------------

TOO_MUCH: dict[str, bytes] = {
    "deep lists": b"[" * 100_000, "deep objects": b'{"a":' * 100_000,
    "closed deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep lists in an object": b'{"model":' + b"[" * 900 + b"]" * 900 + b"}",
    "a number of 5,000 digits": b"1" * 5_000, "an endless number": b'{"steps": 1e999}',
    "NaN": b'{"steps": NaN, "step": NaN, "kind": "val"}', "null": b"null", "a text": b'"text"',
    "a number": b"7", "an empty list": b"[]", "an empty object": b"{}", "nothing": b"",
    "half of a letter": b'{"label": "\\ud800"}', "UTF-16": '{"label": "x"}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}", "zero bytes": bytes(100),
    "the same key twice": b'{"steps": 1, "steps": 2, "text": "a", "text": "b"}',
}
JSON = [name for name in READ if name.endswith((".json", ".jsonl"))]


def too_much_json(world: World, draw: random.Random, number: int) -> Iterator[Found]:
    """A JSON file that says too much, or nothing that it should."""
    name = JSON[number // len(TOO_MUCH)]
    how = list(TOO_MUCH)[number % len(TOO_MUCH)]
    if how != "nothing" or "/logs/" not in name:  # an empty log is a log that just began
        yield from read(world, name, lambda path: path.write_bytes(TOO_MUCH[how] + b"\n"), how)


# -- bombs ---------------------------------------------------------------------------------------


def grown(path: Path) -> None:
    """Eight gigabytes of zeros that take no room on the disk."""
    with path.open("wb") as stream:
        stream.truncate(8 << 30)


def zip_bomb(path: Path) -> None:
    """A checkpoint whose weights are small on the disk and 3 GB in memory, under a right hash."""
    storage = torch.zeros(1)
    torch.save({"model": {"w": storage}, "step": 12}, path)
    with zipfile.ZipFile(path) as old:
        parts = {item.filename: old.read(item) for item in old.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new:
        for name, content in parts.items():
            with new.open(name, "w", force_zip64=True) as stream:
                stream.write(content)
                for _ in range(3 << 4 if "/data/" in name else 0):
                    stream.write(bytes(1 << 26))
    entries = json.loads((path.parent / "index.json").read_text())

    def sign(index: dict) -> dict:
        for entry in (*index["checkpoints"], index["best"]):
            if entry["file"] == path.name:
                entry["sha256"] = sha256(path.read_bytes())
        return index

    assert entries
    rewrite(path.parent / "index.json", sign)


def gzip_bomb(path: Path, part: bytes = b" " * (1 << 24)) -> None:
    """1.5 GB of one long line in 2 MB."""
    path.write_bytes(gzip.compress(part, 1) * 96)


def xz_bomb(path: Path) -> None:
    """The same as .xz."""
    path.write_bytes(lzma.compress(b" " * (1 << 24), preset=0) * 96)


def packed(content: bytes) -> Callable[[Path], None]:
    """A dataset file that holds some msgpack."""
    return lambda path: path.write_bytes(gzip.compress(content, 1))


DATA, STEP = "datasets/train_toy_32_123.msgpack.gz", f"{RUN}/checkpoints/step_00000012.pt"
BOMBS: list[tuple[str, str, Callable[[Path], None]]] = [
    *((name, "8 GB of zeros", grown) for name in READ),
    (STEP, "a zip bomb", zip_bomb),
    ("small.txt.gz", "a gzip bomb", gzip_bomb), ("small.txt.xz", "an xz bomb", xz_bomb),
    (DATA, "a gzip bomb", gzip_bomb),
    (DATA, "a header of 1.5 GB", lambda path: gzip_bomb(path, b"\xd9\xff" * (1 << 23))),
    (DATA, "deep msgpack", packed(b"\x91" * 10_000_000)),
    (DATA, "deep maps", packed(b"\x81\xa1a" * 1_000_000)),
    (DATA, "bytes of 4 GB that are not there", packed(b"\xc6" + struct.pack(">I", 2**32 - 1))),
    (DATA, "a list of 4,000,000,000", packed(b"\xdd" + struct.pack(">I", 4 * 10**9) + b"\1" * 99)),
    (DATA, "a map of 4,000,000,000", packed(b"\xdf" + struct.pack(">I", 4 * 10**9) + b"\1" * 99)),
    (DATA, "an extension", packed(b"\xc9" + struct.pack(">I", 2**31) + b"\1" * 99)),
]


def bomb(world: World, draw: random.Random, number: int) -> Iterator[Found]:
    """Little on the disk, and more than there is in memory."""
    name, how, spoil = BOMBS[number]
    yield from read(world, name, spoil, how, seconds=120)


KINDS = [
    Kind("no-file", "hostile: pipes, folders, devices, links in the place of files", no_file, 1, 4,
         len(READ) * len(NO_FILES)),
    Kind("no-output", "hostile: the same where a run writes", no_file_to_write, 1, 2,
         len(WRITTEN) * len(NO_FILES)),
    Kind("json", "hostile: JSON that is deep, huge, or of another kind", too_much_json, 1, 5,
         len(JSON) * len(TOO_MUCH)),
    Kind("bomb", "hostile: bombs (zip, gzip, xz, msgpack, sparse files)", bomb, 1.5, 2, len(BOMBS)),
]
