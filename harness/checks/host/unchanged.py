"""Whether the host stayed what it was for as long as loads ran; and how changes are put into words."""

from __future__ import annotations

from collections.abc import Iterable

from harness.checks.answers import error, failed, host_facts, listing, ok
from harness.checks.base import Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.model.host_change import HostChange, Weight
from harness.model.outcome import Action, CheckResult, EvidenceRef
from harness.model.telemetry import HostTelemetry
from harness.telemetry.host.table import WATCHED, About

_DUE = tuple(row.name for row in WATCHED if row.due and row.about is About.HOST)


def words(change: HostChange) -> str:
    """What, before, after, when; with the file or program that said it."""
    when = "" if change.at is None else f" at {change.at:.0f} s"
    if change.since is not None and change.at is not None and change.since < change.at:
        when = f" between {change.since:.0f} and {change.at:.0f} s"
    back = f", restored at {change.until:.0f} s" if change.until is not None else ""
    of = f"{change.what} ({change.subject})" if change.subject != change.what else change.what
    return f"{of}: {change.before} -> {change.after}{when}{back} [{change.source}]"


def references(telemetry: HostTelemetry, changes: Iterable[HostChange]) -> tuple[EvidenceRef, ...]:
    """The spool, with what decided quoted."""
    quote = "; ".join(words(change) for change in changes)
    return (
        EvidenceRef(file=telemetry.spool or "run.json", place="host_telemetry.changes", quote=quote[:400]),
    )


def asides(changes: Iterable[HostChange]) -> str:
    """What is told beside an answer; empty when there is nothing."""
    told = [words(change) for change in changes if change.weight is Weight.TOLD]
    return f"; told: {listing(told, most=4)}" if told else ""


def watched(case: Case) -> HostTelemetry:
    """What the host's follower saw. Raises MissingEvidence."""
    telemetry = case.evidence.host_telemetry
    if telemetry is None or telemetry.samples == 0:
        why = telemetry.detail if telemetry is not None else ""
        raise MissingEvidence(f"the host was not watched while loads ran{f': {why}' if why else ''}")
    return telemetry


def _unchanged(case: Case, _subject: Subject) -> CheckResult:
    host_facts(case)
    telemetry = watched(case)
    changes = [change for change in telemetry.changes if not change.guest]
    harmful = [change for change in changes if change.weight is Weight.HARMFUL]
    doubtful = [change for change in changes if change.weight is Weight.DOUBTFUL]
    worst = [*harmful, *doubtful]
    evidence = references(telemetry, worst or changes)
    if worst:
        said = f"the host changed while it was watched: {listing([words(c) for c in worst], most=4)}"
        why = listing(list(dict.fromkeys(change.why for change in worst)), most=3)
        remedy = f"find who or what made this change at that time, prevent it, and run again: {why}"
        if harmful:
            return failed(said, remedy, Action.FIX_CONFIG, evidence=evidence)
        return error(said, remedy, evidence=evidence)
    if unread := [name for name in _DUE if not telemetry.asked.get(name)]:
        raise MissingEvidence(f"host properties that were not read: {listing(unread)}")
    if not telemetry.closed:
        raise MissingEvidence("the host was not watched to the end (see host.watched)")
    count = len([row for row in WATCHED if row.about is not About.GUEST])
    return ok(f"{count} properties did not change{asides(changes)}", evidence=evidence)


CHECKS = (
    Check(
        id="host.unchanged",
        title="Did the host stay unchanged while loads ran?",
        why="A host that changes during a run is no longer the host that was judged ready.",
        scope=Scope.HOST,
        phase=Phase.AFTERWARDS,
        judge=_unchanged,
    ),
)
