"""A disk that is full, files that may not grow, folders that cannot be written to.

A command then says so in a sentence; with room again, the same command makes all good.
"""

import ctypes
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from fault_child import Outcome, attempt
from fault_kills import Job, ended_well, went_on
from fault_kinds import Found, Kind, NotTried, complaints
from fault_making import export_again, learn_words, prepare_again, read_all
from fault_world import World, newest_run, train

NEW_MOUNTS = 0x20000  # CLONE_NEWNS of Linux


JOBS: list[tuple[str, Job]] = [("training", train), ("preparation", prepare_again),
                               ("export", export_again), ("learning words", learn_words)]


def clean(world: World, job: Job) -> Path:
    """The folder that a job starts from."""
    return world.done if job is export_again else world.base


@cache
def whole(world: World, job: Job) -> Any:
    """What a job comes to in a friendly world."""
    with world.spoiled(clean(world, job)) as base:
        return attempt(lambda tell: job(tell, base)).result


def with_room(world: World, name: str, job: Job, base: Path, before: Outcome) -> Iterator[Found]:
    """Do a job again that failed for want of room."""
    yield from complaints(name, before)
    if before.code == 0:
        yield from ended_well(before, whole(world, job))
    elif job is train:
        yield from went_on(world, base, train, before)
    elif job is learn_words:
        again = attempt(lambda tell: job(tell, base))
        if again.code == 2 and "exists" in again.said:  # all was written
            return
        yield from ended_well(again, whole(world, job))
    else:
        yield from ended_well(attempt(lambda tell: job(tell, base)), whole(world, job))


def small_files(world: World, draw: random.Random, number: int) -> Iterator[Found]:
    """RLIMIT_FSIZE: no file may become larger."""
    name, job = JOBS[number % len(JOBS)]
    largest = int(2 ** draw.uniform(0, 18))  # bytes
    with world.spoiled(clean(world, job)) as base:
        before = attempt(lambda tell: job(tell, base), largest=largest)
        yield from with_room(world, f"{name} with small files", job, base, before)


# -- mounts --------------------------------------------------------------------------------------


@cache
def own_mounts() -> str:
    """Give this process mounts of its own, which end with it; returns why not, if not."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "it needs root on Linux"
    if ctypes.CDLL(None).unshare(NEW_MOUNTS) != 0:
        return "this system allows no mounts"
    done = subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True)
    return "this system allows no mounts" if done.returncode else ""


@contextmanager
def mounted(folder: Path, *how: str) -> Iterator[Callable[..., None]]:
    """Mount something at `folder`; yields a function that mounts it again with other options."""
    if reason := own_mounts():
        raise NotTried(reason)

    def mount(*options: str) -> None:
        subprocess.run(["mount", *options, str(folder)], check=True, capture_output=True)

    mount(*how)
    try:
        yield mount
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)


def full_disk(world: World, draw: random.Random, number: int) -> Iterator[Found]:
    """A file system with a little room beyond what is there."""
    name, job = JOBS[number % len(JOBS)]
    folder = world.folder / "disk"
    folder.mkdir(exist_ok=True)
    with mounted(folder, "-t", "tmpfs", "-o", "size=64m", "tmpfs") as mount:
        base = world.copy(clean(world, job), folder / "base")
        room = int(2 ** draw.uniform(12, 20 if job is train else 15))
        mount("-o", f"remount,size={shutil.disk_usage(folder).used + room}")
        before = attempt(lambda tell: job(tell, base))
        mount("-o", "remount,size=64m")
        yield from with_room(world, f"{name} on a full disk", job, base, before)


def read_only(world: World, draw: random.Random, number: int) -> Iterator[Found]:
    """Folders that can be read, but not written to."""
    name, job = JOBS[number % len(JOBS)]
    with world.spoiled(clean(world, job)) as base:
        with mounted(base, "--bind", str(base)) as mount:
            mount("-o", "remount,ro,bind")
            before = attempt(lambda tell: job(tell, base))
            read = attempt(lambda tell: read_all(base))
        if before.code == 0:
            yield Found("silent", f"{name} in a read-only folder ends as if all were written")
        yield from complaints(f"{name} in a read-only folder", before)
        yield from ended_well(read, attempt(lambda tell: read_all(world.base)).result)
        yield from ended_well(attempt(lambda tell: job(tell, base)), whole(world, job))


# -- where the output goes -----------------------------------------------------------------------


OUTPUTS = {"a full device": "> /dev/full", "a closed output": ">&-", "a closed error": "2>&-",
           "a full device for both": "> /dev/full 2>&1", "a reader that has gone": ""}


def commands(base: Path) -> dict[str, list[str]]:
    """Commands that print, with what they are called with."""
    run = str(newest_run(base))
    lines = base / "questions.txt"
    lines.write_text("at [MASK] .\n" * 3_000)
    return {
        "predict": ["bertlib.predict", "at [MASK] .", "--model", run],
        "predict --file": ["bertlib.predict", "--file", str(lines), "--model", run],
        "hub": ["bertlib.huggingface", run, str(base / "shipped")],
        "prepare": ["bertlib.prepare_mlm_dataset", "-i", str(base / "input" / "text.txt"), "-l",
                    "new", "-o", str(base / "datasets"), "-m", "32", "-v", str(base / "vocab")],
    }


def nowhere(world: World, draw: random.Random, number: int) -> Iterator[Found]:
    """A real command prints to where nothing can be written: it must not end as if all was well."""
    where, how = list(OUTPUTS.items())[number % len(OUTPUTS)]
    environment = {name: value for name, value in os.environ.items()
                   if name != "PYTHONUNBUFFERED"}  # which few users set
    reader, gone = os.pipe()
    os.close(reader)
    with world.spoiled(world.done) as base:
        chosen = list(commands(base).items())
        name, arguments = chosen[number // len(OUTPUTS) % len(chosen)]
        done = subprocess.run(
            ["bash", "-c", f'exec "$@" {how}', "bash", sys.executable, "-m", *arguments],
            stdout=gone if "gone" in where else subprocess.DEVNULL, stderr=subprocess.PIPE,
            env=environment, text=True, timeout=120)
    os.close(gone)
    outcome = Outcome(done.returncode, done.stderr, [])
    if "error" in where or "both" in where:  # no sentence can be read
        outcome = outcome._replace(said=outcome.said + "error: unseen")
    yield from complaints(f"{name} to {where}", outcome)
    if done.returncode == 0 and "full" in where:
        yield Found("lost", f"{name} to {where}: what it printed is gone, and it ends with 0")


KINDS = [
    Kind("limit-size", "room: files that may not grow (RLIMIT_FSIZE)", small_files, 2, 0.7),
    Kind("limit-disk", "room: a full disk (a tiny file system)", full_disk, 2, 0.7),
    Kind("limit-read", "room: read-only folders", read_only, 1, 0.4),
    Kind("limit-output", "room: output to a full device, a closed file, a reader that has gone",
         nowhere, 2, 0.5),
]
