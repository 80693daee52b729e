"""The words of GPU drivers that carry no code of NVIDIA's.

Sources of the words: NVIDIA's open kernel modules (kernel-open/nvidia/nv-pci.c, nv.c, os-interface.c,
nv-mmap.c; src/nvidia: osinit.c, kernel_rc_watchdog.c, kernel_gsp*.c), drivers/gpu/drm/amd/amdgpu
(amdgpu_ras.c, amdgpu_aca.c, amdgpu_job.c, amdgpu_device.c, gmc_v*.c), drivers/gpu/drm/amd/ras,
drivers/gpu/drm/{i915,xe,nouveau}, kernel/module, security/lockdown.
"""

from __future__ import annotations

from harness.model.outcome import Action
from harness.model.telemetry import Family, Ruling
from harness.telemetry.kernel.form import Form, Part, form

_CONFIG = (Ruling.CONFIG, Action.FIX_CONFIG)
_RESET = (Ruling.RETEST, Action.RESET_GPU)
_STOP = (Ruling.STOP, Action.REPLACE_GPU)
_GPU_DRIVERS = r"nvidia|nouveau|amdgpu|radeon|i915|xe|NVRM|vfio-pci"
_AMD = r"amdgpu|radeon"
_SOME = r"(?!0+ )\d{1,20}"
_WHERE = r"(?:Total )?(?:socket: ?\d+,? ?)?(?:die: ?\d+,? ?)?"

NVIDIA: tuple[Form, ...] = (
    form(
        "GPU error",
        Family.BUS,
        (Ruling.STOP, Action.RESEAT),
        "the GPU has fallen off the bus",
        r"NVRM:.*(?:fallen off the bus|GPU lost from the bus|\bGPU is lost\b)",
    ),
    form(
        "GPU error",
        Family.KERNEL,
        (Ruling.CONFIG, Action.FIX_FIRMWARE),
        "a memory BAR of the GPU was not assigned (Above 4G Decoding)",
        r"NVRM:.*(?:PCI I/O region assigned to your NVIDIA device is invalid|is 0M @ 0x0)",
        r"NVRM:.*(?:system BIOS may have misconfigured your GPU|BAR\d? .*mapped above)",
        part=Part.CAUSE,
    ),
    form(
        "GPU error",
        Family.KERNEL,
        _CONFIG,
        "another driver holds the GPU's registers",
        r"NVRM:.*request_mem_region failed",
        r"NVRM:.*(?:ownership of the (?:NVIDIA )?device|is already bound to)",
        r"NVRM:.*conflicting (?:kernel module|driver)",
        part=Part.CAUSE,
    ),
    form(
        "GPU error",
        Family.KERNEL,
        _CONFIG,
        "driver, kernel, library and GPU do not match, or a setting is wrong",
        r"NVRM:.*requires (?:the )?use of (?:the )?NVIDIA open",
        r"NVRM:.*(?:not supported by (?:the|open)|does not support this GPU|no longer supported by)",
        r"NVRM:.*supported through the NVIDIA .*Legacy",
        r"NVRM:.*requires auto[ -]?onlining|NVRM:.*GPU memory onlining.*not movable",
        r"NVRM: ignoring the legacy GPU",
        part=Part.CAUSE,
    ),
    form(
        "GPU error",
        Family.KERNEL,
        _CONFIG,
        "driver and library have different versions",
        r"NVRM: (?:API mismatch|.*version mismatch)",
    ),
    form(
        "GPU error",
        Family.KERNEL,
        _CONFIG,
        "the GPU is bound to another driver",
        r"NVRM: The NVIDIA probe routine was not called",
        part=Part.CAUSE,
    ),
    form(
        "GPU error",
        Family.KERNEL,
        _RESET,
        "the driver could not initialise the GPU: a broken card, or a driver too old for it",
        r"NVRM:.*rm_?init_?adapter\S* failed",
        r"NVRM: The NVIDIA probe routine failed",
        r"NVRM:.*(?:Cannot initialize GSP firmware|failed to (?:load|initialize) GSP|Failed to copy vbios)",
        part=Part.EFFECT,
    ),
    form(
        "GPU error",
        Family.KERNEL,
        _RESET,
        "the GPU hung: it no longer answers the driver",
        r"NVRM:.*(?:GPU is (?:probably )?locked|\bnot responding\b)",
        r"NVRM:.*(?:\* GSP Timeout \*|GSP[ _]Timeout|GSP-?CrashCat Report|A GPU crash dump has been created)",
        r"NVRM:.*(?:RPC|GSP).*\b(?:timed out|timeout)\b.*\bfor fn\b",
        r"NVRM:.*Timeout after \d+ ?s\w* of waiting for RPC response",
        r"NVRM: uvm encountered global fatal error|nvidia-uvm: .*\bglobal fatal error",
        r"nvidia-modeset: ERROR: GPU:\d+: (?:Error while waiting for GPU progress|Idling display engine)",
    ),
)

