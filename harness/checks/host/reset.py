"""Reset: claimed by the kernel, and believed only after it was exercised."""

from __future__ import annotations

from dataclasses import replace

from harness.checks.answers import (
    failed,
    gpu,
    host_facts,
    kernel_version,
    listing,
    of_device,
    ok,
    seen,
    skipped,
)
from harness.checks.base import WITH_GUESTS, Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.checks.plain import plain
from harness.model.attachment import Observable
from harness.model.evidence import ResetTrial
from harness.model.outcome import Action, CheckResult, EvidenceRef, Outcome

_LISTED_SINCE = (5, 15)
"""Kernel that first has ``reset_method``; older ones have ``reset`` alone."""


def _claimed(case: Case, subject: Subject) -> CheckResult:
    device = gpu(case, subject)
    evidence = (seen(case, of_device(device.address, "reset_methods"), listing(device.reset_methods)),)
    if not device.reset_methods and device.reset_file and kernel_version(host_facts(case)) < _LISTED_SINCE:
        return ok("the kernel offers a reset; it is too old to name its methods", evidence=evidence)
    if not device.reset_methods:
        return failed(
            "the kernel lists no reset method for this GPU",
            f"echo default > /sys/bus/pci/devices/{device.address}/reset_method; if the list stays empty, "
            "power the host off and on, then update the kernel (6.14.2 and 6.12.23 lost reset methods)",
            Action.FIX_CONFIG,
            evidence=evidence,
        )
    alone = " (bus reset only)" if device.reset_methods == ("bus",) else ""
    return ok(f"reset methods: {listing(device.reset_methods)}{alone}", evidence=evidence)


def _works(case: Case, subject: Subject) -> CheckResult:
    trials = [trial for trial in case.evidence.resets if trial.device == subject.device]
    if subject.device is None:
        raise MissingEvidence("the host has fewer GPUs than expected")
    if not trials:
        raise MissingEvidence("no reset of this GPU was tried")
    judged = [_judge_trial(_with_tenants(case, trial)) for trial in trials]
    # A second try that goes well does not unmake the first.
    return next((result for result in judged if result.outcome is not Outcome.PASS), judged[0])


def _with_tenants(case: Case, trial: ResetTrial) -> ResetTrial:
    """The trial with what tenants found, where the host itself could not observe the device's state.

    Between two tenants VFIO resets the device; what the first planted and the second looked for tells what
    that reset did.
    """
    looked = [t for g in case.evidence.guests for t in g.residue if t.device == trial.device]
    if any(t.found for t in looked):
        hit = next(t for t in looked if t.found)
        words = (trial.detail, hit.detail or "state survived to the next tenant")
        return replace(trial, state_cleared=False, detail="; ".join(text for text in words if text))
    if trial.state_cleared is None and any(t.planted and t.found is False for t in looked):
        return replace(trial, state_cleared=True)
    return trial


def _judge_trial(trial: ResetTrial) -> CheckResult:
    said = f"accepted: {plain(trial.accepted)}, state cleared: {plain(trial.state_cleared)}; {trial.detail}"
    evidence = (EvidenceRef(file=trial.transcript or "run.json", place="resets", quote=said[:400]),)
    methods = listing(trial.methods) or "none"
    if trial.exempt:
        return skipped(f"not tried: {trial.exempt}")
    if not trial.attempted or trial.accepted is None:
        raise MissingEvidence(f"the reset was not tried{f': {trial.detail}' if trial.detail else ''}")
    if not trial.accepted:
        return failed(
            f"the kernel lists {methods} but refused the reset: {trial.detail}",
            "read in the kernel log why it was refused; a card with several functions needs its whole "
            "slot free for a bus reset",
            Action.CONTACT_VENDOR,
            evidence=evidence,
        )
    if trial.state_cleared is None:
        raise MissingEvidence(
            "the kernel accepted the reset, but whether it cleared the GPU's state was not observed"
        )
    if not trial.state_cleared:
        return failed(
            f"the kernel accepted the reset ({methods}), but state set before it was still there"
            + (f": {trial.detail}" if trial.detail else ""),
            "do not rent this GPU to another tenant without a power cycle; ask the vendor for a working "
            "reset",
            Action.CONTACT_VENDOR,
            evidence=evidence,
        )
    return ok(f"a reset ({methods}) cleared the state that was set before it", evidence=evidence)


CHECKS = (
    Check(
        id="gpu.reset_claimed",
        title="Does the kernel list a way to reset the GPU?",
        why="A GPU that cannot be reset carries one tenant's state to the next, or hangs.",
        scope=Scope.GPU,
        phase=Phase.READINESS,
        needs=(*WITH_GUESTS, Observable.FUNCTION),
        judge=_claimed,
    ),
    Check(
        id="gpu.reset_works",
        title="Does a reset really clear the GPU's state?",
        why="A listed method is a claim: some resets succeed and change nothing, others are refused.",
        scope=Scope.GPU,
        phase=Phase.AFTERWARDS,
        needs=(*WITH_GUESTS, Observable.FUNCTION),
        judge=_works,
    ),
)
