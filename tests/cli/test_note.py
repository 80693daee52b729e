"""``shakedown note`` as a person calls it, while the run is open in another process and when it is over."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.model.evidence import Evidence
from harness.model.outcome import Outcome, Verdict
from harness.record.judge import finish
from harness.record.recorder import Recorder
from tests.cli.commands import Said, shakedown
from tests.faults import clean
from tests.record.replay import begin, replay


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Recorder]:
    """A run of a host on which everything is well, open and not yet judged."""
    recorder = begin(tmp_path / "runs", clean.evidence(), profile=clean.profile(), host=clean.HOST)
    replay(recorder, clean.evidence())
    yield recorder
    recorder.log.close()


def note(recorder: Recorder, *arguments: str, cwd: Path) -> Said:
    return shakedown("note", str(recorder.path), *arguments, cwd=cwd)


def test_without_a_note_the_run_is_go(run: Recorder) -> None:
    assert finish(run).decision.verdict is Verdict.GO


def test_an_intervention_noted_on_an_open_run_makes_it_no_go(run: Recorder, tmp_path: Path) -> None:
    said = note(run, "--by", "Ada Example", "--intervention", "restarted libvirtd", cwd=tmp_path)
    assert (said.status, said.err) == (0, "")
    record = finish(run)
    assert record.decision.verdict is Verdict.NO_GO
    failed = {cell.check for cell in record.decision.coverage if cell.outcome is Outcome.FAIL}
    assert failed == {"run.no_interventions"}
    assert "Ada Example at " in record.decision.reasons[0]
    assert "restarted libvirtd" in record.decision.reasons[0]


def test_a_plain_note_on_an_open_run_is_recorded_and_it_stays_go(run: Recorder, tmp_path: Path) -> None:
    said = note(run, "--by", "Ada", "--json", " <b>fan</b> 3 är laut ", cwd=tmp_path)
    told = json.loads(said.out)
    assert said.status == 0
    assert told["run"] == str(run.path)
    assert (told["by"], told["text"], told["intervention"]) == ("Ada", "<b>fan</b> 3 är laut", False)
    assert (run.path / told["file"]).is_file()
    record = finish(run)
    assert record.decision.verdict is Verdict.GO
    evidence: Evidence = record.evidence
    assert [(n.at, n.by, n.text) for n in evidence.notes] == [(told["at"], "Ada", told["text"])]


def test_an_intervention_noted_after_the_end_fails_the_run_when_it_is_judged_again(run, tmp_path) -> None:
    assert finish(run).decision.verdict is Verdict.GO
    assert shakedown("judge", str(run.path), cwd=tmp_path).status == 0
    assert note(run, "--by", "Ada", "--intervention", "reseated card 3", cwd=tmp_path).status == 0
    said = shakedown("judge", str(run.path), "--json", cwd=tmp_path)
    told = json.loads(said.out)
    assert said.status == 1
    assert (told["verdict"], told["recorded_verdict"], told["agrees"]) == ("NO_GO", "GO", False)
    assert told["problems"] == []
    assert "because of a note added at" in told["reasons"][0]
    assert "by Ada" in told["reasons"][0]
    assert shakedown("report", str(run.path), "--format", "html,md,junit", cwd=tmp_path).status == 0
    for name in ("report.html", "report.md", "junit.xml"):
        text = (run.path / name).read_text()
        assert "reseated card 3" in text
        assert "because of a note added at" in text or name == "report.md"
    assert (run.path / "report.md").read_text().startswith("# NO GO: clean")


BAD = {
    "an empty text": (("--by", "Ada", "  "), "its text is empty"),
    "an empty name": (("--by", "", "x"), "its name is empty"),
    "a long text": (("--by", "Ada", "x" * 4001), "4000 are allowed"),
    "a long name": (("--by", "A" * 101, "x"), "100 are allowed"),
    "a line break": (("--by", "Ada", "a\nb"), "control characters"),
    "an escape": (("--by", "A\x1b[31mda", "x"), "control characters"),
    "bytes that are no text": (("--by", "Ada", os.fsdecode(b"\xff")), "control characters"),
    "nobody": (("x",), "Missing option '--by'"),
    "no text": (("--by", "Ada"), "Missing argument"),
}


@pytest.mark.parametrize(("arguments", "words"), BAD.values(), ids=BAD)
def test_what_cannot_be_noted_exits_2_and_leaves_nothing(run, tmp_path, arguments, words) -> None:
    said = note(run, *arguments, cwd=tmp_path)
    assert words in said.err
    assert "Traceback" not in said.err
    assert (said.status, said.out) == (2, "")
    assert not (run.path / "notes").exists()


def test_a_directory_that_is_no_run_exits_2(tmp_path: Path) -> None:
    said = shakedown("note", ".", "--by", "Ada", "x", cwd=tmp_path)
    assert said.status == 2
    assert "not a run directory" in said.err
    assert list(tmp_path.glob("notes")) == []


def test_a_run_directory_that_cannot_be_written_exits_2(run: Recorder, tmp_path: Path) -> None:
    (run.path / "notes").write_text("in the way, for root as well")
    said = note(run, "--by", "Ada", "x", cwd=tmp_path)
    assert said.status == 2
    assert "the note could not be written" in said.err
    assert "remedy" in said.err
