"""What NVML is asked of a GPU, under the names that summaries, checks and reports use.

NVML's units (mW, mJ, KiB/s) become those here before a summary is made.
"""

from __future__ import annotations

from harness.model.vendor import Kind, Sensor

SENSORS: tuple[Sensor, ...] = (
    Sensor(
        name="power",
        unit="W",
        fast=True,
        asks="nvmlDeviceGetPowerUsage (mW; an average of 1 s on Ampere, other than GA100, and newer)",
        dcgm="POWER_USAGE",
    ),
    Sensor(
        name="energy",
        unit="J",
        kind=Kind.COUNTER,
        fast=True,
        asks="nvmlDeviceGetTotalEnergyConsumption (mJ)",
        dcgm="TOTAL_ENERGY_CONSUMPTION",
        dcgm_factor=1000.0,
    ),
    Sensor(name="temperature", unit="degC", fast=True, asks="nvmlDeviceGetTemperature: GPU", dcgm="GPU_TEMP"),
    Sensor(
        name="temperature_memory",
        unit="degC",
        fast=True,
        asks="nvmlDeviceGetFieldValues: MEMORY_TEMP",
        dcgm="MEMORY_TEMP",
    ),
    Sensor(
        name="temperature_margin",
        unit="degC",
        fast=True,
        asks="nvmlDeviceGetMarginTemperature (driver 570 and newer): what is left below the core's limit",
    ),
    Sensor(name="clock_sm", unit="MHz", fast=True, asks="nvmlDeviceGetClockInfo: SM", dcgm="SM_CLOCK"),
    Sensor(name="clock_memory", unit="MHz", fast=True, asks="nvmlDeviceGetClockInfo: MEM", dcgm="MEM_CLOCK"),
    Sensor(name="util_gpu", unit="%", fast=True, asks="nvmlDeviceGetUtilizationRates: gpu", dcgm="GPU_UTIL"),
    Sensor(name="util_memory", unit="%", fast=True, asks="nvmlDeviceGetUtilizationRates: memory"),
    Sensor(name="util_encoder", unit="%", fast=True, asks="nvmlDeviceGetEncoderUtilization", dcgm="ENC_UTIL"),
    Sensor(name="util_decoder", unit="%", fast=True, asks="nvmlDeviceGetDecoderUtilization", dcgm="DEC_UTIL"),
    Sensor(name="pcie_gen", unit="1", kind=Kind.STATE, fast=True, asks="nvmlDeviceGetCurrPcieLinkGeneration"),
    Sensor(name="pcie_width", unit="1", kind=Kind.STATE, fast=True, asks="nvmlDeviceGetCurrPcieLinkWidth"),
    Sensor(
        name="reasons",
        unit="1",
        kind=Kind.STATE,
        fast=True,
        asks="nvmlDeviceGetCurrentClocksEventReasons",
    ),
    Sensor(
        name="memory_used",
        unit="B",
        asks="nvmlDeviceGetMemoryInfo: used",
        dcgm="FB_USED",
        dcgm_factor=2.0**-20,
    ),
    Sensor(
        name="pcie_replays",
        unit="1",
        kind=Kind.COUNTER,
        asks="nvmlDeviceGetPcieReplayCounter",
        dcgm="PCIE_REPLAY_COUNTER",
    ),
    Sensor(
        name="ecc_corrected",
        unit="1",
        kind=Kind.COUNTER,
        asks="nvmlDeviceGetTotalEccErrors: corrected, volatile",
    ),
    Sensor(
        name="ecc_uncorrected",
        unit="1",
        kind=Kind.COUNTER,
        asks="nvmlDeviceGetTotalEccErrors: uncorrected, volatile",
    ),
    Sensor(
        name="ecc_corrected_aggregate",
        unit="1",
        kind=Kind.COUNTER,
        asks="nvmlDeviceGetTotalEccErrors: corrected, aggregate",
    ),
    Sensor(
        name="ecc_uncorrected_aggregate",
        unit="1",
        kind=Kind.COUNTER,
        asks="nvmlDeviceGetTotalEccErrors: uncorrected, aggregate",
    ),
    Sensor(name="remap_corrected", unit="1", kind=Kind.COUNTER, asks="nvmlDeviceGetRemappedRows: corrRows"),
    Sensor(name="remap_uncorrected", unit="1", kind=Kind.COUNTER, asks="nvmlDeviceGetRemappedRows: uncRows"),
    Sensor(name="remap_pending", unit="1", kind=Kind.STATE, asks="nvmlDeviceGetRemappedRows: isPending"),
    Sensor(name="remap_failed", unit="1", kind=Kind.STATE, asks="nvmlDeviceGetRemappedRows: failureOccurred"),
    Sensor(
        name="retired_single_bit",
        unit="1",
        kind=Kind.COUNTER,
        asks="nvmlDeviceGetRetiredPages: MULTIPLE_SINGLE_BIT_ECC_ERRORS",
    ),
    Sensor(
        name="retired_double_bit",
        unit="1",
        kind=Kind.COUNTER,
        asks="nvmlDeviceGetRetiredPages: DOUBLE_BIT_ECC_ERROR",
    ),
    Sensor(name="retired_pending", unit="1", kind=Kind.STATE, asks="nvmlDeviceGetRetiredPagesPendingStatus"),
    Sensor(
        name="nvlink_active",
        unit="1",
        kind=Kind.STATE,
        asks="nvmlDeviceGetNvLinkState, summed over links",
    ),
    Sensor(
        name="nvlink_replay",
        unit="1",
        kind=Kind.COUNTER,
        asks="nvmlDeviceGetNvLinkErrorCounter: DL_REPLAY",
    ),
    Sensor(
        name="nvlink_recovery",
        unit="1",
        kind=Kind.COUNTER,
        asks="nvmlDeviceGetNvLinkErrorCounter: DL_RECOVERY",
    ),
    Sensor(
        name="nvlink_crc",
        unit="1",
        kind=Kind.COUNTER,
        asks="nvmlDeviceGetNvLinkErrorCounter: DL_CRC_FLIT and DL_CRC_DATA",
    ),
    Sensor(
        name="nvlink_errors",
        unit="1",
        kind=Kind.COUNTER,
        asks="nvmlDeviceGetFieldValues: NVLINK_COUNT_MALFORMED_PACKET_ERRORS to _LOCAL_LINK_INTEGRITY_ERRORS",
    ),
    Sensor(
        name="recovery_action",
        unit="1",
        kind=Kind.STATE,
        asks="nvmlDeviceGetFieldValues: GET_GPU_RECOVERY_ACTION",
    ),
    Sensor(name="encoder_sessions", unit="1", asks="nvmlDeviceGetEncoderStats: sessionCount"),
    Sensor(
        name="processes",
        unit="1",
        asks="nvmlDeviceGetComputeRunningProcesses and nvmlDeviceGetGraphicsRunningProcesses",
    ),
)
"""All of them. ECC counters without ``_aggregate`` are the volatile ones (since the driver was loaded);
``nvlink_*`` are sums over all links; ``reasons`` is the bit mask of clock events (``REASONS``)."""

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
