"""A short run of the hostile world (tests/faults.py), and whether it sees what it looks for."""

import re
import subprocess
import sys

import pytest

from bertlib.plumbing.files import PROJECT

if sys.platform != "linux":
    pytest.skip("The hostile world needs Linux.", allow_module_level=True)
from fault_child import Outcome

NAMES = ("tried", "lost", "silent", "traceback")


def table(said: str) -> dict[str, dict[str, int]]:
    """The rows of a printed table by their titles; cells without a number, or excused, are 0."""
    rows = [re.split(r" *\| *", line.strip("| ")) for line in said.splitlines() if line[:1] == "|"]
    return {title: {name: int(cell) if cell.isdigit() else 0
                    for name, cell in zip(NAMES, cells, strict=True)}
            for title, *cells in rows[2:]}


@pytest.fixture(scope="module")
def short_run():
    """What a short run of fixed cases prints; its exit status; its table."""
    done = subprocess.run([sys.executable, PROJECT / "tests" / "faults.py", "--minutes", "0.3",
                           "--least", "--seed", "1"], capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout, done.returncode, table(done.stdout)


@pytest.mark.parametrize("column", NAMES[1:])
def test_in_a_hostile_world_nothing_is(short_run, column):
    said, _, rows = short_run
    assert len(rows) >= 35
    assert {title: row[column] for title, row in rows.items() if row[column]} == {}, said


def test_it_ends_as_its_table_says(short_run):
    said, status, rows = short_run
    assert "is found out" in said
    assert status == int(any(row[name] for row in rows.values() for name in NAMES[1:]))


CARELESS = """
import json, sys, faults, fault_fuzz, fault_museum
from bertlib import pretrain

def begin(base):
    return lambda draw: draw.choice((1 / draw.choice((0, 1)), "a lie"))

def all_lines(base):
    lines = (base / fault_museum.RUN / "logs" / "metrics.jsonl").read_text(errors="replace")
    return lines.splitlines()

pretrain.go_on = lambda trainer: None
fault_museum.READERS["read_metrics"] = all_lines
fault_museum.READERS["load_page"] = lambda base: json.loads((base / "page.json").read_bytes())
fuzz = faults.Kind("fuzz-x", "raising", fault_fuzz.batch("fuzz-x", 9, begin), 1, 1)
faults.KINDS[:] = [kind for kind in faults.KINDS if kind.key in ("kill-change", "damage-logs")]
faults.KINDS.append(fuzz)
sys.exit(faults.main(["--minutes", "0.5", "--least"]))
"""


def test_careless_programs_are_found_out():
    """One that begins anew, a reader that believes all, one that raises: each has its column."""
    done = subprocess.run([sys.executable, "-c", CARELESS], cwd=PROJECT / "tests",
                          capture_output=True, text=True)
    kills, logs, fuzz = table(done.stdout).values()
    assert done.returncode == 1, done.stderr
    assert kills["lost"] and logs["silent"] and logs["traceback"], done.stdout
    assert fuzz["traceback"] and fuzz["silent"], done.stdout
    assert "the next start began at 0" in done.stdout and "ZeroDivisionError" in done.stdout


@pytest.mark.parametrize(("code", "said", "complaint"), [
    (0, "", ""), (130, "interrupted", ""), (2, "error: No room; make some.\n", ""),
    (None, "", "hangs"), (1, "what now", "exit status 1: what now"), (-11, "", "exit status -11"),
    (2, "", "no sentence"), (2, "error: two\nlines\n", "no sentence of one line: two\\nlines"),
    (2, "error: \x1b[31mred\n", "no sentence of one line"),
    (1, 'Traceback (most recent call last):\n  File "/a/bertlib/x.py", line 3, in f\nKeyError: 7',
     "KeyError in bertlib/x.py, line 3: 7"),
])
def test_all_but_an_answer_and_a_sentence_is_complained_of(code, said, complaint):
    found = Outcome(code, said, []).complaint()
    assert found.startswith(complaint) and bool(found) == bool(complaint)
