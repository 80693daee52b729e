"""One run, as fixtures drive it: each stage is entered once, by whoever needs it first, and always left."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.checks import engine
from harness.checks.engine import Planned
from harness.checks.registry import CHECKS
from harness.cleanups import Cleanups
from harness.errors import HostEnded, RecordError
from harness.model.evidence import Asked, Evidence, GuestEvidence, StageError
from harness.model.inventory import HostFile, Profile, Waiver
from harness.model.outcome import CheckResult, CoverageCell, Outcome, Severity
from harness.model.record import RunRecord
from harness.plugin.cell import Cell
from harness.plugin.demand import Demand
from harness.plugin.words import broken_words, plain_lines
from harness.ports import Transport
from harness.record.judge import finish
from harness.record.live import Live
from harness.stages.attached import Attached
from harness.stages.boundary import contained
from harness.stages.claimed_host import ClaimedHost
from harness.stages.context import RunContext
from harness.stages.guest.group import guest_group, guest_site
from harness.stages.guest.life import GuestSite
from harness.stages.host.candidate import claimed_host
from harness.stages.host.discovery import discover
from harness.stages.host.watch import watched_host
from harness.stages.machine import BareMachine
from harness.verdict import decide
from harness.verdict.colour import Colour, carried_by, colour
from reports import render_all
from reports.parts.text import clean

_CHECKS = {check.id: check for check in CHECKS}


class Run:
    """What the fixture ``run`` gives: one candidate host from first contact to verdict.

    ``wanted`` are the loads that this session asks about, by guest; ``last`` is the last group that it needs.
    """

    def __init__(
        self,
        context: RunContext,
        demand: Demand,
        waivers: tuple[Waiver, ...],
        *,
        wanted: Mapping[str, tuple[str, ...]],
        last: str,
    ) -> None:
        self.context = context
        self.demand = demand
        self.waivers = waivers
        self._wanted = wanted
        self._last = last
        self.begun = context.clock.monotonic()
        self._live = Live(context.recorder.directory.events)
        self._stack = Cleanups()
        self._watch = Cleanups()
        self._reached = False
        self._host: ClaimedHost | None = None
        self._prepared = False
        self._site: GuestSite | None = None
        self._groups: dict[str, Attached | None] = {}
        self._burnt: set[str] = set()
        self._settled = False
        self._told: dict[StageError, str] = {}

    # -- what anybody may read -----------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The run's key."""
        return self.context.run

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.context.recorder.path

    @property
    def host(self) -> HostFile:
        """The candidate's inventory file."""
        return self.context.host

    @property
    def profile(self) -> Profile:
        """What is demanded."""
        return self.context.profile

    @property
    def evidence(self) -> Evidence:
        """All that was written down so far, read back from disk."""
        return self._live.evidence()

    def guest_evidence(self, name: str) -> GuestEvidence:
        """What is known of one guest."""
        return next(guest for guest in self.evidence.guests if guest.name == name)

    # -- stages --------------------------------------------------------------------------------------

    def reach(self) -> ClaimedHost | None:
        """The host, claimed and watched; None where that broke, which is recorded."""
        if not self._reached:
            self._reached = True
            with contained(self.context.recorder, "host"):
                self._host = self._stack.enter_context(claimed_host(self.context))
                self._watch.enter_context(watched_host(self._host))
        return self._host

    def provision(self, group: str) -> None:
        """Bring a group of guests up, once; the group before it is given back first."""
        if group in self._groups or group in self.demand.done:
            return
        self._release_open()
        attached = self._attach(group)
        self._groups[group] = attached
        if attached is not None:
            with contained(self.context.recorder, "provision", subject=group):
                attached.provision()

    def burn(self, group: str) -> None:
        """Run the loads that this session asks about in the guests of a group, once."""
        attached = self._groups.get(group)
        if attached is None or group in self._burnt:
            return
        self._burnt.add(group)
        with contained(self.context.recorder, "burn", subject=group):
            attached.burn(self._wanted)

    def release(self, group: str, *, orderly: bool = True) -> None:
        """Give a group back; safe to call twice."""
        attached = self._groups.get(group)
        if attached is not None:
            with contained(self.context.recorder, "release", subject=group):
                attached.release(orderly=orderly)

    def connection(self, group: str, guest: str) -> Transport | None:
        """Into a guest that is up; None otherwise."""
        attached = self._groups.get(group)
        return None if attached is None or attached.broken(guest) else attached.connection(guest)

    def settle(self, *, interrupted: bool = False) -> None:
        """Give everything back, look at the host again, and let go of it. Once; each part is tried."""
        if self._settled:
            return
        self._settled = True
        recorder = self.context.recorder
        # A record that refuses (a full disk) keeps nothing on the host: each part is tried for itself.
        with Cleanups() as parts:
            parts.push(self._let_go)
            with self._watch:
                self._release_open(orderly=not interrupted)
            if self._host is not None and not interrupted:
                with contained(recorder, "discover"):
                    discover(self.context, self._host.access, after=True)
        recorder.absorb_notes()  # what a person did until now is asked about next

    def _let_go(self, *_error: object) -> None:
        with contained(self.context.recorder, "release"):
            self._stack.close()

    def close(self, *, interrupted: bool) -> RunRecord:
        """End the run: decide it from what is on disk, and write its reports. Raises RecordError."""
        self.settle(interrupted=interrupted)
        self.context.recorder.run_ended(interrupted=interrupted)
        self.context.progress.stage("judge")
        record = finish(self.context.recorder)
        self.context.progress.stage("report")
        try:
            render_all(self.path, record)
        except RecordError as error:  # the record itself is whole: `shakedown report` can try again
            self.context.progress(error.message)
        return record

    def _release_open(self, *, orderly: bool = True) -> None:
        for group in self._groups:
            self.release(group, orderly=orderly)

    def _attach(self, group: str) -> Attached | None:
        host = self.reach()
        if host is None:
            return None
        demands = self.demand.of_group(group)
        if not self.context.mode.in_guests:
            return BareMachine(host, demands[0])
        if not self._prepared:
            self._prepared = True
            with contained(self.context.recorder, "readiness"):
                self._site = self._stack.enter_context(guest_site(host))
        if self._site is None:
            return None
        return guest_group(host, self._site, demands, last=group == self._last)

    # -- questions -----------------------------------------------------------------------------------

    def cell(self, planned: Planned, request: pytest.FixtureRequest) -> Cell:
        """What a check says now of the subject in a slot, and the colour of the test that asks."""
        self.reach()
        result, said = engine.ask(
            _CHECKS[planned.check], planned.slot, self.evidence, self.profile, self.host
        )
        if said is None:
            pytest.skip(f"not applicable: {planned.workload or planned.slot} is not run on this GPU model")
        cell = self._with_waivers(result, said)
        request.node.user_properties.extend(
            [("check", cell.check), ("subject", clean(cell.subject)), ("severity", said.severity.value)]
        )
        shown = colour(cell.coverage)
        if shown is Colour.ERROR:
            pytest.fail(self._missing_words(cell, planned.guest), pytrace=False)
        if shown is Colour.XFAILED:
            reason = f"{carried_by(cell.coverage, self.waivers)}: {cell.words.splitlines()[0]}"
            request.applymarker(pytest.mark.xfail(reason=clean(reason, 500), strict=False))
        return cell

    def carried(self, check: str, slot: str) -> str:
        """What carries a failure of a test of a user: an advisory profile, or a waiver; or empty."""
        severity = self.profile.checks.get(check, Severity.BLOCKER)
        failed = CheckResult(check=check, subject=slot, outcome=Outcome.FAIL, message="the test failed")
        cell = CoverageCell(check=check, subject=slot, slot=slot, severity=severity, outcome=None)
        shown = self._with_waivers(failed, cell).coverage
        return carried_by(shown, self.waivers) if colour(shown) is Colour.XFAILED else ""

    def asked(self, answers: list[Asked]) -> None:
        """Write down what tests said."""
        if answers:
            self.context.recorder.asked(answers)

    def _with_waivers(self, result: CheckResult | None, cell: CoverageCell) -> Cell:
        decision = decide(
            () if result is None else (result,),
            (cell,),
            self.waivers,
            subject_kind=self.host.subject,
            now=self.context.clock.now(),
        )
        return Cell(coverage=decision.coverage[0], result=result)

    def _missing_words(self, cell: Cell, guest: str) -> str:
        """Why nothing can be said."""
        cause = self._cause(cell, guest)
        if cause is None:
            return plain_lines(cell.words)
        return f"{plain_lines(cell.words)}\n{self._tell(cause)}"

    def _tell(self, error: StageError) -> str:
        """What broke is told once, whole; what else misses it only names it."""
        test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
        first = self._told.setdefault(error, test)
        if first == test:
            return "\n".join(broken_words(error))
        return plain_lines(f"  {error.stage} failed for {error.subject or 'the host'}, see {first}")

    def _cause(self, cell: Cell, guest: str) -> StageError | None:
        """The recorded error that explains a missing cell: one that it names, one of its guest or group, or
        what kept the host or all guests from being had."""
        if cell.outcome is not None:
            return None
        errors = self.evidence.errors
        known = next((g for g in self.evidence.guests if g.name == guest), None)
        names = {known.name, known.group} - {""} if known is not None else set()
        lost = self._host is None or (bool(guest) and self._prepared and self._site is None)
        return next(
            (
                error
                for error in errors
                if error.message in cell.coverage.reason
                or error.subject in names
                or error.kind == HostEnded.__name__
                or (lost and not error.subject)
            ),
            None,
        )

    def why_not(self, guest: str) -> str:
        """Why the host (``""``) or a guest is not to be had."""
        known = next((g for g in self.evidence.guests if g.name == guest), None)
        if known is not None and known.no_plan is not None:
            return plain_lines("; ".join(f"{r.code}: {r.message}" for r in known.no_plan.reasons))
        names = {guest, known.group if known is not None else "", ""}
        error = next((error for error in self.evidence.errors if error.subject in names), None)
        if error is not None:
            return f"{guest or 'the host'} is not available\n{self._tell(error)}"
        if known is not None and known.release is not None:
            return f"{guest} was already released"
        return f"{guest or 'the host'} is not available, and no reason was recorded"
