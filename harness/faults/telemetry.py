"""Loads that nobody watched, and GPUs that are not well under load."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.errors import ConfigError
from harness.faults.base import OF_ONE_GPU, Fault, guest, with_guest
from harness.model.evidence import Evidence
from harness.model.outcome import Outcome
from harness.model.telemetry import Gap, GpuTelemetry, GuestTelemetry


def _rest(*but: str) -> tuple[str, ...]:
    return tuple(check for check in OF_ONE_GPU if check not in but)


def watched(evidence: Evidence) -> GuestTelemetry:
    """The first guest's telemetry; raises ConfigError when there is none to corrupt."""
    found = guest(evidence).telemetry
    if found is None or not found.gpus:
        raise ConfigError("this evidence holds no telemetry of a GPU, so no fault can be put into it")
    return found


def with_telemetry(evidence: Evidence, **changes: Any) -> Evidence:
    """The evidence with fields of the first guest's telemetry changed."""
    return with_guest(evidence, telemetry=replace(watched(evidence), **changes))


def with_gpu(evidence: Evidence, **changes: Any) -> Evidence:
    """The evidence with fields of the first guest's first GPU changed."""
    first, *rest = watched(evidence).gpus
    return with_telemetry(evidence, gpus=(replace(first, **changes), *rest))


def first_gpu(evidence: Evidence) -> GpuTelemetry:
    """The first guest's first GPU."""
    return watched(evidence).gpus[0]


def with_series(evidence: Evidence, name: str, **changes: Any) -> Evidence:
    """The evidence with fields of one of its series changed."""
    gpu = first_gpu(evidence)
    return with_gpu(evidence, series=gpu.series | {name: replace(gpu.series[name], **changes)})


def with_counter(evidence: Evidence, name: str, grown: float) -> Evidence:
    """A counter that grew by so much under load."""
    first = first_gpu(evidence).series[name].first or 0.0
    return with_series(evidence, name, last=first + grown, minimum=first, maximum=first + grown)


def _state(evidence: Evidence, name: str, value: float) -> Evidence:
    return with_series(evidence, name, first=value, last=value, minimum=value, maximum=value)


def with_property(evidence: Evidence, **changes: float | bool | None) -> Evidence:
    """The evidence with properties of the first guest's first GPU changed."""
    return with_gpu(evidence, properties=first_gpu(evidence).properties | changes)


def _reason(evidence: Evidence, name: str) -> Evidence:
    gpu = first_gpu(evidence)
    return with_gpu(evidence, reasons=gpu.reasons | {name: 0.05 * gpu.load_seconds})


def _gap(evidence: Evidence) -> Evidence:
    load = watched(evidence).loads[0]
    gap = Gap(start=load.start + 10.0, end=load.start + 17.0, reason="the guest stood still")
    covered = first_gpu(evidence).load_seconds - gap.seconds
    return with_gpu(evidence, gaps=(gap,), covered_seconds=covered, longest_silence=gap.seconds)


def _unwindowed(evidence: Evidence) -> Evidence:
    """The window of the first load belongs to no load of this run."""
    first, *rest = watched(evidence).loads
    return with_telemetry(evidence, loads=(replace(first, key="another-run"), *rest))


