"""The run itself: whole, and untouched by hand."""

from __future__ import annotations

from harness.checks.answers import error, failed, listing, ok
from harness.checks.base import Case, Check, Phase, Scope, Subject
from harness.model.outcome import Action, CheckResult, EvidenceRef


def _no_errors(case: Case, _subject: Subject) -> CheckResult:
    if case.evidence.interrupted:
        return error("the run was interrupted", "run again, or resume it")
    problems = case.evidence.errors
    if problems:
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        refs = tuple(EvidenceRef(file=p.transcript or "run.json", place=p.stage) for p in problems[:20])
        remedy = first.remedy or f"read {refs[0].file} for why, mend that and run again (--resume goes on)"
        return error(f"{first.stage or '?'} broke: {first.message}{more}", remedy, evidence=refs)
    return ok("every stage ran to its end")


def _no_interventions(case: Case, _subject: Subject) -> CheckResult:
    done = case.evidence.interventions
    if done:
        return failed(
            f"{len(done)} interventions by hand: {listing(done)}",
            "make each unnecessary: what a person had to do is a defect of the host or of Shakedown",
            Action.RETEST,
        )
    return ok("nobody had to intervene")


CHECKS = (
    Check(
        id="run.no_errors",
        title="Did every stage of the run reach its end?",
        why="What a broken stage did not look at is unknown, not well.",
        scope=Scope.HOST,
        phase=Phase.AFTERWARDS,
        judge=_no_errors,
    ),
    Check(
        id="run.no_interventions",
        title="Did the run go through without a hand?",
        why="A host that needs a hand to pass will need one again in the night.",
        scope=Scope.HOST,
        phase=Phase.AFTERWARDS,
        judge=_no_interventions,
    ),
)
