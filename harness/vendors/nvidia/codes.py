"""Xids and SXids: the lines of NVIDIA's drivers that carry a code, ruled by the tables."""

from __future__ import annotations

import re

from harness.model.kernel_codes import KernelCode, KernelCodes
from harness.model.outcome import Action
from harness.model.telemetry import Family, KernelEvent, Ruling
from harness.telemetry.kernel.dialect import Coded
from harness.telemetry.kernel.text import address

_XID = re.compile(r"NVRM: Xid ?\((?P<where>[^()]{0,80})\):? *(?P<code>\d{1,9})\b(?P<rest>.*)")
_SXID = re.compile(r"SXid ?\((?P<where>[^()]{0,80})\):? *(?P<code>\d{1,9})\b(?P<rest>.*)")
_CODED = re.compile(r"[^\"'=]{0,200}?(?:NVRM: Xid\b|\bSXid\b)", re.DOTALL)
"""Anywhere in the line, whatever stands before it, but not where somebody only quotes it."""
_WHERE = re.compile(
    r"(?:PCI:)?(?P<address>(?:[0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?)"
    r"(?:[ ,]+(?P<instance>GPU-.*))?"
)
_NVLINK_WORDS = re.compile(r"\(0x(?P<first>[0-9a-fA-F]{1,8})[ )]")
_NVLINK_CODES = range(144, 151)
_NONFATAL = re.compile(r"\b[Nn]on-?[Ff]atal\b")
_FATAL = re.compile(r"(?<![Nn]on-)(?<![Nn]on)\b[Ff]atal\b")


def coded(text: str, codes: KernelCodes) -> Coded | None:
    """The event of a line with an Xid or SXid; what cannot be read is of ruling ``unknown``, never lost."""
    if _CODED.match(text) is None:
        return None
    event = _event(text, codes)
    return Coded(kind="GPU switch error" if event.family is Family.SXID else "GPU error", event=event)


def _event(text: str, codes: KernelCodes) -> KernelEvent:
    match = _XID.search(text)
    family, table = Family.XID, codes.of(Family.XID)
    if match is None:
        match = _SXID.search(text)
        family, table = Family.SXID, codes.of(Family.SXID)
    if match is None:
        family = Family.XID if "NVRM: Xid" in text else Family.SXID
        return KernelEvent(
            source="",
            at=None,
            family=family,
            line=text,
            ruling=Ruling.UNKNOWN,
            meaning=f"a line that names an {family.value.upper()} in an unknown form",
            action=Action.CONTACT_VENDOR,
        )
    code = int(match["code"])
    ruling, meaning, action = _ruled(table.get(code), family, code, match["rest"])
    where = _WHERE.fullmatch(match["where"].strip())
    words = _NVLINK_WORDS.search(match["rest"]) if code in _NVLINK_CODES else None
    return KernelEvent(
        source="",
        at=None,
        family=family,
        line=text,
        code=code,
        subcode=None if words is None else int(words["first"], 16) >> 20 & 0x3F,
        device=None if where is None else address(where["address"]),
        instance="" if where is None or where["instance"] is None else where["instance"].strip()[:40],
        ruling=ruling,
        meaning=meaning,
        action=action,
    )


def _ruled(known: KernelCode | None, family: Family, code: int, rest: str) -> tuple[Ruling, str, Action]:
    name = "Xid" if family is Family.XID else "SXid"
    if known is None:
        return Ruling.UNKNOWN, f"{name} {code} is not in the tables", Action.CONTACT_VENDOR
    # A switch that calls its own event fatal knows better than a table that calls the code harmless.
    if family is Family.SXID and known.ruling is Ruling.NOTE and _FATAL.search(rest):
        return Ruling.STOP, known.meaning, Action.CONTACT_VENDOR
    # NVIDIA ignores most of what NVLink 5 calls non-fatal at first (catalogue, resolutions by sub-code).
    if code in _NVLINK_CODES and family is Family.XID and _NONFATAL.search(rest):
        return Ruling.RETEST, f"{known.meaning}, called non-fatal", Action.RETEST
    return known.ruling, known.meaning, known.action
