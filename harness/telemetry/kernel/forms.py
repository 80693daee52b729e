"""All of the kernel's words for trouble, and what each means where no code of a vendor says it."""

from __future__ import annotations

import re

from harness.telemetry.kernel import forms_bus as bus
from harness.telemetry.kernel import forms_gpu as gpu
from harness.telemetry.kernel import forms_host as host
from harness.telemetry.kernel.form import Form
from harness.telemetry.kernel.text import Message
from harness.vendors.dialects import DIALECTS

FORMS: tuple[Form, ...] = (
    *bus.IOMMU,
    *bus.PCIE,
    *(each for dialect in DIALECTS for each in dialect.forms),
    *gpu.ANY,
    *gpu.MODULES,
    *bus.DEVICE,
    *host.MEMORY,
    *host.FAILURES,
)
"""Looked through in order, the first that fits counts. A corrected PCIe error is a note, since one is no
fault: the counters tell their number, which the log does not (the kernel limits the rate of its lines)."""

_ANY = re.compile("|".join(f"(?:{form.pattern.pattern})" for form in FORMS), re.IGNORECASE | re.DOTALL)


def form_of(message: Message) -> Form | None:
    """The first form that a message has; None for one of no trouble, and for coded ones."""
    if _ANY.match(message.body) is None:  # nearly all lines: asked in one go
        return None
    return next((form for form in FORMS if form.fits(message)), None)
