"""The planner on captured trees of real machines: never an exception, never a GPU without an IOMMU group."""

from __future__ import annotations

import dataclasses

import pytest

from harness.attach.vfio import ATTACHMENT as VFIO
from harness.facts import from_sysroot
from harness.model.guest import GpuSelector, GuestRequest, PlacementPolicy
from harness.model.placement import NoPlan, PlacementPlan
from harness.model.topology import HostFacts, IommuGroup
from harness.placement.gpus import is_bridge
from harness.placement.planner import plan
from tests.captured import TREES, unpack


@pytest.fixture(scope="module", params=TREES, ids=lambda path: path.name.removesuffix(".tar.bz2"))
def facts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HostFacts:
    target = tmp_path_factory.mktemp("tree")
    return from_sysroot(unpack(request.param, target))


def with_groups(facts: HostFacts) -> HostFacts:
    """The same host with an IOMMU: a group for each slot, which these captures lack."""
    slots = sorted({d.address.slot for d in facts.pci_devices})
    devices = tuple(
        dataclasses.replace(d, iommu_group=slots.index(d.address.slot)) for d in facts.pci_devices
    )
    groups = tuple(
        IommuGroup(id=n, devices=tuple(d.address for d in devices if d.address.slot == slot), type="DMA")
        for n, slot in enumerate(slots)
    )
    return dataclasses.replace(
        facts, pci_devices=devices, iommu=dataclasses.replace(facts.iommu, groups=groups)
    )


@pytest.mark.parametrize("gpus", [0, 1, 2, 4])
def test_every_tree_gets_a_plan_or_reasons(facts: HostFacts, gpus: int) -> None:
    """Every endpoint is offered as a GPU, so that old machines without any exercise the search, too."""
    ends = [d.address for d in facts.pci_devices if not is_bridge(d) and d.address.function == 0]
    policy = PlacementPolicy(selector=GpuSelector(addresses=tuple(ends[:16])))
    for host in (facts, with_groups(facts)):
        answer = plan(host, GuestRequest(name="g", gpus=gpus), policy, VFIO)
        if isinstance(answer, NoPlan):
            assert answer.reasons
            continue
        assert isinstance(answer, PlacementPlan)
        nodes = {node.id: node for node in host.numa_nodes}
        assert len(answer.gpus) == gpus
        for cell in answer.cells:
            assert {answer.vcpupin[v] for v in cell.vcpus} <= set(nodes[cell.host_node].cpus)
        for gpu in answer.gpus:
            device = host.device(gpu.host)
            assert device is not None
            assert device.iommu_group is not None
            assert device.numa_node == gpu.host_node or len(nodes) == 1


def test_without_iommu_groups_no_gpu_is_handed_out(facts: HostFacts) -> None:
    devices = tuple(dataclasses.replace(d, iommu_group=None) for d in facts.pci_devices)
    iommu = dataclasses.replace(facts.iommu, groups=())
    answer = plan(
        dataclasses.replace(facts, pci_devices=devices, iommu=iommu),
        GuestRequest(name="g", gpus=1),
        PlacementPolicy(),
        VFIO,
    )
    assert isinstance(answer, NoPlan)
