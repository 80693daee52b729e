"""Guest images in kinds (``harness/images/kinds.py``), or a person's own qcow2.

A built image is a directory ``<cache>/guest-images/<hash>``: disk, kernel, initrd and ``manifest.json``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from harness.errors import ConfigError, ImageError
from harness.images import cache, debian, frameworks, guest_kernel
from harness.images.debian import ImageFile
from harness.images.kinds import KINDS, PYTHON_DIR, GuestKind
from harness.images.standin import binding_file
from harness.progress import step
from harness.regular import MOST_TEXT, read_regular
from harness.serial import strict_json
from harness.vendors.standin import BINDING

CACHE_KIND = "guest-images"
MANIFEST = "manifest.json"
_SUITE = "bookworm"
_RECIPE = 4
"""Raise it when the code that builds images changes what is in them."""
_STEPS = 4
_BOOTSTRAP_SECONDS = 3600.0
"""A kind may compile a driver's kernel modules, on a busy machine for a quarter of an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestImage:
    """A guest image on the controller."""

    kind: str
    digest: str
    disk: Path
    kernel: Path | None
    """None when the disk boots by its own boot loader."""
    initrd: Path | None
    command_line: str
    files: dict[str, str]
    """File name to sha256, as in the manifest."""

    @property
    def directory(self) -> Path:
        """Where its files lie on the controller."""
        return self.disk.parent


def ensure_guest_image(
    kind: str,
    progress: Callable[[str], None],
    *,
    kinds: Mapping[str, GuestKind] = KINDS,
    root: Path | None = None,
) -> GuestImage:
    """The image of ``kind``, built when the cache does not hold it (about three minutes), or a user's qcow2.

    ``kinds``: those there are. Raises ConfigError for an unknown kind and ImageError when it cannot be
    built or read.
    """
    spec = kinds.get(kind)
    if spec is None:
        return _own_image(kind, kinds)
    digest = image_digest(spec)

    def build(work: Path) -> None:
        _build(work, kind, spec, digest, progress)

    # Never more than two of the tree, the raw disk and the qcow2 at a time; none is larger than the disk.
    entry = cache.ensure(CACHE_KIND, digest, build, progress, need_mib=2 * spec.disk_mib, root=root)
    # A store of images is read by hosts as libvirt's own user, also where it is shared with them whole.
    entry.parent.chmod(0o755)
    return read_image(entry)


def guest_image_here(
    kind: str, *, kinds: Mapping[str, GuestKind] = KINDS, root: Path | None = None
) -> GuestImage | None:
    """The image of ``kind`` as far as it is there already: None where a run would build it first.

    Raises as ``ensure_guest_image`` does.
    """
    if kind not in kinds:
        return _own_image(kind, kinds)
    entry = cache.find(CACHE_KIND, image_digest(kinds[kind]), root=root)
    return None if entry is None else read_image(entry)


