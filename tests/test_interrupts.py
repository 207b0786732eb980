"""Signals: the first one asks, its echo is ignored, a later one ends."""

import signal

import pytest

from bertlib.plumbing.interrupts import BOUNCE, SIGNALS, asks_to_stop, held_back


@pytest.fixture(autouse=True)
def attended():
    """Signals as in a terminal, also where the tests were begun with nohup."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Clock:
    """A clock that the test sets."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_asks_once_and_its_echo_is_the_same(number):
    asked, clock = [], Clock()
    with asks_to_stop(lambda: asked.append(1), clock):
        for _ in range(3):
            signal.raise_signal(number)
        clock.now = 0.9 * BOUNCE
        signal.raise_signal(number)
    assert asked == [1]


def test_a_later_one_ends_at_once():
    asked, clock = [], Clock()
    with pytest.raises(KeyboardInterrupt), asks_to_stop(lambda: asked.append(1), clock):
        signal.raise_signal(signal.SIGINT)
        clock.now = 1.1 * BOUNCE
        signal.raise_signal(signal.SIGINT)
    assert asked == [1]


def test_another_signal_is_no_impatience():
    asked, clock = [], Clock()
    with asks_to_stop(lambda: asked.append(1), clock):
        for number in SIGNALS:
            signal.raise_signal(number)
            clock.now += 2.5 * BOUNCE
    assert asked == [1]


def test_the_handlers_of_before_come_back():
    before = [signal.getsignal(number) for number in SIGNALS]
    with asks_to_stop(lambda: None):
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_what_is_ignored_stays_ignored_as_after_nohup(number):
    before, asked = signal.signal(number, signal.SIG_IGN), []
    try:
        with asks_to_stop(lambda: asked.append(1)):
            signal.raise_signal(number)
    finally:
        signal.signal(number, before)
    assert asked == []


def test_an_interrupt_can_be_held_back_until_the_end_of_a_block():
    done = []
    with pytest.raises(KeyboardInterrupt), held_back():
        signal.raise_signal(signal.SIGINT)
        done.append(1)
    with held_back():
        done.append(2)
    assert done == [1, 2]
