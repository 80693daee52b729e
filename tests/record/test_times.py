"""Clocks that disagree are told, and nothing gets better by it: no length, order, waiver or validity."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from harness.model.outcome import Verdict
from harness.record import times
from harness.record.attempts import History, closed
from harness.record.directory import RunDirectory
from harness.record.events import Event, read_events
from harness.record.judge import finish, rejudge
from harness.record.times import written
from tests.reports import records as example

MONTHS = timedelta(days=231)


class SetClock:
    """A clock whose wall side somebody sets."""

    def __init__(self, start: str = "2026-03-10T12:00:00Z") -> None:
        self._start = datetime.fromisoformat(start)
        self._steady = 500.0
        self.set_by = timedelta()

    def monotonic(self) -> float:
        self._steady += 0.25
        return self._steady

    def now(self) -> str:
        return written(self._start + timedelta(seconds=self._steady - 500.0) + self.set_by)

    def sleep(self, seconds: float) -> None:
        self._steady += seconds


def run_with(tmp_path, *steps: tuple[float, timedelta]):
    """A run on whose controller the wall clock is set after so many seconds, by so much."""
    clock = SetClock()
    recorder = example.begin(tmp_path, example.WITH_WAIVERS, clock=clock)
    example.play(recorder, replace(example.WITH_WAIVERS, stop_after="g1"))
    for seconds, by in steps:
        clock.sleep(seconds)
        clock.set_by += by
        recorder.stage_ended("burn", seconds)
    recorder.run_ended()
    record = finish(recorder, checker=example.checker, titles=example.TITLES)
    return record, recorder.directory


@pytest.mark.parametrize("by", [-MONTHS, MONTHS, timedelta(minutes=-2), timedelta(minutes=2)], ids=str)
def test_a_clock_that_was_set_leaves_the_verdict_open_and_says_so(tmp_path, by) -> None:
    record, directory = run_with(tmp_path, (10.0, by))
    assert record.decision.verdict is Verdict.INCONCLUSIVE
    assert "the controller's clock was set during the run" in " ".join(record.decision.reasons)
    assert rejudge(directory, checker=example.checker, titles=example.TITLES).agrees


def test_a_clock_that_is_slewed_by_seconds_disturbs_nothing(tmp_path) -> None:
    record, _ = run_with(tmp_path, (3600.0, timedelta(seconds=20)), (3600.0, timedelta(seconds=-35)))
    assert not any("clock" in reason for reason in record.decision.reasons)


def test_a_run_never_ends_before_it_began(tmp_path) -> None:
    record, _ = run_with(tmp_path, (3600.0, -MONTHS))
    evidence = record.evidence
    assert evidence.ended_at is not None
    lasted = datetime.fromisoformat(evidence.ended_at) - datetime.fromisoformat(evidence.started_at)
    assert timedelta(hours=1) < lasted < timedelta(hours=1, minutes=5)
    assert record.expires_at > evidence.ended_at


@pytest.mark.parametrize("after", [0, 1], ids=["at its end", "in its middle"])
def test_a_waiver_that_had_expired_by_any_clock_has_expired(tmp_path, after) -> None:
    """Set forward and back again, or seen only in the middle."""
    steps = [(10.0, timedelta(days=400)), (10.0, timedelta(days=-400))]
    record, _ = run_with(tmp_path, *steps[: 2 if after else 1])
    assert record.decision.waivers_used == ()
    assert any("expired" in words for words in record.decision.waivers_unused)


def events_of(*moments: tuple[str, float, str]) -> list[Event]:
    return [
        Event(seq=n, at=at, monotonic=steady, kind=kind, data={})
        for n, (at, steady, kind) in enumerate(moments, 1)
    ]


def test_an_attempt_that_begins_before_the_last_one_ended_is_told() -> None:
    first, second, third = events_of(
        ("2026-11-30T10:00:00Z", 5000.0, "run.start"),
        ("2026-11-30T11:00:00Z", 8600.0, "x"),
        ("2026-04-13T10:00:00Z", 12.0, "run.resumed"),
    )
    before = times.after(times.begun(first), second)
    found = times.begun(third, before)
    assert "set back between two attempts" in found.fault
    assert found.start == before.now
    assert found.latest == before.latest
    assert before.seconds == 3600.0


@pytest.mark.parametrize("at", ["", "yesterday", "2026-11-30T10:00:00", "2026-13-01T00:00:00Z", "9" * 400])
def test_what_is_no_moment_is_told(at) -> None:
    good, bad = events_of(("2026-11-30T10:00:00Z", 1.0, "run.start"), (at, 2.0, "x"))
    assert "has no time" in times.after(times.begun(good), bad).fault
    assert "has no time" in times.begun(bad).fault


@pytest.mark.parametrize("steady", [float("nan"), float("inf"), 1e308, -1e308])
def test_no_number_of_the_steady_clock_breaks_anything(steady) -> None:
    good, bad = events_of(("2026-11-30T10:00:00Z", 1.0, "run.start"), ("2026-11-30T10:00:01Z", steady, "x"))
    found = times.after(times.begun(good), bad)
    assert found.fault
    assert found.latest is not None


def test_events_whose_wall_clock_was_rewritten_are_told_by_the_steady_one(tmp_path) -> None:
    """By hand, in the file: every event a year later."""
    recorder = example.begin(tmp_path, example.WITH_WAIVERS)
    example.play(recorder, example.WITH_WAIVERS)
    recorder.log.close()
    path = recorder.path / "events.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines[3:]:
        line["at"] = line["at"].replace("2026-", "2025-")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    evidence = closed(History.of(read_events(RunDirectory.open(recorder.path).events).events))
    assert [error.stage for error in evidence.errors] == ["clock"]
