"""What people tell a run: each note is evidence, once, and what is no whole note is never passed over."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.checks.registry import run_checks
from harness.commands import judge, report
from harness.errors import ConfigError
from harness.model.evidence import Evidence, Note
from harness.model.inventory import HostFile, Profile
from harness.model.outcome import CheckResult, CoverageCell, Severity, Verdict
from harness.record.attempts import assemble
from harness.record.directory import RunDirectory
from harness.record.events import read_events
from harness.record.judge import finish, rejudge
from harness.record.notes import MOST_NOTES, fault_of, leave_note, read_notes
from harness.record.recorder import Recorder
from tests.reports import records as example

AT = "2026-03-10T12:00:05.250Z"
SAW = Note(at=AT, by="Ada Example", text="fan 3 is loud")
TOUCHED = Note(at=AT, by="Bob", text="restarted libvirtd", intervention=True)
SAID = "Bob at 2026-03-10T12:00:05.250Z: restarted libvirtd"
CHECK = "run.no_interventions"


def checker(
    evidence: Evidence, profile: Profile, host: HostFile
) -> tuple[tuple[CheckResult, ...], tuple[CoverageCell, ...]]:
    """The example's judges, and the real one of interventions."""
    results, planned = example.checker(evidence, profile, host)
    asked = replace(profile, checks={CHECK: Severity.BLOCKER})
    mine, cells = run_checks(evidence, asked, host)
    return (*results, *mine), (*planned, *cells)


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    """A run whose stages are over, not yet judged, that would be GO."""
    opened = example.begin(tmp_path, example.HARDWARE)
    example.play(opened, example.HARDWARE)
    yield opened
    opened.log.close()


@pytest.fixture
def ended(recorder: Recorder) -> RunDirectory:
    done = finish(recorder, checker=checker, titles=example.TITLES)
    assert done.decision.verdict is Verdict.GO
    return recorder.directory


def again(directory: RunDirectory):
    return rejudge(directory, checker=checker, titles=example.TITLES)


def kinds(directory: RunDirectory) -> list[str]:
    return [event.kind for event in read_events(directory.events).events]


# -- a run that lives --------------------------------------------------------------------------------


def test_a_living_run_takes_each_note_into_its_events_once(recorder: Recorder) -> None:
    first = leave_note(recorder.directory, SAW)
    assert recorder.absorb_notes() == ()
    leave_note(recorder.directory, TOUCHED)
    assert recorder.absorb_notes() == recorder.absorb_notes() == ()
    found = [e for e in read_events(recorder.directory.events).events if e.kind == "note"]
    assert [e.data["note"]["by"] for e in found] == ["Ada Example", "Bob"]
    assert found[0].data["file"] == first
    assert found[0].data["sha256"].startswith("sha256:")
    evidence = assemble(read_events(recorder.directory.events).events)
    assert (evidence.notes, evidence.interventions) == ((SAW,), (SAID,))


def test_an_intervention_makes_the_verdict_no_go_and_a_plain_note_does_not(tmp_path: Path) -> None:
    for note, verdict in ((SAW, Verdict.GO), (TOUCHED, Verdict.NO_GO)):
        opened = example.begin(tmp_path / verdict.value, example.HARDWARE)
        example.play(opened, example.HARDWARE)
        file = leave_note(opened.directory, note)
        record = finish(opened, checker=checker, titles=example.TITLES)
        assert record.decision.verdict is verdict
        assert file in record.files
        judgement = again(opened.directory)
        assert judgement.agrees
        assert judgement.notes == ()


def test_a_resumed_run_takes_what_was_left_while_it_was_dead_and_nothing_twice(recorder: Recorder) -> None:
    leave_note(recorder.directory, SAW)
    recorder.absorb_notes()
    recorder.log.close()
    leave_note(recorder.directory, TOUCHED)
    resumed = Recorder.resume(recorder.path, example.TickingClock())
    resumed.run_ended()
    record = finish(resumed, checker=checker, titles=example.TITLES)
    assert kinds(recorder.directory).count("note") == 2
    assert (record.evidence.notes, record.evidence.interventions) == ((SAW,), (SAID,))
    assert record.decision.verdict is Verdict.NO_GO


