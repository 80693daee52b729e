"""Signals that end a run: by way of its releases."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any


@dataclass
class Endings:
    """Signals that asked a run to end."""

    came: list[str] = field(default_factory=list)
    """Names of those that came."""
    held: bool = False
    """Set while everything is given back anyway: then a signal is noted, and breaks nothing off."""


@contextmanager
def ending_as_interrupt(progress: Callable[[str], None]) -> Iterator[Endings]:
    """SIGTERM and SIGHUP end a run as Ctrl-C does: by way of its releases. Once, so that they can finish.

    A signal that is ignored already stays so: that is how ``nohup`` keeps a run alive without its terminal.
    Yields what came.
    """
    endings = Endings()

    def handle(number: int, _frame: FrameType | None) -> None:
        endings.came.append(signal.Signals(number).name)
        progress(f"{endings.came[0]}: releasing everything before the end; this cannot be interrupted")
        for each in caught:
            signal.signal(each, signal.SIG_IGN)
        if not endings.held:
            raise KeyboardInterrupt(endings.came[0])

    ending = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    caught = tuple(each for each in ending if signal.getsignal(each) is not signal.SIG_IGN)
    before: dict[signal.Signals, Any] = {}
    try:
        for each in caught:
            before[each] = signal.signal(each, handle)
    except ValueError:
        # Not the main thread (a test): the caller's own handling stays.
        yield endings
        return
    try:
        yield endings
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
