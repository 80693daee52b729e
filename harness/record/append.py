"""A file that one process appends to, whatever else happens to the descriptors of that process."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from harness.descriptors import Descriptor
from harness.errors import RecordError
from harness.regular import mode_beside

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
_ATTEMPTS = 5
"""So often a write begins again because another thread closed the descriptor in its middle."""
_LOCK_PAUSES = 20
_LOCK_PAUSE_SECONDS = 0.05
"""A program that is just being started still shares the lock for a moment."""


class AppendFile:
    """Locked against every other writer as long as it is open. Not thread-safe.

    The descriptor may be closed under it, and its number may then belong to somebody else: it is opened
    again by its path, and nothing is written before it is known to be the same file, as long as it should be.
    The lock (``flock``) lies on the open file, so it goes with the descriptor and is taken again with it.
    """

    def __init__(self, path: Path, *, create: bool) -> None:
        """Raises RecordError when it cannot be opened, or another process writes it."""
        try:
            self.path = path.resolve()  # a test may change the working directory
            self._descriptor = self._opened(_FLAGS | (os.O_CREAT if create else 0))
        except OSError as error:
            raise RecordError(f"{path} could not be opened: {error}") from error
        self._inode = _inode(self._descriptor.number())

    def size(self) -> int:
        """Its bytes now. Raises RecordError when it was lost and cannot be taken up again."""
        try:
            return self._again(lambda number: os.fstat(number).st_size)
        except OSError as error:
            raise RecordError(f"{self.path} has no readable size: {error}") from error

    def append(self, data: bytes, *, at: int) -> None:
        """Write ``data`` behind the ``at`` bytes that the file must have, and have it on disk.

        Raises RecordError before anything is written, OSError when it is unknown how much was.
        """
        done = 0
        while done < len(data):
            done += self._again(lambda number: os.write(number, data[done:]), at + done)  # noqa: B023  called at once
        self._again(os.fsync, at + done)

    def cut(self, size: int) -> None:
        """Shorten it to ``size`` bytes. Raises RecordError."""
        try:
            os.ftruncate(self._number(), size)
        except OSError as error:
            raise RecordError(f"{self.path} could not be shortened: {error}") from error

    def close(self) -> None:
        """Close it, and the lock with it; safe to call twice."""
        self._descriptor.close()

    def _again(self, use: Callable[[int], int | None], size: int | None = None) -> int:
        """What ``use`` returns of a descriptor of the file, while it is ``size`` bytes long."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                number = self._number()
                have = os.fstat(number).st_size
                if size is not None and have != size:
                    raise RecordError(
                        f"{self.path} is {have} bytes long, not {size}: another process wrote to it"
                    )
                return use(number) or 0
            except OSError as error:
                if error.errno != errno.EBADF or attempt == _ATTEMPTS:
                    raise
        raise AssertionError("the loop returns or raises")

    def _number(self) -> int:
        if not self._descriptor.held:
            self._take_up()
        return self._descriptor.number()

    def _take_up(self) -> None:
        self._descriptor.close()
        try:
            self._descriptor = self._opened(_FLAGS, pauses=_LOCK_PAUSES)
        except OSError as error:
            if error.errno == errno.EBADF:
                raise  # closed once more at this very moment
            raise RecordError(
                f"{self.path} was closed by other code in this process and could not be opened again: {error}"
            ) from error
        if _inode(self._descriptor.number()) != self._inode:
            self._descriptor.close()
            raise RecordError(f"{self.path} was replaced by another file during the run")

    def _opened(self, flags: int, *, pauses: int = 0) -> Descriptor:
        new = not self.path.exists()
        descriptor = Descriptor(os.open(self.path, flags, 0o600)).not_for_forks()
        if new:
            os.fchmod(descriptor.number(), mode_beside(self.path.parent))
        try:
            self._lock(descriptor, pauses)
        except BaseException:
            descriptor.close()
            raise
        return descriptor

    def _lock(self, descriptor: Descriptor, pauses: int) -> None:
        for left in range(pauses, -1, -1):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor.number(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            if left:
                time.sleep(_LOCK_PAUSE_SECONDS)
        raise RecordError(
            f"{self.path} is being written by another process",
            remedy="wait for that run, or end its process; then resume it",
        )


def _inode(number: int) -> tuple[int, int]:
    found = os.fstat(number)
    return found.st_dev, found.st_ino
