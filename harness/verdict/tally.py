"""Counts over the coverage ledger, as ``qualify --json`` and the reports give them."""

from __future__ import annotations

from collections.abc import Iterable

from harness.model.outcome import CoverageCell

KEYS = ("pass", "fail", "error", "skip", "missing")


def tally(coverage: Iterable[CoverageCell]) -> dict[str, int]:
    """Planned cells by outcome; every key of ``KEYS`` is present, and together they are all cells."""
    counts = dict.fromkeys(KEYS, 0)
    for cell in coverage:
        counts["missing" if cell.outcome is None else cell.outcome.value.lower()] += 1
    return counts
