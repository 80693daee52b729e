"""Files that appear whole or not at all, and their hashes."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

from harness.errors import RecordError
from harness.regular import mode_beside

BEING_WRITTEN = ".writing-"
"""What the name of a file begins with until it is whole."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def safe_name(label: str, *, limit: int = 60) -> str:
    """``label`` as part of a file name: letters, digits, ``.``, ``_`` and ``-`` only; never empty."""
    name = _UNSAFE.sub("-", label).strip("-.")[:limit].rstrip("-.")
    return name or "unnamed"


def check_name(name: str, what: str) -> str:
    """``name`` itself when it may be a directory of a run; raises RecordError otherwise."""
    if not _RUN_NAME.fullmatch(name):
        raise RecordError(
            f"{name[:80]!r} cannot name a {what} directory",
            remedy="use letters, digits, '.', '_' and '-', beginning with a letter or digit",
        )
    return name


def sha256_bytes(data: bytes) -> str:
    """``sha256:<hex>`` of bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def make_folders(path: Path, *, like: Path | None = None) -> None:
    """Make ``path`` and what is missing above it: as open as ``like``, or as the umask says, but for us to
    use in any case and for nobody else to write to. Raises RecordError."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        mode = None if like is None else like.stat().st_mode & 0o755 | 0o700
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            folder.chmod(mode if mode is not None else folder.stat().st_mode & 0o755 | 0o700)
    except OSError as error:
        raise RecordError(f"{path} could not be made: {error}") from error


def sync_directory(path: Path) -> None:
    """Make names created in ``path`` survive a power cut (a rename is durable only after this)."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, data: bytes) -> None:
    """Write ``data`` under a temporary name, fsync, rename. Raises RecordError when the disk refuses."""
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=BEING_WRITTEN)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(mode_beside(path.parent))
        Path(temporary).replace(path)
        sync_directory(path.parent)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise RecordError(
            f"{path} could not be written: {error}", remedy="free disk space or fix the permissions there"
        ) from error
