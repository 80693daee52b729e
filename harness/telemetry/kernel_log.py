"""Lines of a kernel log as events: Xids and SXids by the tables, all else by the kernel's own words."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import replace

from harness.model.kernel_codes import KernelCode, KernelCodes
from harness.model.outcome import Action
from harness.model.pci import PciAddress
from harness.model.telemetry import Family, KernelEvent, Ruling
from harness.telemetry.kernel_forms import LONGEST, form_of

Line = tuple[float | None, str]
"""Seconds since that kernel's boot, and the text."""

MOST_LINES = 1_000_000
"""Lines of one log that are kept: some 300 MB, and ten lines a second for a day. A log that has more is a
storm, whose rest counts as lost."""
MOST_ALIKE = 100
"""Events of one kind and device that are told from the beginning, and as many from the end."""

OFF_THE_BUS = 79
"""The Xid whose ruling a GPU gets that "has fallen off the bus" without a code."""

_XID = re.compile(r"NVRM: Xid ?\((?P<where>[^()]{0,80})\):? *(?P<code>\d{1,9})\b(?P<rest>.*)")
_SXID = re.compile(r"SXid ?\((?P<where>[^()]{0,80})\):? *(?P<code>\d{1,9})\b(?P<rest>.*)")
_CODED = re.compile(r"NVRM: Xid\b|\bSXid\b")
_WHERE = re.compile(
    r"(?:PCI:)?(?P<address>(?:[0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?)"
    r"(?:[ ,]+(?P<instance>GPU-.*))?"
)
_NVLINK_WORDS = re.compile(r"\(0x(?P<first>[0-9a-fA-F]{1,8})[ )]")
_NVLINK_CODES = range(144, 151)
_NONFATAL = re.compile(r"\b[Nn]on-?[Ff]atal\b")
_FATAL = re.compile(r"(?<![Nn]on-)(?<![Nn]on)\b[Ff]atal\b")
_ADDRESS = r"(?:[0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]"
_ANY_ADDRESS = re.compile(rf"(?:(?<=PCI:)|(?<![0-9a-fA-F:.]))({_ADDRESS})(?![0-9a-fA-F])")
_SENDER = re.compile(
    rf"received from ({_ADDRESS})|[Rr]equest(?:er)? device \[({_ADDRESS})\]|device=({_ADDRESS})"
)
_GPU_ALONE = re.compile(
    r"NVRM:.*?\b(?:The NVIDIA )?GPU (?:at )?(?:PCI:)?(?P<address>[0-9a-fA-F:]{5,16}(?:\.[0-7])?)"
)


def read_kernel(lines: Iterable[Line], source: str, codes: KernelCodes) -> tuple[KernelEvent, ...]:
    """What matters among the lines, in order. Never raises: a log may hold anything.

    A code that the tables do not know is an event of ruling ``unknown``, and so is a line that calls itself
    an Xid and cannot be read. Of a storm of events that are alike the first and the last ``MOST_ALIKE`` are
    told.
    """
    early: list[tuple[int, KernelEvent]] = []
    late: dict[tuple[object, ...], deque[tuple[int, KernelEvent]]] = {}
    seen: Counter[tuple[object, ...]] = Counter()
    named: PciAddress | None = None
    for place, (at, raw) in enumerate(lines):
        text = raw[:LONGEST]
        gpu = _GPU_ALONE.match(text[text.find("NVRM:") :]) if "NVRM:" in text else None
        # "The NVIDIA GPU 0000:18:00.0" and, in a line of its own, "(...) fallen off the bus and is not
        # responding to commands": the driver's longest sentence names its GPU in the first line only.
        named = (_address(gpu["address"]) or named) if gpu is not None else named
        event = _event(text, codes)
        if event is None:
            continue
        if event.device is None and event.family is Family.BUS:
            event = replace(event, device=named)
        event = replace(event, source=source, at=at)
        kind = (event.family, event.code, event.device, event.ruling)
        seen[kind] += 1
        if seen[kind] <= MOST_ALIKE:
            early.append((place, event))
        else:
            late.setdefault(kind, deque(maxlen=MOST_ALIKE)).append((place, event))
    told = [*early, *(each for kept in late.values() for each in kept)]
    return tuple(event for _, event in sorted(told, key=lambda each: each[0]))


