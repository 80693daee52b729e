"""What the kernels said during the run: lines of trouble that were not there before.

A GPU driver's own lines are judged by ``*.gpu_errors`` while the log was followed, and here for all other
times (``harness.checks.watching.gpu_errors``): before the follower began, after it ended, and where there was
none. What a follower read and the log has since lost is judged here too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

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
from harness.checks.watching.gpu_errors import driver_events
from harness.model.evidence import GuestEvidence
from harness.model.kernel_codes import KernelCodes
from harness.model.outcome import Action, CheckResult, EvidenceRef
from harness.model.telemetry import (
    CODE_FAMILIES,
    GPU_FAMILIES,
    SWITCH_FAMILIES,
    Family,
    KernelEvent,
    KernelLog,
    Ruling,
)
from harness.telemetry.kernel.log import Told, tell
from harness.telemetry.kernel.text import words

_LONGEST = 4096
"""Characters of one line that are shown."""
_TOLD_APART = 200
"""Characters of a line's words that are compared; the looks at a log cut its lines at 1,000."""
_SAME_SECONDS = 0.001
"""A kernel's line has its time in microseconds, however it is read."""

_CODED_ACTIONS = {
    **dict.fromkeys(CODE_FAMILIES, Action.REPLACE_GPU),
    **dict.fromkeys(SWITCH_FAMILIES, Action.CONTACT_VENDOR),
}
"""What to do about a code that no table ruled: nobody followed the log it stands in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What a kernel said that is no mere note."""

    kind: str
    action: Action
    line: str
    config: bool
    """A wrong setting, or what follows from one: it accuses no device."""


def trouble(lines: Iterable[str]) -> list[Trouble]:
    """The trouble that lines of a log tell of, in order; notes are none."""
    return _trouble(_told(lines))


def _told(lines: Iterable[str]) -> list[Told]:
    # No tables here: what a code means is ruled where the log was followed.
    return list(tell(((None, line) for line in lines), KernelCodes()))


def _trouble(told: Iterable[Told]) -> list[Trouble]:
    return [
        Trouble(
            kind=each.kind,
            action=_CODED_ACTIONS.get(each.event.family, each.event.action),
            line=each.event.line[:_LONGEST],
            config=each.event.ruling is Ruling.CONFIG,
        )
        for each in told
        if each.event.ruling is not Ruling.NOTE
    ]


def _beside(
    told: Iterable[Told],
    followed: Iterable[tuple[KernelLog | None, float | None]],
    ruled: tuple[KernelEvent, ...],
    before: Iterable[Told] = (),
) -> list[Trouble]:
    """Trouble among what was ``told`` and in the ``followed`` logs, less what ``*.gpu_errors`` has ``ruled``.

    Of a followed log counts what came ``since`` then, wherever the looks at the log missed it: between two
    of them, pushed out of the kernel's buffer, or in a file that no look reads. What stood there ``before``
    is no news.
    """
    kinds = {_kind(event) for event in ruled}
    found = [each for each in told if not _is_ruled(each.event, kinds)]
    seen = _Seen((*found, *before))
    for log, since in followed:
        for event in () if log is None else log.events:
            late = since is None or event.at is None or event.at >= since
            if late and not _is_ruled(event, kinds) and seen.is_new(event):
                kind = _KINDS.get(event.family, "kernel fault")
                found.append(Told(first=0, last=0, kind=kind, event=event))
    return _trouble(found)


class _Seen:
    """Events that were told already, whoever read them: of the same words and, where known, the same time."""

    def __init__(self, told: Iterable[Told]) -> None:
        self._times: dict[str, list[float | None]] = {}
        for each in told:
            self.is_new(each.event)

    def is_new(self, event: KernelEvent) -> bool:
        """Whether it was not told yet; from now on it was."""
        times = self._times.setdefault(words(event.line)[:_TOLD_APART], [])
        if any(at is None or event.at is None or abs(at - event.at) < _SAME_SECONDS for at in times):
            return False
        times.append(event.at)
        return True


def _is_ruled(event: KernelEvent, kinds: set[tuple[object, ...]]) -> bool:
    """Whether it is a driver's line that another check rules."""
    return event.family in GPU_FAMILIES and _kind(event) in kinds


_KINDS = {
    **dict.fromkeys(CODE_FAMILIES, "GPU error"),
    **dict.fromkeys(SWITCH_FAMILIES, "GPU switch error"),
    Family.BUS: "PCIe error",
    Family.AER: "PCIe error",
    Family.MCE: "machine check",
    Family.IOMMU: "IOMMU fault",
}
"""What a recorded event is called; the kernel's own failures and hung tasks are kernel faults."""


def _kind(event: KernelEvent) -> tuple[object, ...]:
    """What decides a driver line's ruling: a GPU's code, on one GPU, whatever process it names; of all else
    (a fatal error of a switch has the code of one that is not) the words."""
    if event.family in CODE_FAMILIES and event.code is not None:
        return event.code, event.place
    return (words(event.line)[:_TOLD_APART],)


def _ruled(log: KernelLog | None, since: float | None) -> tuple[KernelEvent, ...]:
    return driver_events(log, since) if log is not None and log.followed_from is not None else ()


def _followed_of_host(case: Case, looked: float | None) -> list[tuple[KernelLog | None, float | None]]:
    """The logs of the host's kernel that were followed: by the host's watch and, on a bare machine, by the
    samplers beside the loads (of a stand-in there, the log is a file of its own). Each from the first
    look at the host on: ``looked``, in seconds since its boot."""
    watched = case.evidence.host_telemetry
    found = [] if watched is None else [(watched.kernel, watched.started)]
    if not case.mode.in_guests:
        told = [guest.telemetry for guest in case.evidence.guests if guest.telemetry is not None]
        found += [(each.kernel, each.started) for each in told]
    return [
        (log, started if looked is None or started is None else min(looked, started))
        for log, started in found
    ]


