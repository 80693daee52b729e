"""How a difference between plan and observation is put into words."""

from __future__ import annotations

from collections.abc import Iterable

from harness.model.placement import Difference

UNKNOWN = "unknown"
"""The observed side when a layer was silent: neither health nor a fault."""


def difference(layer: str, what: str, planned: str, observed: str) -> Difference:
    """A Difference; ``layer`` is ``qemu``, ``kernel``, ``guest`` or ``map``."""
    return Difference(layer=layer, what=what, planned=planned, observed=observed)


def cpus(numbers: Iterable[int]) -> str:
    """CPU or node numbers as the kernel writes them, ``0-3,8``; ``none`` for no number."""
    ranges: list[list[int]] = []
    for number in sorted(set(numbers)):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges) or "none"
