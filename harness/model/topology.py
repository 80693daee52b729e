"""HostFacts: what a candidate host says of itself. ``None`` means *unknown*, never a guess.

Sizes are bytes, speeds GT/s, times seconds. The JSON form (``harness.serial.to_json``) has every key
always present; others read it, so names here are a contract.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from harness.model.pci import PciAddress

GPU_CLASSES = ("0300", "0302", "0380", "1200")
"""VGA, 3D and display controllers, processing accelerators (PCI ID database, classes 03 and 12)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HugepagePool:
    """Pages of one size on one node; None where the kernel did not say."""

    total: int | None
    free: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NumaNode:
    """A NUMA node as the kernel numbers it (numbers may be sparse). ``cpus`` are the online ones."""

    id: int
    cpus: tuple[int, ...]
    memory_bytes: int | None
    free_bytes: int | None
    distances: dict[int, int]
    """Node id to distance (ACPI SLIT, 10 is local); empty when unknown."""
    hugepages: dict[int, HugepagePool]
    """Page size in bytes to pool."""
    generic_initiator: bool | None = None
    """Whether the firmware declares an initiator without CPUs (a GPU, say) here; None when not said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """A logical CPU. An offline CPU has no package, core or siblings."""

    id: int
    online: bool | None
    node: int | None
    package: int | None
    core: int | None
    siblings: tuple[int, ...]
    """All hardware threads of its core, itself included, ascending."""
    isolated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """PCIe link of one function; each field None where sysfs does not say."""

    speed_gts: float | None
    width: int | None
    max_speed_gts: float | None
    max_width: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One memory or I/O region of ``resource``; ``index`` 6 is the expansion ROM."""

    index: int
    size: int
    io: bool
    prefetchable: bool
    is_64bit: bool
    resizable: bool = False
    """``resourceN_resize`` exists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AerCounters:
    """Totals of ``aer_dev_correctable``, ``_nonfatal`` and ``_fatal``; root-port totals where present."""

    correctable: int | None
    nonfatal: int | None
    fatal: int | None
    rootport_correctable: int | None = None
    rootport_nonfatal: int | None = None
    rootport_fatal: int | None = None


def _json_name(name: str) -> str:
    return "class" if name == "class_code" else name


@dataclass(frozen=True, slots=True, kw_only=True)
class PciDevice:
    """One PCI function. In JSON ``class_code`` is called ``class``, which Python keeps for itself."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"alias_generator": _json_name, "populate_by_name": True}

    address: PciAddress
    vendor: str
    """4 lower-case hex digits without ``0x``; ``device`` the same, ``class_code`` 6 of them."""
    device: str
    class_code: str
    subsystem: str | None
    """``vvvv:dddd``."""
    revision: str | None
    numa_node: int | None
    """None when the kernel says -1: unknown, not node 0."""
    local_cpus: tuple[int, ...] | None
    iommu_group: int | None
    driver: str | None
    driver_override: str | None
    upstream: tuple[PciAddress, ...]
    """Bridges from the nearest upward to the root port; empty on a root bus."""
    link: Link | None
    reset_methods: tuple[str, ...]
    """In the kernel's order of preference; a claim until exercised."""
    bars: tuple[Bar, ...]
    aer: AerCounters | None
    power_state: str | None
    d3cold_allowed: bool | None
    power_control: str | None
    boot_vga: bool | None
    sriov_totalvfs: int | None
    sriov_numvfs: int | None
    config_ok: bool | None
    """False when configuration space reads all ones (the device fell off the bus)."""
    header_type: int | None
    slot_label: str | None
    """Physical slot (``/sys/bus/pci/slots/*/address`` or the firmware's label): which card to pull."""
    serial: str | None
    """Serial number from VPD or the device serial number capability, where readable."""
    vanished: bool
    """True when the device went away while it was being read; its other fields are then unknown: ``vendor``,
    ``device`` and ``class`` read all ``f``, as an absent function does on the bus."""
    reset_file: bool | None = None
    """``reset`` exists. Kernels before 5.15 have it without ``reset_method``: methods are then unknown."""
    physfn: PciAddress | None = None
    """The physical function that an SR-IOV virtual function belongs to (``$D/physfn``); None for others."""

    @property
    def id(self) -> str:
        """``vendor:device``."""
        return f"{self.vendor}:{self.device}"


