"""The hooks of a session that has a candidate: its ledger, its run and its end."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.attach import attachment
from harness.errors import ConfigError, HarnessError, RecordError, why
from harness.model.record import RunRecord
from harness.plugin.answers import CARRIED, Answers
from harness.plugin.collection import (
    GROUP,
    asks,
    cells,
    in_order,
    ledger,
    nothing_planned,
    parametrize,
    params,
    wanted,
)
from harness.plugin.demand import Demand, demand, resumed
from harness.plugin.reporter import progress_of
from harness.progress import Progress
from harness.signals import Endings, ending_as_interrupt

_PYTESTS_OWN = (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR)


class Qualification:
    """One session, one run. Registered only where ``--candidate`` or ``--resume`` is given."""

    def __init__(self, config: pytest.Config, chosen: Demand) -> None:
        self._config = config
        self.demand = chosen
        self._cells = cells(chosen)
        self._made: list[pytest.Item] = []
        self._uncollected: list[pytest.CollectReport] = []
        self._signals: Endings = Endings()
        self._answers: Answers | None = None
        self._run: Any = None
        self.record: RunRecord | None = None
        self.problem: HarnessError | None = None
        """Why there is no record."""
        self.seconds = 0.0

    @classmethod
    def of(cls, config: pytest.Config) -> Qualification:
        """What the command line asks for. Raises pytest.UsageError."""
        names = _option(config, "candidate", [])
        if len(names) > 1:
            raise pytest.UsageError(f"--candidate: one session runs on one host, not on {len(names)}")
        _require_plain(config)
        path = _option(config, "resume", None)
        given = {name: _option(config, name, default) for name, default in _OPTIONS.items()}
        try:
            if path is not None:
                if names or any(given.values()):
                    raise pytest.UsageError(
                        "--resume: the record holds the run's options; give --resume alone"
                    )
                return cls(config, resumed(path))
            return cls(config, demand(host=names[0], **given))
        except HarnessError as error:
            raise pytest.UsageError(str(error)) from error

    @property
    def path(self) -> Path:
        """The run directory, once there is a run."""
        path: Path = self._run.path
        return path

    @property
    def run(self) -> Any:
        """The run, for its fixture."""
        return self._run

    # -- what is asked -------------------------------------------------------------------------------

    def parametrize(self, metafunc: pytest.Metafunc) -> None:
        """One test for each planned cell, guest, GPU or load."""
        parametrize(metafunc, self.demand, self._cells)

    @pytest.hookimpl(wrapper=True)
    def pytest_pycollect_makeitem(self) -> Generator[None, Any, Any]:
        """Every test that there is, before anybody picks some: by name, ``-k``, ``--lf`` or a plugin."""
        made = yield
        self._made += [
            each for each in (made if isinstance(made, list) else [made]) if isinstance(each, pytest.Item)
        ]
        return made

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be imported holds tests that nobody asks."""
        if report.failed:
            self._uncollected.append(report)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None, Any, None]:
        """The order of the run, whatever others made of it: a group of guests lives once."""
        yield
        items[:] = in_order([item for item in items if not nothing_planned(item)], self.demand.groups)
        if self._config.pluginmanager.has_plugin("timeout") or self._config.pluginmanager.has_plugin(
            "pytest_timeout"
        ):
            self._limit(items)

    def _limit(self, items: list[pytest.Item]) -> None:
        """A user's test that hangs must not keep the guests for ever; what a check waits for has its own
        deadlines, and no time limit of somebody's set-up may break it off."""
        for item in items:
            asked = asks(item)
            if asked is None:
                continue
            if not asked.own:
                item.add_marker(pytest.mark.timeout(0), append=False)
                continue
            mark = item.get_closest_marker("timeout")
            limit: dict[str, Any] = {
                "timeout": self.demand.profile.workload_deadline_seconds,
                "func_only": True,
            }
            if mark is not None:
                limit |= dict(zip(("timeout", "method", "func_only"), mark.args, strict=False))
                limit |= mark.kwargs
            # By a signal: the other way ends the whole process, with its guests up.
            item.add_marker(pytest.mark.timeout(**{**limit, "method": "signal"}), append=False)

    # -- the run -------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, Any, Any]:
        """Begin the run before the first test, and end it after the last, whatever happened in between."""
        if _option(session.config, "dry_run", False):
            session.items.clear()
            self._dry_run()
        if session.config.option.collectonly or _option(session.config, "dry_run", False):
            return (yield)
        with self._begun(session):
            return (yield)

    @contextmanager
    def _begun(self, session: pytest.Session) -> Iterator[None]:
        progress = progress_of(self._config)
        try:
            self._begin(session, progress)
        except ConfigError as error:
            raise pytest.UsageError(str(error)) from error
        except RecordError as error:
            self.problem = error
            pytest.exit(str(error), returncode=4)
        with ending_as_interrupt(progress) as self._signals:
            broke = True
            try:
                yield
                broke = False
            except (session.Failed, session.Interrupted):
                broke = False  # -x, --maxfail: whoever asked for it wanted an early end, not a broken one
                raise
            except Exception as error:
                self._internal_error(error)
                raise
            finally:
                interrupted = broke or bool(self._signals.came)
                self._signals.held = True
                self._end(interrupted=interrupted)
                progress.done()

    def _begin(self, session: pytest.Session, progress: Progress) -> None:
        from harness.plugin.begin import begin  # noqa: PLC0415  it loads what acts on hosts: not to collect
        from harness.plugin.run import Run  # noqa: PLC0415  as above

        context, waivers = begin(
            self.demand,
            runs=_option(self._config, "runs", Path("runs")),
            progress=progress,
            wait=_option(self._config, "wait", False),
        )
        context.recorder.ledger(ledger(session.items, self._made, self._cells))
        for report in self._uncollected:
            context.recorder.error(_uncollected(report))
        groups = [params(item).get(GROUP) for item in session.items]
        last = next((group for group in reversed(groups) if isinstance(group, str)), "")
        self._run = Run(context, self.demand, waivers, wanted=wanted(session.items, self.demand), last=last)
        self._answers = Answers(session.items, self._run.asked)

    def _end(self, *, interrupted: bool) -> None:
        run, answers = self._run, self._answers
        assert answers is not None  # noqa: S101  made with the run
        clock = run.context.clock
        try:
            run.settle(interrupted=interrupted)
            answers.flush()
            self.record = run.close(interrupted=interrupted)
            answers.correct(self.record, self._config)
        except HarnessError as error:
            self.problem = error
        finally:
            run.context.recorder.close()
            self.seconds = clock.monotonic() - run.begun

    def _internal_error(self, error: Exception) -> None:
        """A defect of pytest, of a plugin or of ours: it becomes evidence before the run ends."""
        from harness.stages.boundary import record_defect  # noqa: PLC0415  only defects need it

        record_defect(
            self._run.context.recorder,
            stage="session",
            kind="InternalError",
            message=f"the test session failed: {why(error)}",
            remedy="read the traceback; a plugin or a test may have removed pytest's own files",
        )

    def _dry_run(self) -> None:
        from harness.config.files import load_lab  # noqa: PLC0415  as above
        from harness.stages.dry_run import changes  # noqa: PLC0415

        progress = progress_of(self._config)
        asked = self.demand
        try:
            lines = changes(
                asked.host, asked.guests, progress, mode=attachment(asked.profile.attach), labs=load_lab
            )
        except HarnessError as error:
            self.problem = error
            return
        finally:
            progress.done()
        self.changes = lines

    changes: tuple[str, ...] = ()
    """What a run would change on the host, for ``--dry-run``."""

    # -- what tests say ------------------------------------------------------------------------------

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Every test's answer goes into the record."""
        if self._answers is not None:
            self._answers.heard(report)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """A record that refuses ends the session: a run must not go on blind. A user's test whose failure is
        advisory, or waived, is xfailed as a check of the suites is."""
        if call.excinfo is not None and isinstance(call.excinfo.value, RecordError):
            item.session.shouldstop = str(call.excinfo.value)
        report = yield
        asked = asks(item)
        if asked is not None and asked.own and report.when == "call" and report.failed:
            why = self._run.carried(asked.check, asked.slot)
            if why:
                report.outcome, report.wasxfail = "skipped", why
                setattr(report, CARRIED, True)
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """A test that forks and comes back in the child must not end the run a second time, and one that
        swallowed a signal must not keep the session from ending."""
        if self._signals.came:
            item.session.shouldstop = self._signals.came[0]
        here = os.getpid()
        try:
            return (yield)
        finally:
            if os.getpid() != here:
                os._exit(70)

    pytest_runtest_call = pytest_runtest_setup
    pytest_runtest_teardown = pytest_runtest_setup

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """The exit status is the verdict's; pytest's own usage errors stay its own."""
        if exitstatus in _PYTESTS_OWN and self.record is None:
            return
        if self.record is not None:
            others = self._answers is not None and self._answers.others_failed
            session.exitstatus = self.record.decision.verdict.exit_status or int(others)
        elif self.problem is not None:
            session.exitstatus = 4
        elif _option(self._config, "dry_run", False):
            session.exitstatus = 0

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The verdict, below pytest's own lines."""
        from harness.plugin.words import plain, verdict_words  # noqa: PLC0415  only a session that ran needs it

        if self.problem is not None:
            terminalreporter.section("no verdict")
            lines = [plain(line) for line in str(self.problem).split("\n")]
        elif self.record is not None:
            terminalreporter.section("verdict")
            lines = verdict_words(self.record, self.path, self.seconds)
        else:
            lines = [plain(line) for line in self.changes]
        for line in lines:
            terminalreporter.write_line(line)


_OPTIONS: dict[str, Any] = {"profile": "", "attach": "", "gpus": "", "compare": None}


def _option(config: pytest.Config, name: str, default: Any) -> Any:
    """An option of ours; its default where they were not added (``@file`` on the command line)."""
    found = config.getoption(name, default)
    return default if found is None else found


def _require_plain(config: pytest.Config) -> None:
    """Raises UsageError for options under which tests do not run, or do not show what they say."""
    if str(config.getoption("numprocesses", None) or "0") != "0" or config.getoption("dist", "no") != "no":
        raise pytest.UsageError("-n: one candidate's guests cannot be shared between processes")
    for option in ("setuponly", "setupplan", "runxfail"):
        if config.getoption(option, False):
            raise pytest.UsageError(
                f"--{option}: not available with a candidate: every test runs and shows its result"
            )


def _uncollected(report: pytest.CollectReport) -> Any:
    from harness.model.evidence import StageError  # noqa: PLC0415  only a broken file needs it

    return StageError(
        stage="collect",
        kind="CollectError",
        message=f"{report.nodeid} could not be collected: {str(report.longrepr).strip().splitlines()[-1]}",
        remedy="fix that file: its tests did not run",
    )
