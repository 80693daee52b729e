"""Hardware-error records: what several lines of one error say together.

Three kinds carry the mark ``[Hardware Error]``. Firmware's own records (drivers/firmware/efi/cper.c, printed
by drivers/acpi/apei/ghes.c and bert.c) number theirs ``{n}``; machine checks (arch/x86/kernel/cpu/mce/core.c,
drivers/edac/mce_amd.c) do not; one maker's GPUs put their name before it (drivers/gpu/drm).
Severity, section and device stand in lines of their own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.model.outcome import Action
from harness.model.pci import PciAddress
from harness.model.telemetry import Family, Ruling
from harness.telemetry.kernel.text import Message, address
from harness.vendors.names import MODULES

_MARK = re.compile(
    r"(?:(?:mce|RAS|GHES|APEI|BERT|EDAC [\w ]{1,40}): )*(?:\{(?P<number>\d{1,20})\} ?)?"
    r"\[Hardware Error\]:? *(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_FIRMWARE_BEGINS = re.compile(r"Hardware error from APEI|Error records? from previous boot", re.IGNORECASE)
_MACHINE_BEGINS = re.compile(
    r"(?:CPU \d+: )?Machine Check(?: Exception)?: |(?:Corrected|Deferred|Uncorrected|System Fatal)\b.* error",
    re.IGNORECASE,
)
_LOGGED = re.compile(
    r"Machine check events logged|Accelerator Check Architecture events logged", re.IGNORECASE
)
_OF_GPU = re.compile(r"Accelerator Check Architecture|\bACA\[|\baca entry\[", re.IGNORECASE)
_FATAL = re.compile(r"(?<!non-)\bfatal\b", re.IGNORECASE)
_CORRECTED = re.compile(r"\b(?:correctable|corrected)\b", re.IGNORECASE)
_EVENT = re.compile(r"event severity: *(\w+)", re.IGNORECASE)
_TYPE = re.compile(r"Error \d+, type: *(\w+)", re.IGNORECASE)
_BY_HARDWARE = re.compile(r"has been corrected by h/w", re.IGNORECASE)
_SECTION = re.compile(r"section[_ ]type: *([^;\n]*)", re.IGNORECASE)
_DEVICE = re.compile(r"device_id: *([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])", re.IGNORECASE)
_STATUS = re.compile(
    r"\bBank \d+: ([0-9a-f]{16})\b|STATUS(?:\[[^\]]{0,200}\])?(?:=|: )0x([0-9a-f]{16})\b", re.IGNORECASE
)
_FLAGS = re.compile(r"STATUS\[([^\]]{0,200})\]", re.IGNORECASE)
_UNCORRECTED, _CORRUPT, _DEFERRED, _POISON = 1 << 61, 1 << 57, 1 << 44, 1 << 43
"""Bits of a bank's status: UC, PCC, Deferred, Poison (AMD64 manual 2, 9.3.2.1; Intel SDM 3B, 17.3.2.2)."""

