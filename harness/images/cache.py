"""The cache of built images: one directory per recipe hash, whole or not there at all.

``<cache>/<kind>/<hash>/`` holds a finished build. A build happens in ``<hash>.<chance>.building`` beside it
under a lock and is renamed when complete, so a killed build is never used: the next builder waits until the
keepers of its commands have ended them (``harness.images.processes``), removes it and starts anew elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from harness.cleanups import undone_if_broken
from harness.errors import ImageError
from harness.images.locks import locked
from harness.images.processes import KEPT, as_root_of_own, quiet

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
    build stays, and what of it cannot be removed stands in the notes of that exception.
    """
    entry = (root or cache_root()) / kind / digest
    if entry.is_dir():
        os.utime(entry)
        return entry
    _make_private(entry.parent)

    def waiting(seconds: float) -> None:
        progress(f"waiting for another process to build {kind} {digest} ({seconds:.0f} s)")

    with locked(entry.with_name(f"{digest}.lock"), waiting):
        if entry.is_dir():
            return entry
        _clear_remains(entry, progress)
        check_space(entry.parent, need_mib, what=f"building {kind}")
        work = _workplace(entry)
        with undone_if_broken(lambda: _clear(work)):
            work.mkdir(mode=0o700)
            build(work)
            (work / KEPT).unlink(missing_ok=True)
            _sync_tree(work)
            work.rename(entry)
        _sync(entry.parent)
    return entry


def discard(kind: str, digest: str, progress: Callable[[str], None], *, root: Path | None = None) -> None:
    """Remove an entry, so that the next ``ensure`` builds it again; absent is fine."""
    entry = (root or cache_root()) / kind / digest
    _make_private(entry.parent)

    def waiting(seconds: float) -> None:
        progress(f"waiting for another process to finish with {kind} {digest} ({seconds:.0f} s)")

    with locked(entry.with_name(f"{digest}.lock"), waiting):
        _clear_remains(entry, progress)
        if entry.is_dir():
            work = _workplace(entry)
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
    """Remove builds whose builder was killed; one that a living process works on is left alone."""

    def held(seconds: float) -> None:
        raise _HeldError(seconds)

    for work in sorted((root or cache_root()).glob("*/*.building")):
        digest = work.name.partition(".")[0]
        with contextlib.suppress(_HeldError), locked(work.with_name(f"{digest}.lock"), held):
            progress(f"clearing an abandoned build of {work.parent.name}")
            _clear(work)


def check_space(directory: Path, need_mib: int, *, what: str) -> None:
    """Raise ImageError unless the file system of ``directory`` has ``need_mib`` MiB free."""
    free = shutil.disk_usage(directory).free // _MIB
    if free < need_mib:
        raise ImageError(
            f"{what} needs {need_mib} MiB in {directory}, only {free} MiB are free",
            remedy="free disk space, or set SHAKEDOWN_CACHE to a larger disk",
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
    try:
        shutil.rmtree(path)
    except PermissionError:
        _remove_foreign(path)


def _remove_foreign(path: Path) -> None:
    """Remove what an ordinary user's broken ``mmdebstrap`` left: files of the owners that its user namespace
    maps to sub-ids, which only such a namespace may touch. Raises PermissionError where that fails too."""
    tool = shutil.which("unshare")
    if os.geteuid() != 0 and tool is not None:
        argv = [tool, *as_root_of_own(), "rm", "-rf", "--", str(path)]
        subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=300)
    if path.exists():
        shutil.rmtree(path)


def _mounts_below(path: Path) -> list[str]:
    prefix = f"{path.resolve()}/"
    lines = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    points = [line.split()[4].encode("latin-1", "replace").decode("unicode_escape") for line in lines]
    return [point for point in points if point.startswith(prefix)]


def _workplace(entry: Path) -> Path:
    """Where a build of ``entry`` happens: a name that no earlier build had, so that none can reach in."""
    return entry.with_name(f"{entry.name}.{secrets.token_hex(2)}.building")


def _clear_remains(entry: Path, progress: Callable[[str], None]) -> None:
    """Remove what killed builders of ``entry`` left. Remains that cannot be removed are told and stay: they
    are in nobody's way."""
    for work in sorted(entry.parent.glob(f"{entry.name}.*building")):
        try:
            _clear(work)
        except (OSError, ImageError) as error:
            progress(f"{work} of an interrupted build could not be removed: {error}")


def _clear(work: Path) -> None:
    if not quiet(work):
        raise ImageError(
            f"a command of an interrupted build still runs in {work}",
            remedy=f"look for it (fuser -v {work / KEPT}), end it, and remove {work}",
        )
    remove_tree(work)


def _make_private(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ImageError(
            f"{directory}: the cache directory cannot be created: {error.strerror or error}",
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
