"""PCI functions, from sysfs attributes and the first bytes of configuration space."""

from __future__ import annotations

import re

from harness.facts import ask
from harness.facts.frames import Frames
from harness.facts.notation import count, flag, hex_digits, id_list, id_mask
from harness.facts.pci_config import config_reads, device_serial, header_type, vpd_serial
from harness.model.pci import PciAddress
from harness.model.topology import AerCounters, Bar, Link, PciDevice

# Flags of the third column of `resource` (include/linux/ioport.h, IORESOURCE_*).
_IO, _MEM, _PREFETCH, _MEM_64 = 0x100, 0x200, 0x2000, 0x100000

_SPEED = re.compile(r"(\d{1,3}(?:\.\d{1,3})?) GT/s(?: PCIe)?")
_RESOURCE = re.compile(r"0x([0-9a-f]{1,16}) 0x([0-9a-f]{1,16}) 0x([0-9a-f]{1,16})", re.IGNORECASE)
_SLOT = re.compile(r"(.+)/address", re.DOTALL)


def read_devices(frames: Frames) -> tuple[PciDevice, ...]:
    """Every function that was listed, ascending, the vanished ones marked."""
    slots = _slots(frames)
    devices = []
    for name in frames.listings.get(ask.PCI, ()):
        try:
            address = PciAddress.parse(name)
        except ValueError:
            frames.warnings.append(f"not a PCI address in {ask.PCI}: {name[:80]!r}")
            continue
        devices.append(_device(frames, address, f"{ask.PCI}/{name}", slots))
    return tuple(sorted(devices, key=lambda device: device.address))


def _device(
    frames: Frames, address: PciAddress, path: str, slots: dict[tuple[int, int, int], str]
) -> PciDevice:
    def text(attribute: str) -> str | None:
        return frames.text(f"{path}/{attribute}") or None

    def identity(attribute: str, digits: int) -> str:
        found = hex_digits(text(attribute), digits)
        if found is None:
            frames.warnings.append(f"{address} does not report its {attribute}")
        return found or "f" * digits

    if path not in frames.present:
        frames.warnings.append(f"{address} vanished while it was being read")
        return _vanished(address)
    physfn = _target_address(frames, f"{path}/physfn")
    config = frames.files.get(f"{path}/config")
    upstream = _upstream(frames, path)
    return PciDevice(
        address=address,
        vendor=identity("vendor", 4),
        device=identity("device", 4),
        class_code=identity("class", 6),
        subsystem=_subsystem(text("subsystem_vendor"), text("subsystem_device")),
        revision=hex_digits(text("revision"), 2),
        numa_node=count(text("numa_node")),
        local_cpus=_local_cpus(frames, path),
        iommu_group=count(_target_name(frames, f"{path}/iommu_group")),
        driver=_target_name(frames, f"{path}/driver"),
        driver_override=None if text("driver_override") == "(null)" else text("driver_override"),
        upstream=upstream,
        link=_link(frames, path),
        reset_methods=tuple((text("reset_method") or "").split()),
        bars=_bars(frames, path, address),
        aer=_aer(frames, path),
        power_state=None if text("power_state") == "unknown" else text("power_state"),
        d3cold_allowed=flag(text("d3cold_allowed")),
        power_control=text("power/control"),
        boot_vga=flag(text("boot_vga")),
        sriov_totalvfs=count(text("sriov_totalvfs")),
        sriov_numvfs=count(text("sriov_numvfs")),
        config_ok=config_reads(config, virtual=physfn is not None),
        header_type=header_type(config),
        slot_label=_slot_label(address, upstream, slots, text("label")),
        serial=vpd_serial(frames.files.get(f"{path}/vpd")) or device_serial(config),
        vanished=False,
        reset_file=f"{path}/reset" in frames.present,
        physfn=physfn,
    )


def _vanished(address: PciAddress) -> PciDevice:
    return PciDevice(
        address=address,
        vendor="ffff",
        device="ffff",
        class_code="ffffff",
        subsystem=None,
        revision=None,
        numa_node=None,
        local_cpus=None,
        iommu_group=None,
        driver=None,
        driver_override=None,
        upstream=(),
        link=None,
        reset_methods=(),
        bars=(),
        aer=None,
        power_state=None,
        d3cold_allowed=None,
        power_control=None,
        boot_vga=None,
        sriov_totalvfs=None,
        sriov_numvfs=None,
        config_ok=None,
        header_type=None,
        slot_label=None,
        serial=None,
        vanished=True,
    )


def _target_name(frames: Frames, path: str) -> str | None:
    target = frames.links.get(path)
    return target.rpartition("/")[2] or None if target else None


def _target_address(frames: Frames, path: str) -> PciAddress | None:
    try:
        return PciAddress.parse(_target_name(frames, path) or "")
    except ValueError:
        return None


