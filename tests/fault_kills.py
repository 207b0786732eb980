"""Processes that are killed with SIGKILL: the same command, started again, makes all good.

Training must go on at a step that was saved, and end with the weights, records and guesses of a
run that nobody disturbed, bit for bit.
"""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from fault_child import Child, Outcome, Tell, Trap, attempt
from fault_kinds import Found, Kind, Missed, complaints, difference
from fault_world import (
    LABEL,
    LENGTH,
    World,
    fingerprint,
    newest_run,
    prepare,
    result_of,
    text,
    train,
    train_by_command,
)

import bertlib
from bertlib import hub, tokens
from bertlib.data import find_datasets
from bertlib.dataset_file import read_dataset
from bertlib.tokens import Tokenizer
from bertlib.trainer import Trainer

Job = Callable[[Tell, Path], Any]


# -- how a process is killed ---------------------------------------------------------------------


def killed_at_a_moment(job: Job, folder: Path, draw: random.Random, seconds: float) -> Outcome:
    """Kill a job somewhere in the seconds that it takes."""
    child = Child(lambda tell: job(tell, folder))
    time.sleep(draw.uniform(0, seconds))
    child.send(signal.SIGKILL)
    return child.end()


def killed_before(change: int, job: Job, folder: Path) -> Outcome:
    """Kill a job before that change of a file, counted from 1."""
    def trapped(tell: Tell) -> Any:
        Trap(folder, change)
        return job(tell, folder)

    return attempt(trapped)


@cache
def measured(world: World, folder: Path, job: Job) -> tuple[list[int], float]:
    """The changes that a job makes to files, in a drawn order, and the seconds that it takes."""
    many = world.changes(folder, job)
    with world.spoiled(folder) as copy:
        begin = time.monotonic()
        attempt(lambda tell: job(tell, copy))
        seconds = time.monotonic() - begin
    return random.Random(world.seed).sample(range(1, many + 1), many), seconds


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


# -- training ------------------------------------------------------------------------------------


def train_from_text(tell: Tell, base: Path) -> dict[str, Any]:
    """Train on what has yet to be prepared from the texts in input/."""
    return train(tell, base, "english")


def in_training(world: World, draw: random.Random, number: int) -> Iterator[Found]:
    """A run dies at a random moment."""
    changes, seconds = measured(world, world.base, train)
    with world.spoiled(world.base) as base:
        died = killed_at_a_moment(train, base, draw, seconds)
        yield from went_on(world, base, train, died)


def before_a_change(world: World, draw: random.Random, number: int) -> Iterator[Found]:
    """A run dies before a change of a file; each third from its text on, and each second twice."""
    job = train_from_text if number % 3 == 2 else train
    changes, _ = measured(world, world.base, job)
    places = [changes[number % len(changes)]]
    if number % 2:
        places.append(draw.choice(changes))
    with world.spoiled(world.base) as base:
        if job is train_from_text:
            shutil.rmtree(base / "datasets")
        died = [killed_before(place, job, base) for place in places]
        yield from went_on(world, base, job, *died)


def went_on(world: World, base: Path, job: Job, *died: Outcome) -> Iterator[Found]:
    """Start once more: it goes on at a saved step, and ends as if nothing had happened."""
    for outcome in died:
        yield from complaints("before it ended", outcome, *map(int.__neg__, range(1, 32)))
    saved = max((step for outcome in died for step in outcome.all("saved")), default=0)
    if is_whole(world, base):
        last = attempt(lambda tell: result_of(newest_run(base)))
    elif any(outcome.code == 0 for outcome in died):
        raise Missed
    else:
        last = attempt(lambda tell: job(tell, base))
        if (began := max(last.all("began"), default=0)) < saved:
            yield Found("lost", f"step {saved} was saved, and the next start began at {began}")
    truth = world.truth if job is not train_by_command else world.truth | {"samples": []}
    last = last._replace(told=[("result", without_more(last.result, truth))])
    yield from ended_well(last, truth)


