"""A spool summed up over its loads: what was covered, what moved, what broke, and when."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.files import load_kernel_codes
from harness.model.gpu import Cards, GpuRef
from harness.model.inventory import TelemetrySpec
from harness.model.pci import PciAddress
from harness.model.telemetry import Family, GuestTelemetry, LoadWindow, Ruling
from harness.telemetry.gpu.series import REASONS, SENSORS
from harness.telemetry.gpu.spool import read_spool
from harness.telemetry.gpu.summary import summarize
from tests.telemetry import spools as s

CODES = load_kernel_codes()
LOAD = (LoadWindow(workload="tensor", key="k1", start=105.0, end=115.0),)
HERE, THERE = PciAddress.parse("0000:05:00.0"), PciAddress.parse("0000:41:00.0")
CARDS = Cards(refs=(GpuRef(host=THERE, guest=HERE, slot="7"),))


def summed(lines: list[bytes], loads: tuple[LoadWindow, ...] = LOAD) -> GuestTelemetry:
    return summarize(
        read_spool(b"".join(lines)),
        loads,
        TelemetrySpec(),
        guest="g1",
        cards=CARDS,
        codes=CODES,
    )


def without(lines: list[bytes], first: float, last: float) -> list[bytes]:
    """The spool of a sampler that saw nothing in between."""
    lost = {s.fast(at) for at in s.grid(first, last, 0.1)} | {s.slow(at) for at in s.grid(first, last, 0.1)}
    return [line for line in lines if line not in lost]


def test_a_quiet_load_is_covered_whole() -> None:
    found = summed(s.whole())
    (gpu,) = found.gpus
    assert (gpu.load_seconds, gpu.gaps, gpu.vanished) == (10.0, (), "")
    assert gpu.covered_seconds == pytest.approx(10.0)
    assert (gpu.address, gpu.host_address) == (HERE, THERE)
    power = gpu.series["power"]
    assert (power.minimum, power.maximum, power.count, power.failed) == (605.0, 615.0, 101, 0)
    assert power.p50 == pytest.approx(610.0)
    assert power.unchanged_seconds == 0.0
    assert gpu.series["temperature"].unchanged_seconds == pytest.approx(10.0)
    assert (found.closed, found.started, found.ended, found.cpu_seconds) == (True, 99.0, 120.1, 1.25)
    assert (found.source, found.driver, found.problems, found.detail) == ("nvml", "535.261.03", (), "")


def test_a_counter_is_read_before_and_after_the_load_too() -> None:
    lines = s.whole()
    lines = [line.replace(b"[0, 0, 5", b"[3, 0, 5") if b'"mono": 116.0' in line else line for line in lines]
    found = summed(lines).gpus[0].series
    assert (found["ecc_corrected"].first, found["ecc_corrected"].maximum) == (0.0, 3.0)
    assert found["ecc_corrected"].doubts[0].rule == "fell"  # it reads 0 again at 117 s
    assert found["ecc_corrected"].increase == 3.0
    assert found["energy"].increase == pytest.approx(600.0 * 10.0)  # over the load's own 10 s
    assert found["pcie_gen"].count == 101


def test_a_state_that_is_told_after_the_load_counts_and_a_gauge_then_does_not() -> None:
    lines = [line for line in s.whole() if b'"mono": 116.0' not in line]
    lines[-30:-30] = []
    at = next(place for place, line in enumerate(lines) if b'"mono": 116.1' in line)
    lines[at:at] = [s.slow(116.0, remap_pending=1, memory_used=9e9)]
    found = summed(lines).gpus[0].series
    assert found["remap_pending"].maximum == 1.0
    assert found["memory_used"].maximum == 5e9


def test_what_a_card_does_not_have_is_told_and_what_was_never_asked_is_not_there() -> None:
    found = summed(s.whole()).gpus[0].series
    assert not found["util_encoder"].offered
    assert "remap_failed" not in found
    assert {name for name, series in found.items() if series.offered} == {*s.FAST, *s.SLOW}


def test_a_silence_is_a_gap_and_the_reads_around_it_do_not_fill_it() -> None:
    (gpu,) = summed(without(s.whole(), 108.1, 111.9)).gpus
    assert [(gap.start, gap.end) for gap in gpu.gaps] == [(108.0, 112.0)]
    assert gpu.covered_seconds == pytest.approx(6.0)


def test_a_sampler_that_fell_silent_leaves_a_gap_to_the_end() -> None:
    lines = [line for line in s.whole(100.0, 110.0) if b'"end"' not in line]
    found = summed(lines)
    assert not found.closed
    assert found.ended == 110.0
    (gap,) = found.gpus[0].gaps
    assert (gap.start, gap.end, gap.reason) == (110.0, 115.0, "the sampler stopped by itself")


def test_rounds_in_which_every_read_failed_cover_nothing() -> None:
    nothing = dict.fromkeys(s.FAST)
    lines = [s.fast(at, **nothing) if 108.0 < at < 112.0 else s.fast(at) for at in s.grid(100.0, 120.0, 0.1)]
    (gpu,) = summed([s.start(), s.nvml(), s.gpu(), *lines, s.end(121.0)]).gpus
    assert [(gap.start, gap.end, gap.reason) for gap in gpu.gaps] == [(108.0, 112.0, "every read failed")]
    assert gpu.series["power"].failed == 39


def test_a_value_that_freezes_is_told_with_its_time_under_load() -> None:
    lines = [s.fast(at, power=500.0 if 106.0 <= at <= 111.0 else at) for at in s.grid(100.0, 120.0, 0.1)]
    (gpu,) = summed([s.start(), s.nvml(), s.gpu(), *lines, s.end(121.0)]).gpus
    assert gpu.series["power"].unchanged_seconds == pytest.approx(5.0)


def test_a_freeze_goes_on_over_the_pause_between_two_loads_but_only_load_counts() -> None:
    loads = tuple(
        LoadWindow(workload="w", key=f"k{n}", start=start, end=start + 4.0)
        for n, start in enumerate((102.0, 110.0))
    )
    lines = [s.fast(at, power=500.0) for at in s.grid(100.0, 120.0, 0.1)]
    (gpu,) = summed([s.start(), s.nvml(), s.gpu(), *lines, s.end(121.0)], loads).gpus
    assert gpu.series["power"].unchanged_seconds == pytest.approx(8.0)
    assert gpu.load_seconds == 8.0


def test_seconds_of_each_clock_reason_come_from_its_bit() -> None:
    lines = [
        s.fast(at, reasons=0x44 if 106.0 <= at < 108.0 else 0x200 if at >= 114.0 else 4)
        for at in s.grid(100.0, 120.0, 0.1)
    ]
    (gpu,) = summed([s.start(), s.nvml(), s.gpu(), *lines, s.end(121.0)]).gpus
    assert gpu.reasons["hw_thermal"] == pytest.approx(2.0)
    assert gpu.reasons["sw_power_cap"] == pytest.approx(9.0)
    assert gpu.reasons["power_brake"] == 0.0
    assert gpu.reasons["bit_9"] == pytest.approx(1.0)
    assert set(REASONS.values()) <= set(gpu.reasons)


def test_a_card_that_tells_no_reasons_has_none() -> None:
    lines = [s.start(), s.nvml(), s.gpu(fast=["power"], not_offered=["reasons"])]
    lines += [s.line("fast", mono=at, gpu=0, values=[at]) for at in s.grid(100.0, 120.0, 0.1)]
    (gpu,) = summed([*lines, s.end(121.0)]).gpus
    assert gpu.reasons == {}
    assert not gpu.series["reasons"].offered


def test_a_gpu_that_is_lost_names_when_and_with_which_error() -> None:
    lines = [line for line in s.whole() if b'"fast"' not in line or b'"mono": 11' not in line]
    lines.insert(-1, s.line("lost", mono=110.0, gpu=0, call="nvmlDeviceGetPowerUsage", error="GpuIsLost"))
    (gpu,) = summed(lines).gpus
    assert gpu.vanished == "at 110.0 s: GpuIsLost from nvmlDeviceGetPowerUsage"
    assert gpu.gaps[0].reason == "GpuIsLost from nvmlDeviceGetPowerUsage"


def test_a_call_that_hangs_names_its_gpu_and_explains_the_gap() -> None:
    lines = without(s.whole(), 108.1, 111.9)
    call = {"gpu": 0, "call": "nvmlDeviceGetPowerUsage"}
    lines.insert(-1, s.line("hung", mono=110.1, seconds=2.0, pid=7, **call))
    found = summed(lines)
    assert found.hung == ("nvmlDeviceGetPowerUsage on GPU 0 (GPU-0000) at 110.1 s",)
    assert found.gpus[0].vanished == "at 110.1 s: nvmlDeviceGetPowerUsage never came back"
    lines.insert(-1, s.line("returned", mono=112.0, seconds=4.0, **call))
    found = summed(lines)
    assert found.hung[0].endswith("it came back after 4.0 s")
    assert found.gpus[0].vanished == ""
    assert found.gpus[0].gaps[0].reason == "nvmlDeviceGetPowerUsage came back late"


def test_without_nvml_the_reason_is_told() -> None:
    none = s.nvml(source="", driver="", gpus=0, detail="pynvml is not installed: No module named 'pynvml'")
    found = summed([s.start(), none, s.end(120.0)])
    assert (found.source, found.gpus) == ("", ())
    assert "pynvml is not installed" in found.detail
    hung = s.line("hung", mono=110.0, gpu=None, call="nvmlInit_v2", seconds=30.0, pid=9)
    assert summed([s.start(), hung, s.end(120.0)]).detail == "the GPU driver's library never answered"
    assert summed([s.start(), s.end(120.0)]).detail == "the GPU driver's library was never asked"


def test_an_end_that_nobody_asked_for_is_no_end_of_ours() -> None:
    lines = [*s.whole()[:-1], s.end(120.0, "disk full")]
    found = summed(lines)
    assert not found.closed
    assert found.detail == "disk full"


def test_processes_that_are_not_ours_are_named() -> None:
    rows = [
        {"pid": 7, "name": "python3", "bytes": 5, "ours": True},
        {"pid": 8, "name": "miner", "bytes": None, "ours": False},
        {"pid": 9, "name": "", "bytes": None, "ours": False},
    ]
    lines = s.whole()
    lines.insert(-1, s.line("processes", mono=119.0, gpu=0, list=rows))
    assert summed(lines).gpus[0].processes == ("miner", "pid 9")


def test_the_kernel_log_is_read_by_the_tables_and_its_losses_are_told() -> None:
    lines = s.whole()
    lines[-1:-1] = [
        s.line(
            "kmsg", mono=112.0, seq=9, t=112.0, level=3, facility=0, text="NVRM: Xid (PCI:0000:05:00): 79, x"
        ),
        s.line("kmsg_dropped", mono=113.0, lines=3),
    ]
    log = summed(lines).kernel
    assert log is not None
    assert (log.source, log.followed_from, log.followed_to, log.dropped) == ("g1", 99.0, 120.1, 3)
    (event,) = log.events
    assert (event.family, event.code, event.device, event.ruling) == (Family.XID, 79, THERE, Ruling.STOP)
    assert event.inside == HERE


@pytest.mark.parametrize(
    ("facility", "standin", "counts"),
    [(0, "", True), (None, "", True), (1, "", False), (3, "", False), (1, "hot", True), (0, "hot", True)],
)
def test_what_a_program_wrote_is_no_kernels_word_but_where_the_standin_plays_the_driver(
    facility: int | None, standin: str, counts: bool
) -> None:
    at = None if facility is None else 112.0
    for text in ("NVRM: Xid (PCI:0000:05:00): 79, x", "mce: CPU3: Core temperature above threshold"):
        lines = s.whole()
        said = s.line("kmsg", mono=112.0, seq=9, t=at, level=3, facility=facility, text=text)
        lines[-1:-1] = [s.nvml(standin=standin), said]
        log = summed(lines).kernel
        assert log is not None
        assert [event.line[-len(text) :] for event in log.events] == ([text] if counts else [])


def test_a_kernel_log_that_was_not_followed_says_why() -> None:
    lines = [s.start(), s.line("kmsg_start", mono=99.0, error="PermissionError: [Errno 1]"), s.end(120.0)]
    log = summed(lines).kernel
    assert log is not None
    assert (log.followed_from, log.followed_to, log.detail) == (None, None, "PermissionError: [Errno 1]")
    broke = s.line("kmsg_start", mono=107.0, error="OSError: gone")
    log = summed([*s.whole()[:-1], broke, s.end(120.0)]).kernel
    assert log is not None
    assert (log.followed_from, log.followed_to, log.detail) == (99.0, 107.0, "OSError: gone")


def test_an_address_that_leads_nowhere_stays_unknown_and_a_bare_host_has_one() -> None:
    spool = read_spool(b"".join(s.whole()))
    options = {"spec": TelemetrySpec(), "guest": "g", "codes": CODES}
    assert summarize(spool, LOAD, cards=Cards(), **options).gpus[0].host_address is None
    assert summarize(spool, LOAD, cards=Cards(same=True), **options).gpus[0].host_address == HERE


def test_without_loads_nothing_counts_as_seen() -> None:
    (gpu,) = summed(s.whole(), ()).gpus
    assert (gpu.load_seconds, gpu.covered_seconds, gpu.gaps) == (0.0, 0.0, ())
    assert all(series.count == 0 for series in gpu.series.values())


WHOLE = s.whole(100.0, 120.0, (0, 1))


@given(st.randoms(use_true_random=False), st.floats(0.0, 0.2))
def test_lines_that_are_lost_never_raise_coverage(chance: random.Random, share: float) -> None:
    kept = [line for line in WHOLE if b'"start"' in line or chance.random() >= share]
    for gpu in summed(kept).gpus:
        assert gpu.covered_seconds <= 10.0 + 1e-6
        assert gpu.covered_seconds + sum(gap.seconds for gap in gpu.gaps) == pytest.approx(10.0)
        for series in gpu.series.values():
            assert series.count == 0 or series.minimum is not None
            assert series.unchanged_seconds <= gpu.covered_seconds + 1e-6 or series.name in s.SLOW


def test_every_series_is_there_once_and_names_its_question_and_unit() -> None:
    names = [sensor.name for sensor in SENSORS]
    assert len(set(names)) == len(names)
    assert all(sensor.asks and sensor.unit for sensor in SENSORS)


def test_a_property_whose_question_failed_is_not_there_at_all() -> None:
    lines = s.whole()
    lines.insert(4, s.line("error", mono=99.3, gpu=0, name="temperature_gpu_max", error="NVMLError_Unknown"))
    assert summed(s.whole()).gpus[0].properties["temperature_gpu_max"] is None
    assert set(summed(lines).gpus[0].properties) == {"power_limit", "ecc_current"}


def test_a_samplers_own_death_is_not_the_cards() -> None:
    lines = without(s.whole(), 110.0, 120.0)
    lines.insert(-1, s.line("died", mono=110.0, gpu=0, status=-9))
    (gpu,) = summed(lines).gpus
    assert gpu.vanished == ""
    assert gpu.unasked == "at 110.0 s: the sampler's process that asked it died (-9)"
    assert [gap.reason for gap in gpu.gaps] == ["the sampler's process that asked it died (-9)"]


def test_a_gap_is_not_explained_by_a_call_that_was_over_or_not_yet_made() -> None:
    lines = without(without(s.whole(), 106.1, 108.9), 110.1, 112.9)
    call = {"gpu": 0, "call": "nvmlDeviceGetPowerUsage"}
    lines.insert(-1, s.line("hung", mono=112.1, seconds=2.0, pid=7, **call))
    lines.insert(-1, s.line("returned", mono=113.0, seconds=2.9, **call))
    (gpu,) = summed(lines).gpus
    assert [gap.reason for gap in gpu.gaps] == ["", "nvmlDeviceGetPowerUsage came back late"]


def test_a_driver_that_is_late_for_days_costs_no_hours_to_read_and_no_megabytes_to_record() -> None:
    late = []
    for count in range(20_000):
        at = 101.0 + 4.0 * count
        late += [
            s.line("hung", mono=at + 2.2, gpu=0, call="nvmlDeviceGetPowerUsage", seconds=2.2, pid=7),
            s.line("returned", mono=at + 3.0, gpu=0, call="nvmlDeviceGetPowerUsage", seconds=3.0),
            s.fast(at + 3.5),
        ]
    gone = s.line("hung", mono=90_000.0, gpu=0, call="nvmlDeviceGetTemperature", seconds=2.2, pid=7)
    load = (LoadWindow(workload="tensor", key="k1", start=105.0, end=80_000.0),)
    lines = [s.start(), s.nvml(), s.gpu(), *late, gone, s.end(90_010.0)]
    begun = time.process_time()
    found = summed(lines, load)
    assert time.process_time() - begun < 5.0
    assert len(found.hung) == 52
    assert found.hung[-2].startswith("nvmlDeviceGetTemperature on GPU 0")
    assert found.hung[-1] == "19950 more calls, each of which came back after its deadline"
    assert {gap.reason for gap in found.gpus[0].gaps} == {"nvmlDeviceGetPowerUsage came back late"}


def test_readings_that_are_alike_on_both_sides_of_a_gap_are_two_stretches() -> None:
    (gpu,) = summed(without(s.whole(), 109.0, 111.5)).gpus
    assert gpu.gaps
    assert gpu.series["temperature"].unchanged_seconds == pytest.approx(3.9)