MOST_TEXT = 64
"""Lines of one record that are looked at: the telling ones come first; the rest are bytes and registers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A line of a hardware-error record."""

    key: tuple[str, str]
    """Equal for the lines of one record: whose it is, and its number where it has one."""
    rest: str
    device: PciAddress | None

    def begins(self, before: list[str]) -> bool:
        """Whether it is the first line of another record than the one whose lines came before."""
        if not before:
            return False
        if _FIRMWARE_BEGINS.match(self.rest):
            return True
        if self.key[1]:  # numbered by its driver
            return False
        if _LOGGED.match(self.rest):
            return True
        found = _MACHINE_BEGINS.match(self.rest)
        return found is not None and any(_MACHINE_BEGINS.match(line) for line in before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the lines of one record say."""

    kind: str
    family: Family
    ruling: Ruling
    action: Action
    meaning: str
    device: PciAddress | None


def mark_of(message: Message) -> Mark | None:
    """The line as one of a record; None for any other."""
    match = _MARK.match(message.body)
    if match is None:
        return None
    owner = f"{message.driver} {message.at}".strip()
    return Mark(
        key=(owner, match["number"] or ""), rest=match["rest"], device=message.device if message.at else None
    )


def read_record(lines: list[str], owner: str, device: PciAddress | None) -> Record:
    """The record of which these are the first lines, without their mark. ``owner``: a driver, or nobody."""
    text = "\n".join(lines)
    if owner.split(" ", maxsplit=1)[0] in MODULES or _OF_GPU.search(text):
        return _of_gpu(text, device)
    if (
        _SECTION.search(text)
        or _EVENT.search(text)
        or _BY_HARDWARE.search(text)
        or _FIRMWARE_BEGINS.search(text)
    ):
        return _of_firmware(text)
    return _of_processor(text)


def _of_gpu(text: str, device: PciAddress | None) -> Record:
    states = _states(text)
    said = "the GPU logged a hardware error of its own"
    if not states and _FATAL.search(text):
        ruling, action, meaning = Ruling.STOP, Action.REPLACE_GPU, f"{said}, which it calls fatal"
    elif not states and _CORRECTED.search(text):
        ruling, action, meaning = Ruling.NOTE, Action.RETEST, f"{said} that it corrected"
    elif not states:
        ruling, action, meaning = Ruling.RETEST, Action.RESET_GPU, f"{said}, of unknown severity"
    elif any(state & (_UNCORRECTED | _CORRUPT) for state in states):
        ruling, action, meaning = Ruling.STOP, Action.REPLACE_GPU, f"{said} that it could not correct"
    elif any(state & (_DEFERRED | _POISON) for state in states):
        ruling, action, meaning = Ruling.RETEST, Action.REPLACE_GPU, f"{said}: deferred, or poisoned data"
    else:
        ruling, action, meaning = Ruling.NOTE, Action.RETEST, f"{said} that it corrected"
    return Record(
        kind="GPU error", family=Family.KERNEL, ruling=ruling, action=action, meaning=meaning, device=device
    )


def _of_firmware(text: str) -> Record:
    event = _EVENT.search(text) or _TYPE.search(text)
    severity = event[1].lower() if event else "corrected" if _BY_HARDWARE.search(text) else ""
    section = (found[1].strip() if (found := _SECTION.search(text)) else "").lower()
    named = _DEVICE.search(text)
    device = None if named is None else address(named[1])
    shown = severity or "untold"
    if re.search(r"\b(?:pcie?|cxl)\b", section):
        kind, family, what, action = "PCIe error", Family.AER, "PCIe error", Action.RESEAT
        by_severity = {"fatal": Ruling.STOP, "corrected": Ruling.NOTE, "info": Ruling.NOTE}
    else:
        kind, family, action = "machine check", Family.MCE, Action.CONTACT_VENDOR
        what = "memory error" if "memory" in section else "hardware error"
        what = "processor error" if "processor" in section else what
        by_severity = {"fatal": Ruling.STOP, "recoverable": Ruling.STOP, "info": Ruling.NOTE}
    if not section and severity == "corrected":
        by_severity = {"corrected": Ruling.NOTE}
    return Record(
        kind=kind,
        family=family,
        ruling=by_severity.get(severity, Ruling.RETEST),
        action=action,
        meaning=f"{what} that the firmware reported, severity {shown}",
        device=device,
    )


def _of_processor(text: str) -> Record:
    ruling, meaning = Ruling.STOP, "the processor or its memory reported a hardware error"
    states, flags = _states(text), "|".join(_FLAGS.findall(text)).upper().split("|")
    lower = text.lower()
    if (
        any(state & (_UNCORRECTED | _CORRUPT) for state in states)
        or {"UC", "UE", "PCC"} & set(flags)
        or any(word in lower for word in ("uncorrected", "fatal", "exception", "context corrupt"))
    ):
        meaning = "the processor or its memory reported an error that was not corrected"
    elif "deferred error" in lower or any(state & (_DEFERRED | _POISON) for state in states):
        ruling, meaning = Ruling.RETEST, "the processor or its memory deferred an error"
    elif states or "CE" in flags or "corrected error" in lower:
        ruling, meaning = Ruling.RETEST, "the host corrected a memory or bus error"
    elif _LOGGED.match(text):
        ruling, meaning = Ruling.RETEST, "the processor logged a hardware error without saying which"
    return Record(
        kind="machine check",
        family=Family.MCE,
        ruling=ruling,
        action=Action.CONTACT_VENDOR,
        meaning=meaning,
        device=None,
    )


def _states(text: str) -> list[int]:
    return [int(first or second, 16) for first, second in _STATUS.findall(text)]
