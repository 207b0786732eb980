"""Files made to do harm: they lead out of their folder, or carry code.

Beside each folder lies a victim, which nobody may touch.
"""

import json
import os
import pickle
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from fault_child import Tell, attempt
from fault_damage import resumed
from fault_kills import weights_of
from fault_kinds import Found, Kind, complaints, misread
from fault_making import export_again, learn_words, prepare_again
from fault_museum import RUN
from fault_world import HALF, World, fingerprint

import bertlib
from bertlib.plumbing.files import sha256

Change = Callable[[Any], Any]


def rewrite(path: Path, change: Change) -> None:
    """Change what a JSON file says, and seal it anew if it was sealed: a forger would."""
    values = json.loads(path.read_text(encoding="utf-8"))
    had_seal = isinstance(values, dict) and "seal" in values
    values = change(values)
    if had_seal and isinstance(values, dict):
        from bertlib.plumbing.records import sealed  # who seals has it
        with suppress(ValueError):  # NaN, which no seal covers
            values = sealed(values)
    path.write_text(json.dumps(values), encoding="utf-8")


@contextmanager
def beside_a_victim(world: World, folder: Path) -> Iterator[tuple[Path, Path, Callable[[], Any]]]:
    """A copy of a folder; a folder of the victim's files; and what is found changed in that."""
    with world.spoiled(folder) as base:
        victim = base.with_name(f"{base.name}_victim")
        victim.mkdir()
        (victim / "step_00000001.pt").write_bytes(b"mine")
        (victim / "victim.txt").write_bytes(b"mine")

        def seen() -> dict[str, bytes]:
            return {str(path): path.read_bytes() for path in sorted(victim.rglob("*"))
                    if path.is_file()}

        yield base, victim, seen
        shutil.rmtree(victim)


# -- an index that leads elsewhere ---------------------------------------------------------------

NAMES = ("../../../../{victim}/victim.txt", "{victim}/step_00000001.pt", "step_1.pt",
         "a/../step_00000007.pt", "../checkpoints/step_00000007.pt", "step_00000007.pt\n", "",
         ".", "..", "step_00000007.pt\0", "index.json", "best_00000004.pt", 7, None, ["x"],
         "STEP_00000007.PT", "step_٠٠٠٠٠٠٠٧.pt", "step_00000099.pt", "x" * 4_000)
STEPS = (-1, 10**30, 7.5, True, "7", None, [], 0, 6, 99)
WHOLE = ([], None, 7, {}, {"checkpoints": []}, {"best": None}, {"checkpoints": {}, "best": []},
         {"checkpoints": [None], "best": None}, {"checkpoints": [[]] * 99, "best": {}})


def index_changes(victim: Path) -> list[tuple[str, Change]]:
    """Changes to an index, each with its name."""
    def entry(where: str, key: str, value: Any, index: dict) -> dict:
        for its in index["checkpoints"] if where == "checkpoints" else [index["best"]]:
            its[key] = value
        return index

    changes = []
    for where in ("checkpoints", "best"):
        changes += [(f"{where}: a file {str(name)[:40]!r}", partial(
            entry, where, "file", name.format(victim=victim) if isinstance(name, str) else name))
            for name in NAMES]
        changes += [(f"{where}: step {step}", partial(entry, where, "step", step))
                    for step in STEPS]
        changes += [(f"{where}: sha256 {value!r}", partial(entry, where, "sha256", value))
                    for value in ("", None, 7, "0" * 64)]
    changes += [(f"best: val_loss {v}", partial(entry, "best", "val_loss", v))
                for v in (None, "low", float("nan"), float("-inf"), -1e308, [])]
    changes += [(f"all: {value}", lambda index, value=value: value) for value in WHOLE]
    return changes


INDEX_CASES = len(index_changes(Path()))


def index_leads_elsewhere(world: World, draw: random.Random, number: int) -> Iterator[Found]:
    """The run is loaded, its best too, and resumed: files outside stay, and nothing is believed."""
    with beside_a_victim(world, world.half) as (base, victim, seen):
        before = seen()
        name, change = index_changes(victim)[number]
        rewrite(base / RUN / "checkpoints" / "index.json", change)
        for best in (False, True):
            outcome = attempt(partial(loaded, base / RUN, best))
            yield from complaints(f"index.json, {name}: loaded", outcome)
        outcome = attempt(lambda tell: resumed(tell, base))
        yield from misread(f"index.json, {name}: resumed", weights_of(outcome),
                           world.truth["weights"], "index.json")
        if seen() != before:
            yield Found("lost", f"index.json, {name}: a file outside was changed")


def loaded(folder: Path, best: bool, tell: Tell) -> str:
    """The fingerprint of a run's model."""
    return fingerprint(*bertlib.load(folder, best=best))


# -- links ---------------------------------------------------------------------------------------

LINKED = ("logs/log.txt", "logs/metrics.jsonl", "logs/samples.jsonl", "plot.png", "report.json",
          "run.json", "lock", "vocab.txt", "tokenizer_config.json", "checkpoints/index.json",
          f"checkpoints/step_{HALF:08d}.pt", f"checkpoints/step_{HALF + 1:08d}.pt",
          "checkpoints/best_00000008.pt", "checkpoints", "logs", ".run.json.x.tmp",
          "checkpoints/.index.json.x.tmp")
