"""Series of the NVML stand-in: any reading follows its points, in every function of NVML that tells it."""

from __future__ import annotations

import dataclasses
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pynvml
import pytest

from harness.config.files import load_skus
from harness.model.pci import PciAddress
from harness.vendors.nvidia.standin.model import (
    StandinApply,
    StandinCard,
    StandinClock,
    StandinFault,
    StandinForm,
    StandinLoad,
    StandinMissing,
    StandinScenario,
)
from harness.vendors.nvidia.standin.models import healthy
from harness.vendors.nvidia.standin.scenario import scenario_text
from tests.native.nvml import ADDRESSES, Machine, build, fault
from tests.native.played import Play, Played, asked, call, series

IDLE_THEN_BUSY = (StandinLoad(at=0.0, share=0.0), StandinLoad(at=60.0, share=0.95))


def at(played: Played, reading: str, *times: float) -> list[float]:
    """A reading of the first GPU at these seconds."""
    found = []
    for second in times:
        played.turn(second)
        found.append(float(played.record((reading,), 0.1)[0, 0, 0]))
    return found


def test_a_series_goes_from_point_to_point_and_stays_at_the_last(play: Play) -> None:
    played = play(series("temperature", (10.0, 40.0), (20.0, 60.0), (20.0, 30.0), (30.0, 30.0)))
    assert at(played, "temperature", 10, 15, 19.9, 20, 25, 1000) == [40, 50, 60, 30, 30, 30]


def test_before_its_first_point_and_after_its_end_the_reading_is_the_cards_own(
    play: Play,
) -> None:
    played = play(series("pcie_gen", (10.0, 1), until=20.0), series("clock_sm", (10.0, 5000.0), until=20.0))
    assert at(played, "pcie_gen", 5, 12, 25) == [4, 1, 4]
    assert at(played, "clock_sm", 26)[0] < 1701


@pytest.mark.parametrize(
    ("shape", "points", "expected"),
    [
        ({"form": StandinForm.STEP}, ((0.0, 40.0), (10.0, 60.0)), [40, 40, 60]),
        ({"apply": StandinApply.SCALE}, ((0.0, 0.0),), [0, 0, 0]),
        ({"apply": StandinApply.ADD}, ((0.0, 100.0), (20.0, 100.0)), [134, 134, 134]),
        ({"repeat": 10.0}, ((0.0, 40.0), (5.0, 50.0)), [40, 50, 40]),
    ],
)
def test_each_form_of_a_series(shape: dict[str, Any], points: Any, expected: list[float], play: Play) -> None:
    card = StandinCard(rise=0.0)
    played = play(series("temperature", *points, **shape), card=card)
    assert at(played, "temperature", 0, 6, 11) == pytest.approx(expected, abs=2)


def test_a_counter_counts_by_rate_and_is_reset_by_a_point_that_falls(play: Play) -> None:
    played = play(
        series("ecc_corrected", (10.0, 150.0), (30.0, 150.0), (30.0, 0.0), rate=True),
        series("ecc_uncorrected", (10.0, 3), (20.0, 3), (20.0, 0)),
        series("pcie_replays", (0.0, 0.0), (5.0, 2.0), rate=True, repeat=10.0),
    )
    assert at(played, "ecc_corrected", 5, 11, 20, 30, 99) == [0, 150, 1500, 3000, 3000]
    assert at(played, "ecc_uncorrected", 100) == [0]
    # What was counted before the reset stays in the count of the card's life.
    assert at(played, "ecc_uncorrected_aggregate", 101) == [3]
    assert at(played, "pcie_replays", 110, 115, 120) == [165, 170, 180]


