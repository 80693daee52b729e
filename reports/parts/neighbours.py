"""What guests lose beside their neighbours, as rows and as measurements: worked out of the record alone."""

from __future__ import annotations

from dataclasses import dataclass

from harness.model.outcome import Measurement
from harness.model.record import RunRecord
from harness.verdict.disturbance import (
    Disturbance,
    as_measurement,
    disturbances,
    neighbours,
    not_compared,
)
from harness.verdict.ratio import Finding
from reports.parts.text import number


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure of a guest, alone and beside others, in words."""

    guest: str
    neighbours: str
    load: str
    figure: str
    alone: str
    beside: str
    ratio: str
    lost: bool
    """True where the ratio is clearly below its floor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """All that a run says of guests beside others."""

    rows: tuple[Row, ...]
    left_out: tuple[str, ...]
    """Loads of which nothing could be compared, a sentence each."""


def beside(record: RunRecord) -> Beside:
    """The figures that could be compared, and what could not; empty when no guest had neighbours."""
    found = _found(record)
    names = {
        guest.name: ", ".join(other.name for other in neighbours(guest, record.evidence))
        for guest in record.evidence.guests
    }
    return Beside(
        rows=tuple(_row(one, names[one.guest]) for one in found if one.ratio is not None),
        left_out=tuple(
            f"{one.workload} in {one.guest} ({one.name}: {one.detail})" for one in not_compared(found)
        ),
    )


def measurements(record: RunRecord) -> tuple[Measurement, ...]:
    """The ratios, each held to its floor where there are values enough; whether or not a check asked."""
    return tuple(as_measurement(one) for one in _found(record) if one.ratio is not None)


def _found(record: RunRecord) -> tuple[Disturbance, ...]:
    return disturbances(record.evidence, record.profile.disturbance)


def _row(one: Disturbance, names: str) -> Row:
    where = f" on {one.device}" if one.device is not None else ""
    return Row(
        guest=one.guest,
        neighbours=names,
        load=one.workload,
        figure=f"{one.name}{where}",
        alone=_side(one.alone, one.unit, one.runs[1], one.detail),
        beside=_side(one.beside, one.unit, one.runs[0], ""),
        ratio=_ratio(one),
        lost=one.finding is Finding.LOSES,
    )


def _side(median: float | None, unit: str, values: int, detail: str) -> str:
    """``25.2 GB/s (n 3)``."""
    shown = "not measured" if median is None else f"{number(median)} {unit}"
    return f"{shown} (n {values}{f'; {detail}' if detail else ''})"


def _ratio(one: Disturbance) -> str:
    """``0.912 (0.903 to 0.921, at least 0.9)``; with too few values the ratio alone, and that it is so."""
    shown = f"{one.ratio or 0.0:.3f}"
    if one.low is None or one.high is None:
        return f"{shown} (too few values to decide)"
    return f"{shown} ({one.low:.3f} to {one.high:.3f}, at least {one.floor:g}: {one.finding.value})"
