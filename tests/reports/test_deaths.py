"""A guest that died: every report names what ended it and shows its console's last lines."""

from __future__ import annotations

import html
from dataclasses import replace
from pathlib import Path

import pytest

from harness.checks.guest.death import RULES
from harness.faults.deaths import FAULTS
from harness.model.death import DeathKind
from harness.model.evidence import StageError
from harness.model.outcome import Verdict
from harness.model.record import RunRecord
from harness.record.judge import finish
from harness.stages.boundary import stage_error
from harness.stages.guest.pulse import died
from reports import renderer
from tests.faults import clean
from tests.record.replay import begin, replay


def recorded(root: Path, kind: DeathKind) -> RunRecord:
    """The run of a guest that died so in its burn: no word of it came afterwards."""
    fault = next(each for each in FAULTS if each.id == f"guest-died-{kind.value.replace('_', '-')}")
    evidence = fault.corrupt(clean.evidence())
    first, *rest = evidence.guests
    assert first.death is not None
    error: StageError = stage_error(died(first.name, first.death), "burn", first.name)
    lost = replace(first, results=(), kernel_log=None)
    evidence = replace(evidence, guests=(lost, *rest), errors=(error,))
    recorder = begin(root, evidence, profile=clean.profile(), host=clean.HOST)
    replay(recorder, evidence)
    return finish(recorder)


@pytest.mark.parametrize("kind", [DeathKind.PANIC_DRIVER, DeathKind.PROVOKED, DeathKind.QEMU_KILLED])
def test_reports_name_what_ended_a_guest(tmp_path: Path, kind: DeathKind) -> None:
    record = recorded(tmp_path, kind)
    accused = RULES[kind].accuses
    assert record.decision.verdict is (Verdict.NO_GO if accused else Verdict.INCONCLUSIVE)
    death = record.evidence.guests[0].death
    assert death is not None
    for name in ("html", "md", "junit"):
        text = html.unescape(renderer(name).render(record)).replace("\\", "")
        assert f"guest {record.evidence.guests[0].name} died" in text, name
        for word in (death.why, *death.console, *death.host):
            assert word in text, (name, word)
