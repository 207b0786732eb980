"""Progress is told where people look, and stored as a few lines at most."""

import json
import os
import pty
import subprocess
import sys
import termios

import nbformat
import pytest
import torch

from bertlib.plumbing.files import PROJECT
from bertlib.plumbing.runlog import TimeLeft, progress_bar

RUN = """
import torch
from bertlib.plumbing.runlog import progress_bar
now = 0
with progress_bar(0, 1e6, torch.device("cpu"), torch.float32, True, lambda: now) as advance:
    for step in range(1, 601):
        now += 1
        advance(step / 600, step, 5_000 * step, now, loss=3.4 if step > 9 else None, accuracy=0.4)
"""  # ten minutes, by a clock of its own


def run(command: list[str], folder, **changes: str) -> str:
    """What the command writes to the terminal, both streams."""
    env = {name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"}
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, env=env | {"PYTHONPATH": str(PROJECT)} | changes)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def notebook(tmp_path):
    cell = nbformat.v4.new_code_cell(RUN)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "in.ipynb")
    return tmp_path


PAPERMILL = [sys.executable, "-m", "papermill", "in.ipynb", "out.ipynb", "-k", "python3"]
NBCONVERT = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "in.ipynb",
             "--output", "out.ipynb"]


def outputs(folder) -> list[dict]:
    return json.loads((folder / "out.ipynb").read_text("utf-8"))["cells"][0]["outputs"]


def test_papermill_stores_a_line_a_minute_and_passes_it_on(notebook):
    told = run([*PAPERMILL, "--log-output"], notebook)
    stored = outputs(notebook)
    assert {output["name"] for output in stored} == {"stdout"}
    lines = "".join("".join(output["text"]) for output in stored).splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("step 1, accuracy 40.0%, 5,000 tokens/s")
    assert lines[3].startswith("step 181, loss 3.400, accuracy 40.0%, 5,000 tokens/s")
    assert [line.split(", ")[-1] for line in lines[1:]] == [
        *(f"{n} minutes left" for n in range(9, 1, -1)), "less than a minute left"]
    assert all(line in told for line in lines)


def test_nbconvert_stores_the_same_few_lines(notebook):
    run(NBCONVERT, notebook)
    assert len("".join("".join(output["text"]) for output in outputs(notebook)).splitlines()) == 10


def test_a_live_notebook_keeps_one_line(notebook):
    run(PAPERMILL, notebook, JPY_SESSION_NAME="07_pretrain.ipynb")
    [output] = outputs(notebook)
    assert output["data"]["text/plain"][0].startswith("step 600, loss 3.400, accuracy 40.0%")


def test_a_pipe_gets_lines_and_stderr_nothing(tmp_path):
    assert len(run([sys.executable, "-c", RUN], tmp_path).splitlines()) == 10


def test_a_terminal_sees_one_line_that_is_rewritten(tmp_path):
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, 80))
    process = subprocess.Popen([sys.executable, "-c", RUN], stdout=subprocess.PIPE, stderr=its,
                               env=os.environ | {"PYTHONPATH": str(PROJECT)})
    os.close(its)
    told = b""
    try:
        while part := os.read(ours, 65536):
            told += part
    except OSError:  # how Linux tells the end of a terminal
        pass
    os.close(ours)
    assert process.wait() == 0 and process.stdout.read() == b""
    process.stdout.close()
    assert told.count(b"\n") == 1 and told.count(b"\r") > 100
    last = told.split(b"\r")[-2].decode().rstrip("\n")
    assert last.startswith("100%|") and "step 600, loss 3.400" in last and len(last) <= 80


def test_nothing_is_told_unless_asked(capsys):
    with progress_bar(0, 1, torch.device("cpu"), torch.float32, show=False) as advance:
        advance(0.5, 1, 1, 1.0, loss=None)
    assert capsys.readouterr() == ("", "")


def test_time_left_counts_from_the_first_call_on():
    now = iter([100, 160, 400])
    left = TimeLeft(lambda: next(now))
    assert left(0.5) == ""  # goes on in the middle; what came before does not count
    assert left(0.6) == "4 minutes left"
    assert left(0.51) == "4 hours left"
