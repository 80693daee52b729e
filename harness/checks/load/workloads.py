"""What the workloads brought back: known answers, and measurements against the profile's limits."""

from __future__ import annotations

import math
from dataclasses import replace

from harness.checks.answers import error, failed, guest, listing, ok, skipped, why_no_guest
from harness.checks.base import Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.model.evidence import WorkloadResult
from harness.model.inventory import Profile
from harness.model.outcome import Action, CheckResult, EvidenceRef, Measurement

_RETEST = (
    "run again with the same profile; if the answer is wrong again in the same guest, swap the GPU with a "
    "neighbour and see whether the fault follows it"
)


def _results(case: Case, subject: Subject) -> tuple[WorkloadResult, ...]:
    evidence = guest(subject)
    found = tuple(
        r for r in evidence.results if r.workload == subject.workload and r.guest in ("", evidence.name)
    )
    if not found or all(r.status == "lost" for r in found):
        why = (found[0].detail if found else "") or why_no_guest(case, evidence)
        raise MissingEvidence(f"{subject.workload} returned no result from {evidence.name}: {why}")
    return found


def _file(result: WorkloadResult) -> tuple[EvidenceRef, ...]:
    return (EvidenceRef(file=result.transcript or "run.json", place=f"{result.guest}/{result.workload}"),)


def _answer(case: Case, subject: Subject) -> CheckResult:
    """Every run of the workload must have ended with right answers: a retry does not unmake a failure."""
    results = _results(case, subject)
    wrong = [a for r in results for a in r.answers if not a.ok]
    evidence = tuple(ref for r in results for ref in _file(r))
    if wrong:
        first = wrong[0]
        return failed(
            f"wrong answer: {first.name}: expected {first.expected[:80]}, got {first.got[:80]}"
            + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""),
            _RETEST,
            Action.RETEST,
            evidence=evidence,
        )
    for result in results:
        said = f"{result.workload} ended with status {result.status!r}: {result.detail[:300]}"
        if result.status == "failed":
            return failed(said, _RETEST, Action.RETEST, evidence=evidence)
        if result.status == "not_applicable":
            return skipped(f"{result.workload} does not apply here: {result.detail[:300]}")
        if result.status != "done":
            return error(
                said, "raise the workload's deadline or lower its load, and run again", evidence=evidence
            )
        if not result.answers:
            return error(
                f"{result.workload} ended without any answer to compare",
                "read its output: the payload and this version of Shakedown do not match",
                evidence=evidence,
            )
    count = sum(len(r.answers) for r in results)
    engines = listing(sorted({r.engine for r in results}))
    return ok(f"{count} known answers correct (computed by {engines})", evidence=evidence)


def _held(measurement: Measurement, profile: Profile) -> Measurement:
    """The measurement with the profile's limits, which replace the workload's own."""
    limit = profile.limits.get(measurement.name)
    return measurement if limit is None else replace(measurement, lower=limit.lower, upper=limit.upper)


def _limits(case: Case, subject: Subject) -> CheckResult:
    results = _results(case, subject)
    held = tuple(_held(m, case.profile) for r in results for m in r.measurements)
    limited = [m for m in held if m.lower is not None or m.upper is not None]
    evidence = tuple(ref for r in results for ref in _file(r))
    blank = [m.name for m in limited if m.value is None or not math.isfinite(m.value)]
    if blank:
        raise MissingEvidence(f"no value was measured for {listing(blank)}")
    broken = [m for m in limited if m.within is False]
    if broken:
        return failed(
            "outside its limits: " + listing([_words(m) for m in broken]),
            _RETEST,
            Action.RETEST,
            evidence=evidence,
            measurements=held,
        )
    if not held:
        raise MissingEvidence(f"{subject.workload} measured nothing")
    if not limited:
        message = f"measured only: no limit is set for any of {len(held)} measurements"
    else:
        message = f"{len(limited)} of {len(held)} measurements have limits and are within them"
    return ok(message, evidence=evidence, measurements=held)


def _words(measurement: Measurement) -> str:
    low = "" if measurement.lower is None else f", at least {measurement.lower:g}"
    high = "" if measurement.upper is None else f", at most {measurement.upper:g}"
    return f"{measurement.name} {measurement.value:g} {measurement.unit}{low}{high}"


def _rules_match(case: Case, _subject: Subject) -> CheckResult:
    """A limit that matches no measurement guards nothing: an error of the profile or the workload."""
    names = {m.name for g in case.evidence.guests for r in g.results for m in r.measurements}
    if not names:
        raise MissingEvidence("no workload measured anything")
    if not case.profile.limits:
        return ok(f"the profile adds no limits of its own to the {len(names)} measurements")
    idle = sorted(set(case.profile.limits) - names)
    if idle:
        return error(
            f"limits that match no measurement: {listing(idle)}",
            f"correct the names in profile {case.profile.name}; measured: {listing(sorted(names), most=20)}",
        )
    return ok(f"each of {len(case.profile.limits)} limits matches a measurement")


_LOADED_SHARE = 0.8
"""Least share of the burn during which a load ran: the rest is starting, collecting and comparing."""


def _burn_time(case: Case, subject: Subject) -> CheckResult:
    """From the first load's start to the last one's end, by the loads' own clock."""
    evidence, due = guest(subject), case.profile.burn_seconds
    ran = [r for r in evidence.results if r.started is not None and r.ended is not None]
    if not ran:
        raise MissingEvidence(f"no load of {evidence.name} was recorded: {why_no_guest(case, evidence)}")
    windows = sorted((r.started or 0.0, r.ended or 0.0) for r in ran)
    span = max(end for _start, end in windows) - windows[0][0]
    loaded, until = 0.0, windows[0][0]
    for start, end in windows:
        loaded += max(0.0, end - max(start, until))
        until = max(until, end)
    rounds = max(r.round for r in ran)
    said = f"loads ran {loaded:.0f} s of {span:.0f} s in {rounds} rounds; the profile requires {due:.0f} s"
    measured = (Measurement(name="burn.time", value=round(loaded, 3), unit="s"),)
    if span < due * 0.99:
        return error(f"{said}: the burn ended early", "find the load that ended the rounds, and run again")
    if due and loaded < _LOADED_SHARE * span:
        return error(f"{said}: too much of it was idle", "raise the work for each start of a load")
    return ok(said, measurements=measured)


CHECKS = (
    Check(
        id="workload.burn_time",
        title="Did the loads run for as long as the profile requires?",
        why="A burn-in that ends early proves nothing about the missing hours.",
        scope=Scope.GUEST,
        phase=Phase.BURNIN,
        judge=_burn_time,
    ),
    Check(
        id="workload.answer",
        title="Did the workload compute the right answers?",
        why="A device that answers fast and wrong is worse than one that does not answer.",
        scope=Scope.GUEST_WORKLOAD,
        phase=Phase.BURNIN,
        judge=_answer,
    ),
    Check(
        id="workload.limits",
        title="Are the workload's measurements within their limits?",
        why="A card at half speed still gives right answers.",
        scope=Scope.GUEST_WORKLOAD,
        phase=Phase.BURNIN,
        judge=_limits,
    ),
    Check(
        id="workload.limits_matched",
        title="Does every limit of the profile match a measurement?",
        why="A rule that matches nothing passes everything.",
        scope=Scope.HOST,
        phase=Phase.AFTERWARDS,
        judge=_rules_match,
    ),
)
