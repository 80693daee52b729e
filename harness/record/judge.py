"""Judge a run from its own directory: fold the events, run the checks, decide; write ``run.json`` once.

``finish`` ends a run and ``rejudge`` decides a recorded one again. Both go the same way, and both take the
evidence from disk: what was not recorded does not count. Altered, missing or contradicting evidence is
named and never gives GO.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

from harness.errors import HarnessError, RecordError
from harness.model.evidence import Evidence, Note
from harness.model.inventory import HostFile, Profile
from harness.model.outcome import CheckResult, CoverageCell, Decision, Severity, Verdict
from harness.model.record import SCHEMA_VERSION, CheckTitle, RunRecord
from harness.record import times
from harness.record.assemble import run_inputs
from harness.record.attempts import History, closed
from harness.record.directory import EVENTS, RECORD, RunDirectory, is_run_id
from harness.record.events import Event, EventFile, read_events
from harness.record.files import sha256_bytes, write_whole
from harness.record.kinds import Kind
from harness.record.notes import changed_by, read_notes, taken_notes, told_late, with_note
from harness.record.recorder import Recorder
from harness.regular import MOST_RECORD, read_regular, sha256_of
from harness.serial import from_json, to_json
from harness.verdict.decide import decide

Checker = Callable[[Evidence, Profile, HostFile], tuple[tuple[CheckResult, ...], tuple[CoverageCell, ...]]]
"""Judges evidence: all results, and the cells that the profile plans whatever ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A recorded run, decided again."""

    record: RunRecord
    """Fresh: results and decision of this very judgement."""
    recorded: RunRecord | None
    """As found in ``run.json``; None when there is none."""
    problems: tuple[str, ...]
    """Evidence or record that is altered, missing or contradicting; any of them rules out GO."""
    notes: tuple[str, ...]
    """What is odd but decides nothing: files that no event knows."""

    @property
    def agrees(self) -> bool:
        """Whether the verdict and every outcome are those recorded."""
        if self.recorded is None or self.problems:
            return False
        return not _differences(self.recorded, self.record)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trust:
    """What the files of the run directory say about themselves."""

    files: dict[str, str]
    problems: tuple[str, ...]
    total: int
    unfinished: bool
    """True for a recorded run that was never closed."""


def finish(
    recorder: Recorder, *, checker: Checker | None = None, titles: tuple[CheckTitle, ...] | None = None
) -> RunRecord:
    """Decide the run from what is on disk, write ``run.json``, close the events; returns the record.

    Raises RecordError when the events cannot be read back or the record cannot be written.
    """
    directory = recorder.directory
    unread = recorder.absorb_notes()
    log = read_events(directory.events)
    files = recorded_files(log.events)
    problems = (*log.problems, *_foreign(directory, log), *file_problems(directory, files), *unread)
    total = recorder.log.total + 2  # `record` and `end` are still to come
    trust = _Trust(files=files, problems=problems, total=total, unfinished=False)
    record = _record(log, trust, checker, titles)
    data = _bytes(record)
    write_whole(directory.record, data)
    recorder.log.append(
        Kind.RECORD,
        {"file": RECORD, "sha256": sha256_bytes(data), "verdict": record.decision.verdict.value},
    )
    recorder.log.end()
    return record


def rejudge(
    directory: RunDirectory,
    *,
    checker: Checker | None = None,
    titles: tuple[CheckTitle, ...] | None = None,
) -> Judgement:
    """Decide a recorded run again, with the run's own end as now. Reads only.

    Raises RecordError when the events cannot be understood at all.
    """
    log = read_events(directory.events)
    files = recorded_files(log.events)
    recorded, problems = read_recorded(directory, log)
    left = read_notes(directory, taken_notes(log.events))
    damaged = (*log.problems, *_foreign(directory, log), *file_problems(directory, files))
    problems = (*damaged, *problems, *left.problems)
    unfinished = not any(event.kind == Kind.END for event in log.events)
    trust = _Trust(files=files, problems=problems, total=len(log.events), unfinished=unfinished)
    fresh = _record(log, trust, checker, titles)
    differing = _contradictions(recorded, fresh) if recorded and not problems else ()
    if left.notes:
        # What was told too late for the events is no contradiction between them and the record.
        trust = replace(trust, files=files | {found.file: found.sha256 for found in left.notes})
        fresh = _record(log, trust, checker, titles, late=tuple(found.note for found in left.notes))
    if differing:
        fresh = replace(fresh, decision=_distrust(fresh.decision, differing))
    elif recorded and not problems:
        changed = changed_by(left.notes, recorded.decision.verdict, fresh.decision.verdict)
        fresh = replace(fresh, decision=_with_reasons(fresh.decision, changed))
    _bytes(fresh)  # what could not be recorded is not reported either
    return Judgement(
        record=fresh,
        recorded=recorded,
        problems=(*problems, *differing),
        notes=(*told_late(left.notes), *_strangers(directory, files)),
    )


def recorded_files(events: tuple[Event, ...]) -> dict[str, str]:
    """Evidence file to ``sha256:<hex>``, as the events say."""
    files: dict[str, str] = {}
    for event in events:
        if event.kind in (Kind.FILE, Kind.NOTE):
            name, digest = event.data.get("file"), event.data.get("sha256")
            if not isinstance(name, str) or not isinstance(digest, str):
                raise RecordError(f"event {event.seq} ({event.kind}) does not name a file and its hash")
            files[name] = digest
    return files


def read_recorded(directory: RunDirectory, log: EventFile) -> tuple[RunRecord | None, tuple[str, ...]]:
    """``run.json`` and what is wrong with it (its hash is in the events). A killed run may have none."""
    closing = next((e for e in reversed(log.events) if e.kind == Kind.RECORD), None)
    try:
        data = read_regular(directory.record, MOST_RECORD)
    except FileNotFoundError:
        missing = f"{RECORD} is missing, though the events say it was written"
        return None, (missing,) if closing or log.ended else ()
    except OSError as error:
        return None, (f"{RECORD} could not be read: {error.strerror or error}",)
    problems = []
    if closing is None:
        problems.append(f"{RECORD} exists, but no event says that it was written")
    elif closing.data.get("sha256") != sha256_bytes(data):
        problems.append(f"{RECORD} differs from its recorded hash: it was altered")
    try:
        record = from_json(RunRecord, data, source=RECORD)
    except HarnessError as error:
        return None, (*problems, f"{RECORD} is damaged: {error.message}")
    if record.schema_version != SCHEMA_VERSION:
        problems.append(f"{RECORD} has schema version {record.schema_version}, not {SCHEMA_VERSION}")
    return record, tuple(problems)


def _record(
    log: EventFile,
    trust: _Trust,
    checker: Checker | None,
    titles: tuple[CheckTitle, ...] | None,
    *,
    late: tuple[Note, ...] = (),
) -> RunRecord:
    history = History.of(log.events)
    inputs = history.inputs
    evidence = functools.reduce(with_note, late, closed(history, torn=log.torn > 0))
    results, planned = (checker or _registered_checker())(evidence, inputs.profile, inputs.host)
    decision = decide(
        results,
        planned,
        inputs.waivers,
        subject_kind=inputs.host.subject,
        now=history.latest,
        errors=evidence.errors,
        interrupted=evidence.interrupted or trust.unfinished,
        required=[check for check, severity in inputs.profile.checks.items() if severity is Severity.BLOCKER],
    )
    return RunRecord(
        shakedown_version=inputs.shakedown_version,
        run=inputs.run,
        host=inputs.host,
        profile=inputs.profile,
        waivers=inputs.waivers,
        evidence=evidence,
        results=results,
        titles=_registered_titles() if titles is None else titles,
        decision=_distrust(decision, trust.problems) if trust.problems else decision,
        expires_at=_expiry(history.ended_at, inputs.profile.valid_days),
        files=trust.files,
        events=trust.total,
        command=inputs.command,
        versions=inputs.versions,
    )


def _bytes(record: RunRecord) -> bytes:
    """``run.json``. Raises RecordError where sums of what the events say are beyond all measure."""
    try:
        return (to_json(record) + "\n").encode("ascii")
    except ValueError as error:
        raise RecordError(f"the events do not make a valid record: {str(error)[:200]}") from error


def _distrust(decision: Decision, problems: tuple[str, ...]) -> Decision:
    """A decision on evidence that cannot be trusted: it says nothing, in either direction."""
    reasons = tuple(f"the record cannot be trusted: {problem}" for problem in problems)
    return _with_reasons(replace(decision, verdict=Verdict.INCONCLUSIVE), reasons)


def _with_reasons(decision: Decision, first: tuple[str, ...]) -> Decision:
    return replace(decision, reasons=(*first, *decision.reasons))


def file_problems(directory: RunDirectory, files: dict[str, str]) -> tuple[str, ...]:
    """What of the recorded evidence is missing, unreadable or not what its hash says."""
    problems = []
    for name, digest in files.items():
        try:
            actual = sha256_of(directory.file(name))
        except FileNotFoundError:
            problems.append(f"evidence file {name} is missing")
        except OSError as error:
            problems.append(f"evidence file {name} could not be read: {error.strerror or error}")
        except RecordError as error:
            problems.append(f"evidence file {name} could not be read: {error.message}")
        else:
            if actual != digest:
                problems.append(f"evidence file {name} differs from its recorded hash: it was altered")
    return tuple(problems)


_REPEATED = {
    "schema_version": "schema version",
    "shakedown_version": "version of Shakedown",
    "run": "run",
    "host": "host",
    "profile": "profile",
    "waivers": "waivers",
    "evidence": "evidence",
    "expires_at": "validity",
    "files": "list of evidence files",
    "events": "number of events",
    "command": "command line",
    "versions": "versions of the controller's software",
}
"""What ``run.json`` repeats of the events, for readers that have it alone. Its results, titles and decision
are judgement: compared by what they say, since another version words them anew."""


def _contradictions(recorded: RunRecord, fresh: RunRecord) -> tuple[str, ...]:
    """Where this judgement and the recorded one differ: what is wrong with the record, if anything."""
    repeated = tuple(
        f"the {words} in {RECORD} does not match {EVENTS}"
        for field, words in _REPEATED.items()
        if getattr(recorded, field) != getattr(fresh, field)
    )
    return (*_differences(recorded, fresh), *repeated)


def _foreign(directory: RunDirectory, log: EventFile) -> tuple[str, ...]:
    """Whether the events are those of another run than the directory is named after. A name that somebody
    gave it (``archive/monday``) says nothing."""
    named, found = directory.path.name, run_inputs(log.events).run
    if named == found or not is_run_id(named):
        return ()
    return (f"the directory is named after run {named}, but its events are from run {found}",)


def _differences(recorded: RunRecord, fresh: RunRecord) -> tuple[str, ...]:
    """Where two judgements differ in an outcome or the verdict."""
    before, after = _outcomes(recorded), _outcomes(fresh)
    lines = []
    for key in dict.fromkeys((*before, *after)):
        old, new = before.get(key, "not planned"), after.get(key, "not planned")
        if old != new:
            lines.append(f"{key[0]} on {key[1]} was recorded as {old}, judged again it is {new}")
    if recorded.decision.verdict is not fresh.decision.verdict:
        lines.append(
            f"the recorded verdict is {recorded.decision.verdict.value}, "
            f"judged again it is {fresh.decision.verdict.value}"
        )
    return tuple(lines)


def _outcomes(record: RunRecord) -> dict[tuple[str, str], str]:
    cells = {}
    for cell in record.decision.coverage:
        outcome = cell.outcome.value if cell.outcome else "missing"
        waived = f", waived by {cell.waived_by}" if cell.waived_by else ""
        cells[cell.check, cell.subject] = f"{outcome} ({cell.severity.value}{waived})"
    return cells


def _strangers(directory: RunDirectory, files: dict[str, str]) -> tuple[str, ...]:
    """Evidence files on disk that no event knows (left by a killed write, or put there by someone)."""
    found = (
        path.relative_to(directory.path).as_posix()
        for folder in ("transcripts", "domain")
        for path in sorted((directory.path / folder).glob("**/*"))
        if path.is_file()
    )
    return tuple(
        f"{name} is in the run directory, but no event mentions it" for name in found if name not in files
    )


def _expiry(ended_at: str, days: int) -> str:
    """The end of the verdict, ``days`` after the run's end; the run's end itself if that is unreadable."""
    last = times.plus(times.moment_of(ended_at), days * 86400.0)
    return ended_at if last is None else times.written(last)


def _registered_checker() -> Checker:
    from harness.checks.registry import run_checks  # noqa: PLC0415  the registry imports every check

    return run_checks


def _registered_titles() -> tuple[CheckTitle, ...]:
    from harness.checks.registry import CHECKS  # noqa: PLC0415  as above

    return tuple(CheckTitle(check=check.id, title=check.title, why=check.why) for check in CHECKS)
