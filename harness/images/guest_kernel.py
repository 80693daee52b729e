"""The guest's kernel and its first file system, taken out of a Debian root file system."""

from __future__ import annotations

import io
import lzma
import os
from pathlib import Path

from harness.errors import ImageError

_XZ_MAGIC = b"\xfd7zXZ\x00"
MODULES = ("virtio_pci", "virtio_blk", "ext4", "crc32c_generic", "crc32c_intel", "virtio_net", "qemu_fw_cfg")
"""What it takes to reach the root disk, the network and the keys handed over by QEMU."""


def extract_vmlinux(vmlinuz: Path) -> bytes:
    """The uncompressed kernel inside a bzImage.

    QEMU starts it directly (PVH entry, CONFIG_PVH), which spares the guest from unpacking 60 MB of xz
    before its first message. Raises ImageError when the image is not an xz-compressed x86 kernel.
    """
    data = vmlinuz.read_bytes()
    start = data.find(_XZ_MAGIC)
    if start < 0:
        raise ImageError(f"{vmlinuz.name}: no xz stream found in the kernel image")
    try:
        kernel = lzma.LZMADecompressor().decompress(data[start:])
    except lzma.LZMAError as error:
        raise ImageError(f"{vmlinuz.name}: its xz stream is damaged: {error}") from error
    if not kernel.startswith(b"\x7fELF"):
        raise ImageError(f"{vmlinuz.name}: what it unpacks to is not an ELF kernel")
    return kernel


def module_files(module_dir: Path, names: tuple[str, ...] = MODULES) -> tuple[Path, ...]:
    """Files of ``names`` and all they need, in loading order, by ``modules.dep``.

    A name that the kernel has built in is left out. Raises ImageError when ``modules.dep`` is missing.
    """
    index: dict[str, tuple[str, list[str]]] = {}
    try:
        lines = (module_dir / "modules.dep").read_text().splitlines()
    except OSError as error:
        raise ImageError(f"{module_dir}: no modules.dep: {error}") from error
    for line in lines:
        path, _, needs = line.partition(":")
        index[_module_name(path)] = (path, [_module_name(need) for need in needs.split()])
    order: list[str] = []

    def add(name: str) -> None:
        path, needs = index[name]
        if path in order:
            return
        # modules.dep lists what must be loaded first at the end.
        for need in reversed(needs):
            add(need)
        order.append(path)

    for name in names:
        if name in index:
            add(name)
    return tuple(module_dir / path for path in order)


def _module_name(path: str) -> str:
    return os.path.basename(path).split(".")[0].replace("-", "_")  # noqa: PTH119  a plain string, not a file


def build_initrd(busybox: bytes, init: bytes, modules: tuple[Path, ...]) -> bytes:
    """An uncompressed initramfs (newc cpio): busybox, our init and the modules in loading order."""
    archive = _Cpio()
    for directory in ("bin", "dev", "proc", "root", "modules"):
        archive.directory(directory)
    archive.file("bin/busybox", busybox, 0o755)
    archive.file("init", init, 0o755)
    for module in modules:
        archive.file(f"modules/{module.name}", module.read_bytes(), 0o644)
    archive.file("modules.order", "".join(f"{module.name}\n" for module in modules).encode(), 0o644)
    return archive.finish()


class _Cpio:
    """Writer of the kernel's initramfs format (Documentation/driver-api/early-userspace, buffer-format)."""

    def __init__(self) -> None:
        self._out = io.BytesIO()
        self._inode = 0

    def directory(self, name: str) -> None:
        self._entry(name, b"", 0o040755)

    def file(self, name: str, data: bytes, mode: int) -> None:
        self._entry(name, data, 0o100000 | mode)

    def finish(self) -> bytes:
        self._entry("TRAILER!!!", b"", 0)
        return self._out.getvalue()

    def _entry(self, name: str, data: bytes, mode: int) -> None:
        self._inode += 1
        path = name.encode() + b"\0"
        numbers = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        self._padded(b"070701" + b"".join(b"%08x" % number for number in numbers) + path)
        self._padded(data)

    def _padded(self, data: bytes) -> None:
        self._out.write(data + b"\0" * (-len(data) % 4))
