"""A recorded run decides the same again, and damage of any kind never gives GO."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.commands import report
from harness.errors import ConfigError, RecordError
from harness.model.outcome import Outcome, Verdict
from harness.model.record import RunRecord
from harness.plugin.demand import resumed as resume_demand
from harness.record.directory import RunDirectory
from harness.record.files import sha256_bytes
from harness.record.judge import finish, rejudge
from harness.record.recorder import Recorder
from harness.serial import from_json, to_json
from reports import renderer
from reports.parts import view
from tests.reports import records as example


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    example.record(tmp_path, example.WITH_WAIVERS)
    return RunDirectory.open(tmp_path / "lab" / example.RUN)


def again(directory: RunDirectory, checker=example.checker):
    return rejudge(directory, checker=checker, titles=example.TITLES)


@pytest.mark.parametrize(
    ("scenario", "verdict"),
    [
        (example.WITH_WAIVERS, Verdict.GO_WITH_WAIVERS),
        (example.REFUSED, Verdict.NO_GO),
        (example.UNFINISHED, Verdict.INCONCLUSIVE),
        (example.HARDWARE, Verdict.GO),
    ],
)
def test_a_recorded_run_judged_again_agrees(tmp_path, scenario, verdict):
    record = example.record(tmp_path, scenario)
    judgement = again(RunDirectory.open(tmp_path / scenario.shape.name / example.RUN))
    assert record.decision.verdict is verdict
    assert judgement.record.decision == record.decision
    assert judgement.agrees
    assert judgement.notes == ()


def test_the_written_record_reads_back_equal(run):
    written = from_json(RunRecord, run.record.read_bytes())
    assert written.decision.verdict is Verdict.GO_WITH_WAIVERS
    assert from_json(RunRecord, to_json(written)) == written
    assert written.events == len(run.events.read_bytes().splitlines())
    assert written.expires_at.startswith("2026-04-09T12:00:")


def test_run_json_lists_every_evidence_file_with_its_hash(run):
    written = from_json(RunRecord, run.record.read_bytes())
    on_disk = {p.relative_to(run.path).as_posix() for p in run.path.glob("*/*")}
    assert set(written.files) == on_disk
    assert all(digest.startswith("sha256:") for digest in written.files.values())


def damage_transcript(run: RunDirectory) -> None:
    victim = sorted((run.path / "transcripts").iterdir())[0]
    victim.write_bytes(victim.read_bytes().replace(b"numa 2", b"numa 4"))


def remove_domain(run: RunDirectory) -> None:
    (run.path / "domain" / "g1.xml").unlink()


def remove_record(run: RunDirectory) -> None:
    run.record.unlink()


def garble_record(run: RunDirectory) -> None:
    run.record.write_text("{")


def flip_verdict(run: RunDirectory) -> None:
    run.record.write_text(run.record.read_text().replace('"GO_WITH_WAIVERS"', '"GO"'))


def alter_event(run: RunDirectory) -> None:
    run.events.write_bytes(run.events.read_bytes().replace(b'"accepted":true', b'"accepted":null', 1))


def drop_event(run: RunDirectory) -> None:
    lines = run.events.read_bytes().splitlines(keepends=True)
    run.events.write_bytes(b"".join(lines[:5] + lines[6:]))


def drop_end(run: RunDirectory) -> None:
    lines = run.events.read_bytes().splitlines(keepends=True)
    run.events.write_bytes(b"".join(lines[:-1]))


def drop_closing(run: RunDirectory) -> None:
    lines = run.events.read_bytes().splitlines(keepends=True)
    run.events.write_bytes(b"".join(lines[:-2]))


def tear_tail(run: RunDirectory) -> None:
    run.events.write_bytes(run.events.read_bytes()[:-20])


def append_event(run: RunDirectory) -> None:
    with run.events.open("ab") as stream:
        stream.write(b'{"seq":999,"at":"x","monotonic":0,"kind":"stage.start","data":{"stage":"no"}}\n')


def append_garbage(run: RunDirectory) -> None:
    with run.events.open("ab") as stream:
        stream.write(b"more")


@pytest.mark.parametrize(
    "damage",
    [
        damage_transcript,
        remove_domain,
        remove_record,
        garble_record,
        flip_verdict,
        alter_event,
        drop_event,
        drop_end,
        drop_closing,
        tear_tail,
        append_event,
        append_garbage,
    ],
)
def test_damage_is_shown_and_never_gives_go(run, damage):
    damage(run)
    judgement = again(run)
    assert judgement.record.decision.verdict is Verdict.INCONCLUSIVE
    assert not judgement.agrees
    assert judgement.record.decision.reasons[0].startswith(("the record cannot be trusted", "the run was"))


def test_damage_to_a_refused_host_does_not_confirm_the_refusal(tmp_path):
    """Altered evidence proves nothing in either direction."""
    example.record(tmp_path, example.REFUSED)
    run = RunDirectory.open(tmp_path / "lab" / example.RUN)
    damage_transcript(run)
    assert again(run).record.decision.verdict is Verdict.INCONCLUSIVE


def test_checks_that_now_answer_differently_are_shown(run):
    def stricter(evidence, profile, host):
        results, planned = example.checker(evidence, profile, host)
        changed = tuple(replace(r, outcome=Outcome.FAIL) if r.check == "gpu.link" else r for r in results)
        return changed, planned

    judgement = again(run, stricter)
    assert judgement.record.decision.verdict is Verdict.INCONCLUSIVE
    assert "gpu.link on 0000:41:00.0 was recorded as PASS (blocker), judged again it is FAIL (blocker)" in (
        judgement.problems
    )


def test_a_check_that_disappeared_is_shown(run):
    def fewer(evidence, profile, host):
        results, planned = example.checker(evidence, profile, host)
        return results, tuple(c for c in planned if c.check != "gpu.link")

    problems = again(run, fewer).problems
    assert any("gpu.link" in p and "missing" in p for p in problems)


def test_a_killed_run_reads_up_to_its_last_event_and_is_inconclusive(tmp_path):
    recorder = example.begin(tmp_path, example.UNFINISHED)
    example.play(recorder, example.UNFINISHED)
    recorder.log.close()
    with (recorder.path / "events.jsonl").open("ab") as stream:
        stream.write(b'{"seq":')
    judgement = again(RunDirectory.open(recorder.path))
    assert judgement.recorded is None
    assert judgement.problems == ()
    assert judgement.record.evidence.interrupted
    assert judgement.record.evidence.guests[0].reached
    assert judgement.record.decision.verdict is Verdict.INCONCLUSIVE


def test_a_killed_run_with_a_required_failure_is_no_go(tmp_path):
    scenario = replace(example.UNFINISHED, bad_answer=True)
    recorder = example.begin(tmp_path, scenario)
    example.play(recorder, scenario)
    recorder.log.close()
    assert again(RunDirectory.open(recorder.path)).record.decision.verdict is Verdict.NO_GO


def test_a_run_whose_verdict_was_never_written_is_not_go(tmp_path):
    recorder = example.begin(tmp_path, example.HARDWARE)
    example.play(recorder, example.HARDWARE)
    recorder.log.close()
    assert again(RunDirectory.open(recorder.path)).record.decision.verdict is Verdict.INCONCLUSIVE


def test_a_killed_run_is_resumed_and_finished(tmp_path):
    scenario = replace(example.WITH_WAIVERS, stop_after="g1")
    recorder = example.begin(tmp_path, scenario)
    example.play(recorder, scenario)
    recorder.log.close()
    events = recorder.path / "events.jsonl"
    with events.open("ab") as stream:
        stream.write(b'{"seq":3')
    resumed = Recorder.resume(recorder.path, example.TickingClock())
    resumed.run_ended(interrupted=True)
    record = finish(resumed, checker=example.checker, titles=example.TITLES)
    kinds = [json.loads(line)["kind"] for line in events.read_text().splitlines()]
    assert kinds[-4:] == ["run.resumed", "run.end", "record", "end"]
    assert record.decision.verdict is Verdict.INCONCLUSIVE
    assert again(RunDirectory.open(recorder.path)).agrees
    with pytest.raises(RecordError, match="has ended"):
        Recorder.resume(recorder.path, example.TickingClock())


def resealed(run: RunDirectory, change) -> None:
    """``run.json`` changed by somebody who also writes the new hashes: of the file, and of the events."""
    data = json.loads(run.record.read_text())
    change(data)
    run.record.write_text(json.dumps(data))
    lines = [json.loads(line) for line in run.events.read_text().splitlines()]
    *before, closing, end = lines
    closing["data"]["sha256"] = sha256_bytes(run.record.read_bytes())
    closing["data"]["verdict"] = data["decision"]["verdict"]
    body = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in (*before, closing))
    end["data"]["sha256"] = sha256_bytes(body.encode())
    run.events.write_text(body + json.dumps(end) + "\n")


def set_to(*path: str | int, value: object):
    def change(data) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    change.__name__ = ".".join(map(str, path))
    return change


@pytest.mark.parametrize(
    "change",
    [
        set_to("decision", "verdict", value="GO"),
        set_to("run", value="20260101T000000Z-000000"),
        set_to("host", "name", value="another"),
        set_to("host", "subject", value="hardware"),
        set_to("profile", "name", value="nightly"),
        set_to("profile", "valid_days", value=3650),
        set_to("waivers", 0, "expires", value="2099-12-31"),
        set_to("waivers", value=[]),
        set_to("expires_at", value="2099-01-01T00:00:00.000Z"),
        set_to("files", value={}),
        set_to("events", value=7),
        set_to("command", value=["shakedown", "qualify", "--profile", "other"]),
        set_to("versions", "python", value="2.7"),
        set_to("shakedown_version", value="9.9"),
        set_to("evidence", "interventions", value=["someone at some time: something"]),
        set_to("decision", "coverage", 0, "severity", value="advisory"),
    ],
    ids=lambda change: change.__name__,
)
def test_what_run_json_repeats_of_the_events_must_be_what_they_say(run, tmp_path, change):
    resealed(run, lambda _: None)
    assert again(run).agrees
    resealed(run, change)
    judgement = again(run)
    assert judgement.record.decision.verdict is Verdict.INCONCLUSIVE
    assert judgement.problems
    assert not judgement.agrees
    report.run(runs=(run.path,), formats=("md",), output=tmp_path / "out", checker=example.checker)
    assert (tmp_path / "out" / "report.md").read_text().startswith("# INCONCLUSIVE")


def test_a_whole_foreign_run_under_this_name_is_noticed(run, tmp_path):
    foreign = run.path.with_name("20260401T080000Z-0a1b2c")
    shutil.copytree(run.path, foreign)
    judgement = again(RunDirectory.open(foreign))
    assert judgement.record.decision.verdict is Verdict.INCONCLUSIVE
    assert (
        f"named after run {foreign.name}, but its events are from run {example.RUN}"
        in (judgement.problems[0])
    )


@pytest.mark.parametrize("name", ["monday", "archive-2026", "20260401"])
def test_a_run_that_was_given_a_name_of_its_own_is_believed(run, name):
    shutil.copytree(run.path, run.path.with_name(name))
    assert again(RunDirectory.open(run.path.with_name(name))).agrees


@pytest.mark.parametrize("lost", [1, 2, 3, 9], ids=lambda lost: f"{lost} events cut off")
def test_a_finished_run_is_never_taken_up_again(tmp_path, lost):
    """Not even where the end of its events is gone: its verdict would be written over."""
    example.record(tmp_path, example.REFUSED)
    run = RunDirectory.open(tmp_path / "lab" / example.RUN)
    lines = run.events.read_bytes().splitlines(keepends=True)
    run.events.write_bytes(b"".join(lines[:-lost]))
    before = run.record.read_bytes(), run.events.read_bytes()
    with pytest.raises(RecordError, match=r"has ended: it has a run\.json"):
        Recorder.resume(run.path, example.TickingClock())
    with pytest.raises(ConfigError, match="nothing to resume"):
        resume_demand(run.path)
    assert (run.record.read_bytes(), run.events.read_bytes()) == before


def test_each_attempt_of_a_resumed_run_is_told_with_its_end(tmp_path):
    scenario = replace(example.HARDWARE, stop_after="g1")
    recorder = example.begin(tmp_path, scenario)
    recorder.log.append("stage.start", {"stage": "soak"})
    example.play(recorder, scenario)
    recorder.log.close()
    resumed = Recorder.resume(recorder.path, example.TickingClock())
    example.play(resumed, example.HARDWARE)
    record = finish(resumed, checker=example.checker, titles=example.TITLES)
    first, second = view.attempts(record)
    assert first.startswith("attempt 1: 2026-03-10T12:00:00")
    assert first.endswith("its controller ended unexpectedly during soak")
    assert second.endswith("completed")
    for name in ("md", "html"):
        shown = renderer(name).render(record)
        assert "ended unexpectedly during soak" in (shown if isinstance(shown, str) else shown.decode())
    assert len(record.evidence.attempts) == 2
    assert again(RunDirectory.open(recorder.path)).agrees


def test_a_stray_file_is_noted_and_decides_nothing(run):
    (run.path / "transcripts" / "9999-extra.txt").write_text("who put this here")
    judgement = again(run)
    assert judgement.agrees
    assert "9999-extra.txt" in judgement.notes[0]


def test_a_directory_without_events_is_not_a_run(tmp_path):
    with pytest.raises(ConfigError, match=r"no events\.jsonl"):
        RunDirectory.open(tmp_path)
