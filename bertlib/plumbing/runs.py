"""Run folders: what identifies a run, which one goes on, and who is at work on it.

A run folder is whole: `run.json` tells label, settings, model and data, the vocabulary lies
beside it, so that it can be asked, exported and resumed wherever it is moved.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from bertlib.plumbing.files import InputError, check_own_files, clear_leftovers, lock, note
from bertlib.plumbing.records import Missing, read_json, write_json

VERSION = 2
CARD = "run.json"
# What may change when a run is resumed by name: how long it takes, and how it is watched.
FREE = ("max_iters", "budget_minutes", "val_interval", "val_chunks", "final_chunks",
        "checkpoint_minutes", "keep_checkpoints")


class Unreadable(InputError):
    """A folder does not tell which run it is."""


@dataclass(frozen=True)
class Identity:
    """What makes two runs the same run: with all of this equal, they do the same.

    rules: how the tokenizer washes text. datasets: SHA-256 of the training files in order, then
    of the validation file.
    """

    label: str
    model: dict[str, Any]
    settings: dict[str, Any]
    vocab_sha256: str
    rules: dict[str, bool | None]
    datasets: list[str]
    version: int = VERSION

    def __post_init__(self):
        for name in ("model", "settings"):  # as they come back from a file: lists for tuples
            object.__setattr__(self, name, json.loads(json.dumps(getattr(self, name))))

    @classmethod
    def read(cls, folder: Path, names: Iterable[str] = ()) -> "Identity":
        """That of a run folder; `Unreadable` if its run.json is missing, damaged or too old.

        To go on with a run, pass the `names` of the settings that it must have, no others.
        """
        path = Path(folder) / CARD
        try:
            identity = read_json(path, cls, "begin a new run with --resume never")
            if identity.version != VERSION:
                raise ValueError(f"it has version {identity.version}, this code reads {VERSION}")
            then, now = identity.settings.keys(), set(names)
            if now and (other := then - now or now - then):
                raise ValueError(f"one of them only has a setting {min(other)!r}")
        except Missing:
            raise Unreadable(f"'{folder}' is no run: it has no {CARD}; pass the name of a run "
                             "below runs/, or the path of its folder.") from None
        except InputError as error:
            raise Unreadable(str(error)) from None
        except (ValueError, TypeError) as error:
            raise Unreadable(f"'{path}' is of another version of this code ({error}); begin a new "
                             "run with --resume never.") from None
        return identity

    def differences(self, now: "Identity") -> list[str]:
        """What differs in `now`, one phrase each; lengths and logging may differ."""
        told = [f"label {self.label!r} (now {now.label!r})"] if self.label != now.label else []
        if (self.vocab_sha256, self.rules) != (now.vocab_sha256, now.rules):
            told.append("another vocabulary")
        elif self.datasets != now.datasets:
            told.append("other data under its label" if self.label == now.label else "other data")
        for name in sorted({*self.settings, *now.settings} - set(FREE)):
            then, wanted = self.settings.get(name), now.settings.get(name)
            if then != wanted:
                told.append(f"{name} {then!r} (now {wanted!r})")
        return told


class Run:
    """A run folder that this process may be at work on.

    A new one appears on the disk with `begin`, when all has been checked; from then on, or from
    the start for one that exists, a lock keeps other processes out until `close`.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.is_new = not self.folder.exists()
        self._lock: BinaryIO | None = None

    def lock(self) -> bool:
        """Take the lock; False if another process, which is alive, holds it.

        Raises `InputError` if the folder holds links or pipes: files could be written elsewhere.
        """
        check_own_files(self.folder)
        stream = (self.folder / "lock").open("ab")
        if not lock(stream):
            stream.close()
            return False
        self._lock = stream
        return True

    def begin(self, identity: Identity, save_words: Callable[[Path], None]) -> None:
        """Make the folder, if it is new, and write down what run it is."""
        if self.is_new:
            try:
                self.folder.mkdir(parents=True)
            except FileExistsError:
                raise InputError(f"Another process began '{self.folder}' at the same moment; "
                                 "start again.") from None
            self.lock()
            save_words(self.folder)
        clear_leftovers(self.folder, "*")
        write_json(self.folder / CARD, asdict(identity))

    def close(self) -> None:
        """Let others have it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def run_number(folder: Path) -> int:
    """N of a folder named runN; -1 for others."""
    number = folder.name.removeprefix("run")
    return int(number) if number.isascii() and number.isdigit() else -1


def numbered_runs(base: Path) -> list[Path]:
    """The folders runN below `base`/runs, oldest first."""
    folders = (Path(base) / "runs").glob("run*")
    return sorted((path for path in folders if run_number(path) >= 0), key=run_number)


def find_run(base: Path, name: str) -> Path:
    """The folder of a run, by its name below `base`/runs or by its path."""
    inside = Path(base) / "runs" / name
    return inside if inside.is_dir() else Path(name)


def claim_run(base: Path, identity: Identity, resume: str,
              is_finished: Callable[[Path], bool]) -> Run:
    """The run to go on with, locked, or a new one.

    "auto" takes the newest run below `base`/runs that has the same identity, did not finish and
    is not alive, else a new number; "never" a new number; else it is a run's name or path.
    Raises `InputError` if a run that is named differs in more than its length, or is alive.
    """
    if resume not in ("auto", "never"):
        return _claim_named(find_run(base, resume), identity)
    runs = numbered_runs(base)
    for path in reversed(runs if resume == "auto" else []):
        run = Run(path)
        try:
            found = Identity.read(path, identity.settings)
            if found == identity and not is_finished(path) and run.lock():
                return run
        except Unreadable as error:
            note(f"'{path}' is left alone: {error}")
    return Run(Path(base) / "runs" / f"run{run_number(runs[-1]) + 1 if runs else 0}")


def _claim_named(folder: Path, identity: Identity) -> Run:
    differences = Identity.read(folder, identity.settings).differences(identity)
    if differences:
        raise InputError(f"'{folder}' was trained with {'; '.join(differences)}; resume it as it "
                         "was (only its length and logging may change), or begin a new run with "
                         "--resume never.")
    run = Run(folder)
    if not run.lock():
        raise InputError(f"Another process is at work on '{folder}'; wait for it or stop it.")
    return run
