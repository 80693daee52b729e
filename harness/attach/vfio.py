"""Attach mode ``vfio``: whole PCI functions, handed to guests through VFIO."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from harness.model.attachment import Attachment, HandOver, Observable
from harness.model.pci import PciAddress
from harness.model.placement import PlannedGpu, Reason
from harness.model.topology import HostFacts, PciDevice
from harness.placement.domain.definition import functions
from harness.placement.gpus import companions, select_gpus
from harness.placement.reasons import Code, reason
from harness.placement.virtual import split_words


def refusals(facts: HostFacts, device: PciDevice) -> tuple[Reason, ...]:
    """Why a whole function cannot be handed over: parts of it are out, or VFIO cannot take it."""
    found: list[Reason] = []
    for function in (device, *companions(facts, device)):
        words, in_use = split_words(facts, function)
        if words:
            code = Code.VIRTUAL_FUNCTIONS_IN_USE if in_use else Code.SRIOV_IN_USE
            what = "GPU" if function is device else f"companion function of GPU {device.address},"
            found.append(reason(code, f"{what} {function.address} {words}"))
    if device.iommu_group is None:
        message = f"GPU {device.address} is in no IOMMU group: VFIO cannot assign it"
        found.append(reason(Code.NO_IOMMU_GROUP, message))
    return tuple(found)


def elements(gpu: PlannedGpu) -> tuple[ET.Element, ...]:
    """A ``<hostdev>`` for the GPU and each of its companions, in one slot of the guest."""
    handed = functions(gpu)
    return tuple(
        hostdev(alias, source, bus=gpu.root_port_bus, function=number, several=len(handed) > 1)
        for alias, source, number in handed
    )


def hostdev(alias: str, source: PciAddress, *, bus: int, function: int, several: bool) -> ET.Element:
    """One PCI function of the host, given to the guest as ``function`` of slot 0 of ``bus``."""
    found = ET.Element("hostdev", {"mode": "subsystem", "type": "pci", "managed": "yes"})
    ET.SubElement(found, "driver", {"name": "vfio"})
    address = {
        "domain": f"{source.domain:#06x}",
        "bus": f"{source.bus:#04x}",
        "slot": f"{source.device:#04x}",
        "function": f"{source.function:#x}",
    }
    ET.SubElement(ET.SubElement(found, "source"), "address", address)
    ET.SubElement(found, "alias", {"name": alias})
    ET.SubElement(found, "rom", {"bar": "off"})
    inside = {
        "type": "pci",
        "domain": "0x0000",
        "bus": f"{bus:#04x}",
        "slot": "0x00",
        "function": f"{function:#x}",
    }
    first = function == 0 and several
    ET.SubElement(found, "address", {**inside, "multifunction": "on"} if first else inside)
    return found


ATTACHMENT = Attachment(
    name="vfio",
    title="GPUs handed to guests",
    default_profile="smoke",
    shows=frozenset({Observable.GUEST, Observable.FUNCTION, Observable.CARD}),
    select=select_gpus,
    companions=companions,
    hand_over=HandOver(refusals=refusals, elements=elements),
)
