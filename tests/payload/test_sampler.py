"""The sampler as it runs beside loads, the NVML stand-in for a driver: what goes wrong is in its spool."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from ctypes.util import find_library
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from harness.model.pci import PciAddress
from harness.telemetry.gpu.series import PROPERTIES, REASONS, SENSOR, SENSORS
from harness.telemetry.gpu.spool import read_spool
from harness.vendors.nvidia.payload.sampler import Board, KernelLog, Spool, Watch
from harness.vendors.nvidia.payload.sampler_reads import Reader
from harness.vendors.nvidia.standin.model import StandinCard, StandinFault, StandinScenario, StandinStart
from harness.vendors.nvidia.standin.scenario import scenario_text
from harness.vendors.sampler import SAMPLER
from tests.native.nvml import Machine, build, fault
from tests.packed import argv

Line = dict[str, Any]


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Machine:
    (tmp_path / "kmsg").touch()
    return Machine(build(tmp_path_factory.getbasetemp()), tmp_path)


def scenario(*faults: StandinFault, **values: Any) -> StandinScenario:
    return StandinScenario(name="played", faults=faults, **values)


def strict(text: str) -> list[Line]:
    """Lines of a spool; what strict JSON forbids is an error."""

    def forbidden(word: str) -> None:
        raise AssertionError(word)

    return [json.loads(line, parse_constant=forbidden) for line in text.splitlines()]


class Sampler:
    """A running sampler."""

    def __init__(self, machine: Machine, **given: Any) -> None:
        self.spool = machine.folder / "spool"
        job = {
            "spool": str(self.spool), "library": str(machine.library), "kmsg": str(machine.kmsg),
            "binding": str(Path(pynvml.__file__).parent), "fast_hz": 20.0, "slow_hz": 5.0, "deadline": 0.5,
            "jobs": str(machine.folder / "jobs"), **given,
        }  # fmt: skip
        self.process = subprocess.Popen(
            argv(SAMPLER, job),
            env=machine.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip

    def lines(self, kind: str = "", gpu: int | None = None) -> list[Line]:
        """Whole lines of the spool so far, of a type and a GPU."""
        text = self.spool.read_text() if self.spool.exists() else ""
        found = strict(text[: text.rfind("\n") + 1])
        return [
            line for line in found if kind in ("", line["type"]) and (gpu is None or line.get("gpu") == gpu)
        ]

    def until(self, kind: str, gpu: int | None = None, count: int = 1, seconds: float = 20.0) -> list[Line]:
        """Wait for that many such lines."""
        deadline = time.monotonic() + seconds
        while len(found := self.lines(kind, gpu)) < count:
            assert time.monotonic() < deadline, f"no {kind} line: {self.lines()[-5:]}"
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.05)
        return found

    def stop(self, number: int = signal.SIGTERM) -> dict[str, Any]:
        """Signal its whole session, as runner.sh does, and read its one line."""
        os.killpg(self.process.pid, number)
        return self.end()

    def end(self) -> dict[str, Any]:
        """Wait for it to end well."""
        out, errors = self.process.communicate(timeout=30)
        assert (self.process.returncode, errors) == (0, "")
        (line,) = strict(out)
        return line


@contextlib.contextmanager
def sampling(machine: Machine, **given: Any) -> Iterator[Sampler]:
    """A sampler that is surely gone afterwards."""
    sampler = Sampler(machine, **given)
    try:
        yield sampler
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(sampler.process.pid, signal.SIGKILL)
        sampler.process.communicate(timeout=10)


AT = 1.5
"""When the faults begin: all GPUs must have been sampled before, on a busy machine too."""
CAST = {
    "healthy": (),
    "vanishing": (fault("vanish", at=AT),),
    "hanging": (fault("hang", at=AT, what="nvmlDeviceGetTemperature"),),
    "slow": (fault("hang", at=AT, until=AT + 0.2, what="nvmlDeviceGetTemperature", value=1.0),),
    "frozen": (fault("freeze", at=AT),),
    "erring": (
        fault("ecc", at=AT, value=2, what="dram corrected"),
        fault("remap", at=AT, value=1, what="pending"),
    ),
    "refused": (
        fault("failing", what="nvmlDeviceGetEccMode", value=4),
        fault("failing", what="nvmlDeviceGetComputeRunningProcesses_v3", value=10),
        fault("failing", at=AT, what="nvmlDeviceGetUtilizationRates", value=4),
    ),
    "poor": (
        fault("unsupported", what="field 82"),
        fault("unsupported", what="field 186"),
        fault("unsupported", what="nvmlDeviceGetEncoderUtilization"),
        fault("unsupported", what="nvmlDeviceGetEccMode"),
    ),
}
"""One machine plays everything at once; each has a GPU."""
PARTS = {name: n for n, name in enumerate(CAST)}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> list[Line]:
    """The spool of one run on that machine."""
    machine = Machine(build(tmp_path_factory.getbasetemp()), tmp_path_factory.mktemp("played"))
    machine.kmsg.touch()
    faults = [dataclasses.replace(each, gpu=PARTS[name]) for name, those in CAST.items() for each in those]
    addresses = [PciAddress(0, n + 1, 0, 0) for n in range(len(CAST))]
    machine.scene(scenario_text(scenario(*faults), addresses, kmsg=str(machine.kmsg)))
    with sampling(machine) as sampler:
        sampler.until("lost", PARTS["vanishing"])
        sampler.until("hung", PARTS["hanging"])
        sampler.until("returned", PARTS["slow"])
        sampler.until("error", PARTS["refused"], 5)
        sampler.until("event", PARTS["erring"], 3)
        goes_on = [PARTS[part] for part in ("healthy", "frozen", "slow", "refused")]
        late = {gpu: len(sampler.lines("fast", gpu)) for gpu in goes_on}
        for gpu in goes_on:
            sampler.until("fast", gpu, late[gpu] + 15)
        assert sampler.stop() == {"payload": "sampler", "spool": str(sampler.spool), "reason": "SIGTERM"}
        return sampler.lines()


def first_round(lines: list[Line], kind: str) -> tuple[Line, dict[str, Any]]:
    """The line of the only GPU, and its first values of that round by their names."""
    (gpu,) = [line for line in lines if line["type"] == "gpu"]
    (first, *_) = [line for line in lines if line["type"] == kind]
    return gpu, dict(zip(gpu[kind], first["values"], strict=True))


def of(lines: list[Line], kind: str, part: str) -> list[Line]:
    return [line for line in lines if line["type"] == kind and line.get("gpu") == PARTS[part]]


def column(lines: list[Line], part: str, name: str) -> list[Any]:
    (gpu,) = of(lines, "gpu", part)
    kind = "fast" if name in gpu["fast"] else "slow"
    at = gpu[kind].index(name)
    return [line["values"][at] for line in of(lines, kind, part)]


def test_it_begins_and_ends_with_what_it_is(played: list[Line]) -> None:
    start, end = played[0], played[-1]
    assert (start["type"], start["format"], start["fast_hz"], start["slow_hz"]) == ("start", 1, 20.0, 5.0)
    assert start["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert abs(start["wall"] - time.time()) < 600
    assert (end["type"], end["reason"], end["left"]) == ("end", "SIGTERM", [])
    assert 0 < end["cpu_seconds"] < end["mono"] - start["mono"]
    (nvml,) = [line for line in played if line["type"] == "nvml"]
    assert (nvml["source"], nvml["standin"], nvml["gpus"], nvml["detail"]) == (
        "nvml",
        "played",
        len(CAST),
        "",
    )
    assert nvml["driver"].endswith("-shakedown-standin")
    assert nvml["library"].endswith("libnvidia-ml.so.1")


def test_a_healthy_gpu_is_described_and_sampled_without_gaps(played: list[Line]) -> None:
    (gpu,) = of(played, "gpu", "healthy")
    assert (gpu["address"], gpu["pci_id"], gpu["subsystem"]) == ("0000:01:00.0", "1234:11e8", "1af4:1100")
    assert gpu["uuid"].startswith("GPU-")
    assert gpu["serial"].isdigit()
    assert gpu["memory_bytes"] == 1 << 34
    assert set(gpu["properties"]) == set(PROPERTIES)
    assert gpu["properties"]["power_limit"] == 250.0
    assert gpu["properties"]["nvlink_links"] is None
    times = [line["mono"] for line in of(played, "fast", "healthy")]
    assert times == sorted(times)
    assert len(times) > 10 * (times[-1] - times[0])  # asked for: 20 a second
    assert max(b - a for a, b in itertools.pairwise(times)) < 1.0
    assert all(150 < watts < 300 for watts in column(played, "healthy", "power"))
    assert column(played, "healthy", "clock_sm")[0] > 1500
    assert of(played, "error", "healthy") == of(played, "event", "healthy") == []


def test_names_are_those_that_the_controller_knows(played: list[Line]) -> None:
    """Every sensor is either sampled or declared as not offered; none is forgotten, none is unknown."""
    for part in CAST:
        (gpu,) = of(played, "gpu", part)
        names = [*gpu["fast"], *gpu["slow"], *gpu["not_offered"]]
        assert sorted(names) == sorted(SENSOR)
        fast = {sensor.name for sensor in SENSORS if sensor.fast}
        assert set(gpu["fast"]) == fast - set(gpu["not_offered"])
    assert set(REASONS) >= {
        bit for bits in column(played, "healthy", "reasons") for bit in (bits & -bits,) if bit
    }


def test_the_controller_reads_it_without_a_problem(played: list[Line]) -> None:
    spool = read_spool("".join(json.dumps(line) + "\n" for line in played).encode())
    assert spool.problems == ()
    assert (spool.source, spool.standin, spool.end_reason) == ("nvml", "played", "SIGTERM")
    assert spool.kernel_from is not None  # an empty log was followed too
    assert [gpu.index for gpu in spool.gpus if gpu.lost] == [PARTS["vanishing"]]
    assert {call.gpu for call in spool.hung} == {PARTS["hanging"], PARTS["slow"]}
    assert [gpu.fast.names for gpu in spool.gpus] == [
        tuple(line["fast"]) for part in CAST for line in of(played, "gpu", part)
    ]
    assert {gpu.errors.get("ecc_current") for gpu in spool.gpus} == {None, "NVMLError_NoPermission"}


def test_a_gpu_that_vanishes_is_told_and_has_no_samples_from_then_on(played: list[Line]) -> None:
    (lost,) = of(played, "lost", "vanishing")
    assert lost["error"] == "NVMLError_GpuIsLost"
    times = [line["mono"] for kind in ("fast", "slow") for line in of(played, kind, "vanishing")]
    assert times
    assert max(times) <= lost["mono"]
    assert of(played, "died", "vanishing") == []


def test_a_call_that_hangs_is_told_and_stops_nothing_else(played: list[Line]) -> None:
    (hung,) = of(played, "hung", "hanging")
    assert hung["call"] == "nvmlDeviceGetTemperature"
    assert hung["seconds"] >= 0.5
    assert of(played, "returned", "hanging") == []
    last = max(line["mono"] for line in of(played, "fast", "hanging"))
    others = max(line["mono"] for line in of(played, "fast", "healthy"))
    assert others > last + 0.5


def test_a_call_that_comes_back_late_is_told_too_and_sampling_goes_on(played: list[Line]) -> None:
    (hung,), (back,) = of(played, "hung", "slow"), of(played, "returned", "slow")
    assert (hung["call"], back["call"]) == ("nvmlDeviceGetTemperature", "nvmlDeviceGetTemperature")
    assert back["seconds"] >= 0.9
    times = [line["mono"] for line in of(played, "fast", "slow")]
    assert max(b - a for a, b in itertools.pairwise(times)) > 0.8
    assert max(times) > back["mono"]


def test_frozen_sensors_show_as_values_that_do_not_change(played: list[Line]) -> None:
    frozen, healthy = column(played, "frozen", "power"), column(played, "healthy", "power")
    assert len(set(frozen[-10:])) == 1
    assert len(set(healthy[-10:])) > 2  # the stand-in moves ten times a second


def test_counters_are_told_when_they_change(played: list[Line]) -> None:
    events = {line["name"]: (line["old"], line["new"]) for line in of(played, "event", "erring")}
    assert events == {
        "ecc_corrected": (0, 2),
        "ecc_corrected_aggregate": (0, 2),
        "remap_pending": (0, 1),
    }
    assert column(played, "erring", "ecc_corrected")[-1] == 2


def test_a_read_that_fails_is_null_and_its_error_told_once(played: list[Line]) -> None:
    errors = of(played, "error", "refused")
    assert [(line["name"], line["error"]) for line in errors] == [
        ("ecc_current", "NVMLError_NoPermission"),
        ("ecc_pending", "NVMLError_NoPermission"),
        ("processes", "NVMLError_Timeout"),
        ("util_gpu", "NVMLError_NoPermission"),
        ("util_memory", "NVMLError_NoPermission"),
    ]
    (gpu,) = of(played, "gpu", "refused")
    assert gpu["properties"]["ecc_current"] is None
    assert set(column(played, "refused", "processes")) == {None}
    use = column(played, "refused", "util_gpu")
    assert use[0] is not None
    assert set(use[-10:]) == {None}
    assert None not in column(played, "refused", "power")


def test_what_a_card_lacks_is_declared_and_never_an_error(played: list[Line]) -> None:
    (gpu,) = of(played, "gpu", "poor")
    assert {"temperature_memory", "util_encoder"} <= set(gpu["not_offered"])
    assert gpu["properties"]["ecc_current"] is None
    assert of(played, "error", "poor") == []
    # Without the field, power comes from the older call.
    assert all(watts > 0 for watts in column(played, "poor", "power"))


def test_a_card_of_margins_tells_them_instead_of_thresholds(machine: Machine) -> None:
    machine.scene(scenario(card=StandinCard(tlimit=1, gpu_max=30.0)))
    with sampling(machine) as sampler:
        sampler.until("fast")
        sampler.stop()
        lines = sampler.lines()
    gpu, seen = first_round(lines, "fast")
    assert seen["temperature"] + seen["temperature_margin"] == 30
    assert seen["temperature_margin"] < 0
    assert gpu["properties"]["temperature_gpu_max_tlimit"] == 0
    assert gpu["properties"]["temperature_gpu_max"] is gpu["properties"]["temperature_slowdown"] is None
    assert [line for line in lines if line["type"] == "error"] == []


def test_a_question_that_the_driver_calls_deprecated_is_asked_in_its_newer_form(machine: Machine) -> None:
    old = ("nvmlDeviceGetTemperature", "field 83", "field 94")
    machine.scene(scenario(*(fault("failing", what=what, value=26) for what in (*old, "field 82"))))
    with sampling(machine) as sampler:
        sampler.until("fast", count=2)
        sampler.until("slow")
        sampler.stop()
        lines = sampler.lines()
    for kind, names in (("fast", ("temperature", "energy")), ("slow", ("pcie_replays",))):
        _, seen = first_round(lines, kind)
        assert [name for name in names if seen[name] is None] == []
    # What has no other form is a question that fails, not a sensor that the card lacks.
    assert {line["name"] for line in lines if line["type"] == "error"} == {"temperature_memory"}


def test_a_value_of_a_type_that_an_older_pynvml_does_not_know_is_an_error_and_no_end() -> None:
    class Value(ctypes.Union):
        _fields_ = (("dVal", ctypes.c_double), ("uiVal", ctypes.c_uint), ("ulVal", ctypes.c_ulong))

    class Field(ctypes.Structure):
        _fields_ = (
            ("fieldId", ctypes.c_uint),
            ("scopeId", ctypes.c_uint),
            ("valueType", ctypes.c_uint),
            ("nvmlReturn", ctypes.c_int),
            ("value", Value),
        )

    def answer(_handle: object, count: ctypes.c_int, fields: Any) -> int:
        array = ctypes.cast(fields, ctypes.POINTER(Field * count.value)).contents
        for number, field in enumerate(array):
            field.valueType, field.value.uiVal = (1, 5)[number % 2], 7
        return 0

    library = SimpleNamespace(nvmlDeviceGetFieldValues=answer)
    nvml = SimpleNamespace(nvmlLib=library, c_nvmlFieldValue_t=Field, c_nvmlValue_t=Value)
    worker = SimpleNamespace(enter=lambda _: None, leave=lambda: None, entry=str.encode)
    found = Reader(nvml, worker, None).fields((("old", 1, 1), ("new", 2, 1)))
    assert found is not None
    values: list[Any] = []
    codes: list[int] = []
    found[1](values, codes)
    assert (found[0], values, codes) == (["old", "new"], [7, None], [0, 999])


def test_a_gpu_that_needs_a_reset_is_lost(machine: Machine) -> None:
    machine.scene(scenario(fault("failing", what="*", value=16, at=1.0)))
    with sampling(machine) as sampler:
        (lost,) = sampler.until("lost")
        sampler.stop()
    assert lost["error"] == "NVMLError_ResetRequired"


@pytest.mark.parametrize("counting", ["totals", "links", "fields", "zero totals"])
def test_nvlink_errors_are_summed_over_links_however_the_card_counts(counting: str, machine: Machine) -> None:
    faults = [
        fault("nvlink", value=2, what="0 replay"),
        fault("nvlink", value=3, what="3 replay"),
        fault("nvlink", value=4, what="1 crc"),
        fault("nvlink_down", value=2),
    ]
    if counting in ("links", "fields"):
        faults += [fault("unsupported", what=f"field {number}") for number in (38, 45, 52, 59)]
    if counting in ("totals", "fields"):
        faults.append(fault("unsupported", what="nvmlDeviceGetNvLinkErrorCounter"))
    version = 4 if counting == "zero totals" else 3
    machine.scene(scenario(*faults, card=StandinCard(nvlinks=4, nvlink_version=version)))
    with sampling(machine) as sampler:
        sampler.until("slow")
        sampler.stop()
        lines = sampler.lines()
    gpu, seen = first_round(lines, "slow")
    assert gpu["properties"]["nvlink_links"] == 4
    assert {name: value for name, value in seen.items() if name.startswith("nvlink")} == {
        "nvlink_active": 3, "nvlink_replay": 5, "nvlink_recovery": 0, "nvlink_crc": 4,
    }  # fmt: skip


def test_nvlink_5_counts_packets_and_recoveries_of_all_links_at_once(machine: Machine) -> None:
    faults = [fault("nvlink", value=2, what="0 packet"), fault("nvlink", value=3, what="3 recovery")]
    machine.scene(scenario(*faults, card=StandinCard(nvlinks=18, nvlink_version=5)))
    with sampling(machine) as sampler:
        sampler.until("slow")
        sampler.stop()
        lines = sampler.lines()
    gpu, seen = first_round(lines, "slow")
    assert {name: value for name, value in seen.items() if name.startswith("nvlink")} == {
        "nvlink_active": 18, "nvlink_recovery": 3, "nvlink_errors": 2,
    }  # fmt: skip
    assert {"nvlink_replay", "nvlink_crc"} <= set(gpu["not_offered"])


def test_nvml_that_hangs_at_its_start_is_told_and_the_kernel_log_followed(machine: Machine) -> None:
    machine.scene(scenario(start=StandinStart.HANG))
    machine.kmsg.write_text("6,0,1000000,-;first\n")
    with sampling(machine, start_deadline=0.5) as sampler:
        (hung,) = sampler.until("hung")
        assert (hung["gpu"], hung["call"]) == (None, "nvmlInit_v2")
        with machine.kmsg.open("a") as log:
            log.write("6,1,2000000,-;second\n")
        sampler.until("kmsg", count=2)
        assert sampler.stop()["reason"] == "SIGTERM"
        kinds = [line["type"] for line in sampler.lines()]
    assert "nvml" not in kinds
    assert kinds[-1] == "end"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "DriverNotLoaded"),
        ({"library": "/nowhere/libnvidia-ml.so.1"}, "OSError"),
        ({"library": "libc.so.6"}, ""),
        ({"binding": ""}, "pynvml is not installed"),
        pytest.param(
            {"library": ""},
            "NVMLError_LibraryNotFound",
            marks=pytest.mark.skipif(find_library("nvidia-ml") is not None, reason="this machine has NVML"),
        ),
    ],
)
def test_without_nvml_it_says_why_and_still_follows_the_kernel_log(
    given: dict[str, str], words: str, machine: Machine
) -> None:
    machine.kmsg.write_text("6,0,1000000,-;first\n")
    with sampling(machine, seconds=0.4, **given) as sampler:
        sampler.end()
        (nvml,) = sampler.lines("nvml")
        assert (nvml["source"], nvml["gpus"]) == ("", 0)
        assert nvml["detail"]
        assert words in nvml["detail"]
        assert [line["text"] for line in sampler.lines("kmsg")] == ["first"]
        assert sampler.lines()[-1]["reason"] == "seconds"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(number: signal.Signals, machine: Machine) -> None:
    machine.scene(scenario(), gpus=2)
    with sampling(machine) as sampler:
        sampler.until("fast", 1, count=3)
        assert sampler.stop(number)["reason"] == number.name
        lines = sampler.lines()
    assert (lines[-1]["type"], lines[-1]["reason"]) == ("end", number.name)
    # The last look at the counters is taken on the way out.
    assert lines[-1]["mono"] - max(line["mono"] for line in lines if line["type"] == "slow") < 1.5


def test_a_spool_that_somebody_removed_ends_it(machine: Machine) -> None:
    """Cleared with its folder, its key included, nobody else could end it."""
    machine.scene(scenario(), gpus=1)
    with sampling(machine) as sampler:
        sampler.until("fast", 0, 2)
        sampler.spool.unlink()
        assert sampler.end()["reason"] == "the samples file was removed"


def test_a_machine_that_stood_still_hangs_no_call_and_ends_nothing(machine: Machine) -> None:
    machine.scene(scenario())
    with sampling(machine, deadline=0.3) as sampler:
        sampler.until("fast", count=3)
        os.killpg(sampler.process.pid, signal.SIGSTOP)
        time.sleep(0.8)
        os.killpg(sampler.process.pid, signal.SIGCONT)
        seen = len(sampler.lines("fast"))
        sampler.until("fast", count=seen + 10)
        assert sampler.stop()["reason"] == "SIGTERM"
        times = [line["mono"] for line in sampler.lines("fast")]
        assert sampler.lines("hung") == []
    assert max(b - a for a, b in itertools.pairwise(times)) > 0.7  # the gap stays a gap


def test_a_sampler_that_is_killed_loses_a_second_at_most_and_leaves_nobody_behind(machine: Machine) -> None:
    machine.scene(scenario(), gpus=2)
    with sampling(machine) as sampler:
        sampler.until("fast", 1, count=10)
        workers = children(sampler.process.pid)
        assert len(workers) == 2
        killed = time.clock_gettime(time.CLOCK_BOOTTIME)
        sampler.process.kill()
        sampler.process.wait()
        until = time.monotonic() + 5
        while any(Path(f"/proc/{pid}").exists() and alive(pid) for pid in workers):
            assert time.monotonic() < until, "a worker outlives the sampler"
            time.sleep(0.02)
        lines = sampler.lines()
    assert lines[-1]["type"] != "end"
    for gpu in (0, 1):
        assert max(line["mono"] for line in lines if line.get("gpu") == gpu) > killed - 1


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_driver_that_takes_its_process_down_is_told(machine: Machine) -> None:
    machine.scene(scenario(), gpus=2)
    with sampling(machine) as sampler:
        sampler.until("fast", 1, count=2)
        os.kill(children(sampler.process.pid)[1], signal.SIGSEGV)
        (died,) = sampler.until("died")
        assert (died["gpu"], died["status"]) == (1, -signal.SIGSEGV)
        seen = len(sampler.lines("fast", 0))
        sampler.until("fast", 0, count=seen + 3)
        assert sampler.stop()["reason"] == "SIGTERM"


def test_processes_on_a_gpu_are_ours_or_foreign(machine: Machine) -> None:
    with subprocess.Popen(("sleep", "60"), start_new_session=True) as load:
        job = machine.folder / "jobs" / "k1"
        job.mkdir(parents=True)
        (job / "pid").write_text(f"{load.pid}\n")
        (machine.folder / "jobs" / "torn").mkdir()
        faults = [fault("process", value=pid, rate=1e9, what="compute") for pid in (load.pid, os.getpid())]
        machine.scene(scenario(*faults))
        with sampling(machine) as sampler:
            (line,) = sampler.until("processes")
            sampler.stop()
        load.kill()
    listed = {each["pid"]: each for each in line["list"]}
    assert listed[load.pid] == {"pid": load.pid, "name": "sleep", "bytes": 10**9, "ours": True}
    assert listed[os.getpid()]["ours"] is False
    assert listed[os.getpid()]["name"]


def test_what_a_load_starts_in_a_session_of_its_own_is_ours_too_and_stays_so_when_it_has_ended(
    machine: Machine,
) -> None:
    started = "import subprocess, sys; subprocess.run(['sleep', '60'], start_new_session=True)"
    with subprocess.Popen((sys.executable, "-c", started), start_new_session=True) as load:
        job = machine.folder / "jobs" / "k1"
        job.mkdir(parents=True)
        (job / "pid").write_text(f"{load.pid}\n")
        children = Path(f"/proc/{load.pid}/task/{load.pid}/children")
        child = load.pid
        while child == load.pid or os.getsid(child) != child:
            time.sleep(0.02)
            child = int(children.read_text() or load.pid)
        machine.scene(scenario(fault("process", value=child, rate=1e9, what="compute")))
        with sampling(machine) as sampler:
            sampler.until("processes")
            os.kill(child, signal.SIGKILL)
            load.wait(10)
            seen = len(sampler.lines("slow", 0))
            sampler.until("slow", 0, count=seen + 2)
            sampler.stop()
            told = sampler.lines("processes", 0)
    assert [each["ours"] for line in told for each in line["list"]] == [True] * len(told)


def test_a_slow_start_of_nvml_came_back_by_the_name_that_it_was_told_by() -> None:
    board, said = Board(), []

    class Ears:
        def put(self, kind: str, **values: Any) -> None:
            said.append((kind, values["gpu"], values["call"]))

    job = {"deadline": 0.1, "start_deadline": 0.3}
    watch = Watch(job, Ears(), board)  # type: ignore[arg-type]
    watch.pids = {0: os.getpid()}
    since, name = board.place(0)
    board.numbers[since] = board.now()
    board.memory[name : name + 11] = b"nvmlInit_v2"
    for _ in range(3):
        watch.look(0.2)
    board.publish(8)
    board.numbers[since] = 0.0
    watch.look(0.2)
    assert said == [("hung", None, "nvmlInit_v2"), ("returned", None, "nvmlInit_v2")]


def test_a_spool_that_exists_is_never_written_to(machine: Machine) -> None:
    (machine.folder / "spool").write_text("precious\n")
    with sampling(machine) as sampler:
        out, _ = sampler.process.communicate(timeout=20)
        assert sampler.process.returncode == 3
    assert "FileExistsError" in json.loads(out)["error"]
    assert (machine.folder / "spool").read_text() == "precious\n"


@pytest.fixture
def log(machine: Machine) -> tuple[KernelLog, Spool]:
    spool = Spool(str(machine.folder / "spool"))
    return KernelLog(str(machine.kmsg), spool), spool


def written(machine: Machine) -> list[Line]:
    return strict((machine.folder / "spool").read_text())


def test_kernel_lines_come_whole_with_gaps_told(machine: Machine, log: tuple[KernelLog, Spool]) -> None:
    kernel, _ = log
    machine.kmsg.write_bytes(
        b"6,41,5000001,-;first\n SUBSYSTEM=pci\n3,42,6000000,-,caller=T1;a;b \xff\n11,50,70"
    )
    kernel.follow()
    with machine.kmsg.open("ab") as stream:
        stream.write(b"00000,-;late\nnonsense\n")
    kernel.follow()
    kernel.follow()
    lines = [{key: value for key, value in line.items() if key != "mono"} for line in written(machine)]
    assert lines == [
        {"type": "kmsg_start", "seq": 41},
        {"type": "kmsg", "seq": 41, "t": 5.000001, "level": 6, "facility": 0, "text": "first"},
        {"type": "kmsg", "seq": 42, "t": 6.0, "level": 3, "facility": 0, "text": "a;b \\xff"},
        {"type": "kmsg_dropped", "lines": 7},
        {"type": "kmsg", "seq": 50, "t": 7.0, "level": 3, "facility": 1, "text": "late"},
        {"type": "kmsg", "seq": None, "t": None, "level": None, "facility": None, "text": "nonsense"},
    ]


def test_a_flood_holds_nothing_up_and_is_read_to_its_end_at_the_end(log: tuple[KernelLog, Spool]) -> None:
    kernel, spool = log
    kernel.descriptor, writer = os.pipe2(os.O_DIRECT | os.O_NONBLOCK)  # one line a read, like /dev/kmsg
    kernel.reads = 3
    for number in range(10):
        os.write(writer, f"6,{number},{number},-;line {number}\n".encode())

    def copied() -> int:
        return sum(1 for line in strict(Path(f"/proc/self/fd/{spool.descriptor}").read_text()) if "t" in line)

    kernel.follow()
    assert copied() == 3
    kernel.follow(to_the_end=True)
    assert copied() == 10


def test_a_pipe_is_followed_without_waiting_for_its_writer(machine: Machine) -> None:
    machine.kmsg.unlink()
    os.mkfifo(machine.kmsg)
    spool = Spool(str(machine.folder / "spool"))
    kernel = KernelLog(str(machine.kmsg), spool)
    kernel.follow()
    with machine.kmsg.open("wb") as stream:
        stream.write(b"6,0,1,-;through a pipe\n")
        stream.flush()
        kernel.follow()
    assert [line["text"] for line in written(machine) if line["type"] == "kmsg"] == ["through a pipe"]


def test_an_empty_kernel_log_is_followed_and_said_to_be(machine: Machine) -> None:
    spool = Spool(str(machine.folder / "spool"))
    kernel = KernelLog(str(machine.kmsg), spool)
    kernel.follow()
    machine.kmsg.write_text("6,7,1,-;first\n")
    kernel.follow()
    assert [(line["type"], line["seq"]) for line in written(machine)] == [("kmsg_start", None), ("kmsg", 7)]


def test_a_kernel_log_that_cannot_be_opened_is_said(machine: Machine) -> None:
    machine.kmsg.unlink()
    KernelLog(str(machine.kmsg), Spool(str(machine.folder / "spool"))).follow()
    (line,) = written(machine)
    assert line["type"] == "kmsg_start"
    assert "FileNotFoundError" in line["error"]


def test_the_real_kernel_log_is_read_from_its_first_record(machine: Machine) -> None:
    try:
        with Path("/dev/kmsg").open("rb", buffering=0) as stream:
            os.set_blocking(stream.fileno(), False)
            expected = int(stream.read(16384).split(b",")[1])
    except OSError as error:
        pytest.skip(f"/dev/kmsg: {error}")
    KernelLog("/dev/kmsg", Spool(str(machine.folder / "spool"))).follow()
    start, *lines = written(machine)
    assert start["seq"] >= expected
    assert lines[0]["type"] == "kmsg"
