"""File locks between processes: a killed holder frees its lock, and no lock file is left behind."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_POLL_SECONDS = 0.1
_REMIND_SECONDS = 30.0


@contextlib.contextmanager
def locked(path: Path, waiting: Callable[[float], None]) -> Iterator[None]:
    """Hold an exclusive lock named ``path``; the kernel frees it if this process dies.

    ``waiting`` is called with the seconds waited so far, at once when another process holds the lock and
    every half minute after. The file is removed at the end, so that nothing is left behind: whoever waited
    on the removed file notices and takes the new one.
    """
    # Imported where it is used: it takes as long as the command line does.
    from filelock import FileLock, Timeout  # noqa: PLC0415

    path.parent.mkdir(parents=True, exist_ok=True)
    # Never a soft lock, which a killed holder keeps.
    lock = FileLock(path, mode=0o600, fallback_to_soft=False)
    began, patience = time.monotonic(), 0.0
    while not lock.is_locked:
        try:
            lock.acquire(timeout=patience, poll_interval=_POLL_SECONDS)
        except Timeout:
            waiting(time.monotonic() - began)
            patience = _REMIND_SECONDS
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()
