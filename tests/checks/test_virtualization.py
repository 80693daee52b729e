"""The comparison with a bare run as a check: no reference, a foreign one or a doubtful one is no pass."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from harness.checks.registry import run_checks
from harness.commands import compare
from harness.config.files import load_host, load_profile
from harness.errors import ConfigError
from harness.model.guest import GuestDemand
from harness.model.inventory import HostFile
from harness.model.outcome import Outcome, Severity, SubjectKind
from harness.plugin.demand import VIRTUALIZATION, with_comparison
from harness.record.judge import finish
from harness.record.recorder import Recorder
from tests.fakes import FakeClock
from tests.faults.clean import HOST
from tests.faults.clean import evidence as clean_evidence
from tests.verdict.test_virtualization import a_reference, rates

PROFILE = dataclasses.replace(load_profile("smoke"), checks={VIRTUALIZATION: Severity.BLOCKER})


def said(reference, *values: float):
    evidence = dataclasses.replace(clean_evidence(), guests=(rates(*values),), reference=reference)
    results, (cell,) = run_checks(evidence, PROFILE, load_host("lab"))
    return (results[0] if results else None), cell


BARE = a_reference(100.0, 100.0, 100.0)


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        (None, "no bare-metal run was given"),
        (dataclasses.replace(BARE, machine_id="f" * 32), "of another machine"),
        (dataclasses.replace(BARE, machine_id=None), "of another machine"),
        (
            dataclasses.replace(BARE, problems=("events.jsonl was altered",)),
            "cannot be trusted: events.jsonl",
        ),
        (dataclasses.replace(BARE, values=()), "can be compared"),
    ],
)
def test_without_a_reference_that_holds_it_is_missing(reference, why) -> None:
    result, cell = said(reference, 99.0, 99.0, 99.0)
    assert (result, cell.outcome) == (None, None)
    assert why in cell.reason


@pytest.mark.parametrize(
    ("values", "outcome", "words"),
    [
        ((99.0, 99.0, 99.0), Outcome.PASS, "0.990 of bare"),
        ((90.0, 90.0, 90.0), Outcome.FAIL, "slower than bare"),
        ((99.0,), Outcome.ERROR, "undecided"),
    ],
)
def test_with_one_it_says_what_the_figures_say(values, outcome, words) -> None:
    result, _cell = said(BARE, *values)
    assert result is not None
    assert result.outcome is outcome
    assert words in result.message


@pytest.mark.parametrize("changes", [{"standin": True}, {"subject": SubjectKind.LAB}, {"verdict": "NO_GO"}])
def test_hardware_is_not_held_against_stand_ins_or_machines_that_were_not_well(changes) -> None:
    result, cell = said(dataclasses.replace(BARE, **changes), 99.0, 99.0, 99.0)
    assert (result, cell.outcome) == (None, None)


def test_a_reference_from_a_stand_in_says_so() -> None:
    lab = dataclasses.replace(clean_evidence(), subject=SubjectKind.LAB, guests=(rates(99.0, 99.0, 99.0),))
    evidence = dataclasses.replace(lab, reference=dataclasses.replace(BARE, standin=True))
    (result,), _ = run_checks(evidence, PROFILE, load_host("lab"))
    assert result.outcome is Outcome.PASS
    assert "says nothing about hardware" in result.message


def test_a_figure_of_a_gpu_that_only_one_side_measured_is_not_decided() -> None:
    other = dataclasses.replace(BARE.values[0], name="tensor.fp8.rate")
    more = dataclasses.replace(BARE, values=(*BARE.values, other))
    result, _cell = said(more, 99.0, 99.0, 99.0)
    assert result is not None
    assert result.outcome is Outcome.ERROR
    assert (
        "tensor.fp8.rate on 0000:41:00.0: not comparable (the guest did not measure this)" in result.message
    )
    guest = rates(99.0, 99.0, 99.0)
    extra = rates(5.0, 5.0, 5.0, name="tensor.fp8.rate")
    both = dataclasses.replace(guest, results=(*guest.results, *extra.results))
    evidence = dataclasses.replace(clean_evidence(), guests=(both,), reference=BARE)
    (result,), _ = run_checks(evidence, PROFILE, load_host("lab"))
    assert result.outcome is Outcome.ERROR
    assert (
        "tensor.fp8.rate on 0000:41:00.0: not comparable (the bare-metal run did not measure this)"
        in result.message
    )


def test_comparing_makes_it_a_blocker_and_bare_runs_have_no_use_for_it() -> None:
    assert with_comparison(load_profile("smoke")).checks[VIRTUALIZATION] is Severity.BLOCKER
    with pytest.raises(ConfigError, match="--compare is for runs with guests"):
        with_comparison(load_profile("bare"))


def a_run(root: Path, name: str, *values: float, attach: str = "bare", host: HostFile = HOST) -> Path:
    """A recorded run of one machine whose one load measured these values, a round each."""
    guest = rates(*values)
    recorder = Recorder.begin(
        root,
        host=host,
        profile=dataclasses.replace(load_profile("bare"), attach=attach),
        waivers=(),
        guests=(GuestDemand(request=guest.request, workloads=guest.workloads, group=guest.name),),
        clock=FakeClock(),
        run_id=name,
    )
    recorder.guest_cards(guest.name, guest.cards)
    recorder.facts(clean_evidence().facts)
    for number, result in enumerate(guest.results, start=1):
        recorder.workload(dataclasses.replace(result, guest=guest.name, round=number))
    recorder.run_ended()
    finish(recorder)
    recorder.close()
    return recorder.path


@pytest.mark.parametrize(
    ("values", "status", "finding"),
    [((99.0, 99.0, 99.0), 0, "keeps"), ((90.0, 90.0, 90.0), 1, "loses"), ((99.0,), 3, "too few runs")],
)
def test_two_recorded_runs_side_by_side(tmp_path, capsys, values, status, finding) -> None:
    bare = a_run(tmp_path, "20260101T000000Z-aaaaaa", 100.0, 100.0, 100.0)
    run = a_run(tmp_path, "20260102T000000Z-bbbbbb", *values)
    assert compare.run(run_dir=run, bare=bare, json_output=True) == status
    said = json.loads(capsys.readouterr().out)
    assert [(cost["guest"], cost["finding"]) for cost in said["costs"]] == [("g1", finding)]
    assert compare.run(run_dir=run, bare=bare, json_output=False) == status
    assert finding in capsys.readouterr().out


def test_a_machine_that_was_not_well_is_no_reference_here_either(tmp_path, capsys) -> None:
    short = dataclasses.replace(HOST, expected_gpus=5)
    bare = a_run(tmp_path, "20260101T000000Z-aaaaaa", 100.0, 100.0, 100.0, host=short)
    run = a_run(tmp_path, "20260102T000000Z-bbbbbb", 99.0, 99.0, 99.0)
    assert compare.run(run_dir=run, bare=bare, json_output=True) == 3
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert "ended NO_GO" in problem


def test_altered_evidence_on_either_side_decides_nothing(tmp_path, capsys) -> None:
    bare = a_run(tmp_path, "20260101T000000Z-aaaaaa", 100.0, 100.0, 100.0)
    run = a_run(tmp_path, "20260102T000000Z-bbbbbb", 50.0, 50.0, 50.0)
    events = bare / "events.jsonl"
    events.write_text(events.read_text().replace("100.0", "50.0"))
    assert compare.run(run_dir=run, bare=bare, json_output=True) == 3
    assert json.loads(capsys.readouterr().out)["problems"]


def test_a_run_with_guests_is_no_reference(tmp_path) -> None:
    run = a_run(tmp_path, "20260101T000000Z-aaaaaa", 1.0, attach="vfio")
    with pytest.raises(ConfigError, match="not a bare-metal run"):
        compare.run(run_dir=run, bare=run, json_output=True)
