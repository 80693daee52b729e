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
        remedy = (
            first.remedy
            or f"read {refs[0].file} for the reason, fix it and run again (--resume continues this run)"
        )
        return error(f"{first.stage or '?'} broke: {first.message}{more}", remedy, evidence=refs)
    return ok("every stage completed")


def _no_interventions(case: Case, _subject: Subject) -> CheckResult:
    done = case.evidence.interventions
    if done:
        return failed(
            f"{len(done)} manual interventions: {listing(done)}",
            "remove the need for each: a manual step is a defect of the host or of Shakedown",
            Action.RETEST,
        )
    return ok("no manual intervention")


CHECKS = (
    Check(
        id="run.no_errors",
        title="Did every stage of the run complete?",
        why="What a failed stage did not check is unknown, not healthy.",
        scope=Scope.HOST,
        phase=Phase.AFTERWARDS,
        judge=_no_errors,
    ),
    Check(
        id="run.no_interventions",
        title="Did the run complete without manual intervention?",
        why="A host that needs manual help to pass will need it again at night.",
        scope=Scope.HOST,
        phase=Phase.AFTERWARDS,
        judge=_no_interventions,
    ),
)
