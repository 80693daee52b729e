"""GPUs that can be handed out, in units that cannot be divided: an IOMMU group belongs to one guest."""

from __future__ import annotations

from dataclasses import dataclass

from harness.model.attachment import Attachment
from harness.model.guest import GpuSelector
from harness.model.pci import PciAddress
from harness.model.placement import Reason
from harness.model.topology import HostFacts, PciDevice
from harness.placement.gpus import can_travel, group_members
from harness.placement.placed import Placed
from harness.placement.reasons import Code, reason

Place = tuple[tuple[int, int], tuple[PciAddress, ...]]
"""Where a GPU sits in the PCI tree: its root bus (domain, bus) and the switch ports above it, top down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU that could be handed out: where it is and what travels with it."""

    address: PciAddress
    node: int
    place: Place
    companions: tuple[PciAddress, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A GPU that cannot be handed out, and why."""

    address: PciAddress
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """All GPUs of a host: free units, refused GPUs, and how many GPUs each NUMA node has in all."""

    units: tuple[tuple[Gpu, ...], ...]
    refused: tuple[Refused, ...]
    per_node: dict[int, int]
    total: int


def take_stock(facts: HostFacts, selector: GpuSelector, placed: Placed, mode: Attachment) -> Inventory:
    """The host's GPUs, each either in a unit that may be handed out or refused with every reason."""
    gpus = mode.select(facts, selector)
    chosen = {gpu.address: gpu for gpu in gpus}
    with_it = {a: mode.companions(facts, gpu) for a, gpu in chosen.items()}
    reasons = {
        a: (
            *_device_reasons(facts, gpu, mode),
            *_group_reasons(facts, gpu, selector, chosen, with_it[a]),
            *_holder_reasons(facts, gpu, placed, with_it[a]),
        )
        for a, gpu in chosen.items()
    }
    nodes = {a: numa_node(facts, gpu) for a, gpu in chosen.items()}
    units: list[tuple[Gpu, ...]] = []
    refused: list[Refused] = []
    for members in _units(facts, chosen, with_it):
        if any(reasons[a] for a in members):
            refused.extend(Refused(address=a, reasons=_with_blame(a, members, reasons)) for a in members)
            continue
        units.append(
            tuple(
                Gpu(address=a, node=n, place=place(chosen[a]), companions=_travellers(chosen, a, with_it[a]))
                for a in members
                if (n := nodes[a]) is not None
            )
        )
    known = [node for node in nodes.values() if node is not None]
    return Inventory(
        units=tuple(units),
        refused=tuple(sorted(refused, key=lambda r: r.address)),
        per_node={node: known.count(node) for node in set(known)},
        total=len(gpus),
    )


def numa_node(facts: HostFacts, device: PciDevice) -> int | None:
    """The device's NUMA node; unknown stays unknown unless the host has exactly one node."""
    if device.numa_node is None and len(facts.numa_nodes) == 1:
        return facts.numa_nodes[0].id
    return device.numa_node


def place(device: PciDevice) -> Place:
    """The device's place: its root bus and every bridge above it but the port that it has for itself."""
    top = device.upstream[-1] if device.upstream else device.address
    return (top.domain, top.bus), tuple(reversed(device.upstream[1:]))


def _units(
    facts: HostFacts,
    chosen: dict[PciAddress, PciDevice],
    with_it: dict[PciAddress, tuple[PciDevice, ...]],
) -> list[tuple[PciAddress, ...]]:
    """GPUs that share an IOMMU group or a slot's companions, together; in order of address."""
    unit_of: dict[PciAddress, set[PciAddress]] = {a: {a} for a in chosen}
    for a, gpu in chosen.items():
        for other in (*group_members(facts, gpu), *(d.address for d in with_it[a])):
            if other in unit_of and unit_of[other] is not unit_of[a]:
                merged = unit_of[a] | unit_of[other]
                for member in merged:
                    unit_of[member] = merged
    return sorted({tuple(sorted(unit)) for unit in unit_of.values()})


def _travellers(
    chosen: dict[PciAddress, PciDevice], address: PciAddress, with_it: tuple[PciDevice, ...]
) -> tuple[PciAddress, ...]:
    """Companions of one GPU; where a slot has several GPUs, its first one takes them along."""
    first = min(a for a in chosen if a.slot == address.slot)
    if address != first:
        return ()
    return tuple(d.address for d in with_it if d.address not in chosen and d.address.slot == address.slot)


def _device_reasons(facts: HostFacts, gpu: PciDevice, mode: Attachment) -> list[Reason]:
    found: list[Reason] = []
    if gpu.vanished:
        found.append(reason(Code.VANISHED, f"GPU {gpu.address} disappeared while the host was being read"))
    if gpu.config_ok is False:
        message = f"GPU {gpu.address} reads all ones: it has fallen off the bus"
        found.append(reason(Code.CONFIG_UNREADABLE, message))
    if mode.hand_over is not None:
        found.extend(mode.hand_over.refusals(facts, gpu))
    node = numa_node(facts, gpu)
    if node is None:
        message = (
            f"the NUMA node of GPU {gpu.address} is unknown and the host has {len(facts.numa_nodes)} "
            "nodes: which cores and memory are near it is unknown"
        )
        found.append(reason(Code.NUMA_UNKNOWN, message))
    elif facts.node(node) is None:
        message = f"GPU {gpu.address} is on NUMA node {node}, which the host does not list"
        found.append(reason(Code.NODE_MISSING, message))
    return found


def _group_reasons(
    facts: HostFacts,
    gpu: PciDevice,
    selector: GpuSelector,
    chosen: dict[PciAddress, PciDevice],
    with_it: tuple[PciDevice, ...],
) -> list[Reason]:
    found: list[Reason] = []
    present = {d.address for d in facts.pci_devices}
    members = group_members(facts, gpu)
    for member in members:
        if member not in present:
            message = (
                f"IOMMU group {gpu.iommu_group} of GPU {gpu.address} lists {member}, which does not exist"
            )
            found.append(reason(Code.GROUP_FOREIGN, message))
    together = (gpu, *(chosen[a] for a in members if a in chosen))
    for device in with_it:
        if device.address in chosen:
            continue
        own = any(can_travel(device, other) for other in together)
        if own and device.address not in selector.exclude:
            continue
        why = "the host file excludes it" if own else f"it is a function of class {device.class_code}"
        message = (
            f"{device.address} must be assigned together with GPU {gpu.address} (IOMMU group "
            f"{gpu.iommu_group}) and cannot be: {why}"
        )
        found.append(reason(Code.GROUP_FOREIGN, message))
    return found


def _holder_reasons(
    facts: HostFacts, gpu: PciDevice, placed: Placed, with_it: tuple[PciDevice, ...]
) -> list[Reason]:
    functions = (gpu.address, *(d.address for d in with_it))
    found: list[Reason] = []
    if gpu.address in placed.devices:
        guest = placed.devices[gpu.address]
        message = f"GPU {gpu.address} belongs to the placed guest {guest!r}"
        found.append(reason(Code.ALREADY_PLACED, message))
    else:
        for function in functions:
            if function in placed.devices:
                guest = placed.devices[function]
                message = (
                    f"{function} of the group of GPU {gpu.address} belongs to the placed guest {guest!r}"
                )
                found.append(reason(Code.GROUP_SHARED, message))
    for domain in facts.domains or ():
        for function in functions:
            if function in domain.hostdevs and function not in placed.devices:
                message = f"{function} of GPU {gpu.address} is in use by the running domain {domain.name!r}"
                found.append(reason(Code.IN_USE, message))
    return found


def _with_blame(
    address: PciAddress, members: tuple[PciAddress, ...], reasons: dict[PciAddress, tuple[Reason, ...]]
) -> tuple[Reason, ...]:
    if reasons[address]:
        return reasons[address]
    bad = ", ".join(str(a) for a in members if reasons[a])
    message = f"GPU {address} shares its IOMMU group with {bad}, which cannot be assigned"
    return (reason(Code.GROUP_BLOCKED, message),)
