"""Guest PCI numbering: controller indexes, bus numbers that cannot overlap, and the 64-bit window."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.model.placement import PlacementPlan
from harness.model.topology import HostFacts

BUSES = 256
"""Bus numbers of one PCI domain; a guest has one domain (PCI specification: 8-bit bus numbers)."""

MAIN_BUSES = 8
"""Buses 0 to 7 are kept for ``pcie.0`` and its root ports (disk, network, and what libvirt adds)."""

MAX_PORTS = 32
"""Slots of one expander bus (PCI specification: 5-bit device numbers)."""

GIB_KIB = 1 << 20
DEFAULT_WINDOW_KIB = 32 * GIB_KIB
"""``pci-hole64-size`` of QEMU's q35 when nobody asks for more."""
LARGEST_WINDOW_KIB = 16 << 30
"""16 TiB, the upper bound of KubeVirt's formula."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expander:
    """One ``pcie-expander-bus`` and the root ports below it."""

    index: int
    """Controller index; its ports are ``index + 1`` ... in order of ``ports``."""
    bus_number: int
    """``busNr``: the first bus of a range of ``1 + len(ports)``."""
    cell: int
    ports: tuple[int, ...]
    """Controller indexes of its root ports, one per GPU."""


def expanders(per_cell: Iterable[tuple[int, int]]) -> tuple[Expander, ...]:
    """Expander buses for cells with GPUs, given as (cell, number of GPUs) in order of cell.

    Controllers are numbered upwards from 1 in document order: expander, its ports, the next expander. Bus
    numbers go downwards from 256: each expander takes one bus for itself and one for each port, so that
    ranges touch but cannot overlap (two GPUs on each of two cells: 253 and 250). Raises ValueError when
    they do not fit above ``MAIN_BUSES``.
    """
    found: list[Expander] = []
    index, bus = 1, BUSES
    for cell, gpus in per_cell:
        bus -= 1 + gpus
        ports = tuple(range(index + 1, index + 1 + gpus))
        found.append(Expander(index=index, bus_number=bus, cell=cell, ports=ports))
        index += 1 + gpus
        if gpus > MAX_PORTS or bus < MAIN_BUSES:
            raise ValueError(f"{gpus} GPUs in guest cell {cell} need more PCI buses than a guest has")
    return tuple(found)


def plan_expanders(plan: PlacementPlan) -> tuple[Expander, ...]:
    """The expander buses of a plan, cell by cell. Raises ValueError as ``expanders`` does."""
    counts = ((cell.id, sum(gpu.guest_cell == cell.id for gpu in plan.gpus)) for cell in plan.cells)
    return expanders((cell, gpus) for cell, gpus in counts if gpus)


def pci_hole64_kib(facts: HostFacts, plan: PlacementPlan) -> int | None:
    """Size in KiB of the guest's 64-bit PCI window; None where QEMU's own 32 GiB do.

    KubeVirt's formula: the sum of all 64-bit prefetchable BARs of the functions handed over, plus 1 GiB,
    rounded up to a power of two, 16 TiB at most. (Its floor of 512 GiB a GPU is for Grace and left out:
    BAR sizes are known here.)
    """
    devices = (facts.device(address) for address in plan.hostdevs)
    total = sum(
        bar.size
        for device in devices
        if device is not None
        for bar in device.bars
        if bar.prefetchable and bar.is_64bit and not bar.io and bar.size > 0
    )
    if total == 0:
        return None
    needed = -(-total // 1024) + GIB_KIB
    window = min(1 << (needed - 1).bit_length(), LARGEST_WINDOW_KIB)
    return window if window > DEFAULT_WINDOW_KIB else None
