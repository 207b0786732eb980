"""README's section on your own text, as a stranger follows it: from a file to a guess."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import document

from bertlib.plumbing.files import PROJECT

SMALLER = {"--size 8192": "--size 150", "-m 128": "-m 32",
           "--preset cpu": "--preset smoke --max-iters 6 --batch-size 8"}


def run(command: str, folder: Path) -> subprocess.CompletedProcess:
    """A shell command in `folder`, with the commands of this Python first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", "-ec", command], cwd=folder, capture_output=True, text=True,
                          env=os.environ | {"PATH": path, "PYTHONPATH": str(PROJECT)})
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """A folder in which README's commands were followed, at the size of a test; what they said."""
    folder = tmp_path_factory.mktemp("stranger")
    (folder / "reviews.txt").write_text("".join(document(n) for n in range(100, 200)))
    section = (PROJECT / "README.md").read_text(encoding="utf-8").split("## Your own text")[1]
    commands = re.search(r"```\n(.*?)```", section, re.DOTALL)[1]
    for real, small in SMALLER.items():
        assert commands.count(real) == 1
        commands = commands.replace(real, small)
    return folder, [run(command, folder).stdout for command in commands.splitlines()]


def test_the_commands_of_readme_lead_from_a_text_to_a_guess(followed):
    folder, said = followed
    assert len(said) == 5
    assert "150 tokens, uncased" in said[1]
    assert "whole documents" in said[2] and "uncased" in said[2]
    assert "step 6" in said[3]
    assert (folder / "movies" / "runs" / "run0" / "report.json").exists()
    assert len(re.findall(r"\d%", said[4])) >= 5


def test_the_run_folder_answers_wherever_it_was_moved(followed):
    folder, said = followed
    moved = shutil.copytree(folder / "movies" / "runs" / "run0", folder / "given away")
    ask = 'python -m bertlib.predict "the film was [MASK] ." --model "given away"'
    hidden = folder / "movies" / "vocab"
    hidden.rename(folder / "hidden")
    try:
        assert run(ask, folder).stdout == said[4]
        run('python -m bertlib.huggingface "given away" small', folder)
    finally:
        (folder / "hidden").rename(hidden)
    shutil.rmtree(moved)
    assert run(ask.replace("given away", "small"), folder).stdout.count("%") >= 5


def test_notebook_07_works_for_any_base_folder_label_and_vocabulary(followed):
    folder, _ = followed
    run(f"papermill {PROJECT / 'notebooks' / '07_pretrain.ipynb'} out.ipynb --cwd . -p base movies "
        "-p label movies -p preset smoke -p resume never -p max_iters 6 -p batch_size 8", folder)
    report = json.loads((folder / "movies" / "runs" / "run1" / "report.json").read_text())
    assert report["label"] == "movies" and report["steps"] == 6
    samples = (folder / "movies" / "runs" / "run1" / "logs" / "samples.jsonl").read_text()
    assert len(samples.splitlines()) == 5  # steps 0, 1, 2, 4 and 6
