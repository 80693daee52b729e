"""Kernel and first file system of the guest, taken from a Debian tree."""

from __future__ import annotations

import lzma
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ImageError
from harness.images.guest_kernel import MODULES, build_initrd, extract_vmlinux, module_files


def bzimage(directory: Path, payload: bytes, *, tail: bytes = b"\0" * 64) -> Path:
    """A kernel image around ``payload``: set-up code, an xz stream and what follows it."""
    path = directory / "vmlinuz-6.1"
    path.write_bytes(b"MZ" + b"\x90" * 500 + lzma.compress(payload, format=lzma.FORMAT_XZ) + tail)
    return path


def test_the_kernel_inside_is_found_between_its_set_up_code_and_its_tail(tmp_path) -> None:
    kernel = b"\x7fELF" + bytes(range(256)) * 100
    assert extract_vmlinux(bzimage(tmp_path, kernel)) == kernel


def test_what_is_no_kernel_is_refused(tmp_path) -> None:
    with pytest.raises(ImageError, match="not an ELF kernel"):
        extract_vmlinux(bzimage(tmp_path, b"#!/bin/sh"))
    plain = tmp_path / "plain"
    plain.write_bytes(b"no stream at all")
    with pytest.raises(ImageError, match="no xz stream"):
        extract_vmlinux(plain)


@given(st.binary(max_size=100))
def test_a_damaged_stream_is_an_image_error(tmp_path_factory, damage) -> None:
    path = tmp_path_factory.mktemp("k") / "vmlinuz"
    path.write_bytes(b"\xfd7zXZ\x00" + damage)
    with pytest.raises(ImageError):
        extract_vmlinux(path)


@pytest.fixture
def modules(tmp_path) -> Path:
    """Modules with dependencies as depmod writes them: the deepest last."""
    (tmp_path / "modules.dep").write_text(
        "kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko kernel/lib/crc16.ko\n"
        "kernel/fs/jbd2/jbd2.ko:\n"
        "kernel/lib/crc16.ko:\n"
        "kernel/drivers/virtio/virtio-pci.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/ring.ko\n"
        "kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/ring.ko\n"
        "kernel/drivers/virtio/ring.ko:\n"
    )
    return tmp_path


def test_modules_come_after_all_they_need_and_once(modules) -> None:
    names = [p.name for p in module_files(modules, ("virtio_pci", "ext4", "virtio_pci"))]
    assert names == ["ring.ko", "virtio.ko", "virtio-pci.ko", "crc16.ko", "jbd2.ko", "ext4.ko.xz"]


def test_a_module_that_the_kernel_has_built_in_is_left_out(modules) -> None:
    assert [p.name for p in module_files(modules, ("built_in", "crc16"))] == ["crc16.ko"]


def test_a_tree_without_an_index_is_told(tmp_path) -> None:
    with pytest.raises(ImageError, match=r"no modules\.dep"):
        module_files(tmp_path / "none")


def test_the_disk_the_network_and_the_handed_keys_can_be_reached() -> None:
    assert {"virtio_blk", "virtio_net", "ext4", "qemu_fw_cfg"} <= set(MODULES)


def test_cpio_itself_reads_the_initramfs(tmp_path) -> None:
    if shutil.which("cpio") is None:
        pytest.skip("no cpio on this machine")
    first, second = tmp_path / "b.ko", tmp_path / "a.ko"
    first.write_bytes(b"one")
    second.write_bytes(b"three")
    archive = build_initrd(b"BUSYBOX", b"#!/bin/busybox sh\n", (first, second))
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["cpio", "-id", "--quiet"], input=archive, cwd=out, check=True, capture_output=True)
    assert (out / "bin/busybox").read_bytes() == b"BUSYBOX"
    assert (out / "init").stat().st_mode & 0o777 == 0o755
    assert (out / "modules.order").read_text() == "b.ko\na.ko\n"
    assert (out / "modules/a.ko").read_bytes() == b"three"