def _upstream(frames: Frames, path: str) -> tuple[PciAddress, ...]:
    """Bridges above the function, nearest first, from its physical path.

    ``/sys/devices/pci0000:40/0000:40:01.0/0000:41:00.0``: those after the last root bus (``pci0000:40``), so
    that a root bus inside a device (VMD) ends the chain.
    """
    bridges: list[PciAddress] = []
    for part in (frames.links.get(path) or "").split("/")[:-1]:
        if part.startswith("pci"):
            bridges = []
            continue
        try:
            bridges.append(PciAddress.parse(part))
        except ValueError:
            continue
    return tuple(reversed(bridges))


def _subsystem(vendor: str | None, device: str | None) -> str | None:
    first, second = hex_digits(vendor, 4), hex_digits(device, 4)
    return f"{first}:{second}" if first and second else None


def _local_cpus(frames: Frames, path: str) -> tuple[int, ...] | None:
    listed = id_list(frames.text(f"{path}/local_cpulist"))
    return listed if listed is not None else id_mask(frames.text(f"{path}/local_cpus"))


def _link(frames: Frames, path: str) -> Link | None:
    """None for a function without a link (conventional PCI, root complex integrated)."""
    names = ("current_link_speed", "current_link_width", "max_link_speed", "max_link_width")
    values = [frames.text(f"{path}/{name}") for name in names]
    if not any(values):
        return None
    return Link(
        speed_gts=_speed(values[0]),
        width=_width(values[1]),
        max_speed_gts=_speed(values[2]),
        max_width=_width(values[3]),
    )


def _speed(text: str | None) -> float | None:
    """GT/s of ``16.0 GT/s PCIe``; None for ``Unknown`` and its like."""
    match = _SPEED.fullmatch(text or "")
    return float(match[1]) if match else None


def _width(text: str | None) -> int | None:
    """Lanes, 1 to 32. A port without a link says 0, a lost one 63 or 255 (all ones of the field)."""
    lanes = count(text)
    return lanes if lanes is not None and 1 <= lanes <= 32 else None


def _bars(frames: Frames, path: str, address: PciAddress) -> tuple[Bar, ...]:
    """The first seven lines of ``resource``: six BARs and the ROM; unused ones have no flags."""
    bars = []
    lines = (frames.text(f"{path}/resource") or "").splitlines()
    for index, line in enumerate(lines[:7]):
        match = _RESOURCE.fullmatch(line.strip())
        if match is None:
            frames.warnings.append(f"{address}: resource line {index} is unreadable: {line[:80]!r}")
            continue
        start, end, flags = (int(word, 16) for word in match.groups())
        if flags & (_IO | _MEM) and end >= start:
            bars.append(
                Bar(
                    index=index,
                    size=end - start + 1,
                    io=bool(flags & _IO),
                    prefetchable=bool(flags & _PREFETCH),
                    is_64bit=bool(flags & _MEM_64),
                    resizable=f"{path}/resource{index}_resize" in frames.present,
                )
            )
    return tuple(bars)


def _aer(frames: Frames, path: str) -> AerCounters | None:
    """None for a function without AER."""

    def total(name: str, key: str) -> int | None:
        match = re.search(rf"^{key} (\d{{1,19}})$", frames.text(f"{path}/{name}") or "", re.MULTILINE)
        return int(match[1]) if match else None

    def port(name: str) -> int | None:
        return count(frames.text(f"{path}/aer_rootport_total_err_{name}"))

    counters = AerCounters(
        correctable=total("aer_dev_correctable", "TOTAL_ERR_COR"),
        nonfatal=total("aer_dev_nonfatal", "TOTAL_ERR_NONFATAL"),
        fatal=total("aer_dev_fatal", "TOTAL_ERR_FATAL"),
        rootport_correctable=port("cor"),
        rootport_nonfatal=port("nonfatal"),
        rootport_fatal=port("fatal"),
    )
    there = any(f"{path}/aer_dev_{kind}" in frames.files for kind in ("correctable", "nonfatal", "fatal"))
    return counters if there or counters.rootport_correctable is not None else None


def _slots(frames: Frames) -> dict[tuple[int, int, int], str]:
    """Domain, bus and device to the name of the physical slot."""
    slots = {}
    for match, text in frames.matching("/sys/bus/pci/slots", _SLOT):
        try:
            slots[PciAddress.parse(f"{text}.0").slot] = match[1]
        except ValueError:
            frames.warnings.append(f"slot {match[1][:40]!r} has no PCI address: {text[:80]!r}")
    return slots


def _slot_label(
    address: PciAddress,
    upstream: tuple[PciAddress, ...],
    slots: dict[tuple[int, int, int], str],
    label: str | None,
) -> str | None:
    """The slot's own name, else the firmware's label, else the slot of the nearest bridge above."""
    own = slots.get(address.slot) or label
    above = (slots[bridge.slot] for bridge in upstream if bridge.slot in slots)
    return own or next(above, None)