def _slow(evidence: Evidence) -> Evidence:
    """A tenth of the samples that were asked for, without a gap that is long enough to be one."""
    gpu = first_gpu(evidence)
    thin = {name: replace(series, count=series.count // 10) for name, series in gpu.series.items()}
    return with_gpu(evidence, series=thin)


FAULTS = (
    Fault(
        id="telemetry-absent",
        title="The guest's loads were not watched",
        must_trip="telemetry.coverage",
        corrupt=lambda e: with_guest(e, telemetry=None),
        outcome=None,
        also=(*_rest("telemetry.coverage"), "guest.gpu_errors"),
    ),
    Fault(
        id="library-absent",
        title="The driver's library could not be loaded in the guest",
        must_trip="telemetry.coverage",
        corrupt=lambda e: with_telemetry(e, source="", gpus=(), detail="library not found"),
        outcome=None,
        also=_rest("telemetry.coverage"),
    ),
    Fault(
        id="telemetry-gap",
        title="The samples have a gap under load",
        must_trip="telemetry.coverage",
        corrupt=_gap,
        outcome=Outcome.ERROR,
    ),
    Fault(
        id="sampler-died",
        title="The sampler stopped before the loads ended",
        must_trip="telemetry.coverage",
        corrupt=lambda e: with_telemetry(e, closed=False, ended=watched(e).loads[0].start + 5.0),
        outcome=Outcome.ERROR,
    ),
    Fault(
        id="sampler-late",
        title="The sampler started after the first load",
        must_trip="telemetry.coverage",
        corrupt=lambda e: with_telemetry(e, started=watched(e).loads[0].start + 1.0),
        outcome=Outcome.ERROR,
    ),
    Fault(
        id="spool-torn",
        title="The samples file has unreadable lines",
        must_trip="telemetry.coverage",
        corrupt=lambda e: with_telemetry(e, problems=("line 412: not JSON",)),
        outcome=Outcome.ERROR,
    ),
    Fault(
        id="sampler-limps",
        title="Only a tenth of the samples arrived",
        must_trip="telemetry.coverage",
        corrupt=_slow,
        outcome=Outcome.ERROR,
    ),
    Fault(
        id="load-unwindowed",
        title="A load ran without telemetry",
        must_trip="telemetry.coverage",
        corrupt=_unwindowed,
        outcome=Outcome.ERROR,
    ),
    Fault(
        id="standin-on-hardware",
        title="A stand-in of the driver's library answered in a hardware run",
        must_trip="telemetry.coverage",
        corrupt=lambda e: with_telemetry(e, standin="default"),
        outcome=Outcome.ERROR,
        also=_rest("telemetry.coverage"),
    ),
    Fault(
        id="gpu-not-shown",
        title="The driver's library works but does not list the planned GPU",
        must_trip="telemetry.coverage",
        corrupt=lambda e: with_telemetry(e, gpus=()),
        also=_rest("telemetry.coverage"),
    ),
    Fault(
        id="gpu-vanished",
        title="The GPU stopped answering under load",
        must_trip="telemetry.present",
        corrupt=lambda e: with_gpu(e, vanished="at 71.2 s: the GPU is lost"),
    ),
    Fault(
        id="gpu-wants-reset",
        title="The driver requires a reset of the GPU",
        must_trip="telemetry.present",
        corrupt=lambda e: _state(e, "recovery_action", 1.0),
    ),
    Fault(
        id="gpu-unasked",
        title="The sampler's process for a GPU died for an unknown reason",
        must_trip="telemetry.present",
        corrupt=lambda e: with_gpu(e, unasked="at 71.2 s: the sampler's process that asked it died (-9)"),
        outcome=None,
    ),
    Fault(
        id="call-hung",
        title="A driver call did not return",
        must_trip="telemetry.present",
        corrupt=lambda e: with_telemetry(e, hung=("power on GPU 0: 31 s",)),
    ),
    Fault(
        id="hot-clocks",
        title="Hardware throttled the clocks because of heat",
        must_trip="gpu.clock_reasons",
        corrupt=lambda e: _reason(e, "hw_thermal"),
    ),
    Fault(
        id="power-brake",
        title="The chassis throttled the clocks by the power brake",
        must_trip="gpu.clock_reasons",
        corrupt=lambda e: _reason(e, "power_brake"),
    ),
    Fault(
        id="thermometer-failing",
        title="The card reports no temperature for half of the load",
        must_trip="gpu.temperature",
        corrupt=lambda e: with_series(e, "temperature", failed=first_gpu(e).series["temperature"].count),
        outcome=None,
    ),
    Fault(
        id="reasons-hidden",
        title="The card does not report why its clocks are reduced",
        must_trip="gpu.clock_reasons",
        corrupt=lambda e: with_series(e, "reasons", offered=False, count=0),
        outcome=None,
    ),
    Fault(
        id="hot-core",
        title="The core got hotter than its highest operating temperature",
        must_trip="gpu.temperature",
        corrupt=lambda e: with_series(e, "temperature", maximum=88.0),
    ),
    Fault(
        id="hot-memory",
        title="The memory got hotter than its limit",
        must_trip="gpu.temperature",
        corrupt=lambda e: with_series(e, "temperature_memory", maximum=96.0),
    ),
    Fault(
        id="power-limit-lowered",
        title="The power limit was left lowered",
        must_trip="gpu.power",
        corrupt=lambda e: with_property(e, power_limit=650.0),
    ),
    Fault(
        id="foreign-process",
        title="Another process used the GPU",
        must_trip="gpu.foreign_processes",
        corrupt=lambda e: with_gpu(e, processes=("Xorg",)),
    ),
    Fault(
        id="ecc-off",
        title="ECC is off",
        must_trip="gpu.ecc_mode",
        corrupt=lambda e: with_property(e, ecc_current=False, ecc_pending=False),
    ),
    Fault(
        id="ecc-pending",
        title="ECC will change at the next reset",
        must_trip="gpu.ecc_mode",
        corrupt=lambda e: with_property(e, ecc_pending=False),
    ),
    Fault(
        id="ecc-uncorrected",
        title="An uncorrected memory error under load",
        must_trip="gpu.ecc_errors",
        corrupt=lambda e: with_counter(e, "ecc_uncorrected", 1.0),
    ),
    Fault(
        id="ecc-flood",
        title="A flood of corrected memory errors under load",
        must_trip="gpu.ecc_errors",
        corrupt=lambda e: with_counter(e, "ecc_corrected", 50_000.0),
    ),
    Fault(
        id="sram-exceeded",
        title="The card's SRAM errors exceed the maker's threshold",
        must_trip="gpu.ecc_errors",
        corrupt=lambda e: with_property(e, sram_exceeded=True),
    ),
    Fault(
        id="ecc-unread",
        title="The ECC counters could not be read",
        must_trip="gpu.ecc_errors",
        corrupt=lambda e: with_series(e, "ecc_uncorrected", count=0, failed=60, minimum=None, maximum=None),
        outcome=None,
    ),
    Fault(
        id="remap-failed",
        title="A row could not be remapped",
        must_trip="gpu.retired_memory",
        corrupt=lambda e: _state(e, "remap_failed", 1.0),
    ),
    Fault(
        id="remap-pending",
        title="A row waits to be remapped",
        must_trip="gpu.retired_memory",
        corrupt=lambda e: _state(e, "remap_pending", 1.0),
    ),
    Fault(
        id="remapped-under-load",
        title="A row was remapped under load",
        must_trip="gpu.retired_memory",
        corrupt=lambda e: with_counter(e, "remap_uncorrected", 1.0),
    ),
    Fault(
        id="slow-under-load",
        title="The link stayed at generation 1 under load",
        must_trip="gpu.pcie_under_load",
        corrupt=lambda e: _state(e, "pcie_gen", 1.0),
    ),
    Fault(
        id="narrow-under-load",
        title="The link had half its lanes under load",
        must_trip="gpu.pcie_under_load",
        corrupt=lambda e: _state(e, "pcie_width", 8.0),
    ),
    Fault(
        id="replays",
        title="The link replayed more packets than a healthy link does",
        must_trip="gpu.pcie_under_load",
        corrupt=lambda e: with_counter(e, "pcie_replays", 5_000.0),
    ),
)
