"""Machines unlike a usual x86 server: other architectures, other page sizes, the memory of GPUs as nodes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from harness.attach.vfio import ATTACHMENT as VFIO
from harness.model.guest import GuestRequest, PlacementPolicy
from harness.model.placement import NoPlan, PlacementPlan
from harness.model.topology import HostFacts
from harness.placement.planner import plan
from tests.placement.hosts import GIB, GpuSpec, host, lab_like


def planned(facts: HostFacts, gpus: int) -> PlacementPlan:
    answer = plan(facts, GuestRequest(name="g", gpus=gpus), PlacementPolicy(), VFIO)
    assert isinstance(answer, PlacementPlan), answer
    return answer


@pytest.mark.parametrize("gpus", [0, 1, 2])
@pytest.mark.parametrize("architecture", ["aarch64", "ppc64le", "riscv64"])
def test_a_host_of_another_architecture_is_refused_by_its_name(architecture: str, gpus: int) -> None:
    facts = dataclasses.replace(lab_like(), architecture=architecture)
    answer = plan(facts, GuestRequest(name="g", gpus=gpus), PlacementPolicy(), VFIO)
    assert isinstance(answer, NoPlan)
    assert [(each.code, architecture in each.message) for each in answer.reasons] == [
        ("architecture_unsupported", True)
    ]
    for known in ("x86_64", None):
        planned(dataclasses.replace(facts, architecture=known), 1)


@pytest.mark.parametrize("mib", [512, 16 * 1024, 2, 1024])
def test_hugepages_of_any_size_back_a_guest(mib: int) -> None:
    facts = host([GpuSpec()], nodes=1, hugepages={mib << 20: (64 << 10) // mib})
    answer = planned(facts, 1)
    assert answer.hugepage_kib == mib << 10
    assert answer.cells[0].memory_mib % mib == 0
    tiny = host([GpuSpec()], nodes=1, hugepages={64 << 10: 1000})
    assert planned(tiny, 1).hugepage_kib is None


def _with_gpu_memory(facts: Any) -> Any:
    """A node more, as a driver makes one of its GPU's memory: much memory, no processor."""
    node = dataclasses.replace(
        facts.numa_nodes[0],
        id=len(facts.numa_nodes),
        cpus=(),
        memory_bytes=512 * GIB,
        free_bytes=512 * GIB,
        hugepages={},
        generic_initiator=True,
    )
    return dataclasses.replace(facts, numa_nodes=(*facts.numa_nodes, node))


@pytest.mark.parametrize("gpus", [0, 1, 2, 4])
def test_the_memory_of_a_gpu_is_never_a_guests_cell(gpus: int) -> None:
    facts = lab_like(hugepages={}) if gpus else host(nodes=2)
    answer = planned(facts, gpus)
    grown = planned(_with_gpu_memory(facts), gpus)
    assert grown.cells == answer.cells
    assert grown.vcpupin == answer.vcpupin


def test_a_gpu_that_lies_at_its_own_memory_has_no_cores_near() -> None:
    facts = _with_gpu_memory(host([GpuSpec(node=2)], nodes=2))
    answer = plan(facts, GuestRequest(name="g", gpus=1), PlacementPolicy(), VFIO)
    assert isinstance(answer, NoPlan)
    assert "node_without_cpus" in [each.code for each in answer.reasons]
