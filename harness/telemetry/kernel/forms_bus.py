"""The kernel's words about PCI functions, their links, and the IOMMU between them and the memory.

Sources of the words (Linux 4.9 to 6.17): drivers/pci/pci.c, drivers/pci/quirks.c, drivers/pci/rom.c,
drivers/pci/pcie/aer.c, err.c and dpc.c, drivers/pci/hotplug/pciehp_*.c, drivers/vfio/pci,
drivers/iommu/amd/{init,iommu}.c, drivers/iommu/intel/{dmar,iommu,prq,svm}.c, drivers/iommu/arm/arm-smmu*,
drivers/iommu/virtio-iommu.c, arch/powerpc/kernel/eeh*.c.
"""

from __future__ import annotations

from harness.model.outcome import Action
from harness.model.telemetry import Family, Ruling
from harness.telemetry.kernel.form import Form, Part, form
from harness.vendors.names import MODULES, any_of

_STOP_VENDOR = (Ruling.STOP, Action.CONTACT_VENDOR)
_STOP_RESEAT = (Ruling.STOP, Action.RESEAT)
_RETEST_RESEAT = (Ruling.RETEST, Action.RESEAT)
_RETEST_HOST = (Ruling.RETEST, Action.RESTART_HOST)
_NOTE_RESEAT = (Ruling.NOTE, Action.RESEAT)
_CONFIG = (Ruling.CONFIG, Action.FIX_CONFIG)
_AER = r"(?:AER: *)?"
_RECEIVED = r"(?:Multiple )?"
_BUS_ERROR = r"(?:PCIe|CXL) Bus Error: *severity="
_UNASSIGNED = r"can't enable device: BAR [0-5] \[mem [^\]]{1,80}\] not (?:assigned|claimed)"
_SMMU = r"(?:arm-smmu(?:-v3)?|smmu[\w-]*) \S+: (?:R_SMMU: )?"

IOMMU: tuple[Form, ...] = (
    form(
        "IOMMU fault",
        Family.IOMMU,
        _STOP_VENDOR,
        "a device accessed memory that is not assigned to it",
        # Only the low byte of the status tells of faults; the next one numbers a record that may be empty.
        r"(?:DMAR: |dmar: )DRHD: handling fault status(?! reg [0-9a-f]{0,6}00?(?![0-9a-f]))",
        r"(?:DMAR: |dmar: )(?:\[(?:DMA|INTR-REMAP)\b|\[fault reason)",
        r"(?:DMAR: )?\[?(?:DMA|INTR-REMAP)[^\]]*\] Request device",
        r"DMAR:.*(?:Invalid page request|Page request without PASID|Page request in Privilege Mode)",
        r"(?:\S+ \S+: )?(?:AMD-Vi: )?(?:Event logged )?\[?(?:IO_PAGE_FAULT|INVALID_DEVICE_REQUEST"
        r"|ILLEGAL_DEV_TABLE_ENTRY|INVALID_PPR_REQUEST|RMP_PAGE_FAULT)\b",
        _SMMU + r"(?:event 0x\w+ received|event: [CF]_\w+|Unhandled (?:arm-smmu )?context fault"
        r"|Blocked unknown Stream ID|unexpected PRI request received)",
        r"(?:\S+ \S+: )?(?:translation|device|DMA request|page) fault from (?:EP|endpoint) ",
    ),
    form(
        "IOMMU fault",
        Family.IOMMU,
        _STOP_VENDOR,
        "the IOMMU itself reported a hardware error",
        r"(?:\S+ \S+: )?(?:AMD-Vi: )?(?:Event logged )?\[?"
        r"(?:(?:DEV_TAB|PAGE_TAB|COMMAND|RMP)_(?:HARDWARE|HW)_ERROR|ILLEGAL_COMMAND_ERROR)\b",
        r"DMAR:.*(?:Invalidation Queue Error|hardware is malfunctioning)(?!.*cleared)",
        r"Kernel panic - not syncing: DMAR hardware is malfunctioning",
        _SMMU + r"(?:unexpected global (?:error reported|fault)|device has entered Service Failure Mode"
        r"|CMDQ ERR(?:OR)?\b|(?:CMDQ|EVTQ|PRIQ|GERROR)(?: MSI)? write aborted|(?:CMDQ|EVTQ|PRIQ) overflow)",
        r"\S+ \S+: unexpected error reported\. vintf_map",
    ),
    form(
        "IOMMU fault",
        Family.IOMMU,
        _RETEST_HOST,
        "a device or the IOMMU did not answer an invalidation in time",
        r"(?:\S+ \S+: )?(?:AMD-Vi: )?(?:Event logged )?\[?IOTLB_INV_TIMEOUT\b",
        r"(?:\S+ \S+: )?AMD-Vi: Completion-Wait loop timed out",
        r"(?:\S+ \S+: )?AMD-Vi: (?:IOMMU )?(?:event|PPR|GA) log (?:overflow|restarting)",
        r"DMAR:.*Invalidation (?:Time-?out|Completion) Error(?!.*cleared)",
        r"DMAR:.*\b(?:PRQ|page request queue) overflow",
        _SMMU
        + r"(?:CMD_SYNC timeout|CMDQ timeout|(?:ATC|TLB) \w* ?(?:sync )?time[d]?[ -]?out|TLB sync timed out)",
    ),
    form(
        "IOMMU fault",
        Family.IOMMU,
        (Ruling.RETEST, Action.CONTACT_VENDOR),
        "the IOMMU's tables are invalid, or it reported an event of unknown kind",
        r"DMAR: ERROR: DMA PTE",
        r"(?:\S+ \S+: )?(?:AMD-Vi: )?Event logged \[",
        r"DMAR: \[[^\]]{0,80}\].*\bfault\b",
    ),
    form(
        "IOMMU fault",
        Family.IOMMU,
        (Ruling.NOTE, Action.RESTART_HOST),
        "the IOMMU's error was cleared; the line that reported it decides",
        r"DMAR:.*Error \((?:ITE|IQE|ICE)\) cleared",
    ),
)

