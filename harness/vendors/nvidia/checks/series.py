"""Rules by which series of GPUs are judged, as an NVIDIA card breaks and keeps each: all that a rehearsed one
can play."""

from __future__ import annotations

from functools import partial

from harness.checks.watching.series_rules import Case, RehearsedCard, SeriesRule
from harness.model.outcome import Outcome
from harness.telemetry.gpu import plausible
from harness.vendors.nvidia.standin.rehearsed import ADDRESS, LOAD, SILENCE, rehearsed

CARD = RehearsedCard(play=rehearsed, load=LOAD, address=ADDRESS)
_rule = partial(SeriesRule, card=CARD, file=__name__.replace(".", "/") + ".py")


def _sensor(rule: str, bad: Case, clean: Case | None = None) -> SeriesRule:
    """A rule of ``harness.telemetry.gpu.plausible``."""
    source = next(each.source for each in plausible.RULES if each.id == rule)
    return _rule(
        id=f"sensor-{rule}",
        check="telemetry.alive",
        source=source,
        bad=bad,
        clean=clean or {},
        outcome=Outcome.ERROR,
    )


_REASON = {"hw_slowdown": 8.0, "sw_thermal": 32.0, "hw_thermal": 64.0, "power_brake": 128.0}
_GPUD = "gpud: 0.6 hardware events a minute over ten minutes are unhealthy "
"(components/accelerator/nvidia/hw-slowdown)"
_NVIDIA_RMA = "NVIDIA GPU memory error management: row remapping failure, pending and RMA criteria"
_DCGM = "DCGM, DcgmGPUHardwareLimits.h and DcgmHealthWatch.cpp"

_DIPPED = (  # a load that pauses for two seconds
    *((0.0, 75.0), (20.0, 75.0), (20.1, 640.0), (50.0, 644.0), (80.0, 639.0), (99.0, 641.0)),
    *(
        (99.1, 90.0),
        (101.0, 88.0),
        (101.1, 640.0),
        (140.0, 643.0),
        (180.0, 640.0),
        (180.1, 75.0),
        (200.0, 76.0),
    ),
)
_STUCK = ((0.0, 30.0), (20.0, 30.0), (50.0, 55.0), (200.0, 55.0))
_SAGGED = (
    (0.0, 75.0),
    (20.0, 75.5),
    (20.1, 640.0),
    (60.0, 642.0),
    (160.0, 420.0),
    (180.0, 415.0),
    (180.1, 75.0),
)

