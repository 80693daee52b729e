"""When something came from the host last: a connection that was cut for a while loses nothing and is told."""

from __future__ import annotations

import threading
from pathlib import Path

from harness.model.host_change import HostChange
from harness.ports import Clock
from harness.telemetry.host.table import CONNECTION

_LOOK_SECONDS = 1.0
MOST_SILENCES = 50


class Arrivals:
    """Watches a file grow, in a thread of its own, and keeps the times in which it did not."""

    def __init__(
        self, path: Path, clock: Clock, *, longest: float, look_seconds: float = _LOOK_SECONDS
    ) -> None:
        """``longest`` is for how many seconds nothing may come before it is told."""
        self._path = path
        self._clock = clock
        self._longest = longest
        self._look_seconds = look_seconds
        self._silences: list[HostChange] = []
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def silences(self) -> tuple[HostChange, ...]:
        """Those so far, at most ``MOST_SILENCES``."""
        return tuple(self._silences)

    def begin(self) -> None:
        """The file grows from now on."""
        self._thread = threading.Thread(target=self._look, name="arrivals", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let it end; safe to call twice."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(10.0)

    def _look(self) -> None:
        size, last, wall = -1, self._clock.monotonic(), self._clock.now()
        while not self._ended.wait(self._look_seconds):
            try:
                now = self._path.stat().st_size
            except OSError:
                continue
            if now == size:
                continue
            silent = self._clock.monotonic() - last
            if size >= 0 and silent > self._longest and len(self._silences) < MOST_SILENCES:
                self._silences.append(self._silence(silent, wall))
            size, last, wall = now, self._clock.monotonic(), self._clock.now()

    @staticmethod
    def _silence(seconds: float, since: str) -> HostChange:
        return HostChange(
            what=CONNECTION.name,
            subject="what the host sends",
            before="arrived as it was written",
            after=f"nothing for {seconds:.0f} s from {since} on, then all of it",
            at=None,
            source=CONNECTION.source,
            weight=CONNECTION.weight,
            why=CONNECTION.why,
        )