PCIE: tuple[Form, ...] = (
    form(
        "PCIe error",
        Family.AER,
        _STOP_RESEAT,
        "fatal PCIe error: the link lost data",
        _AER + _BUS_ERROR + r"Uncorrect\w* \(Fatal\)",
        _AER + _RECEIVED + r"Uncorrect\w* \(Fatal\) error",
        r"(?:DPC|EDR):? containment event",
        r"(?:DPC|EDR):? (?:unmasked uncorrectable error|ERR_(?:NON)?FATAL|RP PIO error|software trigger"
        r"|reserved error)[\w ]* (?:detected|received)",
        r"(?:DPC|EDR): RP (?:busy after|PIO).*\b(?:containment|error)",
        r"EEH: .*(?:frozen|permanently disabled|has failed|not recover|unable to recover|failure detected)",
    ),
    form(
        "PCIe error",
        Family.AER,
        _RETEST_RESEAT,
        "uncorrectable PCIe error: a transfer was lost",
        _AER + _BUS_ERROR + r"Uncorrect",
        _AER + _RECEIVED + r"Uncorrect\w* (?:\(Non-Fatal\) )?error",
        r"AER: (?:device|Device) recovery[\w -]* failed",
        r"PCI error: detected callback",
        r"AER: (?:can't recover|subordinate device reset failed|.*link reset .*failed)",
        r"AER: (?:Root|Downstream)\S* \w*\b.*link has been reset \(-",
    ),
    form(
        "PCIe error",
        Family.AER,
        _NOTE_RESEAT,
        "corrected PCIe error: its rate is judged by the counters",
        _AER + _BUS_ERROR + r"Correct",
        _AER + _RECEIVED + r"Correct\w* error",
        r"AER: found no error details for Correct",
    ),
    form(
        "PCIe error",
        Family.AER,
        _RETEST_RESEAT,
        "PCIe error of unknown severity",
        _AER + _BUS_ERROR,
        r"AER: (?:\w+ ){0,4}error (?:message )?received",
    ),
    form(
        "PCIe error",
        Family.BUS,
        _STOP_RESEAT,
        "a PCIe link went down unexpectedly, or the card was lost from its slot",
        r"(?:pciehp: )?Slot\([^)]{1,40}\): (?:Link Down|Card not present|Surprise (?:Down|Removal))",
        r"Link Down on Slot\(",
        r"(?:[\w.-]{1,20}: )?PCIe link lost",
        r"device lost from bus",
        r"Adapter removed\b",
    ),
    form(
        "PCIe error",
        Family.KERNEL,
        _RETEST_RESEAT,
        "a PCIe link did not come up, or came up slower than it should",
        r"(?:pciehp: )?Slot\([^)]{1,40}\): (?:Cannot train link|Failed to check link status|Power fault"
        r"|No link|No device found)",
        r"(?:Link Training Error occurs|Power fault on slot)",
        r"broken device, retraining non-functional downstream link",
        r"(?:link )?retraining failed",
        r"(?:DPC: )?Data Link Layer Link Active not set in ",
    ),
)