def test_without_a_value_the_call_fails_or_is_not_offered(play: Play) -> None:
    played = play(
        series("power", (10.0, None), (20.0, 77.0)),
        series("temperature", (10.0, None), missing=StandinMissing.NOT_OFFERED),
        series("remap_pending", (10.0, None)),
    )
    gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
    played.turn(11.0)
    for ask in (pynvml.nvmlDeviceGetPowerUsage, pynvml.nvmlDeviceGetRemappedRows):
        with pytest.raises(pynvml.NVMLError) as caught:
            ask(gpu)
        assert caught.value.value == 999
    with pytest.raises(pynvml.NVMLError_NotSupported):
        pynvml.nvmlDeviceGetTemperature(gpu, 0)
    played.turn(21.0)
    assert pynvml.nvmlDeviceGetPowerUsage(gpu) == 77000
    assert np.isnan(played.record(("temperature", "power"), 0.1)[0, 0, 0])


def test_a_card_that_becomes_another_is_found_by_its_new_name(play: Play) -> None:
    played = play(series("uuid", (10.0, "GPU-new"), gpu=1), series("serial", (10.0, "007"), gpu=0), gpus=2)
    old = pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(1))
    played.turn(11.0)
    assert pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetHandleByUUID("GPU-new")) == 1
    assert pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetHandleBySerial("007")) == 0
    with pytest.raises(pynvml.NVMLError_NotFound):
        pynvml.nvmlDeviceGetHandleByUUID(old)


def test_times_may_count_from_the_first_load(play: Play) -> None:
    by_load = {"clock": StandinClock.LOAD}
    played = play(
        series("pcie_gen", (5.0, 1), **by_load),
        load=IDLE_THEN_BUSY,
        faults=(fault("replay", value=7, at=5.0, **by_load), fault("throttle", what="hw_thermal", **by_load)),
    )
    assert at(played, "pcie_gen", 50, 62, 64, 66) == [1, 4, 4, 1]  # an idle link is slow by itself
    assert at(played, "pcie_replays", 67) == [7]
    assert at(played, "reasons", 68) == [0x40]


def test_series_win_over_faults_and_work_on_each_other(play: Play) -> None:
    played = play(
        series("pcie_width", (0.0, 16)),
        series("temperature", (0.0, 50.0)),
        series("temperature", (10.0, 20.0), apply=StandinApply.ADD),
        series("temperature", (20.0, 2.0), apply=StandinApply.SCALE),
        faults=(fault("link_width", value=8), fault("freeze")),
    )
    assert at(played, "pcie_width", 5) == [16]
    assert at(played, "temperature", 6, 11, 21) == [50, 70, 140]


def test_noise_has_its_deviation_and_is_the_same_again(play: Play) -> None:
    noisy = series("power", (0.0, 200.0), noise=10.0)
    played = play(noisy, series("temperature", (0.0, 50.0), noise=2.0))
    first = played.record(("power", "temperature"), 200.0)
    assert first[:, 0, 0].std() == pytest.approx(10.0, rel=0.1)
    assert first[:, 0, 1].std() == pytest.approx(2.0, rel=0.1)
    assert first[:, 0, 0].mean() == pytest.approx(200.0, abs=1.0)
    assert abs(np.corrcoef(first[:, 0, 0], first[:, 0, 1])[0, 1]) < 0.1
    assert np.array_equal(play(noisy, seed=1).record(("power",), 200.0)[:, :, 0], first[:, :, 0])


def test_causes_drive_the_card(play: Play) -> None:
    """Whoever lowers a limit or a clock sees what follows from it, as on a card."""
    names = ("power", "clock_sm", "reasons", "temperature", "util_gpu")
    played = play(
        series("power_limit", (100.0, 125.0), gpu=1),
        series("clock_cap", (100.0, 680.0), gpu=2),
        series("load", (100.0, 0.0), gpu=3),
        series("ambient", (100.0, 50.0), gpu=4),
        gpus=6,
        card=StandinCard(lag=10.0),
    )
    rows = played.record(names, 200.0)[-100:].mean(axis=0)
    healthy_one = dict(zip(names, rows[5], strict=True))
    limited, capped, idle, hot = (dict(zip(names, rows[n], strict=True)) for n in (1, 2, 3, 4))
    assert limited["power"] == pytest.approx(125.0, rel=0.02)
    assert limited["clock_sm"] < healthy_one["clock_sm"] - 100
    assert limited["reasons"] == 4
    assert limited["temperature"] < healthy_one["temperature"] - 5
    assert (capped["clock_sm"] <= 680, capped["reasons"]) == (True, 0)
    assert capped["power"] < 0.6 * healthy_one["power"]
    assert (idle["util_gpu"], idle["clock_sm"]) == (0, 210)
    assert hot["temperature"] > healthy_one["temperature"] + 15


