"""What a reader asks for, in a notebook or on the command line: taken as meant, or refused."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from IPython.core.interactiveshell import InteractiveShell

from bertlib import parameters
from bertlib.parameters import (
    as_text,
    base_folder,
    choose_preset,
    command_request,
    notebook_settings,
    watch_cells,
)
from bertlib.plumbing.files import PROJECT, InputError

NOTEBOOK = json.loads((PROJECT / "notebooks" / "07_pretrain.ipynb").read_text("utf-8"))
LAST = "settings = Settings.make("  # of the cells that read the parameters


@pytest.fixture
def papermill(tmp_path):
    """Run the first cells of notebook 07 by papermill with `options`: the process, the cells."""
    cells = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    last = [LAST in "".join(cell["source"]) for cell in cells].index(True)
    told = "print(preset, base, label, resume, settings.max_iters)"
    more = {"cell_type": "code", "id": "told", "metadata": {}, "outputs": [],
            "execution_count": None, "source": told}
    (tmp_path / "in.ipynb").write_text(json.dumps(NOTEBOOK | {"cells": [*cells[:last + 1], more]}))

    def run(*options):
        command = [sys.executable, "-m", "papermill", "in.ipynb", "out.ipynb", *map(str, options)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True,
                              env=os.environ | {"PYTHONPATH": str(PROJECT)})
        return done, json.loads((tmp_path / "out.ipynb").read_text("utf-8"))["cells"]
    return run


def test_papermill_s_numbers_are_taken_as_the_text_that_was_meant(papermill, tmp_path):
    (tmp_path / "5").mkdir()
    done, cells = papermill("-p", "base", 5, "-p", "label", 103, "-p", "max_iters", 7)
    assert done.returncode == 0
    assert cells[-1]["outputs"][0]["text"] == [f"smoke {tmp_path / '5'} 103 auto 7\n"]


@pytest.mark.parametrize(("name", "value", "sentence"), [
    ("_i3", 2, "There is no parameter '_i3'."),
    ("learning_rate", "inf", "The setting learning_rate is inf; it must be a finite number."),
    ("resume", True, "The setting resume is True; it must be auto, never or a run's name"),
])
def test_papermill_stops_with_one_line_in_the_cell(papermill, name, value, sentence):
    done, cells = papermill("-p", name, value)
    errors = [output for cell in cells for output in cell.get("outputs", [])
              if output["output_type"] == "error"]
    assert done.returncode != 0 and len(errors) == 1
    [line] = errors[0]["traceback"]
    assert line.startswith(f"InputError: {sentence}") and "\n" not in line
    assert cells[-1]["outputs"] == []  # what stands after it did not run


def settings_after(*cells: str, history: bool = True) -> dict:
    """What a notebook's parameters are after IPython ran these cells."""
    shell = InteractiveShell()
    watch_cells(shell)
    for cell in cells:
        shell.run_cell(cell, store_history=history)
    return notebook_settings(shell.user_ns)


PLACES = 'preset, base, label, resume = "auto", None, "english", "auto"'
PAPERMILL = "# Parameters\n"


def test_settings_are_read_from_the_parameters_cell_and_those_after_it():
    assert settings_after("import json", PLACES) == {}
    own = settings_after("x = 1", f"{PLACES}\nseed = 3", "max_iters: int = 2 * 4")
    assert own == {"seed": 3, "max_iters": 8}
    injected = f"{PAPERMILL}{PLACES}\nbeta1 = 0.5"
    assert settings_after(f"{PLACES}\nseed = 3", injected) == {"seed": 3, "beta1": 0.5}
    assert settings_after(PLACES, "%matplotlib -l\nseed = 4", history=False) == {"seed": 4}
    with pytest.raises(InputError, match="No cell that sets preset, base, label, resume has run"):
        settings_after("seed = 3")


@pytest.mark.parametrize(("name", "hint"), [
    ("_seed", "Did you mean 'seed'"), ("max_iter", "Did you mean 'max_iters'"), ("_", "Known"),
    ("_i", ""), ("_i2", ""), ("_dh", ""), ("json", ""), ("bases", "Did you mean 'base'"),
])
def test_an_unknown_parameter_is_refused_whatever_else_has_that_name(name, hint):
    with pytest.raises(InputError, match=f"There is no parameter '{name}'. .*{hint}"):
        settings_after("import json", PLACES, f"{PAPERMILL}{name} = 2")


