"""What a right plan is, said a second time and without the planner: brute force over all sets of GPUs."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

from harness.model.guest import PlacementPolicy
from harness.model.pci import PciAddress
from harness.model.placement import PlacementPlan
from harness.model.topology import HostFacts, PciDevice

Score = tuple[Any, ...]


def gpus_of(facts: HostFacts) -> list[PciDevice]:
    """Functions of class 0302: the builder makes no other GPUs."""
    return [d for d in facts.pci_devices if d.class_code == "030200"]


def best_set(facts: HostFacts, usable: list[PciDevice], wanted: int) -> list[PciAddress] | None:
    """The best set of ``wanted`` GPUs that splits no IOMMU group, looking at every subset."""
    best: tuple[Score, list[PciAddress]] | None = None
    for chosen in itertools.combinations(usable, wanted):
        groups = {d.iommu_group for d in chosen}
        if any(d.iommu_group in groups and d not in chosen for d in usable):
            continue
        score = _score(facts, chosen, [d for d in usable if d not in chosen])
        addresses = sorted(d.address for d in chosen)
        if best is None or (score, addresses) < best:
            best = (score, addresses)
    return best[1] if best else None


def _node(facts: HostFacts, device: PciDevice) -> int:
    return facts.numa_nodes[0].id if device.numa_node is None else device.numa_node


def _apart(facts: HostFacts, a: PciDevice, b: PciDevice) -> int:
    i, j = _node(facts, a), _node(facts, b)
    by_id = {n.id: n for n in facts.numa_nodes}
    return 20 if i == j else by_id[i].distances[j] + by_id[j].distances[i]


def _root(facts: HostFacts, device: PciDevice) -> tuple[int, ...]:
    return (_node(facts, device), device.upstream[-1].domain, device.upstream[-1].bus)


def _switch(facts: HostFacts, device: PciDevice) -> tuple[object, ...]:
    return (*_root(facts, device), *device.upstream[1:])


def _score(facts: HostFacts, chosen: tuple[PciDevice, ...], rest: list[PciDevice]) -> Score:
    nodes = sorted({_node(facts, d) for d in chosen})
    by_id = {n.id: n for n in facts.numa_nodes}
    return (
        len(nodes),
        sum(by_id[a].distances[b] for a in nodes for b in nodes if a != b),
        len({_root(facts, d) for d in chosen}),
        len({_switch(facts, d) for d in chosen}),
        -sum(n * n for n in Counter(d.iommu_group for d in chosen).values()),
        sum(_apart(facts, a, b) for a, b in itertools.combinations(rest, 2)),
        -sum(n * n for n in Counter(_root(facts, d) for d in rest).values()),
        -sum(n * n for n in Counter(_switch(facts, d) for d in rest).values()),
    )


def assert_right(
    facts: HostFacts,
    plan: PlacementPlan,
    policy: PlacementPolicy | None = None,
    given: tuple[PlacementPlan, ...] = (),
) -> None:
    """Every rule that a plan with GPUs must keep, asserted from the facts."""
    policy = policy or PlacementPolicy()
    per_node = Counter(_node(facts, d) for d in gpus_of(facts))
    by_cpu = {c.id: c for c in facts.cpus}
    taken_cpus = {cpu for p in given for cpu in (*p.vcpupin.values(), *p.emulatorpin)}
    under_vcpus = {cpu for p in given for cpu in p.vcpupin.values()}
    used = set(plan.vcpupin.values())
    assert len(used) == len(plan.vcpupin), "two vCPUs on one CPU"
    assert not used & taken_cpus, "a CPU of another guest"
    assert not used & set(plan.emulatorpin), "a vCPU beside the emulator"
    assert plan.emulatorpin
    assert not set(plan.emulatorpin) & under_vcpus, "the emulator on another guest's vCPU"
    for cpu in used:
        assert by_cpu[cpu].online
        assert set(by_cpu[cpu].siblings) <= used, "half a core"
    assert sorted(plan.vcpupin) == list(range(len(plan.vcpupin)))
    assert [cell.id for cell in plan.cells] == list(range(len(plan.cells)))
    assert [v for cell in plan.cells for v in cell.vcpus] == sorted(plan.vcpupin), "cells are not contiguous"
    for cell in plan.cells:
        node = next(n for n in facts.numa_nodes if n.id == cell.host_node)
        mine = [g for g in plan.gpus if g.guest_cell == cell.id]
        assert mine, "a cell without a GPU"
        assert {g.host_node for g in mine} == {cell.host_node}
        cpus = [plan.vcpupin[v] for v in cell.vcpus]
        assert set(cpus) <= set(node.cpus), "a vCPU away from its node"
        cores = {tuple(sorted(by_cpu[c].siblings)) for c in node.cpus}
        share = (len(cores) - policy.reserved_cores_per_node) // per_node[node.id]
        assert len({by_cpu[c].siblings for c in cpus}) == share * len(mine)
        assert set(plan.emulatorpin) & set(node.cpus), "no emulator CPU on a node of the guest"
        assert 0 < cell.memory_mib <= _memory_share(node, plan, policy, per_node[node.id]) * len(mine)
    for gpu in plan.gpus:
        device = next(d for d in facts.pci_devices if d.address == gpu.host)
        assert gpu.host_node == _node(facts, device)
    assert len(set(plan.hostdevs)) == len(plan.hostdevs)
    assert len({g.root_port_bus for g in plan.gpus}) == len(plan.gpus)
    assert [g.alias for g in plan.gpus] == [f"ua-gpu{i}" for i in range(len(plan.gpus))]
    handed = set(plan.hostdevs)
    for group in facts.iommu.groups:
        assert not handed & set(group.devices) or set(group.devices) <= handed, "a group is split"
    assert not handed & {f for p in given for f in p.hostdevs}, "a device of another guest"


def _memory_share(node: Any, plan: PlacementPlan, policy: PlacementPolicy, gpus: int) -> float:
    if plan.hugepage_kib is None:
        own = sum(size * (pool.total or 0) for size, pool in node.hugepages.items())
        return ((node.memory_bytes - own) / (1 << 20) - policy.reserved_memory_mib_per_node) / gpus
    return node.hugepages[plan.hugepage_kib * 1024].free * plan.hugepage_kib / 1024 / gpus
