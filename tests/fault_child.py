"""Children of one warm process, which may be killed: each costs milliseconds, not an import.

The process that forks them computes nothing itself, so that no thread is lost in a fork.
"""

import contextlib
import json
import os
import re
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from bertlib.plumbing.commands import run_command

Tell = Callable[[str, Any], None]  # how a child tells its parent a thing by name, as it happens
ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ROOM = 1 << 30  # bytes that a child may take beyond what its parent holds
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link",
           "os.symlink", "os.chmod", "os.utime")
TRACEBACK = "Traceback (most recent call last)"
PLACE = re.compile(r'File ".*/(bertlib/.*\.py)", line (\d+)')
ANYWHERE = re.compile(r'File ".*?/([^/]*/[^/]*\.py)", line (\d+)')
RAISED = re.compile(r"^([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit)\b.*)", re.MULTILINE)


class Outcome(NamedTuple):
    """How a child ended: exit status, negative after a signal, None if it hung and was killed."""

    code: int | None
    said: str  # on stdout and stderr
    told: list[tuple[str, Any]]

    def all(self, name: str) -> list[Any]:
        """Everything that was told by that name."""
        return [value for key, value in self.told if key == name]

    @property
    def result(self) -> Any:
        """What the job returned; None if it did not."""
        return next(iter(reversed(self.all("result"))), None)

    def raised(self) -> str:
        """The error of a traceback, the line of bertlib that it came through last, its words."""
        trace = self.said[self.said.rindex(TRACEBACK):]
        error, places = RAISED.search(trace), PLACE.findall(trace) or ANYWHERE.findall(trace)
        where = f" in {places[-1][0]}, line {places[-1][1]}" if places else ""
        name, _, words = (error[1] if error else "Traceback").partition(": ")
        return f"{name}{where}: {shown(words or last_line(trace))}"

    def complaint(self, *fine: int) -> str:
        """What is wrong with how it ended, and after a colon the details; empty if nothing is.

        All is well after 0, 2, 130 or a `fine` status. A status of 2 must come with one sentence:
        one line, without control characters.
        """
        if self.code is None:
            return "hangs"
        if TRACEBACK in self.said:
            return self.raised()
        if self.code not in (0, 2, 130, *fine):
            return f"exit status {self.code}: {last_line(self.said)}"
        if self.code == 2:
            sentence = ("\n" + self.said).partition("\nerror: ")[2]
            odd = [c for c in sentence.removesuffix("\n") if ord(c) < 32 or 127 <= ord(c) < 160]
            if not sentence.strip() or odd:
                return f"no sentence of one line: {shown(sentence)}"
        return ""


def last_line(said: str) -> str:
    """The last line of what was said, in short."""
    lines = [line for line in said.splitlines() if line.strip()]
    return shown(lines[-1]) if lines else "nothing was said"


def shown(text: str, most: int = 160) -> str:
    """A text in one printable line, without its middle if it is long."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text.strip())
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


class Child:
    """A process that does `job(tell)` as a command does: its errors become sentences.

    room: bytes of memory that it may take; largest: bytes that a file may have.
    """

    is_loud = False  # whether what children say is printed, too

    def __init__(self, job: Callable[[Tell], Any], room: int = ROOM, largest: int | None = None):
        (self._said, said), (self._told, told) = os.pipe(), os.pipe()
        sys.stdout.flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, ASKING)  # none comes before the job, or after it
        self.pid = os.fork()
        if self.pid == 0:
            _live(job, said, told, room, largest)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKING)
        os.close(said)
        os.close(told)

    def send(self, number: int) -> None:
        """Send it a signal, if it still lives."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def end(self, seconds: float = 60) -> Outcome:
        """Wait for its end; it is killed when the seconds are over."""
        content, code = self._listen(time.monotonic() + seconds)
        if code is None:
            self.send(signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        for handle in (self._said, self._told):
            os.close(handle)
        said, told = (content[handle].decode(errors="replace")
                      for handle in (self._said, self._told))
        if self.is_loud:
            print(f"--- status {status}\n{said}", file=sys.stderr)
        lines = [json.loads(line) for line in told.splitlines(keepends=True) if line[-1] == "\n"]
        return Outcome(None if code is None else status, said,
                       [(name, value) for name, value in lines])

    def _listen(self, until: float) -> tuple[dict[int, bytearray], int | None]:
        """Read both pipes to their ends; (content of each, None if time was over before)."""
        content = {self._said: bytearray(), self._told: bytearray()}
        open_ones = set(content)
        while open_ones:
            ready, _, _ = select.select(list(open_ones), [], [], max(0, until - time.monotonic()))
            if not ready:
                return content, None
            for handle in ready:
                part = os.read(handle, 1 << 16)
                content[handle] += part
                if not part:
                    open_ones.remove(handle)
        return content, 0


def attempt(job: Callable[[Tell], Any], seconds: float = 60, **limits: int) -> Outcome:
    """Do a job in a child to its end."""
    return Child(job, **limits).end(seconds)


def _live(job: Callable[[Tell], Any], said: int, told: int, room: int,
          largest: int | None) -> None:
    """The whole life of a child; it never returns."""
    code = 1
    try:
        for number in ASKING:  # as in a terminal, also where this program runs in the background
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for standard in (1, 2):
            os.dup2(said, standard)
        sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False, errors="backslashreplace")
        limit(resource.RLIMIT_AS, used() + room)
        if largest is not None:
            limit(resource.RLIMIT_FSIZE, largest)

        def tell(name: str, value: Any) -> None:
            os.write(told, (json.dumps([name, value]) + "\n").encode())

        def work() -> None:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKING)
            tell("result", job(tell))
            signal.pthread_sigmask(signal.SIG_BLOCK, ASKING)

        code = run_command(work)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def limit(what: int, value: int) -> None:
    """Lower a limit of this process."""
    resource.setrlimit(what, (value, resource.getrlimit(what)[1]))


def used() -> int:
    """Bytes of address space that this process takes."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


class Trap:
    """Counts the changes that this process makes to the files in a folder; one of them kills it.

    `before`: the number of the change before which it dies, from 1; 0: it only counts. What
    TensorBoard appends is not counted: it does so in a thread, at no fixed moment.
    """

    def __init__(self, folder: Path, before: int = 0):
        self.folder, self.before, self.count = str(folder), before, 0
        sys.addaudithook(self)

    def __call__(self, event: str, values: tuple) -> None:
        if event != "open" and event not in CHANGES:
            return
        path = values[0]
        if event == "open" and not (isinstance(values[2], int) and values[2] & WRITES):
            return
        if isinstance(path, int) or self.folder not in os.fsdecode(path):
            return
        if "events.out" in os.fsdecode(path):
            return
        self.count += 1
        if self.count == self.before:
            os.kill(os.getpid(), signal.SIGKILL)
