"""A museum of all files that the project reads, and the readers it reads them with.

Readers are called in children; what they return is compared with what they return of the
untouched museum.
"""

import gzip
import json
import lzma
import shutil
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from fault_child import Tell, attempt
from fault_making import rules
from fault_world import LABEL, LENGTH, World, fingerprint, must, text

import bertlib
from bertlib.data import load_dataset
from bertlib.huggingface import read_config
from bertlib.huggingface.__main__ import main as ship
from bertlib.masking import Masker
from bertlib.plumbing.dataset_folder import find_datasets
from bertlib.plumbing.files import PROJECT, sha256
from bertlib.plumbing.page import load_page, save_page
from bertlib.plumbing.runlog import read_metrics
from bertlib.plumbing.runs import Identity
from bertlib.plumbing.texts import read_documents
from bertlib.predict import guess_chunk
from bertlib.samples import read_samples
from bertlib.tokens import Tokenizer

RUN = "runs/run0"


def datasets(base: Path) -> list[Any]:
    """All that the datasets of the label hold, header by header and array by array."""
    tokenizer, found = Tokenizer.load(base / "vocab"), []
    files = find_datasets(base / "datasets", LABEL, LENGTH)
    for path in (*files.train, files.val, files.test):
        data = load_dataset(path, tokenizer)
        found.append([asdict(data.header), *(sha256(getattr(data, name).tobytes())
                                             for name in data.header.arrays())])
    return found


def exported(base: Path) -> list[Any]:
    """What an export of the run comes to, and what it tells of it."""
    ship([str(base / RUN), str(base / "out")])
    return shipped(base, "out")


def shipped(base: Path, name: str = "shipped") -> list[Any]:
    """The model that ships, with all that its card tells."""
    return [fingerprint(*bertlib.load(base / name)), read_config(base / name)]


def words(base: Path) -> list[Any]:
    """The vocabulary of a base folder and its rules."""
    return [Tokenizer.load(base / "vocab").vocab, rules(base / "vocab")]


READERS: dict[str, Callable[[Path], Any]] = {
    "bertlib.load": lambda base: fingerprint(*bertlib.load(base / RUN)),
    "bertlib.load(best=True)": lambda base: fingerprint(*bertlib.load(base / RUN, best=True)),
    "Identity.read": lambda base: asdict(Identity.read(base / RUN)),
    "read_metrics": lambda base: read_metrics(base / RUN),
    "read_samples": lambda base: read_samples(base / RUN / "logs" / "samples.jsonl"),
    "export": exported,
    "load_dataset": datasets,
    "load_page": lambda base: json.loads(json.dumps(asdict(load_page(base / "page.json")))),
    "load of a shipped model": shipped,
    "load of a published model": lambda base: fingerprint(*bertlib.load(base / "reference")),
    "Tokenizer.load": words,
    **{f"read_documents of {name}": lambda base, name=name: list(read_documents(base / name))
       for name in ("plain.txt", "records.jsonl", "small.txt.gz", "small.txt.xz")},
}


@cache
def museum(world: World) -> Path:
    """A base folder with one of all that is read."""
    base = world.copy(world.done)

    def fill(tell: Tell) -> None:
        ship([str(base / RUN), str(base / "shipped")])
        model, tokenizer = bertlib.load(base / RUN)
        data = load_dataset(find_datasets(base / "datasets", LABEL, LENGTH).val, tokenizer)
        save_page(guess_chunk(model, data, 0, Masker(tokenizer), tokenizer), base / "page.json")
        datasets(base)  # so that all have their unpacked copies

    must(attempt(fill))
    shutil.copytree(PROJECT / "assets" / "reference", base / "reference")
    (base / "reference" / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    small = text(documents=12)
    (base / "plain.txt").write_text(small)
    (base / "records.jsonl").write_text("".join(
        json.dumps({"text": line}) + "\n" for line in small.splitlines() if line))
    (base / "small.txt.gz").write_bytes(gzip.compress(small.encode()))
    (base / "small.txt.xz").write_bytes(lzma.compress(small.encode()))
    return base


@cache
def true_reading(world: World, reader: str) -> Any:
    """What a reader returns where nothing is damaged."""
    with world.spoiled(museum(world)) as base:
        return must(attempt(lambda tell: READERS[reader](base)))
