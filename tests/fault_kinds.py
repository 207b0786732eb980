"""What a kind of fault is, and what can be found."""

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from fault_child import Outcome
from fault_world import World

COLUMNS = ("lost", "silent", "traceback")


class Found(NamedTuple):
    """Something that must not happen: its column in the table, what happened, and with what."""

    column: str
    words: str
    detail: str = ""


class NotTried(Exception):
    """This kind of fault cannot be made here; says why."""


class Missed(Exception):
    """The fault came too late to harm: the case does not count."""


class Kind(NamedTuple):
    """A row of the table.

    attack: what happens in the case of a number, which with the seed decides all. share: of the
    time. pace: how many cases a minute there are at least. cases: how many there are, if they are
    a list; else there are always more. columns: what such faults can show. size: of a case, in
    examples. footnote: why what is "silent" here is told, but held against nobody.
    """

    key: str
    title: str
    attack: Callable[[World, random.Random, int], Iterable[Found]]
    share: float
    pace: float
    cases: int | None = None
    columns: tuple[str, ...] = COLUMNS
    size: int = 1
    footnote: str = ""


def complaints(name: str, outcome: Outcome, *fine: int) -> Iterator[Found]:
    """What is wrong with how a command or a reader ended, if anything."""
    if complaint := outcome.complaint(*fine):
        wrong, _, detail = complaint.partition(": ")
        yield Found("traceback", f"{name}: {wrong}", detail)


def misread(name: str, outcome: Outcome, truth: Any, *hints: str, detail: str = ""
            ) -> Iterator[Found]:
    """A reader was given something damaged: it must tell the truth, or tell of the damage.

    hints: words one of which must be in what it says, if it returns something else.
    """
    for found in complaints(name, outcome):
        yield found._replace(detail=f"{detail}: {found.detail}")
    if outcome.code == 0 and outcome.result != truth:
        noted = any(hint in outcome.said for hint in (*hints, "damaged"))
        if not noted:
            wrong = difference(truth, outcome.result)
            yield Found("silent", f"{name} is taken for true", f"{detail}: {wrong}")


def difference(truth: Any, found: Any, where: str = "") -> str:
    """Where two plain values part, in a few words."""
    if isinstance(truth, dict) and isinstance(found, dict):
        for key in [*truth, *found]:
            if truth.get(key) != found.get(key):
                return difference(truth.get(key), found.get(key), f"{where} {key}")
    if isinstance(truth, list) and isinstance(found, list):
        if len(truth) != len(found):
            return f"{where.strip() or 'it'} has {len(found)} entries, not {len(truth)}".strip()
        for number, (one, other) in enumerate(zip(truth, found, strict=True)):
            if one != other:
                return difference(one, other, f"{where} {number}")
    return f"{where.strip() or 'it'} is {str(found)[:60]}, not {str(truth)[:60]}"