DEVICE: tuple[Form, ...] = (
    form(
        "device trouble",
        Family.KERNEL,
        _CONFIG,
        "the memory of a device was taken by another driver or by the firmware's console",
        r"BAR \d+(?: \[[^\]]*\])?: can't reserve",
        part=Part.CAUSE,
    ),
    form(
        "device trouble",
        Family.KERNEL,
        _CONFIG,
        "the process may not lock enough memory to assign a device",
        r"vfio_\w+: RLIMIT_MEMLOCK",
    ),
    form(
        "device trouble",
        Family.KERNEL,
        (Ruling.CONFIG, Action.FIX_FIRMWARE),
        "firmware or IOMMU settings prevent a device from being assigned",
        r"Firmware has requested this device have a 1:1 IOMMU mapping",
        r"Device is ineligible for IOMMU domain attach",
        r"vfio_\w+: No interrupt remapping(?: for this platform| support)",
    ),
    form(
        "device trouble",
        Family.KERNEL,
        (Ruling.CONFIG, Action.FIX_FIRMWARE),
        "a memory BAR of a GPU was not assigned: the firmware has no address space for it",
        _UNASSIGNED,
        driver=any_of((*MODULES, "vfio-pci")),
        part=Part.CAUSE,
    ),
    form(
        "device trouble",
        Family.KERNEL,
        (Ruling.CONFIG, Action.FIX_FIRMWARE),
        "a memory BAR of a device was not assigned: the firmware has no address space for it",
        _UNASSIGNED,
        driver=r"(?!pcieport|pci$|shpchp).*",
    ),
    form(
        "device trouble",
        Family.KERNEL,
        _RETEST_HOST,
        "a device did not come back: after a reset, or from a power state",
        r"not ready \d+ ?ms after .{1,60}; giving up",
        r"(?:can't|Unable to|Failed to) change power state from \S+ to \S+",
        r"Refused to change power state",
        r"invalid power transition \(from ",
        r"(?:config space: )?(?:!+ )?unknown header type (?:7f|ff)\b",
        r"Failed to return from (?:FLR|AF FLR|\w+ reset)",
        r"(?:config|configuration) space (?:is )?inaccessible",
        r"device (?:is )?inaccessible",
        r"(?:vfio_bar_restore: )?reset recovery",
        r"timed out waiting for pending transaction",
        r"Invalid PCI ROM header signature: expecting 0xaa55, got 0xffff",
        r"Unexpected reset of device",
        r"[\w: ]{0,40}unable to (?:read|access) (?:config|configuration) space",
    ),
    form(
        "device trouble",
        Family.KERNEL,
        (Ruling.NOTE, Action.FIX_FIRMWARE),
        "a device's ROM is hidden, as that of the console's card is",
        r"Invalid PCI ROM (?:header|data) signature",
    ),
)
WAITING = r"not ready \d+ ?ms after .{1,60}; waiting"
READY = r"ready \d+ ?ms after "