def test_cells_that_run_again_ask_anew():
    ask = "from bertlib.parameters import *\nnotebook_settings(globals())"
    first = ["import json", f"{PLACES}\nmax_iters = 7", ask, "device = seed = json"]
    assert settings_after(*first) == {"max_iters": 7}  # only the asking cell again
    assert settings_after(*first, f"{PLACES}\nheads = 8") == {"heads": 8}


@pytest.mark.parametrize("value", [True, None, 1.5, "", [1]])
def test_what_is_no_text_is_refused_by_name_and_value(value):
    for name in ("preset", "base", "label", "resume"):
        with pytest.raises(InputError, match=f"The setting {name} is .*; it must be ") as caught:
            as_text(name, value)
        assert f" is {value!r};" in str(caught.value)


def test_auto_chooses_a_preset():
    assert choose_preset("cpu") == "cpu"
    assert choose_preset("auto") == "smoke"  # pytest sets BERTLIB_PRESET
    with pytest.raises(InputError, match="must be auto or one of cuda, "):
        choose_preset(True)


def test_a_base_folder_starts_where_the_reader_is(tmp_path, monkeypatch):
    (tmp_path / "movies").mkdir()
    monkeypatch.chdir(tmp_path)
    assert base_folder("movies") == base_folder(tmp_path / "movies") == tmp_path / "movies"
    assert base_folder() == PROJECT / "wiki"  # wherever one is
    with pytest.raises(InputError, match=f"none at '{tmp_path}/films' .a relative name starts at"):
        base_folder("./films")
    monkeypatch.chdir(PROJECT / "notebooks")
    assert base_folder("assets") == PROJECT / "assets"
    with pytest.raises(InputError, match=f"none at '{PROJECT}/movies'"):
        base_folder("movies")
    for strange in ("x" * 10**6, "a\0b"):
        with pytest.raises(InputError, match="The setting base is '.*none at "):
            base_folder(strange)


def test_without_the_course_s_folders_the_command_says_so(tmp_path):
    shutil.copytree(PROJECT / "bertlib", tmp_path / "bertlib",
                    ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run([sys.executable, "-m", "bertlib.pretrain", "--preset", "smoke"],
                          cwd=tmp_path, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "error: bertlib is installed apart from the course's folders; install it with "
        "pip install -e . in the clone, or pass --base FOLDER.")


@pytest.mark.parametrize(("arguments", "words"), [
    (["--beta1", 2], "The option --beta1 is 2.0; it must be at least 0 and below 1"),
    (["--learning-rate", "inf"], "The option --learning-rate is inf; it must be a finite number"),
    (["--learning-rate", "fast"], "The option --learning-rate is 'fast'; it must be a number"),
    (["--seed", "1e3"], "The option --seed is '1e3'; it must be a whole number"),
    (["--seed", "9" * 5000], "--seed is '9999"), (["--seed"], "Argument --seed: expected one"),
    (["--compile", 1], "The option --compile is '1'; it must be True or False"),
    (["--base", ""], "The option --base is ''; it must be the name of a folder"),
    (["--base", "none"], "The option --base is 'none'; .* none at '/.*/none' .a relative name"),
    (["--label", ""], "The option --label is ''"), (["--preset", ""], "The option --preset is ''"),
    (["--heads", 3], "The option --heads is 3; .* choose 1, 2, 4, 8, 16, 32, 64"),
    (["--d-model", 31], "The setting heads is 2; it must divide d_model, 31"),
    (["smoke"], "There is no option 'smoke'"), (["--see", 3], "Did you mean '--seed'"),
])
def test_the_command_refuses_in_one_sentence(arguments, words, refused):
    def main(arguments):
        command_request("", ["--preset", "smoke", *arguments])
    assert re.search(words, refused(main, *arguments))


def test_a_command_line_is_taken_as_meant(base):
    asked = command_request("", ["--preset", "smoke", "--base", str(base), "--label", "103",
                                 "--compile", "TRUE", "--seed", "7", "--dropout", "0"])
    assert (asked.label, asked.base, asked.preset) == ("103", base, "smoke")
    assert (asked.settings.compile, asked.settings.seed, asked.settings.dropout) == (True, 7, 0.0)
    assert asked.settings.heads == 2 and asked.resume == "auto"


def test_help_tells_where_a_relative_base_starts(capsys):
    with pytest.raises(SystemExit):
        command_request("", ["--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert parameters.RULE in told.replace("- ", "-")
