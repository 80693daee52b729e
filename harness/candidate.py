"""A candidate host as the suites see it: what was asked of it, what the checks say, and the verdict.

One of the composition roots (with ``cli`` and ``pytest_plugin``): it joins stages, record and verdict for a
run of a single phase, ``pytest suites --candidate NAME``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from harness.backends.clock import SystemClock
from harness.checks import run_checks
from harness.config import load_host, load_lab, load_profile, load_skus, load_waivers
from harness.errors import HarnessError
from harness.facts import collect
from harness.model.evidence import Evidence, StageError, SystemAnswer
from harness.model.inventory import HostFile, Profile, Waiver
from harness.model.outcome import CheckResult, CoverageCell, Decision, Verdict
from harness.model.record import RunRecord
from harness.ports import Transport
from harness.record.assemble import assemble
from harness.record.events import read_events
from harness.record.judge import finish
from harness.record.recorder import Recorder
from harness.stages.readiness import ask_system
from harness.verdict import decide

Connect = Callable[[HostFile, Recorder, ExitStack], Transport]
"""Reaches a host: its commands are recorded, and what it opens is closed with the stack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a check says of one subject, waivers considered."""

    cell: CoverageCell
    result: CheckResult | None

    @property
    def words(self) -> str:
        """Subject, message and remedy in one text."""
        message = self.result.message if self.result is not None else self.cell.reason
        remedy = f"\n  remedy: {self.result.remedy}" if self.result is not None and self.result.remedy else ""
        return f"{self.cell.subject}: {message}{remedy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One candidate host during one phase. Opened with ``open_candidate``; ``close`` gives the verdict."""

    host: HostFile
    profile: Profile
    waivers: tuple[Waiver, ...]
    recorder: Recorder
    transport: Transport | None
    """None when the host could not be reached; the evidence says why."""
    _stack: ExitStack = field(repr=False)

    @property
    def evidence(self) -> Evidence:
        """All that the run has written down so far."""
        log = read_events(self.recorder.directory.events)
        return assemble(log.events)

    def answer(self, question: str) -> SystemAnswer:
        """The answer to one of ``harness.checks.services.QUESTIONS``; ``ok`` None when it was not asked."""
        found = next((a for a in self.evidence.system if a.question == question), None)
        return found or SystemAnswer(question=question, ok=None, detail="not asked")

    def said(self, check: str) -> tuple[Said, ...]:
        """What a check says of each of its subjects on the evidence so far."""
        results, decision = self._judge(self.evidence)
        by_subject = {r.subject: r for r in results if r.check == check}
        cells = (cell for cell in decision.coverage if cell.check == check)
        return tuple(Said(cell=cell, result=by_subject.get(cell.subject)) for cell in cells)

    def _judge(self, evidence: Evidence) -> tuple[tuple[CheckResult, ...], Decision]:
        results, cells = run_checks(evidence, self.profile, self.host)
        now = SystemClock().now()
        kind = self.host.subject
        return results, decide(results, cells, self.waivers, subject_kind=kind, now=now)

    def close(self, *, interrupted: bool = False) -> RunRecord:
        """End the run, decide it from what is on disk, and let go of the host. Raises RecordError."""
        with self._stack:
            self.recorder.run_ended(interrupted=interrupted)
            return finish(self.recorder)

    def abandon(self) -> None:
        """Let go of the host without a verdict; safe after ``close``."""
        self._stack.close()


def open_candidate(host: str, profile: str, *, runs: Path, connect: Connect | None = None) -> Candidate:
    """Begin a run, reach the host, and ask it for facts and the readiness questions.

    A host that cannot be reached or understood is written down as an error of the run, not raised. Raises
    ConfigError for inventory that is wrong, and RecordError when ``runs`` cannot be written to.
    """
    host_file, demanded = load_host(host), load_profile(profile)
    waivers = load_waivers(host_file.waivers)
    stack = ExitStack()
    recorder = Recorder.begin(
        runs,
        host=host_file,
        profile=demanded,
        waivers=waivers,
        skus=load_skus(),
        clock=SystemClock(),
        command=("pytest", "suites"),
    )
    stack.callback(recorder.close)
    transport: Transport | None = None
    try:
        with recorder.stage("discover"):
            transport = (connect or connect_host)(host_file, recorder, stack)
            facts, _raw = collect(transport, work_dir=host_file.work_dir)
            recorder.facts(facts)
        with recorder.stage("readiness"):
            recorder.system(ask_system(transport))
    except HarnessError as error:
        recorder.error(_as_data(error, host_file.name))
    except BaseException:
        stack.close()
        raise
    return Candidate(
        host=host_file,
        profile=demanded,
        waivers=waivers,
        recorder=recorder,
        transport=transport,
        _stack=stack,
    )


def connect_host(host: HostFile, recorder: Recorder, stack: ExitStack) -> Transport:
    """Reach the host as its file says, through its HostControl. Raises TransportError or LabError."""
    from harness.stages.access import open_transport  # noqa: PLC0415  SSH and the lab are needed only here

    access = open_transport(host, lambda _line: None, recorder=recorder, labs=load_lab)
    return stack.enter_context(access)


def _as_data(error: HarnessError, host: str) -> StageError:
    return StageError(
        stage=error.stage or "discover",
        kind=type(error).__name__,
        message=error.message,
        remedy=error.remedy,
        host=error.host or host,
        transcript=error.transcript,
    )


def summary(record: RunRecord, path: Path) -> tuple[str, ...]:
    """The verdict, its reasons and where the record lies, as lines for a terminal."""
    decision = record.decision
    shown = [f"  {reason}" for reason in decision.reasons[:20]]
    rest = len(decision.reasons) - len(shown)
    more = [f"  and {rest} more reasons"] if rest > 0 else []
    return (f"{record.host.name}: {decision.verdict.value}", *shown, *more, f"record: {path}")


def exit_status(verdict: Verdict, *, tests_failed: bool) -> int:
    """Exit status of a session: the verdict's (0, 1 or 3), or 1 where a test beyond the checks failed."""
    return verdict.exit_status or int(tests_failed)
