"""The ``<devices>`` of a guest: its PCI tree, hostdevs, disk, network and console."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping

from harness.errors import ConfigError
from harness.model.attachment import Attachment
from harness.model.placement import PlacementPlan
from harness.placement.buses import Expander, plan_expanders
from harness.placement.domain.definition import GuestDefinition

_DISK_SLOT, _NETWORK_SLOT, _FIRST_EXPANDER_SLOT = 2, 3, 4
"""Slots on ``pcie.0``, where 0 and 0x1f are the chipset's and 1 is what libvirt keeps for video."""


def add_devices(
    domain: ET.Element, plan: PlacementPlan, guest: GuestDefinition, mode: Attachment, *, iommu: bool
) -> None:
    """Append ``<devices>`` to ``domain``. Raises ConfigError when the guest's PCI buses do not suffice."""
    try:
        buses = plan_expanders(plan)
    except ValueError as error:
        raise ConfigError(f"guest {guest.name}: {error}") from error
    devices = ET.SubElement(domain, "devices")
    root = _element(devices, "controller", {"type": "pci", "index": 0, "model": "pcie-root"})
    if guest.pci_hole64_kib is not None:
        _element(root, "pcihole64", {"unit": "KiB"}).text = str(guest.pci_hole64_kib)
    for number, bus in enumerate(buses):
        _expander(devices, bus, slot=_FIRST_EXPANDER_SLOT + number)
    disk = 1 + sum(1 + len(bus.ports) for bus in buses)
    _port(devices, index=disk, bus=0, slot=_DISK_SLOT)
    _port(devices, index=disk + 1, bus=0, slot=_NETWORK_SLOT)
    _element(devices, "controller", {"type": "usb", "model": "none"})
    _disk(devices, guest, bus=disk)
    _network(devices, guest, bus=disk + 1)
    _serial(devices, guest)
    if mode.hand_over is not None:
        devices.extend(element for gpu in plan.gpus for element in mode.hand_over.elements(gpu))
    _element(devices, "memballoon", {"model": "none"})
    _element(devices, "panic", {"model": "isa"})
    if iommu:
        element = _element(devices, "iommu", {"model": "intel"})
        modes = {"intremap": "on", "caching_mode": "on", "eim": "on", "iotlb": "on"}
        _element(element, "driver", modes)


def _element(parent: ET.Element, tag: str, attributes: Mapping[str, str | int]) -> ET.Element:
    return ET.SubElement(parent, tag, {key: str(value) for key, value in attributes.items()})


def _address(parent: ET.Element, *, bus: int, slot: int) -> None:
    values = {
        "type": "pci",
        "domain": "0x0000",
        "bus": f"{bus:#04x}",
        "slot": f"{slot:#04x}",
        "function": "0x0",
    }
    _element(parent, "address", values)


def _expander(devices: ET.Element, bus: Expander, *, slot: int) -> None:
    model: dict[str, str | int] = {"type": "pci", "index": bus.index, "model": "pcie-expander-bus"}
    controller = _element(devices, "controller", model)
    target = _element(controller, "target", {"busNr": bus.bus_number})
    _element(target, "node", {}).text = str(bus.cell)
    _address(controller, bus=0, slot=slot)
    for number, index in enumerate(bus.ports):
        _port(devices, index=index, bus=bus.index, slot=number)


def _port(devices: ET.Element, *, index: int, bus: int, slot: int) -> None:
    model: dict[str, str | int] = {"type": "pci", "index": index, "model": "pcie-root-port"}
    _address(_element(devices, "controller", model), bus=bus, slot=slot)


def _disk(devices: ET.Element, guest: GuestDefinition, *, bus: int) -> None:
    disk = _element(devices, "disk", {"type": "file", "device": "disk"})
    # The overlay is thrown away with the guest: flushing it to the platter protects nobody.
    _element(disk, "driver", {"name": "qemu", "type": "qcow2", "cache": "unsafe", "discard": "unmap"})
    _element(disk, "source", {"file": guest.disk})
    if guest.backing is not None:
        backing = _element(disk, "backingStore", {"type": "file"})
        _element(backing, "format", {"type": guest.backing_format})
        _element(backing, "source", {"file": guest.backing})
        _element(backing, "backingStore", {})
    _element(disk, "target", {"dev": "vda", "bus": "virtio"})
    _address(disk, bus=bus, slot=0)


def _network(devices: ET.Element, guest: GuestDefinition, *, bus: int) -> None:
    interface = _element(devices, "interface", {"type": "network"})
    _element(interface, "mac", {"address": guest.mac})
    _element(interface, "source", {"network": guest.network})
    _element(interface, "model", {"type": "virtio"})
    _element(interface, "rom", {"enabled": "no"})  # no network boot: its option ROM costs seconds
    _address(interface, bus=bus, slot=0)


def _serial(devices: ET.Element, guest: GuestDefinition) -> None:
    serial = _element(devices, "serial", {"type": "file"})
    _element(serial, "source", {"path": guest.serial_log, "append": "on"})
    target = _element(serial, "target", {"type": "isa-serial", "port": 0})
    _element(target, "model", {"name": "isa-serial"})
