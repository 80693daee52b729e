"""A captured tree (``DIR/sys``, ``DIR/proc`` ...) read into the same frames as a live host's transcript."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from harness.errors import ParseError
from harness.facts import ask
from harness.facts.assemble import assemble
from harness.facts.frames import Frames
from harness.model.topology import HostFacts
from harness.regular import open_regular

_MAX_LINKS = 40
"""As many links in one path as Linux itself follows (``MAXSYMLINKS``)."""
_MAX_BYTES = 65536


class Tree:
    """A directory treated as the root of a file system.

    Links are resolved by hand: absolute ones start at the directory, and ``..`` stops there, as for a process
    in a chroot. So nothing outside the directory is ever opened, whatever the capture holds.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._resolved: dict[str, str | None] = {"": ""}

    def resolve(self, path: str) -> str | None:
        """The physical path inside the tree, absolute; None when there is nothing."""
        return self._resolve(path.strip("/"), 0)

    def _resolve(self, path: str, links: int) -> str | None:
        if path in self._resolved:
            return self._resolved[path]
        parent, _, name = path.rpartition("/")
        above = self._resolve(parent, links)
        result = None if above is None else self._step(above, name, links)
        self._resolved[path] = result
        return result

    def _step(self, above: str, name: str, links: int) -> str | None:
        if name in ("", "."):
            return above
        if name == "..":
            return above.rpartition("/")[0]
        here = f"{above}/{name}"
        try:
            mode = (self._root / here.lstrip("/")).lstat().st_mode
            if not stat.S_ISLNK(mode):
                return here
            target = str((self._root / here.lstrip("/")).readlink())
        except (OSError, ValueError):
            return None
        if links >= _MAX_LINKS:
            return None
        current: str | None = "" if target.startswith("/") else above
        for part in target.split("/"):
            current = None if current is None else self._walk(current, part, links + 1)
        return current

    def _walk(self, above: str, name: str, links: int) -> str | None:
        return (
            above.rpartition("/")[0] if name == ".." else self._resolve(f"{above}/{name}".strip("/"), links)
        )

    def read(self, path: str, limit: int = _MAX_BYTES) -> bytes | None:
        """At most ``limit`` bytes of a regular file; None for anything else (a pipe would block)."""
        found = self.resolve(path)
        if found is None:
            return None
        try:
            target = self._root / found.lstrip("/")
            with open_regular(target) as file:
                return file.read(limit)
        except OSError:
            return None

    def names(self, path: str) -> tuple[str, ...] | None:
        """Names in a directory, sorted; None when it is none."""
        found = self.resolve(path)
        if found is None:
            return None
        try:
            return tuple(sorted(_plain(entry.name) for entry in (self._root / found.lstrip("/")).iterdir()))
        except OSError:
            return None


