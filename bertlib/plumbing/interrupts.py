"""Ctrl-C that loses nothing: a signal asks a run to end after the step that it is in."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP")
           if hasattr(signal, name)]  # Windows has no SIGHUP
BOUNCE = 1.0  # seconds in which a second signal is the same key press, or its echo


@contextmanager
def asks_to_stop(stop: Callable[[], None], clock: Callable[[], float] = time.monotonic
                 ) -> Iterator[None]:
    """Call `stop` at the first Ctrl-C, SIGTERM or closed terminal; the same again ends at once.

    A terminal sends Ctrl-C to all its processes, and some pass it on: within a second of the first
    one it counts as one. Another signal is no impatience: Jupyter sends SIGTERM to a kernel some
    seconds after Ctrl-C, whatever it is at. Outside the main thread signals are left alone, and so
    is one that is ignored, as after `nohup`.
    """
    first: dict[int, float] = {}

    def handle(number: int, _frame: object) -> None:
        if not first:
            stop()
        if clock() - first.setdefault(number, clock()) > BOUNCE:
            signal.signal(number, previous[number])
            signal.raise_signal(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: handler for number in SIGNALS
                if (handler := signal.getsignal(number)) != signal.SIG_IGN}
    try:
        for number in previous:
            signal.signal(number, handle)
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def held_back() -> Iterator[None]:
    """An interrupt in this block is raised at its end, for code that one in its midst confuses."""
    asked: list[bool] = []
    with asks_to_stop(lambda: asked.append(True)):
        yield
    if asked:
        raise KeyboardInterrupt
