"""Guests that ended, or stopped to answer, before anybody asked them to: what each way means."""

from __future__ import annotations

from dataclasses import dataclass

from harness.checks.answers import error, failed, guest, ok, why_no_guest
from harness.checks.base import WITH_GUESTS, Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.model.death import DeathKind, GuestDeath
from harness.model.evidence import GuestEvidence
from harness.model.outcome import Action, CheckResult, EvidenceRef, Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class DeathRule:
    """What one way to die means."""

    accuses: bool
    """FAIL, and so NO_GO; else ERROR, and so INCONCLUSIVE: the hardware is neither accused nor cleared."""
    reason: str
    remedy: str
    action: Action = Action.RETEST


_READ = "read the console's last lines in this record"
_AGAIN = "and run again: nothing that this guest had still to show is shown"

RULES: dict[DeathKind, DeathRule] = {
    DeathKind.PANIC_HARDWARE: DeathRule(
        accuses=True,
        reason="the kernel stopped because hardware told it of an error",
        remedy="see what the line names; the host's kernel log and the BMC's event log at that time say more",
        action=Action.CONTACT_VENDOR,
    ),
    DeathKind.PANIC_DRIVER: DeathRule(
        accuses=True,
        reason="drivers panic over a card that answers wrongly; one of ours is that of every other guest",
        remedy="reset the GPUs and run the whole stage again; a second one means that the card goes out",
    ),
    DeathKind.PANIC: DeathRule(
        accuses=True,
        reason="this kernel runs in every guest and panics in none that is well: memory, a processor or a "
        "device may have broken it",
        remedy=f"{_READ}; run the whole stage again, and with another kernel if it comes back",
    ),
    DeathKind.PANIC_IMAGE: DeathRule(
        accuses=False,
        reason="what the guest booted is at fault, and not what it ran on",
        remedy=f"mend the guest's image, {_AGAIN}",
        action=Action.FIX_CONFIG,
    ),
    DeathKind.PROVOKED: DeathRule(
        accuses=False,
        reason="somebody in the guest asked for it",
        remedy=f"find out who wrote to /proc/sysrq-trigger, {_AGAIN}",
    ),
    DeathKind.WATCHDOG: DeathRule(
        accuses=True,
        reason="a processor or a task stood still for so long that the kernel gave up, as it does over "
        "hardware that does not answer",
        remedy=f"{_READ}, and host.load_noise: a host with other work starves guests; run the stage again",
    ),
    DeathKind.GUEST_OOM: DeathRule(
        accuses=False,
        reason="its loads asked for more memory than it was given",
        remedy=f"give the guest more memory or its loads less, {_AGAIN}",
        action=Action.FIX_CONFIG,
    ),
    DeathKind.HOST_OOM: DeathRule(
        accuses=False,
        reason="the host had too little memory for what ran on it",
        remedy=f"see who used it (the host's kernel log lists them), end that, {_AGAIN}",
        action=Action.FIX_CONFIG,
    ),
    DeathKind.HOST_HARDWARE: DeathRule(
        accuses=True,
        reason="the host's kernel found memory under the guest that is broken",
        remedy="have the memory replaced that the host's kernel log names",
        action=Action.CONTACT_VENDOR,
    ),
    DeathKind.QEMU_CRASHED: DeathRule(
        accuses=False,
        reason="a defect of QEMU or of KVM is likelier than one of the hardware",
        remedy=f"look the line up among QEMU's known defects, take another version, {_AGAIN}",
    ),
    DeathKind.QEMU_KILLED: DeathRule(
        accuses=False,
        reason="a signal comes from a person or a program, and not from a card",
        remedy=f"find out who ended it (SIGKILL leaves no word in any log), {_AGAIN}",
    ),
    DeathKind.DESTROYED: DeathRule(
        accuses=False,
        reason="somebody asked libvirt for it",
        remedy=f"find out who (virsh, virt-manager, another tool), {_AGAIN}",
    ),
    DeathKind.POWERED_OFF: DeathRule(
        accuses=False,
        reason="something in the guest asked for it",
        remedy=f"{_READ}, find out what switched it off, {_AGAIN}",
    ),
    DeathKind.REBOOTED: DeathRule(
        accuses=False,
        reason="whether somebody asked for it or a processor lost its way, nobody says",
        remedy=f"{_READ}, {_AGAIN}; a second one without a word is the host's fault until shown otherwise",
    ),
    DeathKind.STUCK_DRIVER: DeathRule(
        accuses=True,
        reason="a GPU driver waits for a card for ever where the card does not answer it",
        remedy="reset the GPUs and run the whole stage again; a second one means that the card goes out",
        action=Action.RESET_GPU,
    ),
    DeathKind.STUCK: DeathRule(
        accuses=True,
        reason="its kernel itself says that a processor or a task does not come along",
        remedy=f"{_READ}, and host.load_noise: a host with other work starves guests; run the stage again",
    ),
    DeathKind.PAUSED: DeathRule(
        accuses=False,
        reason="libvirt holds it: somebody asked for that, or a disk of the host is full",
        remedy=f"see `virsh domstate --reason`, end what holds it, {_AGAIN}",
        action=Action.FIX_CONFIG,
    ),
    DeathKind.SILENT: DeathRule(
        accuses=False,
        reason="nobody says whether its kernel, its network or the host is at fault",
        remedy=f"{_READ}, and the host's kernel log at that time, {_AGAIN}",
    ),
}
"""Which end is NO_GO and which INCONCLUSIVE, each with its reason. What a guest had found before it ended
counts by its own checks in any case."""


def told_of(
    evidence: GuestEvidence, death: GuestDeath, *, measurements: tuple[Measurement, ...] = ()
) -> CheckResult:
    """What a death means, for every check that would else be asked of a guest that lived on."""
    rule = RULES[death.kind]
    during = f" during {death.during}" if death.during else ""
    message = f"{evidence.name} ended{during} at {death.at}: {death.words}; {rule.reason}"
    refs = (
        EvidenceRef(file="run.json", place=f"guests[{evidence.name}].death.why", quote=death.why[:400]),
        *(
            EvidenceRef(file="run.json", place=f"guests[{evidence.name}].death.{where}", quote=line[:400])
            for where, lines in (("console", death.console), ("host", death.host))
            for line in lines
        ),
    )
    if rule.accuses:
        return failed(message, rule.remedy, rule.action, evidence=refs, measurements=measurements)
    return error(message, rule.remedy, evidence=refs)


def _alive(case: Case, subject: Subject) -> CheckResult:
    evidence = guest(subject)
    if evidence.death is not None:
        return told_of(evidence, evidence.death)
    if not evidence.started or evidence.release is None:
        raise MissingEvidence(f"nobody saw how the guest ended: {why_no_guest(case, evidence)}")
    if evidence.release.ended_before:
        return error(
            "the guest had ended before it was asked to, and nobody saw how",
            "read the end of the guest's serial console and the host's /var/log/libvirt/qemu log",
        )
    return ok("the guest lived until it was asked to end")


CHECKS = (
    Check(
        id="guest.alive",
        title="Did the guest live until it was asked to end?",
        why="A guest that dies under load takes its tenant's work with it; who killed it decides what to do.",
        scope=Scope.GUEST,
        phase=Phase.RELEASE,
        attach=WITH_GUESTS,
        judge=_alive,
    ),
)
