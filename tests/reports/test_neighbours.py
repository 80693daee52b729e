"""Guests beside others in every format; and no word of it where nobody had a neighbour."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from harness.checks.registry import run_checks
from harness.model.inventory import DisturbanceSpec
from harness.model.outcome import Severity
from harness.model.record import RunRecord
from reports import RENDERERS, renderer
from reports.parts import neighbours, view
from tests.reports import records as example
from tests.reports.test_reports import HOSTILE, check
from tests.verdict.test_disturbance import GPUS, NEIGHBOUR, a_guest, a_run
from tests.verdict.test_disturbance import beside as a_guest_beside

TITLE = "Beside neighbours"
FORMATS = [each.format for each in RENDERERS if each.format != "json"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> RunRecord:
    return example.record(tmp_path_factory.mktemp("run"), example.HARDWARE)


def with_guests(record: RunRecord, *guests, judged: bool = True) -> RunRecord:
    """The record with these guests in the place of its own, as the check would have judged them."""
    facts = a_run().facts
    profile = replace(record.profile, checks={"tenants.disturbance": Severity.BLOCKER})
    evidence = replace(record.evidence, guests=guests, facts=facts)
    results, cells = run_checks(evidence, profile, record.host) if judged else ((), ())
    return replace(
        record,
        evidence=evidence,
        results=results,
        decision=replace(record.decision, coverage=cells),
    )


def slow(record: RunRecord, *, judged: bool = True) -> RunRecord:
    alone = a_guest("alone", 100.0, 100.0, 100.0)
    return with_guests(record, alone, a_guest_beside(50.0, 50.0, 50.0), NEIGHBOUR, judged=judged)


def once(record: RunRecord) -> RunRecord:
    """One value on each side: a figure, and no decision."""
    return with_guests(record, a_guest("alone", 100.0, gpu=GPUS[2]), a_guest_beside(50.0), NEIGHBOUR)


def rendered(record: RunRecord, format_name: str) -> str:
    text = renderer(format_name).render(record)
    check(format_name, text)
    return text


@pytest.mark.parametrize("format_name", FORMATS)
def test_without_neighbours_no_format_says_a_word(plain, format_name) -> None:
    text = rendered(plain, format_name)
    assert TITLE not in text
    assert "disturbance" not in text
    alone = rendered(with_guests(plain, a_guest("alone", 1.0)), format_name)
    assert TITLE not in alone
    assert "disturbance.pcie" not in alone


@pytest.mark.parametrize("format_name", ["html", "md"])
def test_a_table_shows_guest_load_figure_both_sides_and_ratio(plain, format_name) -> None:
    text = rendered(slow(plain), format_name).replace("\\", "")
    section = text.partition(f"{TITLE}")[2]
    for words in ("left", "beside right", "pcie.h2d on 0000:41:00.0", "100 GB/s (n 3)", "50 GB/s (n 3)"):
        assert words in section
    assert "0.500 (0.500 to 0.500, at least 0.9: loses)" in section
    assert "disturbance.pcie.h2d" not in text, "the table of measurements does not say it again"


@pytest.mark.parametrize("format_name", ["html", "md"])
def test_one_value_is_shown_and_said_to_decide_nothing(plain, format_name) -> None:
    text = rendered(once(plain), format_name).replace("\\", "")
    assert "0.500 (too few values to decide)" in text
    assert "100 GB/s (n 1; alone on other GPUs of its model)" in text


@pytest.mark.parametrize("format_name", ["html", "md"])
def test_what_could_not_be_compared_is_said_with_its_reason(plain, format_name) -> None:
    alone = a_guest("alone", 100.0, engine="cpu")
    text = rendered(with_guests(plain, alone, a_guest_beside(50.0), NEIGHBOUR), format_name)
    section = text.replace("\\", "").partition(TITLE)[2].lower()
    assert "not compared: pcie in left (pcie.h2d: not measured alone)" in section


def prom(text: str) -> list[str]:
    return [line for line in text.splitlines() if "disturbance.pcie" in line]


@pytest.mark.parametrize("judged", [True, False], ids=["asked", "not asked"])
def test_ratios_are_metrics_once_with_their_floor_whether_a_check_asked_or_not(plain, judged) -> None:
    value, floor = prom(rendered(slow(plain, judged=judged), "openmetrics"))
    assert 'measurement="disturbance.pcie.h2d"' in value
    assert 'check_subject="left/0000:41:00.0"' in value
    assert value.endswith(" 0.5")
    assert 'bound="lower"' in floor
    assert floor.endswith(" 0.9")


def test_a_ratio_that_decides_nothing_is_a_metric_without_a_floor(plain) -> None:
    (value,) = prom(rendered(once(plain), "openmetrics"))
    assert value.endswith(" 0.5")


def test_ratios_are_measurements_of_ocp(plain) -> None:
    lines = [json.loads(line) for line in rendered(slow(plain), "ocp").splitlines()]
    measured = [
        step["measurement"]
        for line in lines
        if "measurement" in (step := line.get("testStepArtifact", {}))
        and step["measurement"]["name"].startswith("disturbance.")
    ]
    assert measured == [
        {
            "name": "disturbance.pcie.h2d",
            "value": 0.5,
            "unit": "1",
            "subcomponent": {"name": "left/0000:41:00.0"},
            "validators": [{"name": "lower", "type": "GREATER_THAN_OR_EQUAL", "value": 0.9}],
        }
    ]


def test_the_ratios_of_the_report_are_those_of_the_check(plain) -> None:
    record = slow(plain)
    assert neighbours.measurements(record) == record.results[0].measurements
    assert not [m for m in view.measurements(record) if m.name.startswith("disturbance.")]


def test_a_floor_of_the_profile_is_the_one_that_is_shown(plain) -> None:
    record = slow(plain)
    spec = DisturbanceSpec(floor=0.4)
    low = replace(record, profile=replace(record.profile, disturbance=spec))
    (row,) = neighbours.beside(low).rows
    assert (row.ratio, row.lost) == ("0.500 (0.500 to 0.500, at least 0.4: keeps)", False)


@pytest.mark.parametrize("format_name", FORMATS)
def test_hostile_names_of_guests_loads_and_figures_stay_text(plain, format_name) -> None:
    def hostile(guest, called):
        results = tuple(
            replace(
                result,
                workload=HOSTILE,
                measurements=tuple(replace(m, name=HOSTILE) for m in result.measurements),
            )
            for result in guest.results
        )
        return replace(guest, name=called, workloads=(HOSTILE,), results=results)

    record = slow(plain, judged=False)
    guests = (hostile(g, f"{number} {HOSTILE}") for number, g in enumerate(record.evidence.guests))
    text = rendered(replace(record, evidence=replace(record.evidence, guests=tuple(guests))), format_name)
    assert "<script>" not in text or format_name in ("openmetrics", "ocp")
    assert "\x1b" not in text
