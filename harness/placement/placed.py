"""What guests that are already placed hold of a host."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from harness.model.pci import PciAddress
from harness.model.placement import PlacementPlan, Reason
from harness.model.topology import HostFacts
from harness.placement.reasons import Code, reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Holdings of all placed guests together; memory is MiB by (host node, page size in KiB)."""

    names: frozenset[str]
    devices: dict[PciAddress, str]
    """Function to the guest that holds it."""
    vcpus: frozenset[int]
    """Host CPUs under vCPUs."""
    emulators: frozenset[int]
    running: dict[tuple[int, int | None], int]
    planned: dict[tuple[int, int | None], int]
    gpus: Counter[int]
    """GPUs held per host node."""
    ordinary_cores: Counter[int]
    """Cores held per host node by guests without GPUs."""
    ordinary_mib: Counter[tuple[int, int | None]]
    """Memory held by them, by host node and page size."""
    reasons: tuple[Reason, ...]
    """Why these plans cannot all be of this host."""

    def memory(self, node: int, *, running: bool) -> dict[int | None, int]:
        """MiB by page size on ``node`` of the guests that run, or of those only planned."""
        source = self.running if running else self.planned
        return {page: mib for (where, page), mib in source.items() if where == node}


def placed(facts: HostFacts, given: tuple[PlacementPlan, ...]) -> Placed:
    """Holdings of ``given``. A guest counts as running when the facts list a domain of its name or with one
    of its devices: its pages are missing from the free ones then, and must not be subtracted twice."""
    domains = {domain.name for domain in facts.domains or ()}
    devices = {function for domain in facts.domains or () for function in domain.hostdevs}
    running: Counter[tuple[int, int | None]] = Counter()
    planned: Counter[tuple[int, int | None]] = Counter()
    gpus: Counter[int] = Counter()
    for plan in given:
        runs = plan.guest in domains or not devices.isdisjoint(plan.hostdevs)
        memory = running if runs else planned
        for cell in plan.cells:
            memory[cell.host_node, plan.hugepage_kib] += cell.memory_mib
        gpus.update(gpu.host_node for gpu in plan.gpus)
    plain = [(plan, cell) for plan in given if not plan.gpus for cell in plan.cells]
    ordinary_cores: Counter[int] = Counter()
    ordinary_mib: Counter[tuple[int, int | None]] = Counter()
    for plan, cell in plain:
        ordinary_cores[cell.host_node] += -(-len(cell.vcpus) // max(plan.threads_per_core, 1))
        ordinary_mib[cell.host_node, plan.hugepage_kib] += cell.memory_mib
    return Placed(
        names=frozenset(plan.guest for plan in given),
        devices={function: plan.guest for plan in given for function in plan.hostdevs},
        vcpus=frozenset(cpu for plan in given for cpu in plan.vcpupin.values()),
        emulators=frozenset(cpu for plan in given for cpu in plan.emulatorpin),
        running=dict(running),
        planned=dict(planned),
        gpus=gpus,
        ordinary_cores=ordinary_cores,
        ordinary_mib=ordinary_mib,
        reasons=(*_mismatches(facts, given), *_conflicts(given)),
    )


def _mismatches(facts: HostFacts, given: tuple[PlacementPlan, ...]) -> tuple[Reason, ...]:
    cpus = {cpu for node in facts.numa_nodes for cpu in node.cpus}
    nodes = {node.id for node in facts.numa_nodes}
    functions = {device.address for device in facts.pci_devices}
    found: list[Reason] = []
    for plan in given:
        named_cpus = {*plan.vcpupin.values(), *plan.emulatorpin}
        missing = [
            *(f"CPU {cpu}" for cpu in sorted(named_cpus - cpus)),
            *(f"NUMA node {n}" for n in sorted({cell.host_node for cell in plan.cells} - nodes)),
            *(f"device {address}" for address in sorted(set(plan.hostdevs) - functions)),
        ]
        if missing:
            message = (
                f"the given plan of guest {plan.guest!r} uses what this host does not have: "
                f"{', '.join(missing)}"
            )
            found.append(reason(Code.GIVEN_MISMATCH, message))
    return tuple(found)


def _conflicts(given: tuple[PlacementPlan, ...]) -> tuple[Reason, ...]:
    held: Counter[str] = Counter()
    for plan in given:
        held.update({f"guest name {plan.guest!r}"})
        held.update({f"host CPU {cpu}" for cpu in plan.vcpupin.values()})
        held.update({f"device {address}" for address in plan.hostdevs})
    twice = sorted(what for what, times in held.items() if times > 1)
    if not twice:
        return ()
    return (reason(Code.GIVEN_CONFLICT, f"the given plans conflict over {', '.join(twice)}"),)
