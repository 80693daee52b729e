"""``ocp.jsonl``: OCP Test & Validation 2.0 output, one JSON object a line, without NaN.

https://github.com/opencomputeproject/ocp-diag-core (json_spec). A check is a test step; each of its
subjects ends in a diagnosis (PASS, FAIL) or, when it errored or is missing, in an error and a diagnosis
UNKNOWN. The run ends COMPLETE with PASS or FAIL for GO and NO_GO; INCONCLUSIVE ends in ERROR with
NOT_APPLICABLE. What OCP has no field for (severity, waivers, subject kind) is in metadata and extensions.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import Any

from harness.model.outcome import CoverageCell, Measurement, Outcome, Verdict
from harness.model.record import RunRecord
from reports.parts import landing, neighbours, telemetry, view
from reports.parts.text import clean

Artifact = dict[str, Any]

_TYPES = {
    "PASS": "PASS",
    "FAIL": "FAIL",
    "WAIVED": "FAIL",
    "ERROR": "UNKNOWN",
    "MISSING": "UNKNOWN",
    "SKIP": "UNKNOWN",
}
_ENDS = {
    Verdict.GO: ("COMPLETE", "PASS"),
    Verdict.GO_WITH_WAIVERS: ("COMPLETE", "PASS"),
    Verdict.NO_GO: ("COMPLETE", "FAIL"),
    Verdict.INCONCLUSIVE: ("ERROR", "NOT_APPLICABLE"),
}


def render(record: RunRecord) -> str:
    """The run as OCP artifacts. Step times are not kept by the record: all carry the end of the run."""
    start = _timestamp(record.evidence.started_at)
    end = _timestamp(record.evidence.ended_at or record.evidence.started_at)
    artifacts: list[tuple[str, Artifact]] = [
        (start, {"schemaVersion": {"major": 2, "minor": 0}}),
        (start, {"testRunArtifact": {"testRunStart": _run_start(record)}}),
    ]
    known = frozenset(str(gpu.address) for gpu in view.gpus(record))
    for index, row in enumerate(view.ledger(record)):
        artifacts += [(end, {"testStepArtifact": step}) for step in _step(record, str(index), row, known)]
    loose = len(view.ledger(record))
    artifacts += [(end, {"testStepArtifact": step}) for step in _values(record, str(loose))]
    artifacts += [(end, {"testStepArtifact": step}) for step in _seen(record, str(loose + 1), known)]
    artifacts += [(end, {"testRunArtifact": {"error": error}}) for error in _errors(record)]
    status, result = _ENDS[record.decision.verdict]
    artifacts.append((end, {"testRunArtifact": {"testRunEnd": {"status": status, "result": result}}}))
    lines = [
        json.dumps({"sequenceNumber": number, "timestamp": at} | body, allow_nan=False, ensure_ascii=True)
        for number, (at, body) in enumerate(artifacts)
    ]
    return "\n".join(lines) + "\n"


def _run_start(record: RunRecord) -> Artifact:
    decision = record.decision
    return {
        "name": "shakedown qualify",
        "version": clean(record.shakedown_version, 100),
        "commandLine": clean(" ".join(record.command), 500),
        "parameters": {"host": clean(record.host.name, 100), "profile": clean(record.profile.name, 100)},
        "dutInfo": _dut(record),
        "metadata": {
            "run": clean(record.run, 200),
            "verdict": decision.verdict.value,
            "subjectKind": record.evidence.subject.value,
            "statement": ". ".join(view.statement(record)),
            "standins": [clean(sentence, 500) for sentence in telemetry.standins(record)],
            "expiresAt": clean(view.stands_until(record), 100),
            "reasons": [clean(reason, 500) for reason in decision.reasons[:500]],
            "waiversUsed": [clean(waiver, 200) for waiver in decision.waivers_used],
            "interrupted": record.evidence.interrupted,
        },
    }


def _dut(record: RunRecord) -> Artifact:
    facts = record.evidence.facts
    info: Artifact = {
        "dutInfoId": clean(record.host.name, 100),
        "name": clean((facts.hostname if facts else None) or record.host.name, 100),
        "platformInfos": [{"info": clean(f"{n}: {v}", 300)} for n, v in view.versions(record)],
        "softwareInfos": [
            {"softwareInfoId": f"software{i}", "name": clean(n, 100), "version": clean(v, 300)}
            for i, (n, v) in enumerate(view.versions(record))
        ],
        "hardwareInfos": [],
    }
    for gpu in view.gpus(record):
        hardware = {
            "hardwareInfoId": str(gpu.address),
            "name": clean(f"{gpu.id} at {gpu.address}", 200),
            "location": clean(gpu.slot_label or str(gpu.address), 200),
        }
        if gpu.serial:
            hardware["serialNumber"] = clean(gpu.serial, 200)
        info["hardwareInfos"].append(hardware)
    return info


def _step(record: RunRecord, step: str, row: view.LedgerRow, known: frozenset[str]) -> list[Artifact]:
    steps: list[Artifact] = [{"testStepStart": {"name": clean(f"{row.check}: {row.title}", 300)}}]
    for cell in row.cells:
        steps += _cell(record, cell, known)
    outcomes = {cell.outcome for cell in row.cells}
    if outcomes & {None, Outcome.ERROR}:
        status = "ERROR"
    else:
        status = "SKIP" if outcomes == {Outcome.SKIP} else "COMPLETE"
    steps.append({"testStepEnd": {"status": status}})
    return [{"testStepId": step} | body for body in steps]


def _cell(record: RunRecord, cell: CoverageCell, known: frozenset[str]) -> list[Artifact]:
    result = view.result_for(record, cell)
    word = view.word(cell)
    message = clean((result.message if result else cell.reason) or "", 1000)
    diagnosis: Artifact = {
        "verdict": clean(f"{cell.check}-{word}".lower(), 200),
        "type": _TYPES[word],
        "message": message,
        "subcomponent": {"name": clean(cell.subject, 200)},
    }
    if cell.subject in known:
        diagnosis["hardwareInfoId"] = cell.subject
    extension = {
        "subject": clean(cell.subject, 200),
        "severity": cell.severity.value,
        "outcome": word,
        "waivedBy": clean(cell.waived_by, 200),
        "remedy": clean(result.remedy, 1000) if result else "",
        "action": result.action.value if result else "RETEST",
    }
    body: list[Artifact] = []
    if word in ("ERROR", "MISSING"):
        body.append(
            {
                "error": {
                    "symptom": f"check-{word.lower()}",
                    "message": f"{clean(cell.subject, 200)}: {message}",
                }
            }
        )
    return [
        *body,
        {"diagnosis": diagnosis},
        {"extension": {"name": "shakedown-coverage", "content": extension}},
    ]


def _values(record: RunRecord, step: str) -> list[Artifact]:
    """Measurements, and where each guest landed, as one last step."""
    body: list[Artifact] = [{"testStepStart": {"name": "measurements"}}]
    values = (*view.measurements(record), *neighbours.measurements(record))
    body += [{"measurement": _measurement(m)} for m in values if _finite(m.value)]
    for guest in record.evidence.guests:
        content = {"guest": clean(guest.name, 200), "rows": [_landing(row) for row in landing.rows(guest)]}
        body.append({"extension": {"name": "shakedown-placement", "content": content}})
    body.append({"testStepEnd": {"status": "COMPLETE" if len(body) > 1 else "SKIP"}})
    return [{"testStepId": step} | each for each in body]


_SEEN = ("power", "temperature", "temperature_memory", "clock_sm", "util_gpu")


def _seen(record: RunRecord, step: str, known: frozenset[str]) -> list[Artifact]:
    """What was seen of each GPU under load, as a step. Not as a series: the record holds no single sample."""
    body: list[Artifact] = [{"testStepStart": {"name": "telemetry"}}]
    for seen in telemetry.guests(record):
        for gpu in seen.gpus:
            card = str(gpu.host_address or "")
            about: Artifact = {
                "subcomponent": {"name": clean(f"{seen.guest}/{card or gpu.uuid}", 200)},
                "metadata": {"standin": clean(seen.standin, 100), "uuid": clean(gpu.uuid, 100)},
            } | ({"hardwareInfoId": card} if card in known else {})
            for series in (gpu.series[name] for name in _SEEN if name in gpu.series):
                stats = (("min", series.minimum), ("mean", series.mean), ("max", series.maximum))
                body += [
                    {
                        "measurement": {
                            "name": clean(f"{series.name}.{word}", 200),
                            "value": value,
                            "unit": series.unit,
                        }
                        | about
                    }
                    for word, value in stats
                    if _finite(value)
                ]
            for gap in gpu.gaps:
                lost = {"start": gap.start, "end": gap.end, "reason": clean(gap.reason, 300), "gpu": card}
                body.append({"extension": {"name": "shakedown-telemetry-gap", "content": lost}})
    body.append({"testStepEnd": {"status": "COMPLETE" if len(body) > 1 else "SKIP"}})
    return [{"testStepId": step} | each for each in body]


def _landing(row: landing.Row) -> Artifact:
    return {
        "what": clean(row.what, 200),
        "planned": clean(row.planned, 500),
        "observed": clean(row.observed, 500),
        "same": row.same,
    }


def _measurement(m: Measurement) -> Artifact:
    validators = [
        {"name": name, "type": kind, "value": limit}
        for name, kind, limit in (
            ("lower", "GREATER_THAN_OR_EQUAL", m.lower),
            ("upper", "LESS_THAN_OR_EQUAL", m.upper),
        )
        if limit is not None and math.isfinite(limit)
    ]
    value: Artifact = {
        "name": clean(m.name, 200),
        "value": m.value,
        "unit": clean(m.unit, 50),
        "subcomponent": {"name": clean(m.subject or "host", 200)},
    }
    return value | ({"validators": validators} if validators else {})


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _errors(record: RunRecord) -> list[Artifact]:
    return [
        {
            "symptom": clean(f"stage-{error.stage}-{error.kind}".lower(), 200),
            "message": clean(f"{error.message} {error.remedy}".strip(), 1000),
        }
        for error in record.evidence.errors
    ]


def _timestamp(moment: str) -> str:
    """RFC 3339 in UTC; the epoch for a moment that cannot be read, which a reader will notice."""
    try:
        parsed = dt.datetime.fromisoformat(moment)
    except ValueError:
        parsed = dt.datetime.fromtimestamp(0, dt.UTC)
    zoned = parsed if parsed.tzinfo else parsed.replace(tzinfo=dt.UTC)
    return zoned.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
