"""Pytest plugin: a test session that is given ``--candidate NAME`` is one run and ends in one verdict.

This module is what every pytest of its environment loads, so it imports pytest alone; without ``--candidate``
it adds one option, some markers and fixtures that skip. All else comes from ``harness.plugin.session``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.plugin import fixtures

PHASES = {
    "readiness": "checks of the host before any guest",
    "placement": "checks of running guests: are they placed as planned?",
    "burnin": "checks of guests after their loads",
    "release": "checks of guests after their release",
    "afterwards": "checks of the host after all guests",
}
"""Marks of the suites (``harness.checks.base.Phase``; a test compares the two)."""

_GROUP = "Shakedown: qualify a candidate host"
_STARTERS = ("--candidate", "--resume")


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """The option that makes a session a run; the others appear with it, so that they are in nobody's way."""
    # As a plugin of their own: modules of this package have the names of fixtures.
    pluginmanager.register(fixtures, fixtures.__name__)
    parser.getgroup("shakedown", _GROUP).addoption(
        "--candidate",
        metavar="NAME",
        action="append",
        help="qualify this host: a file of inventory/hosts, or its path. More options appear with it: "
        "pytest --candidate lab --help",
    )


def pytest_load_initial_conftests(parser: pytest.Parser, args: list[str]) -> None:
    """Options of a run, only where one is asked for: names like ``--profile`` are other plugins' too."""
    if not any(each.partition("=")[0] in _STARTERS for each in args):
        return
    add = parser.getgroup("shakedown", _GROUP).addoption
    add("--profile", metavar="NAME", default="", help="what to require (default: smoke, or bare)")
    add("--attach", metavar="MODE", default="", help="vfio: GPUs passed through to guests. bare: bare metal")
    add(
        "--gpus",
        metavar="N,N+N",
        default="",
        help="guests by number of GPUs, e.g. 1,2+2,4; + runs guests at the same time",
    )
    add("--compare", metavar="RUN", type=Path, help="a bare-metal run: guests must reach its performance")
    add("--runs", metavar="DIR", type=Path, default=Path("runs"), help="directory for run directories")
    add("--wait", action="store_true", help="wait for GPUs that another run uses")
    add("--resume", metavar="RUN", type=Path, help="continue a killed run: its directory")
    add("--dry-run", action="store_true", help="list what would be changed on the host; change nothing")


def pytest_configure(config: pytest.Config) -> None:
    """Markers, and the run's own hooks where there is a candidate. A wrong name or file is a usage error."""
    for name, meaning in PHASES.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    if not (config.getoption("candidate", None) or config.getoption("resume", None)):
        return
    # A warning of a library, in a project that calls warnings errors, must not break a stage.
    config.addinivalue_line("filterwarnings", "default")
    from harness.plugin.session import Qualification  # noqa: PLC0415  ordinary sessions must not pay for it

    config.pluginmanager.register(Qualification.of(config), "shakedown-qualification")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Without a candidate a test of guests is one test, which skips."""
    session: Any = metafunc.config.pluginmanager.get_plugin("shakedown-qualification")
    if session is not None:
        session.parametrize(metafunc)
