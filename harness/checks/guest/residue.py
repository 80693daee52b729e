"""What one tenant leaves in a device must not reach the next."""

from __future__ import annotations

from harness.checks.answers import failed, listing, ok
from harness.checks.base import WITH_GUESTS, Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.model.evidence import Evidence
from harness.model.outcome import Action, CheckResult, EvidenceRef
from harness.model.pci import PciAddress
from harness.vendors.names import maker, typed


def _due(evidence: Evidence) -> set[tuple[str, PciAddress]]:
    """Hand-overs of a device from one guest of the run to a later one: each must have been looked at."""
    due: set[tuple[str, PciAddress]] = set()
    used: set[PciAddress] = set()
    for guest in evidence.guests:
        gpus = {gpu.host for gpu in guest.plan.gpus} if guest.plan is not None else set()
        due |= {(guest.name, address) for address in gpus & used}
        used |= gpus
    return due


def _how(case: Case, address: PciAddress) -> str:
    facts = case.evidence.facts
    device = facts.device(address) if facts is not None else None
    vendor = maker(device.vendor) if device is not None else None
    return typed(vendor.advice.commands.clear_memory) if vendor is not None else ""


def _residue(case: Case, _subject: Subject) -> CheckResult:
    trials = [(guest.name, trial) for guest in case.evidence.guests for trial in guest.residue]
    refs = tuple(
        EvidenceRef(file="run.json", place=f"guests[{name}].residue[{t.device}]", quote=t.detail[:200])
        for name, t in trials
    )
    leaked = [(name, trial) for name, trial in trials if trial.found]
    if leaked:
        words = listing([f"{t.device} to {name}" for name, t in leaked])
        return failed(
            f"data of an earlier tenant was still in the device: {words}",
            f"clear the device's memory between tenants{_how(case, leaked[0][1].device)}, or do not rent it "
            "out again without a power cycle",
            Action.CONTACT_VENDOR,
            evidence=refs,
        )
    clean = {(name, trial.device) for name, trial in trials if trial.planted and trial.found is False}
    open_ = sorted(_due(case.evidence) - clean)
    if open_:
        words = listing([f"{device} in {name}" for name, device in open_])
        raise MissingEvidence(f"data remanence was not checked: {words}")
    if not clean:
        raise MissingEvidence("no device had two tenants in this run, so no hand-over was tried")
    return ok(f"no data of an earlier tenant was found in {len(clean)} hand-overs", evidence=refs)


CHECKS = (
    Check(
        id="device.residue",
        title="Is a tenant's data gone when the next tenant gets the device (data remanence)?",
        why="A GPU's memory is not cleared between tenants by itself.",
        scope=Scope.HOST,
        phase=Phase.AFTERWARDS,
        needs=WITH_GUESTS,
        judge=_residue,
    ),
)
