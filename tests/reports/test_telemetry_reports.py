"""Telemetry in reports: stand-ins are said loudly, a gap is seen, nothing absent looks like a value."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from harness.model.evidence import WorkloadResult
from harness.model.record import RunRecord
from harness.model.telemetry import SeriesSummary
from harness.model.vendor import Kind
from harness.telemetry.gpu.series import SENSORS
from reports import RENDERERS, renderer
from reports.parts import telemetry
from reports.parts.dcgm import ALIASES
from reports.parts.timeline import timeline
from tests.reports import records as example

ALL = ("transcode", "tensor", "hashing", "standin")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory):
    @functools.cache
    def make(name: str) -> RunRecord:
        scenario = {
            "lab": example.WITH_WAIVERS,
            "bad": example.REFUSED,
            "unfinished": example.UNFINISHED,
            "hardware": example.HARDWARE,
        }[name]
        root: Path = tmp_path_factory.mktemp(name)
        return example.record(root, scenario)

    return make


@pytest.mark.parametrize("format_name", [r.format for r in RENDERERS if r.format != "json"])
def test_every_format_says_that_a_stand_in_answered(recorded, format_name: str) -> None:
    text = renderer(format_name).render(recorded("lab"))
    assert re.search(r"(?i)stand-?in.{0,60}default|standin=.default", text)
    assert "none of its values" in text or format_name == "openmetrics"
    assert not re.search(
        r"NVML stand-?in \(scenario|standin=.default", renderer(format_name).render(recorded("hardware"))
    )


def test_the_json_record_names_the_scenario(recorded) -> None:
    data = json.loads(renderer("json").render(recorded("lab")))
    assert {g["telemetry"]["standin"] for g in data["evidence"]["guests"]} == {"default"}


def test_the_page_says_it_at_its_top_and_at_each_gpu(recorded) -> None:
    page = renderer("html").render(recorded("lab"))
    assert page.index("STAND-IN telemetry") < page.index('class="tiles"')
    assert page.count('<span class="chip FAIL">stand-in</span>') == 1 + 4
    assert "STAND-IN" not in renderer("html").render(recorded("hardware"))
    text = renderer("md").render(recorded("lab"))
    assert text.index("STAND-IN telemetry") < text.index("\n## ")


def test_a_gap_is_a_hole_in_the_picture_and_a_line_in_the_text(recorded) -> None:
    page = renderer("html").render(recorded("bad"))
    assert page.count('class="gap"') == 1
    assert "no sample for 39.0 s from 106.0 s: NVMLError_GpuIsLost" in page
    assert 'class="gap"' not in renderer("html").render(recorded("lab"))
    assert "| 0000:42:00.0 | 106.0 s | 39.0 s | NVMLError\\_GpuIsLost |" in renderer("md").render(
        recorded("bad")
    )


def test_a_kernel_event_is_shown_with_ruling_line_and_mark(recorded) -> None:
    page = renderer("html").render(recorded("bad"))
    assert '<span class="chip stop">stop</span>' in page
    assert "GPU has fallen off the bus." in page
    assert page.count('class="event"') == 1
    metrics = renderer("openmetrics").render(recorded("bad"))
    (told,) = [line for line in metrics.splitlines() if 'event="XID 79"' in line]
    assert told.startswith("shakedown_kernel_events{")
    assert 'ruling="stop"' in told
    assert told.endswith(" 1.0")


def test_a_guest_that_nobody_watched_is_named(recorded) -> None:
    for name in ("html", "md"):
        assert re.search(
            "(?i)the loads of g1 were not watched", renderer(name).render(recorded("unfinished"))
        )


def test_dcgm_aliases_are_those_of_the_registry() -> None:
    known = {s.name: (s.dcgm, s.dcgm_factor) for s in SENSORS if s.dcgm}
    assert {name: (alias, factor) for name, (alias, factor, _) in ALIASES.items()} == known


def test_dcgm_units_are_converted(recorded) -> None:
    text = renderer("openmetrics").render(recorded("hardware"))
    families = {family.name: family.samples for family in text_string_to_metric_families(text)}
    energy = families["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"]
    used = families["DCGM_FI_DEV_FB_USED"]
    assert {s.value for s in energy if s.labels["statistic"] == "increase"} == {76_800 * 1000}
    assert {round(s.value) for s in used if s.labels["statistic"] == "max"} == {round(1.4e11 / 2**20)}
    counters = {s.dcgm for s in SENSORS if s.dcgm and s.kind is Kind.COUNTER}
    for alias in counters:
        assert f"DCGM_FI_DEV_{alias}{{" in text
        assert not re.search(rf'^DCGM_FI_DEV_{alias}\{{.*statistic="(?:min|mean|max)"', text, re.M)


def test_a_sensor_without_values_is_never_a_number(recorded) -> None:
    record = recorded("hardware")
    gpu = telemetry.guests(record)[0].gpus[0]
    cases = {
        "not offered": SeriesSummary(name="power", unit="W", offered=False),
        "not read: 7 reads failed (NVMLError_NoPermission)": SeriesSummary(
            name="power", unit="W", offered=True, failed=7, detail="NVMLError_NoPermission"
        ),
    }
    for words, series in cases.items():
        seen = telemetry.guests(record)[0]
        changed = replace(seen, gpus=(replace(gpu, series=gpu.series | {"power": series}),))
        assert dict(telemetry.gpu_rows(changed)[0].seen)["power"] == words
    bare = replace(telemetry.guests(record)[0], gpus=(replace(gpu, series={}, properties={}, reasons={}),))
    rows = dict(telemetry.gpu_rows(bare)[0].seen)
    assert {rows[name] for name in ("power", "energy", "ECC mode", "remapped rows", "clocks reduced")} == {
        "not read"
    }


def test_what_was_not_planned_is_listed_as_such(recorded) -> None:
    record = recorded("hardware")
    guest = record.evidence.guests[0]
    left_out = WorkloadResult(
        workload="stream", guest=guest.name, engine="", key="", status="not_applicable", detail="no NVENC"
    )
    changed = replace(guest, results=(*guest.results, left_out))
    evidence = replace(record.evidence, guests=(changed, *record.evidence.guests[1:]))
    record = replace(record, evidence=evidence)
    assert telemetry.not_planned(record) == (("g1", "stream", "no NVENC"),)
    assert "<b>stream</b> in g1: no NVENC" in renderer("html").render(record)
    assert "not planned: stream in g1: no NVENC" in renderer("md").render(record)


def test_rounds_and_loads_side_by_side_are_drawn(recorded) -> None:
    seen = telemetry.guests(recorded("hardware"))[0]
    first, second, *rest = seen.loads
    beside = replace(seen, loads=(first, replace(second, start=first.start, end=first.end), *rest))
    picture = timeline(beside, {load.key: 1 + (load in rest) for load in beside.loads}, ALL)
    assert picture.count('class="round"') == 2
    assert ">round 2<" in picture
    assert timeline(replace(seen, loads=()), {}, ()) == ""


def test_a_week_of_loads_is_a_picture_that_opens(recorded) -> None:
    seen = telemetry.guests(recorded("hardware"))[0]
    load = seen.loads[0]
    many = tuple(
        replace(load, key=str(n), start=300.0 * n, end=300.0 * n + 299.0) for n in range(7 * 24 * 12)
    )
    picture = timeline(replace(seen, loads=many), {m.key: n for n, m in enumerate(many)}, (load.workload,))
    assert len(picture) < 1_000_000
    assert picture.count("under load from") <= 2 * len(seen.gpus)