WAYS = ("to what it holds", "to nothing yet", "to another file")


def link(path: Path, way: str, victim: Path) -> None:
    """Make `path` a symbolic link into the victim's folder."""
    target = victim / path.name
    if way == "to another file":
        target = victim / "victim.txt"
    elif way == "to what it holds" and path.exists():
        shutil.move(path, target)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def links_in_a_run(world: World, draw: random.Random, number: int) -> Iterator[Found]:
    """A link in a run's folder: to resume it writes nothing where the link leads."""
    name, way = LINKED[number // len(WAYS)], WAYS[number % len(WAYS)]
    with beside_a_victim(world, world.half) as (base, victim, seen):
        link(base / RUN / name, way, victim)
        before = seen()
        outcome = attempt(lambda tell: resumed(tell, base))
        yield from complaints(f"{name} is a link {way}: resumed", outcome)
        yield from outside(f"{name} is a link {way}: resumed", before, seen())


def outside(name: str, before: dict[str, bytes], after: dict[str, bytes]) -> Iterator[Found]:
    """What was changed in the victim's folder."""
    for path in sorted({*before, *after}):
        if before.get(path) != after.get(path):
            what = "changed" if path in before and path in after else (
                "gone" if path in before else "made")
            yield Found("lost", f"{name}: a file outside was {what}", Path(path).name)


OUTPUTS = [(export_again, f"shipped/{name}") for name in (
    "model.safetensors", "vocab.txt", "tokenizer_config.json", "config.json")]
OUTPUTS += [(learn_words, f"words/{name}") for name in ("vocab.txt", "tokenizer_config.json")]
OUTPUTS += [(prepare_again, f"datasets/{split}_toy_32_123.msgpack.gz{end}")
            for split in ("train", "val", "test") for end in ("", ".unpacked")]


def links_as_outputs(world: World, draw: random.Random, number: int) -> Iterator[Found]:
    """A link where a command will write: it replaces the link, or refuses it."""
    (job, name), way = OUTPUTS[number // len(WAYS)], WAYS[number % len(WAYS)]
    with beside_a_victim(world, world.done) as (base, victim, seen):
        (base / name).parent.mkdir(exist_ok=True)
        link(base / name, way, victim)
        before = seen()
        outcome = attempt(lambda tell: job(tell, base))
        yield from complaints(f"{name} is a link {way}: written", outcome)
        yield from outside(f"{name} is a link {way}: written", before, seen())


# -- code in a checkpoint ------------------------------------------------------------------------


class Payload:
    """What makes a file when it is unpickled."""

    def __init__(self, call: Callable, *arguments: Any):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def payloads(flag: Path) -> list[Payload]:
    """Ways to run code when something is read."""
    code = f"open({str(flag)!r}, 'w').close()"
    return [Payload(os.system, f"touch {flag}"), Payload(exec, code), Payload(eval, code),
            Payload(os.mkdir, str(flag)), Payload(partial(os.mkdir, str(flag)))]


def code_in_a_checkpoint(world: World, draw: random.Random, number: int) -> Iterator[Found]:
    """A pickle with code in it, under a right hash, is loaded and resumed: the code never runs."""
    with beside_a_victim(world, world.half) as (base, victim, seen):
        before, flag = seen(), victim / "flag"
        payload = payloads(flag)[number % 5]
        path = base / RUN / "checkpoints" / f"step_{HALF:08d}.pt"
        state = {"model": payload, "step": HALF, "random": [payload]}
        if number < 5:
            torch.save(state, path)
        elif number < 10:
            torch.save(state, path, _use_new_zipfile_serialization=False)
        else:
            path.write_bytes(pickle.dumps(state))

        def sign(index: dict) -> dict:
            for entry in index["checkpoints"]:
                entry["sha256"] = sha256((path.parent / entry["file"]).read_bytes())
            return index

        rewrite(path.parent / "index.json", sign)
        for job in (lambda tell: fingerprint(*bertlib.load(base / RUN)),
                    lambda tell: weights_only(resumed(tell, base))):
            yield from complaints("code in a checkpoint", attempt(job))
        if flag.exists() or seen() != before:
            yield Found("silent", "code in a checkpoint was run", payload.call.__class__.__name__)


def weights_only(result: dict[str, Any]) -> str:
    """Those of a result."""
    return result["weights"]


KINDS = [
    Kind("hostile-index", "hostile: an index that leads elsewhere", index_leads_elsewhere, 2, 2,
         INDEX_CASES),
    Kind("hostile-links", "hostile: links in a run's folder", links_in_a_run, 1.5, 1.5,
         len(LINKED) * len(WAYS)),
    Kind("hostile-outputs", "hostile: links where a command writes", links_as_outputs, 0.5, 1,
         len(OUTPUTS) * len(WAYS)),
    Kind("hostile-code", "hostile: code in a checkpoint", code_in_a_checkpoint, 0.5, 1, 15),
]