RULES: tuple[SeriesRule, ...] = (
    _rule(
        id="coverage",
        check="telemetry.coverage",
        source="max_gap_seconds of the profile",
        bad={SILENCE: ((178.0, 9.0),)},
        clean={SILENCE: ((100.0, 1.5),)},
        outcome=Outcome.ERROR,
    ),
    _sensor("impossible", {"temperature": ((0.0, 30.0), (100.0, 60.0), (100.1, 0.0))}),
    _sensor("frozen", {"power": ((0.0, 75.0), (20.0, 75.0), (20.1, 640.0), (180.0, 640.0))}),
    _sensor("unmoved", {"temperature": ((0.0, 41.0),)}),
    _sensor("still", {"temperature": _STUCK, "power": _DIPPED}, {"power": _DIPPED}),
    _sensor(
        "stepped",
        {
            "temperature": (
                (0.0, 30.0),
                (60.0, 58.0),
                (100.0, 58.0),
                (100.1, 74.0),
                (180.0, 74.0),
                (200.0, 40.0),
            )
        },
        {
            "temperature": (
                (0.0, 30.0),
                (60.0, 58.0),
                (100.0, 58.0),
                (100.1, 66.0),
                (180.0, 66.0),
                (200.0, 40.0),
            )
        },
    ),
    _sensor(
        "cooled",
        {"temperature": ((0.0, 30.0), (80.0, 64.0), (170.0, 52.0), (200.0, 40.0))},
        {
            "temperature": ((0.0, 30.0), (80.0, 64.0), (170.0, 52.0), (200.0, 40.0)),
            "temperature_memory": ((0.0, 34.0), (80.0, 70.0), (170.0, 60.0), (200.0, 44.0)),
        },
    ),
    _sensor("weak", {"power": ((0.0, 5.0), (100.0, 5.4), (200.0, 5.1))}),
    _sensor("unused", {"util_gpu": ((0.0, 0.0),), "util_memory": ((0.0, 0.0),)}),
    _sensor("unequal", {"energy": ((0.0, 0.0), (200.0, 500_000.0))}),
    _sensor(
        "drifted",
        {"power": _SAGGED, "energy": ((0.0, 0.0), (20.0, 1500.0), (180.0, 104_000.0), (200.0, 105_500.0))},
        {"power": _SAGGED},
    ),
    _sensor("claimed", {"util_gpu": ((0.0, 100.0),)}),
    _sensor("empty", {"memory_used": ((0.0, 0.0),)}),
    _sensor("fell", {"energy": ((0.0, 1e5), (100.0, 1.6e5), (100.1, 0.0), (200.0, 6e4))}),
    _sensor("jumped", {"energy": ((0.0, 0.0), (100.0, 6e4), (100.1, 9e4), (200.0, 1.5e5))}),
    *(
        _rule(
            id=f"reason-{name}",
            check="gpu.clock_reasons",
            source=_GPUD,
            bad={"reasons": ((0.0, 1.0), (20.0, 0.0), (90.0, bit), (95.0, 0.0))},
            clean={"reasons": ((0.0, 1.0), (20.0, 0.0), (90.0, bit), (90.5, 0.0))},
        )
        for name, bit in _REASON.items()
    ),
    _rule(
        id="core-temperature",
        check="gpu.temperature",
        source="gpud: core above GPU_MAX (components/accelerator/nvidia/temperature)",
        bad={"temperature": ((0.0, 30.0), (150.0, 92.0), (180.0, 92.0), (200.0, 50.0))},
        clean={"temperature": ((0.0, 30.0), (150.0, 86.0), (180.0, 86.0), (200.0, 50.0))},
    ),
    _rule(
        id="memory-temperature",
        check="gpu.temperature",
        source="gpud: memory above MEM_MAX (components/accelerator/nvidia/temperature)",
        bad={"temperature_memory": ((0.0, 30.0), (150.0, 99.0), (200.0, 50.0))},
        clean={"temperature_memory": ((0.0, 30.0), (150.0, 94.0), (200.0, 50.0))},
    ),
    _rule(
        id="power-limit",
        check="gpu.power",
        source="nvml.h: nvmlDeviceGetPowerManagementDefaultLimit is what the card is delivered with",
        bad={"power_limit": ((90.0, 500.0), (110.0, 700.0))},
    ),
    _rule(
        id="power-over-limit",
        check="gpu.power",
        source="NVML's power errs by 5 % (arXiv 2312.02741); twice that over the limit is none",
        bad={"power": ((0.0, 900.0), (100.0, 905.0), (200.0, 900.0))},
    ),
    _rule(
        id="ecc-corrected-rate",
        check="gpu.ecc_errors",
        source="Azure NHC: 10,000 corrected SRAM errors fail; here as the rate of a day, 100 at least",
        bad={"ecc_corrected": ((0.0, 0.0), (60.0, 0.0), (61.0, 150.0))},
        clean={"ecc_corrected": ((0.0, 7.0), (60.0, 7.0), (180.0, 90.0))},
    ),
    _rule(
        id="ecc-uncorrected",
        check="gpu.ecc_errors",
        source=f"{_DCGM}: any double-bit error fails",
        bad={"ecc_uncorrected": ((0.0, 0.0), (60.0, 0.0), (60.1, 2.0), (90.0, 2.0), (90.1, 0.0))},
        clean={"ecc_uncorrected_aggregate": ((0.0, 3.0),)},
    ),
    _rule(
        id="sram-exceeded",
        check="gpu.ecc_errors",
        source="nvml.h: nvmlDeviceGetSramEccErrorStatus, bThresholdExceeded (DCGM_FR_SRAM_THRESHOLD)",
        bad={"sram_exceeded": ((100.0, 1.0),)},
    ),
    _rule(
        id="remap-failed",
        check="gpu.retired_memory",
        source=_NVIDIA_RMA,
        bad={"remap_failed": ((0.0, 0.0), (100.0, 1.0), (130.0, 0.0))},
    ),
    _rule(
        id="remap-pending",
        check="gpu.retired_memory",
        source=_NVIDIA_RMA,
        bad={"remap_pending": ((0.0, 0.0), (100.0, 1.0), (130.0, 0.0))},
    ),
    _rule(
        id="remapped-under-load",
        check="gpu.retired_memory",
        source=_NVIDIA_RMA,
        bad={"remap_corrected": ((0.0, 4.0), (100.0, 4.0), (100.1, 5.0))},
        clean={"remap_corrected": ((0.0, 4.0),)},
    ),
    _rule(
        id="remap-used-up",
        check="gpu.retired_memory",
        source=f"{_DCGM}: 512 remapped rows",
        bad={"remap_uncorrected": ((0.0, 512.0),)},
        clean={"remap_uncorrected": ((0.0, 511.0),)},
    ),
    _rule(
        id="link-generation",
        check="gpu.pcie_under_load",
        source="nvml.h: the link's maximum; PCI Express Base Specification, speeds by generation",
        bad={"pcie_gen": ((0.0, 5.0), (120.0, 1.0))},
        clean={"pcie_gen": ((0.0, 1.0), (20.5, 5.0), (179.5, 1.0))},
    ),
    _rule(
        id="link-width",
        check="gpu.pcie_under_load",
        source="nvml.h: the link's maximum",
        bad={"pcie_width": ((0.0, 16.0), (100.0, 8.0), (112.0, 16.0))},
        clean={"pcie_width": ((0.0, 16.0), (100.0, 8.0), (101.0, 16.0))},
    ),
    _rule(
        id="link-replays",
        check="gpu.pcie_under_load",
        source="DCGM, GetExpectedPcieReplayRate: bit error rate of 1e-12",
        bad={"pcie_replays": ((0.0, 0.0), (100.0, 0.0), (101.0, 400.0))},
        clean={"pcie_replays": ((0.0, 9.0), (200.0, 40.0))},
    ),
    _rule(
        id="nvlink-down",
        check="gpu.nvlink",
        source="nvml.h: nvmlDeviceGetNvLinkState",
        bad={"nvlink_active": ((0.0, 18.0), (100.0, 17.0), (130.0, 18.0))},
    ),
    _rule(
        id="nvlink-replay",
        check="gpu.nvlink",
        source=f"{_DCGM}: one replay or recovery fails",
        bad={"nvlink_replay": ((0.0, 0.0), (100.0, 0.0), (100.1, 1.0))},
        clean={"nvlink_replay": ((0.0, 3.0),)},
    ),
    _rule(
        id="nvlink-crc",
        check="gpu.nvlink",
        source=f"{_DCGM}: 100 CRC errors a second fail",
        bad={"nvlink_crc": ((0.0, 0.0), (60.0, 0.0), (120.0, 9000.0))},
        clean={"nvlink_crc": ((0.0, 0.0), (60.0, 0.0), (120.0, 400.0))},
    ),
    _rule(
        id="nvlink-crc-rate",
        check="gpu.nvlink",
        source="DCGM, DcgmUtilitiesTests.cpp: a bit error rate over 1e-12 fails; a link has 25 GB/s",
        bad={"nvlink_crc": ((0.0, 0.0), (20.0, 0.0), (180.0, 1600.0))},
        clean={"nvlink_crc": ((0.0, 0.0), (20.0, 0.0), (180.0, 500.0))},
    ),
    _rule(
        id="ecc-mode",
        check="gpu.ecc_mode",
        source="nvml.h: the card's default mode",
        bad={"ecc_current": ((100.0, 0.0),)},
    ),
    _rule(
        id="mig-mode",
        check="gpu.mig_mode",
        source="nvml.h: nvmlDeviceGetMigMode",
        bad={"mig": ((100.0, 1.0), (120.0, 0.0))},
    ),
    _rule(
        id="identity",
        check="gpu.settings",
        source="nvml.h: a UUID is the card's own for its life",
        bad={"uuid": ((100.0, 7.0),)},
    ),
    _rule(
        id="limits",
        check="gpu.settings",
        source="what was tested must be one state of the card",
        bad={"temperature_slowdown": ((100.0, 80.0), (105.0, 89.0))},
    ),
    _rule(
        id="work-idle",
        check="gpu.work",
        source="nvml.h: util_gpu is the share of time in which a kernel ran",
        bad={"util_gpu": ((0.0, 0.0),), "power": ((0.0, 75.0), (100.0, 75.5), (200.0, 75.1))},
    ),
    _rule(
        id="work-clock-fell",
        check="gpu.work",
        source="SC'22, arXiv 2208.11035: cards of one model differ by 8 %, by 22 % at most",
        bad={"clock_sm": ((0.0, 345.0), (20.0, 1965.0), (100.0, 1965.0), (170.0, 1000.0))},
        clean={"clock_sm": ((0.0, 345.0), (20.0, 1965.0), (170.0, 1830.0))},
    ),
    _rule(
        id="work-clock-drift",
        check="gpu.work",
        source="SC'22, arXiv 2208.11035: a card that warms up loses a few percent of its clock",
        bad={"clock_sm": ((0.0, 345.0), (20.0, 1965.0), (180.0, 1720.0))},
        clean={"clock_sm": ((0.0, 345.0), (20.0, 1965.0), (180.0, 1880.0))},
    ),
    _rule(
        id="work-clock-low",
        check="gpu.work",
        source="boost clocks of the models under load are 0.8 and more of their maximum",
        bad={"clock_sm": ((0.0, 345.0), (20.0, 1200.0))},
        clean={"clock_sm": ((0.0, 345.0), (20.0, 1600.0))},
    ),
    _rule(
        id="work-capped-low",
        check="gpu.work",
        source="a power cap binds at the limit that the card names; NVML's power is an average of a second",
        bad={
            "reasons": ((0.0, 1.0), (20.0, 4.0)),
            "power": ((0.0, 75.0), (20.0, 340.0), (100.0, 352.0), (180.0, 340.0)),
        },
        clean={"reasons": ((0.0, 1.0), (20.0, 4.0))},
    ),
    _rule(
        id="work-clock-set",
        check="gpu.work",
        source="nvml.h: nvmlClocksEventReasonApplicationsClocksSetting",
        bad={"reasons": ((0.0, 1.0), (20.0, 2.0)), "clock_sm": ((0.0, 345.0), (20.0, 1410.0))},
        clean={"reasons": ((0.0, 1.0), (20.0, 2.0))},
    ),
)
"""All of them."""
