"""The NVML stand-in answers the real pynvml: what cards are, what they do, and each fault as it is meant."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.config.files import list_names, load_standin
from harness.model.pci import PciAddress
from harness.telemetry.gpu.series import REASONS
from harness.vendors.nvidia.standin.model import (
    MOST_FAULTS,
    MOST_GPUS,
    MOST_LOADS,
    MOST_SERIES,
    MOST_TEXTS,
    StandinCard,
    StandinFault,
    StandinFaultKind,
    StandinLoad,
    StandinScenario,
    StandinStart,
)
from harness.vendors.nvidia.standin.scenario import READINGS, TEXTS, scenario_text
from harness.vendors.standin import sources
from tests.native.nvml import ADDRESSES, Machine, build, fault

GPU = "gpu 0"
SOURCES = {path.name: path.read_text() for path in sources()}


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Machine:
    return Machine(build(tmp_path_factory.getbasetemp()), tmp_path)


def scenario(*faults: StandinFault, **values: Any) -> StandinScenario:
    return StandinScenario(name="test", faults=faults, **values)


def test_it_says_that_it_is_a_stand_in(machine: Machine) -> None:
    machine.scene(scenario(driver="575.1"))
    _, driver, nvml, cuda, count = machine.ask(
        ("nvmlSystemGetDriverVersion",),
        ("nvmlSystemGetNVMLVersion",),
        ("nvmlSystemGetCudaDriverVersion_v2",),
        ("nvmlDeviceGetCount",),
    )
    assert (driver, nvml, cuda, count) == ("575.1-shakedown-standin", "12.575.57.08", 12090, 1)


def test_each_card_is_somebody(machine: Machine) -> None:
    card = StandinCard(name="A card", pci_id="10de:2335", subsystem="10de:18be", memory_bytes=1 << 40)
    machine.scene(scenario(card=card), gpus=4)
    uuids = [machine.ask(("nvmlDeviceGetUUID", f"gpu {n}"))[1] for n in range(2)]
    _, name, pci, memory, memory2, serial, index, other, by_uuid, missing, lost = machine.ask(
        ("nvmlDeviceGetName", GPU),
        ("nvmlDeviceGetPciInfo", "gpu 3"),
        ("nvmlDeviceGetMemoryInfo", GPU),
        ("nvmlDeviceGetMemoryInfo", GPU, 0x02000028),
        ("nvmlDeviceGetSerial", GPU),
        ("nvmlDeviceGetIndex", "gpu 3"),
        ("nvmlDeviceGetSerial", "gpu 1"),
        ("nvmlDeviceGetHandleByUUID", uuids[0]),
        ("nvmlDeviceGetHandleByUUID", "GPU-of-nobody"),
        ("nvmlDeviceGetHandleByIndex", 4),
    )
    assert (name, index) == ("A card", 3)
    assert pci["busId"] == f"0000{ADDRESSES[3]}".upper()
    assert (pci["pciDeviceId"], pci["pciSubSystemId"], pci["bus"]) == (0x233510DE, 0x18BE10DE, 0xE3)
    assert memory["total"] == memory2["total"] == 1 << 40
    assert memory["used"] + memory["free"] == memory["total"]
    assert memory2["used"] + memory2["free"] + memory2["reserved"] == memory2["total"]
    assert serial != other
    assert uuids[0] != uuids[1]
    assert uuids[0].startswith("GPU-")
    assert by_uuid == "handle"
    assert missing["error"] == "NVMLError_NotFound"
    assert lost["error"] == "NVMLError_InvalidArgument"


CALLS: dict[str, Any] = {
    "nvmlDeviceGetVbiosVersion": "00.00.00.00.01",
    "nvmlDeviceGetInforomImageVersion": "S000.0000.00.01",
    "nvmlDeviceGetEnforcedPowerLimit": 250000,
    "nvmlDeviceGetPowerManagementLimit": 250000,
    "nvmlDeviceGetPowerManagementDefaultLimit": 250000,
    "nvmlDeviceGetPowerManagementLimitConstraints": [100000, 250000],
    "nvmlDeviceGetMaxPcieLinkGeneration": 4,
    "nvmlDeviceGetMaxPcieLinkWidth": 16,
    "nvmlDeviceGetCurrPcieLinkGeneration": 4,
    "nvmlDeviceGetCurrPcieLinkWidth": 16,
    "nvmlDeviceGetPcieReplayCounter": 0,
    "nvmlDeviceGetEccMode": [1, 1],
    "nvmlDeviceGetRemappedRows": [0, 0, 0, 0],
    "nvmlDeviceGetRowRemapperHistogram": {"max": 640, "high": 0, "partial": 0, "low": 0, "none": 0},
    "nvmlDeviceGetPersistenceMode": 1,
    "nvmlDeviceGetMigMode": [0, 0],
    "nvmlDeviceGetEncoderSessions": [],
    "nvmlDeviceGetEncoderUtilization": [0, 167000],
    "nvmlDeviceGetDecoderUtilization": [0, 167000],
    "nvmlDeviceGetComputeRunningProcesses": [],
    "nvmlDeviceGetGraphicsRunningProcesses": [],
    "nvmlDeviceGetCurrentClocksEventReasons": 0,
    "nvmlDeviceGetCurrentClocksThrottleReasons": 0,
}


def test_a_healthy_card_under_load(machine: Machine) -> None:
    machine.scene(scenario())
    answers = machine.ask(*((name, GPU) for name in CALLS))
    assert dict(zip(CALLS, answers[1:], strict=True)) == CALLS
    _, gone, nvlink, thresholds, clock, peak, use, heat, newer, retired = machine.ask(
        ("nvmlDeviceGetTopologyCommonAncestor", GPU, "gpu 0"),
        ("nvmlDeviceGetNvLinkState", GPU, 0),
        ("nvmlDeviceGetTemperatureThreshold", GPU, 1),
        ("nvmlDeviceGetClockInfo", GPU, 1),
        ("nvmlDeviceGetMaxClockInfo", GPU, 1),
        ("nvmlDeviceGetUtilizationRates", GPU),
        ("nvmlDeviceGetTemperature", GPU, 0),
        ("nvmlDeviceGetTemperatureV", GPU, 0),
        ("nvmlDeviceGetRetiredPages", GPU, 0),
    )
    assert gone["error"] == "NVMLError_FunctionNotFound"
    assert nvlink["error"] == "NVMLError_NotSupported"
    assert retired["error"] == "NVMLError_NotSupported"
    assert thresholds == 92
    assert 0.9 * peak < clock <= peak == 1700
    assert 85 <= use["gpu"] <= 95
    assert {heat, newer} <= {34, 35}  # a second may pass between the two


def test_energy_is_the_integral_of_power_and_heat_lags_behind(machine: Machine) -> None:
    machine.scene(scenario(card=StandinCard(lag=1.0)))
    times = [0.05 + n * 0.2 for n in range(8)]
    steps = [
        (at, name, GPU, *more)
        for at in times
        for name, *more in (
            ("nvmlDeviceGetTotalEnergyConsumption",),
            ("nvmlDeviceGetFieldValues", [186]),
            ("nvmlDeviceGetTemperature", 0),
        )
    ]
    answers = machine.ask(*steps)[1:]
    energy, fields, heat = answers[::3], answers[1::3], answers[2::3]
    power = [each[0][2] for each in fields]
    assert (energy[-1] - energy[0]) / (times[-1] - times[0]) == pytest.approx(
        sum(power) / len(power), rel=0.2
    )
    assert energy == sorted(energy)
    assert heat == sorted(heat)
    assert heat[0] < heat[-1] < 28 + 42
    assert len(set(power)) > 4  # sensors are never that still


def test_the_same_seed_gives_the_same_dynamics(machine: Machine, tmp_path: Path) -> None:
    def series(name: str, seed: int) -> list[Any]:
        folder = tmp_path / name
        folder.mkdir()
        other = Machine(machine.library, folder)
        other.scene(scenario(seed=seed))
        # Asked in the middle of a tick of 0.1 s, with a margin for a busy machine.
        return other.ask(*((0.05 + n * 0.1, "nvmlDeviceGetTotalEnergyConsumption", GPU) for n in range(4)))

    first, again, other = series("a", 3), series("b", 3), series("c", 4)
    assert set(first) & set(again) - {None}, "not one value alike"
    assert not set(first[2:]) & set(other[2:])


def test_load_by_schedule_and_by_file(machine: Machine) -> None:
    steps = (StandinLoad(at=0.0, share=0.0), StandinLoad(at=0.3, share=1.0))
    machine.scene(scenario(load=steps))
    _, idle, reason, gen, busy, fast = machine.ask(
        ("nvmlDeviceGetFieldValues", GPU, [186]),
        ("nvmlDeviceGetCurrentClocksEventReasons", GPU),
        ("nvmlDeviceGetCurrPcieLinkGeneration", GPU),
        (0.6, "nvmlDeviceGetFieldValues", GPU, [186]),
        (0.6, "nvmlDeviceGetCurrPcieLinkGeneration", GPU),
    )
    assert (reason, gen, fast) == (1, 1, 4)
    assert idle[0][2] < 32000
    assert busy[0][2] > 200000
    machine.scene(scenario(), load_file=True)
    assert machine.ask(("nvmlDeviceGetCurrPcieLinkGeneration", GPU))[1] == 1
    machine.load.touch()
    assert machine.ask((0.3, "nvmlDeviceGetCurrPcieLinkGeneration", GPU))[1] == 4


FAULTS: dict[str, tuple[StandinFault, tuple[Any, ...], Any]] = {
    "throttle": (fault("throttle", what="hw_thermal"), ("nvmlDeviceGetCurrentClocksEventReasons", GPU), 0x40),
    "ecc": (
        fault("ecc", what="dram uncorrected", value=3),
        ("nvmlDeviceGetMemoryErrorCounter", GPU, 1, 0, 2),
        3,
    ),
    "ecc-total": (
        fault("ecc", what="sram corrected", value=2),
        ("nvmlDeviceGetTotalEccErrors", GPU, 0, 0),
        2,
    ),
    "remap": (fault("remap", what="failure", value=1), ("nvmlDeviceGetRemappedRows", GPU), [0, 0, 0, 1]),
    "hang": (fault("hang", what="nvmlDeviceGetPowerUsage", value=0.3), ("nvmlDeviceGetEccMode", GPU), [1, 1]),
    "unsupported": (
        fault("unsupported", what="nvmlDeviceGetPowerUsage"),
        ("nvmlDeviceGetPowerUsage", GPU),
        "NVMLError_NotSupported",
    ),
    "unsupported-field": (
        fault("unsupported", what="field 82"),
        ("nvmlDeviceGetFieldValues", GPU, [82, 94]),
        [[82, 3, 0], [94, 0, 0]],
    ),
    "failing": (
        fault("failing", what="nvmlDeviceGetPowerUsage", value=4),
        ("nvmlDeviceGetPowerUsage", GPU),
        "NVMLError_NoPermission",
    ),
    "link_gen": (fault("link_gen", value=1), ("nvmlDeviceGetCurrPcieLinkGeneration", GPU), 1),
    "link_width": (fault("link_width", value=8), ("nvmlDeviceGetCurrPcieLinkWidth", GPU), 8),
    "replay": (fault("replay", value=7), ("nvmlDeviceGetPcieReplayCounter", GPU), 7),
    "nvlink": (
        fault("nvlink", value=5, what="1 replay"),
        ("nvmlDeviceGetFieldValues", GPU, [52, [161, 0], [161, 1]]),
        [[52, 0, 5], [161, 0, 0], [161, 0, 5]],
    ),
    "nvlink_down": (fault("nvlink_down", value=1), ("nvmlDeviceGetNvLinkState", GPU, 1), 0),
    "process": (
        fault("process", value=77, rate=5, what="compute"),
        ("nvmlDeviceGetComputeRunningProcesses", GPU),
        [{"pid": 77, "usedGpuMemory": 5, "gpuInstanceId": 2**32 - 1, "computeInstanceId": 2**32 - 1}],
    ),
    "vanish": (fault("vanish"), ("nvmlDeviceGetPowerUsage", GPU), "NVMLError_GpuIsLost"),
}


CLEAN = "gpu 15"


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Any]]:
    """One machine, each fault on a GPU of its own; what that GPU and a clean one answer."""
    machine = Machine(build(tmp_path_factory.getbasetemp()), tmp_path_factory.mktemp("faults"))
    faults = [dataclasses.replace(what, gpu=n) for n, (what, _, _) in enumerate(FAULTS.values())]
    text = scenario_text(
        scenario(*faults, card=StandinCard(nvlinks=2)), [PciAddress(0, n + 1, 0, 0) for n in range(16)]
    )
    machine.scene(text)
    steps = [
        (0.1, *[each if each != GPU else gpu for each in step])
        for n, (_, step, _) in enumerate(FAULTS.values())
        for gpu in (f"gpu {n}", CLEAN)
    ]
    given = machine.ask(*steps)[1:]
    return dict(zip(FAULTS, zip(given[::2], given[1::2], strict=True), strict=True))


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_shows_on_its_gpu_and_on_no_other(name: str, answers: dict[str, tuple[Any, Any]]) -> None:
    answer, clean = answers[name]
    assert (answer["error"] if "error" in str(answer) else answer) == FAULTS[name][2]
    assert name == "hang" or clean != answer


def test_a_fault_begins_ends_and_leaves_what_it_counted(machine: Machine) -> None:
    machine.scene(
        scenario(
            fault("failing", what="nvmlDeviceGetPowerUsage", value=999, at=0.3, until=0.6),
            fault("ecc", what="dram corrected", rate=10.0, at=0.3, until=0.6),
        )
    )
    power = ("nvmlDeviceGetPowerUsage", GPU)
    _, before, during, after, counted = machine.ask(
        power, (0.45, *power), (0.8, *power), (0.8, "nvmlDeviceGetTotalEccErrors", GPU, 0, 0)
    )
    assert before > 0
    assert during["error"] == "NVMLError_Unknown"
    assert after > 0
    assert counted in (2, 3)


def test_heat_throttles_retires_and_freezes(machine: Machine) -> None:
    card = StandinCard(lag=0.2, remap_banks=0)
    machine.scene(
        scenario(fault("memory_hot", value=50), fault("retired", what="double", value=2), card=card), gpus=2
    )
    _, hot, cool, pages, pending = machine.ask(
        (0.8, "nvmlDeviceGetFieldValues", GPU, [82]),
        (0.8, "nvmlDeviceGetFieldValues", "gpu 1", [82]),
        ("nvmlDeviceGetRetiredPages", GPU, 1),
        ("nvmlDeviceGetRetiredPagesPendingStatus", GPU),
    )
    assert hot[0][2] > cool[0][2] + 30
    assert len(pages) == 2
    assert pending == 0
    machine.scene(scenario(fault("freeze", at=0.2), card=card))
    energy = ("nvmlDeviceGetTotalEnergyConsumption", GPU)
    _, first, frozen, still = machine.ask(energy, (0.4, *energy), (0.7, *energy))
    assert first < frozen == still


def test_an_xid_is_told_once_whoever_asks(machine: Machine) -> None:
    faults = (
        fault("xid", gpu=1, at=0.2, value=79, what="GPU has fallen off the bus."),
        fault("log", gpu=None, at=0.2, value=4, what="something else"),
    )
    machine.scene(scenario(*faults), gpus=2)
    machine.ask((0.4, "nvmlDeviceGetPowerUsage", GPU))
    machine.ask((0.4, "nvmlDeviceGetPowerUsage", "gpu 1"))
    lines = machine.kmsg.read_text().splitlines()
    assert [line.partition(";")[2] for line in lines] == [
        "NVRM: Xid (PCI:0000:65:00): 79, GPU has fallen off the bus.",
        "something else",
    ]
    assert [line.split(",")[:2] for line in lines] == [["11", "0"], ["12", "1"]]


def test_a_scenario_that_is_written_again_begins_again(machine: Machine) -> None:
    """A later run on the same machine with the same scenario must meet its faults too."""
    described = scenario(fault("xid", at=0.1, value=79, what="gone"), fault("vanish", at=0.3))
    for turn in (1, 2):
        machine.scene(described)
        _, before, after = machine.ask(
            ("nvmlDeviceGetPowerUsage", GPU), (0.5, "nvmlDeviceGetPowerUsage", GPU)
        )
        assert before > 0
        assert after["error"] == "NVMLError_GpuIsLost"
        assert len(machine.kmsg.read_text().splitlines()) == turn


def test_a_hang_holds_its_call_for_as_long_as_it_says(machine: Machine) -> None:
    machine.scene(scenario(fault("hang", what="nvmlDeviceGetPowerUsage", value=0.5)))
    _, before, _, after = machine.ask(
        ("nvmlDeviceGetTotalEnergyConsumption", GPU),
        ("nvmlDeviceGetPowerUsage", GPU),
        ("nvmlDeviceGetTotalEnergyConsumption", GPU),
    )
    assert after - before > 0.3 * 150 * 1000  # at least 0.3 s of at least 150 W, in mJ


@pytest.mark.parametrize(
    ("start", "error"),
    [
        (StandinStart.DRIVER_NOT_LOADED, "NVMLError_DriverNotLoaded"),
        (StandinStart.VERSION_MISMATCH, "NVMLError_LibRmVersionMismatch"),
        (StandinStart.NO_PERMISSION, "NVMLError_NoPermission"),
    ],
)
def test_nvml_that_does_not_start_says_why(start: StandinStart, error: str, machine: Machine) -> None:
    machine.scene(scenario(start=start))
    init, count = machine.ask(("nvmlDeviceGetCount",))
    assert init["error"] == error
    assert count["error"] == "NVMLError_Uninitialized"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "something else\n",
        "shakedown-nvml-standin 3\n",
        "shakedown-nvml-standin 2\nunknown key\n",
        "shakedown-nvml-standin 2\ncard ecc 1\n",
        "shakedown-nvml-standin 2\ngpu 17:00\n",
        "shakedown-nvml-standin 2\ngpu 0000:17:00.0\ncard ecc much\n",
        "shakedown-nvml-standin 2\nfault explode 0 start 0 - 0 0 1\n",
        "shakedown-nvml-standin 2\nfault throttle 0 start 0 - 0 0 1 boredom\n",
        "shakedown-nvml-standin 2\nload 5 0.5\nload 1 0.5\n",
        "shakedown-nvml-standin 2\nname " + "x" * 5000 + "\n",
        "shakedown-nvml-standin 2\n" + "gpu 0000:17:00.0\n" * 17,
        "shakedown-nvml-standin 2\n" + "fault freeze 0 start 0 - 0 0 1\n" * 65,
    ],
)
def test_a_scenario_that_is_not_one_is_refused(text: str, machine: Machine) -> None:
    machine.scene(text)
    code, _, problem = machine.start()
    assert code == 2  # INVALID_ARGUMENT
    assert problem.startswith("line ")


def test_no_scenario_is_no_driver(machine: Machine) -> None:
    assert machine.start()[0] == 9  # DRIVER_NOT_LOADED


@pytest.mark.parametrize("name", list_names("standins"))
def test_every_shipped_scenario_is_understood(name: str, machine: Machine) -> None:
    shipped = load_standin(name)
    assert shipped.name == name
    machine.scene(shipped, gpus=4)
    assert machine.start() == (0, 4, "") if shipped.start is StandinStart.OK else machine.start()[0] > 0


def test_model_and_library_know_the_same_words() -> None:
    """What one of them knows and the other does not would be a scenario that loads and never shows."""
    text = SOURCES["nvml_standin_scenario.c"]
    kinds = re.findall(r'"(\w+)"', text[text.index("KIND_NAMES") : text.index("};")])
    assert kinds == [kind.value for kind in StandinFaultKind]
    reasons = text[text.index("REASONS[]") :]
    assert re.findall(r'"(\w+)"', reasons[: reasons.index("};")]) == list(REASONS.values())
    keys = set(re.findall(r"(?:TEXT|NUMBER)\((\w+), ", text))
    rendered = {"key", "uuid", "serial", "inforom", "part", "vendor", "model", "subsystem_vendor"}
    assert keys - rendered == {each.name for each in dataclasses.fields(StandinCard)} - {"pci_id"}
    header = SOURCES["nvml_standin.h"]
    table = header[header.index("#define READINGS(each)") : header.index("enum reading {")]
    steps = dict(re.findall(r"each\((\w+), ([\d.e-]+)\)", table))
    assert set(steps) == set(READINGS)
    assert {name for name, step in steps.items() if float(step) == 0} == set(TEXTS)
    for name, value in (
        ("GPUS", MOST_GPUS), ("FAULTS", MOST_FAULTS), ("LOADS", MOST_LOADS), ("SERIES", MOST_SERIES),
        ("TEXTS", MOST_TEXTS),
    ):  # fmt: skip
        assert f"#define MAX_{name} {value}\n" in header


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed here")
def test_it_touches_no_memory_that_is_not_its_own(machine: Machine, tmp_path: Path) -> None:
    faults = tuple(what for what, _, _ in FAULTS.values() if what.kind is not StandinFaultKind.VANISH)
    machine.scene(scenario(*faults, card=StandinCard(nvlinks=2)), gpus=2)
    log = tmp_path / "valgrind"
    wrapper = ("env", "PYTHONMALLOC=malloc", "valgrind", "-q", f"--log-file={log}", "--undef-value-errors=no")
    steps = [(name, "gpu 1") for name in CALLS] + [step for _, step, _ in FAULTS.values()]
    machine.ask(*steps, ("nvmlShutdown",), wrapper=wrapper)
    assert [part for part in re.split(r"\n==\d+== \n", log.read_text()) if "libnvidia-ml" in part] == []
