"""Which QEMU to use: one of version 10 or later on PATH, or from Debian's backports, or the system's own.

The backports packages are unpacked into the cache with private apt directories: nothing of the system's
apt configuration, lists or installed packages changes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ImageError
from harness.images import cache
from harness.images.processes import require_tool, run_logged

WANTED = (10, 0)
"""TCG before QEMU 10 does not intercept XSETBV, so nested guests have no AVX (measured with 7.2)."""

NO_AVX = "nested guests have no AVX: TensorFlow cannot run"

_BINARY = "qemu-system-x86_64"
_BACKPORTS = {"12": "bookworm"}
"""Debian release to the suite whose backports carry QEMU 10."""
_PACKAGES = ("qemu-system-x86", "qemu-system-common", "qemu-system-data", "qemu-utils")
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_MIRROR = "http://deb.debian.org/debian"
_SYSTEM_DATA = ("/usr/share/seabios", "/usr/share/qemu", "/usr/lib/ipxe/qemu")
"""Where Debian keeps firmware outside the QEMU packages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QemuTool:
    """A usable QEMU."""

    binary: Path
    image_tool: Path
    """Its ``qemu-img``."""
    version: tuple[int, int, int]
    data_dirs: tuple[Path, ...]
    """For ``-L``: firmware and option ROMs."""
    source: str
    """Where it came from, in words."""
    limits: tuple[str, ...] = ()
    """What it cannot show."""

    @property
    def version_text(self) -> str:
        """``10.0.2``."""
        return ".".join(str(part) for part in self.version)


def find_qemu(progress: Callable[[str], None], *, root: Path | None = None) -> QemuTool:
    """The QEMU to use; ``$SHAKEDOWN_QEMU`` (path of a qemu-system-x86_64) comes first.

    Raises ImageError when there is none at all. When the backports cannot be had, the system's older QEMU
    is used and its limits are named.
    """
    override = os.environ.get("SHAKEDOWN_QEMU")
    if override:
        return _describe(Path(override), "SHAKEDOWN_QEMU")
    on_path = shutil.which(_BINARY)
    system = _describe(Path(on_path), "PATH") if on_path else None
    if system is not None and system.version >= WANTED:
        return system
    suite = _BACKPORTS.get(_release(Path("/etc/os-release").read_text("utf-8")))
    if suite is not None:
        try:
            return _from_backports(suite, progress, root)
        except ImageError as error:
            if system is None:
                raise
            progress(f"QEMU {WANTED[0]} could not be had, using {system.version_text}: {error.message}")
    if system is None:
        raise ImageError("no qemu-system-x86_64 found", remedy="apt-get install qemu-system-x86 qemu-utils")
    return system


def parse_version(text: str) -> tuple[int, int, int] | None:
    """The version from the output of ``qemu-system-x86_64 --version``; None when it says none."""
    match = re.search(r"version (\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?", text)
    return None if match is None else (int(match[1]), int(match[2]), int(match[3] or 0))


def _release(os_release: str) -> str:
    """Debian's release number from ``/etc/os-release``; empty on any other system."""
    lines = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    return lines.get("VERSION_ID", "").strip('"') if lines.get("ID") == "debian" else ""


def _describe(binary: Path, source: str) -> QemuTool:
    """Ask a binary for its version. Raises ImageError when it does not run."""
    try:
        done = subprocess.run([str(binary), "--version"], capture_output=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ImageError(
            f"{binary} does not run: {error}", remedy="apt-get install qemu-system-x86"
        ) from error
    version = parse_version(done.stdout.decode("utf-8", "replace"))
    if version is None:
        said = (done.stderr or done.stdout).decode("utf-8", "backslashreplace")[:500]
        raise ImageError(
            f"{binary} names no version: {said}",
            remedy="apt-get install qemu-system-x86 (it brings the libraries that QEMU needs)",
        )
    beside = binary.resolve().parent.parent / "share"
    own = tuple(path for path in (beside / "qemu", beside / "seabios") if path.is_dir())
    standard = tuple(Path(name) for name in _SYSTEM_DATA if Path(name).is_dir())
    sibling = binary.with_name("qemu-img")
    image_tool = sibling if sibling.exists() else Path(require_tool("qemu-img", "qemu-utils"))
    return QemuTool(
        binary=binary,
        image_tool=image_tool,
        version=version,
        data_dirs=tuple(dict.fromkeys((*own, *standard))),
        source=source,
        limits=() if version >= WANTED else (NO_AVX,),
    )


def _from_backports(suite: str, progress: Callable[[str], None], root: Path | None) -> QemuTool:
    firmware = () if Path("/usr/share/seabios/bios-256k.bin").exists() else ("seabios",)
    digest = cache.recipe_hash("qemu", suite, _MIRROR, *_PACKAGES, *firmware)

    def build(work: Path) -> None:
        _unpack(work, suite, firmware, progress)

    entry = cache.ensure("qemu", digest, build, progress, need_mib=600, root=root)
    return _describe(entry / "root/usr/bin" / _BINARY, f"Debian {suite}-backports, unpacked in {entry}")


def apt_options(work: Path) -> tuple[str, ...]:
    """Options that keep apt inside ``work``: private sources, lists and archives (apt.conf(5))."""
    values: Mapping[str, str] = {
        "Dir::Etc::sourcelist": str(work / "sources.list"),
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": str(work / "lists"),
        "Dir::Cache": str(work / "apt"),
        "APT::Sandbox::User": "",
        "Acquire::Retries": "4",
        "Acquire::Languages": "none",
    }
    return tuple(part for name, value in values.items() for part in ("-o", f"{name}={value}"))


def _unpack(work: Path, suite: str, firmware: tuple[str, ...], progress: Callable[[str], None]) -> None:
    apt = require_tool("apt-get", "apt")
    dpkg = require_tool("dpkg", "dpkg")
    for name in ("lists/partial", "apt/archives/partial", "debs"):
        (work / name).mkdir(parents=True)
    suites = [f"{suite}-backports", *([suite] if firmware else [])]
    sources = "".join(f"deb [signed-by={_KEYRING}] {_MIRROR} {name} main\n" for name in suites)
    (work / "sources.list").write_text(sources)
    log = work / "apt.log"
    options = apt_options(work)
    progress(f"fetching QEMU from {suite}-backports (the system's packages stay as they are)")
    run_logged(
        [apt, *options, "update"], log=log, what="apt-get update (private)", progress=progress, deadline=300
    )
    names = [f"{name}/{suite}-backports" for name in _PACKAGES] + list(firmware)
    run_logged(
        [apt, *options, "download", *names],
        log=log,
        what="apt-get download of QEMU",
        progress=progress,
        deadline=600,
        directory=work / "debs",
    )
    for package in sorted((work / "debs").glob("*.deb")):
        run_logged([dpkg, "-x", str(package), str(work / "root")], log=log, what="dpkg -x", progress=progress)
    _describe(work / "root/usr/bin" / _BINARY, "backports")
    for name in ("lists", "apt", "debs"):
        shutil.rmtree(work / name)
