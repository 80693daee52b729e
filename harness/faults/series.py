"""Sensors that cannot be believed, settings that change, loads that a card does not feel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.faults.base import Fault
from harness.faults.telemetry import first_gpu, watched, with_gpu, with_series
from harness.model.evidence import Evidence
from harness.model.outcome import Outcome
from harness.model.telemetry import Change, Doubt, Stretch


def _doubt(evidence: Evidence, name: str, rule: str, said: str) -> Evidence:
    """A sensor that cannot be believed."""
    load = watched(evidence).loads[0]
    doubt = Doubt(rule=rule, start=load.start + 5.0, end=load.end, said=said)
    return with_series(evidence, name, doubts=(doubt,))


def _change(evidence: Evidence, name: str, before: float | str, after: float | str) -> Evidence:
    """A setting or identity that changed ten seconds into the first load."""
    at = watched(evidence).loads[0].start + 10.0
    return with_gpu(evidence, changes=(Change(name=name, at=at, before=before, after=after),))


def _held(evidence: Evidence, name: str, value: float) -> Evidence:
    """A link that was good at first and then fell."""
    load = watched(evidence).loads[0]
    series = first_gpu(evidence).series[name]
    fallen = Stretch(value=value, start=load.start + 20.0, end=load.end)
    levels = series.levels | {f"{value:g}": fallen.seconds}
    return with_series(evidence, name, minimum=value, levels=levels, held=(*series.held, fallen))


def _parts(evidence: Evidence, **changes: Any) -> Evidence:
    """The second half of the first GPU's loads went otherwise."""
    parts = first_gpu(evidence).slices
    half = len(parts) // 2
    return with_gpu(evidence, slices=(*parts[:half], *(replace(part, **changes) for part in parts[half:])))


FAULTS = (
    Fault(
        id="frozen-sensors",
        title="Power does not change under load",
        must_trip="telemetry.alive",
        corrupt=lambda e: _doubt(e, "power", "frozen", "power stood at 640 W for 55.0 s under load"),
        outcome=Outcome.ERROR,
        also=("gpu.work",),
    ),
    Fault(
        id="cold-thermometer",
        title="The temperature sensor reads 0 degrees",
        must_trip="telemetry.alive",
        corrupt=lambda e: _doubt(e, "temperature", "impossible", "temperature read 0 degC"),
        outcome=Outcome.ERROR,
        also=("gpu.temperature",),
    ),
    Fault(
        id="energy-fell",
        title="The energy counter fell",
        must_trip="telemetry.alive",
        corrupt=lambda e: _doubt(e, "energy", "fell", "energy fell from 5000 to 12 at 61.0 s"),
        outcome=Outcome.ERROR,
    ),
    Fault(
        id="errors-forgotten",
        title="The counter of uncorrected errors was reset under load",
        must_trip="gpu.ecc_errors",
        corrupt=lambda e: _doubt(e, "ecc_uncorrected", "fell", "ecc_uncorrected fell from 3 to 0 at 61.0 s"),
        outcome=None,
        also=("telemetry.alive",),
    ),
    Fault(
        id="power-limit-changed",
        title="The power limit was lowered in mid-run",
        must_trip="gpu.settings",
        corrupt=lambda e: _change(e, "power_limit", 700.0, 400.0),
        also=("gpu.power",),
    ),
    Fault(
        id="card-swapped",
        title="Another card answers under the same address",
        must_trip="gpu.settings",
        corrupt=lambda e: _change(e, "uuid", "GPU-1", "GPU-2"),
    ),
    Fault(
        id="settings-unasked",
        title="Limits and identity were read only once",
        must_trip="gpu.settings",
        corrupt=lambda e: with_gpu(e, settings_asked=None),
        outcome=None,
    ),
    Fault(
        id="idle-under-load",
        title="The GPU was idle while its load ran",
        must_trip="gpu.work",
        corrupt=lambda e: _parts(
            e, util_gpu=0.0, util_gpu_max=0.0, power=91.0, power_max=92.0, busy=0.0, clock_busy=None, free=0.0
        ),
    ),
    Fault(
        id="clock-drifts",
        title="The clock fell, and no throttle reason was reported",
        must_trip="gpu.work",
        corrupt=lambda e: _parts(e, free=0.98, clock_free=792.0, capped=0.0, power_capped=None),
    ),
    Fault(
        id="capped-low",
        title="The power cap binds at half of the limit",
        must_trip="gpu.work",
        corrupt=lambda e: _parts(e, power=350.0, power_capped=350.0),
    ),
    Fault(
        id="clocks-set",
        title="Application clocks were left set",
        must_trip="gpu.work",
        corrupt=lambda e: with_gpu(
            e,
            slices=tuple(
                replace(p, set_share=0.98, clock_busy=1200.0, capped=0.0) for p in first_gpu(e).slices
            ),
        ),
    ),
    Fault(
        id="parts-unrecorded",
        title="The loads were not recorded in parts",
        must_trip="gpu.work",
        corrupt=lambda e: with_gpu(e, slices=()),
        outcome=None,
    ),
    Fault(
        id="link-fell",
        title="The link fell to generation 1 when the card was hot",
        must_trip="gpu.pcie_under_load",
        corrupt=lambda e: _held(e, "pcie_gen", 1.0),
    ),
)
