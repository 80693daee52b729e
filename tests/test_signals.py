"""Signals that end a run do so by way of its releases, once, and leave the process as they found it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from harness.signals import ending_as_interrupt

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _usual() -> Iterator[None]:
    """Signals with their usual effect, also where the tests were started with one ignored (``nohup``)."""
    before = {each: signal.getsignal(each) for each in ENDING}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for each in ENDING[1:]:
        signal.signal(each, signal.SIG_DFL)
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


def kill(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", ENDING)
def test_a_polite_kill_ends_the_block_as_ctrl_c_does(number) -> None:
    said: list[str] = []
    before = {each: signal.getsignal(each) for each in ENDING}
    with pytest.raises(KeyboardInterrupt), ending_as_interrupt(said.append) as endings:
        kill(number)
    assert endings.came == [number.name]
    assert said == [f"{number.name}: releasing everything before the end; this cannot be interrupted"]
    assert {each: signal.getsignal(each) for each in ENDING} == before


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_that_is_ignored_stays_ignored(number) -> None:
    """``nohup shakedown qualify`` goes on when its terminal closes."""
    signal.signal(number, signal.SIG_IGN)
    with ending_as_interrupt(lambda _line: None) as endings:
        kill(number)
    assert endings.came == []
    assert signal.getsignal(number) is signal.SIG_IGN


@pytest.mark.parametrize("second", ENDING)
def test_a_second_signal_does_not_end_what_gives_everything_back(second) -> None:
    done = []

    def killed_twice() -> None:
        try:
            kill(signal.SIGTERM)
        finally:
            kill(second)
            done.append("given back")

    with pytest.raises(KeyboardInterrupt), ending_as_interrupt(lambda _line: None) as endings:
        killed_twice()
    assert done == ["given back"]
    assert endings.came == ["SIGTERM"]


def test_a_block_without_a_signal_leaves_everything_as_it_was() -> None:
    before = {each: signal.getsignal(each) for each in ENDING}
    with ending_as_interrupt(lambda _line: None) as endings:
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert endings.came == []
    assert {each: signal.getsignal(each) for each in ENDING} == before


def test_outside_the_main_thread_the_callers_own_handling_stays() -> None:
    seen = []

    def elsewhere() -> None:
        with ending_as_interrupt(lambda _line: None) as endings:
            seen.append((endings.came, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(10.0)
    assert seen == [([], signal.SIG_DFL)]
