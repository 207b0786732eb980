"""The promise as a program: a hostile world, and a table of what it found.

    python tests/faults.py                         about two minutes
    python tests/faults.py --minutes 30 --short    ten of fuzz, 219 kills, 2,160 damages or more
    python tests/faults.py --seed 1 --only kill-change --number 7     one case, and all it says

Three things must never happen. "lost": what was saved is gone, or a restart does not end as an
undisturbed run does. "silent": something damaged or hostile is taken for the truth without a
word. "traceback": a command ends neither well nor with a sentence.

All happens in a temporary folder, one process at a time. A seed decides on all cases but on the
moments of kills and signals. It needs Linux; full and read-only disks also need root.
"""

import argparse
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import count, groupby
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = "1"  # forks keep no threads
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import fault_asked
import fault_bombs
import fault_damage
import fault_fuzz
import fault_hostile
import fault_kills
import fault_limits
import fault_making
import fault_names
import fault_signals
from fault_child import Child
from fault_kinds import COLUMNS, Found, Kind, Missed, NotTried
from fault_world import World

KINDS: list[Kind] = [*fault_kills.KINDS, *fault_making.KINDS, *fault_signals.KINDS,
                     *fault_limits.KINDS, *fault_damage.KINDS, *fault_hostile.KINDS,
                     *fault_names.KINDS, *fault_bombs.KINDS,
                     *fault_fuzz.KINDS, *fault_asked.KINDS]
SPARE = 1.12  # of the time: some kinds need longer than their share for the least of cases
MOST_NUMBERS = 5  # of the cases that found one and the same


class Row:
    """A line of the table: kinds of fault, and what was found."""

    def __init__(self, title: str):
        self.title, self.tried, self.note = title, 0, ""
        self.columns: set[str] = set()
        self.cells = dict.fromkeys(COLUMNS, 0)
        self.footnote = ""

    def __str__(self) -> str:
        cells = [f"{self.cells[c]:,}" if c in self.columns else "–" for c in COLUMNS]
        cells[COLUMNS.index("silent")] += "\\*" if self.footnote else ""
        tried = f"{self.tried:,} ({self.note})" if self.note else f"{self.tried:,}"
        return f"| {self.title} | {tried} | {' | '.join(cells)} |"

    def add(self, record: "Record") -> None:
        """Count what was found with one kind."""
        self.tried += record.tried * record.kind.size
        self.note = self.note or record.note
        self.columns |= set(record.kind.columns)
        self.footnote = self.footnote or record.kind.footnote
        for column in COLUMNS:
            self.cells[column] += record.count(column)


class Record:
    """What was found with one kind of fault, by the numbers of its cases."""

    def __init__(self, kind: Kind):
        self.kind, self.tried, self.note = kind, 0, ""
        self.found: list[tuple[int, Found]] = []

    def count(self, column: str) -> int:
        """In how many cases, or examples, something of that column was found."""
        return len({(number, found.detail if self.kind.size > 1 else "")
                    for number, found in self.found if found.column == column})

    def held(self) -> list[tuple[int, Found]]:
        """What was found and must not be, with the numbers of the cases."""
        return [case for case in self.found
                if not (self.kind.footnote and case[1].column == "silent")]

    def findings(self, seed: int) -> Iterator[str]:
        """Each finding with how to repeat it; what differs in its figures only is told once."""
        alike: dict[str, list[tuple[int, Found]]] = {}
        for number, found in self.held():
            alike.setdefault(found.column + re.sub(r"\d+", "0", found.words), []).append(
                (number, found))
        for cases in alike.values():
            numbers, found = list(dict.fromkeys(number for number, _ in cases)), cases[0][1]
            others = ", ".join(map(str, numbers[1:MOST_NUMBERS]))
            more = f" (or {others}: {len(numbers)} cases)" if others else ""
            detail = f" [{found.detail}]" if found.detail else ""
            yield (f"{found.column}: {found.words}{detail}\n    python tests/faults.py "
                   f"--seed {seed} --only {self.kind.key} --number {numbers[0]}{more}")


