"""Every planned check on every planned subject: a result, or a missing cell that says why."""

from __future__ import annotations

import math
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness.attach import attachment
from harness.checks import attempts
from harness.checks.attempts import Said
from harness.checks.base import USER, Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.errors import HarnessError, why
from harness.model.evidence import Evidence, GuestEvidence
from harness.model.guest import most_at_once
from harness.model.inventory import HostFile, Profile
from harness.model.outcome import Action, CheckResult, CoverageCell, Outcome, Severity
from harness.workloads.applicable import why_absent

HOST = "host"
NO_SUBJECT = "(no subject)"
"""Subject of the cell for a check that nothing was planned for (the same words as ``harness.verdict``)."""
NO_SLOT = "none"
"""Its slot."""

_Key = tuple[str, str]
"""Check and name of the subject."""

_NOTHING = {
    Scope.HOST: "there is no host",
    Scope.GPU: "the host has no GPU",
    Scope.GUEST: "no guest was planned",
    Scope.GUEST_GPU: "no guest asked for a GPU",
    Scope.GUEST_WORKLOAD: "no guest was given a workload that its GPUs can run",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A check and one place that it will be asked about, as known before the host was reached."""

    check: str
    phase: Phase
    scope: Scope
    slot: str
    guest: str = ""
    """Of the scopes that are about a guest."""
    workload: str = ""


def planned(
    checks: Iterable[Check], profile: Profile, host: HostFile, guests: tuple[GuestEvidence, ...]
) -> tuple[Planned, ...]:
    """Everything that will be asked, in the profile's order. ``guests`` are as demanded, not yet as found.

    A check without a subject has one place all the same: it stands for the cell that says so.
    """
    case = Case(evidence=_blank(profile, host, guests), profile=profile, host=host)
    known = {check.id: check for check in checks}
    return tuple(
        Planned(
            check=check.id,
            phase=check.phase,
            scope=check.scope,
            slot=subject.slot,
            guest=subject.guest.name if subject.guest is not None else "",
            workload=subject.workload or "",
        )
        for name in profile.checks
        if (check := known.get(name)) is not None
        for subject in (*_unique(_subjects(check.scope, case)),) or (Subject(name=NO_SUBJECT, slot=NO_SLOT),)
    )


def run(
    checks: Iterable[Check], evidence: Evidence, profile: Profile, host: HostFile
) -> tuple[tuple[CheckResult, ...], tuple[CoverageCell, ...]]:
    """Results and coverage of every check that the profile names, in the profile's order; of a resumed run
    the worst that any of its attempts showed."""
    known = {check.id: check for check in checks}
    said = dict(_all(known, Case(evidence=evidence, profile=profile, host=host)))
    before: dict[_Key, list[tuple[int, Said]]] = {}
    for number, seen in attempts.alone(evidence):
        for key, answer in _all(known, Case(evidence=seen, profile=profile, host=host)):
            if key[0] in known and attempts.counts(known[key[0]], answer[1].outcome):
                before.setdefault(key, []).append((number, answer))
    for key, answers in before.items():
        said[key] = attempts.worst(said.get(key), answers)
    results = tuple(result for result, _ in said.values() if result is not None)
    return results, tuple(cell for _, cell in said.values())


def _all(known: Mapping[str, Check], case: Case) -> Iterator[tuple[_Key, Said]]:
    """Every check that the profile names, of each of its subjects."""
    for check_id, severity in case.profile.checks.items():
        check = known.get(check_id)
        if check_id.startswith(USER):
            continue  # its subjects are the tests that were collected: harness.checks.ledger
        if check is None:
            cell = _cell(check_id, _NOBODY, severity, "this version has no such check")
            yield (check_id, NO_SUBJECT), (None, cell)
        else:
            for said in _ask_all(check, severity, case):
                yield (check_id, said[1].subject), said


def _ask_all(check: Check, severity: Severity, case: Case) -> tuple[Said, ...]:
    """What a check says of each of its subjects. A defect that keeps them from being told apart is its ERROR
    too: it may neither end the run nor leave the check without a cell."""
    try:
        subjects = tuple(_unique(_subjects(check.scope, case)))
    except Exception as error:  # noqa: BLE001  the boundary of checks: see _ask
        return (_errored(check, severity, _NOBODY, _defect(error)),)
    if not subjects:
        return ((None, _cell(check.id, _NOBODY, severity, _NOTHING[check.scope])),)
    return tuple(_ask(check, severity, case, subject) for subject in subjects)


def ask(
    check: Check, slot: str, evidence: Evidence, profile: Profile, host: HostFile
) -> tuple[CheckResult | None, CoverageCell | None]:
    """What one check says of the subject that now stands in a slot; no cell where nothing does any more."""
    severity = profile.checks[check.id]
    case = Case(evidence=evidence, profile=profile, host=host)
    try:
        subjects = tuple(_unique(_subjects(check.scope, case)))
    except Exception as error:  # noqa: BLE001  the boundary of checks: see _ask
        return _errored(check, severity, replace(_NOBODY, slot=slot), _defect(error))
    if not subjects and slot == NO_SLOT:
        return None, _cell(check.id, _NOBODY, severity, _NOTHING[check.scope])
    subject = next((each for each in subjects if each.slot == slot), None)
    if subject is None:
        return None, None
    before = [
        (number, said)
        for number, seen in attempts.alone(evidence)
        for said in _ask_all(check, severity, Case(evidence=seen, profile=profile, host=host))
        if said[1].subject in (subject.name, NO_SUBJECT)
    ]
    counted = [(number, said) for number, said in before if attempts.counts(check, said[1].outcome)]
    return attempts.worst(_ask(check, severity, case, subject), counted)


_NOBODY = Subject(name=NO_SUBJECT, slot=NO_SLOT)


def _blank(profile: Profile, host: HostFile, guests: tuple[GuestEvidence, ...]) -> Evidence:
    return Evidence(
        host=host.name,
        subject=host.subject,
        profile=profile.name,
        run="",
        started_at="",
        ended_at=None,
        guests=guests,
    )


def _ask(check: Check, severity: Severity, case: Case, subject: Subject) -> Said:
    """One answer, whatever happens: a defect of ours is this check's ERROR, and all others are asked."""
    try:
        said = check.judge(case, subject)
        result = _finite(replace(said, check=check.id, subject=subject.name))
    except MissingEvidence as missing:
        reason = str(missing) or "no evidence"
        return None, _cell(check.id, subject, severity, reason)
    except HarnessError as problem:
        return _errored(check, severity, subject, problem)
    except Exception as error:  # noqa: BLE001  the boundary of checks, beside that of stages
        return _errored(check, severity, subject, _defect(error))
    reason = "" if result.outcome is Outcome.PASS else result.message
    cell = replace(_cell(check.id, subject, severity, reason), outcome=result.outcome)
    return result, cell


def _finite(result: CheckResult) -> CheckResult:
    """The result without values that are no numbers, which no record can hold: they were not measured. Raises
    ValueError where one is held to a limit, or a limit is none: that cannot be judged."""
    kept = []
    for each in result.measurements:
        limits = [limit for limit in (each.lower, each.upper) if limit is not None]
        strange = each.value is not None and not math.isfinite(each.value)
        if not all(map(math.isfinite, limits)) or (strange and limits):
            raise ValueError(f"{each.name} of {each.subject or result.subject} is not a finite number")
        kept.append(replace(each, value=None) if strange else each)
    return replace(result, measurements=tuple(kept))


def _defect(error: Exception) -> HarnessError:
    where = traceback.extract_tb(error.__traceback__)[-1]
    words = f"{why(error)[:250]}, {Path(where.filename).name} line {where.lineno}"
    return HarnessError(
        f"internal error of Shakedown while judging ({words})",
        remedy="this is a bug in Shakedown, not a fault of the host: report it with this run directory",
    )


def _errored(check: Check, severity: Severity, subject: Subject, problem: HarnessError) -> Said:
    result = CheckResult(
        check=check.id,
        subject=subject.name,
        outcome=Outcome.ERROR,
        message=problem.message,
        remedy=problem.remedy,
        action=Action.RETEST,
    )
    cell = _cell(check.id, subject, severity, problem.message)
    return result, replace(cell, outcome=Outcome.ERROR)


def _cell(check: str, subject: Subject, severity: Severity, reason: str) -> CoverageCell:
    return CoverageCell(
        check=check, subject=subject.name, slot=subject.slot, severity=severity, outcome=None, reason=reason
    )


def _subjects(scope: Scope, case: Case) -> Iterator[Subject]:
    if scope is Scope.HOST:
        yield Subject(name=HOST, slot=HOST)
    elif scope is Scope.GPU:
        yield from _gpus(case)
    else:
        for guest in case.evidence.guests:
            yield from _of_guest(scope, guest, case)


def _gpus(case: Case) -> Iterator[Subject]:
    """GPUs that are there, those the host file names, and a place for each that should be there: as many as
    the host file expects or, where it does not say, as the largest guest needs."""
    facts = case.evidence.facts
    selector = case.host.placement.selector
    found = tuple(d.address for d in case.gpus(facts)) if facts is not None else ()
    named = tuple(a for a in selector.addresses if a not in found and a not in selector.exclude)
    addresses = (*found, *named)
    for number, address in enumerate(addresses):
        yield Subject(name=str(address), slot=f"gpu{number}", device=address)
    for number in range(len(addresses), expected(case.host, case.evidence.guests)):
        yield Subject(name=f"gpu{number} (not found)", slot=f"gpu{number}")


def expected(host: HostFile, guests: Iterable[GuestEvidence]) -> int:
    """How many GPUs a host should show: as expected or, where nobody says, as guests need at once."""
    if host.expected_gpus is not None:
        return host.expected_gpus
    return most_at_once((guest.group, guest.request.gpus) for guest in guests) or 1


def _of_guest(scope: Scope, guest: GuestEvidence, case: Case) -> Iterator[Subject]:
    if scope is Scope.GUEST:
        yield Subject(name=guest.name, slot=guest.name, guest=guest)
    elif scope is Scope.GUEST_WORKLOAD:
        for workload in guest.workloads:
            # What the GPU model is declared not to have is not planned; reports list it.
            if not why_absent(case.evidence, case.profile, guest, workload):
                yield Subject(
                    name=f"{guest.name}/{workload}",
                    slot=f"{guest.name}-{workload}",
                    guest=guest,
                    workload=workload,
                )
    else:
        for number, device in enumerate(guest.gpus):
            slot = f"{guest.name}-gpu{number}"
            yield Subject(name=f"{guest.name}/{device}", slot=slot, guest=guest, device=device)
        # A machine itself has a place for one GPU also where nobody knows of any: it is there to be judged.
        least = 0 if attachment(guest.attach).in_guests else 1
        for number in range(len(guest.gpus), max(guest.request.gpus, least)):
            name = f"gpu{number}"
            yield Subject(name=f"{guest.name}/{name}", slot=f"{guest.name}-{name}", guest=guest)


def _unique(subjects: Iterable[Subject]) -> Iterator[Subject]:
    """No two subjects of one name, so that no result can stand in for another's."""
    taken: dict[str, int] = {}
    for subject in subjects:
        count = taken[subject.name] = taken.get(subject.name, 0) + 1
        if count == 1:
            yield subject
        else:
            yield replace(subject, name=f"{subject.name} (#{count})", slot=f"{subject.slot}-{count}")
