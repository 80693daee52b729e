"""What AMD's drivers write into kernel logs.

Sources of the words: drivers/gpu/drm/amd/amdgpu (amdgpu_ras.c, amdgpu_aca.c, amdgpu_job.c, amdgpu_device.c,
gmc_v*.c), drivers/gpu/drm/amd/ras.
"""

from __future__ import annotations

from harness.model.outcome import Action
from harness.model.telemetry import Family, Ruling
from harness.telemetry.kernel.dialect import Dialect
from harness.telemetry.kernel.form import Form, Part, form

_RESET = (Ruling.RETEST, Action.RESET_GPU)
_STOP = (Ruling.STOP, Action.REPLACE_GPU)
_AMD = r"amdgpu|radeon"
_SOME = r"(?!0+ )\d{1,20}"
_WHERE = r"(?:Total )?(?:socket: ?\d+,? ?)?(?:die: ?\d+,? ?)?"

FORMS: tuple[Form, ...] = (
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
        "the GPU's memory management unit met an unmapped address",
        r"\[?(?:gfxhub|mmhub)\w*\]?.*page fault",
        driver="amdgpu",
    ),
)

DIALECT = Dialect(forms=FORMS)
