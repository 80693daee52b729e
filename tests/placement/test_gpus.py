"""Which functions count as GPUs, and what travels with them."""

from __future__ import annotations

import dataclasses

import pytest

from harness.model.guest import GpuSelector
from harness.model.pci import PciAddress
from harness.model.topology import HostFacts, PciDevice
from harness.placement.gpus import companions, missing_listed, select_gpus
from tests.placement.hosts import GpuSpec, device, host

A = PciAddress.parse("0000:17:00.0")
A1 = PciAddress.parse("0000:17:00.1")
B = PciAddress.parse("0000:18:00.0")


def facts_of(*devices: PciDevice) -> HostFacts:
    return host((), extra=devices)


def selected(facts: HostFacts, **selector: tuple[object, ...]) -> list[PciAddress]:
    return [d.address for d in select_gpus(facts, GpuSelector(**selector))]  # type: ignore[arg-type]


@pytest.mark.parametrize("class_code", ["030000", "030200", "038000", "120000"])
def test_the_four_gpu_classes_are_gpus(class_code: str) -> None:
    assert selected(facts_of(device(A, class_code=class_code))) == [A]


@pytest.mark.parametrize("class_code", ["040300", "020000", "00ff00", "030100", ""])
def test_other_classes_are_not(class_code: str) -> None:
    assert selected(facts_of(device(A, class_code=class_code))) == []


def test_the_boot_vga_is_no_gpu_to_rent_unless_it_is_listed() -> None:
    facts = facts_of(device(A, class_code="030000", boot_vga=True))
    assert selected(facts) == []
    assert selected(facts, addresses=(A,)) == [A]


@pytest.mark.parametrize("vendor", ["1a03", "102b", "19e5"])
def test_a_management_controllers_display_is_no_gpu(vendor: str) -> None:
    assert selected(facts_of(device(A, class_code="030000", vendor=vendor))) == []


def test_an_accelerator_of_a_vendor_of_management_controllers_is_a_gpu() -> None:
    """Huawei makes the iBMC's display core and the Ascend."""
    assert selected(facts_of(device(A, class_code="120000", vendor="19e5"))) == [A]


def test_functions_are_listed_by_address_or_by_id_and_excluded_by_address() -> None:
    facts = facts_of(
        device(A, class_code="00ff00", vendor="1234", device="11e8"), device(B, class_code="00ff00")
    )
    assert selected(facts) == []
    assert selected(facts, ids=("1234:11E8",)) == [A]
    assert selected(facts, addresses=(B,)) == [B]
    assert selected(facts, ids=("1234:11e8",), addresses=(B,), exclude=(A,)) == [B]


def test_of_two_display_functions_in_a_slot_the_first_stands_for_the_card() -> None:
    facts = facts_of(device(A1, class_code="038000", iommu_group=3), device(A, iommu_group=3))
    assert selected(facts) == [A]
    assert selected(facts, addresses=(A1,)) == [A, A1]


def test_virtual_functions_are_gpus_only_when_listed_by_address() -> None:
    port = PciAddress.parse("0000:10:00.0")
    pf = device(A, sriov_totalvfs=4, sriov_numvfs=1, upstream=(port,))
    facts = facts_of(pf, device(B, upstream=(port,), physfn=A))
    assert selected(facts, ids=("10de:2335",)) == [A]
    assert selected(facts, addresses=(B,)) == [A, B]
    silent = facts_of(pf, device(B, upstream=(port,)))
    assert selected(silent) == [A], "told by the active physical function on the same port"


def test_gpus_come_in_order_of_address_each_once() -> None:
    facts = facts_of(device(B), device(A), device(A))
    assert selected(facts) == [A, B]


def test_companions_are_the_other_endpoints_of_the_group_and_of_the_slot() -> None:
    bridge = device(PciAddress.parse("0000:16:00.0"), class_code="060400", header_type=1, iommu_group=5)
    nic = device(B, class_code="020000", iommu_group=5)
    own_group = device(A1, class_code="040300", iommu_group=6)
    gpu = device(A, iommu_group=5)
    found = companions(facts_of(gpu, nic, own_group, bridge), gpu)
    assert [d.address for d in found] == [A1, B]


def test_a_group_listed_by_the_kernel_and_by_its_members_is_their_union() -> None:
    facts = host([GpuSpec(companions=("040300",))])
    gpu = facts.pci_devices[0]
    forgetful = dataclasses.replace(facts, iommu=dataclasses.replace(facts.iommu, groups=()))
    assert companions(forgetful, gpu) == companions(facts, gpu) != ()


def test_listed_gpus_that_are_not_there_are_named() -> None:
    assert missing_listed(facts_of(device(A)), GpuSelector(addresses=(B, A))) == (B,)