def _ruled_of_host(case: Case) -> tuple[KernelEvent, ...]:
    """The driver's lines in the host's log that another check rules: ``guest.gpu_errors`` on a bare machine,
    whose samplers follow the same log, else ``host.gpu_errors``."""
    watched = case.evidence.host_telemetry
    if case.mode.in_guests:
        return () if watched is None else _ruled(watched.kernel, watched.started)
    seen = [guest.telemetry for guest in case.evidence.guests if guest.telemetry is not None]
    return tuple(event for told in seen for event in _ruled(told.kernel, told.started))


def _fresh(before: tuple[str, ...], after: tuple[str, ...]) -> set[int]:
    """Numbers of the lines of ``after``, from 1, that ``before`` did not have."""
    known = Counter(before)
    fresh = set()
    for number, line in enumerate(after, 1):
        if known[line] > 0:
            known[line] -= 1
        else:
            fresh.add(number)
    return fresh


def _host_log(case: Case, _subject: Subject) -> CheckResult:
    first, last = host_facts(case), facts_after(case)
    if first.kernel_log is None or last.kernel_log is None:
        raise MissingEvidence("the host's kernel log could not be read")
    fresh = _fresh(first.kernel_log, last.kernel_log)
    # Read whole: what went wrong before the run may be why a driver complains during it.
    all_told = _told(last.kernel_log)
    told = [each for each in all_told if each.last in fresh]
    found = _beside(
        told,
        _followed_of_host(case, first.uptime_seconds),
        _ruled_of_host(case),
        before=[each for each in all_told if each.last not in fresh],
    )
    if found:
        accused = [each for each in found if not each.config] or found
        kinds = Counter(each.kind for each in accused)
        said = ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
        lines = tuple(seen(case, "kernel_log", each.line, after=True) for each in accused[:20])
        message = f"the host's kernel reported errors during the run: {said}; first: {accused[0].line[:200]}"
        if accused[0].config:
            return error(
                f"{message}: a wrong setting, which neither blames nor clears a GPU",
                "correct the setting that the line names, and run again",
                evidence=lines,
            )
        return failed(
            message,
            "read the lines around the first one; they name the device",
            accused[0].action,
            evidence=lines,
        )
    old = len(trouble(first.kernel_log))
    rest = f" ({old} such lines from before the run)" if old else ""
    message = f"no error in {len(fresh)} new lines{rest}"
    return ok(message, evidence=(seen(case, "kernel_log", message, after=True),))


def _same_boot(case: Case, _subject: Subject) -> CheckResult:
    first, last = host_facts(case).boot_id, facts_after(case).boot_id
    if first is None or last is None:
        raise MissingEvidence("the boot id could not be read before and after the guests")
    evidence = (seen(case, "boot_id", first), seen(case, "boot_id", last, after=True))
    if first != last:
        return failed(
            "the host rebooted during the run",
            "find out why: read the BMC's event log and the last lines of the serial console",
            Action.CONTACT_VENDOR,
            evidence=evidence,
        )
    return ok("the host did not reboot", evidence=evidence)


def _guest_said(evidence: GuestEvidence) -> list[Told]:
    """What a guest's kernel said at its end: by its log or, of one that died with it, what the serial console
    has of hardware. Of its own end, ``guest.alive`` judges."""
    if evidence.kernel_log is not None or evidence.death is None:
        return _told(evidence.kernel_log or ())
    return [told for told in _told(evidence.death.console) if told.event.family in _KINDS]


def _guest_log(case: Case, subject: Subject) -> CheckResult:
    evidence = guest(subject)
    log = evidence.telemetry.kernel if evidence.telemetry is not None else None
    said_last = [replace(each, event=each.event.on_host(evidence.cards)) for each in _guest_said(evidence)]
    found = _beside(said_last, [(log, None)], _ruled(log, None))
    # What a guest's kernel said before nobody could read it any more was said all the same.
    if evidence.kernel_log is None and not any(not each.config for each in found):
        raise MissingEvidence(f"the guest's kernel log was not read: {why_no_guest(case, evidence)}")
    if not found:
        return ok("the guest's kernel reported no error")
    accused = [each for each in found if not each.config] or found
    said = f"the guest's kernel reported {accused[0].kind}: {listing([e.line for e in accused], most=3)}"
    files = tuple(
        EvidenceRef(file="run.json", place=f"guests[{evidence.name}].kernel_log", quote=each.line[:400])
        for each in accused[:20]
    )
    if accused[0].config:
        # A driver too old for the card, a module that is not signed, too little memory: ours to mend, and the
        # card is neither accused nor cleared by what ran beside it.
        return error(
            f"{said}: caused by the guest's software",
            "use a guest image whose driver supports these GPUs, or provide what the line names",
            evidence=files,
        )
    return failed(
        said,
        "read the guest's kernel log around the first line, and the host's at the same time",
        accused[0].action,
        evidence=files,
    )


CHECKS = (
    Check(
        id="host.kernel_log",
        title="Did the host's kernel stay free of IOMMU faults, PCIe errors and machine checks?",
        why="A guest can finish its work while the host's kernel logs errors.",
        scope=Scope.HOST,
        phase=Phase.AFTERWARDS,
        judge=_host_log,
    ),
    Check(
        id="host.same_boot",
        title="Did the host run without a reboot?",
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
        needs=WITH_GUESTS,
        judge=_guest_log,
    ),
)
