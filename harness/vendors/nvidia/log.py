"""What NVIDIA's drivers write into kernel logs: words without a code, sentences over several lines, codes.

Sources of the words: NVIDIA's open kernel modules (kernel-open/nvidia/nv-pci.c, nv.c, os-interface.c,
nv-mmap.c; src/nvidia: osinit.c, kernel_rc_watchdog.c, kernel_gsp*.c), drivers/gpu/drm/nouveau.
"""

from __future__ import annotations

import re

from harness.model.kernel_codes import KernelCode, KernelCodes
from harness.model.outcome import Action
from harness.model.telemetry import Family, Ruling
from harness.telemetry.kernel.dialect import Dialect, Sentences
from harness.telemetry.kernel.form import Form, Part, form
from harness.vendors.nvidia.codes import coded

OFF_THE_BUS = 79
"""The Xid whose ruling a GPU gets that "has fallen off the bus" without a code."""

_CONFIG = (Ruling.CONFIG, Action.FIX_CONFIG)
_RESET = (Ruling.RETEST, Action.RESET_GPU)

FORMS: tuple[Form, ...] = (
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
    form(
        "GPU error",
        Family.KERNEL,
        _RESET,
        "the GPU's memory management unit met an unmapped address",
        r"(?:fifo: )?fault \w+ \[\w+\] at |(?:fifo: )?\w{1,20} fault at [0-9a-f]",
        driver="nouveau",
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
        "GPU switch error",
        Family.KERNEL,
        (Ruling.RETEST, Action.RESTART_HOST),
        "the driver could not take an NVSwitch",
        r"nvidia-nvswitch\d*: (?:Failed to (?:initialize|enable|map|register|post|reserve)"
        r"|probe of \S+ failed)",
    ),
)


def _lost(codes: KernelCodes) -> KernelCode | None:
    return codes.of(Family.XID).get(OFF_THE_BUS)


DIALECT = Dialect(
    forms=FORMS,
    coded=coded,
    lost=_lost,
    sentences=Sentences(
        mark="NVRM:",
        begins=re.compile(r"NVRM: (?:The NVIDIA |This |\w+ing |request_mem)"),
        lines=6,
        names=re.compile(
            r"NVRM:.*?\b(?:The NVIDIA )?GPU (?:at )?(?:PCI:)?(?P<address>[0-9a-fA-F:]{5,16}(?:\.[0-7])?)"
        ),
    ),
    starts=re.compile(r"NVRM: loading NVIDIA UNIX"),
)
