"""What the GPU driver said in the kernel logs, followed from before the first load and ruled by its codes.

The division: these checks judge the GPU driver's lines (codes, a GPU fallen off the bus) that a follower
read, by the table of rulings. ``host.kernel_log`` and ``guest.kernel_log`` judge every other line of trouble,
and the driver's as well that nobody followed, since then no ruling exists.
"""

from __future__ import annotations

from harness.attach import attachment
from harness.checks.answers import error, failed, guest, host_facts, listing, ok, why_no_guest
from harness.checks.base import WITH_GUESTS, Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.model.outcome import Action, CheckResult, EvidenceRef, Outcome
from harness.model.telemetry import GPU_FAMILIES, Family, KernelEvent, KernelLog, Ruling

FAILING: dict[Ruling, tuple[str, Action]] = {
    Ruling.STOP: ("replace the card: this error does not go away by a reset", Action.REPLACE_GPU),
    Ruling.RETEST: (
        "reset the GPU and run the whole stage again; replace the card if it happens again",
        Action.RETEST,
    ),
    Ruling.CONFIG: (
        "correct the setting that the line names; this is not a GPU fault",
        Action.FIX_CONFIG,
    ),
    Ruling.UNKNOWN: (
        "the meaning of this line is unknown: ask the vendor, and add it to inventory/kernel",
        Action.CONTACT_VENDOR,
    ),
}
"""Rulings that fail, the most serious first, with what to do when the table names no action of its own."""
_STOPPING: dict[Action, str] = {
    Action.RESEAT: "reseat the card and its power cables, and run the stage again; if it happens again, "
    "replace the card",
    Action.CONTACT_VENDOR: "stop using the card and ask the vendor, with this line and the record",
    Action.RESET_GPU: "reset the GPU and run the whole stage again; replace the card if it happens again",
}
"""What to do about a line that stops a card, where the table's own action is gentler than replacing it."""
COMPANION_SECONDS = 60.0
"""How far from a line that only follows another the other may be. Drivers write them together; a reset that
is tried in between takes some tens of seconds."""


def driver_events(log: KernelLog, since: float | None) -> tuple[KernelEvent, ...]:
    """The GPU driver's lines of a followed log; those from before ``since`` are another run's matter."""
    return tuple(
        event
        for event in log.events
        if event.family in GPU_FAMILIES and (since is None or event.at is None or event.at >= since)
    )


def judge_log(
    log: KernelLog,
    first: float | None,
    last: float | None,
    since: float | None = None,
    *,
    silent: bool = False,
) -> CheckResult:
    """Events by their ruling; the log must have been followed from ``first`` to ``last`` without a loss.

    ``silent``: a log without a single line will do. No kernel's own is: it tells of its boot, and a /dev/kmsg
    that holds nothing is another file (containers have such). What failed stays failed however badly the log
    was followed; nothing passes on half a log.
    """
    events = driver_events(log, since)
    for ruling, (remedy, action) in FAILING.items():
        found = [event for event in events if event.ruling is ruling]
        if found:
            return _fail(log, found, _tied(found, events), remedy, action)
    holes = _holes(log, first, last)
    if not (log.lines or silent or holes):
        holes = ["no line of it arrived, although every kernel log has some"]
    if holes:
        return error(
            f"the kernel log was not read completely: {'; '.join(holes)}",
            "find out why it could not be read (permission for /dev/kmsg, a log that overflowed) and run "
            "again",
            evidence=_refs(log, events),
        )
    lone = [event for event in events if event.ruling is Ruling.LINK and _companion(event, events) is None]
    if lone:
        return error(
            f"{_words(lone[0])}: this line is only the consequence of another, which was not seen",
            "run again; if it appears alone again, send the whole log to the vendor",
            evidence=_refs(log, lone),
        )
    return _clean(log, events)


def _clean(log: KernelLog, events: tuple[KernelEvent, ...]) -> CheckResult:
    notes = [_words(event) for event in events if event.ruling is Ruling.NOTE]
    for event in events:
        companion = _companion(event, events) if event.ruling is Ruling.LINK else None
        if companion is not None:
            notes.append(f"{_words(event)} follows {_words(companion)}")
    rest = f"; noted: {listing(notes, most=3)}" if notes else ""
    return ok(
        f"{log.lines} lines of {log.source} read; the GPU driver reported no fault{rest}",
        evidence=_refs(log, events),
    )


def _tied(found: list[KernelEvent], events: tuple[KernelEvent, ...]) -> list[KernelEvent]:
    """Lines that say nothing by themselves and follow one of those found."""
    return [e for e in events if e.ruling is Ruling.LINK and _companion(e, events) in found]


