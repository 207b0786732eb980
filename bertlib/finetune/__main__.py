"""Fine-tune a model on a table of texts and labels, or let it judge new texts.

Example usage:
python -m bertlib.finetune --train reviews.csv --text text --label label --out reviews
python -m bertlib.finetune --model reviews --predict new.csv --text text > answers.jsonl

Tables are CSV, TSV, JSON Lines or parquet. A label is a word or a whole number, or any number
with --regression. For two texts a row pass --text twice, or --pair with the second one's column.
"""

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from bertlib.finetune import Tuning, load, predict, tune
from bertlib.huggingface import MODEL
from bertlib.plumbing.commands import Parser, run_command
from bertlib.plumbing.files import InputError
from bertlib.plumbing.tables import hold_out, read_rows


def parser() -> argparse.ArgumentParser:
    """The command's options: where things are, and one for each of the settings."""
    parse = Parser(prog="bertlib.finetune", description=__doc__)
    add = parse.add_argument
    add("--model", type=Path, default=MODEL, help="a model's folder (default: the course's)")
    add("--train", type=Path, help="the table to learn from")
    add("--val", type=Path, help="a table to validate on (default: a tenth of the rows, drawn)")
    add("--test", type=Path, help="a table to score the result on")
    add("--predict", type=Path, help="a table to judge, by a model that was fine-tuned before")
    add("--text", action="append", help="the column of the text (default: text)")
    add("--pair", help="the column of a second text")
    add("--label", default="label", help="the column of the label (default: label)")
    add("--out", type=Path, help="the folder to make")
    add("--resume", default="auto", help="auto, never, or the path of a run")
    for field in fields(Tuning):
        kind: dict[str, Any] = (dict(action="store_true") if field.type is bool else
                                dict(type=field.type, default=field.default, metavar="VALUE"))
        add(f"--{field.name.replace('_', '-')}", help=f"default {field.default}", **kind)
    return parse


def train(given: argparse.Namespace, texts: list[str]) -> None:
    """Fine-tune as the command line says and print the result."""
    tuning = Tuning(**{field.name: getattr(given, field.name) for field in fields(Tuning)})
    rows = read_rows(given.train, texts, given.label)
    held = f"from '{given.val}'"
    if given.val:
        val = read_rows(given.val, texts, given.label)
    else:
        rows, val = hold_out(rows, tuning.seed, tuning.regression)
        held = f"held out of them by a draw with seed {tuning.seed}"
    test = read_rows(given.test, texts, given.label) if given.test else []
    print(f"{len(rows):,} rows to train on, {len(val):,} to validate on, {held}", flush=True)
    report = tune(given.model, rows, val, given.out, tuning, test, given.resume, progress=True)
    if report is None:
        raise KeyboardInterrupt("all is saved, and the same command goes on from there")
    for name in ("val", "test"):
        found = {key: value for key, value in (report[name] or {}).items() if key != "confusion"}
        told = ", ".join(f"{key} {value:.4g}" for key, value in found.items() if value is not None)
        print(f"{given.out}: {name}: {told}" if found else "", end="\n" if found else "")


def main(arguments: list[str] | None = None) -> None:
    """Fine-tune, or print a JSON line for each row of a table."""
    given = parser().parse_args(arguments)
    if (given.train is None) == (given.predict is None) or (given.train and not given.out):
        raise InputError("Pass either --train with a table and --out with a folder to make, or "
                         "--predict with a table.")
    texts = [*(given.text or ["text"]), *([given.pair] if given.pair else [])]
    if len(texts) > 2:
        raise InputError(f"There are {len(texts)} columns of texts; pass one or two columns.")
    if given.train:
        return train(given, texts)
    rows = [row.texts for row in read_rows(given.predict, texts)]
    for row, answer in zip(rows, predict(*load(given.model), rows), strict=True):
        print(json.dumps(dict(zip(texts, row, strict=True)) | answer._asdict()))
    return None


if __name__ == "__main__":
    sys.exit(run_command(main))
