"""From a fault to its summary: the real sampler over pynvml and the NVML stand-in, read and summed."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pynvml
import pytest

from harness.backends import parquet
from harness.config.files import load_kernel_codes
from harness.model.gpu import Cards
from harness.model.inventory import TelemetrySpec
from harness.model.telemetry import GpuTelemetry, GuestTelemetry, LoadWindow, Ruling
from harness.telemetry.gpu.series import PROPERTIES, REASONS, SENSOR
from harness.telemetry.gpu.spool import read_spool
from harness.telemetry.gpu.spool_lines import Spool
from harness.telemetry.gpu.summary import summarize
from harness.vendors.nvidia.standin.model import StandinScenario
from harness.vendors.nvidia.standin.scenario import scenario_text
from harness.vendors.sampler import SAMPLER
from tests.native.nvml import ADDRESSES, Machine, build, fault
from tests.packed import argv

HEALTHY, HOT, LOST, STUCK = range(4)
SECONDS = 3.2


@dataclass(frozen=True)
class Played:
    """One run of the sampler, and what became of it."""

    spool: Spool
    telemetry: GuestTelemetry
    began: float
    load: LoadWindow

    def gpu(self, index: int) -> GpuTelemetry:
        return next(gpu for gpu in self.telemetry.gpus if gpu.index == index)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    machine = Machine(build(tmp_path_factory.getbasetemp()), tmp_path_factory.mktemp("summed"))
    machine.kmsg.touch()
    scenario = StandinScenario(
        name="summed",
        faults=(
            fault("throttle", gpu=HOT, what="hw_thermal", at=0.6, until=1.6),
            fault("ecc", gpu=HOT, what="dram uncorrected", value=2, at=1.0),
            fault("xid", gpu=HOT, value=48, what="DBE (double bit error)", at=1.0),
            fault("vanish", gpu=LOST, at=1.0),
            fault("hang", gpu=STUCK, what="nvmlDeviceGetTemperature", at=1.0),
        ),
    )
    machine.scene(scenario_text(scenario, ADDRESSES[:4], kmsg=str(machine.kmsg)))
    path = machine.folder / "spool"
    job = {
        "spool": str(path),
        "library": str(machine.library),
        "kmsg": str(machine.kmsg),
        "binding": str(Path(pynvml.__file__).parent),
        "fast_hz": 20.0,
        "slow_hz": 5.0,
        "deadline": 0.5,
        "jobs": str(machine.folder / "jobs"),
        "seconds": SECONDS,
    }
    began = time.clock_gettime(time.CLOCK_BOOTTIME)
    subprocess.run(
        argv(SAMPLER, job),
        env=machine.environment(),
        check=True,
        capture_output=True,
        timeout=60,
    )
    spool = read_spool(path.read_bytes())
    first = min(gpu.fast.times[0] for gpu in spool.gpus)
    load = LoadWindow(workload="tensor", key="k", start=first + 0.3, end=first + SECONDS - 0.8)
    return Played(spool=spool, telemetry=_summed(spool, load, TelemetrySpec()), began=began, load=load)


def _summed(spool: Spool, load: LoadWindow, spec: TelemetrySpec) -> GuestTelemetry:
    return summarize(spool, (load,), spec, guest="g1", cards=Cards(same=True), codes=load_kernel_codes())


def test_the_sampler_s_spool_is_read_without_a_problem(played: Played) -> None:
    found = played.telemetry
    assert (found.problems, found.closed, found.source) == ((), True, "nvml")
    assert found.standin == "summed"
    assert found.started is not None
    assert 0 <= found.started - played.began < 20
    assert [gpu.address for gpu in found.gpus] == list(ADDRESSES[:4])


def test_a_healthy_card_is_covered_and_every_name_is_known(played: Played) -> None:
    gpu = played.gpu(HEALTHY)
    assert (gpu.gaps, gpu.vanished) == ((), "")
    assert gpu.covered_seconds == pytest.approx(gpu.load_seconds)
    assert set(gpu.series) == set(SENSOR)
    assert set(gpu.properties) == set(PROPERTIES)
    assert set(gpu.reasons) == set(REASONS.values())
    assert gpu.reasons["hw_thermal"] == 0.0
    energy, power = gpu.series["energy"], gpu.series["power"]
    assert energy.increase is not None
    assert power.mean is not None
    seconds = played.spool.gpus[HEALTHY].fast.times
    assert energy.increase == pytest.approx(power.mean * gpu.load_seconds, rel=0.25), (energy, seconds[:3])


def test_what_must_not_change_is_asked_again_and_no_reading_is_in_doubt(played: Played) -> None:
    gpu = played.gpu(HEALTHY)
    assert gpu.settings_asked is not None
    assert gpu.settings_asked >= 2
    assert gpu.changes == ()
    assert {name: series.doubts for name, series in gpu.series.items() if series.doubts} == {}
    assert [part.workload for part in gpu.slices] == ["tensor"]


def test_heat_errors_and_their_xid_are_in_the_summary(played: Played) -> None:
    gpu = played.gpu(HOT)
    assert gpu.reasons["hw_thermal"] == pytest.approx(1.0, abs=0.5)
    errors = gpu.series["ecc_uncorrected"]
    assert (errors.first, errors.last, errors.increase) == (0.0, 2.0, 2.0)
    log = played.telemetry.kernel
    assert log is not None
    (event,) = [event for event in log.events if event.code == 48]
    assert (event.device, event.ruling) == (gpu.address, Ruling.STOP)


def test_a_lost_and_a_hanging_card_leave_gaps_that_say_why(played: Played) -> None:
    strict = _summed(played.spool, played.load, TelemetrySpec(max_gap_seconds=0.5))
    lost, stuck = played.gpu(LOST), played.gpu(STUCK)
    assert "GpuIsLost" in lost.vanished
    assert "nvmlDeviceGetTemperature never came back" in stuck.vanished
    for gpu, words in ((lost, "GpuIsLost"), (stuck, "did not come back")):
        assert gpu.covered_seconds < gpu.load_seconds - 0.5
        assert gpu.longest_silence is not None
        assert gpu.longest_silence > 0.5
        (again,) = (g for g in strict.gpus if g.index == gpu.index)
        assert words in again.gaps[-1].reason
    (hung,) = played.telemetry.hung
    assert hung.startswith(f"nvmlDeviceGetTemperature on GPU {STUCK} ({stuck.uuid})")


def test_its_samples_come_back_from_parquet(played: Played, tmp_path: Path) -> None:
    rows = parquet.write(played.spool, tmp_path / "g1.parquet", guest="g1", cards=Cards(same=True))
    assert rows == sum(len(gpu.fast.times) + len(gpu.slow.times) for gpu in played.spool.gpus)
    gpu = played.spool.gpus[HEALTHY]
    stored = parquet.read(tmp_path / "g1.parquet", HEALTHY, "power")
    assert stored.times == pytest.approx(tuple(gpu.fast.times), abs=6e-4)
    assert stored.values == pytest.approx(tuple(gpu.fast.columns["power"]), abs=6e-4)
    assert parquet.describe(tmp_path / "g1.parquet")["standin"] == "summed"