def _fail(
    log: KernelLog, found: list[KernelEvent], tied: list[KernelEvent], remedy: str, action: Action
) -> CheckResult:
    first = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    also = f"; with it: {listing([_words(event) for event in tied], most=3)}" if tied else ""
    return failed(
        f"{_words(first)}{more}, ruled {first.ruling.value}{also}: {first.line[:200]}",
        _STOPPING.get(first.action, remedy) if first.ruling is Ruling.STOP else remedy,
        first.action if first.action is not Action.NONE else action,
        evidence=_refs(log, [*found, *tied]),
    )


def _holes(log: KernelLog, first: float | None, last: float | None) -> list[str]:
    why = f" ({log.detail})" if log.detail else ""
    if log.followed_from is None or log.followed_to is None:
        return [f"it was not read{why}"]
    holes = []
    if first is not None and log.followed_from > first:
        holes.append(f"it was read from {log.followed_from:.1f} s, the first load began at {first:.1f} s")
    if last is not None and log.followed_to < last:
        holes.append(f"it was read to {log.followed_to:.1f} s, the last load ended at {last:.1f} s{why}")
    if log.dropped:
        holes.append(f"{log.dropped} lines of it were lost before they were read")
    return holes


def _companion(event: KernelEvent, events: tuple[KernelEvent, ...]) -> KernelEvent | None:
    """What a line that only follows another comes with: on the same device, at about the same time."""
    for other in events:
        if other.ruling is Ruling.LINK or (event.place and other.place and other.place != event.place):
            continue
        near = event.at is None or other.at is None or abs(event.at - other.at) <= COMPANION_SECONDS
        if near:
            return other
    return None


def _words(event: KernelEvent) -> str:
    code = "" if event.code is None else f" {event.code}"
    sub = "" if event.subcode is None else f".{event.subcode}"
    place = f" on {event.place}" if event.place else ""
    mig = f" instance {event.instance}" if event.instance else ""
    meaning = f" ({event.meaning[:120]})" if event.meaning else ""
    name = "GPU off the bus" if event.family is Family.BUS else event.family.value.upper().replace("_", " ")
    return f"{name}{code}{sub}{place}{mig}{meaning}"


def _refs(log: KernelLog, events: tuple[KernelEvent, ...] | list[KernelEvent]) -> tuple[EvidenceRef, ...]:
    return tuple(
        EvidenceRef(
            file="run.json",
            place=f"kernel log of {log.source}" + (f" at {event.at:.3f} s" if event.at is not None else ""),
            quote=event.line[:400],
        )
        for event in events[:20]
    ) or (EvidenceRef(file="run.json", place=f"kernel log of {log.source}"),)


def _guest(case: Case, subject: Subject) -> CheckResult:
    evidence = guest(subject)
    telemetry = evidence.telemetry
    if telemetry is None or telemetry.kernel is None:
        why = why_no_guest(case, evidence) if telemetry is None else telemetry.detail
        raise MissingEvidence(f"the kernel log of {evidence.name} was not read: {why}")
    first = min((load.start for load in telemetry.loads), default=telemetry.started)
    last = max((load.end for load in telemetry.loads), default=telemetry.ended)
    # A guest is born with the run; a bare machine's log also holds what happened before it.
    since = None if attachment(evidence.attach).in_guests else telemetry.started
    # A bare machine's stand-in writes into a file of its own, which may stay empty.
    said = judge_log(telemetry.kernel, first, last, since, silent=bool(telemetry.standin))
    if said.outcome is not Outcome.FAIL and not telemetry.loads:  # a fault is one without a load, too
        raise MissingEvidence("no load was recorded, so there is no evidence under load")
    return said


def _host(case: Case, _subject: Subject) -> CheckResult:
    host_facts(case)
    telemetry = case.evidence.host_telemetry
    if telemetry is None or telemetry.kernel is None:
        why = f": {telemetry.detail}" if telemetry is not None and telemetry.detail else ""
        raise MissingEvidence(f"the host's kernel log was not read while loads ran{why}")
    said = judge_log(telemetry.kernel, telemetry.started, telemetry.ended, telemetry.started)
    if said.outcome is Outcome.PASS and not telemetry.closed:  # whose end the follower's own is measured by
        raise MissingEvidence("reading the host's kernel log stopped before the end")
    return said


CHECKS = (
    Check(
        id="host.gpu_errors",
        title="Did the host's GPU and fabric drivers report no fault while loads ran?",
        why="The fabric's switches belong to the host: no guest's log shows their faults.",
        scope=Scope.HOST,
        phase=Phase.AFTERWARDS,
        needs=WITH_GUESTS,
        judge=_host,
    ),
    Check(
        id="guest.gpu_errors",
        title="Did the GPU driver that the loads used report no fault?",
        why="A GPU's driver reports failures as codes, and each code needs its own action.",
        scope=Scope.GUEST,
        phase=Phase.BURNIN,
        judge=_guest,
    ),
)
