"""What the guest loses against the bare machine, where a recorded bare run is given (``--compare``)."""

from __future__ import annotations

from harness.checks.answers import error, failed, guest, host_facts, listing, ok, why_no_guest
from harness.checks.base import WITH_GUESTS, Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.model.evidence import Reference
from harness.model.outcome import Action, CheckResult, EvidenceRef
from harness.verdict.ratio import Finding
from harness.verdict.virtualization import Cost, costs, unfit

_REMEDY = (
    "check that the guest's CPUs, memory and hugepages are on the GPU's node (placement.*), then the PCIe "
    "settings that the hypervisor changes (ATS, relaxed ordering, maximum payload)"
)


def _reference(case: Case) -> Reference:
    """The bare run. Raises MissingEvidence when there is none, or none that says anything of this host."""
    reference = case.evidence.reference
    if reference is None:
        raise MissingEvidence("no bare-metal run was given to compare with (--compare RUN)")
    why = unfit(reference, case.evidence.subject, host_facts(case).machine_id)
    if why:
        raise MissingEvidence(why)
    return reference


def _cost(case: Case, subject: Subject) -> CheckResult:
    evidence = guest(subject)
    reference = _reference(case)
    workload = subject.workload or ""
    if not any(r.workload == workload and r.status == "done" for r in evidence.results):
        raise MissingEvidence(f"{workload} returned no result: {why_no_guest(case, evidence)}")
    found = costs(
        evidence,
        workload,
        reference,
        case.profile.virtualization,
        parameters=case.profile.workload_parameters.get(workload, {}),
    )
    label = " (recorded on a stand-in: says nothing about hardware)" if reference.standin else ""
    files = (EvidenceRef(file="run.json", place="evidence.reference", quote=f"{reference.run}{label}"),)
    losing = [c for c in found if c.finding is Finding.LOSES]
    if losing:
        return failed(
            f"slower than bare metal: {listing([_words(c) for c in losing])}",
            _REMEDY,
            Action.FIX_CONFIG,
            evidence=files,
        )
    compared = [c for c in found if c.finding is Finding.KEEPS]
    if not compared and all(c.finding is Finding.NOT_COMPARABLE for c in found):
        why = f" ({found[0].name}: {found[0].detail})" if found else ""
        raise MissingEvidence(f"no measurement of {workload} can be compared{why}")
    open_ones = [c for c in found if c.open]
    if open_ones:
        most = max(case.profile.virtualization.least_runs, 5)
        return error(
            f"undecided: {listing([_words(c) for c in open_ones])}",
            f"let both runs measure the same loads on the same GPUs, at least {most} rounds (burn_seconds)",
            evidence=files,
        )
    worst = min(compared, key=lambda c: c.low or 0.0)
    return ok(
        f"{len(compared)} measurements reach bare-metal run {reference.run}{label}; the lowest: "
        f"{_words(worst)}",
        evidence=files,
    )


def _words(cost: Cost) -> str:
    where = f" on {cost.device}" if cost.device is not None else ""
    if cost.ratio is None:
        detail = cost.detail or f"{cost.runs[0]} here, {cost.runs[1]} bare"
        return f"{cost.name}{where}: {cost.finding.value} ({detail})"
    return (
        f"{cost.name}{where}: {cost.ratio:.3f} of bare, 95 % between {cost.low:.3f} and {cost.high:.3f}, "
        f"at least {cost.floor:g}"
    )


CHECKS = (
    Check(
        id="workload.virtualization",
        title="Does the guest reach bare-metal performance?",
        why="Passthrough should cost almost nothing; a higher cost means a wrong setting.",
        scope=Scope.GUEST_WORKLOAD,
        phase=Phase.BURNIN,
        judge=_cost,
        needs=WITH_GUESTS,
        on_demand=True,
    ),
)