def read_image(entry: Path) -> GuestImage:
    """A built image from its directory. Raises ImageError when its manifest is missing or damaged."""
    try:
        manifest = strict_json(read_regular(entry / MANIFEST, MOST_TEXT))
        files = {str(name): str(digest) for name, digest in manifest["files"].items()}
        image = GuestImage(
            kind=str(manifest["kind"]),
            digest=entry.name,
            disk=entry / "disk.qcow2",
            kernel=entry / "vmlinux",
            initrd=entry / "initrd",
            command_line=str(manifest["command_line"]),
            files=files,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ImageError(
            f"{entry}: its manifest cannot be read: {error}", remedy=f"remove {entry}; it will be built again"
        ) from error
    missing = [name for name in files if not (entry / name).is_file()]
    if missing:
        raise ImageError(f"{entry}: {', '.join(missing)} is missing", remedy=f"remove {entry}")
    return image


def image_digest(spec: GuestKind) -> str:
    """The recipe's hash: everything that decides what the image holds."""
    texts = [f"{file.path} {file.mode:o} {file.content!r}" for file in _root_files(spec)]
    parts = (
        *texts,
        *_customize(Path("tensorflow"), spec),
        _text("initrd-init.sh"),
        frameworks.tree_digest(spec.framework),
        spec.changes_digest,
        *guest_kernel.MODULES,
        *spec.packages,
        *spec.components,
        str(spec.disk_mib),
        spec.command_line,
    )
    return cache.recipe_hash(f"guest {_RECIPE}", _SUITE, *parts)


def _text(name: str) -> str:
    return (resources.files("harness.images") / "guest_files" / name).read_text()


def require_own_image(kind: str, kinds: Mapping[str, GuestKind] = KINDS) -> Path:
    """The path of a person's own image, as far as its first bytes say what it is.

    Raises ConfigError for what is no such path, ImageError for a file that cannot be read or is no qcow2.
    """
    path = Path(kind).expanduser().absolute()
    if path.suffix != ".qcow2":
        raise ConfigError(
            f"guest_image: {kind!r} is neither a kind ({', '.join(sorted(kinds))}) nor a .qcow2 file"
        )
    try:
        with path.open("rb") as file:
            if file.read(4) != b"QFI\xfb":
                raise ImageError(f"{path} is not a qcow2 image", remedy="convert it with qemu-img")
    except OSError as error:
        raise ImageError(f"guest image {path} cannot be read: {error}") from error
    return path


def _own_image(kind: str, kinds: Mapping[str, GuestKind]) -> GuestImage:
    path = require_own_image(kind, kinds)
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ImageError(f"guest image {path} cannot be read: {error}") from error
    return GuestImage(
        kind="own",
        digest=digest[:24],
        disk=path,
        kernel=None,
        initrd=None,
        command_line="",
        files={path.name: digest},
    )


def _build(work: Path, kind: str, spec: GuestKind, digest: str, progress: Callable[[str], None]) -> None:
    progress(
        f"building the {kind} guest image in {_STEPS} steps: TensorFlow, Debian {_SUITE} with ffmpeg, "
        f"john and others, the disk, and its qcow2 copy; {spec.takes}"
    )
    python_dir = work / "tensorflow"
    first = step(progress, 1, _STEPS)
    frameworks.install(python_dir, spec.framework, work / "tensorflow.log", first)
    if spec.change_framework is not None:
        spec.change_framework(python_dir, work / "tensorflow.log", first)
    rootfs = work / "rootfs"
    debian.bootstrap(
        rootfs,
        _SUITE,
        spec.packages,
        components=spec.components,
        files=_root_files(spec),
        customize=_customize(python_dir, spec),
        progress=step(progress, 2, _STEPS),
        deadline=_BOOTSTRAP_SECONDS,
    )
    cache.remove_tree(python_dir)
    _kernel(rootfs, work)
    raw = work / "disk.raw"
    disk = step(progress, 3, _STEPS)
    disk("making the guest's disk")
    debian.make_ext4(rootfs, raw, spec.disk_mib, "guest", progress=disk, journal=False)
    cache.remove_tree(rootfs)
    debian.to_qcow2(raw, work / "disk.qcow2", progress=step(progress, 4, _STEPS))
    raw.unlink()
    _manifest(work, kind, digest, spec)


def _root_files(spec: GuestKind) -> tuple[ImageFile, ...]:
    return (
        ImageFile(path="/usr/lib/shakedown/init", content=_text("init.sh"), mode=0o755),
        ImageFile(path="/usr/lib/shakedown/udhcpc", content=_text("udhcpc.sh"), mode=0o755),
        ImageFile(
            path="/usr/lib/shakedown/acpi/PWRF/00000080",
            content="#!/bin/sh\nexec /usr/lib/shakedown/init poweroff\n",
            mode=0o755,
        ),
        ImageFile(path="/etc/ssh/sshd_config.d/shakedown.conf", content=_text("sshd.conf")),
        ImageFile(path=f"{PYTHON_DIR}/{BINDING}.py", content=binding_file().read_text()),
        ImageFile(path="/etc/hostname", content="guest\n"),
        ImageFile(path="/etc/hosts", content="127.0.0.1 localhost guest\n"),
        *spec.files,
    )


def _customize(python_dir: Path, spec: GuestKind) -> tuple[str, ...]:
    return (
        *spec.steps,
        f'mkdir -p "$1/opt" && cp -a "{python_dir}" "$1/opt/tf" && chown -R 0:0 "$1/opt/tf"',
        # Compiled by the guest's own Python; the guest never asks whether a source changed.
        'chroot "$1" python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/tf '
        f"/usr/lib/python3.11 {PYTHON_DIR} >/dev/null || true",
        'rm -f "$1"/etc/ssh/ssh_host_*',
        'mkdir -p "$1/root/.ssh"',
    )


def _kernel(rootfs: Path, work: Path) -> None:
    kernels = sorted((rootfs / "boot").glob("vmlinuz-*"))
    if len(kernels) != 1:
        raise ImageError(f"the guest's root file system holds {len(kernels)} kernels, not one")
    release = kernels[0].name.removeprefix("vmlinuz-")
    (work / "vmlinux").write_bytes(guest_kernel.extract_vmlinux(kernels[0]))
    modules = guest_kernel.module_files(rootfs / "lib" / "modules" / release)
    busybox = (rootfs / "bin" / "busybox").read_bytes()
    initrd = guest_kernel.build_initrd(busybox, _text("initrd-init.sh").encode(), modules)
    (work / "initrd").write_bytes(initrd)
    for file in (rootfs / "boot").iterdir():
        if file.is_file():
            file.unlink()


def _manifest(work: Path, kind: str, digest: str, spec: GuestKind) -> None:
    names = ("disk.qcow2", "vmlinux", "initrd")
    hashes = {}
    for name in names:
        with (work / name).open("rb") as file:
            hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
        (work / name).chmod(0o644)
    data = {"kind": kind, "recipe": digest, "command_line": spec.command_line, "files": hashes}
    (work / MANIFEST).write_text(json.dumps(data, indent=2) + "\n")
    work.chmod(0o755)
