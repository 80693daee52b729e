"""PlacementPlan (decided) and ObservedPlacement (found)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from harness.model.pci import PciAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why there is no plan: a stable code and a sentence."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NoPlan:
    """The other answer of the planner: every reason, not only the first."""

    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedGpu:
    """One GPU of a guest."""

    host: PciAddress
    guest_cell: int
    host_node: int
    alias: str
    """libvirt alias, ``ua-gpu0``."""
    root_port_bus: int
    """Index of its ``pcie-root-port`` controller, which is also the bus its endpoint sits on."""
    companions: tuple[PciAddress, ...] = ()
    """Other functions of its IOMMU group that travel with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestCell:
    """One guest NUMA cell, bound to one host node."""

    id: int
    host_node: int
    vcpus: tuple[int, ...]
    memory_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementPlan:
    """A guest's placement, decided: print it, diff it, render it, compare it with what was found."""

    guest: str
    gpus: tuple[PlannedGpu, ...]
    cells: tuple[GuestCell, ...]
    vcpupin: dict[int, int]
    """vCPU to host CPU: one dedicated hardware thread each."""
    emulatorpin: tuple[int, ...]
    hugepage_kib: int | None
    """Page size backing the guest; None for ordinary pages."""
    threads_per_core: int
    distances: dict[int, dict[int, int]]
    """Guest cell to guest cell, copied from the host nodes."""

    @property
    def memory_mib(self) -> int:
        """Memory of all cells together."""
        return sum(cell.memory_mib for cell in self.cells)

    @property
    def hostdevs(self) -> tuple[PciAddress, ...]:
        """Every function that is handed over: GPUs and companions."""
        return tuple(f for gpu in self.gpus for f in (gpu.host, *gpu.companions))


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedThread:
    """One thread of the QEMU process."""

    tid: int
    name: str
    vcpu: int | None
    """vCPU number by QMP ``query-cpus-fast``; None for every other thread."""
    cpus_allowed: tuple[int, ...]
    mems_allowed: tuple[int, ...]
    cgroup: str | None
    cgroup_cpus: tuple[int, ...] | None
    """``cpuset.cpus.effective`` of its cgroup; None when unreadable."""
    last_cpu: int | None
    guest_cell: int | None = None
    """Guest cell of a vCPU, as QEMU says."""
    kernel: bool = False
    """True for a kernel thread that works for this guest (vhost, KVM's page recovery, KVM's timer)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedMemory:
    """One guest RAM block: QMP's claim beside the kernel's pages."""

    memdev: str
    guest_cell: int | None
    size_bytes: int
    policy: str | None
    host_nodes: tuple[int, ...]
    pages: dict[int, int]
    """Host node to bytes resident there, from ``numa_maps``."""
    page_kib: int | None
    kernel_policy: str | None
    """As in ``numa_maps``: ``bind:0``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedGpu:
    """The identity of one handed-over function through every layer; None where a layer did not say."""

    host: PciAddress
    alias: str | None
    qom_root_port: str | None
    guest: PciAddress | None
    guest_vendor_device: str | None
    guest_numa_node: int | None
    guest_local_cpus: tuple[int, ...] | None
    host_driver: str | None
    qemu_vendor_device: str | None = None
    """``vendor:device`` as QEMU sees it."""
    qemu_root_port_address: PciAddress | None = None
    """Guest address of the root port, by QEMU; ``guest_root_port_address``: by the guest's sysfs."""
    guest_root_port_address: PciAddress | None = None
    iommu_group: int | None = None
    held: bool | None = None
    """Whether the QEMU process has the function's VFIO node open; None when unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestNode:
    """A NUMA node as the guest's kernel sees it."""

    id: int
    cpus: tuple[int, ...]
    memory_bytes: int | None
    distances: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedPlacement:
    """Where a running guest really landed, read from QEMU, the kernel and the guest."""

    guest: str
    pid: int
    threads: tuple[ObservedThread, ...]
    memory: tuple[ObservedMemory, ...]
    gpus: tuple[ObservedGpu, ...]
    guest_nodes: tuple[GuestNode, ...]
    locked_bytes_limit: int | None
    problems: tuple[str, ...]
    """What could not be read, one sentence each: ``threads: ...``, ``memory: ...``, ``devices: ...`` or
    ``guest: ...`` by what it leaves in doubt; without such a word, everything."""
    at: float | None = None
    """When the host was asked, in seconds since its boot: the clock of ``HostTelemetry``."""
    state: str | None = None
    """QEMU's own run state (QMP ``query-status``): ``running``, ``paused``; None where it was not asked."""


class Moment(StrEnum):
    """When a placement is looked at again, after the first look at the booted guest: each is demanded."""

    MIDDLE = "in the middle of the burn"
    END = "at the end of the burn"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementLook:
    """A guest's placement, observed again as it was after its boot."""

    moment: Moment
    observed: ObservedPlacement | None
    """None when it could not be read; ``detail`` says why."""
    at: float | None = None
    """When the look was taken, in seconds since the host's boot; None when not even that could be asked."""
    files: tuple[str, ...] = ()
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One place where plan and observation disagree."""

    layer: str
    """``qemu``, ``kernel``, ``guest`` or ``map``."""
    what: str
    planned: str
    observed: str
