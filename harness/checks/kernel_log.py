"""What the kernels said during the run: lines of trouble that were not there before.

A GPU driver's own lines are judged by ``*.gpu_errors`` while the log was followed, and here for all other
times (``harness.checks.telemetry_kernel``): before the follower began, after it ended, and where there was
none. What a follower read and the log has since lost is judged here too.
"""

from __future__ import annotations

from collections import Counter

from harness.checks.answers import (
    error,
    facts_after,
    failed,
    guest,
    host_facts,
    listing,
    ok,
    seen,
    why_no_guest,
)
from harness.checks.base import WITH_GUESTS, Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.checks.telemetry_kernel import GPU_FAMILIES, driver_events, driver_lines
from harness.model.guest import AttachMode
from harness.model.outcome import Action, CheckResult, EvidenceRef
from harness.model.telemetry import Family, KernelEvent, KernelLog, Ruling
from harness.telemetry.kernel_log import trouble_of

_LONGEST = 4096
"""Characters of one line that are shown."""
_TOLD_APART = 200
"""Characters of a line's words that are compared; the looks at a log cut its lines at 1,000."""


def trouble(lines: tuple[str, ...]) -> list[tuple[str, Action, str]]:
    """Lines that tell of trouble: kind, action and the line, in order."""
    found = ((trouble_of(line), line) for line in lines)
    return [(told[0], told[1], line[:_LONGEST]) for told, line in found if told is not None]


def _beside(
    lines: tuple[str, ...],
    kept: tuple[str, ...],
    log: KernelLog | None,
    since: float | None,
    ruled: tuple[KernelEvent, ...],
) -> list[tuple[str, Action, str]]:
    """Trouble among ``lines`` and in the followed log, less the driver's lines that ``*.gpu_errors`` rules.

    ``kept`` is all that the log still held at the end: what is there needs no follower.
    """
    mine = _unruled(lines, ruled)
    if log is None or log.followed_from is None:
        return trouble(mine)
    lost = tuple(
        event.line
        for event in log.events
        if event.family not in GPU_FAMILIES
        and event.ruling is not Ruling.NOTE
        and (since is None or event.at is None or event.at >= since)
        and not any(event.line in line for line in kept)
    )
    return trouble((*mine, *lost))


def _unruled(lines: tuple[str, ...], ruled: tuple[KernelEvent, ...]) -> tuple[str, ...]:
    """The lines without those of the driver's that are ruled, or are of a kind that is ruled."""
    kinds = {_kind(event) for event in ruled}
    return tuple(line for line in lines if not any(_kind(event) in kinds for event in driver_lines(line)))


def _kind(event: KernelEvent) -> tuple[object, ...]:
    """What decides a driver line's ruling: an Xid's code, on one GPU, whatever process it names; of all else
    (a fatal SXid has the code of one that is not) the words."""
    if event.family is Family.XID and event.code is not None:
        return event.code, event.device
    return (event.line[:_TOLD_APART],)


def _ruled(log: KernelLog | None, since: float | None) -> tuple[KernelEvent, ...]:
    return driver_events(log, since) if log is not None and log.followed_from is not None else ()


def _ruled_of_host(case: Case) -> tuple[KernelEvent, ...]:
    """The driver's lines in the host's log that another check rules: ``guest.gpu_errors`` on a bare machine,
    whose samplers follow the same log, else ``host.gpu_errors``."""
    watched = case.evidence.host_telemetry
    if case.profile.attach is not AttachMode.BARE:
        return () if watched is None else _ruled(watched.kernel, watched.started)
    seen = [guest.telemetry for guest in case.evidence.guests if guest.telemetry is not None]
    return tuple(event for told in seen for event in _ruled(told.kernel, told.started))


def _new_lines(before: tuple[str, ...], after: tuple[str, ...]) -> tuple[str, ...]:
    known = Counter(before)
    fresh = []
    for line in after:
        if known[line] > 0:
            known[line] -= 1
        else:
            fresh.append(line)
    return tuple(fresh)


