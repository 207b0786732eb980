"""Commands that write files, killed with SIGKILL: datasets, models that ship, vocabularies.

What is then there is whole, or refused; the same command, started again, makes it whole.
"""

import random
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from fault_child import Outcome, Tell, attempt
from fault_kills import Job, ended_well, killed_at_a_moment, killed_before, measured
from fault_kinds import Found, Kind, Missed, complaints, difference
from fault_world import LABEL, LENGTH, World, fingerprint, must, newest_run, prepare, text

import bertlib
from bertlib import tokens
from bertlib.data import load_dataset
from bertlib.huggingface import read_config
from bertlib.huggingface.__main__ import main as ship
from bertlib.plumbing.dataset_folder import find_datasets
from bertlib.plumbing.files import sha256
from bertlib.tokens import Tokenizer


def kill(world: World, clean: Path, job: Job, folder: Path, draw: random.Random,
         number: int) -> Outcome:
    """Kill a job in `folder`, a copy of `clean`: odd numbers at a moment, even before a change.

    `Missed` if it had ended before.
    """
    changes, seconds = measured(world, clean, job)
    if number % 2:
        outcome = killed_at_a_moment(job, folder, draw, seconds)
    else:
        outcome = killed_before(changes[number // 2 % len(changes)], job, folder)
    if outcome.code == 0:
        raise Missed
    return outcome


def read_all(base: Path) -> list[list[str]]:
    """What the datasets of the label hold, file by file."""
    tokenizer = Tokenizer.load(base / "vocab")
    files = find_datasets(base / "datasets", LABEL, LENGTH)
    found = []
    for path in (*files.train, files.val, files.test):
        data = load_dataset(path, tokenizer)
        header = data.header
        found.append([header.split, header.origin.source_sha256, header.sha256,
                      sha256(data.ids.tobytes() + data.positions.tobytes())])
    return found


def prepare_again(tell: Tell, base: Path) -> list[list[str]]:
    """Prepare from a text, and read what was made."""
    prepare(base)
    return read_all(base)


def in_preparation(world: World, draw: random.Random, number: int) -> Iterator[Found]:
    """It dies while there is nothing yet, or while it replaces datasets of another text."""
    with world.spoiled(world.base) as base:
        old = [] if number % 4 < 2 else attempt(lambda tell: read_all(base)).result
        if number % 4 < 2:
            shutil.rmtree(base / "datasets")
            (base / "datasets").mkdir()
        else:
            (base / "input" / "text.txt").write_text(text(1), encoding="utf-8")
        new = another_text(world) if number % 4 >= 2 else attempt(
            lambda tell: read_all(world.base)).result
        kill(world, world.base, prepare_again, base, draw, number)
        between = attempt(lambda tell: read_all(base))
        yield from complaints("read after the kill", between)
        if between.code == 0 and between.result not in (old, new):
            yield Found("silent", "after the kill a mix of two texts is read as one")
        yield from ended_well(attempt(lambda tell: prepare_again(tell, base)), new)


@cache
def another_text(world: World) -> list[list[str]]:
    """What datasets of the other text hold."""
    with world.spoiled(world.base) as base:
        (base / "input" / "text.txt").write_text(text(1), encoding="utf-8")
        return attempt(lambda tell: prepare_again(tell, base)).result


def export_again(tell: Tell, base: Path) -> str:
    """Export the newest run, and load what was written."""
    ship([str(newest_run(base)), str(base / "shipped")])
    return shipped(base)


def shipped(base: Path) -> list[Any]:
    """The model that ships, and what is told of its run."""
    return [fingerprint(*bertlib.load(base / "shipped")),
            read_config(base / "shipped")["run"]["steps"]]


def in_export(world: World, draw: random.Random, number: int) -> Iterator[Found]:
    """It dies while there is nothing yet, or while it replaces an older model."""
    with world.spoiled(world.done) as base:
        old = None
        if number % 4 >= 2:
            shutil.copytree(world.half / "runs" / "run0", base / "runs" / "run1")
            old = attempt(lambda tell: export_again(tell, base)).result
            shutil.rmtree(base / "runs" / "run1")
        kill(world, world.done, export_again, base, draw, number)
        between = attempt(lambda tell: shipped(base))
        yield from complaints("loaded after the kill", between)
        again = attempt(lambda tell: export_again(tell, base))
        yield from ended_well(again, whole_export(world))
        if between.code == 0 and between.result not in (old, again.result):
            yield Found("silent", "after the kill a mix of two models is loaded as one")


@cache
def whole_export(world: World) -> list[Any]:
    """What an undisturbed export comes to."""
    with world.spoiled(world.done) as base:
        return attempt(lambda tell: export_again(tell, base)).result


def learn_words(tell: Tell, base: Path) -> list[Any]:
    """Learn a cased vocabulary of a text without capitals: only its rules tell what it is."""
    force = ["--force"] if (base / "words" / "replace").exists() else []
    tokens.main(["-i", str(base / "input" / "text.txt"), "-o", str(base / "words"), "--size",
                 "150", "--cased", *force])
    return rules(base / "words")


def rules(folder: Path) -> list[Any]:
    """The size of a vocabulary and how it washes text; its words differ from run to run."""
    tokenizer = Tokenizer.load(folder)
    return [len(tokenizer), tokenizer.lowercase, tokenizer.strip_accents]


def in_learning_words(world: World, draw: random.Random, number: int) -> Iterator[Found]:
    """It dies: there is no vocabulary, or a whole one, the older one if it replaces that."""
    old, new = None, [150, False, None]
    with world.spoiled(world.base) as base:
        if number % 4 >= 2:
            shutil.copytree(base / "vocab", base / "words")
            (base / "words" / "replace").touch()
            old = must(attempt(lambda tell: rules(base / "words")))
        kill(world, world.base, learn_words, base, draw, number)
        between = attempt(lambda tell: rules(base / "words"))
        yield from complaints("a vocabulary after the kill", between)
        if between.code == 0 and between.result not in (old, new):
            yield Found("silent", "after the kill words are read by other rules than theirs",
                        difference(new, between.result))
        again = attempt(lambda tell: learn_words(tell, base))
        yield from complaints("started again", again)
        if again.code == 2 and "exists" in again.said:  # it was whole before it died
            again = attempt(lambda tell: rules(base / "words"))
        yield from ended_well(again, new)


KINDS = [
    Kind("kill-prepare", "killed: preparation", in_preparation, 2, 0.7),
    Kind("kill-export", "killed: export of a model", in_export, 2, 0.7),
    Kind("kill-words", "killed: learning a vocabulary", in_learning_words, 1, 0.5),
]
