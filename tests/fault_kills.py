"""Processes that are killed with SIGKILL: the same command, started again, makes all good.

Training must go on at a step that was saved, and end with the weights, records and guesses of a
run that nobody disturbed, bit for bit.
"""

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
from fault_world import World, must, newest_run, result_of, train, train_by_command

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
    def counted(tell: Tell, copy: Path) -> int:
        trap = Trap(copy)
        job(tell, copy)
        return trap.count

    with world.spoiled(folder) as copy:
        begin = time.monotonic()
        many = must(attempt(lambda tell: counted(tell, copy)))
        seconds = time.monotonic() - begin
    return random.Random(world.seed).sample(range(1, many + 1), many), seconds


# -- training ------------------------------------------------------------------------------------


def train_from_text(tell: Tell, base: Path) -> dict[str, Any]:
    """Train on what has yet to be prepared from the texts in input/."""
    return train(tell, base, "english")


def in_training(world: World, draw: random.Random, number: int) -> Iterator[Found]:
    """A run dies at a random moment; each second one once more while it is resumed."""
    _, seconds = measured(world, world.base, train)
    with world.spoiled(world.base) as base:
        died = until_whole(world, base, (killed_at_a_moment(train, base, draw, seconds)
                                         for _ in range(1 + number % 2)))
        yield from went_on(world, base, train, *died)


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
        died = until_whole(world, base, (killed_before(place, job, base) for place in places))
        yield from went_on(world, base, job, *died)


def until_whole(world: World, base: Path, deaths: Iterator[Outcome]) -> list[Outcome]:
    """Outcomes up to the one after which the run is whole: a start would begin another run."""
    died = []
    for outcome in deaths:
        died.append(outcome)
        if is_whole(world, base):
            break
    return died


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
    last = last._replace(told=[*last.told, ("result", without_more(last.result, truth))])
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


def weights_of(outcome: Outcome) -> Outcome:
    """The same with the weights alone as its result: its records and guesses may be lost."""
    weights = outcome.result and outcome.result["weights"]
    return outcome._replace(told=[*outcome.told, ("result", weights)])


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


KINDS = [
    Kind("kill-moment", "killed: training, at a random moment", in_training, 10, 2.4),
    Kind("kill-change", "killed: training, before a change of a file",
         before_a_change, 14, 3),
]
