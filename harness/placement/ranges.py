"""Number lists as libvirt and the kernel write them: ``0-3,8``."""

from __future__ import annotations

import re
from collections.abc import Iterable

LARGEST = 1 << 16
"""No CPU, node or vCPU number is larger; keeps ``0-4294967295`` from filling the memory."""

_PART = re.compile(r"(\^?)([0-9]{1,6})(?:-([0-9]{1,6}))?")


def show(numbers: Iterable[int]) -> str:
    """``0-3,8`` for 0, 1, 2, 3 and 8, in any order."""
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def read(text: str) -> frozenset[int]:
    """The numbers of a list, libvirt's exclusions (``0-7,^3``) honoured. Raises ValueError."""
    numbers: set[int] = set()
    for part in text.split(",") if text.strip() else ():
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"not a list of numbers: {text[:80]!r}")
        first, last = int(match[2]), int(match[3] or match[2])
        if not first <= last < LARGEST:
            raise ValueError(f"not a list of numbers: {text[:80]!r}")
        span = range(first, last + 1)
        if match[1]:
            numbers.difference_update(span)
        else:
            numbers.update(span)
    return frozenset(numbers)
