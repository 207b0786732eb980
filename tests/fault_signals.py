"""Others at work: a second start, signals that ask a run to end, folders that someone removes.

A run that is asked to end saves the step that it is in; the same command then goes on.
"""

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from fault_child import ASKING, Child, Outcome, Tell, attempt
from fault_kills import ended_well, measured, weights_of, went_on, without_more
from fault_kinds import Found, Kind, complaints, difference
from fault_limits import JOBS, clean, with_room
from fault_world import World, newest_run, train, train_by_command

from bertlib.plumbing import interrupts

VANISHING = ("runs", "runs/run0", "runs/run0/checkpoints", "runs/run0/logs", "runs/run0/run.json",
             "datasets", "vocab", "input")


def two_at_once(world: World, draw: random.Random, number: int) -> Iterator[Found]:
    """The same command is started twice: neither disturbs the other."""
    clean = (world.base, world.half)[number % 2]
    with world.spoiled(clean) as base:
        children = [Child(lambda tell: train(tell, base)) for _ in range(2)]
        for outcome in [child.end() for child in children]:
            yield from complaints("of two at once", outcome)
            if outcome.code == 0:
                result = without_more(outcome.result, world.truth)
                if result != world.truth:
                    yield Found("lost", "of two at once, one ends otherwise",
                                difference(world.truth, result))
        yield from ended_well(weights_of(attempt(lambda tell: train(tell, base))),
                              world.truth["weights"])


def asked_to_end(world: World, draw: random.Random, number: int) -> Iterator[Found]:
    """SIGINT, SIGTERM and SIGHUP in turn, at a random moment."""
    sign = ASKING[number % len(ASKING)]
    _, seconds = measured(world, world.base, train_by_command)
    with world.spoiled(world.base) as base:
        child = Child(lambda tell: train_by_command(tell, base))
        time.sleep(draw.uniform(0, seconds))
        child.send(sign)
        outcome = child.end()
        learned, saved = (max(outcome.all(name), default=0) for name in ("learned", "saved"))
        if learned > saved:
            yield Found("lost", f"{sign.name}: step {learned} was learned, and only {saved} saved")
        own = [] if sign == signal.SIGINT else [-sign]  # before training, it just ends
        yield from complaints(f"after {sign.name}", outcome, *own)
        yield from went_on(world, base, train_by_command, outcome)


def asked_twice(world: World, draw: random.Random, number: int) -> Iterator[Found]:
    """SIGINT, and once more before the run has ended: it then ends at once."""
    def impatient(tell: Tell, base: Path) -> dict:
        interrupts.BOUNCE = 0.0  # the second one is no echo of the first
        return train_by_command(tell, base)

    _, seconds = measured(world, world.base, train_by_command)
    with world.spoiled(world.base) as base:
        child = Child(lambda tell: impatient(tell, base))
        time.sleep(draw.uniform(0, seconds))
        child.send(signal.SIGINT)
        time.sleep(draw.uniform(0, 0.03))
        child.send(signal.SIGINT)
        outcome = child.end()
        yield from complaints("after two SIGINTs", outcome)
        yield from went_on(world, base, train_by_command, outcome)


def as_it_begins(world: World, draw: random.Random, number: int) -> Iterator[Found]:
    """SIGINT while a real command still imports what it needs."""
    command = [sys.executable, "-m", "bertlib.predict", "at [MASK] .", "--model",
               str(newest_run(world.done))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    time.sleep(draw.uniform(0.2, 2))
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    outcome = Outcome(process.returncode, said.decode(errors="replace"), [])
    yield from complaints("SIGINT as a command begins", outcome, -signal.SIGINT)


def in_making(world: World, draw: random.Random, number: int) -> Iterator[Found]:
    """SIGINT, SIGTERM and SIGHUP while something is made; the same command then makes it whole."""
    (name, job), sign = JOBS[1 + number % 3], ASKING[number // 3 % 3]
    _, seconds = measured(world, clean(world, job), job)
    with world.spoiled(clean(world, job)) as base:
        child = Child(lambda tell: job(tell, base))
        time.sleep(draw.uniform(0, seconds))
        child.send(sign)
        outcome = child.end()
        if outcome.code == -sign != -signal.SIGINT:  # it just ends
            outcome = outcome._replace(code=130)
        yield from with_room(world, f"{name}, asked to end", job, base, outcome)


def vanishing(world: World, draw: random.Random, number: int) -> Iterator[Found]:
    """Someone removes a file or folder while a run uses it: it ends well, or says so."""
    name, step = VANISHING[number % len(VANISHING)], draw.randint(1, 11)

    def remove(base: Path, now: int) -> None:
        path = base / name
        if now == step and path.exists():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    with world.spoiled(world.base) as base:
        kept = world.copy(base)
        outcome = attempt(lambda tell: train(tell, base, after_save=lambda s: remove(base, s)))
        yield from complaints(f"{name} was removed", outcome)
        if outcome.code == 0 and outcome.result["weights"] != world.truth["weights"]:
            yield Found("lost", f"{name} was removed, and the weights are others")
        shutil.copytree(kept, base, dirs_exist_ok=True)  # what a run cannot make itself
        again = attempt(lambda tell: train(tell, base))
        yield from ended_well(weights_of(again), world.truth["weights"])
        shutil.rmtree(kept)


KINDS = [
    Kind("two-at-once", "at once: the same command started twice", two_at_once, 1, 0.5),
    Kind("signal-train", "asked to end: training, by SIGINT, SIGTERM, SIGHUP", asked_to_end,
         5, 1.5),
    Kind("signal-twice", "asked to end: training, twice", asked_twice, 2, 0.7),
    Kind("signal-make", "asked to end: preparation, export, learning a vocabulary", in_making,
         1, 1),
    Kind("signal-begin", "asked to end: a command as it begins", as_it_begins, 2, 0.5),
    Kind("vanish", "room: files and folders removed while a run uses them", vanishing, 2, 0.7),
]
