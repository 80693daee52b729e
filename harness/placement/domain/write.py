"""A plan and a guest's definition as libvirt domain XML (libvirt 9.0 or newer, q35)."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

from harness.model.attachment import Attachment
from harness.model.placement import PlacementPlan
from harness.placement.domain.definition import GuestDefinition, metadata
from harness.placement.domain.devices import add_devices
from harness.placement.ranges import show

ARCHITECTURE = "x86_64"
"""The only one whose guests are built: the machine is a q35, its image for x86-64."""

VCPUS_WITHOUT_IOMMU = 255
"""More need x2APIC ids beyond 8 bits, for which QEMU wants an IOMMU in extended interrupt mode."""


_LARGE_MIB = 512 * 1024
"""With more memory than this, or a large PCI window, a guest may not fit into 40 bits of physical addresses,
QEMU's default (kraxel.org, "QEMU phys-bits"): it does not start then, or the last GPUs get no window."""


def render(plan: PlacementPlan, guest: GuestDefinition, mode: Attachment) -> str:
    """The domain XML of ``guest`` placed as ``plan`` says, with devices as ``mode`` hands them over; the same
    input gives the same text.

    One guest cell per host node with strictly bound memory, dedicated CPUs, one expander bus per cell that
    has GPUs and one root port per GPU. More than 255 vCPUs add an emulated IOMMU, as QEMU demands. Raises
    ConfigError when the plan has more GPUs than a guest has PCI buses for.
    """
    domain = ET.Element("domain", {"type": guest.domain_type})
    _text(domain, "name", guest.name)
    _text(domain, "uuid", guest.uuid)
    domain.append(metadata(guest))
    _text(domain, "memory", str(plan.memory_mib), unit="MiB")
    _memory_backing(domain, plan)
    _text(domain, "vcpu", str(len(plan.vcpupin)), placement="static")
    _cputune(domain, plan)
    _numatune(domain, plan)
    _fw_cfg(domain, guest)
    _os(domain, guest)
    _features(domain, plan)
    _cpu(domain, plan, guest)
    ET.SubElement(domain, "clock", {"offset": "utc"})
    _text(domain, "on_poweroff", "destroy")
    _text(domain, "on_reboot", "restart")
    _text(domain, "on_crash", "preserve")  # a dead guest's memory is evidence; release destroys it
    add_devices(domain, plan, guest, mode, iommu=len(plan.vcpupin) > VCPUS_WITHOUT_IOMMU)
    _firmware_window(domain, guest)
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode") + "\n"


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element


def _memory_backing(domain: ET.Element, plan: PlacementPlan) -> None:
    backing = ET.SubElement(domain, "memoryBacking")
    if plan.hugepage_kib is not None:
        cells = show(cell.id for cell in plan.cells)
        pages = ET.SubElement(backing, "hugepages")
        ET.SubElement(pages, "page", {"size": str(plan.hugepage_kib), "unit": "KiB", "nodeset": cells})
    ET.SubElement(backing, "nosharepages")
    if plan.hugepage_kib is not None:
        # memfd needs no hugetlbfs mount of that page size. Not for ordinary pages: a private mapping of an
        # ordinary memfd costs every page twice, once in the file and once as a copy.
        ET.SubElement(backing, "source", {"type": "memfd"})
        ET.SubElement(backing, "access", {"mode": "private"})
    threads = str(min(8, max(1, len(plan.vcpupin))))
    ET.SubElement(backing, "allocation", {"mode": "immediate", "threads": threads})


def _cputune(domain: ET.Element, plan: PlacementPlan) -> None:
    tune = ET.SubElement(domain, "cputune")
    for vcpu, cpu in sorted(plan.vcpupin.items()):
        ET.SubElement(tune, "vcpupin", {"vcpu": str(vcpu), "cpuset": str(cpu)})
    ET.SubElement(tune, "emulatorpin", {"cpuset": show(plan.emulatorpin)})


