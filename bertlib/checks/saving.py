"""The checker of checkpoints, which notebook 06 builds: whole files, the newest few, damage."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from bertlib.checks import checker, require
from bertlib.checks.calling import Answer, NotYet, alike, ask, copied, method

LARGE = 20_000  # bytes; a state has more, an index fewer


def state_of(step: int) -> dict[str, Any]:
    """A state of a run, with 40 KB of weights."""
    draw = torch.Generator().manual_seed(step)
    return {"model": {"weight": torch.randn(100, 100, generator=draw)}, "step": step,
            "place": {"epoch": step // 3, "row": 7}}


def contents(folder: Path) -> dict[str, bytes]:
    """Name -> content of the large files in a folder, however deep."""
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and path.stat().st_size > LARGE}


def _newest(answer: Answer, folder: Path, words: str) -> Any:
    """What a new object finds in the folder; if it stops: `NotYet(words)`, and why."""
    try:
        return ask(method(ask(answer, folder), "newest"))
    except NotYet as stop:
        raise NotYet(f"{words}: {stop}") from stop


@checker
def check_checkpoints(answer: Answer) -> None:
    """The class Checkpoints(folder, keep=2): save(state, step), newest() -> a state, or None.

    The newest `keep` states lie in the folder; each was written whole or is not there. A damaged
    one is passed over for the one before. States are dictionaries of tensors and plain values.
    """
    require(isinstance(answer, type), "hand over the class itself, not an object of it")
    with TemporaryDirectory() as name:
        folder = Path(name) / "checkpoints"
        folder.mkdir()
        require(_newest(answer, folder, "an empty folder is no error: return None") is None,
                "in an empty folder there is no newest state: return None")
        kept = ask(answer, folder)
        for step in (8, 9, 10):
            before, state = contents(folder), state_of(step)
            ask(method(kept, "save"), state, step)
            require(alike(state, state_of(step)), "save changed the state")
            state["model"]["weight"].zero_()  # training goes on in the same tensors
        _judge_found(answer, folder, ask(method(kept, "newest")))
        _judge_half(answer, folder)
        _judge_damage(answer, folder, before)


def _judge_found(answer: Answer, folder: Path, found: Any) -> None:
    """The newest of three, by the object that saved it and by a new one; two are left."""
    new = _newest(answer, folder, "a new object stops at the folder of an old one")
    require(new is not None, "a new object finds nothing: it begins in another process, so it must "
            "look into the folder")
    for one, who in ((found, "the object that saved it"), (new, "a new object")):
        require(isinstance(one, dict), f"newest() of {who} returns {type(one).__name__}, not the "
                "state")
        require(one.get("step") != 9, f"newest() of {who} returns step 9, not 10: as texts '9' is "
                "the larger; compare numbers")
        require(one.get("step") == 10, f"newest() of {who} returns step {one.get('step')}, not 10")
        require(alike(one, state_of(10)), f"newest() of {who} is not the state as it was saved"
                + ("; training goes on in the same tensors" if one is found else ""))
    files = len(contents(folder))
    require(files == 2, f"after three saves the folder holds {files} of the states; the newest two "
            "should lie there" + (": a damaged one needs one before it" if files < 2 else ""))


def _judge_half(answer: Answer, folder: Path) -> None:
    """A save that breaks off leaves the old states as they are."""
    def torn() -> None:
        """Nobody can pickle a function of a function."""

    try:
        ask(method(ask(answer, folder), "save"), {**state_of(11), "torn": torn}, 11)
    except NotYet:
        pass
    else:
        raise NotYet("a state that cannot be written was saved without a word")
    words = "a save broke off, and newest() takes up half a file; write to another name, then "
    found = _newest(answer, folder, words + "os.replace")
    require(isinstance(found, dict) and found.get("step") == 10 and alike(found, state_of(10)),
            "after a save that broke off newest() should still return step 10")


def _judge_damage(answer: Answer, folder: Path, before: dict[str, bytes]) -> None:
    """A changed byte in the newest file is noticed."""
    changed = [path for path, content in contents(folder).items() if before.get(path) != content]
    require(len(changed) >= 1, "no file changed with the last save")
    latest = Path(max(changed, key=os.path.getmtime))
    content = bytearray(latest.read_bytes())
    content[len(content) // 2] ^= 1
    latest.write_bytes(content)
    found = _newest(answer, folder, "a byte of the newest file is another one, and newest() stops; "
                    "pass it over for the one before")
    require(not isinstance(found, dict) or found.get("step") != 10, "a byte of the newest file is "
            "another one, and newest() returns it all the same; keep a hash of each file")
    require(isinstance(found, dict) and alike(found, copied(state_of(9))), "a byte of the newest "
            "file is another one; newest() should return step 9, the one before")
