"""``shakedown compare RUN BARE``: what recorded guests lose against a recorded bare run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.model.evidence import GuestEvidence, Reference
from harness.model.outcome import Verdict
from harness.model.record import RunRecord
from harness.record.directory import RunDirectory
from harness.record.judge import rejudge
from harness.record.reference import read_reference
from harness.serial import to_data
from harness.shown import say, say_json
from harness.verdict.ratio import Finding
from harness.verdict.virtualization import Cost, costs, unfit


def run(*, run_dir: Path, bare: Path, json_output: bool) -> int:
    """Print every figure of every guest beside the bare machine's.

    Exit status: 1 when one is clearly below its floor, 3 when none is and not all are clearly
    above (too few rounds, evidence that cannot be trusted, nothing to compare), else 0. Raises ConfigError or
    RecordError for directories that are no such runs.
    """
    reference = read_reference(bare)
    judgement = rejudge(RunDirectory.open(run_dir))
    record = judgement.record
    facts = record.evidence.facts
    why = unfit(reference, record.evidence.subject, None if facts is None else facts.machine_id)
    problems = [*([why] if why else []), *judgement.problems]
    rows = [
        (guest.name, workload, cost)
        for guest in record.evidence.guests
        for workload in dict.fromkeys(guest.workloads)
        for cost in _costs(record, guest, workload, reference)
    ]
    status = _status([cost for _guest, _workload, cost in rows], problems)
    if json_output:
        data = {
            "run": record.run,
            "bare": reference.run,
            "standin": reference.standin,
            "problems": problems,
            "costs": [{"guest": g, "workload": w, **_data(c)} for g, w, c in rows],
            "exit": status,
        }
        say_json(data)
    else:
        say(*_lines(record, reference, rows, problems))
    return status


def _costs(record: RunRecord, guest: GuestEvidence, workload: str, reference: Reference) -> tuple[Cost, ...]:
    return costs(
        guest,
        workload,
        reference,
        record.profile.virtualization,
        parameters=record.profile.workload_parameters.get(workload, {}),
    )


def _data(cost: Cost) -> dict[str, Any]:
    """``here`` for the guest's median, since ``guest`` is its name."""
    data = to_data(cost)
    return {"here": data.pop("guest"), **data}


def _status(found: list[Cost], problems: list[str]) -> int:
    findings = {cost.finding for cost in found}
    if problems:
        return Verdict.INCONCLUSIVE.exit_status
    if Finding.LOSES in findings:
        return Verdict.NO_GO.exit_status
    if Finding.KEEPS not in findings or any(cost.open for cost in found):
        return Verdict.INCONCLUSIVE.exit_status
    return Verdict.GO.exit_status


def _lines(
    record: RunRecord, reference: Reference, rows: list[tuple[str, str, Cost]], problems: list[str]
) -> list[str]:
    label = "  STAND-IN: says nothing about hardware" if reference.standin else ""
    lines = [f"guests of {record.run} against bare-metal run {reference.run}{label}"]
    lines += [f"problem: {problem}" for problem in problems]
    for guest, _workload, cost in rows:
        where = f" {cost.device}" if cost.device is not None else ""
        if cost.ratio is None:
            detail = cost.detail or f"{cost.runs[0]} here, {cost.runs[1]} bare"
            lines.append(f"{guest}  {cost.name}{where}: {cost.finding.value} ({detail})")
        else:
            lines.append(
                f"{guest}  {cost.name}{where}: {cost.guest:.4g} against {cost.bare:.4g} {cost.unit}, "
                f"ratio {cost.ratio:.3f} ({cost.low:.3f} to {cost.high:.3f}, at least {cost.floor:g}): "
                f"{cost.finding.value}"
            )
    return lines if rows else [*lines, "no comparable measurement"]
