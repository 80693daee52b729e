"""Judgements of telemetry at their limits, on both sides, and what a missing sensor means to each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from harness.checks.registry import run_checks
from harness.checks.watching import alive as telemetry
from harness.checks.watching import gpu as telemetry_gpu
from harness.checks.watching import links as telemetry_link
from harness.checks.watching import memory as telemetry_memory
from harness.checks.watching.links import allowed_replays
from harness.faults.telemetry import watched, with_telemetry
from harness.model.evidence import Evidence
from harness.model.inventory import ExpectedLink, HostFile
from harness.model.outcome import Action, CheckResult, Outcome, SubjectKind
from harness.model.telemetry import Gap, GpuTelemetry, SeriesSummary
from harness.model.topology import Link
from harness.model.vendor import Kind
from harness.telemetry.gpu.series import PROPERTIES, REASONS, SENSOR
from tests.faults import clean

PASS, FAIL, ERROR, MISSING = Outcome.PASS, Outcome.FAIL, Outcome.ERROR, None


OF_A_GPU = tuple(
    check.id
    for module in (telemetry, telemetry_gpu, telemetry_memory, telemetry_link)
    for check in module.CHECKS
)


def judged(check: str, evidence: Evidence, host: HostFile | None = None) -> tuple[Outcome | None, str]:
    """Outcome and words for the first subject."""
    _, cells = run_checks(evidence, clean.profile(), host or clean.HOST)
    first = next(c for c in cells if c.check == check)
    return first.outcome, first.reason


def result(check: str, evidence: Evidence) -> CheckResult:
    results, _ = run_checks(evidence, clean.profile(), clean.HOST)
    return next(r for r in results if r.check == check)


def on_gpu(evidence: Evidence | None = None, **changes: Any) -> Evidence:
    start: Evidence = clean.evidence() if evidence is None else evidence
    first, *rest = watched(start).gpus
    return with_telemetry(start, gpus=(replace(first, **changes), *rest))


def gpu_of(evidence: Evidence) -> GpuTelemetry:
    return watched(evidence).gpus[0]


def on_series(name: str, evidence: Evidence | None = None, **changes: Any) -> Evidence:
    start: Evidence = clean.evidence() if evidence is None else evidence
    gpu = gpu_of(start)
    return on_gpu(start, series=gpu.series | {name: replace(gpu.series[name], **changes)})


def value(name: str, number: float, evidence: Evidence | None = None) -> Evidence:
    """A state that never moved, or the highest value of a gauge."""
    return on_series(name, evidence, first=number, last=number, minimum=number, maximum=number)


def grown(name: str, by: float, start: float = 0.0) -> Evidence:
    return on_series(name, first=start, last=start + by, minimum=start, maximum=start + by)


def properties(**changes: Any) -> Evidence:
    evidence: Evidence = clean.evidence()
    return on_gpu(evidence, properties=gpu_of(evidence).properties | changes)


def absent(*names: str, evidence: Evidence | None = None) -> Evidence:
    """Sensors that the card says it does not have."""
    start: Evidence = clean.evidence() if evidence is None else evidence
    gpu = gpu_of(start)
    none = {name: SeriesSummary(name=name, unit=SENSOR[name].unit, offered=False) for name in names}
    return on_gpu(start, series=gpu.series | none)


def test_the_clean_telemetry_speaks_the_names_of_the_registry() -> None:
    gpu = gpu_of(clean.evidence())
    assert set(gpu.series) == set(SENSOR)
    assert {name: series.unit for name, series in gpu.series.items()} == {
        name: sensor.unit for name, sensor in SENSOR.items()
    }
    assert set(gpu.properties) == set(PROPERTIES)
    assert set(gpu.reasons) <= set(REASONS.values())


@pytest.mark.parametrize("check", OF_A_GPU)
def test_nothing_about_a_gpu_passes_without_telemetry(check: str) -> None:
    evidence: Evidence = clean.evidence()
    guests = tuple(replace(guest, telemetry=None) for guest in evidence.guests)
    _, cells = run_checks(replace(evidence, guests=guests), clean.profile(), clean.HOST)
    assert {c.outcome for c in cells if c.check == check} == {MISSING}
    assert all(c.reason for c in cells if c.check == check)


@pytest.mark.parametrize("check", OF_A_GPU)
def test_a_gpu_whose_sensors_all_gave_nothing_passes_nothing_but_what_it_states(check: str) -> None:
    gpu = gpu_of(clean.evidence())
    silent = {
        name: replace(
            series, count=0, failed=600, minimum=None, maximum=None, first=None, last=None, mean=None
        )
        for name, series in gpu.series.items()
    }
    outcome, _ = judged(check, on_gpu(series=silent))
    assert (outcome is PASS) == (check in ("gpu.ecc_mode", "gpu.mig_mode"))


@pytest.mark.parametrize("check", OF_A_GPU)
def test_a_gpu_that_was_never_asked_passes_nothing(check: str) -> None:
    outcome, why = judged(check, on_gpu(series={}, properties={}, reasons={}))
    assert outcome in (MISSING, ERROR)
    assert why


@pytest.mark.parametrize("check", OF_A_GPU)
def test_a_stand_in_says_nothing_about_hardware_and_all_about_a_lab(check: str) -> None:
    evidence = with_telemetry(clean.evidence(), standin="default")
    outcome, why = judged(check, evidence)
    assert outcome in (MISSING, ERROR)
    assert "stand-in" in why
    assert judged(check, replace(evidence, subject=SubjectKind.LAB))[0] is PASS


def test_a_gap_names_when_how_long_and_which_load() -> None:
    gap = Gap(start=30.0, end=37.5, reason="nvmlDeviceGetPowerUsage did not come back")
    outcome, why = judged("telemetry.coverage", on_gpu(gaps=(gap,)))
    assert outcome is ERROR
    assert "no sample for 7.5 s from 30.0 s to 37.5 s under device: nvmlDeviceGetPowerUsage" in why


@pytest.mark.parametrize(("seconds", "outcome"), [(2.0, PASS), (2.1, ERROR)])
def test_a_gap_is_longer_than_the_profile_allows(seconds: float, outcome: Outcome) -> None:
    gap = Gap(start=40.0, end=40.0 + seconds)
    assert judged("telemetry.coverage", on_gpu(gaps=(gap,)))[0] is outcome


def test_a_load_of_which_nothing_is_covered_does_not_pass_for_being_short() -> None:
    gap = Gap(start=25.0, end=26.5)
    evidence = on_gpu(gaps=(gap,), load_seconds=1.5, covered_seconds=0.0)
    assert judged("telemetry.coverage", evidence)[0] is ERROR


@pytest.mark.parametrize(("count", "outcome"), [(599, PASS), (598, ERROR), (1200, PASS), (0, ERROR)])
def test_half_of_the_asked_rate_is_enough(count: int, outcome: Outcome) -> None:
    """120 s under load at 10 Hz: 5 Hz are 600 samples, of which the first may lie before the load."""
    gpu = gpu_of(clean.evidence())
    thin = {name: replace(series, count=min(series.count, count)) for name, series in gpu.series.items()}
    assert judged("telemetry.coverage", on_gpu(series=thin))[0] is outcome


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"started": 25.0}, PASS),
        ({"started": 25.1}, ERROR),
        ({"started": None}, ERROR),
        ({"ended": 145.0}, PASS),
        ({"ended": 144.9}, ERROR),
        ({"ended": None}, ERROR),
        ({"closed": False}, ERROR),
        ({"fast_hz": 9.0}, ERROR),
        ({"loads": ()}, MISSING),
        ({"source": "", "detail": "NVMLError_DriverNotLoaded"}, MISSING),
    ],
)
def test_the_sampler_must_outlive_the_loads(changes: dict[str, Any], outcome: Outcome | None) -> None:
    assert judged("telemetry.coverage", with_telemetry(clean.evidence(), **changes))[0] is outcome


def test_a_gpu_that_cannot_be_told_apart_is_no_missing_gpu() -> None:
    evidence = on_gpu(gpu=None)
    outcome, why = judged("telemetry.coverage", evidence)
    assert outcome is ERROR
    assert "could be matched to" in why


def test_a_load_that_timed_out_still_needs_its_window_and_one_that_never_ran_does_not() -> None:
    evidence: Evidence = clean.evidence()
    guest = evidence.guests[0]
    for status, outcome in (("timeout", ERROR), ("lost", PASS), ("not_applicable", PASS)):
        more = replace(guest.results[0], key="never-seen", status=status)
        changed = replace(guest, results=(*guest.results, more))
        assert (
            judged("telemetry.coverage", replace(evidence, guests=(changed, *evidence.guests[1:])))[0]
            is outcome
        )


def test_a_hung_call_is_charged_to_the_gpu_that_it_names() -> None:
    evidence: Evidence = clean.evidence()
    one, four, *_ = evidence.guests
    assert four.telemetry is not None
    uuid = four.telemetry.gpus[2].uuid
    hung = replace(four.telemetry, hung=(f"nvmlDeviceGetPowerUsage on GPU 2 ({uuid}) at 31.0 s",))
    _, cells = run_checks(
        replace(evidence, guests=(one, replace(four, telemetry=hung))), clean.profile(), clean.HOST
    )
    found = [c.outcome for c in cells if c.check == "telemetry.present"]
    assert found == [PASS, PASS, PASS, FAIL, PASS]


def test_a_call_that_came_back_is_told_and_left_to_the_gap_it_made() -> None:
    call = "nvmlDeviceGetPowerUsage on GPU 0 at 31.0 s; it came back after 4.2 s"
    said = result("telemetry.present", with_telemetry(clean.evidence(), hung=(call,)))
    assert said.outcome is PASS
    assert "4.2 s" in said.message


@pytest.mark.parametrize(
    ("name", "still", "outcome"),
    [("energy", 9.9, PASS), ("energy", 10.0, ERROR), ("power", 29.9, PASS), ("power", 30.0, ERROR)],
)
def test_sensors_may_stand_still_only_for_so_long(name: str, still: float, outcome: Outcome) -> None:
    assert judged("telemetry.alive", on_series(name, unchanged_seconds=still))[0] is outcome


def test_a_card_without_energy_counter_and_power_cannot_show_that_it_lives() -> None:
    assert judged("telemetry.alive", absent("energy"))[0] is PASS
    assert judged("telemetry.alive", absent("energy", "power"))[0] is MISSING


@pytest.mark.parametrize(
    ("name", "seconds", "outcome"),
    [
        ("hw_thermal", 1.2, PASS),
        ("hw_thermal", 1.3, FAIL),
        ("sw_thermal", 1.3, FAIL),
        ("power_brake", 1.3, FAIL),
        ("hw_slowdown", 1.3, FAIL),
        ("sw_power_cap", 120.0, PASS),
        ("app_clocks", 120.0, PASS),
        ("sync_boost", 120.0, PASS),
    ],
)
def test_a_hundredth_of_the_load_may_be_held_back(name: str, seconds: float, outcome: Outcome) -> None:
    assert judged("gpu.clock_reasons", on_gpu(reasons={name: seconds}))[0] is outcome


def test_the_most_telling_reason_names_what_to_do() -> None:
    said = result("gpu.clock_reasons", on_gpu(reasons={"hw_slowdown": 9.0, "power_brake": 9.0}))
    assert said.action is Action.FIX_CONFIG
    assert "power supplies" in said.remedy


@pytest.mark.parametrize(
    ("name", "hottest", "outcome"),
    [
        ("temperature", 87.0, PASS),
        ("temperature", 88.0, FAIL),
        ("temperature_memory", 95.0, PASS),
        ("temperature_memory", 96.0, FAIL),
    ],
)
def test_the_cards_own_thresholds_are_the_limit(name: str, hottest: float, outcome: Outcome) -> None:
    assert judged("gpu.temperature", on_series(name, maximum=hottest))[0] is outcome


@pytest.mark.parametrize(
    ("gpu_max", "slowdown", "outcome"),
    [(None, 70.0, FAIL), (0.0, 89.0, PASS), (-5.0, None, MISSING), (None, None, MISSING)],
)
def test_a_threshold_of_zero_or_less_is_none(
    gpu_max: float | None, slowdown: float | None, outcome: Outcome | None
) -> None:
    evidence = properties(temperature_gpu_max=gpu_max, temperature_slowdown=slowdown)
    assert judged("gpu.temperature", evidence)[0] is outcome


@pytest.mark.parametrize(
    ("least", "most", "tlimit", "outcome"),
    [
        (0.0, 50.0, 0, PASS),
        (-1.0, 50.0, 0, FAIL),
        (0.0, 50.0, 3, FAIL),
        (-1.0, 50.0, None, FAIL),
        (-30.0, -12.0, 0, MISSING),
        (0.0, 0.0, 0, MISSING),
    ],
)
def test_a_card_that_tells_margins_needs_no_absolute_thresholds(
    least: float, most: float, tlimit: float | None, outcome: Outcome | None
) -> None:
    """From driver 570 on Ada and later; the rest of gpu_max and slowdown there is None, zero or nonsense."""
    told = on_series("temperature_margin", offered=True, count=600, minimum=least, maximum=most)
    known = gpu_of(told).properties | {
        "temperature_gpu_max": None,
        "temperature_slowdown": -2.0,
        "temperature_memory_max": None,
        "temperature_gpu_max_tlimit": tlimit,
    }
    assert judged("gpu.temperature", on_gpu(told, properties=known))[0] is outcome


def test_a_margin_outranks_the_absolute_thresholds_it_supersedes() -> None:
    told = on_series("temperature_margin", offered=True, count=600, minimum=3.0, maximum=50.0)
    known = gpu_of(told).properties | {"temperature_gpu_max": 60.0, "temperature_gpu_max_tlimit": 0}
    assert judged("gpu.temperature", on_gpu(told, properties=known))[0] is PASS
    unread = {name: value for name, value in known.items() if name != "temperature_gpu_max_tlimit"}
    assert judged("gpu.temperature", on_gpu(told, properties=unread))[0] is MISSING


def test_a_highest_operating_temperature_above_the_slowdown_is_not_believed() -> None:
    assert (
        judged("gpu.temperature", properties(temperature_gpu_max=105.0, temperature_slowdown=70.0))[0] is FAIL
    )


def test_memory_without_a_sensor_is_said_and_core_without_one_is_missing() -> None:
    assert "no memory temperature sensor" in result("gpu.temperature", absent("temperature_memory")).message
    assert judged("gpu.temperature", absent("temperature"))[0] is MISSING


@pytest.mark.parametrize(
    ("evidence", "outcome"),
    [
        (lambda: properties(power_limit=700.0), PASS),
        (lambda: properties(power_limit=699.9), FAIL),
        (lambda: properties(power_limit_default=None), PASS),
        (lambda: properties(power_limit=None), MISSING),
        (lambda: grown("energy", 1.1 * 700 * 120 - 1), PASS),
        (lambda: grown("energy", 1.1 * 700 * 120 + 1), FAIL),
        (lambda: absent("energy"), PASS),
        (lambda: absent("energy", "power"), MISSING),
    ],
)
def test_power_keeps_the_cards_own_limit(evidence: Callable[[], Evidence], outcome: Outcome | None) -> None:
    assert judged("gpu.power", evidence())[0] is outcome


@pytest.mark.parametrize(
    ("mode", "outcome"),
    [
        ({}, PASS),
        ({"ecc_current": False, "ecc_pending": False}, FAIL),
        ({"ecc_current": False, "ecc_pending": False, "ecc_default": None}, FAIL),
        ({"ecc_current": False, "ecc_pending": False, "ecc_default": False}, PASS),
        ({"ecc_current": True, "ecc_pending": False}, FAIL),
        ({"ecc_current": None, "ecc_pending": None, "ecc_default": None}, PASS),
    ],
)
def test_ecc_is_on_where_there_is_any(mode: dict[str, Any], outcome: Outcome) -> None:
    assert judged("gpu.ecc_mode", properties(**mode))[0] is outcome


@pytest.mark.parametrize(
    ("mode", "outcome"),
    [
        ({}, PASS),
        ({"mig": True, "mig_pending": True}, FAIL),
        ({"mig": True, "mig_pending": False}, FAIL),
        ({"mig": False, "mig_pending": True}, FAIL),
        ({"mig": None, "mig_pending": None}, PASS),
    ],
)
def test_a_gpu_that_is_or_will_be_divided_is_no_whole_gpu(mode: dict[str, Any], outcome: Outcome) -> None:
    assert judged("gpu.mig_mode", properties(**mode))[0] is outcome


@pytest.mark.parametrize(
    ("name", "start", "by", "outcome"),
    [
        ("ecc_uncorrected", 0.0, 0.0, PASS),
        ("ecc_uncorrected", 0.0, 1.0, FAIL),
        ("ecc_uncorrected", 1.0, 0.0, FAIL),
        ("ecc_uncorrected_aggregate", 3.0, 0.0, PASS),
        ("ecc_uncorrected_aggregate", 3.0, 1.0, FAIL),
        ("ecc_corrected", 5e6, 100.0, PASS),
        ("ecc_corrected", 0.0, 101.0, FAIL),
        ("ecc_corrected", 9.0, -9.0, MISSING),
        ("remap_corrected", 7.0, 0.0, PASS),
        ("remap_corrected", 0.0, 1.0, FAIL),
        ("remap_uncorrected", 511.0, 0.0, PASS),
        ("remap_uncorrected", 512.0, 0.0, FAIL),
    ],
)
def test_memory_errors_at_their_limits(name: str, start: float, by: float, outcome: Outcome | None) -> None:
    check = "gpu.ecc_errors" if name.startswith("ecc") else "gpu.retired_memory"
    assert judged(check, grown(name, by, start))[0] is outcome


def _before_ampere(single: float, double: float, pending: float = 0.0) -> Evidence:
    rows = ("remap_corrected", "remap_uncorrected", "remap_pending", "remap_failed")
    evidence = absent(*rows)
    pages = {"retired_single_bit": single, "retired_double_bit": double, "retired_pending": pending}
    for name, number in pages.items():
        evidence = value(name, number, on_series(name, evidence, offered=True, count=120))
    return evidence


@pytest.mark.parametrize(
    ("single", "double", "pending", "outcome"),
    [
        (62.0, 0.0, 0.0, PASS),
        (63.0, 0.0, 0.0, FAIL),
        (50.0, 13.0, 0.0, FAIL),
        (0.0, 15.0, 0.0, PASS),
        (0.0, 16.0, 0.0, FAIL),
        (0.0, 0.0, 1.0, FAIL),
    ],
)
def test_retired_pages_of_older_cards(single: float, double: float, pending: float, outcome: Outcome) -> None:
    assert judged("gpu.retired_memory", _before_ampere(single, double, pending))[0] is outcome


@pytest.mark.parametrize(
    ("mode", "outcome"), [(None, PASS), (True, MISSING), (False, MISSING)], ids=["no ECC", "on", "off"]
)
def test_counters_that_a_card_lacks_pass_only_where_it_says_that_it_has_no_ecc(
    mode: bool | None, outcome: Outcome | None
) -> None:
    gone = [name for name in SENSOR if name.startswith(("ecc_", "remap_", "retired_"))]
    evidence = absent(*gone, evidence=properties(ecc_current=mode))
    assert judged("gpu.ecc_errors", evidence)[0] is outcome
    assert judged("gpu.retired_memory", evidence)[0] is outcome


def test_a_card_that_is_delivered_with_ecc_off_has_nothing_to_count() -> None:
    gone = [name for name in SENSOR if name.startswith(("ecc_", "remap_", "retired_"))]
    off = properties(ecc_current=False, ecc_pending=False, ecc_default=False)
    for check in ("gpu.ecc_mode", "gpu.ecc_errors", "gpu.retired_memory"):
        assert judged(check, absent(*gone, evidence=off))[0] is PASS
    on = properties(ecc_current=True, ecc_pending=True, ecc_default=False)
    assert judged("gpu.ecc_errors", absent(*gone, evidence=on))[0] is MISSING
    unknown = properties(ecc_current=False, ecc_pending=False, ecc_default=None)
    assert judged("gpu.ecc_errors", absent(*gone, evidence=unknown))[0] is MISSING


def test_what_the_driver_asks_for_names_what_to_do() -> None:
    said = result("telemetry.present", value("recovery_action", 2.0))
    assert (said.outcome, said.action) == (FAIL, Action.RESTART_HOST)
    assert judged("telemetry.present", absent("recovery_action"))[0] is PASS
    assert judged("gpu.ecc_errors", properties(sram_exceeded=None))[0] is PASS


def test_a_gpu_that_needs_a_reset_is_not_to_be_replaced_for_it() -> None:
    said = result("telemetry.present", on_gpu(vanished="at 71.2 s: slow: NVMLError_ResetRequired"))
    assert (said.outcome, said.action) == (FAIL, Action.RESET_GPU)


@pytest.mark.parametrize(
    ("generation", "width", "seconds", "most"),
    [
        (3, 16, 60.0, 8),
        (4, 16, 60.0, 16),
        (5, 16, 60.0, 31),
        (4, 16, 30.0, 16),
        (4, 16, 150.0, 40),
        (3, 8, 60.0, 4),
    ],
)
def test_allowed_replays_are_those_of_dcgm(generation: int, width: int, seconds: float, most: int) -> None:
    """statistics-and-faults §6: x16 gives 8, 16 and 31 a minute."""
    assert allowed_replays(generation, width, seconds) == most


@pytest.mark.parametrize(("replays", "outcome"), [(32.0, PASS), (33.0, FAIL)])
def test_replays_are_held_to_the_time_under_load(replays: float, outcome: Outcome) -> None:
    """Two minutes of load at generation 4 x16: 32."""
    assert judged("gpu.pcie_under_load", grown("pcie_replays", replays))[0] is outcome


def test_a_link_may_be_slow_at_rest_but_not_at_its_best() -> None:
    check = "gpu.pcie_under_load"
    assert judged(check, on_series("pcie_gen", minimum=1.0, maximum=4.0))[0] is PASS
    assert judged(check, value("pcie_gen", 3.0))[0] is FAIL
    assert judged(check, value("pcie_width", 8.0))[0] is FAIL


def test_a_gpu_that_never_worked_proves_nothing_about_its_link() -> None:
    idle = value("util_gpu", 0.0, value("pcie_gen", 1.0))
    assert judged("gpu.pcie_under_load", idle)[0] is MISSING
    # nvidia-smi's manual: generation and width "may be reduced when the GPU is not in use".
    assert judged("gpu.pcie_under_load", value("util_gpu", 0.0, value("pcie_width", 8.0)))[0] is MISSING
    assert judged("gpu.pcie_under_load", value("pcie_width", 8.0))[0] is FAIL


def test_a_card_and_slot_of_the_wrong_generation_do_not_excuse_each_other() -> None:
    evidence = properties(pcie_max_gen=3.0)
    evidence = value("pcie_gen", 3.0, evidence)
    assert judged("gpu.pcie_under_load", evidence)[0] is FAIL
    none = replace(clean.HOST, expected_link=None)
    assert judged("gpu.pcie_under_load", evidence, none)[0] is PASS
    five = replace(clean.HOST, expected_link=ExpectedLink(speed_gts=32.0, width=16))
    assert judged("gpu.pcie_under_load", clean.evidence(), five)[0] is FAIL


def _by_host(evidence: Evidence, **link: Any) -> Evidence:
    """The host's own reading of the first GPU's link."""
    telemetry = evidence.host_telemetry
    assert telemetry is not None
    first, *rest = telemetry.devices
    return replace(evidence, host_telemetry=replace(telemetry, devices=(replace(first, **link), *rest)))


def test_a_card_in_a_slot_of_fewer_lanes_is_held_to_what_the_host_file_says() -> None:
    eight = replace(clean.HOST, expected_link=ExpectedLink(speed_gts=16.0, width=8))
    narrow = value("pcie_width", 8.0)
    assert judged("gpu.pcie_under_load", narrow, eight)[0] is PASS
    assert judged("gpu.pcie_under_load", value("pcie_width", 4.0), eight)[0] is FAIL
    unsaid = replace(clean.HOST, expected_link=ExpectedLink(speed_gts=16.0))
    assert judged("gpu.pcie_under_load", narrow, unsaid)[0] is FAIL


def test_a_link_that_the_host_saw_whole_is_not_called_broken_on_the_guests_word() -> None:
    slow, five = value("pcie_gen", 4.0), replace(clean.HOST, expected_link=ExpectedLink(speed_gts=32.0))
    whole = _by_host(slow, speed_gts_max=32.0, width_max=16)
    outcome, why = judged("gpu.pcie_under_load", whole, five)
    assert (outcome, "contradict" in why) == (MISSING, True)
    for link in ({"speed_gts_max": 16.0, "width_max": 16}, {"speed_gts_max": 32.0, "width_max": 8}):
        assert judged("gpu.pcie_under_load", _by_host(slow, **link), five)[0] is FAIL


def _at_rest(evidence: Evidence) -> Evidence:
    """Every port shows generation 1 before and after, as idle GPUs do."""
    facts = evidence.facts
    assert facts is not None
    idle = Link(speed_gts=2.5, width=16, max_speed_gts=16.0, max_width=16)
    devices = tuple(replace(d, link=idle) if d.class_code == "060400" else d for d in facts.pci_devices)
    changed = replace(facts, pci_devices=devices)
    return replace(evidence, facts=changed, facts_after=changed)


def test_a_link_that_was_read_at_rest_is_answered_by_what_was_read_under_load() -> None:
    evidence = _at_rest(clean.evidence())
    assert judged("gpu.link", evidence)[0] is PASS
    guest_only = replace(evidence, host_telemetry=None)
    assert judged("gpu.link", guest_only)[0] is PASS
    unwatched = replace(guest_only, guests=tuple(replace(guest, telemetry=None) for guest in evidence.guests))
    assert judged("gpu.link", unwatched)[0] is MISSING
    stood_in = tuple(
        replace(g, telemetry=replace(g.telemetry, standin="default") if g.telemetry else None)
        for g in guest_only.guests
    )
    assert judged("gpu.link", replace(guest_only, guests=stood_in, subject=SubjectKind.LAB))[0] is MISSING


def nvlink_5(errors: float) -> Evidence:
    counted = on_series(
        "nvlink_errors", offered=True, count=60, first=0.0, last=errors, minimum=0.0, maximum=errors
    )
    return absent("nvlink_replay", "nvlink_crc", evidence=counted)


@pytest.mark.parametrize(
    ("evidence", "outcome"),
    [
        (lambda: properties(nvlink_links=None), PASS),
        (lambda: properties(nvlink_links=0.0), PASS),
        (lambda: absent("nvlink_active"), MISSING),
        (lambda: value("nvlink_active", 0.0), PASS),
        (lambda: on_series("nvlink_active", minimum=17.0), FAIL),
        (lambda: on_series("nvlink_active", minimum=17.0, first=17.0), MISSING),
        (lambda: on_series("nvlink_active", minimum=17.0, first=17.0, last=17.0), FAIL),
        (lambda: grown("nvlink_replay", 1.0), FAIL),
        (lambda: grown("nvlink_recovery", 1.0), FAIL),
        (lambda: grown("nvlink_crc", 432.0), PASS),
        (lambda: grown("nvlink_crc", 433.0), FAIL),
        (lambda: absent("nvlink_replay", "nvlink_recovery", "nvlink_crc"), MISSING),
        (lambda: nvlink_5(0.0), PASS),
        (lambda: nvlink_5(1.0), FAIL),
    ],
)
def test_nvlink_at_its_limits(evidence: Callable[[], Evidence], outcome: Outcome | None) -> None:
    assert judged("gpu.nvlink", evidence())[0] is outcome


def test_a_card_with_fewer_links_than_its_neighbour_is_seen() -> None:
    evidence: Evidence = clean.evidence()
    one, four, *_ = evidence.guests
    assert four.telemetry is not None
    gpu = four.telemetry.gpus[1]
    fewer = replace(
        gpu,
        series=gpu.series
        | {"nvlink_active": replace(gpu.series["nvlink_active"], minimum=12.0, maximum=12.0, last=12.0)},
    )
    gpus = tuple(fewer if g is gpu else g for g in four.telemetry.gpus)
    changed = replace(four, telemetry=replace(four.telemetry, gpus=gpus))
    _, cells = run_checks(replace(evidence, guests=(one, changed)), clean.profile(), clean.HOST)
    assert [c.outcome for c in cells if c.check == "gpu.nvlink"] == [PASS, PASS, FAIL, PASS, PASS]


def test_processes_that_cannot_be_listed_are_not_absent() -> None:
    assert judged("gpu.foreign_processes", absent("processes"))[0] is MISSING
    assert judged("gpu.foreign_processes", on_gpu(processes=("Xorg",)))[0] is FAIL


@pytest.mark.parametrize(
    ("failed", "count", "outcome"),
    [(1, 30, PASS), (2, 30, MISSING), (6, 594, PASS), (7, 593, MISSING), (599, 1, MISSING)],
)
def test_a_sensor_that_fails_too_often_has_not_seen_the_load(
    failed: int, count: int, outcome: Outcome | None
) -> None:
    said, why = judged("gpu.temperature", on_series("temperature", failed=failed, count=count))
    assert said is outcome
    assert said is PASS or f"failed in {failed} of" in why


def test_only_what_is_read_under_load_tells_the_rate_under_load() -> None:
    evidence: Evidence = clean.evidence()
    gpu = gpu_of(evidence)
    # Counters are read for an hour between loads, and nearly nothing was read while they ran.
    thin = {
        name: series if SENSOR[name].kind is Kind.COUNTER else replace(series, count=series.count // 20)
        for name, series in gpu.series.items()
    }
    outcome, why = judged("telemetry.coverage", on_gpu(evidence, series=thin))
    assert outcome is ERROR
    assert "less than 5 Hz" in why


@pytest.mark.parametrize(
    ("check", "name"),
    [
        ("gpu.ecc_mode", "ecc_current"),
        ("gpu.ecc_errors", "sram_exceeded"),
        ("gpu.mig_mode", "mig"),
        ("gpu.mig_mode", "mig_pending"),
        ("gpu.power", "power_limit"),
        ("gpu.temperature", "temperature_gpu_max"),
        ("gpu.nvlink", "nvlink_links"),
    ],
)
def test_a_property_that_could_not_be_read_is_not_one_that_the_card_lacks(check: str, name: str) -> None:
    evidence: Evidence = clean.evidence()
    known = {key: value for key, value in gpu_of(evidence).properties.items() if key != name}
    assert judged(check, on_gpu(evidence, properties=known))[0] is MISSING


def test_functions_without_lanes_and_counters_show_nothing_of_the_hosts_links() -> None:
    evidence: Evidence = clean.evidence()
    host = evidence.host_telemetry
    assert host is not None
    mute = tuple(replace(d, width_min=None, width_max=None, aer={}) for d in host.devices)
    blind = replace(evidence, host_telemetry=replace(host, devices=mute))
    outcome, why = judged("host.device_errors", blind)
    assert outcome is MISSING
    assert "reports its link width" in why
    away = (replace(mute[0], missing=1), *mute[1:])
    assert judged("host.device_errors", replace(blind, host_telemetry=replace(host, devices=away)))[0] is FAIL


def burnt(*windows: tuple[float, float], due: float) -> tuple[Outcome | None, str]:
    """What is said of a guest's loads that ran at these times, where the profile demands so many seconds."""
    evidence: Evidence = clean.evidence()
    first, *rest = evidence.guests
    load = first.results[0]
    ran = tuple(
        replace(load, started=start, ended=end, round=number)
        for number, (start, end) in enumerate(windows, start=1)
    )
    given = replace(evidence, guests=(replace(first, results=ran), *rest))
    _, cells = run_checks(given, replace(clean.profile(), burn_seconds=due), clean.HOST)
    cell = next(c for c in cells if c.check == "workload.burn_time")
    return cell.outcome, cell.reason


@pytest.mark.parametrize(
    ("windows", "due", "outcome"),
    [
        (((10.0, 60.0), (60.0, 109.0)), 100.0, PASS),
        (((10.0, 60.0), (60.0, 108.9)), 100.0, ERROR),
        (((10.0, 50.0), (70.0, 110.0)), 100.0, PASS),
        (((10.0, 49.9), (70.0, 110.0)), 100.0, ERROR),
        (((10.0, 60.0), (10.0, 60.0), (100.0, 110.0)), 100.0, ERROR),
        (((10.0, 11.0),), 0.0, PASS),
        ((), 0.0, MISSING),
    ],
)
def test_loads_are_kept_up_for_as_long_as_the_profile_demands(
    windows: tuple[tuple[float, float], ...], due: float, outcome: Outcome | None
) -> None:
    """At least 0.99 of the time from the first to the last, and at least 0.8 of that under load."""
    assert burnt(*windows, due=due)[0] is outcome