def trouble_of(line: str) -> tuple[str, Action] | None:
    """What kind of trouble a line tells of and what to do, said without the tables; None for no trouble."""
    text = line[:LONGEST]
    if _CODED.search(text):
        gpu = "NVRM: Xid" in text
        return ("GPU error", Action.REPLACE_GPU) if gpu else ("NVSwitch error", Action.CONTACT_VENDOR)
    form = form_of(text)
    return None if form is None else (form.kind, form.action)


def _event(text: str, codes: KernelCodes) -> KernelEvent | None:
    if _CODED.search(text):
        return _coded(text, codes)
    form = form_of(text)
    if form is None:
        return None
    ruling, action, meaning = form.ruling, form.action, form.meaning
    if form.family is Family.BUS and "NVRM:" in text and (known := codes.xids.get(OFF_THE_BUS)):
        ruling, action, meaning = known.ruling, known.action, known.meaning
    return KernelEvent(
        source="",
        at=None,
        family=form.family,
        line=text,
        device=_device(text),
        ruling=ruling,
        action=action,
        meaning=meaning,
    )


def _coded(text: str, codes: KernelCodes) -> KernelEvent:
    match = _XID.search(text)
    family, table = Family.XID, codes.xids
    if match is None:
        match = _SXID.search(text)
        family, table = Family.SXID, codes.sxids
    if match is None:
        family = Family.XID if "NVRM: Xid" in text else Family.SXID
        return KernelEvent(
            source="",
            at=None,
            family=family,
            line=text,
            ruling=Ruling.UNKNOWN,
            meaning=f"a line that names an {family.value.upper()} in a form that is not known",
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
        device=None if where is None else _address(where["address"]),
        instance="" if where is None or where["instance"] is None else where["instance"].strip()[:40],
        ruling=ruling,
        meaning=meaning,
        action=action,
    )


def _ruled(known: KernelCode | None, family: Family, code: int, rest: str) -> tuple[Ruling, str, Action]:
    name = "Xid" if family is Family.XID else "SXid"
    if known is None:
        return Ruling.UNKNOWN, f"{name} {code} is in no table", Action.CONTACT_VENDOR
    # A switch that calls its own event fatal knows better than a table that calls the code harmless.
    if family is Family.SXID and known.ruling is Ruling.NOTE and _FATAL.search(rest):
        return Ruling.STOP, known.meaning, Action.CONTACT_VENDOR
    # NVIDIA ignores most of what NVLink 5 calls non-fatal at first (catalogue, resolutions by sub-code).
    if code in _NVLINK_CODES and family is Family.XID and _NONFATAL.search(rest):
        return Ruling.RETEST, f"{known.meaning}, called non-fatal", Action.RETEST
    return known.ruling, known.meaning, known.action


def _device(text: str) -> PciAddress | None:
    """The function a line is about: the one that sent or asked where it says so, else the first named."""
    sender = _SENDER.search(text)
    if sender is not None:
        return _address(next(group for group in sender.groups() if group))
    first = _ANY_ADDRESS.search(text)
    return None if first is None else _address(first[1])


def _address(text: str) -> PciAddress | None:
    """As the kernel and NVIDIA write it, with or without domain and function; None when it is none."""
    try:
        return PciAddress.parse(text if "." in text else f"{text}.0")
    except ValueError:
        return None


_KMSG = re.compile(r"(?P<prefix>\d{1,5}),(?P<seq>\d{1,20}),(?P<usec>\d{1,18}),[^;]*;(?P<text>.*)", re.DOTALL)
_PRINTED = re.compile(r"(?:<\d+>)?\[ *(?P<seconds>\d{1,12}\.\d{1,9})\] ?(?P<text>.*)", re.DOTALL)


def kmsg_record(line: str) -> tuple[float, int, str] | None:
    """Seconds since boot, sequence number and text of one record of /dev/kmsg; None for other lines, of which
    the continuation lines (`` SUBSYSTEM=pci``) are some (Documentation/ABI/testing/dev-kmsg)."""
    match = _KMSG.fullmatch(line)
    return None if match is None else (int(match["usec"]) / 1e6, int(match["seq"]), match["text"])


def printed_line(line: str) -> Line:
    """A line as ``dmesg`` prints it: its time where it is given as seconds since boot, and its text."""
    match = _PRINTED.fullmatch(line)
    return (None, line) if match is None else (float(match["seconds"]), match["text"])
