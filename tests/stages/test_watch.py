"""From a scripted fault to the check that must see it: stand-in, pynvml, sampler, stream, summary, record."""

from __future__ import annotations

import dataclasses
import shutil
import time

import pytest

from harness.backends.local import LocalTransport
from harness.checks.registry import run_checks
from harness.config.files import load_kernel_codes, load_profile, load_standin
from harness.errors import TransportError
from harness.images.standin import binding_file, ensure_standin
from harness.model.evidence import Evidence, WorkloadResult
from harness.model.gpu import Cards, GpuRef
from harness.model.inventory import HostControlRef, HostFile, TelemetrySpec
from harness.model.outcome import Outcome, SubjectKind
from harness.model.pci import PciAddress
from harness.stages.guest.burn import put_payload
from harness.stages.guest.watch import PlayedLibrary, Watch, watched
from harness.vendors.nvidia.standin.scenario import scenario_text
from harness.workloads.base import Place
from tests.stages.stand_ins import RUN, a_demand, a_recorder, evidence, quiet

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to compile the stand-in with")

GPUS = (PciAddress.parse("0000:f1:00.0"), PciAddress.parse("0000:f2:00.0"))
CARDS = Cards(refs=tuple(GpuRef(host=gpu, guest=gpu) for gpu in GPUS), same=True)
HOST = HostFile(name="here", subject=SubjectKind.STANDIN, control=HostControlRef(kind="local"))
PROFILE = dataclasses.replace(
    load_profile("bare"), telemetry=TelemetrySpec(fast_hz=5.0, slow_hz=1.0, max_gap_seconds=3.0)
)
"""Slower than the shipped one: a test machine that is busy must not look like a lost sample."""
SPEED = 0.3
"""Faults of the shipped scenarios come in seconds; here they come sooner."""


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> str:
    return str(ensure_standin(lambda _line: None, root=tmp_path_factory.mktemp("cache")))


def hastened(name: str):
    scenario = load_standin(name)
    faults = tuple(
        dataclasses.replace(f, at=f.at * SPEED, until=None if f.until is None else f.until * SPEED)
        for f in scenario.faults
    )
    return dataclasses.replace(scenario, faults=faults)


def clock() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@pytest.fixture
def run(tmp_path, library):
    """Watches a load of so many seconds through the stand-in; returns what the record says."""
    demand = a_demand("bare", "hashing", gpus=2)
    recorder = a_recorder(tmp_path / "runs", host=HOST, profile=PROFILE, guests=(demand,))
    recorder.guest_cards("bare", CARDS)

    def made(scenario, seconds: float, transport=None) -> Evidence:
        transport = transport or LocalTransport("here")
        home = tmp_path / "home"
        place = Place(payload=f"{home}/payload", jobs=f"{home}/jobs", work=f"{home}/work")
        put_payload(LocalTransport("here"), place)
        shutil.copy(binding_file(), f"{place.payload}/pynvml.py")
        kmsg = home / "kmsg"
        kmsg.write_text("6,1,1000000,-;NVRM: loading\n")
        watch = Watch(
            run=RUN,
            guest="bare",
            spec=PROFILE.telemetry,
            seconds=600.0,
            codes=load_kernel_codes(),
            recorder=recorder,
            progress=quiet(),
            place=place,
            cards=CARDS,
            binding=place.payload,
            standin=PlayedLibrary(
                library=library,
                scenario=scenario_text(scenario, GPUS, tenant="t", kmsg=str(kmsg)),
                kmsg=str(kmsg),
            ),
        )
        results: list[WorkloadResult] = []
        with watched(watch, transport, results):
            begun = clock()
            time.sleep(seconds)
            results.append(
                WorkloadResult(
                    workload="hashing",
                    guest="bare",
                    engine="john",
                    key="k",
                    status="done",
                    started=begun,
                    ended=clock(),
                )
            )
        return evidence(recorder)

    yield made
    recorder.close()


def wrong(said: Evidence) -> dict[str, Outcome | None]:
    """Checks about the GPUs that do not pass, by id and address."""
    _, cells = run_checks(said, PROFILE, HOST)
    seen = ("telemetry.", "gpu.", "guest.")
    return {
        f"{cell.check} {cell.subject.removeprefix('bare/')}": cell.outcome
        for cell in cells
        if cell.check.startswith(seen)
        and cell.subject.startswith("bare")
        and cell.outcome is not Outcome.PASS
        if cell.check not in ("gpu.model_known", "gpu.memory_size")  # there is no such card in this machine
    }


def test_healthy_gpus_are_covered_to_the_last_second_and_stay_a_stand_in(run) -> None:
    said = run(load_standin("default"), 2.0)
    assert wrong(said) == {}
    (bare,) = said.guests
    assert bare.telemetry is not None
    assert (bare.telemetry.standin, bare.telemetry.closed, len(bare.telemetry.gpus)) == ("default", True, 2)
    assert "standin" in bare.telemetry.driver
    for gpu in bare.telemetry.gpus:
        # The last sample lies a period before the load's end, on a busy machine two or three.
        assert all(gap.seconds < 1.0 for gap in gpu.gaps)
        assert gpu.covered_seconds == pytest.approx(gpu.load_seconds, abs=1.0)
        assert gpu.series["power"].count >= 5


