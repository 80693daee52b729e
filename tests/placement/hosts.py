"""Builders of HostFacts: hosts as they could be, made from a few numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.model.pci import PciAddress
from harness.model.topology import (
    Bar,
    Cpu,
    Domain,
    HostFacts,
    HugepagePool,
    Iommu,
    IommuGroup,
    Noise,
    NumaNode,
    PciDevice,
    Versions,
)

GIB = 1 << 30
MIB = 1 << 20
HUGE_1G = GIB
HUGE_2M = 2 * MIB


@dataclass(frozen=True, kw_only=True)
class GpuSpec:
    """One GPU: ``switch`` None puts it on a root port of its own; ``group`` None gives it its own group."""

    node: int | None = 0
    root: int | None = None
    """Root bus; None gives each node its own (0x10 + 0x10 * node)."""
    switch: int | None = None
    group: int | None = None
    companions: tuple[str, ...] = ()
    """Classes of further functions in its slot, ``040300`` for an audio function."""
    class_code: str = "030200"
    ids: str = "10de:2335"
    bar_bytes: int = 128 * GIB


def device(address: PciAddress, **fields: object) -> PciDevice:
    """A function with ordinary values wherever ``fields`` is silent."""
    plain: dict[str, object] = {
        "address": address,
        "vendor": "10de",
        "device": "2335",
        "class_code": "030200",
        "subsystem": None,
        "revision": "a1",
        "numa_node": 0,
        "local_cpus": None,
        "iommu_group": None,
        "driver": None,
        "driver_override": None,
        "upstream": (),
        "link": None,
        "reset_methods": ("bus",),
        "bars": (),
        "aer": None,
        "power_state": "D0",
        "d3cold_allowed": False,
        "power_control": "on",
        "boot_vga": None,
        "sriov_totalvfs": None,
        "sriov_numvfs": None,
        "config_ok": True,
        "header_type": 0,
        "slot_label": None,
        "serial": None,
        "vanished": False,
    }
    return PciDevice(**{**plain, **fields})  # type: ignore[arg-type]


def node_cpus(node: int, cores: int, threads: int, nodes: int) -> list[tuple[int, ...]]:
    """CPU numbers of each core, as Linux counts on x86: all first threads, then all second ones."""
    total = cores * nodes
    return [tuple(t * total + node * cores + core for t in range(threads)) for core in range(cores)]


def host(
    gpus: Sequence[GpuSpec] = (),
    *,
    nodes: int = 2,
    cores: int = 16,
    threads: int = 1,
    memory: int = 64 * GIB,
    hugepages: dict[int, int] | None = None,
    far: int = 21,
    distances: Sequence[Sequence[int]] | None = None,
    offline: Iterable[int] = (),
    isolated: Iterable[int] = (),
    domains: tuple[Domain, ...] = (),
    extra: tuple[PciDevice, ...] = (),
) -> HostFacts:
    """A host of equal nodes. ``hugepages`` is page size in bytes to pages per node."""
    off, alone = set(offline), set(isolated)
    cpus, numa = [], []
    for n in range(nodes):
        here: list[int] = []
        for core, ids in enumerate(node_cpus(n, cores, threads, nodes)):
            online = tuple(i for i in ids if i not in off)
            here.extend(online)
            cpus.extend(
                Cpu(
                    id=i,
                    online=i not in off,
                    node=n,
                    package=n if i not in off else None,
                    core=core if i not in off else None,
                    siblings=online if i not in off else (),
                    isolated=i in alone,
                )
                for i in ids
            )
        row = distances[n] if distances else [10 if m == n else far for m in range(nodes)]
        numa.append(
            NumaNode(
                id=n,
                cpus=tuple(sorted(here)),
                memory_bytes=memory,
                free_bytes=memory,
                distances=dict(enumerate(row)),
                hugepages={s: HugepagePool(total=p, free=p) for s, p in (hugepages or {}).items()},
            )
        )
    devices, groups = _pci(gpus)
    return _facts(tuple(cpus), tuple(numa), (*devices, *extra), groups, domains)


def _pci(gpus: Sequence[GpuSpec]) -> tuple[list[PciDevice], list[IommuGroup]]:
    devices: list[PciDevice] = []
    members: dict[int, list[PciAddress]] = {}
    for index, spec in enumerate(gpus):
        root = spec.root if spec.root is not None else 0x10 + 0x10 * (spec.node or 0)
        port = PciAddress(0, root, index % 32, 0)
        above: tuple[PciAddress, ...] = (port,)
        if spec.switch is not None:
            top = PciAddress(0, root, 31 - spec.switch % 8, 1)
            above = (PciAddress(1, root, index % 32, 0), PciAddress(1, root, 31 - spec.switch % 8, 1), top)
        group = spec.group if spec.group is not None else 100 + index
        vendor, number = spec.ids.split(":")
        for function, class_code in enumerate((spec.class_code, *spec.companions)):
            address = PciAddress(0, 0xC0 + index, 0, function)
            members.setdefault(group, []).append(address)
            devices.append(
                device(
                    address,
                    vendor=vendor if function == 0 else "10de",
                    device=number if function == 0 else "0fb0",
                    class_code=class_code,
                    numa_node=spec.node,
                    iommu_group=group,
                    upstream=above,
                    bars=(Bar(index=1, size=spec.bar_bytes, io=False, prefetchable=True, is_64bit=True),)
                    if function == 0
                    else (),
                )
            )
    return devices, [IommuGroup(id=g, devices=tuple(sorted(m)), type="DMA") for g, m in members.items()]


def _facts(
    cpus: tuple[Cpu, ...],
    nodes: tuple[NumaNode, ...],
    devices: tuple[PciDevice, ...],
    groups: list[IommuGroup],
    domains: tuple[Domain, ...],
) -> HostFacts:
    return HostFacts(
        hostname="built",
        machine_id=None,
        product=None,
        serial=None,
        cpu_model="built",
        cpu_vendor="GenuineIntel",
        physical_address_bits=46,
        virtualization=("vmx",),
        kvm=True,
        kernel_command_line="intel_iommu=on",
        versions=Versions(
            kernel="6.1", os=None, qemu=None, libvirt=None, bios=None, board=None, bmc=None, microcode=None
        ),
        numa_nodes=nodes,
        cpus=cpus,
        nohz_full=(),
        pci_devices=devices,
        iommu=Iommu(
            units=("dmar0",),
            groups=tuple(groups),
            interrupt_remapping=True,
            unsafe_interrupts=False,
            vfio_parameters={},
            vfio_device_nodes=(),
            iommufd=False,
        ),
        domains=domains,
        noise=Noise(ksm=None, numa_balancing=None, transparent_hugepages=None, governor=None),
        storage=(),
        kernel_log=(),
        uptime_seconds=100.0,
        boot_id=None,
        collected_at=None,
        warnings=(),
    )


def lab_like(**changes: object) -> HostFacts:
    """Two nodes of four cores, two GPUs on each, one of each two with an audio function."""
    gpus = [
        GpuSpec(node=n, companions=("040300",) if i == 0 else (), bar_bytes=0) for n in (0, 1) for i in (0, 1)
    ]
    fields = {"nodes": 2, "cores": 4, "memory": 8 * GIB, "hugepages": {HUGE_2M: 2048}, **changes}
    return host(gpus, **fields)  # type: ignore[arg-type]


def with_device(facts: HostFacts, address: PciAddress, **changes: object) -> HostFacts:
    """The facts with one function changed."""
    devices = tuple(
        dataclasses.replace(d, **changes) if d.address == address else d  # type: ignore[arg-type]
        for d in facts.pci_devices
    )
    return dataclasses.replace(facts, pci_devices=devices)


def with_node(facts: HostFacts, node: int, **changes: object) -> HostFacts:
    """The facts with one NUMA node changed."""
    nodes = tuple(
        dataclasses.replace(n, **changes) if n.id == node else n  # type: ignore[arg-type]
        for n in facts.numa_nodes
    )
    return dataclasses.replace(facts, numa_nodes=nodes)


def gpu_address(index: int, function: int = 0) -> PciAddress:
    """Address of the GPU built from the ``index``-th spec."""
    return PciAddress(0, 0xC0 + index, 0, function)
