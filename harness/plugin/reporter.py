"""How a session speaks: pytest's own lines with the run's progress between them, or progress alone."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, TextIO, cast

import pytest

from harness.plugin.fixtures import PLUGIN
from harness.progress import Progress

if TYPE_CHECKING:
    from harness.plugin.session import Qualification


NAME = "shakedown-quiet"


class Quiet:
    """A plugin for sessions behind a command of their own: pytest's lines are kept, and shown only when asked
    for. ``progress`` is where the run says what it does."""

    def __init__(self, progress: Progress) -> None:
        self.__name__ = NAME  # by which pytest knows a plugin that is no module
        self.progress = progress
        self.qualification: Qualification | None = None
        self.kept = io.StringIO()
        """What pytest said, for the day on which it is needed."""

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Take the place of the terminal reporter, unless somebody asked for its words (``-v``)."""
        from _pytest.terminal import TerminalReporter  # noqa: PLC0415  as pytest-sugar does; not exported whole

        self.qualification = config.pluginmanager.get_plugin(PLUGIN)
        standing = config.pluginmanager.get_plugin("terminalreporter")
        if standing is None or config.option.verbose > 0 or config.option.collectonly:
            return
        config.pluginmanager.unregister(standing)
        config.pluginmanager.register(TerminalReporter(config, self.kept), "terminalreporter")


def progress_of(config: pytest.Config) -> Progress:
    """Where the run says what it does: the command's own progress, or lines between pytest's."""
    quiet: Any = config.pluginmanager.get_plugin(NAME)
    if quiet is not None:
        return cast("Progress", quiet.progress)
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    return Progress(cast("TextIO", _Lines(reporter))) if reporter is not None else Progress(io.StringIO())


class _Lines:
    """A stream for ``Progress`` that writes whole lines where pytest writes its own, captured or not."""

    def __init__(self, reporter: Any) -> None:
        self._reporter = reporter

    def isatty(self) -> bool:
        return False

    def write(self, text: str) -> int:
        if self._reporter.verbosity >= 0:
            self._reporter.write_line(text.rstrip("\n"))
        return len(text)

    def flush(self) -> None:
        """Each line is written at once."""
