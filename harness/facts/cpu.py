"""CPUs: topology, what is offline or isolated, and the model."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.facts import ask
from harness.facts.frames import Frames
from harness.facts.notation import count, flag, id_list, id_mask
from harness.model.topology import Cpu, NumaNode

VIRTUALIZATION_FLAGS = ("vmx", "svm", "ept", "npt", "vpid", "avic", "hypervisor", "la57", "x2apic")
"""CPU flags of ``/proc/cpuinfo`` that decide what guests can be given."""

_SIBLINGS = ("core_cpus", "thread_siblings")
_CPU_NAME = re.compile(r"cpu(\d{1,5})")


X86_VENDORS = ("GenuineIntel", "AuthenticAMD", "HygonGenuine", "CentaurHauls", "Shanghai")
_OTHERS = (
    ("ppc64le", "cpu", "POWER"),
    ("riscv64", "isa", "rv64"),
    ("riscv32", "isa", "rv32"),
    ("s390x", "vendor_id", "IBM/S390"),
    ("loongarch64", "system type", "generic-loongson"),
)
"""Architectures by what only their cpuinfo says: a key, and how its value begins."""
_ARCHITECTURE = re.compile(r"[A-Za-z0-9_]{2,20}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuModel:
    """The first CPU's words in ``/proc/cpuinfo``; None where it does not say."""

    name: str | None
    vendor: str | None
    microcode: str | None
    physical_address_bits: int | None
    virtualization: tuple[str, ...]
    architecture: str | None
    """As ``uname -m`` names it."""


def read_model(frames: Frames) -> CpuModel:
    """Model, vendor and flags of the first CPU; unknown when ``/proc/cpuinfo`` was not captured."""
    first = re.split(r"\n\s*\n", frames.text("/proc/cpuinfo") or "", maxsplit=1)[0]
    values: dict[str, str] = {}
    for line in first.splitlines():
        key, colon, value = line.partition(":")
        if colon and value.strip():
            values.setdefault(key.strip(), value.strip())
    bits = re.match(r"(\d{1,3}) bits physical", values.get("address sizes", ""))
    flags = {*values.get("flags", "").split(), *values.get("vmx flags", "").split()}
    return CpuModel(
        name=values.get("model name") or values.get("cpu"),
        vendor=values.get("vendor_id") or values.get("vendor"),
        microcode=values.get("microcode"),
        physical_address_bits=int(bits[1]) if bits else None,
        virtualization=tuple(name for name in VIRTUALIZATION_FLAGS if name in flags),
        architecture=_architecture(frames, values),
    )


def _architecture(frames: Frames, values: dict[str, str]) -> str | None:
    """The kernel's own word (since Linux 6.1), ``uname``'s, or what only one architecture's cpuinfo says."""
    output = frames.commands.get("uname")
    said = frames.text("/proc/sys/kernel/arch") or (output.text.strip() if output else "")
    if _ARCHITECTURE.fullmatch(said):
        return said
    if values.get("vendor_id") in X86_VENDORS:
        return "x86_64"
    if "CPU implementer" in values:
        return "arm" if values.get("CPU architecture", "").startswith("7") else "aarch64"
    return next((name for name, key, begins in _OTHERS if values.get(key, "").startswith(begins)), None)


def online_cpus(frames: Frames) -> frozenset[int] | None:
    """CPUs in the kernel's list of online ones; None when there is no such list."""
    found = id_list(frames.text(f"{ask.CPU}/online"))
    return frozenset(found) if found else None


def without_offline(frames: Frames, cpus: tuple[int, ...]) -> tuple[int, ...]:
    """Those of ``cpus`` that nothing says are offline: some kernels list offline CPUs on their nodes."""
    listed = online_cpus(frames)
    return tuple(
        cpu
        for cpu in cpus
        if (listed is None or cpu in listed) and flag(frames.text(f"{ask.CPU}/cpu{cpu}/online")) is not False
    )


def read_cpus(frames: Frames, nodes: tuple[NumaNode, ...]) -> tuple[Cpu, ...]:
    """Every CPU that the kernel has a directory for, ascending."""
    listed = online_cpus(frames)
    isolated = set(id_list(frames.text(f"{ask.CPU}/isolated")) or ())
    homes: dict[int, list[int]] = {}
    for node in nodes:
        for member in node.cpus:
            homes.setdefault(member, []).append(node.id)
    cpus = []
    for path, match in frames.children(ask.CPU, _CPU_NAME):
        number = int(match[1])
        home = homes.get(number, [])
        if len(home) > 1:
            frames.warnings.append(f"CPU {number} is listed on nodes {home}: its node is unknown")
        online = _online(frames, path, number, listed)
        cpus.append(
            Cpu(
                id=number,
                online=online,
                node=home[0] if len(home) == 1 else None,
                package=count(frames.text(f"{path}/topology/physical_package_id")) if online else None,
                core=count(frames.text(f"{path}/topology/core_id")) if online else None,
                siblings=_siblings(frames, path, number) if online else (),
                isolated=number in isolated,
            )
        )
    return tuple(cpus)


def _online(frames: Frames, path: str, number: int, listed: frozenset[int] | None) -> bool | None:
    own = flag(frames.text(f"{path}/online"))
    if listed is not None:
        return number in listed and own is not False
    if own is not None:
        return own
    # Without either file: the kernel shows a topology for online CPUs only (drivers/base/topology.c).
    return True if f"{path}/topology/core_id" in frames.files else None


def _siblings(frames: Frames, path: str, number: int) -> tuple[int, ...]:
    # thread_siblings is the older name, and goes away (Documentation/ABI/stable/sysfs-devices-system-cpu).
    lists = (id_list(frames.text(f"{path}/topology/{name}_list")) for name in _SIBLINGS)
    masks = (id_mask(frames.text(f"{path}/topology/{name}")) for name in _SIBLINGS)
    found = next((each for each in (*lists, *masks) if each), ())
    if not found:
        return ()
    if number not in found:
        frames.warnings.append(f"CPU {number} is missing from its own sibling list {list(found)}: unknown")
        return ()
    return found
