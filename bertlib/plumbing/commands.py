"""Commands: how they read options, and how they end."""

import argparse
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from bertlib.plumbing.files import InputError, short

REMEDIES = {
    errno.ENOSPC: "free some space", errno.EDQUOT: "free some space",
    errno.EFBIG: "files may not grow as large here; choose another folder",
    errno.EACCES: "choose a place that you may use", errno.EPERM: "choose a place that you may use",
    errno.EROFS: "choose a place that can be written to",
    errno.ENOENT: "check that it and its folder are there",
}


class Parser(argparse.ArgumentParser):
    """A command's options; an error is an `InputError` of one sentence, not a page of usage."""

    def __init__(self, **how: Any):
        super().__init__(allow_abbrev=False,
                         formatter_class=argparse.RawDescriptionHelpFormatter, **how)

    def error(self, message: str) -> NoReturn:
        """`InputError` with argparse's own words."""
        raise InputError(f"{message[:1].upper()}{message[1:]}; --help tells all options.")


def run_command(main: Callable[[], object]) -> int:
    """Call `main`; returns exit status 0, or another with one sentence on stderr.

    2: an `InputError`, or a file that could not be used (`OSError`). 130: an interrupt, as shells
    have it, so that `&&` does not go on; its sentence may say what to do next. Letters that the
    output cannot show, in a file's name say, are written out.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr has it
    threading.excepthook = _in_thread
    if (threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.SIG_DFL):  # see `bertlib`
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main()
        if sys.stdout is not None:  # as it is if it was closed
            sys.stdout.flush()
    except InputError as error:
        return _end(2, f"error: {error}")
    except OSError as error:
        return _end(2, f"error: {_told(error)}")
    except KeyboardInterrupt as interrupt:
        advice = str(interrupt) or "no file is left half written; start the same command again"
        return _end(130, f"\ninterrupted; {advice}.")
    return 0


def _end(status: int, sentence: str) -> int:
    """Say it on stderr; what is full or closed is not tried again, as Python would at its end."""
    for stream, last in ((sys.stdout, ""), (sys.stderr, f"{sentence}\n")):
        if stream is None:
            continue
        try:
            stream.write(last)
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return status


def _in_thread(args: threading.ExceptHookArgs) -> None:
    """TensorBoard's thread hands its `OSError` to the main one, which tells it."""
    if not issubclass(args.exc_type, OSError):
        threading.__excepthook__(args)


def _told(error: OSError) -> str:
    """The file, what is wrong with it, and what helps: one sentence."""
    reason = error.strerror or str(error) or type(error).__name__
    where = "A file" if error.filename is None else short(os.fsdecode(error.filename), limit=400)
    remedy = REMEDIES.get(error.errno or 0, "check that place")
    return f"{where} cannot be read or written ({reason}); {remedy}, then start again."
