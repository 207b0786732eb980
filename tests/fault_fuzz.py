"""Readers are fed with what nobody wrote: they return something, or refuse it in a sentence.

A case is a batch of examples in one child. Example m of case n depends on the seed, n and m.
"""

import gzip
import io
import random
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import torch
from fault_bombs import DATA, JSON, READ
from fault_child import Outcome, Tell, attempt
from fault_damage import resumed
from fault_hostile import loaded, rewrite
from fault_kinds import Found, Kind, complaints
from fault_museum import READERS, RUN, museum
from fault_random import mutated, some_bytes, some_tensor, some_value
from fault_world import HALF, World

from bertlib.data import load_dataset
from bertlib.plumbing.files import InputError, sha256
from bertlib.tokens import Tokenizer

Example = Callable[[random.Random], Any]  # returns words if something false was believed


def batch(key: str, size: int, begin: Callable[[Path], Example]) -> Callable[..., Iterator[Found]]:
    """The attack with `size` examples a case; `begin` makes what one is called with, in a child."""
    def attack(world: World, draw: random.Random, number: int) -> Iterator[Found]:
        with world.spoiled(museum(world)) as base:
            def work(tell: Tell) -> None:
                example = begin(base)
                for at in range(size):
                    tell("at", at)
                    found = tried(example, random.Random(f"{world.seed} {key} {number} {at}"))
                    if found:
                        tell("found", [at, *found])

            outcome = attempt(work, seconds=60 + size)
        for at, column, words, detail in outcome.all("found"):
            yield Found(column, words, f"example {at}: {detail}")
        for found in complaints(key, outcome):
            yield found._replace(detail=f"example {outcome.all('at')[-1:]}: {found.detail}")

    return attack


def tried(example: Example, draw: random.Random) -> Found | None:
    """What is wrong with how an example ended, if anything."""
    try:
        believed = example(draw)
        return Found("silent", believed) if isinstance(believed, str) else None
    except InputError as error:
        outcome = Outcome(2, f"error: {error}\n", [])
    except OSError:  # `run_command` makes a sentence of it
        return None
    except SystemExit as end:
        outcome = Outcome(end.code or 0, "", [])
    except BaseException:
        outcome = Outcome(1, traceback.format_exc(), [])
    return next(complaints("an example", outcome), None)


# -- files ---------------------------------------------------------------------------------------


def on_files(base: Path, names: list[str], spoil: Callable[[random.Random, Path], None]) -> Example:
    """An example that spoils one of the files, reads it and restores it."""
    def example(draw: random.Random) -> None:
        name = draw.choice(names)
        path, content = base / name, (base / name).read_bytes()
        try:
            spoil(draw, path)
            READERS[READ[name]](base)
        finally:
            path.write_bytes(content)

    return example


def wrong_values(draw: random.Random, path: Path) -> None:
    """JSON of the right form with wrong values, sealed as if they were right."""
    if path.suffix == ".json":
        rewrite(path, lambda values: mutated(draw, values))
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    number = draw.randrange(len(lines))
    record = alone(path, lines[number])
    rewrite(record, lambda values: mutated(draw, values))
    lines[number] = record.read_text(encoding="utf-8")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def alone(path: Path, line: str) -> Path:
    """A file that holds one line of another file."""
    record = path.with_name("record.tmp")
    record.write_text(line, encoding="utf-8")
    return record


def any_bytes(draw: random.Random, path: Path) -> None:
    """A file that begins as it should, and goes on with anything."""
    content = path.read_bytes()
    keep = draw.choice((0, 0, 2, 4, 10, 64, draw.randint(0, len(content))))
    path.write_bytes(content[:keep] + some_bytes(draw))


def datasets(base: Path) -> Example:
    """An example that reads a dataset file of other msgpack."""
    path, tokenizer = base / DATA, Tokenizer.load(base / "vocab")
    objects = list(msgpack.Unpacker(io.BytesIO(gzip.decompress(path.read_bytes()))))
    copy = path.with_name(f"{path.name}.unpacked")

    def bits(draw: random.Random) -> Any:
        return some_bytes(draw) if draw.random() < 0.2 else some_value(draw)

    def example(draw: random.Random) -> None:
        try:
            packed = b"".join(msgpack.packb(thing, unicode_errors="surrogatepass")
                              for thing in mutated(draw, objects, bits))
        except (OverflowError, TypeError, ValueError):  # msgpack cannot say it
            packed = some_bytes(draw)
        path.write_bytes(gzip.compress(packed, 1))
        copy.unlink(missing_ok=True)
        load_dataset(path, tokenizer)

    return example


# -- checkpoints ---------------------------------------------------------------------------------


def other_state(world: World, draw: random.Random, number: int) -> Iterator[Found]:
    """A checkpoint with other contents, under a right hash, is loaded and resumed."""
    def forge(base: Path) -> None:
        path = base / RUN / "checkpoints" / f"step_{HALF:08d}.pt"
        state = torch.load(path, weights_only=True)

        def make(its: random.Random) -> Any:
            return some_tensor(its) if its.random() < 0.4 else some_value(its)

        forged = mutated(draw, state, make)
        torch.save(forged, path)

        def sign(index: dict) -> dict:
            index["checkpoints"][-1]["sha256"] = sha256(path.read_bytes())
            return index

        rewrite(path.parent / "index.json", sign)

    with world.spoiled(world.half) as base:
        if attempt(lambda tell: forge(base)).code != 0:
            return  # torch cannot save it
        outcome = attempt(lambda tell: loaded(base / RUN, False, tell))
        yield from complaints("a forged checkpoint, loaded", outcome)
        yield from complaints("a forged checkpoint, resumed",
                              attempt(lambda tell: resumed(tell, base)))


ONLY = ("traceback",)
KINDS = [
    Kind("fuzz-json", "fuzz: JSON of the right form with wrong values",
         batch("fuzz-json", 20, lambda base: on_files(base, JSON, wrong_values)), 9, 2,
         columns=ONLY, size=20),
    Kind("fuzz-bytes", "fuzz: random bytes for every reader",
         batch("fuzz-bytes", 20, lambda base: on_files(base, list(READ), any_bytes)), 7, 2,
         columns=ONLY, size=20),
    Kind("fuzz-msgpack", "fuzz: random msgpack", batch("fuzz-msgpack", 20, datasets), 4, 2,
         columns=ONLY, size=20),
    Kind("fuzz-state", "fuzz: checkpoints with other contents", other_state, 5, 2, columns=ONLY),
]
