"""The middle of a burn: the moment at which something is done once, beside a load that runs if it can be."""

from __future__ import annotations

from collections.abc import Callable

from harness.ports import Clock


class Midway:
    """``act`` once, when half of a burn is over: half of its time, or half of its loads if it has none."""

    def __init__(self, act: Callable[[], None], clock: Clock, *, seconds: float, loads: int) -> None:
        """``seconds`` is the burn time that is demanded, 0 for one round of ``loads`` loads."""
        self._act = act
        self._clock = clock
        self._begun = clock.monotonic()
        self._seconds = seconds
        self._loads = loads
        self._started = 0
        self._done = False

    def load_starts(self) -> None:
        """One more load begins."""
        self._started += 1

    def pass_by(self) -> None:
        """Do it now if it is due. Called while loads run, and between them."""
        if not self._done and self._due():
            self._done = True
            self._act()

    def _due(self) -> bool:
        if self._seconds > 0:
            return self._clock.monotonic() - self._begun >= self._seconds / 2
        return 2 * self._started >= self._loads
