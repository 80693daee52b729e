"""Looking again and again until something is there, in one place.

Written here: ``tenacity`` stops by a clock of its own, which no test can move, and imports asyncio, which a
keeper of processes has no time for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Waits(Protocol):
    """A clock that can wait: ``harness.ports.Clock``, or the module ``time``."""

    def monotonic(self) -> float:
        """Seconds that never go backwards."""

    def sleep(self, seconds: float, /) -> None:
        """Wait."""


def wait_for(
    look: Callable[[], T | None],
    *,
    seconds: float,
    every: float,
    clock: Waits = time,
    waiting: Callable[[], None] | None = None,
) -> T | None:
    """What ``look`` returns that is not None, asked every ``every`` seconds; None after ``seconds``.

    It is asked at least once, and once more when the time is over. ``waiting`` is called before each pause.
    """
    until = clock.monotonic() + seconds
    while True:
        late = clock.monotonic() >= until
        found = look()
        if found is not None or late:
            return found
        if waiting is not None:
            waiting()
        clock.sleep(every)