OTHERS: tuple[Form, ...] = (
    form(
        "GPU error",
        Family.KERNEL,
        _STOP,
        "the GPU reported an uncorrectable error of its own memory or logic",
        rf"{_WHERE}{_SOME} (?:new )?uncorrectable hardware errors?\b",
        r"uncorrectable hardware error ?\([^)]*\) ?(?:detected|occurred)",
        r"(?:RAS: )?(?:Fatal error|Uncorrectable error) (?:detected|occurred)",
        r"(?:RAS records?|bad pages?|Saved bad pages?)\b.*\b(?:exceeds?|reach(?:es|ed)) (?:the )?threshold",
        r".{0,80}\b(?:Replace this GPU|GPU will not be initialized)",
        driver=_AMD,
    ),
    form(
        "GPU error",
        Family.KERNEL,
        (Ruling.RETEST, Action.REPLACE_GPU),
        "the GPU used data that is marked as bad (deferred error, poison)",
        rf"{_WHERE}{_SOME} (?:new )?(?:deferred hardware errors?|poison consumption)\b",
        r"(?:RAS )?poison (?:is (?:consumed|created)|consumption|creation)",
        driver=_AMD,
    ),
    form(
        "GPU error",
        Family.KERNEL,
        (Ruling.NOTE, Action.RETEST),
        "the GPU corrected errors of its own memory or logic",
        rf"{_WHERE}{_SOME} (?:new )?correctable hardware errors?\b",
        driver=_AMD,
    ),
    form(
        "GPU error",
        Family.KERNEL,
        (Ruling.RETEST, Action.REPLACE_GPU),
        "the driver could not initialise the GPU",
        r"Fatal error during GPU init",
        r"hw_init of IP block <\w+> failed|GPU (?:post|reset) error",
        r"PSP (?:create ring|firmware loading|load \w+) failed",
        driver=_AMD,
        part=Part.EFFECT,
    ),
    form(
        "GPU error",
        Family.KERNEL,
        (Ruling.RETEST, Action.REPLACE_GPU),
        "the GPU hung and was reset",
        r"ring \S+ (?:test |reset )?(?:timeout|timed out|failed)|IB (?:ring )?test failed",
        r"atombios stuck in loop",
        r"GPU reset(?: ?\(\d+\))? ?(?:begin|succeeded|failed|end)",
        r"GPU (?:Recovery|reset) Failed|GPU recovery disabled",
        r"qcm fence wait loop timeout|Queue preemption time ?out",
        r"The cp might be in an unrecoverable state",
        r"(?:MES|HWS) (?:hang|might be in unrecoverable|failed to respond)",
        r"SMU: (?:I'm not done with your (?:previous )?command|response reg|response:0xFFFFFFFF)",
        driver=_AMD,
    ),
    form(
        "GPU error",
        Family.KERNEL,
        _RESET,
        "the GPU hung, or was reset because it did not answer",
        r"GPU HANG\b",
        r"Resetting (?:chip|\w+) for (?:stopped heartbeat|preemption time ?out|hang)",
        r"\w+ reset request timed out|Failed to reset (?:chip|engine|GPU)|GPU recovery (?:timed out|failed)",
        r"(?:Engine reset: |Timedout job: |.*declared device \S+ as wedged|GPU (?:lockup|is wedged))",
        r"(?:DRM: )?GPU lockup|TLB invalidation .*timed? ?out|GuC .*reset request failed",
        r".{0,60}(?:No response for request 0x|Timed out wait for G2H|GuC mmio request 0x\w+: no reply)",
        r"GuC submission restart failed|.{0,40}In Survivability Mode",
        r"\w*: ?(?:channel \d+ killed|SCHED_ERROR|rc engn:|TRAP ch|stalled at )",
        driver=r"i915|xe|nouveau|radeon|",
    ),
    form(
        "GPU error",
        Family.KERNEL,
        _RESET,
        "the GPU's memory management unit met an unmapped address",
        r"\[?(?:gfxhub|mmhub)\w*\]?.*page fault",
        r"(?:fifo: )?fault \w+ \[\w+\] at |(?:fifo: )?\w{1,20} fault at [0-9a-f]",
        r"Engine memory CAT error|Fault response: Unsuccessful",
        driver=r"amdgpu|nouveau|xe",
    ),
    form(
        "GPU error",
        Family.KERNEL,
        _CONFIG,
        "the driver does not know this GPU",
        r"unknown chipset",
        driver="nouveau",
        part=Part.CAUSE,
    ),
    form(
        "GPU error",
        Family.KERNEL,
        _RESET,
        "the driver could not initialise the GPU",
        r"(?:\w{1,20}: )?(?:one)?init failed(?:, | with )-?\d",
        driver="nouveau",
        part=Part.EFFECT,
    ),
    form(
        "NVSwitch error",
        Family.KERNEL,
        (Ruling.RETEST, Action.RESTART_HOST),
        "the driver could not take an NVSwitch",
        r"nvidia-nvswitch\d*: (?:Failed to (?:initialize|enable|map|register|post|reserve)"
        r"|probe of \S+ failed)",
    ),
    form(
        "GPU error",
        Family.KERNEL,
        (Ruling.RETEST, Action.RESTART_HOST),
        "the driver could not take the GPU",
        r"probe with driver \S+ failed with error",
        r"(?:(?:nvidia|vfio-pci): )?probe of \S+ failed with error",
        driver=rf"{_GPU_DRIVERS}|",
        part=Part.EFFECT,
    ),
)

