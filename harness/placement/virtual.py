"""SR-IOV: the virtual functions that a card was split into, and who uses them."""

from __future__ import annotations

from harness.model.pci import PciAddress
from harness.model.topology import HostFacts, PciDevice

VFIO_DRIVERS = ("vfio-pci", "nvgrace_gpu_vfio_pci", "mlx5_vfio_pci", "xe_vfio_pci")
"""Drivers that hand a function to a guest: ``vfio-pci`` and the kernel's variant drivers."""


def virtual_functions(facts: HostFacts, address: PciAddress) -> tuple[PciDevice, ...]:
    """The virtual functions of the physical function at ``address``, in order of address; by ``physfn``."""
    found = (device for device in facts.pci_devices if device.physfn == address)
    return tuple(sorted(found, key=lambda device: device.address))


def users(facts: HostFacts, functions: tuple[PciDevice, ...]) -> tuple[str, ...]:
    """Who uses these functions, one sentence each: ``0000:41:10.0 is held by domain 'tenant-7'``.

    A function counts as used when a running domain has it, when a process has its IOMMU group open, or when a
    driver is bound to it.
    """
    return tuple(words for function in functions if (words := _user(facts, function)))


def _user(facts: HostFacts, function: PciDevice) -> str:
    for domain in facts.domains or ():
        if function.address in domain.hostdevs:
            return f"{function.address} is held by domain {domain.name!r}"
    node = f"/dev/vfio/{function.iommu_group}"
    for holder in facts.device_holders or ():
        if function.iommu_group is not None and holder.path == node:
            return f"{function.address} is open in process {holder.pid} ({node})"
    if function.driver is not None:
        return f"{function.address} is bound to {function.driver}"
    return ""


def split_words(facts: HostFacts, device: PciDevice) -> tuple[str, bool]:
    """What stands against taking a physical function whole, and whether its parts are in use.

    ``("", False)`` for a function without virtual functions. A domain that is given the physical function
    takes all of them along: libvirt allows it, and the kernel pulls them out of the guests that use them.
    """
    parts = virtual_functions(facts, device.address)
    used = users(facts, parts)
    if used:
        more = f" (and {len(used) - 3} more)" if len(used) > 3 else ""
        return f"has virtual functions in use: {'; '.join(used[:3])}{more}", True
    number = max(device.sriov_numvfs or 0, len(parts))
    if number:
        return f"has {number} virtual functions enabled: a guest would not get the whole GPU", False
    return "", False
