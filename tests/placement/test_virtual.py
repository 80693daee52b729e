"""A card that is split into virtual functions: who uses them, and that it is never handed out whole."""

from __future__ import annotations

import dataclasses

import pytest

from harness.attach.vfio import ATTACHMENT as VFIO
from harness.model.guest import GuestRequest, PlacementPolicy
from harness.model.pci import PciAddress
from harness.model.placement import NoPlan, PlacementPlan
from harness.model.topology import DeviceHolder, Domain, HostFacts
from harness.placement.domain.check import problems
from harness.placement.domain.definition import GuestDefinition
from harness.placement.domain.write import render
from harness.placement.planner import plan
from harness.placement.virtual import split_words, users, virtual_functions
from tests.placement.hosts import GpuSpec, device, gpu_address, host, with_device

CARD = gpu_address(0)
PART = PciAddress(0, 0xC0, 0x10, 0)
TENANT = Domain(name="tenant-7", uuid=None, pid=4711, hostdevs=(PART,), running=True)
REQUEST = GuestRequest(name="g", gpus=1)


def split(domains: tuple[Domain, ...] = (), driver: str | None = None) -> HostFacts:
    """Two GPUs; the first has a virtual function, and does not say how many it has."""
    part = device(PART, physfn=CARD, iommu_group=400, driver=driver)
    return host([GpuSpec(), GpuSpec()], extra=(part,), domains=domains)


def held() -> HostFacts:
    """Its virtual function is open in a process that is no domain."""
    return dataclasses.replace(split(), device_holders=(DeviceHolder(pid=99, path="/dev/vfio/400"),))


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (split((TENANT,)), f"{PART} is held by domain 'tenant-7'"),
        (split(driver="vfio-pci"), f"{PART} is bound to vfio-pci"),
        (held(), f"{PART} is open in process 99 (/dev/vfio/400)"),
    ],
    ids=["domain", "driver", "process"],
)
def test_a_card_whose_parts_are_in_use_is_never_handed_out(facts: HostFacts, words: str) -> None:
    assert users(facts, virtual_functions(facts, CARD)) == (words,)
    one = plan(facts, REQUEST, PlacementPolicy(), VFIO)
    assert isinstance(one, PlacementPlan)
    assert one.gpus[0].host == gpu_address(1), "the whole card beside it is free"
    answer = plan(facts, dataclasses.replace(REQUEST, gpus=2), PlacementPolicy(), VFIO)
    assert isinstance(answer, NoPlan)
    said = {reason.code: reason.message for reason in answer.reasons}
    assert words in said["virtual_functions_in_use"]
    assert str(CARD) in said["virtual_functions_in_use"]


def test_a_card_with_idle_parts_is_not_whole_either_although_it_counts_none() -> None:
    answer = plan(split(), dataclasses.replace(REQUEST, gpus=2), PlacementPolicy(), VFIO)
    assert isinstance(answer, NoPlan)
    assert {reason.code for reason in answer.reasons} == {"too_few_gpus", "sriov_in_use"}


def test_a_companion_whose_parts_are_in_use_keeps_its_gpu_back() -> None:
    part = device(PART, physfn=gpu_address(0, 1), iommu_group=400, driver="vfio-pci")
    facts = host([GpuSpec(companions=("040300",))], extra=(part,))
    answer = plan(facts, REQUEST, PlacementPolicy(), VFIO)
    assert isinstance(answer, NoPlan)
    assert "virtual_functions_in_use" in {reason.code for reason in answer.reasons}


def test_a_domain_that_would_take_parts_from_a_guest_is_wrong() -> None:
    """libvirt takes it without a word: the facts of now count, not those that it was planned by."""
    whole = host([GpuSpec()])
    answer = plan(whole, REQUEST, PlacementPolicy(), VFIO)
    assert isinstance(answer, PlacementPlan)
    definition = GuestDefinition(
        name="g",
        uuid="3f2b8a52-6a0e-4c1e-9c55-0f8f2f7f7a10",
        run="run-7",
        disk="/d.qcow2",
        serial_log="/s.log",
    )
    xml = render(answer, definition, VFIO)
    assert problems(xml, whole) == ()
    part = device(PART, physfn=CARD, iommu_group=400)
    now = dataclasses.replace(whole, pci_devices=(*whole.pci_devices, part), domains=(TENANT,))
    assert [found.code for found in problems(xml, now)] == ["virtual_functions_in_use"]


def test_a_card_without_parts_says_nothing() -> None:
    facts = with_device(host([GpuSpec()]), CARD, sriov_totalvfs=16, sriov_numvfs=0)
    found = facts.device(CARD)
    assert found is not None
    assert split_words(facts, found) == ("", False)