def _host_log(case: Case, _subject: Subject) -> CheckResult:
    first, last = host_facts(case), facts_after(case)
    if first.kernel_log is None or last.kernel_log is None:
        raise MissingEvidence("the host's kernel log could not be read")
    fresh = _new_lines(first.kernel_log, last.kernel_log)
    watched = case.evidence.host_telemetry
    log, since = (None, None) if watched is None else (watched.kernel, watched.started)
    found = _beside(fresh, last.kernel_log, log, since, _ruled_of_host(case))
    if found:
        kinds = Counter(kind for kind, _, _ in found)
        said = ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
        return failed(
            f"the host's kernel reported trouble during the run: {said}; first: {found[0][2][:200]}",
            "read the lines around the first one; they name the device",
            found[0][1],
            evidence=tuple(seen(case, "kernel_log", line, after=True) for _, _, line in found[:20]),
        )
    old = len(trouble(first.kernel_log))
    rest = f" ({old} such lines from before the run)" if old else ""
    message = f"no line of trouble among {len(fresh)} new ones{rest}"
    return ok(message, evidence=(seen(case, "kernel_log", message, after=True),))


def _same_boot(case: Case, _subject: Subject) -> CheckResult:
    first, last = host_facts(case).boot_id, facts_after(case).boot_id
    if first is None or last is None:
        raise MissingEvidence("the boot id could not be read before and after the guests")
    evidence = (seen(case, "boot_id", first), seen(case, "boot_id", last, after=True))
    if first != last:
        return failed(
            "the host rebooted during the run",
            "find out why: the BMC's event log, and the serial console's last lines",
            Action.CONTACT_VENDOR,
            evidence=evidence,
        )
    return ok("the host ran through without a reboot", evidence=evidence)


def _guest_log(case: Case, subject: Subject) -> CheckResult:
    evidence = guest(subject)
    if evidence.kernel_log is None:
        raise MissingEvidence(f"the guest's kernel log was not read: {why_no_guest(case, evidence)}")
    log = evidence.telemetry.kernel if evidence.telemetry is not None else None
    found = _beside(evidence.kernel_log, evidence.kernel_log, log, None, _ruled(log, None))
    if not found:
        return ok("the guest's kernel reported no trouble")
    said = f"the guest's kernel reported {found[0][0]}: {listing([line for _, _, line in found], most=3)}"
    files = tuple(
        EvidenceRef(file="run.json", place=f"guests[{evidence.name}].kernel_log", quote=line[:400])
        for _, _, line in found[:20]
    )
    if all(action is Action.FIX_CONFIG for _, action, _ in found):
        # A driver too old for the card, a module that is not signed, too little memory: ours to mend, and the
        # card is neither accused nor cleared by what ran beside it.
        return error(
            f"{said}: a matter of what runs in the guest",
            "take a guest image whose driver fits these cards, or give the guest what the line names",
            evidence=files,
        )
    return failed(
        said,
        "read the guest's kernel log around the first line, and the host's at the same time",
        found[0][1],
        evidence=files,
    )


CHECKS = (
    Check(
        id="host.kernel_log",
        title="Did the host's kernel stay free of IOMMU faults, PCIe errors and machine checks?",
        why="A guest may finish its work while the host's kernel counts the errors under it.",
        scope=Scope.HOST,
        phase=Phase.AFTERWARDS,
        judge=_host_log,
    ),
    Check(
        id="host.same_boot",
        title="Did the host run through without a reboot?",
        why="A host that reboots by itself loses every tenant on it.",
        scope=Scope.HOST,
        phase=Phase.AFTERWARDS,
        judge=_same_boot,
    ),
    Check(
        id="guest.kernel_log",
        title="Did the guest's kernel stay free of errors?",
        why="Drivers report a dying device in the log first.",
        scope=Scope.GUEST,
        phase=Phase.RELEASE,
        attach=WITH_GUESTS,
        judge=_guest_log,
    ),
)
