"""What every module shares: errors that help, and writing that loses nothing."""

import difflib
import hashlib
import os
import reprlib
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

PROJECT = Path(__file__).resolve().parents[2]  # the folder that holds bertlib/ and notebooks/


MOST_LETTERS = 2_000  # of a message; beyond that its middle is left out


class InputError(ValueError):
    """Something the user gave is wrong; the message names it and the remedy in one sentence.

    Of a message that quotes an endless value only the beginning and the end are kept; control
    characters and half characters, in names of files say, are written out.
    """

    def __init__(self, message: str):
        message = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)
        if (more := len(message) - MOST_LETTERS) > 0:
            half = MOST_LETTERS // 2
            message = f"{message[:half]} [{more:,} letters left out] {message[-half:]}"
        super().__init__(message)

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows instead of a traceback, which would tell the reader nothing."""
        return [f"InputError: {self}"]


def short(value: object, limit: int = 80) -> str:
    """`value` as Python writes it, for a message; if longer than `limit`, without its middle."""
    brief = reprlib.Repr()
    brief.maxstring = brief.maxother = brief.maxlong = limit
    brief.maxlist = brief.maxtuple = brief.maxset = brief.maxdict = brief.maxlevel = 2
    try:
        return brief.repr(value)
    except ValueError:  # Python writes out no whole number of more than 4,300 digits
        return "a number of thousands of digits"


def note(message: str) -> None:
    """Tell the user on stderr what is not as it should be, and what is done about it."""
    print(f"note: {message}", file=sys.stderr, flush=True)


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


def check_new_folder(folder: Path) -> None:
    """`InputError` if something has that name already, or if nothing can be written beside it."""
    if folder.exists():
        raise InputError(f"'{folder}' is there already; choose another folder, or remove it.")
    check_output_folder(folder.parent)


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Write a binary file so that `path` holds all of it or is left as it was.

    The bytes go to a temporary file in the same folder, reach the disk (fsync) and are renamed
    over `path`. On an error the temporary file is removed and the old file stays; an `OSError`
    then names `path`, as most do not (a full disk) or name the temporary file.
    """
    path = Path(path)
    try:
        with _replacement(path) as stream:
            yield stream
    except OSError as error:
        if error.errno is not None and (error.filename is None or _is_temporary(path, error)):
            error.filename, error.filename2 = str(path), None
        raise


def _is_temporary(path: Path, error: OSError) -> bool:
    return Path(os.fsdecode(error.filename)).name.startswith(f".{path.name}.")


@contextmanager
def _replacement(path: Path) -> Iterator[BinaryIO]:
    stream, temporary = _temporary(path)
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):  # its folder may be gone; the first error is the one to tell
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def _temporary(path: Path) -> tuple[BinaryIO, Path]:
    """A new file beside `path`, locked while it is open, so that `clear_leftovers` leaves it."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        stream = os.fdopen(handle, "wb")
        lock(stream)
        if os.fstat(handle).st_nlink:  # nobody cleared it before it was locked
            return stream, Path(name)
        stream.close()


def clear_leftovers(folder: Path, *names: str) -> None:
    """Remove what processes that were killed left of files of these names; * stands for any."""
    for path in (path for name in names for path in Path(folder).glob(f".{name}.????????.tmp")):
        with suppress(OSError), path.open("r+b") as stream:
            if lock(stream):
                path.unlink()


def lock(stream: BinaryIO) -> bool:
    """Lock an open file, until it is closed or its process ends; False if another one has it."""
    try:
        if sys.platform == "win32":
            import msvcrt
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def check_own_files(folder: Path) -> None:
    """`InputError` if `folder`, or a folder in it, holds anything but files and folders.

    A link may lead anywhere, and whoever opens a pipe waits.
    """
    for path in (*folder.glob("*"), *folder.glob("*/*")):
        if path.is_symlink():
            raise InputError(f"'{path}' is a link, which could lead out of '{folder}'; put the "
                             "file itself there.")
        if not (path.is_file() or path.is_dir()):
            raise InputError(f"'{path}' is no regular file; remove it.")


@contextmanager
def open_regular(path: Path, max_bytes: int) -> Iterator[BufferedReader]:
    """Open a regular file of at most `max_bytes` to read.

    Raises `InputError` for another kind of file or a larger one; `OSError` passes.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:  # without O_NONBLOCK, a pipe would let us wait
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"'{path}' is no regular file; pass one.")
        if found.st_size > max_bytes:
            raise InputError(f"'{path}' has {found.st_size:,} bytes, more than the {max_bytes:,} "
                             "that such a file may have; check what it is.")
        with open(handle, "rb", closefd=False) as stream:
            yield stream
    finally:
        os.close(handle)


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """The bytes of a file, which is opened as `open_regular` does."""
    with open_regular(path, max_bytes) as stream:
        return stream.read()


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # Windows cannot open a folder; its rename is durable enough
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(content: bytes | memoryview) -> str:
    """SHA-256 of `content` as 64 hexadecimal letters."""
    return hashlib.sha256(content).hexdigest()