def test_a_call_is_lost_by_chance_and_delayed_for_its_time(play: Play) -> None:
    played = play(
        faults=(
            fault("failing", what="nvmlDeviceGetPowerUsage", value=999, probability=0.3),
            fault("hang", what="*", value=9.0, at=20.0, until=21.0),
            fault("hang", what="nvmlDeviceGetSerial", at=100.0),
        )
    )
    gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
    lost = sum(asked(call("PowerUsage"), gpu) is None for _ in range(1000))
    assert 230 < lost < 370
    played.turn(20.5)
    before = pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)
    after = pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)
    assert after - before > 8.5 * 200 * 1000  # mJ: nine seconds went by in the call
    played.turn(101.0)
    with pytest.raises(pynvml.NVMLError_Timeout):
        pynvml.nvmlDeviceGetSerial(gpu)


def test_time_is_turned_forward_only_and_never_under_a_driver_that_runs(
    play: Play,
) -> None:
    played = play()
    played.turn(100.0)
    for wrong in (99.0, float("nan"), float("inf"), -1.0):
        with pytest.raises(ValueError, match="cannot be turned"):
            played.turn(wrong)
    with pytest.raises(ValueError, match="cannot be recorded"):
        played.record(("power", "uuid"), 1.0)
    with pytest.raises(ValueError, match="cannot be recorded"):
        played.record(("powr",), 1.0)


def test_an_hour_of_eight_gpus_takes_seconds(play: Play) -> None:
    played = play(series("ecc_corrected", (0.0, 1.0), rate=True), gpus=8)
    began = time.process_time()
    rows = played.record(("power", "energy", "temperature", "clock_sm", "ecc_corrected"), 3600.0)
    assert time.process_time() - began < 30.0
    assert rows.shape == (36000, 8, 5)
    assert rows[-1, 7, 4] == pytest.approx(3600.0, abs=1.0)


@pytest.mark.parametrize("name", [sku.name for sku in load_skus()])
def test_a_healthy_card_of_each_model_hangs_together(name: str, play: Play) -> None:
    (sku,) = (each for each in load_skus() if each.name == name)
    idle_first = (StandinLoad(at=0.0, share=0.0), StandinLoad(at=30.0, share=0.97))
    shown = healthy(sku, idle_first)
    played = play(*shown.series, gpus=4, card=shown.card, load=shown.load, faults=shown.faults)
    names = ("power", "energy", "temperature", "clock_sm", "util_gpu", "reasons", "power_limit", "pcie_gen")
    rows = played.record(names, 900.0)
    power, energy, heat, clock, used, reasons, limit, gen = (rows[:, :, n] for n in range(len(names)))
    late = slice(6000, None)
    assert np.allclose(np.diff(energy, axis=0)[1:], power[2:] * 0.1, rtol=0.01, atol=0.1)
    assert (power[late] <= limit[late] * 1.02).all()
    assert (power[late] > 0.8 * limit[late]).all()
    assert (clock[late] > 0.8 * clock[late].max()).all()
    assert (used[late] > 70).all()
    assert (heat[late] < 85).all()
    assert heat[late].std(axis=0).min() > 0.1, "a temperature that never moves is no healthy one"
    assert set(np.unique(reasons[late])) <= {0.0, 4.0}
    assert len(np.unique(gen[late])) == 1
    assert (heat[299] < 40).all(), "idle at first"
    assert np.ptp(power[late].mean(axis=0)) > 0, "no two cards are the same"


