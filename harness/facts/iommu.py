"""The IOMMU and VFIO as the running kernel has them."""

from __future__ import annotations

import re

from harness.facts import ask
from harness.facts.frames import Frames
from harness.facts.notation import flag
from harness.model.pci import PciAddress
from harness.model.topology import Iommu, IommuGroup

_PARAMETER = re.compile(r"(vfio\w*)/parameters/(\w+)")
_REMAPPING_ON = re.compile(r"Enabled IRQ remapping|AMD-Vi: Interrupt remapping enabled", re.IGNORECASE)


def read_iommu(frames: Frames, log: tuple[str, ...] | None, *, log_holds_boot: bool) -> Iommu:
    """Units, groups, interrupt remapping and VFIO; ``log`` is the kernel log where it was readable."""
    parameters = {
        f"{match[1]}.{match[2]}": text for match, text in frames.matching("/sys/module", _PARAMETER)
    }
    return Iommu(
        units=frames.listings.get("/sys/class/iommu", ()),
        groups=_groups(frames),
        interrupt_remapping=_remapping(frames, log, log_holds_boot=log_holds_boot),
        unsafe_interrupts=flag(parameters.get("vfio_iommu_type1.allow_unsafe_interrupts")),
        vfio_parameters=parameters,
        vfio_device_nodes=_device_nodes(frames),
        iommufd="/dev/iommu" in frames.present,
    )


def _groups(frames: Frames) -> tuple[IommuGroup, ...]:
    groups = []
    for name in frames.listings.get(ask.GROUPS, ()):
        if not re.fullmatch(r"\d{1,9}", name):
            frames.warnings.append(f"not an IOMMU group: {name[:40]!r}")
            continue
        members = []
        for member in frames.listings.get(f"{ask.GROUPS}/{name}/devices", ()):
            try:
                members.append(PciAddress.parse(member))
            except ValueError:
                # Platform devices (SoC blocks, ACPI) have groups too; they are not PCI functions.
                frames.warnings.append(f"IOMMU group {name} holds {member[:80]!r}, which is not a PCI device")
        kind = frames.text(f"{ask.GROUPS}/{name}/type") or None
        groups.append(IommuGroup(id=int(name), devices=tuple(sorted(members)), type=kind))
    return tuple(sorted(groups, key=lambda group: group.id))


def _remapping(frames: Frames, log: tuple[str, ...] | None, *, log_holds_boot: bool) -> bool | None:
    """Whether interrupts are remapped, from two sources; where they differ, the worse answer counts.

    The kernel says so once, at boot; and it names interrupt chips behind a remapping unit ``IR-...``
    (arch/x86/kernel/apic, drivers/iommu/{intel,amd}), which ``/proc/interrupts`` shows at any time.
    """
    said: bool | None = None
    if log is not None and any(_REMAPPING_ON.search(line) for line in log):
        said = True
    elif log is not None and log_holds_boot and not _is_smmu(frames):
        said = False
    output = frames.commands.get("interrupts")
    counts = dict(re.findall(r"^(remapped|plain) (\d{1,6})$", output.text if output else "", re.MULTILINE))
    shown: bool | None = None
    if int(counts.get("remapped", "0")):
        shown = True
    elif int(counts.get("plain", "0")):
        shown = False
    if said is not None and shown is not None and said != shown:
        frames.warnings.append(
            f"the kernel log says that interrupt remapping is {'on' if said else 'off'}, but "
            f"/proc/interrupts says {'on' if shown else 'off'}"
        )
        return False
    return said if shown is None else shown


def _is_smmu(frames: Frames) -> bool:
    """Arm hosts isolate interrupts in the ITS and log no such line, so that its absence says nothing."""
    return any("smmu" in unit for unit in frames.listings.get("/sys/class/iommu", ()))


def _device_nodes(frames: Frames) -> tuple[str, ...]:
    names = [f"/dev/vfio/{name}" for name in frames.listings.get("/dev/vfio", ()) if name != "devices"]
    names += [f"/dev/vfio/devices/{name}" for name in frames.listings.get("/dev/vfio/devices", ())]
    return tuple(names)
