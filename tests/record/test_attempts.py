"""A resumed run forgets nothing: its attempts stand beside each other, and the worst of all decides."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from harness.checks.base import Scope
from harness.checks.registry import CHECKS, run_checks
from harness.errors import RecordError
from harness.faults.base import Fault
from harness.faults.registry import FAULTS
from harness.model.evidence import Evidence
from harness.model.outcome import Decision, Outcome, Severity, Verdict
from harness.record.assemble import MOST_ERRORS
from harness.record.attempts import MOST_ATTEMPTS, History, closed
from harness.record.directory import RunDirectory
from harness.record.events import Event, read_events
from harness.record.judge import rejudge
from harness.record.kinds import Kind
from harness.record.times import written
from harness.verdict.decide import decide
from tests.faults import clean
from tests.record.replay import begin, replay

PROFILE = clean.profile()
LATER = timedelta(minutes=10)
SCOPES = {check.id: check.scope for check in CHECKS}
NOT_A_NUMBER = {"not-a-number", "rate-not-a-number"}


def recorded(root: Path, evidence: Evidence) -> tuple[Event, ...]:
    """The events of a run in which all of ``evidence`` was recorded, up to its ``run.end``."""
    recorder = begin(root, evidence, profile=PROFILE, host=clean.HOST)
    replay(recorder, evidence)
    recorder.absorb_notes()
    recorder.log.close()
    return read_events(recorder.directory.events).events


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> tuple[Event, ...]:
    return recorded(tmp_path_factory.mktemp("good"), clean.evidence())


def resumed(*attempts: Iterable[Event]) -> tuple[Event, ...]:
    """One run of several attempts, each ten minutes after the one before it, on a controller that rebooted
    in between: its steady clock begins anew."""
    numbers = itertools.count(1)
    events = []
    for number, attempt in enumerate(attempts):
        mine = list(attempt)
        if number:
            mine[0] = replace(mine[0], kind=Kind.RUN_RESUMED, data={"torn_bytes": 0})
        for event in mine:
            at = written(datetime.fromisoformat(event.at) + number * LATER)
            steady = event.monotonic - 900.0 * number
            events.append(replace(event, seq=next(numbers), at=at, monotonic=steady))
    return tuple(events)


def judged(events: tuple[Event, ...]) -> Decision:
    """The verdict on them, as ``judge`` reaches it."""
    history = History.of(events)
    evidence = closed(history)
    results, cells = run_checks(evidence, PROFILE, clean.HOST)
    return decide(
        results,
        cells,
        (),
        subject_kind=clean.HOST.subject,
        now=history.latest,
        errors=evidence.errors,
        interrupted=evidence.interrupted,
        required=[check for check, severity in PROFILE.checks.items() if severity is Severity.BLOCKER],
    )


def test_a_run_of_one_attempt_has_no_attempts_beside_it(good) -> None:
    assert History.of(good).evidence.attempts == ()
    assert judged(good).verdict is Verdict.GO


def test_a_clean_run_that_is_cut_anywhere_and_resumed_is_go(good) -> None:
    """What a killed attempt had not come to is made good for; nothing that it did accuses anybody."""
    for cut in range(1, len(good)):
        decision = judged(resumed(good[:cut], good))
        assert decision.verdict is Verdict.GO, (good[cut - 1].kind, decision.reasons)


def test_a_clean_run_that_is_cut_twice_is_go(good) -> None:
    for first, second in itertools.product(range(1, len(good), 7), range(1, len(good), 5)):
        decision = judged(resumed(good[:first], good[:second], good))
        assert decision.verdict is Verdict.GO, decision.reasons


FORGIVEN = [
    fault
    for fault in FAULTS
    if fault.outcome not in (Outcome.FAIL, Outcome.ERROR) or fault.corrupt(clean.evidence()).interrupted
]
"""Faults that a later attempt makes good for: evidence that is missing, and an interrupt."""
KEPT = [
    fault
    for fault in FAULTS
    if fault.must_trip in PROFILE.checks and fault.id not in NOT_A_NUMBER and fault not in FORGIVEN
]


@pytest.mark.parametrize("fault", KEPT, ids=lambda fault: fault.id)
def test_what_an_earlier_attempt_recorded_is_not_forgotten(fault: Fault, good, tmp_path) -> None:
    bad = recorded(tmp_path, fault.corrupt(clean.evidence()))
    alone = judged(bad).verdict
    unfinished = [event for event in bad if event.kind != Kind.RUN_END]
    whole_run = fault.outcome is Outcome.ERROR and SCOPES[fault.must_trip] is Scope.HOST
    decision = judged(resumed(unfinished, good))
    assert decision.verdict is alone, decision.reasons
    said = [c for c in decision.coverage if c.check == fault.must_trip and c.outcome is fault.outcome]
    assert said or whole_run, decision.reasons


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (Kind.STAGE_END, {"stage": "burn", "seconds": "nan"}),
        (Kind.STAGE_END, {"stage": "burn", "seconds": True}),
        (Kind.GUEST_REACHED, {"guest": "g1", "boot_seconds": "Infinity"}),
        (Kind.RECOVERED, {"attempt": "1", "host_telemetry": {}}),
    ],
)
def test_a_number_that_is_none_is_refused_with_its_event(kind: str, data: dict, good) -> None:
    with pytest.raises(RecordError, match=f"event 2 .{kind}. does not have the expected content"):
        History.of((good[0], replace(good[1], kind=kind, data=data)))


def beyond_seconds(evidence: Evidence) -> Evidence:
    return replace(evidence, seconds={"burn": 1.7e308})


def beyond_steal(evidence: Evidence) -> Evidence:
    return replace(evidence, host_telemetry=replace(evidence.host_telemetry, steal_seconds={"0": 1.7e308}))


def beyond_means(evidence: Evidence) -> Evidence:
    hot = {
        name: replace(series, count=1, mean=1.7e308)
        for name, series in evidence.host_telemetry.temperatures.items()
    }
    return replace(evidence, host_telemetry=replace(evidence.host_telemetry, temperatures=hot))


@pytest.mark.parametrize("beyond", [beyond_seconds, beyond_steal, beyond_means])
def test_sums_beyond_all_measure_are_told_and_reported_nowhere(beyond, tmp_path) -> None:
    attempts = resumed(*[recorded(tmp_path / name, beyond(clean.evidence())) for name in "ab"])
    path = tmp_path / "edited" / "events.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(asdict(event)) + "\n" for event in attempts))
    with pytest.raises(RecordError, match="do not make a valid record"):
        rejudge(RunDirectory.open(path.parent))


def test_a_record_of_nothing_but_errors_or_attempts_is_read_in_bounded_time(good) -> None:
    """Each costs what the others before it did; there is an end to both."""
    first, last = good[0], good[-1]
    told = {"stage": "burn", "kind": "X", "message": "m"}
    broken = [
        replace(last, kind=Kind.ERROR, data={"error": {**told, "message": f"m{n}"}})
        for n in range(MOST_ERRORS + 10)
    ]
    assert len(History.of((first, *broken)).evidence.errors) == MOST_ERRORS
    assert judged((first, *broken, last)).verdict is Verdict.INCONCLUSIVE
    again = [replace(last, kind=Kind.RUN_RESUMED, data={"torn_bytes": 0})] * MOST_ATTEMPTS
    with pytest.raises(RecordError, match="a run has at most"):
        History.of((first, *again))
