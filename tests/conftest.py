"""What every test run says at its end: what it left out, and how to run that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import settings

# Time limits for single examples say more about a shared machine than about the code.
settings.register_profile("shakedown", deadline=None)
settings.load_profile("shakedown")

LEFT_OUT = pytest.StashKey[Counter[str]]()
HOW_TO_RUN = {
    "lab": "./shakedown test -e full        boots the emulated host; the smoke part: -e lab",
    "rehearsal": "./shakedown test -e lab         every load on this machine, without a VM",
    "fuzz": "./shakedown test -e fuzz        ten minutes of changed captures",
    "slow": "./shakedown test -e full        more than ten seconds each",
    "hardware": "pytest -m hardware              on a machine with a GPU host to spare",
}
"""Marker to the command that runs it, by the first that a test carries."""


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Count what a marker expression left out."""
    for item in items:
        counts = item.config.stash.setdefault(LEFT_OUT, Counter())
        counts[next((name for name in HOW_TO_RUN if item.get_closest_marker(name)), "other")] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """One line for each kind of test that did not run: a green run says what it does not cover."""
    counts = config.stash.get(LEFT_OUT, Counter())
    if not counts:
        return
    terminalreporter.section("left out of this run")
    for name, number in counts.items():
        how = HOW_TO_RUN.get(name, "chosen by -k or -m on the command line")
        terminalreporter.write_line(f"{number:5d} {name:9s} {how}")
