"""The cache of built images: one directory per recipe hash, whole or not there at all.

``<cache>/<kind>/<hash>/`` holds a finished build. A build happens in ``<hash>.building`` beside it under a
lock and is renamed when complete, so a killed build is never used: the next builder kills what is still
running of it, clears it and starts again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from harness.errors import ImageError
from harness.images.locks import locked
from harness.images.processes import reap

_MIB = 1024 * 1024


def cache_root() -> Path:
    """``$SHAKEDOWN_CACHE``, else ``$XDG_CACHE_HOME/shakedown``, else ``~/.cache/shakedown``."""
    override = os.environ.get("SHAKEDOWN_CACHE")
    if override:
        return Path(override).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache").absolute() / "shakedown"


def recipe_hash(*parts: str | bytes) -> str:
    """24 hex digits over all inputs of a build; each part is length-prefixed so that none can run over."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode()
        digest.update(f"{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()[:24]


def find(kind: str, digest: str, *, root: Path | None = None) -> Path | None:
    """The finished entry, or None when it was not built yet."""
    entry = (root or cache_root()) / kind / digest
    return entry if entry.is_dir() else None


def ensure(
    kind: str,
    digest: str,
    build: Callable[[Path], None],
    progress: Callable[[str], None],
    *,
    need_mib: int = 0,
    root: Path | None = None,
) -> Path:
    """The cache entry ``kind``/``digest``, built by ``build(empty directory)`` when it is not there.

    Two builders of one entry never collide: the second waits and takes the result of the first. Raises
    ImageError when fewer than ``need_mib`` MiB are free, and whatever ``build`` raises; nothing of a failed
    build stays except the names of its processes in the error.
    """
    entry = (root or cache_root()) / kind / digest
    if entry.is_dir():
        os.utime(entry)
        return entry
    _make_private(entry.parent)

    def waiting(seconds: float) -> None:
        progress(f"waiting for another process that builds {kind} {digest} ({seconds:.0f} s)")

    with locked(entry.with_name(f"{digest}.lock"), waiting):
        if entry.is_dir():
            return entry
        work = entry.with_name(f"{digest}.building")
        _clear(work)
        check_space(entry.parent, need_mib, what=f"building {kind}")
        work.mkdir(mode=0o700)
        try:
            build(work)
            _sync_tree(work)
            work.rename(entry)
        except BaseException:
            _clear(work)
            raise
        _sync(entry.parent)
    return entry


def discard(kind: str, digest: str, progress: Callable[[str], None], *, root: Path | None = None) -> None:
    """Remove an entry, so that the next ``ensure`` builds it again; absent is fine."""
    entry = (root or cache_root()) / kind / digest
    _make_private(entry.parent)

    def waiting(seconds: float) -> None:
        progress(f"waiting for another process that uses {kind} {digest} ({seconds:.0f} s)")

    with locked(entry.with_name(f"{digest}.lock"), waiting):
        if entry.is_dir():
            work = entry.with_name(f"{digest}.building")
            _clear(work)
            entry.rename(work)
            _clear(work)


def prune(
    kind: str, progress: Callable[[str], None], *, unused_days: float = 14.0, root: Path | None = None
) -> None:
    """Remove entries of ``kind`` not asked for in ``unused_days`` days: recipes change, disks fill."""
    parent = (root or cache_root()) / kind
    limit = time.time() - unused_days * 86400
    for entry in sorted(parent.iterdir()) if parent.is_dir() else ():
        if entry.is_dir() and not entry.suffix and entry.stat().st_mtime < limit:
            progress(f"removing {kind} {entry.name}, unused for {unused_days:.0f} days")
            discard(kind, entry.name, progress, root=root)


class _HeldError(Exception):
    """Another process holds the lock."""


def clear_abandoned(progress: Callable[[str], None], *, root: Path | None = None) -> None:
    """Stop and remove builds whose builder was killed; one that a living process works on is left alone."""

    def held(seconds: float) -> None:
        raise _HeldError(seconds)

    for work in sorted((root or cache_root()).glob("*/*.building")):
        with contextlib.suppress(_HeldError), locked(work.with_suffix(".lock"), held):
            progress(f"clearing an abandoned build of {work.parent.name}")
            _clear(work)


def check_space(directory: Path, need_mib: int, *, what: str) -> None:
    """Raise ImageError unless the file system of ``directory`` has ``need_mib`` MiB free."""
    free = shutil.disk_usage(directory).free // _MIB
    if free < need_mib:
        raise ImageError(
            f"{what} needs {need_mib} MiB in {directory}, only {free} MiB are free",
            remedy="free some space, or point SHAKEDOWN_CACHE at a larger disk",
        )


def remove_tree(path: Path) -> None:
    """Remove a directory tree that we made; absent is fine.

    Refuses (ImageError) when something is mounted below it: removing would reach into what is mounted.
    """
    if not path.exists():
        return
    mounted = _mounts_below(path)
    if mounted:
        raise ImageError(
            f"{mounted[0]} is still mounted below {path}, which is to be removed",
            remedy=f"umount {' '.join(mounted)}",
        )
    shutil.rmtree(path)


def _mounts_below(path: Path) -> list[str]:
    prefix = f"{path.resolve()}/"
    lines = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    points = [line.split()[4].encode("latin-1", "replace").decode("unicode_escape") for line in lines]
    return [point for point in points if point.startswith(prefix)]


def _clear(work: Path) -> None:
    reap(work)
    remove_tree(work)


def _make_private(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ImageError(
            f"{directory}: the cache cannot be made: {error.strerror or error}",
            remedy="set SHAKEDOWN_CACHE to a directory you may write to",
        ) from error


def _sync_tree(directory: Path) -> None:
    for parent, _, files in os.walk(directory):
        for name in files:
            path = Path(parent) / name
            if path.is_file() and not path.is_symlink():
                _sync(path)
        _sync(Path(parent))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
