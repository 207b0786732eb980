"""Checkpoints of notebook 06 are taken in any style, and what they would lose is told."""

import contextlib
import hashlib
import os
import re

import pytest
import torch

from bertlib.checkpoint import Checkpoints
from bertlib.checks.saving import check_checkpoints


class Mine:
    """A file a state, its hash in its name."""

    suffix, keep_all, sort = ".pt", False, staticmethod(int)

    def __init__(self, folder, keep=2):
        self.folder, self.keep = folder, keep

    def entries(self):
        found = [re.fullmatch(rf"(\d+)-(\w+){re.escape(self.suffix)}", name)
                 for name in os.listdir(self.folder)]
        return sorted((match for match in found if match), key=lambda match: self.sort(match[1]))

    def write(self, state, step):
        draft = self.folder / "draft"
        torch.save(state, draft)
        digest = hashlib.sha256(draft.read_bytes()).hexdigest()
        os.replace(draft, self.folder / f"{step}-{digest}{self.suffix}")

    def save(self, state, step):
        self.write(state, step)
        for entry in self.entries()[:-self.keep]:
            (self.folder / entry[0]).unlink()

    def is_whole(self, entry):
        return hashlib.sha256((self.folder / entry[0]).read_bytes()).hexdigest() == entry[2]

    def newest(self):
        for entry in reversed(self.entries()):
            if self.is_whole(entry):
                return torch.load(self.folder / entry[0])
        return None


def mine(**names):
    return type("Other", (Mine,), names)


class Direct(Mine):
    """Written at once under its own name."""

    def write(self, state, step):
        torch.save(state, self.folder / f"{step}-x.pt")

    def is_whole(self, entry):
        return True


class OneFile:
    def __init__(self, folder, keep=2):
        self.path = folder / "state.pt"

    def save(self, state, step):
        torch.save(state, self.path.with_suffix(".new"))
        os.replace(self.path.with_suffix(".new"), self.path)

    def newest(self):
        return torch.load(self.path) if self.path.exists() else None


class InMemory:
    states: dict = {}

    def __init__(self, folder, keep=2):
        self.states = []

    def save(self, state, step):
        self.states.append(state)

    def newest(self):
        return self.states[-1] if self.states else None


class Swallows(Mine):
    def save(self, state, step):
        with contextlib.suppress(Exception):
            Mine.save(self, state, step)


def stops_at_damage(self):
    entries = self.entries()
    if not entries:
        return None
    if not self.is_whole(entries[-1]):
        raise ValueError("damaged")
    return torch.load(self.folder / entries[-1][0])


def gives_up(self):
    entries = self.entries()
    whole = entries and self.is_whole(entries[-1])
    return torch.load(self.folder / entries[-1][0]) if whole else None


def only_the_model(self, state, step):
    Mine.save(self, {"model": state["model"], "step": step}, step)


def pops(self, state, step):
    Mine.save(self, state, step)
    state.pop("place")


@pytest.mark.parametrize("answer", [Checkpoints, Mine, mine(suffix=".bin")])
def test_right_answers_pass_however_they_are_written(answer):
    assert check_checkpoints(answer) == "right"


@pytest.mark.parametrize(("answer", "words"), [
    (OneFile, "the folder holds 1 of the states"),
    (InMemory, "a new object finds nothing"),
    (Direct, "takes up half a file; write to another name"),
    (Swallows, "saved without a word"),
    (mine(newest=lambda self: torch.load(self.folder / self.entries()[-1][0])),
     "an empty folder is no error: return None: it stops with IndexError"),
    (mine(sort=staticmethod(str)), "compare numbers"),
    (mine(entries=lambda self: Mine.entries(self)[::-1]), "8, not 10"),
    (mine(save=Mine.write), "the folder holds 3 of the states"),
    (mine(is_whole=lambda self, entry: True), "keep a hash of each file"),
    (mine(newest=stops_at_damage), "pass it over for the one before"),
    (mine(newest=gives_up), "should return step 9"),
    (mine(save=only_the_model), "is not the state as it was saved"),
    (mine(save=pops), "save changed the state"),
    (mine(newest=None), "it stops with TypeError"),
    (type("Nameless", (), {"__init__": lambda self, folder: None}), "has no 'newest'"),
    (Mine.save, "hand over the class"),
])
def test_a_mistake_is_named(answer, words, diagnosed):
    diagnosed(check_checkpoints, answer, words)