def test_a_note_whose_event_was_written_twice_counts_once(recorder: Recorder) -> None:
    """An interrupt may fall between the event and its being counted."""
    leave_note(recorder.directory, TOUCHED)
    leave_note(recorder.directory, SAW)
    recorder.absorb_notes()
    recorder._taken = set()
    recorder.absorb_notes()
    evidence = assemble(read_events(recorder.directory.events).events)
    assert kinds(recorder.directory).count("note") == 4
    assert (evidence.notes, evidence.interventions) == ((SAW,), (SAID,))


# -- a run that is over ------------------------------------------------------------------------------


def test_an_intervention_admitted_after_the_end_turns_go_into_no_go_and_says_so(ended: RunDirectory) -> None:
    before = {p.name: p.read_bytes() for p in ended.path.iterdir() if p.is_file()}
    file = leave_note(ended, TOUCHED)
    judgement = again(ended)
    decision = judgement.record.decision
    assert decision.verdict is Verdict.NO_GO
    assert (
        decision.reasons[0] == f"the verdict changed from GO to NO_GO because of a note added at {AT} by Bob"
    )
    assert decision.reasons[1] == f"{CHECK} on host failed: 1 manual interventions: {SAID}"
    assert judgement.problems == ()
    assert not judgement.agrees
    assert judgement.notes == (f"{file} was added after the last event, an intervention by {SAID}",)
    assert judgement.record.evidence.interventions == (SAID,)
    assert file in judgement.record.files
    assert {p.name: p.read_bytes() for p in ended.path.iterdir() if p.is_file()} == before


def test_several_late_interventions_are_counted_in_the_reason(ended: RunDirectory) -> None:
    leave_note(ended, TOUCHED)
    leave_note(ended, replace(TOUCHED, text="and qemu"))
    assert (
        again(ended)
        .record.decision.reasons[0]
        .endswith(f"because of a note added at {AT} by Bob, and 1 more")
    )


def test_a_plain_note_after_the_end_is_shown_and_changes_nothing(ended: RunDirectory) -> None:
    leave_note(ended, SAW)
    judgement = again(ended)
    assert judgement.agrees
    assert judgement.record.evidence.notes == (SAW,)
    assert judgement.record.decision.verdict is Verdict.GO
    assert "by Ada Example" in judgement.notes[0]


def test_a_late_note_hides_no_contradiction(ended: RunDirectory) -> None:
    """Checks that answer differently now are a problem of the record, with a late note as without."""
    leave_note(ended, TOUCHED)

    def fewer(evidence, profile, host):
        results, planned = checker(evidence, profile, host)
        return results, tuple(c for c in planned if c.check != "gpu.link")

    judgement = rejudge(ended, checker=fewer, titles=example.TITLES)
    assert judgement.record.decision.verdict is Verdict.INCONCLUSIVE
    assert any("gpu.link" in problem for problem in judgement.problems)
    assert not any(CHECK in problem for problem in judgement.problems)


def test_a_killed_run_is_judged_with_the_notes_that_were_left_in_it(recorder: Recorder) -> None:
    recorder.log.close()
    assert again(recorder.directory).record.decision.verdict is Verdict.INCONCLUSIVE
    leave_note(recorder.directory, TOUCHED)
    leave_note(recorder.directory, SAW)
    judgement = again(recorder.directory)
    assert judgement.record.decision.verdict is Verdict.NO_GO
    assert judgement.record.evidence.notes == (SAW,)
    assert judgement.problems == ()


def test_judge_as_a_command_tells_of_the_late_note(ended: RunDirectory, capsys) -> None:
    leave_note(ended, TOUCHED)
    assert judge.run(run_dir=ended.path, json_output=False, checker=checker) == 1
    out = capsys.readouterr().out
    assert out.startswith("NO_GO  gpu-host-07  (recorded: GO; DIFFERS)\n")
    assert f"because of a note added at {AT} by Bob" in out


# -- what is no note ---------------------------------------------------------------------------------


