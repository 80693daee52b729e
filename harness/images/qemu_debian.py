"""QEMU out of Debian's backports, whole: the packages with all that they depend on, C library included,
downloaded and unpacked by ``mmdebstrap`` and installed nowhere."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ImageError
from harness.images import cache
from harness.images.processes import require_tool, run_logged
from harness.images.qemu_mend import MENDS, mend
from harness.regular import MOST_TEXT, read_regular

_MIRROR = "http://deb.debian.org/debian"
_PACKAGES = (
    "qemu-system-x86",
    "qemu-system-common",
    "qemu-system-data",
    "qemu-utils",
    "seabios",
    "ipxe-qemu",
    "libc6",
)
_LEFT_OUT = (
    "./dev",
    "./etc",
    "./var",
    "./tmp",
    *(f"./usr/share/{name}" for name in ("doc", "man", "locale")),
)
_NEED_MIB = 800
"""Measured: 190 MiB of archive and 150 MiB unpacked, beside the downloads."""
_MENDED = "mended"
_TRY_AGAIN_SECONDS = 3600.0
"""A mirror that has not got a suite, or cannot be reached, is not asked again by every command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backport:
    """A Debian release whose backports carry a QEMU of at least ``version``."""

    suite: str
    version: tuple[int, int]


BACKPORTS = (Backport(suite="trixie", version=(11, 1)), Backport(suite="bookworm", version=(10, 0)))
"""The best first (looked at on 2026-12-01: 1:11.1.3+ds-1~bpo13+1 and 1:10.0.2+ds-2+deb13u1~bpo12+1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """A tree of unpacked packages that is used where it lies."""

    root: Path

    def command(self, program: str) -> tuple[str, ...]:
        """How a program of ``usr/bin`` is run: by the tree's own loader, which takes libraries from the tree
        first and looks into no cache of the system's; and with the tree's modules, since QEMU finds itself
        where its loader lies. Raises ImageError when the tree is not whole."""
        found = sorted(self.root.glob("**/lib/*-linux-gnu/ld-linux*.so.*"))
        binary = self.root / "usr/bin" / program
        if not found or not binary.exists():
            raise ImageError(f"{self.root} holds no {program if found else 'loader'}", remedy=self._remedy)
        folder = found[0].parent.name
        libraries = [str(self.root / prefix / folder) for prefix in ("usr/lib", "lib")]
        modules = self.root / "usr/lib" / folder / "qemu"
        loader = (str(found[0]), "--inhibit-cache", "--library-path", ":".join(libraries))
        return ("/usr/bin/env", f"QEMU_MODULE_DIR={modules}", *loader, str(binary))

    def data_dirs(self, names: Sequence[str]) -> tuple[Path, ...]:
        """Those of the absolute ``names`` that the tree has."""
        places = (self.root / name.lstrip("/") for name in names)
        return tuple(place for place in places if place.is_dir())

    @property
    def mended(self) -> bool:
        """Whether the known defect was taken out of it (``harness.images.qemu_mend``)."""
        return (self.root.parent / _MENDED).exists()

    @property
    def _remedy(self) -> str:
        return f"remove {self.root.parent}; it will be unpacked again"


def ensure(
    backport: Backport, progress: Callable[[str], None], *, root: Path | None = None, mirror: str = _MIRROR
) -> Unpacked:
    """The unpacked packages of a backport, fetched when the cache does not hold them (about 10 s).

    Raises ImageError; what could not be fetched is not tried again for an hour.
    """
    mends = (f"{each.sha256} {each.offset} {each.new.hex()}" for each in MENDS)
    digest = cache.recipe_hash("qemu-tree", backport.suite, mirror, *_PACKAGES, *_LEFT_OUT, *mends)
    if cache.find("qemu", digest, root=root) is None:
        _refuse_early(_note(digest, root))

    def build(work: Path) -> None:
        try:
            _unpack(work, backport.suite, mirror, progress)
        except ImageError as error:
            _note(digest, root).write_text(error.message)
            raise
        cache.prune("qemu", progress, root=root)

    entry = cache.ensure("qemu", digest, build, progress, need_mib=_NEED_MIB, root=root)
    _note(digest, root).unlink(missing_ok=True)
    return Unpacked(root=entry / "root")


def _note(digest: str, root: Path | None) -> Path:
    """What went wrong the last time."""
    return (root or cache.cache_root()) / "qemu" / f"{digest}.refused"


def _refuse_early(note: Path) -> None:
    try:
        age = time.time() - note.stat().st_mtime
        said = read_regular(note, MOST_TEXT).decode("utf-8", "replace")
    except (OSError, ValueError):
        return
    if 0.0 <= age < _TRY_AGAIN_SECONDS:
        raise ImageError(
            f"{said} (tried {age / 60:.0f} minutes ago)", remedy=f"rm {note} to try again at once"
        )


def _unpack(work: Path, suite: str, mirror: str, progress: Callable[[str], None]) -> None:
    archive, log, tree = work / "packages.tar", work / "mmdebstrap.log", work / "root"
    progress(f"fetching QEMU from Debian {suite}-backports (the system's packages are not changed)")
    run_logged(
        [
            require_tool("mmdebstrap", "mmdebstrap"),
            "--variant=extract",
            # Nothing runs in the tree, so an ordinary user needs no namespaces for it.
            f"--mode={'root' if os.geteuid() == 0 else 'chrootless'}",
            "--skip=chroot/mount",
            "--format=tar",
            f"--include={','.join(_PACKAGES)}",
            f'--aptopt=APT::Default-Release "{suite}-backports"',
            '--aptopt=APT::Install-Recommends "false"',
            '--aptopt=Acquire::Retries "4"',
            suite,
            str(archive),
            f"deb {mirror} {suite} main",
            f"deb {mirror} {suite}-backports main",
        ],
        log=log,
        what=f"mmdebstrap of QEMU from {suite}-backports",
        progress=progress,
        deadline=600.0,
        environment={"TMPDIR": str(work)},
    )
    tree.mkdir()
    left_out = [f"--exclude={name}" for name in _LEFT_OUT]
    run_logged(
        ["tar", "-C", str(tree), "--no-same-owner", *left_out, "-xf", str(archive)],
        log=log,
        what="unpacking QEMU",
        progress=progress,
    )
    archive.unlink()
    if mend(tree / "usr/bin/qemu-system-x86_64"):
        (work / _MENDED).touch()
