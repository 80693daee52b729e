"""Names of what is sampled: the words that sampler, summaries, checks and reports have in common.

The sampler runs where nothing of the harness is and spells these names itself; a test compares. NVML's units
(mW, mJ, KiB/s) become those here before a summary is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How a sensor's values are to be read."""

    GAUGE = "gauge"
    COUNTER = "counter"
    """Only ever grows while the driver runs."""
    STATE = "state"
    """A number that names a state: 0 or 1, or a generation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """One series of a GPU: its name, unit and kind, and whether the fast or the slow round reads it."""

    name: str
    unit: str
    kind: Kind = Kind.GAUGE
    fast: bool = False
    nvml: str
    """The question to NVML, with what tells it from others of the same function."""
    dcgm: str = ""
    """Name in DCGM and its exporter, where one is in common use; without the prefix ``DCGM_FI_DEV_``."""
    dcgm_factor: float = 1.0
    """DCGM's number is ours times this: its units differ (framebuffer in MiB, energy in mJ)."""


SENSORS: tuple[Sensor, ...] = (
    Sensor(
        name="power",
        unit="W",
        fast=True,
        nvml="nvmlDeviceGetPowerUsage (mW; an average of 1 s on Ampere, other than GA100, and newer)",
        dcgm="POWER_USAGE",
    ),
    Sensor(
        name="energy",
        unit="J",
        kind=Kind.COUNTER,
        fast=True,
        nvml="nvmlDeviceGetTotalEnergyConsumption (mJ)",
        dcgm="TOTAL_ENERGY_CONSUMPTION",
        dcgm_factor=1000.0,
    ),
    Sensor(name="temperature", unit="degC", fast=True, nvml="nvmlDeviceGetTemperature: GPU", dcgm="GPU_TEMP"),
    Sensor(
        name="temperature_memory",
        unit="degC",
        fast=True,
        nvml="nvmlDeviceGetFieldValues: MEMORY_TEMP",
        dcgm="MEMORY_TEMP",
    ),
    Sensor(
        name="temperature_margin",
        unit="degC",
        fast=True,
        nvml="nvmlDeviceGetMarginTemperature (driver 570 and newer): what is left below the core's limit",
    ),
    Sensor(name="clock_sm", unit="MHz", fast=True, nvml="nvmlDeviceGetClockInfo: SM", dcgm="SM_CLOCK"),
    Sensor(name="clock_memory", unit="MHz", fast=True, nvml="nvmlDeviceGetClockInfo: MEM", dcgm="MEM_CLOCK"),
    Sensor(name="util_gpu", unit="%", fast=True, nvml="nvmlDeviceGetUtilizationRates: gpu", dcgm="GPU_UTIL"),
    Sensor(name="util_memory", unit="%", fast=True, nvml="nvmlDeviceGetUtilizationRates: memory"),
    Sensor(name="util_encoder", unit="%", fast=True, nvml="nvmlDeviceGetEncoderUtilization", dcgm="ENC_UTIL"),
    Sensor(name="util_decoder", unit="%", fast=True, nvml="nvmlDeviceGetDecoderUtilization", dcgm="DEC_UTIL"),
    Sensor(name="pcie_gen", unit="1", kind=Kind.STATE, fast=True, nvml="nvmlDeviceGetCurrPcieLinkGeneration"),
    Sensor(name="pcie_width", unit="1", kind=Kind.STATE, fast=True, nvml="nvmlDeviceGetCurrPcieLinkWidth"),
    Sensor(
        name="reasons", unit="1", kind=Kind.STATE, fast=True, nvml="nvmlDeviceGetCurrentClocksEventReasons"
    ),
    Sensor(
        name="memory_used",
        unit="B",
        nvml="nvmlDeviceGetMemoryInfo: used",
        dcgm="FB_USED",
        dcgm_factor=2.0**-20,
    ),
    Sensor(
        name="pcie_replays",
        unit="1",
        kind=Kind.COUNTER,
        nvml="nvmlDeviceGetPcieReplayCounter",
        dcgm="PCIE_REPLAY_COUNTER",
    ),
    Sensor(
        name="ecc_corrected",
        unit="1",
        kind=Kind.COUNTER,
        nvml="nvmlDeviceGetTotalEccErrors: corrected, volatile",
    ),
    Sensor(
        name="ecc_uncorrected",
        unit="1",
        kind=Kind.COUNTER,
        nvml="nvmlDeviceGetTotalEccErrors: uncorrected, volatile",
    ),
    Sensor(
        name="ecc_corrected_aggregate",
        unit="1",
        kind=Kind.COUNTER,
        nvml="nvmlDeviceGetTotalEccErrors: corrected, aggregate",
    ),
    Sensor(
        name="ecc_uncorrected_aggregate",
        unit="1",
        kind=Kind.COUNTER,
        nvml="nvmlDeviceGetTotalEccErrors: uncorrected, aggregate",
    ),
    Sensor(name="remap_corrected", unit="1", kind=Kind.COUNTER, nvml="nvmlDeviceGetRemappedRows: corrRows"),
    Sensor(name="remap_uncorrected", unit="1", kind=Kind.COUNTER, nvml="nvmlDeviceGetRemappedRows: uncRows"),
    Sensor(name="remap_pending", unit="1", kind=Kind.STATE, nvml="nvmlDeviceGetRemappedRows: isPending"),
    Sensor(name="remap_failed", unit="1", kind=Kind.STATE, nvml="nvmlDeviceGetRemappedRows: failureOccurred"),
    Sensor(
        name="retired_single_bit",
        unit="1",
        kind=Kind.COUNTER,
        nvml="nvmlDeviceGetRetiredPages: MULTIPLE_SINGLE_BIT_ECC_ERRORS",
    ),
    Sensor(
        name="retired_double_bit",
        unit="1",
        kind=Kind.COUNTER,
        nvml="nvmlDeviceGetRetiredPages: DOUBLE_BIT_ECC_ERROR",
    ),
    Sensor(name="retired_pending", unit="1", kind=Kind.STATE, nvml="nvmlDeviceGetRetiredPagesPendingStatus"),
    Sensor(
        name="nvlink_active", unit="1", kind=Kind.STATE, nvml="nvmlDeviceGetNvLinkState, summed over links"
    ),
    Sensor(
        name="nvlink_replay", unit="1", kind=Kind.COUNTER, nvml="nvmlDeviceGetNvLinkErrorCounter: DL_REPLAY"
    ),
    Sensor(
        name="nvlink_recovery",
        unit="1",
        kind=Kind.COUNTER,
        nvml="nvmlDeviceGetNvLinkErrorCounter: DL_RECOVERY",
    ),
    Sensor(
        name="nvlink_crc",
        unit="1",
        kind=Kind.COUNTER,
        nvml="nvmlDeviceGetNvLinkErrorCounter: DL_CRC_FLIT and DL_CRC_DATA",
    ),
    Sensor(
        name="nvlink_errors",
        unit="1",
        kind=Kind.COUNTER,
        nvml="nvmlDeviceGetFieldValues: NVLINK_COUNT_MALFORMED_PACKET_ERRORS to _LOCAL_LINK_INTEGRITY_ERRORS",
    ),
    Sensor(
        name="recovery_action",
        unit="1",
        kind=Kind.STATE,
        nvml="nvmlDeviceGetFieldValues: GET_GPU_RECOVERY_ACTION",
    ),
    Sensor(name="encoder_sessions", unit="1", nvml="nvmlDeviceGetEncoderStats: sessionCount"),
    Sensor(
        name="processes",
        unit="1",
        nvml="nvmlDeviceGetComputeRunningProcesses and nvmlDeviceGetGraphicsRunningProcesses",
    ),
)
"""All of them. ECC counters without ``_aggregate`` are the volatile ones (since the driver was loaded);
``nvlink_*`` are sums over all links; ``reasons`` is the bit mask of clock events (``REASONS``)."""

