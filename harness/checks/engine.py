"""Every planned check on every planned subject: a result, or a missing cell that says why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from harness.checks.base import Case, Check, MissingEvidence, Scope, Subject
from harness.errors import HarnessError
from harness.model.evidence import Evidence, GuestEvidence
from harness.model.inventory import HostFile, Profile
from harness.model.outcome import Action, CheckResult, CoverageCell, Outcome, Severity
from harness.placement.gpus import select_gpus
from harness.workloads.applicable import why_absent

HOST = "host"
NO_SUBJECT = "(no subject)"
"""Subject of the cell for a check that nothing was planned for (the same words as ``harness.verdict``)."""


def run(
    checks: Iterable[Check], evidence: Evidence, profile: Profile, host: HostFile
) -> tuple[tuple[CheckResult, ...], tuple[CoverageCell, ...]]:
    """Results and coverage of every check that the profile names, in the profile's order."""
    known = {check.id: check for check in checks}
    case = Case(evidence=evidence, profile=profile, host=host)
    subjects = {scope: tuple(_unique(_subjects(scope, case))) for scope in Scope}
    results: list[CheckResult] = []
    cells: list[CoverageCell] = []
    for check_id, severity in profile.checks.items():
        check = known.get(check_id)
        if check is None:
            cells.append(_cell(check_id, NO_SUBJECT, severity, "this version has no such check"))
        elif not subjects[check.scope]:
            cells.append(_cell(check_id, NO_SUBJECT, severity, _NOTHING[check.scope]))
        else:
            for subject in subjects[check.scope]:
                result, cell = _ask(check, severity, case, subject)
                results += [result] if result is not None else []
                cells.append(cell)
    return tuple(results), tuple(cells)


_NOTHING = {
    Scope.HOST: "there is no host",
    Scope.GPU: "the host shows no GPU",
    Scope.GUEST: "no guest was planned",
    Scope.GUEST_GPU: "no guest asked for a GPU",
    Scope.GUEST_WORKLOAD: "no guest was given a workload that its GPUs can run",
}


def _ask(
    check: Check, severity: Severity, case: Case, subject: Subject
) -> tuple[CheckResult | None, CoverageCell]:
    try:
        said = check.judge(case, subject)
    except MissingEvidence as missing:
        reason = str(missing) or "no evidence"
        return None, _cell(check.id, subject.name, severity, reason)
    except HarnessError as problem:
        said = CheckResult(
            check=check.id,
            subject=subject.name,
            outcome=Outcome.ERROR,
            message=problem.message,
            remedy=problem.remedy,
            action=Action.RETEST,
        )
    result = replace(said, check=check.id, subject=subject.name)
    reason = "" if result.outcome is Outcome.PASS else result.message
    cell = replace(_cell(check.id, subject.name, severity, reason), outcome=result.outcome)
    return result, cell


def _cell(check: str, subject: str, severity: Severity, reason: str) -> CoverageCell:
    return CoverageCell(check=check, subject=subject, severity=severity, outcome=None, reason=reason)


def _subjects(scope: Scope, case: Case) -> Iterator[Subject]:
    if scope is Scope.HOST:
        yield Subject(name=HOST)
    elif scope is Scope.GPU:
        yield from _gpus(case)
    else:
        for guest in case.evidence.guests:
            yield from _of_guest(scope, guest, case)
        if not case.evidence.guests:
            yield from _unplanned(scope, case.profile)


def _gpus(case: Case) -> Iterator[Subject]:
    """GPUs that are there, those the host file names, and a place for each that should be there."""
    facts = case.evidence.facts
    selector = case.host.placement.selector
    found = tuple(d.address for d in select_gpus(facts, selector)) if facts is not None else ()
    named = tuple(a for a in selector.addresses if a not in found and a not in selector.exclude)
    addresses = (*found, *named)
    for address in addresses:
        yield Subject(name=str(address), device=address)
    due = case.host.expected_gpus
    if due is None:
        due = 1 if facts is None else 0
    for number in range(len(addresses), due):
        yield Subject(name=f"gpu{number} (not found)")


def _of_guest(scope: Scope, guest: GuestEvidence, case: Case) -> Iterator[Subject]:
    if scope is Scope.GUEST:
        yield Subject(name=guest.name, guest=guest)
    elif scope is Scope.GUEST_WORKLOAD:
        for workload in guest.workloads:
            # What the GPU model is declared not to have is not planned; reports list it.
            if not why_absent(case.evidence, case.profile, guest, workload):
                yield Subject(name=f"{guest.name}/{workload}", guest=guest, workload=workload)
    else:
        planned = guest.gpus
        for device in planned:
            yield Subject(name=f"{guest.name}/{device}", guest=guest, device=device)
        for number in range(len(planned), guest.request.gpus):
            yield Subject(name=f"{guest.name}/gpu{number}", guest=guest)


def _unplanned(scope: Scope, profile: Profile) -> Iterator[Subject]:
    """What the profile demands, when the run broke off before any guest was planned."""
    for spec in profile.guests:
        name = f"g{spec.gpus}"
        if scope is Scope.GUEST:
            yield Subject(name=name)
        elif scope is Scope.GUEST_WORKLOAD:
            yield from (Subject(name=f"{name}/{workload}", workload=workload) for workload in spec.workloads)
        else:
            yield from (Subject(name=f"{name}/gpu{number}") for number in range(spec.gpus))


def _unique(subjects: Iterable[Subject]) -> Iterator[Subject]:
    """No two subjects of one name, so that no result can stand in for another's."""
    taken: dict[str, int] = {}
    for subject in subjects:
        count = taken[subject.name] = taken.get(subject.name, 0) + 1
        yield subject if count == 1 else replace(subject, name=f"{subject.name} (#{count})")
