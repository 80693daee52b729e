"""What a line of a kernel log says, whoever printed it: the kernel's text without what stands before it.

Read are ``dmesg`` (also ``-T``, ``-x``, ``--time-format``), ``journalctl -k`` and syslog in any language,
serial consoles with their carriage returns and escape sequences, netconsole, what grep and pdsh put before a
line, and records of /dev/kmsg.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.model.pci import PciAddress
from harness.vendors.names import MARKS, REPEATING, any_of

Line = tuple[float | None, str]
"""Seconds since that kernel's boot, and the text."""

LONGEST = 4096
"""Characters of one line that are looked at; kernel lines are under 1 KiB (CONSOLE_EXT_LOG_MAX is 8 KiB)."""
_LAST_OF_KERNEL = 7
"""The highest priority of facility 0: a priority is eight times the facility, and the level (RFC 5424,
6.2.1)."""
_PREFIXES = 8
"""Pieces that are taken off the front of a line; a forwarded line of a serial console has four."""

_KMSG = re.compile(r"(?P<prefix>\d{1,5}),(?P<seq>\d{1,20}),(?P<usec>\d{1,18}),[^;]*;(?P<text>.*)", re.DOTALL)
_PRINTED = re.compile(r"(?:<\d+>)?\[ *(?P<seconds>\d{1,12}\.\d{1,9})\] ?(?P<text>.*)", re.DOTALL)
_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]{0,40}[ -/]{0,8}[@-~]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)|[@-Z\\^_a-z0-9=>])?"
)
_BREAKS = re.compile(r"\r|\\x0a")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_NAME = r"\d{0,2}[^\W\d_]{1,12}\.?"
"""A day's or month's name in any language: ``dmesg -T`` and journals follow LC_TIME (``Mär``, ``3月``)."""
_CLOCK = r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
_LEVELS = "emerg|alert|crit|err|error|warn|warning|notice|info|debug"
_FACILITIES = (
    "kern|user|mail|daemon|auth|syslog|lpr|news|uucp|cron|authpriv|ftp|local[0-7]|unknown"  # misc-utils/dmesg
)
_PREFIX = re.compile(
    r"<(?P<priority>\d{1,3})>|\[[0-9;]{1,8}m"  # the rest of an escape sequence that lost its first character
    r"|\[ *(?P<seconds>\d{1,12}\.\d{1,9})(?: <[ +]*\d{1,12}\.\d{1,9} ?>)?\]"
    rf"|\[ *\+\d{{1,12}}\.\d{{1,9}}\]|\[{_NAME} ?\d{{1,2}} \d\d:\d\d\]"  # dmesg -e
    r"|\[ *[TC]\d{1,10}\]"  # CONFIG_PRINTK_CALLER
    rf"|\[{_NAME} {{1,3}}{_NAME} {{1,3}}\d{{1,2}} {_CLOCK}(?: \w{{1,5}})? \d{{4}}\]"
    rf"|(?P<wall>\[?(?:{_NAME} )?\d{{4}}-\d\d-\d\d[T ]{_CLOCK}(?:Z|[+-]\d\d:?\d\d| [A-Z]{{2,5}})?"
    r"(?:\]:?|(?= ))"
    rf"|\d{{1,2}}[/.]\d{{1,2}}[/.]\d{{2,4}},? {_CLOCK}(?: ?[AP]M)?(?= )"
    rf"|{_CLOCK}(?= )"
    r"|\d{9,11}\.\d{6}(?= ))"
    rf"|(?P<syslog>{_NAME} [ \d]\d (?:\d{{4}} )?{_CLOCK}(?= ))"
    r"|[\w./-]{1,200}: ?(?:\d{1,9}:)?"  # a file, as grep names it, or a machine, as pdsh does
    rf"(?=\[ *\d{{1,12}}\.\d|\[{_NAME} {{1,3}}{_NAME} {{1,3}}\d|\d{{4}}-\d\d-\d\dT|{_NAME} [ \d]\d \d\d:)"
    rf"|(?P<facility>{_FACILITIES}) *: *(?:{_LEVELS}) *:"
    # a machine's name before the facility: logs sent over a network
    rf"|[\w.-]{{1,100}}: (?=(?:{_FACILITIES}): (?:{_LEVELS}):)"
    r"|(?P<record>\d{1,5}),\d{1,20},\d{1,18},[^; ]{1,40};"
    r"|kernel: "
)
_SENDER = re.compile(
    r"(?P<host>[\w.-]{1,255}) (?:\w{2,8}\.\w{2,8} )?(?P<program>[^\s:\[\]]{1,64})(?P<pid>\[\d{1,10}\])?: ?"
)
_PROMPT = re.compile(r"[^\"'=]{0,80}(?:login|[Pp]assword)?[:#$>|] ?(?=\[ *\d{1,12}\.\d{6}\])")
"""What stands before a kernel's line on a serial console, where nobody pressed return, and what programs that
gather the lines of many machines put before them."""
_RFC5424 = re.compile(
    r"<(?P<priority>\d{1,3})>\d{1,2} (?:-|\d{4}-\d\d-\d\dT\S{8,24}) \S{1,255} "
    r"(?P<program>\S{1,48}) \S{1,128} \S{1,32} (?:-|(?:\[[^\]]{0,400}\]){1,8})(?: \ufeff?|$)"
)


