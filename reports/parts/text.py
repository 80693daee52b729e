"""Text from hosts and guests, made safe to show: nothing here is trusted, nothing is dropped silently."""

from __future__ import annotations

import re

from harness.shown import clean as shown

LIMIT = 2000
"""Longest piece of foreign text a report shows; the rest is in the transcripts."""

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+!|~&^$@])")


def clean(text: str, limit: int = LIMIT) -> str:
    """As ``harness.shown.clean``, by default no longer than a report shows."""
    return shown(text, limit)


def markdown(text: str, limit: int = LIMIT) -> str:
    """Cleaned text that Markdown shows as it is: no markup, link, table cell or HTML can begin in it."""
    escaped = _MARKDOWN.sub(r"\\\1", clean(text, limit))
    # An autolinked URL or a list number needs no markup character at all.
    return re.sub(r"(?i)\b(https?|ftp|mailto|www)(?=[:.])", "\\1\N{ZERO WIDTH SPACE}", escaped)


def number(value: float) -> str:
    """A measured value with four significant digits: ``1843``, ``38.2``, ``4.1e-07``."""
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.4g}"


def size(value: int | None) -> str:
    """Bytes in binary units: ``512 MiB``, ``1.5 TiB``; ``unknown`` for None."""
    if value is None:
        return "unknown"
    scaled = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(scaled) < 1024:
            return f"{scaled:.4g} {unit}"
        scaled /= 1024
    return f"{scaled:.4g} TiB"


def duration(seconds: float | None) -> str:
    """``3.4 s``, ``1 min 34 s``, ``2 h 5 min``; ``unknown`` for None."""
    if seconds is None:
        return "unknown"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def ranges(numbers: tuple[int, ...] | list[int]) -> str:
    """Numbers as the kernel lists them: ``0-3,8``; a dash for none."""
    parts: list[str] = []
    ordered = sorted(set(numbers))
    start = 0
    for index, value in enumerate(ordered):
        if index + 1 == len(ordered) or ordered[index + 1] != value + 1:
            first = ordered[start]
            parts.append(str(first) if first == value else f"{first}-{value}")
            start = index + 1
    return ",".join(parts) or "–"