def whole(**changes: object) -> bytes:
    return json.dumps({"at": AT, "by": "Ada", "text": "x", "intervention": False} | changes).encode()


NAME = "20260310T120005Z-0123456789abcdef.json"
WRONG: dict[str, Callable[[Path], object]] = {
    "nothing in it": lambda p: p.write_bytes(b""),
    "no JSON": lambda p: p.write_bytes(b"\x00\xff{"),
    "a list": lambda p: p.write_bytes(b"[1]"),
    "a field too few": lambda p: p.write_bytes(b'{"at":"2026-03-10T12:00:00Z"}'),
    "a field too many": lambda p: p.write_bytes(whole(more=1)),
    "a key twice": lambda p: p.write_bytes(whole()[:-1] + b',"intervention":true}'),
    "a flag of text": lambda p: p.write_bytes(whole(intervention="false")),
    "a flag of a number": lambda p: p.write_bytes(whole(intervention=0)),
    "no text": lambda p: p.write_bytes(whole(text=" ")),
    "no name": lambda p: p.write_bytes(whole(by="")),
    "no moment": lambda p: p.write_bytes(whole(at="yesterday")),
    "a local moment": lambda p: p.write_bytes(whole(at="2026-03-10T12:00:00+02:00")),
    "controls": lambda p: p.write_bytes(whole(text="a\x1b[31mb")),
    "a line break": lambda p: p.write_bytes(whole(text="a\u2028b")),
    "half a pair": lambda p: p.write_bytes(whole(text="\ud800")),
    "a long text": lambda p: p.write_bytes(whole(text="x" * 4001)),
    "a long name": lambda p: p.write_bytes(whole(by="x" * 101)),
    "depth": lambda p: p.write_bytes(b"[" * 60_000),
    "size": lambda p: p.write_bytes(b" " * (64 << 10) + whole()),
    "a folder": lambda p: p.mkdir(),
    "a pipe": os.mkfifo,
    "a link to a note": lambda p: (p.parent.parent / "n").write_bytes(whole()) and p.symlink_to("../n"),
    "a link to nothing": lambda p: p.symlink_to("none"),
    "a link to a device": lambda p: p.symlink_to("/dev/zero"),
    "another name": lambda p: p.with_name("note.json").write_bytes(whole()),
    "a name that is no text": lambda p: Path(os.fsdecode(bytes(p.parent) + b"/\xff\n.json")).write_bytes(
        b"{}"
    ),
}


@pytest.mark.parametrize("spoil", WRONG.values(), ids=WRONG)
def test_what_is_no_note_makes_the_record_inconclusive_and_nothing_else(recorder, spoil) -> None:
    leave_note(recorder.directory, SAW)
    spoil(recorder.path / "notes" / NAME)
    assert len(recorder.absorb_notes()) == 1
    record = finish(recorder, checker=checker, titles=example.TITLES)
    assert record.decision.verdict is Verdict.INCONCLUSIVE
    assert record.decision.reasons[0].startswith("the record cannot be trusted: notes/")
    assert record.evidence.notes == (SAW,)
    assert again(recorder.directory).record.decision.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("spoil", WRONG.values(), ids=WRONG)
def test_what_is_no_note_spoils_a_run_that_has_ended_too(ended, spoil) -> None:
    (ended.path / "notes").mkdir()
    spoil(ended.path / "notes" / NAME)
    judgement = again(ended)
    assert judgement.record.decision.verdict is Verdict.INCONCLUSIVE
    assert len(judgement.problems) == 1


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_folder_of_notes_that_is_none_is_a_problem(ended: RunDirectory, tmp_path: Path, kind: str) -> None:
    folder = ended.path / "notes"
    folder.write_text("") if kind == "file" else folder.symlink_to(tmp_path)
    assert again(ended).problems[0].startswith("notes could not be read")
    with pytest.raises(ConfigError):
        leave_note(ended, SAW)


