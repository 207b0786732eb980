"""What the reader asks for: the parameters of notebook 07, the options of `pretrain-bert`.

Both are the settings by their names, and where things are: preset, base, label and resume. What
cannot be meant is refused in one sentence that names it as the reader wrote it.
"""

import argparse
import ast
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, fields
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from IPython.core.inputtransformer2 import TransformerManager
from IPython.core.interactiveshell import ExecutionInfo, InteractiveShell

from bertlib.data import EMBEDDED
from bertlib.plumbing.commands import Parser
from bertlib.plumbing.files import PROJECT, InputError, nearest, short
from bertlib.plumbing.runs import Identity, find_run
from bertlib.settings import PRESETS, SettingError, Settings

KINDS: dict[str, Any] = {field.name: field.type for field in fields(Settings)}  # their types
PLACES = {  # what else can be asked for, and what it must be
    "preset": f"must be auto or one of {', '.join(PRESETS)}",
    "base": "must be the name of a folder",
    "label": "must be the label of the datasets, as text",
    "resume": "must be auto, never or a run's name, such as run3",
}
RULE = ("a relative name starts at the current folder, and in the course's notebooks/ at the "
        "folder above it")


@dataclass(frozen=True)
class Request:
    """One run as it was asked for."""

    settings: Settings
    preset: str
    base: Path
    label: str
    resume: str


def as_text(name: str, value: Any) -> str:
    """The value of a name in `PLACES` as text; a whole number, as papermill reads 103, is text too.

    `SettingError` if it is empty or of another type.
    """
    if type(value) is int:
        return str(value)
    if type(value) is not str or not value:
        raise SettingError(name, value, PLACES[name])
    return value


def choose_preset(name: str) -> str:
    """"auto": what BERTLIB_PRESET says (tests set it), `cuda` where there is a GPU, else `cpu`."""
    if (name := as_text("preset", name)) != "auto":
        return name
    return os.environ.get("BERTLIB_PRESET") or ("cuda" if torch.cuda.is_available() else "cpu")


def base_folder(name: str | Path | None = None) -> Path:
    """The base folder of that name; without one it is wiki/ of the course.

    A relative name starts at the current folder, and in the course's notebooks/, where JupyterLab
    runs notebooks, at the folder above it. `InputError` if there is no such folder.
    """
    notebooks = PROJECT / "notebooks"
    if name is None:
        if not notebooks.is_dir():
            raise InputError("bertlib is installed apart from the course's folders; install it "
                             "with pip install -e . in the clone, or pass --base FOLDER.")
        return PROJECT / "wiki"
    start = PROJECT if Path.cwd() == notebooks else Path.cwd()
    given = name if isinstance(name, Path) else as_text("base", name)
    folder = start / os.path.expanduser(given)
    with suppress(OSError, ValueError):  # a name that is too long, or has a null in it
        if folder.is_dir():
            return folder
    raise SettingError("base", str(name), "must be the name of a folder, and there is none at "
                       f"{short(os.path.normpath(folder), limit=400)} ({RULE})")


# -- from a notebook -----------------------------------------------------------------------


_cells: list[str] = []  # what a notebook ran since it called watch_cells


def watch_cells(shell: InteractiveShell) -> None:
    """Remember the text of each cell that a notebook's `shell` runs from now on.

    IPython's own history is not enough: some programs, nbval among them, run cells without it.
    """
    _cells.clear()
    shell.events.register("pre_run_cell", _remember)  # once, however often it is called


def _remember(cell: ExecutionInfo) -> None:
    _cells.append(cell.raw_cell or "")


def notebook_settings(values: dict[str, Any]) -> dict[str, Any]:
    """The settings among a notebook's parameters, whose `values` are in its `globals()`.

    papermill only warns of a parameter that a notebook does not know; this refuses it. Names are
    read from the cells' text, as the values also hold what IPython puts there (_i3, _dh, ...) and,
    when a cell runs again, all that the notebook has made since.
    """
    given = list(_parameters())
    for name in given:
        if name not in KINDS and name not in PLACES:
            raise InputError(f"There is no parameter '{name}'. {nearest(name, [*KINDS, *PLACES])}")
    return {name: values[name] for name in given if name in KINDS and name in values}


def _parameters() -> Iterable[str]:
    """The names set by the latest cell that sets all `PLACES` and by those run right after it.

    papermill's own cell may also set them all: it is one of those after. `InputError` if none does.
    """
    first = [number for number, cell in enumerate(_cells)
             if set(PLACES) <= set(_assigned(cell)) and not cell.startswith("# Parameters\n")]
    if not first:
        raise InputError(f"No cell that sets {', '.join(PLACES)} has run; run all from the top.")
    asking = takewhile(lambda cell: "notebook_settings(" not in cell, _cells[first[-1]:])
    return dict.fromkeys(name for cell in asking for name in _assigned(cell))


def _assigned(cell: str) -> Iterable[str]:
    """The names that a cell's own lines give a value; none if it is no Python and so never ran."""
    with suppress(SyntaxError):
        for line in ast.parse(TransformerManager().transform_cell(cell)).body:  # also %magic
            if isinstance(line, ast.Assign | ast.AnnAssign | ast.AugAssign) and line.value:
                for target in line.targets if isinstance(line, ast.Assign) else [line.target]:
                    yield from (node.id for node in ast.walk(target)
                                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))


# -- from a command line -------------------------------------------------------------------


def parser(about: str) -> argparse.ArgumentParser:
    """The command's options: one for each setting, and where to read and write; all are text."""
    parse = Parser(prog="pretrain-bert", description=about)
    parse.add_argument("--preset", help=f"auto (default), {', '.join(PRESETS)}; a run that is "
                       "resumed by name keeps its own settings")
    parse.add_argument("--base", help=f"the base folder; {RULE} (default: the course's wiki/)")
    parse.add_argument("--label", help=f"of the datasets to train on (default {EMBEDDED})")
    parse.add_argument("--resume", default="auto", help="auto, never, a run's name or its path")
    for name in KINDS:
        parse.add_argument(f"--{name.replace('_', '-')}", metavar="VALUE")
    return parse


def command_request(about: str, arguments: list[str] | None = None) -> Request:
    """What a command line (sys.argv if None) asks for; `about` is told by --help."""
    known, unknown = parser(about).parse_known_args(arguments)
    given = {name: value for name, value in vars(known).items() if value is not None}
    if unknown:
        names = [f"--{name.replace('_', '-')}" for name in vars(known)]
        raise InputError(f"There is no option {short(unknown[0])}. {nearest(unknown[0], names)}")
    try:
        changes = {name: _typed(given[name], kind) for name, kind in KINDS.items() if name in given}
        base, resume = base_folder(known.base), as_text("resume", given["resume"])
        preset, label = choose_preset(given.get("preset", "auto")), given.get("label", EMBEDDED)
        if resume in ("auto", "never") or "preset" in given:
            settings = Settings.make(preset, **changes)
        else:
            run = Identity.read(find_run(base, resume), KINDS)
            preset, label = "", given.get("label", run.label)
            settings = Settings(**run.settings | changes)
        return Request(settings, preset, base, as_text("label", label), resume)
    except SettingError as error:
        if error.name not in given:
            raise
        raise InputError(f"The option --{error.name.replace('_', '-')} is {short(error.value)}; "
                         f"it {error.remedy}.") from None


def _typed(word: str, kind: type) -> Any:
    """`word` as a value of that type; the word itself, which `Settings` refuses, if it is none."""
    if kind is bool:
        return {"true": True, "false": False}.get(word.lower(), word)
    try:
        return kind(word)
    except ValueError:
        return word