def kmsg_record(line: str) -> tuple[float, int, str] | None:
    """Seconds since boot, sequence number and text of one record of /dev/kmsg; None for other lines, of which
    the continuation lines (`` SUBSYSTEM=pci``) are some (Documentation/ABI/testing/dev-kmsg). The text of
    one that a program wrote is marked as such: see ``with_facility``."""
    match = _KMSG.fullmatch(line)
    if match is None:
        return None
    text = with_facility(match["text"], int(match["prefix"]) >> 3)
    return int(match["usec"]) / 1e6, int(match["seq"]), text


def with_facility(text: str, facility: int | None) -> str:
    """The text of a record with its priority where a program wrote it, so that the reader knows it as
    no kernel's word; as it is where the kernel did, or nobody knows.

    The kernel lets nobody else use its own facility, 0: what is written into /dev/kmsg gets at least 1, user
    (kernel/printk/printk.c, devkmsg_write).
    """
    return f"<{facility << 3}>{text}" if facility else text


def printed_line(line: str) -> Line:
    """A line as ``dmesg`` prints it: its time where it is given as seconds since boot, and its text."""
    match = _PRINTED.fullmatch(line)
    return (None, line) if match is None else (float(match["seconds"]), match["text"])


def pieces(raw: str) -> list[str]:
    """The lines that a terminal would have shown, of one that may hold carriage returns and escapes.

    /dev/kmsg writes a line break inside a message as ``\\x0a``: some drivers print their sentences so.
    """
    text = raw[:LONGEST]
    if text.isprintable() and "\\x0a" not in text:
        return [text]
    parts = _BREAKS.split(_ESCAPES.sub("", text))
    return [shown for part in parts if (shown := _CONTROLS.sub("", part).replace("\t", " ")).strip()]


def plain(piece: str) -> Line | None:
    """The kernel's own text and its time since boot; None for a line that a program of the machine wrote.

    Who wrote it is told by the facility, where it stands before the line (``dmesg -x``, records of
    /dev/kmsg, syslog over a network), and by the program's name of journals and syslog. Never by the words.
    """
    at, rest = None, piece
    sent = _RFC5424.match(rest)
    if sent is not None:
        if sent["program"] != "kernel" or int(sent["priority"]) > _LAST_OF_KERNEL:
            return None
        rest = rest[sent.end() :]
    first = _PREFIX.match(rest)
    if first is not None and _of_a_program(first):
        return None
    prompt = _PROMPT.match(rest)
    if prompt is not None:
        rest = rest[prompt.end() :]
    for _ in range(_PREFIXES):
        rest = rest.lstrip(" ")
        match = _PREFIX.match(rest)
        if match is None:
            break
        rest = rest[match.end() :]
        if _of_a_program(match):
            return None
        if match["seconds"] is not None and at is None:
            at = float(match["seconds"])
        # A journal names machine and program behind its time, a kernel only its message.
        sender = _SENDER.match(rest.lstrip(" "))
        if sender is None:
            continue
        if sender["program"] == "kernel":
            rest = rest.lstrip(" ")[sender.end() :]
        elif match["syslog"] or (match["wall"] and sender["pid"]):
            return None
    return at, rest