@dataclass(frozen=True, slots=True, kw_only=True)
class IommuGroup:
    """An IOMMU group and its members."""

    id: int
    devices: tuple[PciAddress, ...]
    type: str | None
    """``DMA``, ``DMA-FQ``, ``identity`` ... as the kernel says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Iommu:
    """IOMMU state of the running kernel (not of the next boot)."""

    units: tuple[str, ...]
    """Names in ``/sys/class/iommu`` (``dmar0``, ``ivhd0`` ...)."""
    groups: tuple[IommuGroup, ...]
    interrupt_remapping: bool | None
    """From the kernel log and the interrupt chips: False when either says so, None when neither says."""
    unsafe_interrupts: bool | None
    """``vfio_iommu_type1.allow_unsafe_interrupts``; None when the module is not loaded."""
    vfio_parameters: dict[str, str]
    """``module.parameter`` to value for every loaded VFIO module."""
    vfio_device_nodes: tuple[str, ...]
    iommufd: bool
    """``/dev/iommu`` exists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """Versions of what a verdict holds for; None when not found."""

    kernel: str | None
    os: str | None
    qemu: str | None
    libvirt: str | None
    bios: str | None
    board: str | None
    bmc: str | None
    microcode: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """A libvirt domain or QEMU process found on the host."""

    name: str
    uuid: str | None
    pid: int | None
    hostdevs: tuple[PciAddress, ...] = ()
    """Functions on its QEMU command line; empty for domains that do not run."""
    running: bool | None = None
    """True with a QEMU process, False when libvirt lists it and no process has its UUID."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceHolder:
    """A process that has a GPU's or VFIO's device file open."""

    pid: int
    path: str
    """``/dev/vfio/15`` ..."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """What disturbs measurements: recorded, judged by nobody unless a profile says so."""

    ksm: bool | None
    numa_balancing: bool | None
    transparent_hugepages: str | None
    governor: str | None
    irq_affinity: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Interrupt number to the CPUs it may run on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """A filesystem Shakedown would write to."""

    path: str
    total_bytes: int | None
    free_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """Everything one round trip learned of a candidate host."""

    schema_version: int = 1
    hostname: str | None
    machine_id: str | None
    product: str | None
    serial: str | None
    cpu_model: str | None
    cpu_vendor: str | None
    architecture: str | None = None
    """As ``uname -m`` names it: ``x86_64``, ``aarch64``; None when the host did not say."""
    physical_address_bits: int | None
    virtualization: tuple[str, ...]
    """CPU flags that matter: ``vmx``, ``svm``, ``ept``, ``npt``, ``hypervisor`` ..."""
    kvm: bool
    """``/dev/kvm`` exists."""
    kernel_command_line: str | None
    versions: Versions
    numa_nodes: tuple[NumaNode, ...]
    cpus: tuple[Cpu, ...]
    nohz_full: tuple[int, ...]
    pci_devices: tuple[PciDevice, ...]
    iommu: Iommu
    domains: tuple[Domain, ...] | None
    """None when neither libvirt nor /proc could be asked."""
    device_holders: tuple[DeviceHolder, ...] | None = None
    """Processes with a GPU's device file or ``/dev/vfio/*`` open; None when it was not asked."""
    noise: Noise
    storage: tuple[Storage, ...]
    kernel_log: tuple[str, ...] | None
    """Lines about IOMMU, VFIO, AER, MCE and GPUs from the ring buffer; None when unreadable."""
    uptime_seconds: float | None
    boot_id: str | None
    collected_at: str | None
    """UTC, ISO 8601, by the host's clock."""
    warnings: tuple[str, ...]
    """What could not be read, one sentence each: never silently dropped."""

    @property
    def online_cpus(self) -> tuple[Cpu, ...]:
        """The CPUs that are not known to be offline."""
        return tuple(cpu for cpu in self.cpus if cpu.online is not False)

    def device(self, address: PciAddress) -> PciDevice | None:
        """The function at ``address``, or None."""
        return next((d for d in self.pci_devices if d.address == address), None)

    def node(self, node_id: int) -> NumaNode | None:
        """The NUMA node numbered ``node_id``, or None."""
        return next((n for n in self.numa_nodes if n.id == node_id), None)

    def group(self, group_id: int) -> IommuGroup | None:
        """The IOMMU group numbered ``group_id``, or None."""
        return next((g for g in self.iommu.groups if g.id == group_id), None)
