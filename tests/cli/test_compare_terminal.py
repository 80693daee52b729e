"""``compare``, ``judge`` and ``report`` of a record full of control characters: none reaches the terminal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.commands import compare, judge, report
from harness.record.judge import finish
from harness.shown import UNSAFE
from tests.faults import clean
from tests.record.replay import begin, replay

WICKED = "g\x1b[2J\u202e\x9b31m"


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """A run with guests and a bare one, whose errors and notes say what they should not."""
    found = []
    for name, attach in (("a", "vfio"), ("b", "bare")):
        whole = clean.evidence()
        guests = tuple(replace(guest, attach=attach) for guest in whole.guests)
        evidence = replace(
            whole, run=f"20260310T120000Z-00000{name}", guests=guests, interventions=("touched",)
        )
        profile = replace(clean.profile(), attach=attach, description=WICKED)
        host = replace(clean.HOST, description=WICKED)
        recorder = begin(tmp_path, evidence, profile=profile, host=host)
        recorder.log.append("error", {"error": error()})
        replay(recorder, evidence)
        finish(recorder)
        found.append(recorder.path)
    return found[0], found[1]


def error() -> dict[str, str]:
    return dict.fromkeys(("stage", "kind", "message", "remedy", "host", "subject", "transcript"), WICKED)


def test_nothing_of_it_is_sent(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    compare.run(run_dir=runs[0], bare=runs[1], json_output=False)
    compare.run(run_dir=runs[0], bare=runs[1], json_output=True)
    judge.run(run_dir=runs[0], json_output=False)
    judge.run(run_dir=runs[0], json_output=True)
    report.run(runs=runs, formats=("md",))
    said = capsys.readouterr()
    assert len(said.out) > 200
    for line in (*said.out.splitlines(), *said.err.splitlines()):
        assert UNSAFE.search(line) is None, line
    assert "\\x1b[2J" in said.out