FAULTS = [
    ("vanishing", 3.5, "telemetry.present"),
    ("ecc", 3.5, "gpu.ecc_errors"),
    ("xid79", 3.5, "telemetry.present"),
    ("throttling", 4.0, "gpu.clock_reasons"),
    ("link-narrow", 2.5, "gpu.pcie_under_load"),
    ("memory-hot", 30.0, "gpu.temperature"),
    ("remap-failed", 2.5, "gpu.retired_memory"),
    ("power-brake", 4.0, "gpu.clock_reasons"),
    ("nvlink", 3.0, "gpu.nvlink"),
    ("foreign-process", 3.0, "gpu.foreign_processes"),
]


@pytest.mark.parametrize(
    ("name", "seconds", "check"),
    [pytest.param(*f, marks=() if f[0] in ("vanishing", "ecc") else pytest.mark.slow) for f in FAULTS],
    ids=[f[0] for f in FAULTS],
)
def test_a_fault_of_one_gpu_fails_its_check_there_and_nowhere_else(run, name, seconds, check) -> None:
    found = wrong(run(hastened(name), seconds))
    assert found[f"{check} {GPUS[0]}"] is Outcome.FAIL
    assert [key for key in found if key.endswith(str(GPUS[1]))] == []


@pytest.mark.slow
def test_a_sensor_that_freezes_is_no_healthy_sensor(run) -> None:
    found = wrong(run(hastened("frozen"), 20.0))
    assert found[f"telemetry.alive {GPUS[0]}"] is Outcome.ERROR
    assert [key for key in found if key.endswith(str(GPUS[1]))] == []


@pytest.mark.slow
def test_a_call_that_hangs_ends_no_run_and_no_other_gpus_samples(run) -> None:
    begun = time.monotonic()
    found = wrong(run(hastened("hanging"), 6.0))
    assert time.monotonic() - begun < 40
    assert found[f"telemetry.present {GPUS[0]}"] is Outcome.FAIL
    assert found[f"telemetry.coverage {GPUS[0]}"] is Outcome.ERROR
    assert [key for key in found if key.endswith(str(GPUS[1]))] == []


def test_what_the_driver_itself_says_of_a_card_is_heard(run) -> None:
    found = wrong(run(load_standin("worn"), 1.0))
    for check in ("gpu.ecc_errors", "telemetry.present"):
        assert [found[f"{check} {gpu}"] for gpu in GPUS] == [Outcome.FAIL, Outcome.FAIL]


def test_a_card_that_somebody_divided_is_no_whole_gpu(run) -> None:
    found = wrong(run(load_standin("mig"), 1.0))
    assert [found[f"gpu.mig_mode {gpu}"] for gpu in GPUS] == [Outcome.FAIL, Outcome.FAIL]


@pytest.mark.parametrize("name", ["no-driver", "version-mismatch"])
def test_without_nvml_nothing_is_known_and_nothing_passes(run, name) -> None:
    found = wrong(run(load_standin(name), 0.5))
    assert Outcome.FAIL not in found.values()
    for gpu in GPUS:
        assert f"telemetry.coverage {gpu}" in found
        assert f"gpu.power {gpu}" in found


def test_what_a_killed_run_saw_does_not_mix_with_what_its_resumption_sees(run, tmp_path) -> None:
    (directory,) = (tmp_path / "runs").glob("*/*")
    left = directory / "telemetry/bare.spool.jsonl"
    left.parent.mkdir(exist_ok=True)
    left.write_text('{"type":"start","mono":1.0}\n{"type":"half a li')
    said = run(load_standin("default"), 1.0)
    (bare,) = said.guests
    assert bare.telemetry is not None
    assert bare.telemetry.spool == "telemetry/bare.spool-2.jsonl"
    assert bare.telemetry.problems == ()
    assert [gpu.host_address for gpu in bare.telemetry.gpus] == list(GPUS)
    assert left.read_text().endswith("half a li")


class Broken(LocalTransport):
    """A machine whose connection breaks before the sampler can be stopped."""

    broken = False

    def run(self, argv, **options):  # type: ignore[no-untyped-def]
        if "stop" in argv:
            self.broken = True
        if self.broken:
            raise TransportError("connection lost", host="here")
        return super().run(argv, **options)


def test_a_machine_that_dies_leaves_all_but_its_last_second(run, tmp_path) -> None:
    said = run(load_standin("default"), 2.5, Broken("here"))
    (bare,) = said.guests
    assert bare.telemetry is not None
    assert bare.telemetry.closed is False
    assert any("connection lost" in problem for problem in bare.telemetry.problems)
    for gpu in bare.telemetry.gpus:
        assert gpu.load_seconds - gpu.covered_seconds < 1.2
    # The sampler still runs, as it would on a machine that came back: end it by its key.
    pid = next((tmp_path / "home/jobs").rglob("pid")).read_text().strip()
    LocalTransport("here").run(("kill", "--", f"-{pid}"))
