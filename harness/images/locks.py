"""File locks between processes: a killed holder frees its lock, and no lock file is left behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
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
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _acquire(path, waiting)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(path: Path, waiting: Callable[[float], None]) -> int:
    began = time.monotonic()
    next_report = 0.0
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if _try_lock(descriptor) and _still_named(descriptor, path):
            return descriptor
        os.close(descriptor)
        waited = time.monotonic() - began
        if waited >= next_report:
            waiting(waited)
            next_report = waited + _REMIND_SECONDS
        time.sleep(_POLL_SECONDS)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _still_named(descriptor: int, path: Path) -> bool:
    """Whether the locked file is still the one under this name, not one that its last holder removed."""
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    held = os.fstat(descriptor)
    return (held.st_dev, held.st_ino) == (named.st_dev, named.st_ino)