def is_whole(world: World, base: Path) -> bool:
    """Whether a run is there and ended: all files are, that the undisturbed one has."""
    runs = list((base / "runs").glob("run*"))
    if not runs:
        return False
    wanted, found = ({path.name for path in newest_run(folder).iterdir()}
                     for folder in (world.done, base))
    return wanted <= found


def ended_well(outcome: Outcome, truth: Any) -> Iterator[Found]:
    """Nothing else than what an undisturbed start comes to."""
    yield from complaints("started again", outcome)
    if outcome.code != 0:
        yield Found("lost", f"started again, it is refused: {outcome.said.strip()[-200:]}")
    elif outcome.result != truth:
        yield Found("lost", f"started again, {difference(truth, outcome.result)}")


def without_more(result: dict[str, Any] | None, truth: dict[str, Any]) -> dict[str, Any] | None:
    """A result without the records that a restart adds: it looks once more where it goes on."""
    return result and result | {name: [r for r in result[name] if r in truth[name]]
                                for name in ("records", "samples")}


def forgets_random_state(world: World) -> bool:
    """The control: whether a start that leaves the random state alone is told from a right one."""
    def forgetful(tell: Tell, base: Path) -> Any:
        restore = Trainer.restore
        Trainer.restore = lambda self, state: restore(self, state, random=False)
        return train(tell, base)

    with world.spoiled(world.half) as base:
        outcome = attempt(lambda tell: forgetful(tell, base))
    return outcome.code == 0 and outcome.result["weights"] != world.truth["weights"]


# -- what makes files ----------------------------------------------------------------------------


def read_all(base: Path) -> list[list[str]]:
    """What the datasets of the label hold, file by file."""
    tokenizer = Tokenizer.load(base / "vocab")
    files = find_datasets(base / "datasets", LABEL, LENGTH)
    found = []
    for path in (*files.train, files.val, files.test):
        header, block = read_dataset(path, tokenizer)
        found.append([header.split, header.origin.source_sha256, header.sha256,
                      bertlib.files.sha256(block.ids.tobytes() + block.positions.tobytes())])
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
    hub.main([str(newest_run(base)), str(base / "shipped")])
    return shipped(base)


def shipped(base: Path) -> list[Any]:
    """The model that ships, and what is told of its run."""
    return [fingerprint(*bertlib.load(base / "shipped")),
            hub.read_config(base / "shipped")["run"]["steps"]]


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
    tokens.main(["-i", str(base / "input" / "text.txt"), "-o", str(base / "words"), "--size",
                 "150", "--cased"])
    return rules(base / "words")


def rules(folder: Path) -> list[Any]:
    """The size of a vocabulary and how it washes text; its words differ from run to run."""
    tokenizer = Tokenizer.load(folder)
    return [len(tokenizer), tokenizer.lowercase, tokenizer.strip_accents]


def in_learning_words(world: World, draw: random.Random, number: int) -> Iterator[Found]:
    """It dies: there is no vocabulary, or a whole one, or the command finishes its work."""
    with world.spoiled(world.base) as base:
        kill(world, world.base, learn_words, base, draw, number)
        again = attempt(lambda tell: learn_words(tell, base))
        yield from complaints("started again", again)
        if again.code == 2 and "exists" in again.said:  # it was whole before it died
            again = attempt(lambda tell: rules(base / "words"))
        yield from ended_well(again, [150, False, None])


KINDS = [
    Kind("kill-moment", "training killed at a random moment", in_training, 0.15),
    Kind("kill-change", "training, also resumed, killed before a change of a file",
         before_a_change, 0.19),
    Kind("kill-prepare", "preparation killed", in_preparation, 0.03),
    Kind("kill-export", "export of a model killed", in_export, 0.03),
    Kind("kill-words", "learning a vocabulary killed", in_learning_words, 0.02),
]
