"""Hosts and guests on which something changed while loads ran: one fault for each row of the table, so that a
new row has its fault at once."""

from __future__ import annotations

from dataclasses import replace

from harness.errors import ConfigError
from harness.faults.base import Fault, guest
from harness.model.evidence import Evidence
from harness.model.host_change import HostChange, Weight
from harness.model.outcome import Outcome
from harness.model.telemetry import HostTelemetry
from harness.telemetry.host.table import WATCHED, About, Watched

_OUTCOMES = {Weight.HARMFUL: Outcome.FAIL, Weight.DOUBTFUL: Outcome.ERROR}


def _host(evidence: Evidence) -> HostTelemetry:
    if evidence.host_telemetry is None:
        raise ConfigError("this evidence holds no telemetry of the host, so no fault can be put into it")
    return evidence.host_telemetry


def _changed(evidence: Evidence, row: Watched) -> Evidence:
    """The evidence with one change of a property, of the first guest where it is a guest's."""
    telemetry = _host(evidence)
    change = HostChange(
        what=row.name,
        subject=row.title,
        guest=guest(evidence).name if row.about is About.GUEST else "",
        before="as it was",
        after="otherwise",
        since=1095.0,
        at=1100.0,
        source=row.source,
        weight=row.weight,
        why=row.why,
    )
    return replace(evidence, host_telemetry=replace(telemetry, changes=(*telemetry.changes, change)))


def _unread(evidence: Evidence, row: Watched) -> Evidence:
    telemetry = _host(evidence)
    name = f"{row.name} of {guest(evidence).name}" if row.about is About.GUEST else row.name
    asked = {key: count for key, count in telemetry.asked.items() if key != name}
    return replace(evidence, host_telemetry=replace(telemetry, asked=asked))


def _fault(row: Watched) -> Fault:
    return Fault(
        id=f"{row.name.replace('_', '-')}-changed",
        title=f"Changed while loads ran: {row.title}",
        must_trip=_check(row),
        corrupt=lambda e: _changed(e, row),
        outcome=_OUTCOMES[row.weight],
    )


def _missing(row: Watched) -> Fault:
    return Fault(
        id=f"{row.name.replace('_', '-')}-unread",
        title=f"Never read while loads ran: {row.title}",
        must_trip=_check(row),
        corrupt=lambda e: _unread(e, row),
        outcome=None,
    )


def _check(row: Watched) -> str:
    return "placement.kept" if row.about is About.GUEST else "host.unchanged"


FAULTS = (
    *(_fault(row) for row in WATCHED if row.weight is not Weight.TOLD),
    *(_missing(row) for row in WATCHED if row.due),
)
