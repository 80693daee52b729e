"""Kinds of guest images: ``cpu`` (for hosts without GPUs) and ``nvidia`` (with Debian's non-free driver;
built where its packages can be had, never claimed to have run). A host's control may bring more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.images.debian import ImageFile
from harness.workloads.registry import specs

PYTHON_DIR = "/usr/lib/python3/dist-packages"
"""Where the guest holds ``pynvml.py``, compiled: the sampler is told so."""
COMMAND_LINE = (
    "console=ttyS0 net.ifnames=0 quiet audit=0 random.trust_cpu=on init_on_alloc=0 nokaslr mitigations=off"
)

ChangeFramework = Callable[[Path, Path, Callable[[str], None]], None]
"""Changes an installed TensorFlow: its folder, a log, progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestKind:
    """What one kind of guest image is made of."""

    packages: tuple[str, ...]
    components: tuple[str, ...]
    framework: str
    """Kind of TensorFlow tree (``harness.images.frameworks``), installed to /opt/tf."""
    disk_mib: int
    takes: str
    """How long it takes to build, in words."""
    command_line: str = COMMAND_LINE
    files: tuple[ImageFile, ...] = ()
    """More files than every image has."""
    steps: tuple[str, ...] = ()
    """Shell commands with the image's root as ``$1``, after its packages are installed."""
    change_framework: ChangeFramework | None = None
    """None: TensorFlow stays as its wheels have it."""
    changes_digest: str = ""
    """The hash of what ``change_framework`` makes of it."""


def once(*packages: str) -> tuple[str, ...]:
    """Each package once, in this order."""
    return tuple(dict.fromkeys(packages))


BASE = (
    "python3",
    "openssh-server",
    "kmod",
    "busybox-static",
    "iproute2",
    "pciutils",
    "numactl",
    "linux-image-amd64",
)
"""What every guest has beside what its loads need."""
LOADS = tuple(package for one in specs() for package in one.packages)
_LOADS_ON_GPUS = tuple(package for one in specs() for package in one.gpu_packages)

KINDS: dict[str, GuestKind] = {
    "cpu": GuestKind(
        packages=once(*BASE, *LOADS),
        components=("main",),
        framework="cpu",
        disk_mib=5 * 1024,
        takes="about three minutes",
    ),
    "nvidia": GuestKind(
        packages=once(
            *BASE,
            *LOADS,
            # Debian ships the kernel module as source (dkms).
            *("gcc", "libc6-dev", "make", "linux-headers-amd64"),
            *("nvidia-kernel-dkms", "nvidia-smi", "nvidia-modprobe", "libnvidia-ml1"),
            *_LOADS_ON_GPUS,
        ),
        components=("main", "contrib", "non-free", "non-free-firmware"),
        framework="cuda",
        disk_mib=12 * 1024,
        takes="five to twenty minutes, most of them in step 2",
    ),
}
"""Times as seen on two to sixteen cores; NVIDIA's kernel modules are compiled in step 2."""
