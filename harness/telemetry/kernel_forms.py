"""The kernel's words for trouble, and what each means where no code of NVIDIA's says it.

Sources of the words: drivers/iommu (intel/dmar.c, amd/iommu.c, arm/arm-smmu*), drivers/pci/pcie (aer.c,
dpc.c), drivers/pci/hotplug/pciehp_ctrl.c, arch/x86/kernel/cpu/mce, drivers/edac, drivers/vfio/pci,
kernel/hung_task.c, kernel/watchdog.c, kernel/rcu/tree_stall.h, kernel/panic.c, mm/oom_kill.c,
kernel/module/signing.c, and NVIDIA's open kernel modules (lines that begin with ``NVRM``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.model.outcome import Action
from harness.model.telemetry import Family, Ruling

LONGEST = 4096
"""Characters of one line that are looked at; kernel lines are under 1 KiB (CONSOLE_EXT_LOG_MAX is 8 KiB)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One way in which a kernel tells of trouble."""

    kind: str
    """Name of the trouble, for messages."""
    family: Family
    pattern: re.Pattern[str]
    ruling: Ruling
    action: Action
    meaning: str


FORMS: tuple[Form, ...] = (
    Form(
        kind="IOMMU fault",
        family=Family.IOMMU,
        pattern=re.compile(
            r"DMAR:.*\bfault\b|DMAR:.*PTE (?:Read|Write) access|IO_PAGE_FAULT"
            r"|INVALID_DEVICE_REQUEST|arm-smmu.*(?:event|fault)"
        ),
        ruling=Ruling.STOP,
        action=Action.CONTACT_VENDOR,
        meaning="a device reached for memory that it was not given",
    ),
    Form(
        kind="PCIe error",
        family=Family.AER,
        pattern=re.compile(r"(?i)(?:\bAER:|PCIe Bus Error:).*\(Fatal\)|\bDPC: .*(?:containment|error)"),
        ruling=Ruling.STOP,
        action=Action.RESEAT,
        meaning="fatal PCIe error: the link lost data",
    ),
    Form(
        kind="PCIe error",
        family=Family.AER,
        pattern=re.compile(
            r"(?i)(?:\bAER:|PCIe Bus Error:).*(?:\(Non-Fatal\)|uncorrect)|\bAER:.*(?:failed|can't recover)"
        ),
        ruling=Ruling.RETEST,
        action=Action.RESEAT,
        meaning="uncorrectable PCIe error: a transfer was lost",
    ),
    Form(
        kind="PCIe error",
        family=Family.AER,
        pattern=re.compile(r"(?i)\bAER:.*correct(?:able|ed).*error|PCIe Bus Error:.*correct"),
        ruling=Ruling.NOTE,
        action=Action.RESEAT,
        meaning="corrected PCIe error: its rate is judged by the counters",
    ),
    Form(
        kind="PCIe error",
        family=Family.AER,
        pattern=re.compile(r"(?i)\bAER:.*error|PCIe Bus Error"),
        ruling=Ruling.RETEST,
        action=Action.RESEAT,
        meaning="PCIe error of a severity that is not known",
    ),
    Form(
        kind="PCIe error",
        family=Family.BUS,
        pattern=re.compile(r"pciehp.*: Link Down"),
        ruling=Ruling.STOP,
        action=Action.RESEAT,
        meaning="a PCIe link went down by itself",
    ),
    Form(
        kind="machine check",
        family=Family.MCE,
        pattern=re.compile(r"EDAC .*\b\d+ CE\b|\[Hardware Error\]: Corrected error"),
        ruling=Ruling.RETEST,
        action=Action.CONTACT_VENDOR,
        meaning="the host corrected a memory or bus error",
    ),
    Form(
        kind="machine check",
        family=Family.MCE,
        pattern=re.compile(
            r"(?i)\[Hardware Error\]|\bmce: .*(?:error|CPU \d+)|Machine check (?:events|exception)"
            r"|EDAC .*\b\d+ UE\b"
        ),
        ruling=Ruling.STOP,
        action=Action.CONTACT_VENDOR,
        meaning="the processor or its memory reported a hardware error",
    ),
    Form(
        kind="GPU error",
        family=Family.BUS,
        pattern=re.compile(r"NVRM:.*fallen off the bus"),
        ruling=Ruling.STOP,
        action=Action.RESEAT,
        meaning="the GPU has fallen off the bus",
    ),
    Form(
        kind="GPU error",
        family=Family.KERNEL,
        pattern=re.compile(
            r"NVRM: (?:API mismatch|.*version mismatch|.*does not support this GPU)"
            r"|NVRM: .*not supported by|NVRM: The NVIDIA probe routine was not called"
        ),
        ruling=Ruling.CONFIG,
        action=Action.FIX_CONFIG,
        meaning="driver, library and GPU do not fit each other",
    ),
    Form(
        kind="GPU error",
        family=Family.KERNEL,
        pattern=re.compile(r"(?i)NVRM:.*rm_?init_?adapter failed"),
        ruling=Ruling.RETEST,
        action=Action.RESET_GPU,
        meaning="the driver could not initialise the GPU: a broken card, or a driver too old for it",
    ),
    Form(
        kind="GPU error",
        family=Family.KERNEL,
        pattern=re.compile(
            r"NVRM:.*(?:PCI I/O region assigned to your NVIDIA device is invalid|is 0M @ 0x0)"
        ),
        ruling=Ruling.CONFIG,
        action=Action.FIX_FIRMWARE,
        meaning="a memory window of the GPU was not assigned (above-4G decoding)",
    ),
    Form(
        kind="GPU error",
        family=Family.KERNEL,
        pattern=re.compile(r"amdgpu.*(?:GPU reset|ring .* timeout)"),
        ruling=Ruling.RETEST,
        action=Action.REPLACE_GPU,
        meaning="the GPU hung and was reset",
    ),
    Form(
        kind="VFIO trouble",
        family=Family.KERNEL,
        pattern=re.compile(
            r"vfio[-_]pci.*(?:not ready|reset recovery|Unable to change power state|Refused to change power)"
            r"|Unable to change power state from D3cold|vfio.*BAR \d+: can't reserve|vfio.*Invalid PCI ROM"
        ),
        ruling=Ruling.RETEST,
        action=Action.RESTART_HOST,
        meaning="a device that was handed over did not answer",
    ),
    Form(
        kind="kernel fault",
        family=Family.KERNEL,
        pattern=re.compile(r"Loading of (?:unsigned module|module with unavailable key)"),
        ruling=Ruling.CONFIG,
        action=Action.FIX_CONFIG,
        meaning="the kernel refused a module that is not signed (Secure Boot)",
    ),
    Form(
        kind="kernel fault",
        family=Family.HUNG_TASK,
        pattern=re.compile(r"blocked for more than"),
        ruling=Ruling.RETEST,
        action=Action.RESTART_HOST,
        meaning="a task hung in the kernel",
    ),
    Form(
        kind="kernel fault",
        family=Family.OOM,
        pattern=re.compile(r"[Oo]ut of memory: Killed|invoked oom-killer"),
        ruling=Ruling.CONFIG,
        action=Action.FIX_CONFIG,
        meaning="memory ran out, and the kernel looked for a process to kill",
    ),
    Form(
        kind="kernel fault",
        family=Family.KERNEL,
        pattern=re.compile(
            r"\bBUG: |\bkernel BUG at\b|\bOops\b|Kernel panic|general protection fault|Internal error: "
            r"|detected stall|soft lockup|[Hh]ard LOCKUP"
        ),
        ruling=Ruling.RETEST,
        action=Action.CONTACT_VENDOR,
        meaning="the kernel itself failed",
    ),
)
"""Looked through in order, the first that fits counts. A corrected PCIe error is a note, since one is no
fault: the counters tell their number, which the log does not (the kernel limits the rate of its lines)."""


def form_of(line: str) -> Form | None:
    """The first form that a line has; None for a line of no trouble, and for coded ones (Xid, SXid)."""
    text = line[:LONGEST]
    return next((form for form in FORMS if form.pattern.search(text)), None)
