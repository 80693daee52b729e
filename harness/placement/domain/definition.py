"""GuestDefinition: what a domain needs besides its placement, and the marks by which a run finds its own.

Everything Shakedown defines on a host carries the run's key in a ``<metadata>`` element of our own
namespace, so that leftovers of a dead run can be told from other people's domains.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass

from harness.errors import ConfigError
from harness.model.pci import PciAddress
from harness.model.placement import PlannedGpu

RUN_NAMESPACE = "urn:shakedown:run:1"
"""Namespace of our metadata element; libvirt keeps it untouched through define, dumpxml and restart."""

FIRMWARE = ("bios", "efi")

_RESERVED = ("opt/ovmf/", "opt/org.qemu/")
"""Names that libvirt 9.0 refuses in ``<sysinfo>``: "That firmware name is reserved"."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestDefinition:
    """A domain's identity, disk, network and firmware. Raises ConfigError on text no XML could carry."""

    name: str
    uuid: str
    run: str
    """Key of the run that owns it."""
    disk: str
    """Path of the throw-away qcow2 overlay on the host."""
    backing: str | None = None
    """Path of the image below the overlay, so that libvirt labels it too."""
    backing_format: str = "qcow2"
    network: str = "default"
    mac: str = "52:54:00:5d:00:01"
    serial_log: str
    """Path on the host where the guest's serial console is written."""
    domain_type: str = "kvm"
    machine: str = "q35"
    firmware: str = "bios"
    kernel: str | None = None
    """With ``initrd`` and ``cmdline``: direct kernel boot from files on the host."""
    initrd: str | None = None
    cmdline: str | None = None
    fw_cfg: tuple[tuple[str, str], ...] = ()
    """Names (``opt/...``) and values readable in the guest under ``/sys/firmware/qemu_fw_cfg``."""
    cpu_mode: str = "host-passthrough"
    pci_hole64_kib: int | None = None
    """64-bit PCI window (``harness.placement.buses.pci_hole64_kib``); None leaves QEMU's own."""

    def __post_init__(self) -> None:
        self._require(_NAME.fullmatch(self.name), "name", self.name)
        self._require(_NAME.fullmatch(self.network), "network", self.network)
        self._require(_UUID.fullmatch(self.uuid), "uuid", self.uuid)
        self._require(_MAC.fullmatch(self.mac), "mac", self.mac)
        self._require(self.firmware in FIRMWARE, "firmware", self.firmware)
        for path in (self.disk, self.serial_log, self.backing, self.kernel, self.initrd):
            self._require(path is None or path.startswith("/"), "path", path)
        texts = (self.run, self.disk, self.serial_log, self.backing, self.kernel, self.initrd, self.cmdline)
        for text in (*texts, *(part for entry in self.fw_cfg for part in entry)):
            self._require(text is None or not _UNPRINTABLE.search(text), "text", text)
        for key, _ in self.fw_cfg:
            self._require(key.startswith("opt/") and not key.startswith(_RESERVED), "fw_cfg name", key)

    def _require(self, ok: object, what: str, value: object) -> None:
        if not ok:
            raise ConfigError(f"guest definition: {what} {value!r} cannot be used in a domain")


def functions(gpu: PlannedGpu) -> tuple[tuple[str, PciAddress, int], ...]:
    """Every function handed over with ``gpu``: its libvirt alias, host address and function in the guest.

    The GPU itself becomes function 0 of its slot under the alias of the plan (``ua-gpu2``); companions keep
    their order as functions 1, 2 ... under ``ua-gpu2-f1``, ``ua-gpu2-f2`` ...
    """
    companions = enumerate(gpu.companions, start=1)
    return ((gpu.alias, gpu.host, 0), *((f"{gpu.alias}-f{n}", address, n) for n, address in companions))


def run_key(xml: str) -> str | None:
    """Key of the run that defined a domain, from its XML; None for a domain (or text) that is not ours."""
    if "<!" in xml and ("<!DOCTYPE" in xml or "<!ENTITY" in xml):
        return None  # libvirt never prints one; expanding entities of unknown text is not our business
    try:
        root = ET.fromstring(xml)  # noqa: S314  no entities get here
    except (ET.ParseError, ValueError):
        return None
    element = root.find(f"metadata/{{{RUN_NAMESPACE}}}guest")
    return None if element is None else element.get("run")


def metadata(guest: GuestDefinition) -> ET.Element:
    """The ``<metadata>`` element that marks a domain as this run's."""
    element = ET.Element("metadata")
    # Written out by hand: ElementTree's own prefixes live in a global table.
    names = {"xmlns:shakedown": RUN_NAMESPACE, "run": guest.run, "name": guest.name}
    ET.SubElement(element, "shakedown:guest", names)
    return element
