"""What every module shares: errors that help, and writing that loses nothing."""

import difflib
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

PROJECT = Path(__file__).resolve().parents[1]  # the folder that holds bertlib/ and notebooks/


class InputError(ValueError):
    """Something the user gave is wrong; the message names it and the remedy in one sentence."""


def run_command(main: Callable[[], object]) -> int:
    """Call `main`; exit status 0, or 2 with one sentence on stderr for an `InputError`."""
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint such as ` Did you mean 'dropout'?`, or all the names when none is near."""
    known = sorted(known)
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"Did you mean '{match[0]}'?" if match else f"Known names: {', '.join(known)}."


def check_output_folder(folder: Path) -> Path:
    """`folder` itself, if it exists and can be written to; raises `InputError` if not."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"The output folder '{folder}' does not exist; create it first.")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror
        raise InputError(f"Cannot write to '{folder}' ({reason}); choose another folder.") from None
    return folder


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Write a binary file so that `path` holds all of it or is left as it was.

    The bytes go to a temporary file in the same folder, reach the disk (fsync) and are renamed
    over `path`. On an error the temporary file is removed and the old file stays.
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write plain values, all or nothing."""
    with atomic_write(path) as stream:
        stream.write(json.dumps(values, indent=1).encode())


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # Windows cannot open a folder; its rename is durable enough
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(content: bytes) -> str:
    """SHA-256 of `content` as 64 hexadecimal letters."""
    return hashlib.sha256(content).hexdigest()
