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
_AGAIN = "and run again: the guest's remaining checks have no evidence"

RULES: dict[DeathKind, DeathRule] = {
    DeathKind.PANIC_HARDWARE: DeathRule(
        accuses=True,
        reason="the kernel stopped on a hardware error",
        remedy="find the device that the line names; read the host's kernel log and the BMC's event log for "
        "that time",
        action=Action.CONTACT_VENDOR,
    ),
    DeathKind.PANIC_DRIVER: DeathRule(
        accuses=True,
        reason="a driver can panic when a card gives wrong answers, and every other guest runs the same "
        "driver",
        remedy="reset the GPUs and run the whole stage again; replace the card if it happens again",
    ),
    DeathKind.PANIC: DeathRule(
        accuses=True,
        reason="healthy guests run this kernel without a panic: memory, a processor or a device may be at "
        "fault",
        remedy=f"{_READ}; run the whole stage again, and with another kernel if it happens again",
    ),
    DeathKind.PANIC_IMAGE: DeathRule(
        accuses=False,
        reason="the guest image is at fault, not the host",
        remedy=f"fix the guest image, {_AGAIN}",
        action=Action.FIX_CONFIG,
    ),
    DeathKind.PROVOKED: DeathRule(
        accuses=False,
        reason="it was requested inside the guest",
        remedy=f"find out who wrote to /proc/sysrq-trigger, {_AGAIN}",
    ),
    DeathKind.WATCHDOG: DeathRule(
        accuses=True,
        reason="a processor or task was stuck for so long that the kernel gave up, as it does when hardware "
        "does not answer",
        remedy=f"{_READ}and see host.load_noise: other work on the host can starve guests; then run the "
        "stage again",
    ),
    DeathKind.GUEST_OOM: DeathRule(
        accuses=False,
        reason="its loads needed more memory than the guest has",
        remedy=f"give the guest more memory or its loads less, {_AGAIN}",
        action=Action.FIX_CONFIG,
    ),
    DeathKind.HOST_OOM: DeathRule(
        accuses=False,
        reason="the host had too little memory for what ran on it",
        remedy=f"find what used it (the host's kernel log lists the processes), stop it, {_AGAIN}",
        action=Action.FIX_CONFIG,
    ),
    DeathKind.HOST_HARDWARE: DeathRule(
        accuses=True,
        reason="the host's kernel found bad memory under the guest",
        remedy="replace the memory module that the host's kernel log names",
        action=Action.CONTACT_VENDOR,
    ),
    DeathKind.QEMU_CRASHED: DeathRule(
        accuses=False,
        reason="a bug in QEMU or KVM is more likely than a hardware fault",
        remedy=f"look for the line among QEMU's known bugs, try another version, {_AGAIN}",
    ),
    DeathKind.QEMU_KILLED: DeathRule(
        accuses=False,
        reason="a signal comes from a person or a program, not from a GPU",
        remedy=f"find out who sent it (SIGKILL leaves no trace in any log), {_AGAIN}",
    ),
    DeathKind.DESTROYED: DeathRule(
        accuses=False,
        reason="it was requested through libvirt",
        remedy=f"find out who (virsh, virt-manager, another tool), {_AGAIN}",
    ),
    DeathKind.POWERED_OFF: DeathRule(
        accuses=False,
        reason="it was requested inside the guest",
        remedy=f"{_READ}, find out what powered it off, {_AGAIN}",
    ),
    DeathKind.REBOOTED: DeathRule(
        accuses=False,
        reason="nothing shows whether it was requested or caused by a fault",
        remedy=f"{_READ}, {_AGAIN}; treat a second unexplained reboot as a fault of the host until proven "
        "otherwise",
    ),
    DeathKind.STUCK_DRIVER: DeathRule(
        accuses=True,
        reason="a GPU driver waits forever for a card that does not answer",
        remedy="reset the GPUs and run the whole stage again; replace the card if it happens again",
        action=Action.RESET_GPU,
    ),
    DeathKind.STUCK: DeathRule(
        accuses=True,
        reason="its own kernel reports a stuck processor or task",
        remedy=f"{_READ}and see host.load_noise: other work on the host can starve guests; then run the "
        "stage again",
    ),
    DeathKind.PAUSED: DeathRule(
        accuses=False,
        reason="libvirt paused it: on request, or because a disk of the host is full",
        remedy=f"run `virsh domstate --reason`, remove the cause, {_AGAIN}",
        action=Action.FIX_CONFIG,
    ),
    DeathKind.SILENT: DeathRule(
        accuses=False,
        reason="nothing shows whether its kernel, its network or the host is at fault",
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
        raise MissingEvidence(f"how the guest ended was not recorded: {why_no_guest(case, evidence)}")
    if evidence.release.ended_before:
        return error(
            "the guest ended before it was asked to shut down; how it ended was not recorded",
            "read the end of the guest's serial console and the host's /var/log/libvirt/qemu log",
        )
    return ok("the guest ran until it was asked to shut down")


CHECKS = (
    Check(
        id="guest.alive",
        title="Did the guest run until it was asked to shut down?",
        why="A guest that dies under load takes its tenant's work with it; the remedy depends on what "
        "ended it.",
        scope=Scope.GUEST,
        phase=Phase.RELEASE,
        needs=WITH_GUESTS,
        judge=_alive,
    ),
)