def attack(world: World, kind: Kind, order: Iterable[int], least: float, seconds: float) -> Record:
    """Try cases in that order: as many as the seconds allow, and `least` at least.

    So a busy machine takes longer, and tries as much.
    """
    record, until = Record(kind), time.monotonic() + seconds
    for done, number in enumerate(order):
        enough = record.tried >= max(1, least) or done > 10 * max(10, least)
        if enough and time.monotonic() >= until:
            break
        draw = random.Random(f"{world.seed} {kind.key} {number}")
        try:
            record.found += [(number, found) for found in kind.attack(world, draw, number)]
            record.tried += 1
        except Missed:
            continue
        except NotTried as reason:
            record.note = f"{kind.key} not tried: {reason}"
            break
    return record


def numbers(kind: Kind, given: argparse.Namespace) -> Iterable[int]:
    """The numbers of the cases: those of a list in a drawn order, else all from 0 on."""
    if given.number is not None:
        return [given.number]
    if kind.cases is None:
        return count()
    return random.Random(given.seed).sample(range(kind.cases), kind.cases)


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parse = argparse.ArgumentParser(description=__doc__,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--minutes", type=float, default=2, help="about how long to go on")
    parse.add_argument("--seed", type=int, default=0, help="which random cases")
    parse.add_argument("--least", action="store_true", help="no more cases than so many minutes "
                       "must have, however fast the machine is: the same cases everywhere")
    parse.add_argument("--short", action="store_true", help="a row for each family of kinds")
    parse.add_argument("--only", nargs="+", default=[""], metavar="KEY", help="kinds whose key "
                       "begins so: " + ", ".join(kind.key for kind in KINDS))
    parse.add_argument("--number", type=int, help="this case only, and all that is said in it")
    return parse.parse_args(arguments)


def in_memory() -> str | None:
    """A folder in memory, if there is one with room: there, thousands of fsyncs take no time."""
    shared = Path("/dev/shm")
    roomy = os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > 1 << 30
    return str(shared) if roomy else None


def tables(world: World, kinds: list[Kind], given: argparse.Namespace) -> Iterator[Record]:
    """Attack, and print a row as soon as it is complete."""
    print(f"| kind of fault | tried | {' | '.join(COLUMNS)} |\n|---|--:|--:|--:|--:|")
    titles = {kind.key: kind.title.partition(": ")[0] if given.short else kind.title
              for kind in kinds}
    for title, members in groupby(kinds, key=lambda kind: titles[kind.key]):
        row = Row(title)
        for kind in members:
            whole = SPARE * sum(other.share for other in kinds)
            share = 0 if given.least else kind.share / whole
            record = attack(world, kind, numbers(kind, given), given.minutes * kind.pace,
                            60 * given.minutes * share)
            row.add(record)
            yield record
        print(row, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Attack, print the table and the findings; returns 1 if there are any, else 0."""
    if sys.platform != "linux":
        sys.exit("The hostile world needs Linux.")
    given = options(arguments)
    kinds = [kind for kind in KINDS if kind.key.startswith(tuple(given.only))]
    with tempfile.TemporaryDirectory(prefix="faults", dir=in_memory()) as folder:
        world = World(Path(folder), given.seed)
        Child.is_loud = given.number is not None
        records = list(tables(world, kinds, given))
        Child.is_loud = False
        sees = fault_kills.forgets_random_state(world)
    print("\nControl: a restart that forgets the random state is "
          f"{'found out' if sees else 'NOT FOUND OUT: this table is worth nothing'}.")
    for note in {record.kind.footnote for record in records} - {""}:
        print(f"\\* {note}.")
    for record in records:
        for finding in record.findings(given.seed):
            print(f"\n{finding}")
    return int(not sees or any(record.held() for record in records))


if __name__ == "__main__":
    sys.exit(main())
