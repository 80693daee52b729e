"""How judges say what they found, and how they get at evidence that may not be there."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.checks.base import Case, MissingEvidence, Subject
from harness.checks.plain import plain
from harness.model.evidence import Evidence, GuestEvidence
from harness.model.outcome import Action, CheckResult, EvidenceRef, Measurement, Outcome
from harness.model.pci import PciAddress
from harness.model.topology import HostFacts, PciDevice

_QUOTE = 400
"""Characters of hostile or long text that are quoted in evidence; the file holds the rest."""


def ok(
    message: str,
    *,
    evidence: tuple[EvidenceRef, ...] = (),
    measurements: tuple[Measurement, ...] = (),
) -> CheckResult:
    """A PASS. The engine fills in the check and its subject."""
    return _result(Outcome.PASS, message, evidence=evidence, measurements=measurements)


def failed(
    message: str,
    remedy: str,
    action: Action,
    *,
    evidence: tuple[EvidenceRef, ...] = (),
    measurements: tuple[Measurement, ...] = (),
) -> CheckResult:
    """A FAIL, with what a person can do about it."""
    return _result(
        Outcome.FAIL, message, remedy=remedy, action=action, evidence=evidence, measurements=measurements
    )


def error(message: str, remedy: str = "", *, evidence: tuple[EvidenceRef, ...] = ()) -> CheckResult:
    """An ERROR: the question could not be put properly, so the answer is unknown."""
    return _result(Outcome.ERROR, message, remedy=remedy, action=Action.RETEST, evidence=evidence)


def skipped(message: str) -> CheckResult:
    """A SKIP with its reason. It counts as not covered."""
    return _result(Outcome.SKIP, message)


def _result(
    outcome: Outcome,
    message: str,
    *,
    remedy: str = "",
    action: Action = Action.NONE,
    evidence: tuple[EvidenceRef, ...] = (),
    measurements: tuple[Measurement, ...] = (),
) -> CheckResult:
    return CheckResult(
        check="",
        subject="",
        outcome=outcome,
        message=message,
        remedy=remedy,
        action=action,
        evidence=evidence,
        measurements=measurements,
    )


def host_facts(case: Case) -> HostFacts:
    """The facts from before the guests. Raises MissingEvidence, with the reason discovery gave."""
    if case.evidence.facts is None:
        raise MissingEvidence(f"the host was not discovered{_why(case.evidence, 'discover')}")
    return case.evidence.facts


def facts_after(case: Case) -> HostFacts:
    """The facts from after the guests. Raises MissingEvidence."""
    if case.evidence.facts_after is None:
        raise MissingEvidence(f"the host's facts were not read again after the run{_why(case.evidence, '')}")
    return case.evidence.facts_after


def gpu(case: Case, subject: Subject) -> PciDevice:
    """The GPU a check is about, as first discovered. Raises MissingEvidence when it is not known."""
    device = present_or_gone(case, subject)
    if device.vanished:
        raise MissingEvidence(f"{device.address} disappeared while it was being read")
    return device


def present_or_gone(case: Case, subject: Subject) -> PciDevice:
    """As ``gpu``, but also for one that went away while it was being read."""
    facts = host_facts(case)
    if subject.device is None:
        raise MissingEvidence("the host has fewer GPUs than expected")
    device = facts.device(subject.device)
    if device is None:
        raise MissingEvidence(f"the host has no device {subject.device}")
    return device


def guest(subject: Subject) -> GuestEvidence:
    """The guest a check is about. Raises MissingEvidence when nothing is known of it."""
    if subject.guest is None:
        raise MissingEvidence("no guest was planned in this run")
    return subject.guest


def why_no_guest(case: Case, guest_evidence: GuestEvidence) -> str:
    """Why a guest's evidence is absent, as far as known: no plan, a broken stage, an interruption."""
    if guest_evidence.no_plan is not None:
        codes = ", ".join(reason.code for reason in guest_evidence.no_plan.reasons)
        return f"there is no placement plan ({codes})"
    if guest_evidence.death is not None:
        return f"the guest died: {guest_evidence.death.words}"
    for problem in case.evidence.errors:
        if problem.subject and problem.subject in (guest_evidence.name, guest_evidence.group):
            return f"{problem.stage} failed: {problem.message}"
    if case.evidence.interrupted:
        return "the run was interrupted"
    return _why(case.evidence, "").removeprefix(": ") or "the record does not say why"


def seen(case: Case, place: str, value: object, *, after: bool = False) -> EvidenceRef:
    """A reference into the recorded facts, with the value quoted."""
    file = case.evidence.facts_file or "run.json"
    field = "facts_after" if after else "facts"
    text = plain(value)
    quote = text if len(text) <= _QUOTE else f"{text[:_QUOTE]}... ({len(text)} characters)"
    return EvidenceRef(file="run.json" if after else file, place=f"{field}.{place}", quote=quote)


def of_device(address: PciAddress, field: str) -> str:
    """The place of one field of one function inside the facts."""
    return f"pci_devices[{address}].{field}"


def listing(items: Sequence[object], *, most: int = 6) -> str:
    """Items as text, at most ``most`` of them; each cut to a readable length."""
    shown = [plain(item)[:200] for item in items[:most]]
    rest = len(items) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def version_numbers(text: str) -> tuple[int, ...]:
    """The first dotted number in a text, ``6.1.0-56-amd64`` as (6, 1, 0); empty when there is none."""
    match = re.search(r"(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?", text)
    return tuple(int(part) for part in match.groups() if part is not None) if match is not None else ()


def kernel_version(facts: HostFacts) -> tuple[int, ...]:
    """The kernel's version; raises MissingEvidence when it is not known."""
    numbers = version_numbers(facts.versions.kernel or "")
    if not numbers:
        raise MissingEvidence("the kernel's version is unknown")
    return numbers


def _why(evidence: Evidence, stage: str) -> str:
    for problem in evidence.errors:
        if not stage or problem.stage == stage:
            return f": {problem.stage} failed: {problem.message}"
    return ": the run was interrupted" if evidence.interrupted else ""
