"""Ordinary questions to the host (services, modules, programs), asked through testinfra."""

from __future__ import annotations

from dataclasses import dataclass

from harness.checks.answers import failed, listing, ok
from harness.checks.base import WITH_GUESTS, Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.model.outcome import Action, CheckResult, EvidenceRef


@dataclass(frozen=True, slots=True)
class Question:
    """One question that must be answered with yes: its key, and what to do about a no."""

    key: str
    remedy: str


QUESTIONS = (
    Question(
        "service:libvirt",
        "systemctl enable --now libvirtd.socket (or virtqemud.socket where libvirt is modular)",
    ),
    Question("module:vfio_pci", "modprobe vfio-pci, and name it in /etc/modules-load.d/vfio.conf"),
    Question("program:qemu-system-x86_64", "install QEMU (Debian: apt-get install qemu-system-x86)"),
    Question("program:qemu-img", "install qemu-img (Debian: apt-get install qemu-utils)"),
)
"""What a host needs beyond facts. ``harness.stages.host.readiness`` asks each; one not asked is missing."""


def _services(case: Case, _subject: Subject) -> CheckResult:
    answers = {answer.question: answer for answer in case.evidence.system}
    evidence = tuple(
        EvidenceRef(file=a.transcript or "run.json", place=f"system[{a.question}]", quote=a.detail[:200])
        for a in case.evidence.system
    )
    wrong = [q for q in QUESTIONS if q.key in answers and answers[q.key].ok is False]
    if wrong:
        return failed(
            f"missing or wrong: {listing([f'{q.key} ({answers[q.key].detail[:120]})' for q in wrong])}",
            "; ".join(q.remedy for q in wrong),
            Action.FIX_CONFIG,
            evidence=evidence,
        )
    unasked = [q.key for q in QUESTIONS if q.key not in answers or answers[q.key].ok is None]
    if unasked:
        raise MissingEvidence(f"no answer to {listing(unasked)}")
    return ok(f"{len(QUESTIONS)} requirements are met", evidence=evidence)


CHECKS = (
    Check(
        id="host.services",
        title="Are the services, modules and programs that guests need present?",
        why="Otherwise the first guest fails to start, later and with a less clear message.",
        scope=Scope.HOST,
        phase=Phase.READINESS,
        needs=WITH_GUESTS,
        judge=_services,
    ),
)
