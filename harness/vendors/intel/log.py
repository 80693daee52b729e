"""What Intel's drivers write into kernel logs (drivers/gpu/drm/{i915,xe})."""

from __future__ import annotations

from harness.model.outcome import Action
from harness.model.telemetry import Family, Ruling
from harness.telemetry.kernel.dialect import Dialect
from harness.telemetry.kernel.form import Form, form

FORMS: tuple[Form, ...] = (
    form(
        "GPU error",
        Family.KERNEL,
        (Ruling.RETEST, Action.RESET_GPU),
        "the GPU's memory management unit met an unmapped address",
        r"Engine memory CAT error|Fault response: Unsuccessful",
        driver="xe",
    ),
)

DIALECT = Dialect(forms=FORMS)
