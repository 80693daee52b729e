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

from harness.cleanups import Cleanups
from harness.descriptors import Descriptor
from harness.identity import LONGEST_BIRTH, as_written, boot_id, is_here, is_running, written_down

PREFIX = "shakedown-keys-"
_OWNER = "owner"
"""A file in the directory that its owner keeps locked: the kernel frees it when that process ends, by any
signal. It gets this name only when it is locked. A directory without it is just being made, or is not ours:
it stays. A test in the owner's process may close the file, which frees the lock; so the file also says which
process that is, and while that one lives the directory stays too."""


@contextmanager
def private_directory(parent: Path | None = None) -> Iterator[Path]:
    """A directory that only this user can read, gone with the block; those of dead owners beside it go first.

    ``parent`` is the system's directory for temporary files unless given. A fork removes nothing.
    """
    beside = (Path(tempfile.gettempdir()) if parent is None else parent).absolute()
    _remove_ownerless(beside)
    with Cleanups() as stack:
        directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=beside))
        stack.callback(_remove_here, directory, os.getpid())
        directory.chmod(0o700)  # whatever the umask is
        unnamed = directory / f"{_OWNER}.new"
        owner = Descriptor(os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        stack.callback(owner.close)
        owner.not_for_forks()
        os.fchmod(owner.number(), 0o600)
        fcntl.flock(owner.number(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        owner.write(written_down().encode())
        unnamed.rename(directory / _OWNER)
        yield directory


def _remove_here(directory: Path, pid: int) -> None:
    if os.getpid() == pid:
        shutil.rmtree(directory, ignore_errors=True)


def _owned_by_the_dead(said: str) -> bool:
    """Whether the process that a file names has ended; False for one of another container on this machine,
    whose numbers mean nothing here. Raises ValueError or IndexError for other text."""
    owner = as_written(said)
    return owner.boot_id != boot_id() or (is_here(owner) and not is_running(owner))


def _remove_ownerless(parent: Path) -> None:
    """Remove what killed controllers of this user left in ``parent``; what cannot be removed stays."""
    for directory in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if directory.is_symlink() or directory.lstat().st_uid != os.geteuid():
                continue
            with Descriptor(os.open(directory / _OWNER, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)) as owner:
                fcntl.flock(owner.number(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _owned_by_the_dead(owner.read(LONGEST_BIRTH).decode("utf-8", "replace")):
                    shutil.rmtree(directory, ignore_errors=True)
