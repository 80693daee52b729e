"""The kernel's words about GPUs whoever made them: those of DRM, of probing and of loading modules.

Sources of the words: drivers of GPUs in drivers/gpu/drm, drivers/base/dd.c, kernel/module,
security/lockdown.
What one maker's drivers say is in ``harness.vendors``.
"""

from __future__ import annotations

from harness.model.outcome import Action
from harness.model.telemetry import Family, Ruling
from harness.telemetry.kernel.form import Form, Part, form
from harness.vendors.names import MARKS, any_of
from harness.vendors.names import MODULES as GPU_MODULES

_CONFIG = (Ruling.CONFIG, Action.FIX_CONFIG)
_RESET = (Ruling.RETEST, Action.RESET_GPU)
_GPU_DRIVERS = any_of((*GPU_MODULES, *(mark.rstrip(":") for mark in MARKS), "vfio-pci"))
_MODULES = any_of((*GPU_MODULES, "vfio"))

ANY: tuple[Form, ...] = (
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
        driver=f"{_GPU_DRIVERS}|",
    ),
    form(
        "GPU error",
        Family.KERNEL,
        (Ruling.RETEST, Action.RESTART_HOST),
        "the driver could not take the GPU",
        r"probe with driver \S+ failed with error",
        rf"(?:(?:{_GPU_DRIVERS}): )?probe of \S+ failed with error",
        driver=f"{_GPU_DRIVERS}|",
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
        rf"(?:{_MODULES})[\w-]*: (?:Unknown symbol|version magic)",
        rf"(?:{_MODULES})[\w-]*: disagrees about version of symbol",
        rf"module (?:{_MODULES})[\w-]*: .*(?:Unknown symbol|version magic)",
        part=Part.CAUSE,
    ),
    form(
        "kernel fault",
        Family.KERNEL,
        (Ruling.NOTE, Action.FIX_CONFIG),
        "firmware that a GPU driver asked for is not installed; some of it is optional",
        rf"Direct firmware load for (?:{_MODULES})/\S+ failed with error -2",
        part=Part.CAUSE,
    ),
)
