"""GPUs that are not what their model is: unknown, short of memory, slow; and rules that meet no number."""

from __future__ import annotations

import math
from dataclasses import replace

from harness.errors import ConfigError
from harness.faults.base import Fault, guest, results, with_guest
from harness.model.evidence import Evidence
from harness.model.outcome import Measurement, Outcome


def _twice(evidence: Evidence) -> Evidence:
    """The same ids in two descriptions."""
    return replace(evidence, skus=(*evidence.skus, *(replace(s, name=f"{s.name}-2") for s in evidence.skus)))


def _memory(evidence: Evidence, value: int | None) -> Evidence:
    telemetry = guest(evidence).telemetry
    if telemetry is None or not telemetry.gpus:
        raise ConfigError(f"guest {guest(evidence).name} has no telemetry of a GPU")
    first, *rest = telemetry.gpus
    cards = (replace(first, memory_bytes=value), *rest)
    return with_guest(evidence, telemetry=replace(telemetry, gpus=cards))


def _floored(evidence: Evidence) -> str:
    """A measurement of the first guest that its GPU's model has a floor for."""
    floors = {name for sku in evidence.skus for name in sku.floors}
    for result in results(evidence):
        for measurement in result.measurements:
            if measurement.name in floors and measurement.subject:
                return measurement.name
    raise ConfigError("no workload of the first guest measured anything that a GPU model has a threshold for")


def _measured(evidence: Evidence, **changes: object) -> Evidence:
    """The floored measurement of the first guest's GPUs, changed."""
    name = _floored(evidence)

    def change(one: Measurement) -> Measurement:
        return replace(one, **changes) if one.name == name else one  # type: ignore[arg-type]

    changed = tuple(replace(r, measurements=tuple(map(change, r.measurements))) for r in results(evidence))
    return with_guest(evidence, results=changed)


FAULTS = (
    Fault(
        id="model-unknown",
        title="A GPU model that is not in the inventory",
        must_trip="gpu.model_known",
        corrupt=lambda e: replace(e, skus=()),
        outcome=Outcome.ERROR,
        also=("gpu.memory_size", "workload.expected"),
    ),
    Fault(
        id="model-ambiguous",
        title="Two GPU models match the same GPU",
        must_trip="gpu.model_known",
        corrupt=_twice,
        outcome=Outcome.ERROR,
        also=("gpu.memory_size", "workload.expected"),
    ),
    Fault(
        id="memory-short",
        title="A GPU with half of its model's memory",
        must_trip="gpu.memory_size",
        corrupt=lambda e: _memory(e, 70 << 30),
    ),
    Fault(
        id="memory-of-another-model",
        title="A GPU with more memory than its model has",
        must_trip="gpu.memory_size",
        corrupt=lambda e: _memory(e, 180 << 30),
    ),
    Fault(
        id="memory-unsaid",
        title="The driver does not say how much memory the GPU has",
        must_trip="gpu.memory_size",
        corrupt=lambda e: _memory(e, None),
        outcome=None,
    ),
    Fault(
        id="below-the-model",
        title="A GPU at half the rate of its model",
        must_trip="workload.expected",
        corrupt=lambda e: _measured(e, value=0.45 * 20.0),
    ),
    Fault(
        id="beyond-the-model",
        title="A GPU twice as fast as its model can be",
        must_trip="workload.expected",
        corrupt=lambda e: _measured(e, value=2.0 * 20.0),
        outcome=Outcome.ERROR,
    ),
    Fault(
        id="floor-met-nothing",
        title="A threshold of the GPU model matches no measurement",
        must_trip="workload.expected",
        corrupt=lambda e: _measured(e, name="renamed.rate"),
        outcome=Outcome.ERROR,
    ),
    Fault(
        id="rate-of-another-card",
        title="The rates are from a GPU that the guest does not have",
        must_trip="workload.expected",
        corrupt=lambda e: _measured(e, subject="0000:ff:00.0"),
        outcome=Outcome.ERROR,
    ),
    Fault(
        id="unit-confused",
        title="A rate has another unit than its threshold",
        must_trip="workload.expected",
        corrupt=lambda e: _measured(e, unit="MH/s"),
        outcome=Outcome.ERROR,
    ),
    Fault(
        id="rate-not-a-number",
        title="A rate that has a threshold is not a number",
        must_trip="workload.expected",
        corrupt=lambda e: _measured(e, value=math.nan),
        outcome=None,
    ),
)
