"""Which PCI functions of a host are GPUs, and what travels with them."""

from __future__ import annotations

from collections.abc import Iterable

from harness.model.guest import GpuSelector
from harness.model.pci import PciAddress
from harness.model.topology import GPU_CLASSES, HostFacts, PciDevice

MANAGEMENT_VENDORS = ("1a03", "102b", "19e5")
"""Vendors whose display functions belong to a server's management controller: ASPEED (AST2x00 in most
boards), Matrox (G200 cores in iDRAC, iLO and others' controllers) and Huawei HiSilicon (Hi171x iBMC).
None of them makes a GPU that is rented (PCI ID database). Huawei's Ascend accelerators are class 1200
and stay GPUs: only classes 03xx are taken away by this list."""

_FOREIGN_CLASSES = ("01", "02")
"""Storage and network controllers: never handed over as somebody's companion (PCI base classes)."""


def select_gpus(facts: HostFacts, selector: GpuSelector) -> tuple[PciDevice, ...]:
    """The host's GPUs in order of address.

    A GPU is a function of class 0300, 0302, 0380 or 1200 that is neither the boot VGA nor a management
    controller's, or one that the selector lists by address or ``vendor:device``; never one it excludes. Of
    several functions in one slot the lowest stands for the card, unless their addresses are listed. SR-IOV
    virtual functions (which may carry their card's id) count only when listed by address. Broken GPUs are
    included: they are somebody's reason.
    """
    listed, ids = set(selector.addresses), {text.lower() for text in selector.ids}
    chosen: dict[PciAddress, PciDevice] = {}
    slots: set[tuple[int, int, int]] = set()
    for device in sorted(facts.pci_devices, key=lambda d: d.address):
        address = device.address
        if address in selector.exclude or is_bridge(device):
            continue
        wanted = device.id in ids or _looks_like_gpu(device)
        if address in listed or (wanted and address.slot not in slots and not is_virtual(facts, device)):
            chosen.setdefault(address, device)
            slots.add(address.slot)
    return tuple(chosen.values())


def _looks_like_gpu(device: PciDevice) -> bool:
    if device.class_code[:4] not in GPU_CLASSES or device.boot_vga is True:
        return False
    return not (device.vendor in MANAGEMENT_VENDORS and device.class_code.startswith("03"))


def is_bridge(device: PciDevice) -> bool:
    """Whether the function is a PCI bridge (header type 1 or 2, or class 0604/0609): it is never handed over
    and never blocks its group (Linux ``vfio.rst``)."""
    header = device.header_type
    if header is not None and header != 0xFF:
        return (header & 0x7F) in (1, 2)
    return device.class_code[:4] in ("0604", "0609")


def is_virtual(facts: HostFacts, device: PciDevice) -> bool:
    """Whether the function is an SR-IOV virtual function: its ``physfn`` says so; where facts lack that, a
    function without SR-IOV of its own after an active physical function of its vendor, on the same port."""
    if device.physfn is not None:
        return True
    if device.sriov_totalvfs or not device.upstream:
        return False
    return any(
        (pf.sriov_numvfs or 0) > 0
        and pf.vendor == device.vendor
        and pf.upstream == device.upstream
        and pf.class_code == device.class_code
        and pf.address < device.address
        for pf in facts.pci_devices
    )


def group_members(facts: HostFacts, device: PciDevice) -> tuple[PciAddress, ...]:
    """All functions of the device's IOMMU group, itself included, bridges too; sorted.

    Both what the group lists and what functions say of themselves count: they disagree only when something
    changed while being read, and then the larger set is the safe one.
    """
    if device.iommu_group is None:
        return (device.address,)
    group = facts.group(device.iommu_group)
    named = group.devices if group is not None else ()
    claimed = (d.address for d in facts.pci_devices if d.iommu_group == device.iommu_group)
    return tuple(sorted({device.address, *named, *claimed}))


def companions(facts: HostFacts, device: PciDevice) -> tuple[PciDevice, ...]:
    """The other endpoint functions of the device's IOMMU group, in order of address.

    Functions that share its slot belong to it even where they have groups of their own: a bus reset takes
    the whole slot, so it must be owned whole. Virtual functions are their own masters there.
    """
    members = set(group_members(facts, device))
    if not is_virtual(facts, device):
        members |= {
            d.address
            for d in facts.pci_devices
            if d.address.slot == device.address.slot and not is_virtual(facts, d)
        }
    found = (facts.device(address) for address in sorted(members - {device.address}))
    return tuple(d for d in found if d is not None and not is_bridge(d))


def can_travel(device: PciDevice, gpu: PciDevice) -> bool:
    """Whether ``device`` may be handed over because ``gpu`` is: it is a function of the same card (audio,
    USB, UCSI ...) and no storage or network controller, which the host may live on."""
    return device.address.slot == gpu.address.slot and not device.class_code.startswith(_FOREIGN_CLASSES)


def missing_listed(facts: HostFacts, selector: GpuSelector) -> tuple[PciAddress, ...]:
    """Addresses that the host file lists as GPUs and the host does not have."""
    present = {d.address for d in facts.pci_devices}
    return tuple(a for a in sorted(set(selector.addresses)) if a not in present)


def addresses(devices: Iterable[PciDevice]) -> str:
    """Addresses in a sentence: ``0000:17:00.0, 0000:3d:00.0``."""
    return ", ".join(str(d.address) for d in devices)