MODULES: tuple[Form, ...] = (
    form(
        "kernel fault",
        Family.KERNEL,
        _CONFIG,
        "the kernel refused a module that is not signed (Secure Boot, lockdown)",
        r"(?:Lockdown: .*)?Loading of (?:unsigned module|module with unavailable key)",
        r"Lockdown: \S+ ?(?:.*): (?:unsigned module loading|unsafe module parameters|direct PCI access)",
        part=Part.CAUSE,
    ),
    form(
        "kernel fault",
        Family.KERNEL,
        _CONFIG,
        "a GPU driver was built for another kernel",
        r"(?:nvidia|amdgpu|vfio|nouveau)[\w-]*: (?:Unknown symbol|version magic)",
        r"(?:nvidia|amdgpu|vfio|nouveau)[\w-]*: disagrees about version of symbol",
        r"module (?:nvidia|amdgpu|vfio)[\w-]*: .*(?:Unknown symbol|version magic)",
        part=Part.CAUSE,
    ),
    form(
        "kernel fault",
        Family.KERNEL,
        (Ruling.NOTE, Action.FIX_CONFIG),
        "firmware that a GPU driver asked for is not installed; some of it is optional",
        r"Direct firmware load for (?:nvidia|amdgpu|i915|xe)/\S+ failed with error -2",
        part=Part.CAUSE,
    ),
)
