"""Two tasks of GLUE (Wang et al. 2018) from their own files, as tables that fine-tuning reads.

Example usage:
python -m bertlib.finetune.glue CoLA cola
python -m bertlib.finetune --train cola/train.csv --val cola/val.csv --out cola/model

A folder as GLUE deals it out has train.tsv and dev.tsv. SST-2's have a heading, sentence and label;
CoLA's have none, and four columns: source, label, the linguist's star, sentence. Of two classes
the report has Matthews' correlation, which CoLA is scored by. GLUE's test.tsv has no labels.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from bertlib.finetune.tables import write_tables
from bertlib.plumbing.commands import Parser, run_command
from bertlib.plumbing.files import InputError, short
from bertlib.plumbing.lines import read_lines
from bertlib.plumbing.tables import Row

LABELS = {"sst2": ("negative", "positive"), "cola": ("unacceptable", "acceptable")}
FILES = {"train": "train.tsv", "val": "dev.tsv"}
HEADING = ["sentence", "label"]  # of SST-2
LONGEST = 100_000  # characters of a line


def glue_rows(path: Path) -> list[Row]:
    """The rows of one file of SST-2 or CoLA, told apart by the heading; `InputError` if neither."""
    if not path.is_file():
        raise InputError(f"There is no file '{path}'; pass a folder of GLUE's SST-2 or CoLA.")
    rows = list(_rows(path))
    if not rows:
        raise InputError(f"'{path}' holds no rows; get it again.")
    return rows


def _rows(path: Path) -> Iterator[Row]:
    task = "cola"
    for number, line in read_lines(path, LONGEST):
        fields = line.rstrip("\r\n").split("\t")
        if number == 1 and fields == HEADING:
            task = "sst2"
        if line.isspace() or number == 1 and task == "sst2":
            continue
        if task == "sst2" and len(fields) == 2:
            text, label = fields
        elif task == "cola" and len(fields) == 4:
            text, label = fields[3], fields[1]
        else:
            raise InputError(f"'{path}', line {number:,} has {len(fields)} fields, which is no row "
                             "of SST-2 (sentence, label) or CoLA (source, label, star, sentence).")
        if label not in ("0", "1") or not text.strip():
            raise InputError(f"'{path}', line {number:,} has the label {short(label)} and the text "
                             f"{short(text)}; a label is 0 or 1, and a text is not empty.")
        yield Row(f"'{path}', line {number:,}", (text.strip(),), LABELS[task][int(label)])


def main(arguments: list[str] | None = None) -> None:
    """Write train.csv and val.csv: text and label."""
    parse = Parser(prog="bertlib.finetune.glue", description=__doc__)
    parse.add_argument("folder", type=Path, help="of GLUE's SST-2 or CoLA")
    parse.add_argument("out", type=Path, help="the folder of the tables")
    given = parse.parse_args(arguments)
    rows = {split: glue_rows(given.folder / name) for split, name in FILES.items()}
    write_tables(given.out, rows)
    for split, its in rows.items():
        print(f"{given.out / f'{split}.csv'}: {len(its):,} sentences")


if __name__ == "__main__":
    sys.exit(run_command(main))
