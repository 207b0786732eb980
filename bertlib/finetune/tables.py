"""Tables that fine-tuning reads, written from rows."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from bertlib.plumbing.files import atomic_write
from bertlib.plumbing.tables import Row


def write_tables(folder: Path, rows: Mapping[str, Sequence[Row]], place: str = "") -> None:
    """Write NAME.csv of each list of rows of one text: text, label, and the place by that name."""
    folder.mkdir(exist_ok=True)
    for name, its in rows.items():
        table = io.StringIO()
        csv.writer(table).writerows([("text", "label", place)[: 3 if place else 2], *(
            (*row.texts, row.label, row.place)[: 3 if place else 2] for row in its)])
        with atomic_write(folder / f"{name}.csv") as stream:
            stream.write(table.getvalue().encode())
