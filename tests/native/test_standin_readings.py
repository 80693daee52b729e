"""Each reading of the NVML stand-in, by every function of NVML that tells it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import pynvml
import pytest

from harness.vendors.nvidia.standin.model import StandinCard
from harness.vendors.nvidia.standin.scenario import CAUSES, READINGS
from tests.native.played import Play, asked, call, series


def field(number: int, scope: int = 0) -> Callable[[Any], Any]:
    def ask(gpu: Any) -> Any:
        (found,) = pynvml.nvmlDeviceGetFieldValues(gpu, [(number, scope)])
        assert found.nvmlReturn == 0
        value = found.value.ullVal if found.valueType == 3 else found.value.uiVal
        return ctypes.c_int32(value).value if value < 2**32 else value

    return ask


def count(name: str, *arguments: Any) -> Callable[[Any], Any]:
    return lambda gpu: len(call(name, *arguments)(gpu))


def links(*arguments: Any, name: str) -> Callable[[Any], Any]:
    return lambda gpu: sum(call(name, link, *arguments)(gpu) for link in range(4))


def sram(gpu: Any) -> int:
    status = pynvml.c_nvmlEccSramErrorStatus_v1_t()
    status.version = 0x1000068
    pynvml.nvmlDeviceGetSramEccErrorStatus(gpu, ctypes.byref(status))
    return int(status.bThresholdExceeded)


ALL_LINKS = 0xFFFFFFFF
ASKED: dict[str, tuple[Any, ...]] = {
    "power": (1000, 77, call("PowerUsage"), field(185), field(186)),
    "energy": (1000, 123456, call("TotalEnergyConsumption"), field(83)),
    "temperature": (1, 17, call("Temperature", 0), call("TemperatureV", 0)),
    "temperature_memory": (1, 55, field(82)),
    "temperature_margin": (1, -7, call("MarginTemperature")),
    "clock_sm": (1, 680, call("ClockInfo", 0), call("ClockInfo", 1), call("Clock", 1, 0)),
    "clock_memory": (1, 405, call("ClockInfo", 2), call("Clock", 2, 0)),
    "util_gpu": (1, 12, call("UtilizationRates", pick="gpu")),
    "util_memory": (1, 13, call("UtilizationRates", pick="memory")),
    "util_encoder": (1, 14, call("EncoderUtilization", pick=0)),
    "util_decoder": (1, 15, call("DecoderUtilization", pick=0)),
    "pcie_gen": (1, 1, call("CurrPcieLinkGeneration")),
    "pcie_width": (1, 8, call("CurrPcieLinkWidth")),
    "reasons": (1, 0x44, call("CurrentClocksEventReasons"), call("CurrentClocksThrottleReasons")),
    "memory_used": (1, 1 << 30, call("MemoryInfo", pick="used")),
    "pcie_replays": (1, 9, call("PcieReplayCounter"), field(94)),
    "ecc_corrected": (1, 8, call("TotalEccErrors", 0, 0), call("MemoryErrorCounter", 0, 0, 2), field(3)),
    "ecc_uncorrected": (1, 7, call("TotalEccErrors", 1, 0), call("MemoryErrorCounter", 1, 0, 2), field(4)),
    "ecc_corrected_aggregate": (1, 6, call("TotalEccErrors", 0, 1), field(5)),
    "ecc_uncorrected_aggregate": (1, 5, call("TotalEccErrors", 1, 1), field(6)),
    "remap_corrected": (1, 4, call("RemappedRows", pick=0), field(142)),
    "remap_uncorrected": (1, 3, call("RemappedRows", pick=1), field(143)),
    "remap_pending": (1, 1, call("RemappedRows", pick=2), field(144)),
    "remap_failed": (1, 1, call("RemappedRows", pick=3), field(145)),
    "retired_single_bit": (1, 3, count("RetiredPages", 0), field(29)),
    "retired_double_bit": (1, 2, count("RetiredPages", 1), field(30)),
    "retired_pending": (1, 1, call("RetiredPagesPendingStatus"), field(31)),
    "nvlink_active": (1, 3, links(name="NvLinkState")),
    "nvlink_replay": (1, 6, links(0, name="NvLinkErrorCounter"), field(52), field(161, 0)),
    "nvlink_recovery": (1, 5, links(1, name="NvLinkErrorCounter"), field(59), field(162, 0)),
    "nvlink_crc": (1, 4, links(2, name="NvLinkErrorCounter"), field(38), field(163, 0)),
    "nvlink_errors": (1, 3, field(208, ALL_LINKS)),
    "recovery_action": (1, 2, field(230)),
    "encoder_sessions": (1, 3, call("EncoderStats", pick=0)),
    "processes": (1, 3, count("ComputeRunningProcesses"), count("ComputeRunningProcesses_v2")),
    "power_limit": (
        1000, 150, call("EnforcedPowerLimit"), call("PowerManagementLimit"), field(190), field(192),
    ),
    "power_limit_default": (1000, 240, call("PowerManagementDefaultLimit"), field(189)),
    "power_limit_min": (1000, 90, call("PowerManagementLimitConstraints", pick=0), field(187)),
    "power_limit_max": (1000, 260, call("PowerManagementLimitConstraints", pick=1), field(188)),
    "temperature_slowdown": (1, 70, call("TemperatureThreshold", 1)),
    "temperature_shutdown": (1, 71, call("TemperatureThreshold", 0)),
    "temperature_gpu_max": (1, 72, call("TemperatureThreshold", 3)),
    "temperature_memory_max": (1, 73, call("TemperatureThreshold", 2)),
    "temperature_gpu_max_tlimit": (1, -4, field(196)),
    "clock_sm_max": (1, 900, call("MaxClockInfo", 1), call("Clock", 1, 3)),
    "clock_memory_max": (1, 901, call("MaxClockInfo", 2)),
    "clock_sm_application": (1, 902, call("ApplicationsClock", 1), call("Clock", 1, 1)),
    "clock_memory_application": (1, 903, call("ApplicationsClock", 2)),
    "pcie_max_gen": (1, 3, call("MaxPcieLinkGeneration"), call("GpuMaxPcieLinkGeneration")),
    "pcie_max_width": (1, 4, call("MaxPcieLinkWidth")),
    "ecc_current": (1, 0, call("EccMode", pick=0), field(1)),
    "ecc_pending": (1, 0, call("EccMode", pick=1), field(2)),
    "ecc_default": (1, 0, call("DefaultEccMode", pick=0)),
    "sram_exceeded": (1, 1, sram),
    "persistence": (1, 0, call("PersistenceMode")),
    "mig": (1, 1, call("MigMode", pick=0)),
    "mig_pending": (1, 1, call("MigMode", pick=1)),
    "nvlink_links": (1, 2, field(91)),
    "memory_bytes": (1, 1 << 33, call("MemoryInfo", pick="total")),
    "fan_speed": (1, 66, call("FanSpeed")),
    "pcie_tx": (1, 1234, call("PcieThroughput", 0)),
    "pcie_rx": (1, 1235, call("PcieThroughput", 1)),
    "pstate": (1, 5, call("PerformanceState"), call("PowerState")),
    "uuid": (1, "GPU-of-another", call("UUID")),
    "serial": (1, "17", call("Serial")),
    "name": (1, "Another card", call("Name")),
    "vbios": (1, "96.00.01", call("VbiosVersion")),
    "driver": (1, "580.1-shakedown-standin", lambda _: pynvml.nvmlSystemGetDriverVersion()),
    "nvml": (1, "13.1", lambda _: pynvml.nvmlSystemGetNVMLVersion()),
}  # fmt: skip
"""Of each reading: NVML's unit in ours, a value that no card shows by itself, and every way to ask for it."""


@pytest.mark.parametrize("reading", [name for name in READINGS if name not in CAUSES])
def test_every_function_that_tells_a_reading_tells_the_series(reading: str, play: Play) -> None:
    """A reading that is added and told by nothing fails here, and so does one that is told in two ways."""
    factor, value, *questions = ASKED[reading]
    wanted = value.removesuffix("-shakedown-standin") if isinstance(value, str) else value
    card = StandinCard(nvlinks=4, remap_banks=0 if reading.startswith("retired") else 640)
    own = None if reading in ("driver", "nvml") else 0
    played = play(series(reading, (10.0, wanted), gpu=own), gpus=2, card=card)
    gpu, other = (pynvml.nvmlDeviceGetHandleByIndex(n) for n in (0, 1))
    played.turn(5.0)
    for ask in questions:
        assert asked(ask, gpu) != value * factor, "the card itself tells this value: it would show nothing"
    played.turn(11.0)
    for ask in questions:
        assert ask(gpu) == value * factor
        assert own is None or asked(ask, other) != value * factor
