"""events.jsonl: numbered, durable, and honest about where it was cut."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import RecordError
from harness.record.attempts import assemble
from harness.record.events import Event, EventLog, read_events
from harness.record.kinds import Kind
from tests.reports import records as example


def a_log(path: Path, count: int = 3, *, end: bool = False) -> Path:
    file = path / "events.jsonl"
    log = EventLog(file, example.TickingClock())
    for number in range(count):
        log.append("note", {"what": f"thing {number}"})
    if end:
        log.end()
    log.close()
    return file


def test_events_are_numbered_from_one_and_carry_both_clocks(tmp_path):
    known = read_events(a_log(tmp_path, end=True))
    assert [e.seq for e in known.events] == [1, 2, 3, 4]
    assert known.events[0].at.startswith("2026-03-10T12:00:0")
    assert known.events[1].monotonic > known.events[0].monotonic
    assert known.events[-1].data["total"] == 4
    assert known.ended
    assert (known.problems, known.torn) == ((), 0)


def test_a_log_without_an_end_is_not_ended(tmp_path):
    known = read_events(a_log(tmp_path))
    assert not known.ended
    assert known.problems == ()


def test_nothing_is_written_after_the_end(tmp_path):
    log = EventLog(tmp_path / "events.jsonl", example.TickingClock())
    log.end()
    with pytest.raises(RecordError, match="too late"):
        log.append("note", {"what": "late"})


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_log_cut_anywhere_reads_as_its_whole_lines(tmp_path_factory, data):
    file = a_log(tmp_path_factory.mktemp("cut"), count=4, end=True)
    content = file.read_bytes()
    keep = data.draw(st.integers(0, len(content) - 1))
    file.write_bytes(content[:keep])
    known = read_events(file)
    assert len(known.events) == content[:keep].count(b"\n")
    assert not known.ended
    assert known.torn == len(content[:keep]) - known.whole_bytes
    log, cut = EventLog.reopen(file, example.TickingClock())
    assert cut == known.torn
    log.end()
    assert read_events(file).ended


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_events_or_a_record_error(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("bytes") / "events.jsonl"
    file.write_bytes(content)
    try:
        known = read_events(file)
    except RecordError:
        return
    assert len(known.events) == 0


def test_a_nan_is_refused_before_it_reaches_the_disk(tmp_path):
    file = a_log(tmp_path)
    log, _ = EventLog.reopen(file, example.TickingClock())
    with pytest.raises(RecordError, match="JSON"):
        log.append("note", {"what": float("nan")})
    log.append("note", {"what": "fine"})
    log.close()
    assert [e.seq for e in read_events(file).events] == [1, 2, 3, 4]


def test_several_threads_never_tear_a_line(tmp_path):
    file = tmp_path / "events.jsonl"
    log = EventLog(file, example.TickingClock())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: log.append("note", {"what": "x" * n}), range(100)))
    log.end()
    known = read_events(file)
    assert known.ended
    assert len(known.events) == 101


HOSTILE = "\x1b[31m<script>\n\r\x00\u202e\ud800 " + "A" * 100_000


def test_hostile_text_comes_back_exactly_as_it_went_in(tmp_path):
    log = EventLog(tmp_path / "events.jsonl", example.TickingClock())
    log.append("note", {"what": HOSTILE})
    log.end()
    known = read_events(tmp_path / "events.jsonl")
    assert known.events[0].data["what"] == HOSTILE
    assert known.ended


def start(tmp_path: Path) -> tuple[Event, ...]:
    recorder = example.begin(tmp_path, example.WITH_WAIVERS)
    recorder.log.close()
    return read_events(recorder.path / "events.jsonl").events


def event(kind: str, **data: object) -> Event:
    return Event(seq=2, at="2026-03-10T12:00:01Z", monotonic=1001.0, kind=kind, data=data)


def test_an_unknown_kind_is_a_record_error(tmp_path):
    with pytest.raises(RecordError, match=r"unknown kind 'guest\.dance'"):
        assemble((*start(tmp_path), event("guest.dance")))


def test_events_that_do_not_begin_with_the_inputs_are_a_record_error():
    with pytest.raises(RecordError, match=r"run\.start"):
        assemble((event("note", what="x"),))


@pytest.mark.parametrize("kind", [k for k in Kind if k not in (Kind.FILE, Kind.RECORD, Kind.END)])
def test_a_known_kind_with_foreign_data_is_a_record_error_or_ignored(tmp_path, kind):
    foreign: tuple[dict[str, object], ...] = (
        {},
        {"guest": "nobody"},
        {"facts": 3, "after": 0},
        {"guest": [], "plan": []},
    )
    for number, data in enumerate(foreign):
        begun = start(tmp_path / str(number))
        try:
            evidence = assemble((*begun, event(kind, **data)))
        except RecordError:
            continue
        assert kind in (Kind.RUN_RESUMED, Kind.STAGE_START, Kind.WATCH)
        assert replace(evidence, attempts=()) == assemble(begun)


def test_a_guest_that_was_never_requested_is_a_record_error(tmp_path):
    with pytest.raises(RecordError, match="not requested"):
        assemble((*start(tmp_path), event("guest.started", guest="g9")))


def test_a_fold_gives_back_the_values_that_were_recorded(tmp_path):
    record = example.record(tmp_path, example.WITH_WAIVERS)
    shape = example.LAB
    assert record.evidence.facts == example.host_facts(shape)
    one = record.evidence.guests[0]
    plan = example.plan_for(shape, "g1", (shape.gpu_addresses[2],))
    assert one.plan == plan
    assert one.observed == example.observed_for(plan)
    assert one.release == example.release_of("g1", plan)
    assert one.results[0] == example.workload_result("g1", "transcode")
    assert record.evidence.seconds["release"] == 8.4
    assert record.evidence.interrupted is False


def test_an_interrupt_in_the_middle_of_an_append_leaves_the_numbers_right(tmp_path):
    """Ctrl-C comes between any two steps: here 200 times, at moments from before the write to after it."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    file = tmp_path / "events.jsonl"
    log = EventLog(file, example.TickingClock())
    begun = time.perf_counter()
    for number in range(20):
        log.append("note", {"what": f"thing {number}"})
    usual = (time.perf_counter() - begun) / 20
    interrupted = 0
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for number in range(200):
            try:
                signal.setitimer(signal.ITIMER_REAL, usual * (1 + number % 50) / 50)
                log.append("note", {"what": f"thing {number}"})
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    log.end()
    known = read_events(file)
    assert interrupted > 20
    assert (known.problems, known.ended) == ((), True)
