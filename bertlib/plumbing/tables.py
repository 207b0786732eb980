"""Tables of texts and labels: CSV, TSV, JSON Lines (packed or not) and parquet, row by row.

In CSV a field may stand in quotes; in TSV a quote is a letter like any other, as in GLUE's files.
"""

import csv
import json
import math
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bertlib.plumbing.files import InputError, nearest, short
from bertlib.plumbing.lines import PACKED, read_lines
from bertlib.plumbing.texts import LONGEST_RECORD, RECORDS, check_characters

DELIMITERS = {".csv": ",", ".tsv": "\t"}
PARQUET = ".parquet"
MOST_CLASSES = 1_000
WHOLE = re.compile(r"-?\d{1,18}")


class Row(NamedTuple):
    """One or two texts and what is said of them, as it is written; place: for messages."""

    place: str
    texts: tuple[str, ...]
    label: str = ""


def read_rows(path: Path, texts: Sequence[str], label: str | None = None) -> list[Row]:
    """The rows of a table: what the columns `texts` and `label` (none if None) hold.

    Raises `InputError`, which names the file and line, for a table that cannot be read, has no
    rows, lacks a column, or holds an empty text or label.
    """
    path, rows = Path(path), []
    for place, record in _records(path):
        for name in (*texts, *(() if label is None else (label,))):
            if name not in record:
                raise InputError(f"{place} has no column '{name}'. {nearest(name, record)}")
        for name in texts:
            if not isinstance(value := record[name], str) or not value.strip():
                raise InputError(f"{place} has no text in the column '{name}' but {short(value)}; "
                                 "fill it in or take the row out.")
            check_characters(value, f"{place},")
        said = "" if label is None else _label(record[label], f"{place}, column '{label}'")
        rows.append(Row(place, tuple(record[name] for name in texts), said))
    if not rows:
        raise InputError(f"'{path}' holds no rows; pass a table with some.")
    return rows


def _label(value: Any, place: str) -> str:
    """A label as text; `InputError` if there is none."""
    said = str(value).strip() if isinstance(value, str | int | float) else ""
    if not said or value != value:  # NaN is not equal to itself
        raise InputError(f"{place} holds no label but {short(value)}; fill it in or take the row "
                         "out.")
    check_characters(said, f"{place},")
    return said


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, values by column) of each row."""
    if not path.is_file():
        raise InputError(f"There is no file '{path}'; check the path.")
    *_, kind = ("", *(s.lower() for s in path.suffixes if s.lower() not in PACKED))
    if kind == PARQUET:
        return _parquet(path)
    if kind in RECORDS:
        return _objects(path)
    if kind in DELIMITERS:
        return _separated(path, DELIMITERS[kind])
    raise InputError(f"The table '{path}' has an unknown ending; use one of "
                     f"{', '.join((*DELIMITERS, *RECORDS, PARQUET))}.")


def _separated(path: Path, delimiter: str) -> Iterator[tuple[str, dict[str, Any]]]:
    number = 0  # of the line that was read last

    def lines() -> Iterator[str]:
        nonlocal number
        for number, line in read_lines(path, LONGEST_RECORD):  # noqa: B007 (nonlocal)
            yield line

    reader = csv.reader(lines(), delimiter=delimiter, strict=True,
                        quoting=csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL)
    try:
        names = next(reader, [])
        if twice := [name for name in names if names.count(name) > 1]:
            raise InputError(f"'{path}' names two columns {short(twice[0])}; rename one.")
        for fields in filter(None, reader):
            place = f"'{path}', line {number:,}"
            if len(fields) != len(names):
                raise InputError(f"{place} has {len(fields)} fields, but the first line names "
                                 f"{len(names)} columns; put texts with a separator in quotes.")
            yield place, dict(zip(names, fields, strict=True))
    except csv.Error as error:
        raise InputError(f"'{path}', line {number:,} is no row of a table ({error}); check its "
                         "quotes.") from None


def _objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in read_lines(path, LONGEST_RECORD):
        if line.isspace():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise InputError(f"'{path}', line {number:,} is no JSON object; write one a line.")
        yield f"'{path}', line {number:,}", record


def _parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise InputError(f"To read '{path}' the package pyarrow is needed, which is not installed; "
                         "install it, or save the table as CSV.") from None
    try:
        records = parquet.read_table(path).to_pylist()
    except (ArrowException, OSError) as error:
        raise InputError(f"'{path}' is no parquet file that can be read ({short(str(error))}); "
                         "save it again.") from None
    for number, record in enumerate(records, 1):
        yield f"'{path}', row {number:,}", record


# -- labels --------------------------------------------------------------------------------


def class_names(rows: Iterable[Row]) -> tuple[str, ...]:
    """All labels, whole numbers by their value, words by the alphabet.

    `InputError` unless there are two, and not more than a thousand.
    """
    names = {row.label for row in rows}
    if len(names) < 2:
        raise InputError(f"All rows have the label {short(next(iter(names), ''))}; pass rows of "
                         "two classes or more.")
    if len(names) > MOST_CLASSES:
        raise InputError(f"There are {len(names):,} labels, more than {MOST_CLASSES:,} classes; "
                         "choose another column, or pass --regression for numbers.")
    whole = all(WHOLE.fullmatch(name) for name in names)
    return tuple(sorted(names, key=lambda name: (int(name) if whole else 0, name)))


def class_numbers(rows: Iterable[Row], names: Sequence[str]) -> list[int]:
    """Each row's class, by its place in `names`; `InputError` that names a label not there."""
    numbers = {name: number for number, name in enumerate(names)}
    for row in rows:
        if row.label not in numbers:
            raise InputError(f"{row.place} has the label {short(row.label)}, which no row to train "
                             f"on has. {nearest(row.label, names)}")
    return [numbers[row.label] for row in rows]


def values(rows: Iterable[Row]) -> list[float]:
    """Each row's label as a number; `InputError` that names one that is no finite number."""
    found = []
    for row in rows:
        try:
            found.append(float(row.label))
        except ValueError:
            found.append(math.nan)
        if not math.isfinite(found[-1]):
            raise InputError(f"{row.place} has the label {short(row.label)}, which is no finite "
                             "number; write one such as 3.5, or take the row out.")
    return found


def hold_out(rows: Sequence[Row], seed: int, regression: bool = False) -> tuple[list[Row], ...]:
    """(rows to train on, a tenth to validate on) by a draw; each class keeps a row to train on.

    `InputError` if nothing is left to validate on.
    """
    order = random.Random(seed).sample(range(len(rows)), len(rows))
    kept = {"" if regression else rows[number].label: number for number in order}
    free = [number for number in order if kept["" if regression else rows[number].label] != number]
    held = set(free[: max(1, len(rows) // 10)])
    if not held:
        raise InputError(f"Of {len(rows)} rows none can be held out; pass more, or rows to "
                         "validate on.")
    return ([row for number, row in enumerate(rows) if number not in held],
            [row for number, row in enumerate(rows) if number in held])
