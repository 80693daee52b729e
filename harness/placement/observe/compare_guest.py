"""Plan against observation, seen from inside the guest, and each device's identity through all layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from harness.model.pci import PciAddress
from harness.model.placement import (
    Difference,
    GuestCell,
    GuestNode,
    ObservedGpu,
    ObservedPlacement,
    PlacementPlan,
    PlannedGpu,
)
from harness.placement.domain.definition import functions
from harness.placement.observe.difference import UNKNOWN, cpus, difference

_LOCAL_DISTANCE = 10
"""A node's distance to itself (ACPI specification, System Locality Information Table)."""


def compare_guest(plan: PlacementPlan, observed: ObservedPlacement) -> tuple[Difference, ...]:
    """The guest's NUMA nodes, and host devices that it got without being given them by the plan."""
    found = [
        difference("map", f"host device {gpu.host}", "not handed to this guest", f"{gpu.alias} in QEMU")
        for gpu in observed.gpus
        if gpu.host not in plan.hostdevs
    ]
    if not observed.guest_nodes:
        return (*found, difference("guest", "NUMA nodes", _nodes(c.id for c in plan.cells), UNKNOWN))
    seen = {node.id: node for node in observed.guest_nodes}
    if set(seen) != {cell.id for cell in plan.cells}:
        found.append(difference("guest", "NUMA nodes", _nodes(c.id for c in plan.cells), _nodes(seen)))
    for cell in plan.cells:
        if cell.id in seen:
            found.extend(_node(plan, cell, seen[cell.id]))
    return tuple(found)


def compare_devices(
    plan: PlacementPlan, observed: ObservedPlacement, *, only: PciAddress | None = None
) -> tuple[Difference, ...]:
    """Each planned function through every layer; ``only`` limits it to one GPU and its companions."""
    found: list[Difference] = []
    for gpu in plan.gpus:
        if only in (None, gpu.host):
            for function in functions(gpu):
                found.extend(_function(plan, observed, gpu, function))
    return tuple(found)


def _nodes(ids: Iterable[int]) -> str:
    return f"nodes {cpus(ids)}"


def _node(plan: PlacementPlan, cell: GuestCell, node: GuestNode) -> Iterator[Difference]:
    if node.cpus != tuple(sorted(cell.vcpus)):
        yield difference("guest", f"CPUs of node {cell.id}", cpus(cell.vcpus), cpus(node.cpus))
    size = cell.memory_mib << 20
    if node.memory_bytes is None:
        yield difference("guest", f"memory of node {cell.id}", f"{size} bytes", UNKNOWN)
    elif size and not 0 < node.memory_bytes <= size:
        # The guest's kernel keeps some for itself, so less than planned is normal.
        told = f"{node.memory_bytes} bytes"
        yield difference("guest", f"memory of node {cell.id}", f"above 0, up to {size} bytes", told)
    wanted = _distances(plan, cell.id)
    if node.distances != wanted:
        told = " ".join(str(d) for d in node.distances) or UNKNOWN
        planned = " ".join(str(d) for d in wanted)
        yield difference("guest", f"distances from node {cell.id}", planned, told)


def _distances(plan: PlacementPlan, cell: int) -> tuple[int, ...]:
    row = plan.distances.get(cell, {})
    others = sorted(c.id for c in plan.cells)
    return tuple(row.get(other, _LOCAL_DISTANCE if other == cell else 0) for other in others)


def _function(
    plan: PlacementPlan,
    observed: ObservedPlacement,
    gpu: PlannedGpu,
    function: tuple[str, PciAddress, int],
) -> Iterator[Difference]:
    alias, address, number = function
    entries = [seen for seen in observed.gpus if seen.host == address]
    if len(entries) != 1 or entries[0].alias is None:
        told = "absent" if not entries or entries[0].alias is None else f"{len(entries)} times"
        yield difference("qemu", f"{address}", f"assigned as {alias}", told)
    if len(entries) == 1:
        seen = entries[0]
        yield from _on_host(address, seen)
        if seen.alias is not None:
            yield from _in_qemu(gpu, alias, number, seen)
            if seen.guest is not None:
                yield from _in_guest(plan, observed, gpu, seen)


def _on_host(address: PciAddress, seen: ObservedGpu) -> Iterator[Difference]:
    if seen.host_driver != "vfio-pci":
        yield difference("kernel", f"host driver of {address}", "vfio-pci", seen.host_driver or "none")
    if seen.held is not True:
        told = UNKNOWN if seen.held is None else "not open"
        what = f"VFIO node of {address} (IOMMU group {seen.iommu_group})"
        yield difference("kernel", what, "open in the QEMU process", told)


def _in_qemu(gpu: PlannedGpu, alias: str, number: int, seen: ObservedGpu) -> Iterator[Difference]:
    if seen.alias != alias:
        yield difference("qemu", f"alias of {seen.host}", alias, f"{seen.alias}")
    port = f"pci.{gpu.root_port_bus}"  # libvirt's alias of the controller with that index
    if seen.qom_root_port != port:
        yield difference("qemu", f"root port of {seen.host}", port, seen.qom_root_port or "none")
    if seen.guest is None:
        yield difference(
            "qemu", f"guest address of {seen.host}", "a PCI address", "not on the guest's PCI bus"
        )
    elif (seen.guest.device, seen.guest.function) != (0, number):
        yield difference("qemu", f"slot of {seen.host} on its port", f"00.{number}", str(seen.guest))


def _in_guest(
    plan: PlacementPlan, observed: ObservedPlacement, gpu: PlannedGpu, seen: ObservedGpu
) -> Iterator[Difference]:
    cell = next((c for c in plan.cells if c.id == gpu.guest_cell), None)
    near = cpus(cell.vcpus) if cell is not None else "none"
    node = f"node {gpu.guest_cell}"
    who = f"{seen.host} ({seen.guest} in the guest)"
    if not observed.guest_nodes:
        yield difference("guest", f"{who}", f"{node}, local CPUs {near}", UNKNOWN)
        return
    if seen.guest_vendor_device is None:
        told = "no such device in the guest"
        yield difference("guest", f"{who}", f"{seen.qemu_vendor_device} on {node}", told)
        return
    if seen.guest_vendor_device != seen.qemu_vendor_device:
        planned = f"{seen.qemu_vendor_device} (QEMU)"
        yield difference("map", f"device at {who}", planned, f"{seen.guest_vendor_device} (guest)")
    if seen.guest_root_port_address != seen.qemu_root_port_address:
        planned, told = f"{seen.qemu_root_port_address} (QEMU)", f"{seen.guest_root_port_address} (guest)"
        yield difference("map", f"root port above {who}", planned, told)
    if seen.guest_numa_node != gpu.guest_cell:
        told = "-1 (none)" if seen.guest_numa_node is None else f"node {seen.guest_numa_node}"
        yield difference("guest", f"NUMA node of {who}", node, told)
    if seen.guest_local_cpus is None:
        yield difference("guest", f"local CPUs of {who}", near, UNKNOWN)
    elif cell is None or seen.guest_local_cpus != tuple(sorted(cell.vcpus)):
        yield difference("guest", f"local CPUs of {who}", near, cpus(seen.guest_local_cpus))