def _of_a_program(prefix: re.Match[str]) -> bool:
    """Whether it names another facility than the kernel's."""
    priority = prefix["priority"] or prefix["record"]
    if priority is not None:
        return int(priority) > _LAST_OF_KERNEL
    return prefix["facility"] is not None and prefix["facility"] != "kern"


def words(raw: str) -> str:
    """A line without what stands before the kernel's words: the same whoever printed it, and when."""
    return " ".join(said[1] for piece in pieces(raw) if (said := plain(piece)) is not None)


_ADDRESS = r"(?:[0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]"
_ANY_ADDRESS = re.compile(rf"(?:(?<=PCI:)|(?<![0-9a-fA-F:.]))({_ADDRESS})(?![0-9a-fA-F])")
_NAMED = re.compile(
    rf"received from ({_ADDRESS})|error received: ({_ADDRESS})|[Rr]equest(?:er)? device \[({_ADDRESS})\]"
    rf"|\bdevice=({_ADDRESS})|\bclient: ({_ADDRESS})|\bdevice_id: ({_ADDRESS})"
    rf"|\bsource:? ?({_ADDRESS})"
)
"""Where a line says which function sent, asked or is meant, that one counts and not who tells of it."""
_SOURCE_ID = re.compile(r"\bSID (?:0x)?([0-9a-fA-F]{1,4})\b")
_HEAD = re.compile(
    r"(?P<driver>[A-Za-z][\w./-]{0,40}) (?P<address>[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7])"
    r"(?::[\w.-]{1,20})?(?: [\w.@-]{1,40})?: *(?P<body>.*)",
    re.DOTALL,
)
_INSIDE = re.compile(
    rf"(?P<driver>{any_of(REPEATING)}): (?=\S)"
    r"|\[drm(?::[^\[\]]{0,80}(?:\[(?P<module>[\w-]{1,40})\])?)?\]:? *|\*ERROR\* *"
    r"|\{\d{1,20}\} ?(?!\[Hardware)|(?:GT|Tile)\d{1,2}: | +"
)
"""What DRM and its drivers put between the device and the words."""
_QUIETLY = re.compile(rf"[^\"'=]{{0,200}}?(?=(?:{any_of(MARKS)}) )")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A kernel's message, taken apart."""

    text: str
    driver: str
    """The driver that the line begins with; empty where it names no PCI function."""
    body: str
    """The words behind the device's name."""
    at: str = ""
    """The address behind the driver, as it is written."""
    known: PciAddress | None = None
    """The device, where lines before this one named it."""

    @property
    def device(self) -> PciAddress | None:
        """The function that the line is about: the one that sent, asked or is meant, and not who tells it."""
        named = _NAMED.search(self.text)
        if named is not None:
            return address(next(group for group in named.groups() if group))
        if self.at:
            return address(self.at)
        first = _ANY_ADDRESS.search(self.text)
        if first is not None:
            return address(first[1])
        source = _SOURCE_ID.search(self.text) if "DMAR" in self.text else None
        return self.known if source is None else _of_source(int(source[1], 16))


def message(text: str) -> Message:
    """Driver, device and words of a kernel's text, as ``dev_printk`` and its likes put them together."""
    head = _HEAD.match(text)
    driver, body = ("", text) if head is None else (head["driver"], head["body"])
    for _ in range(_PREFIXES):
        inside = _INSIDE.match(body)
        if inside is None:
            break
        driver = driver or inside["driver"] or inside["module"] or ""
        body = body[inside.end() :]
    quiet = _QUIETLY.match(body)
    if quiet is not None:
        body = body[quiet.end() :]
    return Message(text=text, driver=driver, body=body, at="" if head is None else head["address"])


def _of_source(number: int) -> PciAddress:
    """The function of a PCIe requester's number: eight bits of bus, five of device, three of function."""
    return PciAddress(0, number >> 8, number >> 3 & 31, number & 7)


def address(text: str) -> PciAddress | None:
    """As kernel and drivers write it, with or without domain and function; None when it is none."""
    try:
        return PciAddress.parse(text if "." in text else f"{text}.0")
    except ValueError:
        return None
