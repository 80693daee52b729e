"""Where guests landed: plan and observation side by side, for people to read. Judging is the checks' work."""

from __future__ import annotations

from dataclasses import dataclass

from harness.model.evidence import GuestEvidence
from harness.model.placement import ObservedGpu, ObservedMemory, ObservedPlacement, PlacementPlan
from reports.parts.text import ranges, size

NOT_OBSERVED = "not observed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing planned and what was found of it; ``same`` is None when nothing was found."""

    what: str
    planned: str
    observed: str
    same: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One function through every layer: host address, alias, root port, guest address, node."""

    host: str
    alias: str
    root_port: str
    guest: str
    guest_id: str
    guest_node: str
    host_driver: str


def rows(guest: GuestEvidence) -> tuple[Row, ...]:
    """vCPUs by cell, emulator, memory by cell and devices: planned against observed."""
    plan, observed = guest.plan, guest.observed
    if plan is None:
        return ()
    return (*_cpus(plan, observed), *_memory(plan, observed), *_devices(plan, observed))


def landed_cpus(guest: GuestEvidence) -> dict[int, tuple[int, ...]]:
    """vCPU to the host CPUs its thread may run on; empty when nothing was observed."""
    if guest.observed is None:
        return {}
    return {t.vcpu: t.cpus_allowed for t in guest.observed.threads if t.vcpu is not None}


def landed_bytes(guest: GuestEvidence) -> dict[int, int]:
    """Host node to bytes of guest memory resident there."""
    total: dict[int, int] = {}
    for block in guest.observed.memory if guest.observed else ():
        for node, count in block.pages.items():
            total[node] = total.get(node, 0) + count
    return total


def identities(guest: GuestEvidence) -> tuple[Identity, ...]:
    """The identity map; a layer that did not say is shown as unknown."""
    if guest.observed is None:
        return ()
    return tuple(
        Identity(
            host=str(gpu.host),
            alias=gpu.alias or "unknown",
            root_port=gpu.qom_root_port or "unknown",
            guest=str(gpu.guest) if gpu.guest else "unknown",
            guest_id=gpu.guest_vendor_device or "unknown",
            guest_node="unknown" if gpu.guest_numa_node is None else str(gpu.guest_numa_node),
            host_driver=gpu.host_driver or "none",
        )
        for gpu in guest.observed.gpus
    )


def _cpus(plan: PlacementPlan, observed: ObservedPlacement | None) -> list[Row]:
    found = {t.vcpu: t.cpus_allowed for t in observed.threads if t.vcpu is not None} if observed else {}
    lines = []
    for cell in plan.cells:
        same = None if observed is None else all(found.get(v) == (plan.vcpupin.get(v),) for v in cell.vcpus)
        seen = sorted({cpu for v in cell.vcpus for cpu in found.get(v, ())})
        lines.append(
            Row(
                what=f"vCPUs {ranges(cell.vcpus)} (cell {cell.id})",
                planned=f"host CPUs {ranges([plan.vcpupin[v] for v in cell.vcpus if v in plan.vcpupin])}",
                observed=f"host CPUs {ranges(seen)}" if observed else NOT_OBSERVED,
                same=same,
            )
        )
        if same is False:
            lines += _strays(plan, cell.vcpus, found)
    others = [t for t in observed.threads if t.vcpu is None] if observed else []
    seen = sorted({cpu for t in others for cpu in t.cpus_allowed})
    lines.append(
        Row(
            what="emulator and other threads",
            planned=f"host CPUs {ranges(plan.emulatorpin)}",
            observed=f"host CPUs {ranges(seen)} ({len(others)} threads)" if observed else NOT_OBSERVED,
            same=None if observed is None else bool(others) and set(seen) <= set(plan.emulatorpin),
        )
    )
    return lines


def _strays(plan: PlacementPlan, vcpus: tuple[int, ...], found: dict[int, tuple[int, ...]]) -> list[Row]:
    return [
        Row(
            what=f"vCPU {vcpu}",
            planned=f"host CPU {plan.vcpupin.get(vcpu, '?')}",
            observed=f"host CPUs {ranges(found[vcpu])}" if vcpu in found else "no thread found",
            same=False,
        )
        for vcpu in vcpus
        if found.get(vcpu) != (plan.vcpupin.get(vcpu),)
    ]


def _memory(plan: PlacementPlan, observed: ObservedPlacement | None) -> list[Row]:
    lines = []
    for cell in plan.cells:
        blocks = [b for b in observed.memory if b.guest_cell == cell.id] if observed else []
        lines.append(
            Row(
                what=f"memory of cell {cell.id}",
                planned=f"{size(cell.memory_mib << 20)} on node {cell.host_node}",
                observed=_pages(blocks) if observed else NOT_OBSERVED,
                same=None if observed is None else _on_node(blocks, cell.host_node),
            )
        )
    return lines


def _pages(blocks: list[ObservedMemory]) -> str:
    parts = [
        f"{size(count)} on node {node}" for block in blocks for node, count in sorted(block.pages.items())
    ]
    return ", ".join(parts) or "no memory found"


def _on_node(blocks: list[ObservedMemory], node: int) -> bool:
    pages = [(n, count) for block in blocks for n, count in block.pages.items() if count]
    return bool(pages) and all(n == node for n, _ in pages)


def _devices(plan: PlacementPlan, observed: ObservedPlacement | None) -> list[Row]:
    found: dict[str, ObservedGpu] = {str(g.host): g for g in observed.gpus} if observed else {}
    lines = []
    for gpu in plan.gpus:
        seen = found.get(str(gpu.host))
        lines.append(
            Row(
                what=f"device {gpu.host}",
                planned=f"guest cell {gpu.guest_cell}, alias {gpu.alias}",
                observed=_seen(seen) if observed else NOT_OBSERVED,
                same=None
                if observed is None
                else seen is not None and (seen.guest_numa_node, seen.alias) == (gpu.guest_cell, gpu.alias),
            )
        )
    return lines


def _seen(gpu: ObservedGpu | None) -> str:
    if gpu is None:
        return "not found"
    cell = "unknown" if gpu.guest_numa_node is None else gpu.guest_numa_node
    return f"guest cell {cell}, alias {gpu.alias or 'unknown'}"
