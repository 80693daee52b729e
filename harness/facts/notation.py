"""How the kernel writes lists, masks, numbers and flags; each reader answers None for anything else."""

from __future__ import annotations

import re

MAX_ID = 1 << 16
"""Larger CPU or node numbers are refused: ``CONFIG_NR_CPUS`` ends at 8192 on x86, and a hostile
``0-999999999`` must not fill our memory."""

_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9})(?::(\d{1,9})/(\d{1,9}))?)?", re.ASCII)
_HEX_WORDS = re.compile(r"(?:0x)?([0-9a-f]{1,16}(?:,[0-9a-f]{1,16})*)", re.IGNORECASE)
_BLANK = "\0 \t\n\r\v\f"
_NUMBER = re.compile(r"-?[0-9]{1,19}")


def bare(text: str) -> str:
    """The text without blanks at its ends, nor the NUL that some kernels put behind ``cpulist`` and
    ``topology/*_list``."""
    return text.strip(_BLANK)


def id_list(text: str | None) -> tuple[int, ...] | None:
    """``0-3,8`` (also ``0-9:1/2``, used/group) as ascending numbers; empty for an empty list."""
    if text is None:
        return None
    text = bare(text)
    if text in ("", "(null)"):
        return ()
    found: set[int] = set()
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            return None
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        used, group = (int(match[3]), int(match[4])) if match[3] else (1, 1)
        if last < first or last >= MAX_ID or not 0 < used <= group:
            return None
        found.update(i for i in range(first, last + 1) if (i - first) % group < used)
    return tuple(sorted(found))


def id_mask(text: str | None) -> tuple[int, ...] | None:
    """``ff,00000003``, most significant word first, 32 bits a word, as ascending numbers."""
    match = _HEX_WORDS.fullmatch(bare(text)) if text is not None else None
    if match is None:
        return None
    words = match[1].split(",")
    if any(len(word) > 8 for word in words[1:]) or len(words) * 32 > MAX_ID:
        return None
    value = 0
    for word in words:
        value = value << 32 | int(word, 16)
    return tuple(i for i in range(value.bit_length()) if value >> i & 1)


def number(text: str | None) -> int | None:
    """A decimal number as the kernel prints it."""
    return int(text) if text is not None and _NUMBER.fullmatch(text) else None


def count(text: str | None) -> int | None:
    """A decimal number that cannot be negative: -1 and its like mean *unknown*."""
    value = number(text)
    return None if value is None or value < 0 else value


def hex_digits(text: str | None, digits: int) -> str | None:
    """``0x10de`` as ``10de``: exactly so many lower-case digits."""
    if text is not None and re.fullmatch(rf"0x[0-9a-fA-F]{{{digits}}}", text):
        return text[2:].lower()
    return None


def flag(text: str | None) -> bool | None:
    """``0``/``1``, ``N``/``Y``, ``off``/``on``; None otherwise."""
    return {"0": False, "1": True, "N": False, "Y": True, "off": False, "on": True}.get(text or "")


def chosen(text: str | None) -> str | None:
    """``always`` of ``[always] madvise never``."""
    match = re.search(r"\[([\w-]{1,40})\]", text or "")
    return match[1] if match else None


def kib(text: str | None, key: str) -> int | None:
    """Bytes of a ``KEY:  123 kB`` line of a meminfo file."""
    match = re.search(rf"^(?:Node +\d+ +)?{re.escape(key)}: +(\d{{1,15}}) kB$", text or "", re.MULTILINE)
    return int(match[1]) * 1024 if match else None
