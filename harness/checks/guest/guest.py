"""Guests: started, and reached."""

from __future__ import annotations

from harness.checks.answers import error, failed, guest, ok, why_no_guest
from harness.checks.base import WITH_GUESTS, Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.checks.guest.death import told_of
from harness.model.evidence import GuestEvidence, StageError
from harness.model.outcome import Action, CheckResult, EvidenceRef, Measurement


def _problem(case: Case, evidence: GuestEvidence) -> StageError | None:
    return next((e for e in case.evidence.errors if e.subject == evidence.name), None)


def _domain(evidence: GuestEvidence) -> tuple[EvidenceRef, ...]:
    return (EvidenceRef(file=evidence.domain_xml, place="domain"),) if evidence.domain_xml else ()


def _started(case: Case, subject: Subject) -> CheckResult:
    evidence = guest(subject)
    if evidence.started:
        return ok("the guest started", evidence=_domain(evidence))
    if evidence.no_plan is not None:
        reasons = evidence.no_plan.reasons
        return failed(
            "the guest could not be placed: " + "; ".join(f"{r.code}: {r.message}" for r in reasons),
            "shakedown plan --facts FILE --gpus N shows the reasons again; remove each, then run again",
            Action.FIX_CONFIG,
        )
    problem = _problem(case, evidence)
    if problem is None or evidence.plan is None:
        raise MissingEvidence(f"the guest was not started: {why_no_guest(case, evidence)}")
    # Whether host or harness is to blame is not known here, so this is no FAIL.
    said = f"the guest did not start: {problem.message}"
    return error(said, problem.remedy, evidence=_domain(evidence))


def _reached(case: Case, subject: Subject) -> CheckResult:
    evidence = guest(subject)
    boot = Measurement(name="guest.boot", value=evidence.boot_seconds, unit="s", subject=evidence.name)
    if evidence.reached:
        if not evidence.started:
            return error("the record contradicts itself: the guest was reached but never started")
        seconds = (
            f" {evidence.boot_seconds:.0f} s after its start" if evidence.boot_seconds is not None else ""
        )
        return ok(f"the guest answered{seconds}", measurements=(boot,))
    if evidence.death is not None:
        return told_of(evidence, evidence.death)
    problem = _problem(case, evidence)
    if not evidence.started or problem is None or case.evidence.interrupted:
        raise MissingEvidence(f"the guest was not reached: {why_no_guest(case, evidence)}")
    # Only that accuses the guest. Where libvirt or the host fell silent, nothing is known of it.
    if problem.kind == "BootError":
        return failed(
            f"the guest started but never answered: {problem.message}",
            problem.remedy or "read the guest's serial console in the run directory",
            Action.RESTART_VM,
            evidence=_domain(evidence),
        )
    return error(f"the guest could not be reached: {problem.message}", problem.remedy)


CHECKS = (
    Check(
        id="guest.started",
        title="Did the guest start with its GPUs?",
        why="A guest that cannot be placed or started cannot be rented.",
        scope=Scope.GUEST,
        phase=Phase.PLACEMENT,
        needs=WITH_GUESTS,
        judge=_started,
    ),
    Check(
        id="guest.reached",
        title="Did the guest boot and answer?",
        why="Guests with large GPU BARs can hang in firmware or PCI setup for minutes.",
        scope=Scope.GUEST,
        phase=Phase.PLACEMENT,
        needs=WITH_GUESTS,
        judge=_reached,
    ),
)