def _plain(name: str) -> str:
    """A name as text that any encoder takes: bytes that are not UTF-8 as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def from_sysroot(root: Path) -> HostFacts:
    """The facts in a captured tree; missing files give unknown.

    Raises ParseError when ``root`` is no directory or holds neither ``sys`` nor ``proc``.
    """
    tree = Tree(root)
    if tree.names("sys") is None and tree.names("proc") is None:
        raise ParseError(
            f"{root}has neither sys nor proc: it is not a captured tree",
            remedy="give the directory that contains sys/ and proc/",
        )
    frames = Frames()
    _read_files(tree, frames, ask.SYSTEM_FILES)
    _read_files(tree, frames, (f"{ask.DMI}/{name}" for name in ask.DMI_ATTRIBUTES))
    _read_files(tree, frames, ("/proc/cmdline", "/proc/cpuinfo", "/etc/os-release"))
    _read_each(tree, frames, ask.CPU, "cpu", (*ask.CPU_ATTRIBUTES, *ask.OLDER_CPU_ATTRIBUTES))
    _read_files(tree, frames, (f"{ask.CPU}/{name}" for name in ask.CPU_LISTS))
    _read_each(tree, frames, ask.NODE, "node", (*ask.NODE_ATTRIBUTES, *ask.OLDER_NODE_ATTRIBUTES))
    _read_files(tree, frames, (f"{ask.NODE}/{name}" for name in ask.NODE_LISTS))
    _read_pools(tree, frames)
    _read_pci(tree, frames)
    _read_iommu(tree, frames)
    _read_others(tree, frames)
    return assemble(frames)


def _read_files(tree: Tree, frames: Frames, paths: Iterable[str]) -> None:
    for path in paths:
        content = tree.read(path)
        if content is not None:
            frames.files[path] = content


def _read_each(tree: Tree, frames: Frames, parent: str, prefix: str, attributes: tuple[str, ...]) -> None:
    for name in tree.names(parent) or ():
        if re.fullmatch(rf"{prefix}\d{{1,5}}", name):
            frames.present.add(f"{parent}/{name}")
            _read_files(tree, frames, (f"{parent}/{name}/{attribute}" for attribute in attributes))


def _read_pools(tree: Tree, frames: Frames) -> None:
    for node in [path for path in frames.present if path.startswith(f"{ask.NODE}/")]:
        for pool in tree.names(f"{node}/hugepages") or ():
            _read_files(tree, frames, (f"{node}/hugepages/{pool}/{name}" for name in ask.POOL_ATTRIBUTES))


def _list(tree: Tree, frames: Frames, path: str) -> tuple[str, ...]:
    names = tree.names(path)
    if names is not None:
        frames.listings[path] = names
    return names or ()


def _link(tree: Tree, frames: Frames, path: str) -> None:
    target = tree.resolve(path)
    if target is not None:
        frames.links[path] = _plain(target)


def _mark(tree: Tree, frames: Frames, path: str) -> None:
    if tree.resolve(path) is not None:
        frames.present.add(path)


def _read_pci(tree: Tree, frames: Frames) -> None:
    attributes = (*ask.PCI_ATTRIBUTES, *ask.OLDER_PCI_ATTRIBUTES, "config", "vpd")
    for name in _list(tree, frames, ask.PCI):
        path = f"{ask.PCI}/{name}"
        _read_files(tree, frames, (f"{path}/{attribute}" for attribute in attributes))
        _link(tree, frames, path)
        for link in ask.PCI_LINKS:
            _link(tree, frames, f"{path}/{link}")
        _mark(tree, frames, path)
        for mark in ask.PCI_MARKS:
            _mark(tree, frames, f"{path}/{mark}")
    for slot in tree.names("/sys/bus/pci/slots") or ():
        _read_files(tree, frames, (f"/sys/bus/pci/slots/{slot}/address",))


def _read_iommu(tree: Tree, frames: Frames) -> None:
    _list(tree, frames, "/sys/class/iommu")
    for group in _list(tree, frames, ask.GROUPS):
        _list(tree, frames, f"{ask.GROUPS}/{group}/devices")
        _read_files(tree, frames, (f"{ask.GROUPS}/{group}/type",))
    for module in tree.names("/sys/module") or ():
        if module.startswith("vfio"):
            folder = f"/sys/module/{module}/parameters"
            _read_files(tree, frames, (f"{folder}/{name}" for name in tree.names(folder) or ()))
    _list(tree, frames, "/dev/vfio")
    _list(tree, frames, "/dev/vfio/devices")


def _read_others(tree: Tree, frames: Frames) -> None:
    if tree.names("/dev") is None:
        frames.warnings.append("the captured tree has no /dev: KVM, VFIO and iommufd are shown as absent")
    for path in ("/dev/kvm", "/dev/iommu"):
        _mark(tree, frames, path)
    for irq in tree.names("/proc/irq") or ():
        _read_files(tree, frames, (f"/proc/irq/{irq}/smp_affinity_list",))
    for policy in tree.names(f"{ask.CPU}/cpufreq") or ():
        _read_files(tree, frames, (f"{ask.CPU}/cpufreq/{policy}/scaling_governor",))
    for device in tree.names("/sys/bus/platform/devices") or ():
        if device.startswith("ipmi_bmc"):
            _read_files(tree, frames, (f"/sys/bus/platform/devices/{device}/firmware_revision",))
