"""The controller's own directory for a run's keys. A killed controller leaves it; a later one removes it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "shakedown-keys-"
_OWNER = "owner"
"""A file in the directory that its owner keeps locked: the kernel frees it when that process ends, by any
signal, and nobody else can. It gets this name only when it is locked, so a free one has no owner any more. A
directory without it is just being made, or is not ours: it stays."""


@contextmanager
def private_directory(parent: Path | None = None) -> Iterator[Path]:
    """A directory that only this user can read, gone with the block; those of dead owners beside it go first.

    ``parent`` is the system's directory for temporary files unless given.
    """
    beside = Path(tempfile.gettempdir()) if parent is None else parent
    _remove_ownerless(beside)
    with contextlib.ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=beside))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        unnamed = directory / f"{_OWNER}.new"
        owner = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        stack.callback(os.close, owner)
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unnamed.rename(directory / _OWNER)
        yield directory


def _remove_ownerless(parent: Path) -> None:
    """Remove what killed controllers of this user left in ``parent``; what cannot be removed stays."""
    for directory in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if directory.is_symlink() or directory.lstat().st_uid != os.geteuid():
                continue
            owner = os.open(directory / _OWNER, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)
            finally:
                os.close(owner)
