"""What ACME's driver writes into kernel logs."""

from __future__ import annotations

import re

from harness.model.kernel_codes import KernelCodes
from harness.model.outcome import Action
from harness.model.telemetry import Family, KernelEvent, Ruling
from harness.telemetry.kernel.dialect import Coded, Dialect
from harness.telemetry.kernel.form import form

_FAULT = re.compile(r"ACME fault (?P<code>\d{1,6})\b")

FORMS = (
    form(
        "GPU error",
        Family.KERNEL,
        (Ruling.RETEST, Action.RESET_GPU),
        "the card's command ring stands still",
        r"ring \d+ stands still",
        driver="acmegpu",
    ),
)


def coded(text: str, codes: KernelCodes) -> Coded | None:
    """The event of a line with a fault."""
    found = _FAULT.match(text)
    if found is None:
        return None
    code = int(found["code"])
    known = codes.of(Family.CODE).get(code)
    event = KernelEvent(
        source="",
        at=None,
        family=Family.CODE,
        line=text,
        code=code,
        ruling=Ruling.UNKNOWN if known is None else known.ruling,
        meaning="" if known is None else known.meaning,
        action=Action.CONTACT_VENDOR if known is None else known.action,
    )
    return Coded(kind="GPU error", event=event)


DIALECT = Dialect(forms=FORMS, coded=coded)
