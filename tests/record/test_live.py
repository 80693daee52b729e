"""A run that still goes on reads back what it wrote, each event once, and nothing that is not on disk."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.errors import RecordError
from harness.model.evidence import Asked, LedgerRow
from harness.model.outcome import Outcome, Verdict
from harness.record.attempts import assemble
from harness.record.events import read_events
from harness.record.judge import finish, rejudge
from harness.record.live import Live
from harness.record.recorder import Recorder
from tests.reports import records as example

ROW = LedgerRow(check="gpu.link", slot="gpu1", test="suites/x.py::test_x[gpu1-gpu.link]")
OUT = LedgerRow(check="user.test_own", slot="host", test="own/test_own.py::test_own", deselected=True)
SAID = Asked(check="gpu.link", slot="gpu1", outcome=Outcome.FAIL, message="\x1b[31mx8, \udcff not x16")
MISSED = Asked(check="gpu.link", slot="gpu1", outcome=None, not_applicable=True)


@pytest.fixture
def recorder(tmp_path):
    opened = example.begin(tmp_path, example.WITH_WAIVERS)
    yield opened
    opened.close()


def on_disk(recorder: Recorder):
    return replace(assemble(read_events(recorder.directory.events).events), interrupted=False)


def test_at_every_moment_it_says_what_the_disk_says(recorder) -> None:
    live = Live(recorder.directory.events)
    assert [guest.name for guest in live.evidence().guests] == ["g1", "g4"]
    steps = [
        lambda: recorder.ledger((ROW, OUT)),
        lambda: recorder.facts(example.host_facts(example.LAB), file="transcripts/x.txt"),
        lambda: recorder.guest_started("g1"),
        lambda: recorder.asked((SAID,)),
        lambda: recorder.stage_ended("boot", 3.0),
        lambda: recorder.stage_ended("boot", 4.0),
    ]
    for step in steps:
        step()
        assert live.evidence() == on_disk(recorder)
    assert live.evidence() == on_disk(recorder), "nothing new is nothing new"
    assert live.evidence().seconds == {"boot": 7.0}


def test_a_whole_run_read_at_once_is_the_same(tmp_path) -> None:
    recorder = example.begin(tmp_path, example.WITH_WAIVERS)
    example.play(recorder, example.WITH_WAIVERS)
    assert Live(recorder.directory.events).evidence() == on_disk(recorder)
    recorder.close()


def test_a_line_without_its_end_is_not_there_yet(recorder) -> None:
    live = Live(recorder.directory.events)
    before = live.evidence()
    events = recorder.directory.events
    whole = events.read_bytes()
    recorder.guest_started("g1")
    fresh = events.read_bytes()[len(whole) :]
    events.write_bytes(whole + fresh[:-1])
    assert live.evidence() == before
    events.write_bytes(whole + fresh)
    assert live.evidence().guests[0].started


def test_a_record_that_cannot_be_read_is_a_record_error(recorder, tmp_path) -> None:
    with pytest.raises(RecordError, match="could not be read"):
        Live(tmp_path / "none.jsonl").evidence()


FOREIGN = [
    b"\xff\n",
    b"hello",
    b"{}\n",
    b'{"seq":1,"at":"","monotonic":0,"kind":"run.resumed","data":{}}\n',
    b"\n\n",
]


@pytest.mark.parametrize("line", FOREIGN)
def test_what_somebody_else_wrote_into_the_events_ends_nothing_and_is_told(tmp_path, line) -> None:
    recorder = example.begin(tmp_path, example.HARDWARE)
    live = Live(recorder.directory.events)
    live.evidence()
    with recorder.directory.events.open("ab") as stream:
        stream.write(line)
    live.evidence()
    example.play(recorder, example.HARDWARE)
    assert live.evidence().guests[-1].release is not None
    record = finish(recorder, checker=example.checker, titles=example.TITLES)
    assert record.decision.verdict is Verdict.INCONCLUSIVE
    assert "events.jsonl" in record.decision.reasons[0]
    judgement = rejudge(recorder.directory, checker=example.checker, titles=example.TITLES)
    assert judgement.record.decision.verdict is Verdict.INCONCLUSIVE
    assert judgement.record.evidence == record.evidence
    assert not any("hash in the last event" in problem for problem in judgement.problems)


def test_the_ledger_and_its_answers_come_back_as_they_went_in(recorder) -> None:
    assert on_disk(recorder).ledger is None
    recorder.ledger(())
    assert on_disk(recorder).ledger == ()
    recorder.ledger((ROW, OUT))
    recorder.asked((SAID, MISSED))
    said = on_disk(recorder)
    assert said.ledger == (ROW, OUT)
    assert said.asked == (SAID, MISSED)


def test_a_resumed_run_adds_to_its_ledger(recorder) -> None:
    recorder.ledger((ROW,))
    recorder.asked((SAID,))
    recorder.close()
    again = Recorder.resume(recorder.path, example.TickingClock())
    again.ledger((ROW, OUT))
    again.asked((MISSED,))
    said = on_disk(again)
    assert said.ledger == (ROW, ROW, OUT)
    assert said.asked == (SAID, MISSED)
    assert [guest.name for guest in said.guests] == ["g1", "g4"]
    again.close()


def test_the_guests_that_are_demanded_are_known_from_the_first_event_with_their_groups(recorder) -> None:
    demands = example.demands(example.LAB)
    for guest, demand in zip(on_disk(recorder).guests, demands, strict=True):
        assert (guest.request, guest.workloads, guest.group) == (
            demand.request, demand.workloads, demand.group,
        )  # fmt: skip
        assert (guest.started, guest.plan, guest.release) == (False, None, None)
