"""A file of another machine that comes over as it grows, whatever becomes of the connection meanwhile."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Protocol

from harness.backends.stream import follow_file
from harness.errors import HarnessError
from harness.ports import Transport

_LOOK_SECONDS = 5.0
_LAST_LOOK_SECONDS = 100.0
"""Longer than opening a connection may take."""


class Stream(Protocol):
    """A command whose output grows a local file while it lives."""

    @property
    def alive(self) -> bool:
        """Whether it still runs."""

    @property
    def full(self) -> bool:
        """Whether the file holds all that it may."""

    def close(self) -> None:
        """End it."""


class StreamingTransport(Transport, Protocol):
    """A transport that can also let a command's output flow into a local file."""

    def stream(self, argv: tuple[str, ...], path: Path) -> Stream:
        """Start it; what it prints is appended to ``path``."""


class Following:
    """``remote`` flows into ``path`` until ``close``. A stream that broke is taken up again at the byte where
    it ended: a burn takes hours, and a machine that dies at its end must not take with it all that came after
    a lost connection."""

    def __init__(
        self,
        connection: StreamingTransport,
        remote: str,
        path: Path,
        *,
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        """Raises TransportError when it cannot be begun."""
        self._connection, self._remote, self._path = connection, remote, path
        self._look_seconds = look_seconds
        self._stream = connection.stream(follow_file(remote), path)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name=f"following {remote}", daemon=True)
        self._thread.start()

    @property
    def full(self) -> bool:
        """Whether the file holds all that it may: what came after that is lost."""
        return self._stream.full

    def close(self) -> None:
        """Let it end; safe to call twice."""
        self._ended.set()
        self._thread.join(_LAST_LOOK_SECONDS)
        self._stream.close()

    def _look(self) -> None:
        while not self._ended.wait(self._look_seconds):
            if not self._stream.alive and not self._stream.full:
                # What stands in the way now (a full disk, no more descriptors) may be gone next time.
                with contextlib.suppress(HarnessError, OSError):
                    self._take_up()

    def _take_up(self) -> None:
        self._stream.close()
        have = self._path.stat().st_size if self._path.exists() else 0
        self._stream = self._connection.stream(follow_file(self._remote, have), self._path)
