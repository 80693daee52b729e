"""Which QEMU to use: a new one on PATH, or one of Debian's backports, or an older one with its limits told.

A backport is unpacked into the cache with the libraries of its own Debian and run by that Debian's loader
(ld.so(8)): it runs on any distribution, and nothing of the system's packages or apt configuration changes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ImageError
from harness.images import qemu_debian
from harness.images.processes import require_tool
from harness.images.qemu_debian import BACKPORTS, Backport, Unpacked

WANTED = (11, 1)
"""Measured with Debian's 11.1.3 against 10.0.2, same lab, quiet machine: smoke 259 s against 355 s, and no
local APIC had to be freed (``harness/lab/native/lapic_guard.c``). 10.0 also ended in an assertion of its own
now and then."""
_AVX = (10, 0)
"""TCG before QEMU 10 does not intercept XSETBV, so nested guests have no AVX (measured with 7.2)."""

NO_AVX = "nested guests have no AVX: TensorFlow cannot run"
TWICE = "under emulation this QEMU may deliver an interrupt twice: a nested guest hangs now and then"
OLDER = "QEMU before 11.1: under emulation it is slower, loses interrupts, and may end by itself"

_BINARY = "qemu-system-x86_64"
_SYSTEM_DATA = ("/usr/share/seabios", "/usr/share/qemu", "/usr/lib/ipxe/qemu")
"""Where Debian keeps firmware outside the QEMU packages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QemuTool:
    """A usable QEMU."""

    command: tuple[str, ...]
    """How ``qemu-system-x86_64`` is run: its path, or a loader with its arguments and that path."""
    image_command: tuple[str, ...]
    """Its ``qemu-img``, likewise."""
    version: tuple[int, int, int]
    data_dirs: tuple[Path, ...]
    """For ``-L``: firmware and option ROMs."""
    source: str
    """Where it came from, in words."""
    limits: tuple[str, ...] = ()
    """What it cannot show."""

    @property
    def version_text(self) -> str:
        """``11.1.3``."""
        return ".".join(str(part) for part in self.version)


def find_qemu(progress: Callable[[str], None], *, root: Path | None = None) -> QemuTool:
    """The QEMU to use; ``$SHAKEDOWN_QEMU`` (path of a qemu-system-x86_64) comes first.

    Raises ImageError when there is none at all. When the wanted one cannot be had, the next best is used;
    that is told, and its limits are named.
    """
    override = os.environ.get("SHAKEDOWN_QEMU")
    if override:
        return _installed(Path(override), "SHAKEDOWN_QEMU")
    on_path = shutil.which(_BINARY)
    system = _installed(Path(on_path), "PATH") if on_path else None
    refused = ""
    for backport in BACKPORTS:
        if system is not None and system.version >= backport.version:
            chosen: QemuTool | None = system
        else:
            chosen, why = _backport(backport, progress, root)
            refused = refused or why
        if chosen is not None:
            if refused:
                progress(f"using QEMU {chosen.version_text} ({chosen.source}): {refused}")
            return chosen
    if system is None:
        raise ImageError(
            f"no qemu-system-x86_64 found: {refused}", remedy="apt-get install qemu-system-x86 qemu-utils"
        )
    progress(f"using QEMU {system.version_text} of this system: {refused}")
    return system


def _backport(
    backport: Backport, progress: Callable[[str], None], root: Path | None
) -> tuple[QemuTool | None, str]:
    """The unpacked QEMU, or why there is none."""
    wanted = f"QEMU {'.'.join(map(str, backport.version))}"
    try:
        tree = qemu_debian.ensure(backport, progress, root=root)
        tool = _unpacked(tree, f"Debian {backport.suite}-backports")
    except ImageError as error:
        return None, f"{wanted} could not be had: {error.message}"
    if tool.version < backport.version:
        return None, f"{wanted} could not be had: {tool.source} holds {tool.version_text}"
    return tool, ""


def parse_version(text: str) -> tuple[int, int, int] | None:
    """The version from the output of ``qemu-system-x86_64 --version``; None when it says none."""
    match = re.search(r"version (\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?", text)
    return None if match is None else (int(match[1]), int(match[2]), int(match[3] or 0))


def _unpacked(tree: Unpacked, source: str) -> QemuTool:
    """A QEMU with everything that it needs. Raises ImageError when it does not run."""
    command = tree.command(_BINARY)
    version = _ask_version(command)
    return QemuTool(
        command=command,
        image_command=tree.command("qemu-img"),
        version=version,
        data_dirs=tree.data_dirs(_SYSTEM_DATA),
        source=f"{source}, mended" if tree.mended else source,
        limits=_limits(version, mended=tree.mended),
    )


def _installed(binary: Path, source: str) -> QemuTool:
    """A QEMU of this system. Raises ImageError when it does not run."""
    version = _ask_version((str(binary),))
    beside = binary.resolve().parent.parent / "share"
    own = tuple(path for path in (beside / "qemu", beside / "seabios") if path.is_dir())
    standard = tuple(Path(name) for name in _SYSTEM_DATA if Path(name).is_dir())
    sibling = binary.with_name("qemu-img")
    image_tool = str(sibling) if sibling.exists() else require_tool("qemu-img", "qemu-utils")
    return QemuTool(
        command=(str(binary),),
        image_command=(image_tool,),
        version=version,
        data_dirs=tuple(dict.fromkeys((*own, *standard))),
        source=source,
        limits=_limits(version),
    )


def _limits(version: tuple[int, int, int], *, mended: bool = False) -> tuple[str, ...]:
    limits = ((TWICE, not mended), (OLDER, version < WANTED), (NO_AVX, version < _AVX))
    return tuple(limit for limit, holds in limits if holds)


def _ask_version(command: tuple[str, ...]) -> tuple[int, int, int]:
    """Ask a binary for its version. Raises ImageError when it does not run."""
    name = command[-1]
    try:
        done = subprocess.run([*command, "--version"], capture_output=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ImageError(f"{name} does not run: {error}", remedy="apt-get install qemu-system-x86") from error
    version = parse_version(done.stdout.decode("utf-8", "replace"))
    if version is None:
        said = (done.stderr or done.stdout).decode("utf-8", "backslashreplace")[:500]
        raise ImageError(
            f"{name} names no version: {said}",
            remedy="apt-get install qemu-system-x86 (it brings the libraries that QEMU needs)",
        )
    return version