def test_neighbours_heat_each_other(play: Play) -> None:
    card = StandinCard(neighbour=5.0, lag=10.0)
    heat = play(gpus=3, card=card).record(("temperature",), 200.0)[-1, :, 0]
    assert heat[1] - heat[0] == pytest.approx(heat[1] - heat[2], abs=1)
    assert heat[1] > heat[0] + 3


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Machine:
    return Machine(build(tmp_path_factory.getbasetemp()), tmp_path)


def test_several_processes_share_a_clock_that_somebody_turns(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.scene(StandinScenario(name="s", series=(series("temperature", (0.0, 0.0), (1000.0, 100.0)),)))
    clock = machine.folder / "clock"
    monkeypatch.setenv("SHAKEDOWN_NVML_CLOCK", str(clock))
    for second, expected in ((100.0, 10), (900.0, 90)):
        clock.write_bytes(struct.pack("d", second))
        assert machine.ask(("nvmlDeviceGetTemperature", "gpu 0", 0))[1] == expected


def test_a_job_that_runs_is_a_load_and_the_sampler_is_none(machine: Machine) -> None:
    """As the runner of keyed jobs leaves them: a folder each, with `pid`, and `status` when it is over."""
    jobs = machine.folder / "jobs"
    scenario = StandinScenario(
        name="jobs", follow_loads=True, series=(series("pcie_width", (0.0, 8), clock=StandinClock.LOAD),)
    )
    machine.scene(scenario_text(scenario, ADDRESSES[:1], jobs=str(jobs), kmsg=str(machine.kmsg)))
    link = [("nvmlDeviceGetCurrPcieLinkGeneration", "gpu 0"), ("nvmlDeviceGetCurrPcieLinkWidth", "gpu 0")]
    later = [(0.3, *each) for each in link]
    for name in ("run-g1-sampler", ".lock-folder", "run-g1-tensor"):
        (jobs / name).mkdir(parents=True)
    (jobs / "run-g1-sampler" / "pid").write_text("1")
    assert machine.ask(*later)[1:] == [1, 16]
    (jobs / "run-g1-tensor" / "pid").write_text("2")
    assert machine.ask(*later)[1:] == [4, 8]
    (jobs / "run-g1-tensor" / "status").write_text("0")
    assert machine.ask(*later)[1:] == [1, 8], "idle again; a fault that began by the load goes on"


def test_any_load_and_any_series_are_read_as_they_were_written(machine: Machine) -> None:
    """All that the text can hold at once."""
    points = tuple((n * 0.5, n % 90) for n in range(63))
    full = [series(name, *points) for name in ("power", "temperature", "clock_sm")] * 21
    texts = series("uuid", *((float(n), f"GPU of {n}") for n in range(64)))
    scenario = StandinScenario(name="full", series=(*full, texts))
    machine.scene(scenario_text(scenario, [PciAddress(0, 1, 0, 0)]))
    assert machine.start() == (0, 1, "")
    for broken in ("series power 0 start linear set 0 0 0 - 999\n", "point 0 1\n", "series powr 0\n"):
        machine.scene(f"shakedown-nvml-standin 2\ngpu 0000:01:00.0\n{broken}")
        assert machine.start()[0] == 2


def test_faults_by_load_do_nothing_without_one(play: Play) -> None:
    vanish = StandinFault(kind=fault("vanish").kind, clock=StandinClock.LOAD)
    played = play(load=(StandinLoad(at=0.0, share=0.0),), faults=(vanish,))
    assert not np.isnan(played.record(("power",), 60.0)).any()
    busy = dataclasses.replace(vanish, at=10.0)
    assert np.isnan(play(load=IDLE_THEN_BUSY, faults=(busy,)).record(("power",), 80.0)[-1, 0, 0])