def test_more_notes_than_a_run_takes_are_refused_and_a_problem(recorder: Recorder) -> None:
    folder = recorder.path / "notes"
    folder.mkdir()
    for number in range(MOST_NOTES):
        (folder / f"20260310T120005Z-{number:016x}.json").write_bytes(whole(text=str(number)))
    with pytest.raises(ConfigError, match="already has 1000 notes"):
        leave_note(recorder.directory, SAW)
    (folder / "20260310T120006Z-0123456789abcdef.json").write_bytes(whole())
    assert recorder.absorb_notes() == ("notes holds more than 1000 files: the rest was not read",)
    record = finish(recorder, checker=checker, titles=example.TITLES)
    assert len(record.evidence.notes) == MOST_NOTES
    assert record.decision.verdict is Verdict.INCONCLUSIVE


def test_a_note_that_is_being_written_is_not_read_yet(recorder: Recorder) -> None:
    leave_note(recorder.directory, SAW)
    (recorder.path / "notes" / ".writing-abc").write_bytes(b'{"at')
    assert recorder.absorb_notes() == ()


def to_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def to_link(path: Path) -> None:
    path.rename(path.parent.parent / "moved")
    path.symlink_to("../moved")


SPOILT: dict[str, Callable[[Path], object]] = {
    "removed": lambda p: p.unlink(),
    "altered": lambda p: p.write_bytes(p.read_bytes().replace(b"restarted", b"looked at")),
    "made harmless": lambda p: p.write_bytes(p.read_bytes().replace(b"true", b"false")),
    "emptied": lambda p: p.write_bytes(b""),
    "made a pipe": to_pipe,
    "made a link": to_link,
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_note_that_was_taken_and_is_altered_or_gone_is_a_problem(recorder, spoil) -> None:
    file = leave_note(recorder.directory, TOUCHED)
    finish(recorder, checker=checker, titles=example.TITLES)
    spoil(recorder.path / file)
    judgement = again(recorder.directory)
    assert judgement.record.decision.verdict is Verdict.INCONCLUSIVE
    assert file in judgement.problems[0]
    assert judgement.record.evidence.interventions == (SAID,)


@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_note_or_a_problem(tmp_path_factory, data: bytes) -> None:
    directory = RunDirectory(tmp_path_factory.mktemp("run"))
    (directory.path / "notes").mkdir()
    (directory.path / "notes" / NAME).write_bytes(data)
    left = read_notes(directory)
    assert len(left.notes) + len(left.problems) == 1


@given(
    by=st.text(min_size=1, max_size=100), text=st.text(min_size=1, max_size=4000), intervention=st.booleans()
)
def test_what_can_be_noted_comes_back_as_it_was_said(tmp_path_factory, by, text, intervention) -> None:
    directory = RunDirectory(tmp_path_factory.mktemp("run"))
    note = Note(at=AT, by=by, text=text, intervention=intervention)
    try:
        leave_note(directory, note)
    except ConfigError:
        assert fault_of(note)
        return
    left = read_notes(directory)
    assert left.problems == ()
    assert [found.note for found in left.notes] == [note]


# -- reports -----------------------------------------------------------------------------------------


def test_a_report_of_a_run_with_a_late_note_is_of_the_run_judged_again(tmp_path, capsys) -> None:
    """By the real checks, which find nothing to contradict in a run that they judged."""
    recorder = example.begin(tmp_path, example.HARDWARE)
    example.play(recorder, example.HARDWARE)
    assert finish(recorder).decision.verdict is not Verdict.GO
    leave_note(recorder.directory, replace(TOUCHED, text="pulled <b>card</b> 3"))
    assert report.run(runs=(recorder.path,), formats=("md",), output=tmp_path) == 0
    text = (tmp_path / "report.md").read_text()
    assert "manual interventions: Bob at" in text
    assert r"pulled \<b\>card\</b\> 3" in text
    assert "an intervention" in capsys.readouterr().err


def test_a_report_of_a_run_with_a_spoilt_note_is_inconclusive(ended, tmp_path, capsys) -> None:
    (ended.path / "notes").mkdir()
    (ended.path / "notes" / NAME).write_bytes(b"")
    report.run(runs=(ended.path,), formats=("md",), output=tmp_path)
    assert (tmp_path / "report.md").read_text().startswith("# INCONCLUSIVE: gpu-host-07")
    assert "is not a note" in capsys.readouterr().err
