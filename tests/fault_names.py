"""Names with control characters in them, too long ones, empty ones, in every place for a name."""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from fault_child import Tell, attempt
from fault_kinds import Found, Kind, complaints
from fault_museum import RUN
from fault_world import World

import bertlib
from bertlib import predict, prepare_mlm_dataset, pretrain, tokens
from bertlib.huggingface.__main__ import main as ship

ODD = ("two\nlines", "\x1b[31mred\x1b[0m", "x" * 300, "é" * 4_000, "a/b", "..", "-x",
       "with 'quotes'", "\udcff bytes", "\u202e backwards", "tab\there", "\r", "{brace} %s",
       " ", "")


def calls(base: Path, name: str) -> list[tuple[str, Callable[[], Any]]]:
    """Commands with an odd name in one of their places."""
    text, words = str(base / "input" / "text.txt"), str(base / "vocab")
    train = ["--preset", "smoke", "--base", str(base), "--label", "toy", "--max-iters", "1"]
    make = ["-i", text, "-l", "toy", "-o", str(base / "datasets"), "-m", "32", "-v", words]
    learn = ["-i", text, "-o", str(base / "new"), "--size", "150"]
    places = {"label": 3, "input": 1, "output": 5, "length": 7, "vocabulary": 9}
    told = [(f"prepare, {place}", partial(prepare_mlm_dataset.main, replaced(base, make, at, name)))
            for place, at in places.items()]
    told += [(f"pretrain, {option}", partial(pretrain.main, [*train, f"{option}={name}"]))
             for option in ("--label", "--base", "--preset", "--resume", "--seed", "--start")]
    told += [(f"tokens, {place}", partial(tokens.main, replaced(base, learn, at, name)))
             for place, at in (("input", 1), ("output", 3), ("size", 5))]
    told += [("prepare, a bad text of that name", partial(bad_text, base, name, make)),
             ("bertlib.load, a damaged run of that name", partial(bad_run, base, name)),
             ("hub, run", partial(ship, [name, str(base / "out")])),
             ("hub, folder", partial(ship, [str(base / RUN), f"{base}/{name}/x"])),
             ("predict, model", partial(predict.main, ["a [MASK]", "--model", name])),
             ("predict, text", partial(predict.main, [f"{name} [MASK]", "--model",
                                                      str(base / RUN)])),
             ("predict, file", partial(predict.main, ["--file", name, "--model",
                                                      str(base / RUN)])),
             ("bertlib.load", partial(bertlib.load, name))]
    return told


def replaced(base: Path, arguments: list[str], at: int, name: str) -> list[str]:
    """The arguments with a name in one place; as a path below `base` if a path is there."""
    path = arguments[at].startswith("/") and name
    return [*arguments[:at], f"{base}/{name}" if path else name, *arguments[at + 1:]]


def bad_text(base: Path, name: str, arguments: list[str]) -> None:
    """Prepare from a folder with a text of that name, which is no UTF-8."""
    (base / "input" / f"{name}.txt").write_bytes(b"\xff")
    prepare_mlm_dataset.main([arguments[0], str(base / "input"), *arguments[2:]])


def bad_run(base: Path, name: str) -> None:
    """Load a run whose folder has that name, and whose card is damaged."""
    shutil.copytree(base / RUN, base / "runs" / name, dirs_exist_ok=True)
    (base / "runs" / name / "run.json").write_bytes(b"{")
    bertlib.load(base / "runs" / name)


CALLS = len(calls(Path("/"), "x"))


def odd_names(world: World, draw: random.Random, number: int) -> Iterator[Found]:
    """An odd name in the place of a label, a folder or a file: it works, or one line refuses it."""
    name = ODD[number // CALLS]
    with world.spoiled(world.done) as base:
        where, call = calls(base, name)[number % CALLS]

        def work(tell: Tell) -> None:
            os.chdir(base)
            call()

        outcome = attempt(work)
        for found in complaints(f"an odd name for {where}", outcome):
            yield found._replace(detail=f"{name[:20]!r}: {found.detail}")


KINDS = [Kind("hostile-names", "hostile: names with control characters, too long, or empty",
              odd_names, 1, 6, len(ODD) * CALLS)]
