"""The disk, kernel and initrd of the lab host, from Debian packages, through the image cache."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from harness.errors import ImageError
from harness.images import cache, debian
from harness.images.debian import ImageFile
from harness.images.processes import require_tool, run_logged
from harness.lab.machine import HOST_KEY_BLOB, KEY_BLOB
from harness.progress import step

SUITE = "bookworm"
PACKAGES = (
    "systemd-sysv",
    "udev",
    "dbus",
    "openssh-server",
    "qemu-system-x86",
    "qemu-utils",
    "libvirt-daemon-system",
    "libvirt-clients",
    "linux-image-amd64",
    "pciutils",
    "numactl",
    "hwloc-nox",
    "kmod",
    "dnsmasq-base",
    "iptables",
    "iproute2",
    "procps",
)

_BLOBS = "/sys/firmware/qemu_fw_cfg/by_name"
_SSHD = f"""\
# The machine is handed its keys by QEMU: no key is in the image, and each lab has its own.
HostKey {_BLOBS}/{HOST_KEY_BLOB}/raw
AuthorizedKeysFile {_BLOBS}/{KEY_BLOB}/raw
PasswordAuthentication no
UseDNS no
GSSAPIAuthentication no
UsePAM no
PrintMotd no
MaxSessions 50
MaxStartups 100
"""

_NETWORK = """\
[Unit]
Description=Address of QEMU's user network
DefaultDependencies=no
Before=network.target ssh.service
After=systemd-udevd.service systemd-modules-load.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'for try in 1 2 3 4 5 6 7 8 9; do [ -d /sys/class/net/eth0 ] && break; sleep 1; done; \
ip link set lo up; ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2'
[Install]
WantedBy=multi-user.target
"""

_GUARD = """\
[Unit]
Description=Frees local APICs that QEMU's emulation left blocked (see lapic_guard.c)
DefaultDependencies=no
ConditionPathExists=/dev/mem
[Service]
ExecStart=/usr/local/sbin/lapic_guard %i
Restart=on-failure
[Install]
WantedBy=multi-user.target
"""
_GUARD_CPUS = ("0", "1")
"""Two copies that rest on different CPUs: the timer that ends a rest may be the one that is blocked."""

_MODULES = """\
virtio_net
qemu_fw_cfg
vfio-pci
vfio_iommu_type1
9pnet_virtio
9p
tun
nvme
bridge
"""

_FILES = (
    ImageFile(path="/etc/hostname", content="labhost\n"),
    ImageFile(path="/etc/hosts", content="127.0.0.1 localhost labhost\n"),
    ImageFile(
        path="/etc/fstab",
        # The share is mounted at its first use: QEMU cannot save a machine while it is mounted.
        content="/dev/vda / ext4 rw,noatime 0 1\n"
        "images /srv/images 9p ro,trans=virtio,version=9p2000.L,msize=524288,cache=loose,"
        "noauto,x-systemd.automount 0 0\n",
    ),
    ImageFile(path="/etc/systemd/system/lab-net.service", content=_NETWORK),
    ImageFile(
        path="/etc/systemd/system/libvirtd.service.d/stay.conf",
        content="[Service]\nEnvironment=LIBVIRTD_ARGS=\n",
    ),
    ImageFile(path="/etc/systemd/system/lapic-guard@.service", content=_GUARD),
    ImageFile(path="/etc/modules-load.d/lab.conf", content=_MODULES),
    ImageFile(
        # Without interrupt remapping the kernel refuses VFIO unless told that the risk is accepted; the
        # readiness check sees this parameter, and a waiver says why the lab needs it.
        path="/etc/modprobe.d/lab.conf",
        content="options vfio_iommu_type1 allow_unsafe_interrupts=1\n",
    ),
    ImageFile(path="/etc/ssh/sshd_config.d/lab.conf", content=_SSHD),
    ImageFile(path="/etc/systemd/journald.conf.d/lab.conf", content="[Journal]\nStorage=volatile\n"),
)

_EARLY_FILES = (
    ImageFile(path="/etc/initramfs-tools/conf.d/lab.conf", content="MODULES=list\nCOMPRESS=gzip\n"),
    ImageFile(path="/usr/share/initramfs-tools/modules.d/lab.conf", content="virtio_pci\nvirtio_blk\next4\n"),
)

_MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "logrotate.timer",
    "getty@tty1.service",
    "serial-getty@ttyS0.service",
    "libvirt-guests.service",
    "systemd-networkd.service",
    "systemd-networkd-wait-online.service",
    "systemd-pstore.service",
    "systemd-timesyncd.service",
    "modprobe@dm_mod.service",
    "modprobe@drm.service",
    "modprobe@loop.service",
)

_CUSTOMIZE = (
    'rm -f "$1"/etc/ssh/ssh_host_*',
    "for unit in " + " ".join(_MASKED) + '; do ln -sf /dev/null "$1/etc/systemd/system/$unit"; done',
    'ln -sf ../lab-net.service "$1/etc/systemd/system/multi-user.target.wants/lab-net.service"',
    *(
        "ln -sf ../lapic-guard@.service "
        f'"$1/etc/systemd/system/multi-user.target.wants/lapic-guard@{cpu}.service"'
        for cpu in _GUARD_CPUS
    ),
    'mkdir -p "$1/srv/images" "$1/var/lib/shakedown"',
    # Empty, not missing: made at boot without the presets of a first boot.
    ': > "$1/etc/machine-id"',
    'dpkg-query --admindir="$1/var/lib/dpkg" -W > "$1/usr/share/shakedown-packages.txt"',
)

_TREE_MIB = 2000
"""Room for the tree and its copies while building (measured: 1.0 GiB tree, 1.0 GiB raw, 0.8 GiB qcow2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostImage:
    """A bootable lab host: direct kernel boot, no boot loader."""

    disk: Path
    kernel: Path
    initrd: Path
    digest: str


def image_digest(disk_gib: int) -> str:
    """The recipe's hash: everything that decides what the image holds."""
    files = [f"{file.path}\0{file.mode}\0{file.content!r}" for file in (*_EARLY_FILES, *_FILES)]
    tool = inspect.getsource(debian)
    return cache.recipe_hash(
        "lab-host", SUITE, *PACKAGES, *files, *_CUSTOMIZE, str(disk_gib), tool, _guard_source()
    )


def ensure_host_image(
    disk_gib: int, progress: Callable[[str], None], *, root: Path | None = None
) -> HostImage:
    """The lab host's image, built when the cache does not hold it (about two minutes). Raises ImageError."""
    digest = image_digest(disk_gib)

    def build(work: Path) -> None:
        _build(work, disk_gib, progress)
        cache.prune("lab-host", progress, root=root)

    entry = cache.ensure("lab-host", digest, build, progress, need_mib=3 * _TREE_MIB, root=root)
    return HostImage(
        disk=entry / "host.qcow2", kernel=entry / "vmlinuz", initrd=entry / "initrd.img", digest=digest
    )


def _build(work: Path, disk_gib: int, progress: Callable[[str], None]) -> None:
    rootfs = work / "rootfs"
    guard = ImageFile(path="/usr/local/sbin/lapic_guard", content=_compile_guard(work, progress), mode=0o755)
    progress(
        f"building the lab host's image in 3 steps: Debian {SUITE}, its disk, and that as qcow2; two minutes"
    )
    debian.bootstrap(
        rootfs,
        SUITE,
        PACKAGES,
        files=(*_FILES, guard),
        early_files=_EARLY_FILES,
        customize=_CUSTOMIZE,
        progress=step(progress, 1, 3),
    )
    shutil.copyfile(_only(rootfs / "boot", "vmlinuz-*"), work / "vmlinuz")
    shutil.copyfile(_only(rootfs / "boot", "initrd.img-*"), work / "initrd.img")
    shutil.copyfile(rootfs / "usr/share/shakedown-packages.txt", work / "packages.txt")
    raw = work / "host.raw"
    step(progress, 2, 3)("making the lab host's disk")
    debian.make_ext4(rootfs, raw, disk_gib * 1024, "labhost", progress=step(progress, 2, 3), journal=False)
    debian.to_qcow2(raw, work / "host.qcow2", progress=step(progress, 3, 3))
    raw.unlink()
    cache.remove_tree(rootfs)


def _guard_source() -> str:
    return (resources.files("harness.lab") / "native" / "lapic_guard.c").read_text()


def _compile_guard(work: Path, progress: Callable[[str], None]) -> bytes:
    """The guard as a static program: the lab host has no compiler and need not have our C library."""
    source, program = work / "lapic_guard.c", work / "lapic_guard"
    source.write_text(_guard_source())
    run_logged(
        [require_tool("gcc", "gcc"), "-static", "-O2", "-o", str(program), str(source)],
        log=work / "lapic_guard.log",
        what="compiling lapic_guard",
        progress=progress,
    )
    content = program.read_bytes()
    source.unlink()
    program.unlink()
    return content


def _only(directory: Path, pattern: str) -> Path:
    found = sorted(directory.glob(pattern))
    if len(found) != 1:
        raise ImageError(f"{directory} holds {len(found)} files {pattern}, not one")
    return found[0]
