"""A recorded bare run as a reference for guests."""

from __future__ import annotations

from pathlib import Path

from harness.attach import attachment
from harness.errors import ConfigError
from harness.model.evidence import Reference
from harness.record.directory import RunDirectory
from harness.record.judge import rejudge
from harness.verdict.ratio import values_of


def read_reference(path: Path) -> Reference:
    """What the bare run in ``path`` measured, and whether its evidence can be trusted.

    Raises ConfigError for a directory that is no run or no bare run, RecordError for one that cannot be read.
    """
    judgement = rejudge(RunDirectory.open(path))
    record = judgement.record
    evidence = record.evidence
    bare = [guest for guest in evidence.guests if not attachment(guest.attach).in_guests]
    if not bare:
        raise ConfigError(
            f"{path} is a run with guests, not a bare-metal run: guests cannot be compared with it",
            remedy="make one with `shakedown qualify --attach bare` on the same machine",
        )
    facts = evidence.facts
    return Reference(
        run=record.run,
        host=record.host.name,
        machine_id=None if facts is None else facts.machine_id,
        cpus=0 if facts is None else len(facts.online_cpus),
        subject=record.host.subject,
        standin=any(g.telemetry is not None and bool(g.telemetry.standin) for g in bare),
        verdict=record.decision.verdict.value,
        ended_at=evidence.ended_at or "",
        parameters=record.profile.workload_parameters,
        values=tuple(value for guest in bare for value in values_of(guest)),
        problems=judgement.problems,
    )
