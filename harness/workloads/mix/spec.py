"""What ``mix`` is, as data."""

from __future__ import annotations

from harness.workloads.spec import Row, Scalar, WorkloadSpec

_DEFAULTS: dict[str, Scalar] = {
    "loads": "hashing,transcode",
    "phases": "ramp,pulse,soak",
    "seconds": 60.0,
    "pulse_seconds": 5.0,
    "grace_seconds": 120.0,
    "steady": "stream",
}
"""``loads``, ``phases`` and ``steady`` are comma lists; ``seconds`` is shared by the phases."""

SPEC = WorkloadSpec(
    name="mix",
    title="all loads at once, ramped, pulsed and soaked",
    defaults=_DEFAULTS,
    row=Row(
        does="the others side by side: ramp, soak, pulse",
        proves="each run's answers as if it ran alone",
        engines="those of its loads",
        needs="what its loads need",
    ),
    keeps_gpus_busy=True,
)
