"""Telemetry as OpenMetrics families: DCGM's names, so that dashboards made for its exporter find them.

DCGM's units are not ours: energy in mJ, framebuffer in MiB (``libraries.md`` §5 of the reference shelf; the
names are those of DCGM's exporter). A run is not a moment, so each sample says its ``statistic``.
"""

from __future__ import annotations

import math

from harness.model.record import RunRecord
from harness.model.telemetry import GpuTelemetry, GuestTelemetry, SeriesSummary
from reports.parts import telemetry

Sample = tuple[dict[str, str], float]
Family = tuple[str, str, str, list[Sample]]
"""Name, unit (as OpenMetrics wants it in the name), help and samples."""

ALIASES: dict[str, tuple[str, float, str]] = {
    "power": ("POWER_USAGE", 1.0, "Power draw in W."),
    "energy": ("TOTAL_ENERGY_CONSUMPTION", 1000.0, "Energy since the driver was loaded in mJ."),
    "temperature": ("GPU_TEMP", 1.0, "Core temperature in degrees Celsius."),
    "temperature_memory": ("MEMORY_TEMP", 1.0, "Memory temperature in degrees Celsius."),
    "clock_sm": ("SM_CLOCK", 1.0, "SM clock in MHz."),
    "clock_memory": ("MEM_CLOCK", 1.0, "Memory clock in MHz."),
    "util_gpu": ("GPU_UTIL", 1.0, "GPU utilisation in per cent."),
    "util_encoder": ("ENC_UTIL", 1.0, "Encoder utilisation in per cent."),
    "util_decoder": ("DEC_UTIL", 1.0, "Decoder utilisation in per cent."),
    "memory_used": ("FB_USED", 2.0**-20, "Framebuffer used in MiB."),
    "pcie_replays": ("PCIE_REPLAY_COUNTER", 1.0, "PCIe replays."),
}
"""Series to DCGM's name without ``DCGM_FI_DEV_``, its number for one of ours, and what it is."""
_COUNTERS = frozenset({"energy", "pcie_replays"})


def families(record: RunRecord) -> list[Family]:
    """DCGM's families under load, then what DCGM has no name for."""
    cards = [(seen, gpu) for seen in telemetry.guests(record) for gpu in seen.gpus]
    found: list[Family] = []
    for name, (alias, factor, words) in ALIASES.items():
        samples = [
            (_card(seen, gpu) | {"statistic": statistic}, value * factor)
            for seen, gpu in cards
            if name in gpu.series
            for statistic, value in _statistics(name, gpu.series[name])
        ]
        found.append((f"DCGM_FI_DEV_{alias}", "", f"{words} Summary of a run.", samples))
    return [*found, *_own(record, cards)]


def _own(record: RunRecord, cards: list[tuple[GuestTelemetry, GpuTelemetry]]) -> list[Family]:
    return [
        (
            "shakedown_load_seconds",
            "seconds",
            "Time under load, and how much of it samples cover.",
            [
                (_card(seen, gpu) | {"part": part}, seconds)
                for seen, gpu in cards
                for part, seconds in (("all", gpu.load_seconds), ("covered", gpu.covered_seconds))
            ],
        ),
        (
            "shakedown_clock_reason_seconds",
            "seconds",
            "Time under load by throttle reason.",
            [
                (_card(seen, gpu) | {"reason": reason}, seconds)
                for seen, gpu in cards
                for reason, seconds in gpu.reasons.items()
            ],
        ),
        (
            "shakedown_telemetry_standin",
            "",
            "1 for a guest whose telemetry came from a stand-in: none of its values are real.",
            [
                ({"guest": seen.guest, "scenario": seen.standin}, float(bool(seen.standin)))
                for seen in telemetry.guests(record)
            ],
        ),
        (
            "shakedown_kernel_events",
            "",
            "Kernel events by family, code and severity (label ruling).",
            _events(record),
        ),
    ]


def _card(seen: GuestTelemetry, gpu: GpuTelemetry) -> dict[str, str]:
    """The exporter's label names, and ours."""
    return {
        "guest": seen.guest,
        "gpu": str(gpu.index),
        "UUID": gpu.uuid,
        "pci_bus_id": str(gpu.host_address or ""),
        "modelName": gpu.name,
        "standin": seen.standin,
    }


def _statistics(name: str, series: SeriesSummary) -> list[tuple[str, float]]:
    counter = [("last", series.last), ("increase", series.increase)]
    gauge = [("min", series.minimum), ("mean", series.mean), ("max", series.maximum)]
    named = counter if name in _COUNTERS else gauge
    return [(statistic, value) for statistic, value in named if value is not None and math.isfinite(value)]


def _events(record: RunRecord) -> list[Sample]:
    counts: dict[tuple[str, str, str], int] = {}
    for event in telemetry.kernel_rows(record):
        key = (event.source, event.what, event.ruling)
        counts[key] = counts.get(key, 0) + 1
    return [
        ({"source": source, "event": what, "ruling": ruling}, float(count))
        for (source, what, ruling), count in counts.items()
    ]
