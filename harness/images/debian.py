"""Debian root file systems and disks, made without loop devices and without mounts on the host.

``mmdebstrap`` makes the tree, ``mke2fs -d`` the file system, ``qemu-img`` the qcow2. As root the tree is a
directory with real owners; as an ordinary user it is made in a user namespace and its owners are kept in a
``fakeroot`` state file beside it, which ``make_ext4`` reads. What is mounted while a tree is made is mounted
in a namespace of its own, or not at all.
"""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ImageError
from harness.images.processes import as_root_of_own, require_tool, run_logged

_NO_DOCUMENTATION = tuple(
    f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "locale", "doc", "info", "lintian")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFile:
    """A file of the image, owned by root."""

    path: str
    """Absolute, as in the image."""
    content: str | bytes
    mode: int = 0o644


def bootstrap(
    target_dir: Path,
    suite: str,
    packages: Sequence[str],
    *,
    progress: Callable[[str], None],
    components: Sequence[str] = ("main",),
    files: Sequence[ImageFile] = (),
    early_files: Sequence[ImageFile] = (),
    customize: Sequence[str] = (),
    deadline: float = 1500.0,
) -> None:
    """Make a Debian root file system in ``target_dir``, which must not exist yet.

    ``early_files`` are there before ``packages`` are installed, ``files`` after. ``customize`` are shell
    lines run last, with the root of the tree as ``$1``. Owners are right when this runs as root; otherwise
    ``make_ext4`` restores them from ``<target_dir>.fakeroot``. Raises ImageError with the end of the log.
    """
    tool = require_tool("mmdebstrap", "mmdebstrap")
    if target_dir.exists():
        raise ImageError(f"{target_dir} exists already")
    as_root = os.geteuid() == 0
    output = target_dir if as_root else target_dir.with_name(f"{target_dir.name}.tar")
    early = _archive(target_dir.with_name(f"{target_dir.name}.early.tar"), early_files)
    late = _archive(target_dir.with_name(f"{target_dir.name}.files.tar"), files)
    apart = own_namespaces()
    if apart is None and not as_root:
        raise ImageError(
            "an ordinary user builds images in a user namespace, and this system gives none (unshare)",
            remedy="install uidmap; give the user ids of its own (usermod --add-subuids 100000-165535 "
            "--add-subgids 100000-165535 NAME); or build as root",
        )
    argv = [
        *(apart or ()),
        tool,
        # Not its mode "unshare": that one needs directories above the tree which all users may enter.
        "--mode=root",
        f"--format={'directory' if as_root else 'tar'}",
        # Where it could only mount for this whole machine, it mounts nothing.
        *(("--skip=chroot/mount",) if apart is None else ()),
        "--variant=minbase",
        f"--components={','.join(components)}",
        f"--include={','.join(packages)}",
        '--aptopt=Acquire::Retries "4"',
        *_NO_DOCUMENTATION,
        f"--essential-hook=tar-in {early} /",
        f"--customize-hook=tar-in {late} /",
        *(f"--customize-hook={line}" for line in customize),
        suite,
        str(output),
    ]
    log = target_dir.with_name(f"{target_dir.name}.log")
    if apart is None:
        progress("this system refuses mount namespaces (unshare): building without /proc and /sys")
    run_logged(
        argv,
        log=log,
        what=f"mmdebstrap of {suite} with {len(packages)} packages",
        progress=progress,
        deadline=deadline,
        environment={"TMPDIR": str(target_dir.parent)},
    )
    if not as_root:
        _unpack_as_user(output, target_dir, log, progress)
    early.unlink()
    late.unlink()


def own_namespaces() -> tuple[str, ...] | None:
    """Words that put a command into namespaces of its own; None where none may be made.

    ``mmdebstrap`` mounts /proc and /sys into the tree. In a mount namespace nobody else sees them,
    and they vanish with the last process; in a pid namespace all processes end with the first one. A
    container that may not mount /proc anew gets the former only. An ordinary user becomes root of a user
    namespace, in which the other owners of files are ids from /etc/subuid.
    """
    words = (require_tool("unshare", "util-linux"), *as_root_of_own(), "--mount", "--propagation", "private")
    for more in (("--pid", "--fork", "--kill-child", "--mount-proc"), ()):
        allowed = subprocess.run([*words, *more, "true"], capture_output=True, check=False, timeout=30)
        if allowed.returncode == 0:
            return (*words, *more)
    return None


def _archive(path: Path, files: Sequence[ImageFile]) -> Path:
    """A tar of ``files`` with root as owner and no times: tar-in puts it into the tree in every mode."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for file in files:
            data = file.content if isinstance(file.content, bytes) else file.content.encode()
            info = tarfile.TarInfo(f".{file.path}")
            info.size, info.mode = len(data), file.mode
            archive.addfile(info, io.BytesIO(data))
    return path


def _unpack_as_user(archive: Path, target_dir: Path, log: Path, progress: Callable[[str], None]) -> None:
    fakeroot = require_tool("fakeroot", "fakeroot")
    target_dir.mkdir()
    state = _fakeroot_state(target_dir)
    run_logged(
        [fakeroot, "-s", str(state), "tar", "-C", str(target_dir), "--exclude=./dev/*", "-xf", str(archive)],
        log=log,
        what="unpacking the root file system",
        progress=progress,
    )
    archive.unlink()


def _fakeroot_state(rootfs_dir: Path) -> Path:
    return rootfs_dir.with_name(f"{rootfs_dir.name}.fakeroot")


def make_ext4(
    rootfs_dir: Path,
    image: Path,
    size_mib: int,
    label: str,
    *,
    progress: Callable[[str], None],
    journal: bool = True,
) -> None:
    """Make a raw ext4 disk of ``size_mib`` MiB holding ``rootfs_dir``. Raises ImageError (tree too large)."""
    argv = [require_tool("mke2fs", "e2fsprogs"), "-q", "-F", "-t", "ext4", "-L", label]
    if not journal:
        argv += ["-O", "^has_journal"]
    argv += ["-m", "0", "-d", str(rootfs_dir), str(image), f"{size_mib}M"]
    state = _fakeroot_state(rootfs_dir)
    if state.exists():
        argv = [require_tool("fakeroot", "fakeroot"), "-i", str(state), *argv]
    run_logged(
        argv,
        log=image.with_name(f"{image.name}.log"),
        what=f"mke2fs of {image.name} ({size_mib} MiB)",
        progress=progress,
        deadline=600.0,
    )


def to_qcow2(
    raw: Path,
    qcow2: Path,
    *,
    progress: Callable[[str], None],
    compressed: bool = False,
    deadline: float = 900.0,
) -> None:
    """Convert a raw disk to qcow2 (zstd when ``compressed``). Raises ImageError."""
    argv = [require_tool("qemu-img", "qemu-utils"), "convert", "-f", "raw", "-O", "qcow2"]
    if compressed:
        argv += ["-c", "-o", "compression_type=zstd"]
    run_logged(
        [*argv, str(raw), str(qcow2)],
        log=qcow2.with_name(f"{qcow2.name}.log"),
        what=f"qemu-img convert to {qcow2.name}",
        progress=progress,
        deadline=deadline,
    )
