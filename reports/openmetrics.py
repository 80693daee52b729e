"""``metrics.prom``: the run as OpenMetrics 1.0 text, for a node exporter's textfile directory.

https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md, as the client library of
Prometheus writes it; values are gauges.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator

from harness.model.outcome import Verdict
from harness.model.record import RunRecord
from harness.verdict.tally import tally
from reports.parts import dcgm, neighbours, view
from reports.parts.text import clean

Sample = tuple[dict[str, str], float]


def render(record: RunRecord) -> str:
    """The metrics, each with type and help."""
    base = {
        "host": record.host.name,
        "profile": record.profile.name,
        "subject_kind": record.evidence.subject.value,
    }
    # The library takes a while to import, and only this format needs it.
    from prometheus_client.core import CollectorRegistry, Metric  # noqa: PLC0415
    from prometheus_client.openmetrics.exposition import generate_latest  # noqa: PLC0415

    class Run:
        """What the library collects from."""

        def collect(self) -> Iterator[Metric]:
            for name, unit, words, samples in (*_families(record), *dcgm.families(record)):
                metric = Metric(name, words, "gauge", unit)
                for labels, value in samples:
                    shown = {key: clean(text, 200) for key, text in (base | labels).items()}
                    metric.add_sample(name, shown, value)
                if samples:
                    yield metric

    registry = CollectorRegistry()
    registry.register(Run())
    return bytes(generate_latest(registry)).decode("utf-8")  # type: ignore[no-untyped-call]


def _families(record: RunRecord) -> list[tuple[str, str, str, list[Sample]]]:
    evidence, decision = record.evidence, record.decision
    checks: list[Sample] = [
        (
            {
                "check": c.check,
                "check_subject": c.subject,
                "severity": c.severity.value,
                "outcome": view.word(c).lower(),
            },
            1.0,
        )
        for c in decision.coverage
    ]
    measured = [
        (m, m.value)
        for m in (*view.measurements(record), *neighbours.measurements(record))
        if m.value is not None and math.isfinite(m.value)
    ]
    limits: list[Sample] = [
        ({"measurement": m.name, "check_subject": m.subject, "unit": m.unit, "bound": bound}, limit)
        for m, _ in measured
        for bound, limit in (("lower", m.lower), ("upper", m.upper))
        if limit is not None
    ]
    return [
        (
            "shakedown_verdict",
            "",
            "1 for the verdict of the run, 0 for the others.",
            [({"verdict": v.value}, float(v is decision.verdict)) for v in Verdict],
        ),
        ("shakedown_run_end_timestamp_seconds", "seconds", "When the run ended.", _when(evidence.ended_at)),
        (
            "shakedown_expiry_timestamp_seconds",
            "seconds",
            "Until when the verdict is valid.",
            _when(view.stands_until(record)),
        ),
        (
            "shakedown_checks",
            "",
            "Planned checks by outcome.",
            [({"outcome": key}, float(count)) for key, count in tally(decision.coverage).items()],
        ),
        ("shakedown_check_outcome", "", "1 for each planned check and subject, with its outcome.", checks),
        (
            "shakedown_waivers_used",
            "",
            "Waivers that cover a failure.",
            [({}, float(len(decision.waivers_used)))],
        ),
        (
            "shakedown_interventions",
            "",
            "Manual interventions during the run.",
            [({}, float(len(evidence.interventions)))],
        ),
        (
            "shakedown_stage_seconds",
            "seconds",
            "Time of each stage.",
            [({"stage": stage}, seconds) for stage, seconds in evidence.seconds.items()],
        ),
        (
            "shakedown_guest_boot_seconds",
            "seconds",
            "Start of a guest to its first answer.",
            [({"guest": g.name}, g.boot_seconds) for g in evidence.guests if g.boot_seconds is not None],
        ),
        (
            "shakedown_measurement",
            "",
            "Measured values, each in its own unit.",
            [
                ({"measurement": m.name, "check_subject": m.subject, "unit": m.unit}, value)
                for m, value in measured
            ],
        ),
        ("shakedown_measurement_limit", "", "Limits of measurements.", limits),
    ]


def _when(moment: str | None) -> list[Sample]:
    try:
        return [({}, dt.datetime.fromisoformat(moment or "").timestamp())]
    except (ValueError, OverflowError):
        return []
