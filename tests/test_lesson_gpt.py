"""Notebook 10 tells the numbers of its files, and the files are of the runs that it names."""

import json
import math
import re

from bertlib.bench.race import COMMON, ROWS, read_race
from bertlib.bench.texts import HOW, PROMPTS
from bertlib.plumbing.files import PROJECT
from bertlib.plumbing.records import read_json

ASSETS = PROJECT / "assets" / "10_gpt"
NOTEBOOK = PROJECT / "notebooks" / "10_gpt.ipynb"


def cells(kind: str) -> list[dict]:
    stored = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in stored if cell["cell_type"] == kind]


def prose() -> str:
    return "\n\n".join("".join(cell["source"]) for cell in cells("markdown"))


def texts() -> dict:
    return read_json(ASSETS / "texts.json", dict, "make it again")


def first() -> dict[str, dict]:
    return {row["name"]: row for row in read_race(ASSETS / "race.jsonl") if row["seed"] == 1}


def test_the_race_was_run_as_the_command_runs_it():
    rows = read_race(ASSETS / "race.jsonl")
    assert {row["name"] for row in rows if row["seed"] == 1} == {row.name for row in ROWS}
    assert len({(row["name"], row["seed"]) for row in rows}) == len(rows)
    for name in ("steps", "tokens", "parameters", "precision", "machine", "train_tokens", "label"):
        assert len({row[name] for row in rows}) == 1, name
    assert rows[0]["steps"] == COMMON["max_iters"]
    assert all(row["share"] == {one.name: one.share for one in ROWS}[row["name"]] for row in rows)


def test_the_prose_tells_the_losses_of_the_race():
    rows, text = first(), prose()
    every, some = rows["GPT, all graded"], rows["GPT, 15% graded"]
    assert f"{some['val_loss'] - every['val_loss']:.2f} nats" in text
    for row in list(rows.values())[1:]:
        assert f"{row['unigram_loss'] - row['val_loss']:.2f}" in text, row["name"]


def test_the_texts_are_of_the_run_that_is_named():
    run, row = texts()["run"], first()["GPT, all graded"]
    assert (run["steps"], run["tokens"], run["seed"]) == (row["steps"], row["tokens"], 1)
    assert run["objective"] == "next token" and run["parameters"] == row["parameters"]
    assert f"--max-iters {run['steps']}\n" in prose()
    assert f"| {math.exp(run['val_loss']):.0f} |" in prose()
    assert set(texts()["ways"]) == set(HOW)
    assert all(set(way["texts"]) == set(PROMPTS) for way in texts()["ways"].values())


def test_the_change_is_at_most_ten_lines():
    said = ["".join(output.get("text", "")) for cell in cells("code")
            if "unified_diff" in "".join(cell["source"]) for output in cell["outputs"]]
    lines, = (int(found) for text in said for found in re.findall(r"^(\d+) lines$", text, re.M))
    assert 2 <= lines <= 10 and "causal=True" in said[0] and "NextToken" in said[0]
