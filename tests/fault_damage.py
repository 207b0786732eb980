"""Files that are damaged: a reader must tell the truth all the same, or tell of the damage."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fault_child import Tell, attempt
from fault_kills import weights_of
from fault_kinds import Found, Kind, Missed, misread
from fault_museum import READERS, RUN, museum, true_reading
from fault_world import World, newest_run, train

EDGE = 600  # bytes at both ends of a file, where its headers are

# -- what happens to a file ----------------------------------------------------------------------


def flip(content: bytearray, draw: random.Random) -> bytearray:
    """One bit is another."""
    if content:
        content[place(content, draw)] ^= 1 << draw.randrange(8)
    return content


def place(content: bytearray, draw: random.Random) -> int:
    """Somewhere in a file, half of the time near one of its ends."""
    where = draw.randrange(len(content))
    return where if draw.random() < 0.5 else draw.choice((where % EDGE, -1 - where % EDGE)) % len(
        content)


def truncate(content: bytearray, draw: random.Random) -> bytearray:
    """The end is gone."""
    return content[: place(content, draw)] if content else content


def zeros(content: bytearray, draw: random.Random) -> bytearray:
    """A part is zeros, as after a crash of the machine."""
    if content:
        start, length = place(content, draw), 1 + int(2 ** draw.uniform(0, 13))
        part = content[start : start + length]
        content[start : start + length] = bytes(len(part))
    return content


def double(content: bytearray, draw: random.Random) -> bytearray:
    """A part stands twice."""
    if content:
        start = place(content, draw)
        content[start:start] = content[start : start + 1 + int(2 ** draw.uniform(0, 10))]
    return content


def append(content: bytearray, draw: random.Random) -> bytearray:
    """Something stands behind the end."""
    return content + draw.choice((draw.randbytes(draw.randint(1, 99)), b"\n", b"}", b"\0" * 512))


def empty(content: bytearray, draw: random.Random) -> bytearray:
    """Nothing is left."""
    return bytearray()


DAMAGES: list[Callable[[bytearray, random.Random], bytearray]] = [
    flip, flip, flip, truncate, truncate, zeros, double, append, empty]


def damage(path: Path, draw: random.Random) -> str:
    """Damage a file; returns how. It may also be swapped with another of its kind, or be gone."""
    content, chance = path.read_bytes(), draw.random()
    others = [p for p in sorted(path.parent.rglob(f"*{path.suffix}")) if p.is_file() and p != path]
    if chance < 0.05:
        path.unlink()
        return "gone"
    if chance < 0.15 and others:
        path.write_bytes(draw.choice(others).read_bytes())
        return "swapped"
    how = draw.choice(DAMAGES)
    path.write_bytes(how(bytearray(content), draw))
    if path.read_bytes() == content:
        raise Missed
    return how.__name__


# -- which files, and who must notice -----------------------------------------------------------


class Target(NamedTuple):
    """Files of the museum, and the readers that must notice what happened to them."""

    files: str
    readers: tuple[str, ...]
    hint: str = ""  # in what is said, if the reader goes on with something else


ALL_OF_RUN = ("bertlib.load", "bertlib.load(best=True)", "Identity.read", "export")
TARGETS: dict[str, list[Target]] = {
    "data": [Target("datasets/*.gz", ("load_dataset",)),
             Target("datasets/*.unpacked", ("load_dataset",)),
             Target("vocab/vocab.txt", ("load_dataset",)),
             Target("vocab/tokenizer_config.json", ("load_dataset",))],
    "run": [*(Target(f"{RUN}/{name}", ALL_OF_RUN) for name in (
        "run.json", "vocab.txt", "tokenizer_config.json", "checkpoints/index.json",
        "checkpoints/step_*.pt", "checkpoints/best_*.pt")),
        Target(f"{RUN}/report.json", ("export",), "facts of run.json")],
    "logs": [Target(f"{RUN}/logs/metrics.jsonl", ("read_metrics",)),
             Target(f"{RUN}/logs/samples.jsonl", ("read_samples",)),
             Target("page.json", ("load_page",))],
    "shipped": [Target("shipped/*", ("load of a shipped model",))],
    "texts": [Target("small.txt.gz", ("read_documents of small.txt.gz",)),
              Target("small.txt.xz", ("read_documents of small.txt.xz",))],
    "unsigned": [Target("plain.txt", ("read_documents of plain.txt",)),
                 Target("records.jsonl", ("read_documents of records.jsonl",)),
                 Target("reference/config.json", ("load of a published model",)),
                 Target("reference/tokenizer_config.json", ("load of a published model",)),
                 Target("reference/vocab.txt", ("load of a published model",)),
                 Target("reference/model.safetensors", ("load of a published model",)),
                 Target("vocab/*", ("Tokenizer.load",))],
}


def damaged(group: str) -> Callable[[World, random.Random, int], Iterator[Found]]:
    """The attack on the files of a group."""
    cases = [(target, reader) for target in TARGETS[group] for reader in target.readers]

    def attack(world: World, draw: random.Random, number: int) -> Iterator[Found]:
        target, reader = cases[number % len(cases)]
        truth = true_reading(world, reader)
        with world.spoiled(museum(world)) as base:
            path = draw.choice(sorted(base.glob(target.files)))
            how = damage(path, draw)
            outcome = attempt(lambda tell: READERS[reader](base))
        if group == "logs" and is_cut(outcome.result, truth, how):
            return
        hints = (target.hint or path.name,)
        yield from misread(f"{path.name} for {reader}", outcome, truth, *hints, detail=how)

    return attack


def is_cut(found: Any, truth: Any, how: str) -> bool:
    """Whether a log tells less at its end, as one does whose process was killed then."""
    fewer = len(truth) if how in ("truncate", "empty") else 1
    return isinstance(found, list) and found in [truth[:len(truth) - n] for n in range(fewer + 1)]


# -- a run that goes on --------------------------------------------------------------------------


def resumed(tell: Tell, base: Path) -> Any:
    """Go on with the half-done run; its log is part of what is said."""
    result = train(tell, base)
    print((newest_run(base) / "logs" / "log.txt").read_text(errors="replace"))
    return result


def resumed_damaged(world: World, draw: random.Random, number: int) -> Iterator[Found]:
    """It ends as an undisturbed run, or is refused; it begins anew only with a word about it."""
    with world.spoiled(world.half) as base:
        files = [path for path in sorted(base.rglob("*")) if path.is_file()
                 and path.parent.name != "input" and path.name != "lock"]
        path = files[number % len(files)]
        how = damage(path, draw)
        outcome = attempt(lambda tell: resumed(tell, base))
    name = f"{path.name.partition('.16')[0]} of a half-done run"
    yield from misread(name, weights_of(outcome), world.truth["weights"], path.name, detail=how)
    told = path.name in outcome.said or "damaged" in outcome.said
    if outcome.code == 0 and max(outcome.all("began"), default=0) < 6 and not told:
        yield Found("lost", f"{name}: begun anew without a word, though step 6 is whole", how)


NATURE = ("Nobody can know the truth of a plain text, or of files that others published without "
          "a hash")
KINDS = [
    Kind("damage-data", "damaged: datasets, their copies and vocabulary", damaged("data"), 2.5, 15),
    Kind("damage-run", "damaged: a run's files", damaged("run"), 3, 20),
    Kind("damage-logs", "damaged: logs and pages", damaged("logs"), 1.5, 10),
    Kind("damage-shipped", "damaged: a model that ships", damaged("shipped"), 1.5, 10),
    Kind("damage-texts", "damaged: compressed texts", damaged("texts"), 0.5, 5),
    Kind("damage-resumed", "damaged: a half-done run, which is resumed", resumed_damaged, 3.5, 4),
    Kind("damage-unsigned", "damaged: files that nobody signed", damaged("unsigned"), 1, 8,
         footnote=NATURE),
]
