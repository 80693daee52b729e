"""Ordinary questions to the host: services, modules, programs, device files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.candidate import Candidate


def test_the_host_has_what_guests_need(candidate: Candidate, question: str) -> None:
    """Each readiness question is answered with yes."""
    answer = candidate.answer(question)
    assert answer.ok is True, answer.detail


def test_libvirt_answers(infra: Any) -> None:
    """The daemon behind the unit really serves."""
    assert infra.run("virsh --connect qemu:///system version").rc == 0


def test_the_kvm_device_can_be_opened(infra: Any) -> None:
    """/dev/kvm is a device, not a left-over file."""
    kvm = infra.file("/dev/kvm")
    assert kvm.exists
    assert not kvm.is_file


def test_a_vfio_node_exists(infra: Any) -> None:
    """The node through which VFIO hands devices over: its container, or iommufd on hosts without one."""
    assert infra.file("/dev/vfio/vfio").exists or infra.file("/dev/iommu").exists
