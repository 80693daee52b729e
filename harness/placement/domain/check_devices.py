"""The part of ``xmlcheck`` that is about PCI: guest bus numbers and host devices."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

from harness.model.placement import Reason
from harness.model.topology import HostFacts
from harness.placement.buses import BUSES
from harness.placement.domain.read import Controller, DomainView
from harness.placement.gpus import group_members, is_bridge
from harness.placement.reasons import Code, reason
from harness.placement.virtual import split_words

EXPANDERS = ("pcie-expander-bus", "pci-expander-bus")


def device_problems(domain: DomainView, facts: HostFacts, neighbours: list[DomainView]) -> Iterator[Reason]:
    """What is wrong with the domain's PCI buses and host devices."""
    yield from _bus_problems(domain)
    yield from _ownership_problems(domain, facts, neighbours)
    if len(facts.numa_nodes) > 1:
        yield from _far_devices(domain, facts)


def _bus_problems(domain: DomainView) -> Iterator[Reason]:
    """Each expander takes its own bus and one for every bridge below it; so does ``pcie.0``."""
    below = Counter(_top(domain, c) for c in domain.controllers if c.model not in EXPANDERS and c.index != 0)
    ranges = [(0, 1 + below[0], "the root bus")]
    for controller in domain.controllers:
        if controller.model not in EXPANDERS:
            continue
        name = f"expander bus {controller.index}"
        if controller.bus_number is None:
            yield reason(Code.BUS_OUT_OF_RANGE, f"{name} has no bus number, so overlaps cannot be checked")
            continue
        start, size = controller.bus_number, 1 + below[controller.index]
        if not 0 < start <= BUSES - size:
            message = f"{name} takes buses {start} to {start + size - 1}; a guest has 0 to {BUSES - 1}"
            yield reason(Code.BUS_OUT_OF_RANGE, message)
        ranges.append((start, size, name))
    ranges.sort()
    for (start, size, name), (next_start, _, next_name) in itertools.pairwise(ranges):
        if start + size > next_start:
            message = (
                f"{name} takes buses {start} to {start + size - 1} and {next_name} starts at {next_start}: "
                "the guest would lose the devices behind one of them"
            )
            yield reason(Code.BUS_OVERLAP, message)


def _top(domain: DomainView, controller: Controller) -> int:
    """Index of the expander (or 0 for the root bus) that a controller is below; loops end at the root."""
    by_index = {c.index: c for c in domain.controllers}
    seen: set[int] = set()
    index = controller.parent or 0
    while index not in seen:
        seen.add(index)
        parent = by_index.get(index)
        if parent is None or index == 0:
            return 0
        if parent.model in EXPANDERS:
            return index
        index = parent.parent or 0
    return 0


def _ownership_problems(
    domain: DomainView, facts: HostFacts, neighbours: list[DomainView]
) -> Iterator[Reason]:
    own = Counter(hostdev.source for hostdev in domain.hostdevs)
    for address in sorted(a for a, times in own.items() if times > 1):
        yield reason(Code.DEVICE_SHARED, f"{address} is assigned twice")
    for other in neighbours:
        for address in sorted(own.keys() & {hostdev.source for hostdev in other.hostdevs}):
            message = f"{address} is also assigned to domain {other.name!r}"
            yield reason(Code.DEVICE_SHARED, message)
    for address in sorted(own):
        device = facts.device(address)
        if device is None or device.vanished:
            yield reason(Code.DEVICE_MISSING, f"the host has no device {address}")
            continue
        words, in_use = split_words(facts, device)
        if in_use:
            yield reason(Code.VIRTUAL_FUNCTIONS_IN_USE, f"{address} {words}")
        left = [
            member
            for member in group_members(facts, device)
            if member not in own and ((found := facts.device(member)) is None or not is_bridge(found))
        ]
        if left:
            message = (
                f"IOMMU group {device.iommu_group} of {address} is split: {', '.join(map(str, left))} "
                "would stay on the host"
            )
            yield reason(Code.GROUP_SPLIT, message)


def _far_devices(domain: DomainView, facts: HostFacts) -> Iterator[Reason]:
    cells = {c.index: c.cell for c in domain.controllers if c.model in EXPANDERS}
    ports = {c.index: c for c in domain.controllers}
    for hostdev in domain.hostdevs:
        device = facts.device(hostdev.source)
        if device is None or device.numa_node is None:
            continue
        port = ports.get(hostdev.guest_bus) if hostdev.guest_bus is not None else None
        cell = cells.get(_top(domain, port)) if port is not None else None
        if cell is None:
            message = (
                f"{hostdev.source} is behind no expander bus of a guest cell: the guest cannot know its node"
            )
            yield reason(Code.DEVICE_FAR, message)
        elif device.numa_node not in domain.host_nodes(cell):
            message = (
                f"{hostdev.source} is on NUMA node {device.numa_node} but assigned to guest cell {cell}, "
                "which is bound to another node"
            )
            yield reason(Code.DEVICE_FAR, message)