SENSOR: dict[str, Sensor] = {sensor.name: sensor for sensor in SENSORS}

REASONS: dict[int, str] = {
    0x1: "idle",
    0x2: "app_clocks",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal",
    0x40: "hw_thermal",
    0x80: "power_brake",
    0x100: "display",
}
"""Clock-event reasons by their bit (``nvmlClocksEventReason*``, nvml.h)."""

PROPERTIES: dict[str, str] = {
    "power_limit": "W",
    "power_limit_default": "W",
    "power_limit_max": "W",
    "temperature_slowdown": "degC",
    "temperature_shutdown": "degC",
    "temperature_gpu_max": "degC",
    "temperature_memory_max": "degC",
    "temperature_gpu_max_tlimit": "degC",
    "clock_sm_max": "MHz",
    "clock_memory_max": "MHz",
    "pcie_max_gen": "1",
    "pcie_max_width": "1",
    "ecc_current": "bool",
    "ecc_pending": "bool",
    "ecc_default": "bool",
    "sram_exceeded": "bool",
    "persistence": "bool",
    "mig": "bool",
    "mig_pending": "bool",
    "nvlink_links": "1",
}
"""What is read once of each card, and its unit. ``power_limit`` is the enforced one, ``pcie_max_*`` what
card and slot can do together, ``nvlink_links`` how many links the card has; ``temperature_gpu_max_tlimit`` is
the least ``temperature_margin`` at which an Ada or later may still run at its base clock."""

ENERGY_FROZEN_SECONDS = 10.0
"""NVML's energy counter moves every 100 ms (ml.energy), also on an idle card; energy is to be taken from
windows of 10 s and more."""
POWER_FROZEN_SECONDS = 30.0
"""NVML's power is an average of up to 1 s in mW; thirty of them alike are no measurement."""
