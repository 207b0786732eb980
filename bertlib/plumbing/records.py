"""Files of plain values: JSON, sealed where this project writes it, read by a schema.

A seal is the beginning of a SHA-256 of all else that a file, or a line of it, says: what was
changed since, by a bad disk or by hand, is told and never used.
"""

import json
from pathlib import Path
from typing import Any, TextIO, TypeVar

import msgspec

from bertlib.plumbing.files import InputError, atomic_write, note, read_bytes, sha256

T = TypeVar("T")
SEAL = "seal"
MOST_BYTES = 64 << 20  # of a file of plain values
BOM = b"\xef\xbb\xbf"  # which some editors put first


class Missing(InputError):
    """There is no such file."""


def sealed(values: dict[str, Any]) -> dict[str, Any]:
    """`values` and, last, their seal; one that they had is renewed.

    Raises `ValueError` if they are not JSON: NaN and infinities are not.
    """
    plain = {name: value for name, value in values.items() if name != SEAL}
    content = json.dumps(plain, sort_keys=True, allow_nan=False)
    return plain | {SEAL: sha256(content.encode())[:16]}


def write_json(path: Path, values: dict[str, Any], is_sealed: bool = True) -> None:
    """Write plain values with their seal, all or nothing."""
    content = json.dumps(sealed(values) if is_sealed else values, indent=1)
    with atomic_write(path) as stream:
        stream.write(content.encode())


def read_json(path: Path, kind: type[T], remedy: str, is_sealed: bool = True) -> T:
    """What a JSON file says, as a `kind`: dict[str, Any], or a class whose fields have types.

    Raises `Missing`, or `InputError` with the `remedy` (what to do, as in "repair it") if the file
    cannot be read, is not JSON, says something of another type, or if its seal is missing or
    broken. For files of others, which have none, pass is_sealed=False.
    """
    try:
        content = _content(path).removeprefix(BOM)
        return _parse(content, kind, is_sealed)
    except OSError as error:
        raise InputError(f"Cannot read '{path}' ({error.strerror}); {remedy}.") from None
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"'{path}' is damaged, or no such file as belongs there ({error}); "
                         f"{remedy}.") from None


def _content(path: Path) -> bytes:
    try:
        return read_bytes(path, MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise Missing(f"There is no file '{path}'; check the path.") from None


def _parse(content: bytes, kind: type[T], is_sealed: bool) -> T:
    """`content` as a `kind`; `ValueError` or `RecursionError` if it is none."""
    values = msgspec.json.decode(content)
    if is_sealed:
        values = msgspec.convert(values, dict[str, Any])
        if values.get(SEAL) != sealed(values)[SEAL]:
            raise ValueError("it was changed: its seal is broken" if SEAL in values else
                             "it has no seal")
        del values[SEAL]
    return msgspec.convert(values, kind)


def open_lines(path: Path) -> TextIO:
    """Open a file to append whole lines; one that a crash cut off at its end is taken away."""
    with path.open("a+b") as stream:
        stream.seek(0)
        whole = 1 + stream.read().rfind(b"\n")
        stream.truncate(whole)
    return path.open("a", encoding="utf-8", buffering=1)


def append_record(stream: TextIO, values: dict[str, Any]) -> None:
    """Write one record with its seal as a line; in a stream of `open_lines`, at once."""
    stream.write(json.dumps(sealed(values), ensure_ascii=False) + "\n")


def add_record(path: Path, values: dict[str, Any]) -> None:
    """Append one record to a file that holds a line for each."""
    with open_lines(path) as stream:
        append_record(stream, values)


def read_records(path: Path, kind: Any) -> list[dict[str, Any]]:
    """The records of a file, a line each, as plain values that fit `kind`.

    A last line that a crash cut off is left out, and said. Raises `Missing`, or `InputError` that
    names the line if one is damaged.
    """
    *lines, cut = _content(path).split(b"\n")
    if cut:
        note(f"the last line of '{path}' was cut off and is left out")
    records = []
    for number, line in enumerate(lines, 1):
        try:
            values = _parse(line, dict[str, Any], is_sealed=True)
            msgspec.convert(values, kind)
        except (ValueError, RecursionError) as error:
            raise InputError(f"Line {number:,} of '{path}' is damaged ({error}); take it "
                             "out.") from None
        records.append(values)
    return records
