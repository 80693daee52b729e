"""A check is asked when its evidence is whole: nothing that a run learns later changes what it says.

Asked too early, a test would be green and the record red. Held for the clean run and for every fault.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.checks import engine
from harness.checks.base import Phase
from harness.checks.registry import CHECKS
from harness.faults.registry import FAULTS
from harness.model.evidence import Evidence, GuestEvidence
from tests.faults import clean

WHOLE = {None: clean.evidence(), **{fault.id: fault.corrupt(clean.evidence()) for fault in FAULTS}}
RUN_TO_THE_END = [name for name, evidence in WHOLE.items() if not evidence.interrupted]


def blank(guest: GuestEvidence) -> GuestEvidence:
    """As it was demanded."""
    return GuestEvidence(
        name=guest.name,
        request=guest.request,
        workloads=guest.workloads,
        attach=guest.attach,
        group=guest.group,
    )


def so_far(guest: GuestEvidence, phase: Phase) -> GuestEvidence:
    """What is known of a guest when its group is in a phase."""
    if phase is Phase.READINESS:
        return blank(guest)
    if phase is Phase.PLACEMENT:
        return replace(guest, results=(), residue=(), telemetry=None, release=None, kernel_log=None)
    return replace(guest, release=None, kernel_log=None) if phase is Phase.BURNIN else guest


def at(evidence: Evidence, phase: Phase, group: str) -> Evidence:
    """What a run knows when the group is in a phase: those before it are over, those after it to come."""
    if phase is Phase.AFTERWARDS:
        return evidence
    groups = list(dict.fromkeys(guest.group or guest.name for guest in evidence.guests))
    here = groups.index(group)
    guests = []
    for guest in evidence.guests:
        place = groups.index(guest.group or guest.name)
        guests.append(guest if place < here else so_far(guest, phase) if place == here else blank(guest))
    resets = () if phase is Phase.READINESS else evidence.resets
    later = {g.name for g in evidence.guests if groups.index(g.group or g.name) > here}
    errors = tuple(e for e in evidence.errors if e.subject not in later)
    return replace(
        evidence,
        guests=tuple(guests),
        resets=resets,
        errors=errors,
        facts_after=None,
        host_telemetry=None,
        ended_at=None,
        interrupted=False,
    )


@pytest.mark.parametrize("fault", RUN_TO_THE_END, ids=lambda name: name or "clean")
def test_nothing_that_comes_later_changes_the_answer(fault) -> None:
    evidence = WHOLE[fault]
    profile = clean.profile()
    known = {check.id: check for check in CHECKS}
    cells = engine.run(CHECKS, evidence, profile, clean.HOST)[1]
    planned = {
        (p.check, p.slot): p
        for p in engine.planned(CHECKS, profile, clean.HOST, tuple(map(blank, evidence.guests)))
    }
    groups = {guest.name: guest.group or guest.name for guest in evidence.guests}
    changed = []
    for cell in cells:
        plan = planned.get((cell.check, cell.slot))
        if plan is None or plan.phase is Phase.AFTERWARDS:
            continue
        early = at(evidence, plan.phase, groups.get(plan.guest, next(iter(groups.values()), "")))
        said = engine.ask(known[cell.check], cell.slot, early, profile, clean.HOST)[1]
        outcome = said.outcome if said is not None else "not asked"
        if outcome != cell.outcome:
            changed.append((cell.check, cell.subject, plan.phase.value, outcome, cell.outcome))
    assert changed == []
