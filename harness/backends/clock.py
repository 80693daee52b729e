"""The real clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class SystemClock:
    """``harness.ports.Clock`` by this machine's clocks."""

    def monotonic(self) -> float:
        """Seconds that never go backwards; they go on while this machine sleeps, as its wall clock does."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def now(self) -> str:
        """UTC, ISO 8601 with milliseconds and ``Z``."""
        return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def sleep(self, seconds: float) -> None:
        """Wait; nothing to do for zero or less."""
        if seconds > 0:
            time.sleep(seconds)