def _numatune(domain: ET.Element, plan: PlacementPlan) -> None:
    tune = ET.SubElement(domain, "numatune")
    nodes = show(cell.host_node for cell in plan.cells)
    ET.SubElement(tune, "memory", {"mode": "strict", "nodeset": nodes})
    for cell in plan.cells:
        bound = {"cellid": str(cell.id), "mode": "strict", "nodeset": str(cell.host_node)}
        ET.SubElement(tune, "memnode", bound)


def _fw_cfg(domain: ET.Element, guest: GuestDefinition) -> None:
    if guest.fw_cfg:
        sysinfo = ET.SubElement(domain, "sysinfo", {"type": "fwcfg"})
        for name, value in guest.fw_cfg:
            _text(sysinfo, "entry", value, name=name)


def _firmware_window(domain: ET.Element, guest: GuestDefinition) -> None:
    """OVMF sizes its 64-bit window by a knob of its own (MiB), not by the chipset's property; libvirt keeps
    the name to itself in ``<sysinfo>``, so it goes on QEMU's command line."""
    if guest.firmware != "efi" or guest.pci_hole64_kib is None:
        return
    domain.set("xmlns:qemu", "http://libvirt.org/schemas/domain/qemu/1.0")
    commandline = ET.SubElement(domain, "qemu:commandline")
    knob = f"name=opt/ovmf/X-PciMmio64Mb,string={guest.pci_hole64_kib // 1024}"
    for value in ("-fw_cfg", knob):
        ET.SubElement(commandline, "qemu:arg", {"value": value})


def _os(domain: ET.Element, guest: GuestDefinition) -> None:
    element = ET.SubElement(domain, "os", {"firmware": "efi"} if guest.firmware == "efi" else {})
    _text(element, "type", "hvm", arch=ARCHITECTURE, machine=guest.machine)
    if guest.firmware == "efi":
        firmware = ET.SubElement(element, "firmware")
        ET.SubElement(firmware, "feature", {"enabled": "no", "name": "secure-boot"})
    for tag, value in (("kernel", guest.kernel), ("initrd", guest.initrd), ("cmdline", guest.cmdline)):
        if value is not None:
            _text(element, tag, value)
    if guest.kernel is None:
        ET.SubElement(element, "boot", {"dev": "hd"})


def _features(domain: ET.Element, plan: PlacementPlan) -> None:
    features = ET.SubElement(domain, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    if len(plan.vcpupin) > VCPUS_WITHOUT_IOMMU:
        ET.SubElement(features, "ioapic", {"driver": "qemu"})


def _cpu(domain: ET.Element, plan: PlacementPlan, guest: GuestDefinition) -> None:
    attributes = {"mode": guest.cpu_mode, "check": "none"}
    if guest.cpu_mode == "host-passthrough":
        attributes["migratable"] = "off"
    cpu = ET.SubElement(domain, "cpu", attributes)
    # Equal sockets of which each cell holds a whole number: cell borders never split a package, which
    # confuses hwloc and the drivers' tools in the guest (open-mpi/hwloc#712).
    threads = plan.threads_per_core
    cores = math.gcd(*(len(cell.vcpus) // threads for cell in plan.cells))
    sockets = len(plan.vcpupin) // (cores * threads)
    shape = {"sockets": sockets, "dies": 1, "cores": cores, "threads": threads}
    ET.SubElement(cpu, "topology", {key: str(value) for key, value in shape.items()})
    large = guest.pci_hole64_kib is not None or plan.memory_mib > _LARGE_MIB
    if guest.cpu_mode == "host-passthrough" and large:
        ET.SubElement(cpu, "maxphysaddr", {"mode": "passthrough"})
    numa = ET.SubElement(cpu, "numa")
    for cell in plan.cells:
        size = {"id": str(cell.id), "cpus": show(cell.vcpus), "memory": str(cell.memory_mib), "unit": "MiB"}
        element = ET.SubElement(numa, "cell", size)
        if len(plan.cells) > 1:
            distances = ET.SubElement(element, "distances")
            for other, value in sorted(plan.distances[cell.id].items()):
                ET.SubElement(distances, "sibling", {"id": str(other), "value": str(value)})
