"""Views of a RunRecord that several formats show: findings, ledger, measurements, devices."""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.model.gpu import GpuRef
from harness.model.outcome import (
    Action,
    CheckResult,
    CoverageCell,
    EvidenceRef,
    Measurement,
    Outcome,
    Severity,
    SubjectKind,
    Verdict,
)
from harness.model.pci import PciAddress
from harness.model.record import RunRecord
from harness.model.topology import GPU_CLASSES, PciDevice
from harness.verdict.causes import Cause, causes, own_reasons
from harness.verdict.disturbance import PREFIX
from reports.parts.text import duration

STATEMENTS = {
    SubjectKind.LAB: (
        "This is a LAB run",
        "The host is emulated and its accelerators are stand-ins: no GPU was tested. "
        "The verdict says nothing about any hardware.",
    ),
    SubjectKind.STANDIN: (
        "This is a STAND-IN run",
        "Stand-ins took the place of the GPUs: no GPU was tested. The verdict says nothing about any GPU.",
    ),
    SubjectKind.HARDWARE: (
        "Hardware run",
        "The verdict holds for this host with the cards, firmware, kernel and QEMU listed below, "
        "until it expires.",
    ),
}
"""What a verdict may be said of, in plain words: a title and a sentence."""
_UNPROVEN = "This verdict says nothing about the host, so it does not expire."

MEANINGS = {
    "GO": "Every required check ran and passed.",
    "GO_WITH_WAIVERS": "Every required check ran; those that failed are waived.",
    "NO_GO": "At least one required check failed and is not waived.",
    "INCONCLUSIVE": "Required evidence is missing. The host is not proven good or bad.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A planned check that did not simply pass, with what to do about it."""

    check: str
    title: str
    why: str
    subjects: tuple[str, ...]
    """Everything of which the same was found."""
    severity: Severity
    word: str
    """FAIL, ERROR, SKIP, MISSING, WAIVED or ADVISORY."""
    message: str
    remedy: str
    action: Action
    evidence: tuple[EvidenceRef, ...]
    waived_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """One check of the coverage ledger and its cells."""

    check: str
    title: str
    why: str
    severity: Severity
    cells: tuple[CoverageCell, ...]


def statement(record: RunRecord) -> tuple[str, str]:
    """What this verdict may be said of: a title and a sentence."""
    title, sentence = STATEMENTS[record.evidence.subject]
    hardware = record.evidence.subject is SubjectKind.HARDWARE
    return title, sentence if stands_until(record) or not hardware else _UNPROVEN


def stands_until(record: RunRecord) -> str:
    """When the verdict expires (UTC, ISO 8601); empty for INCONCLUSIVE, which decides nothing."""
    return "" if record.decision.verdict is Verdict.INCONCLUSIVE else record.expires_at


_RANK = {"FAIL": 0, "ERROR": 1, "MISSING": 2, "SKIP": 3, "WAIVED": 4, "ADVISORY": 5}
_SERIOUS = {Outcome.FAIL: 0, Outcome.ERROR: 1, Outcome.SKIP: 2, Outcome.PASS: 3}


def titles(record: RunRecord) -> dict[str, tuple[str, str]]:
    """Check id to what it asks and why it matters."""
    return {title.check: (title.title, title.why) for title in record.titles}


def word(cell: CoverageCell) -> str:
    """The cell in one word: PASS, FAIL, ERROR, SKIP, MISSING, or WAIVED for a carried FAIL."""
    if cell.outcome is None:
        return "MISSING"
    return "WAIVED" if cell.waived_by else cell.outcome.value


def result_for(record: RunRecord, cell: CoverageCell) -> CheckResult | None:
    """The result behind a cell, the most serious if there are several; None when it is missing."""
    mine = [r for r in record.results if (r.check, r.subject) == (cell.check, cell.subject)]
    return min(mine, key=lambda r: _SERIOUS[r.outcome], default=None) if cell.outcome else None


def broken(record: RunRecord) -> tuple[Cause, ...]:
    """What broke, each once, with the cells that have no answer because of it."""
    return causes(record.evidence, record.decision.coverage)


def reasons(record: RunRecord) -> tuple[str, ...]:
    """Why the verdict is what it is, each thing once: what broke, with its count, before all else."""
    found = broken(record)
    causes_ = tuple(f"{cause.reason}{f' ({cause.count})' if cause.cells else ''}" for cause in found)
    return (*causes_, *own_reasons(record.decision, found))


def findings(record: RunRecord) -> tuple[Finding, ...]:
    """All cells that did not pass and that nothing ``broken`` explains: what decides first, what is only
    advisory last."""
    named = titles(record)
    explained = {(cell.check, cell.subject) for cause in broken(record) for cell in cause.cells}
    cards = {str(card.host): card for card in record.evidence.cards}
    found: list[Finding] = []
    for cell in record.decision.coverage:
        if cell.outcome is Outcome.PASS or (cell.check, cell.subject) in explained:
            continue
        result = result_for(record, cell)
        title, why = named.get(cell.check, (cell.check, ""))
        advisory = cell.severity is Severity.ADVISORY
        found.append(
            Finding(
                check=cell.check,
                title=title,
                why=why,
                subjects=(_with_card(cell.subject, cards),),
                severity=cell.severity,
                word="ADVISORY" if advisory else word(cell),
                message=(result.message if result else cell.reason) or "no reason was recorded",
                remedy=result.remedy if result else _to_answer(cell.reason),
                action=result.action if result else Action.RETEST,
                evidence=result.evidence if result else (),
                waived_by=cell.waived_by,
            )
        )
    return tuple(sorted(_merged(found), key=lambda f: _RANK[f.word]))


def _with_card(subject: str, cards: dict[str, GpuRef]) -> str:
    """The subject; of a GPU with what is needed to pull it: ``0000:41:00.0 (slot 3, serial 1650)``."""
    card = cards.get(subject.rpartition("/")[2])
    return f"{subject} ({card.known})" if card is not None and card.known else subject


def _to_answer(reason: str) -> str:
    """What gets a check its answer that has none, by the reason that the ledger gives."""
    if reason.startswith("deselected"):
        return "run again without leaving it out (-k, -m, --deselect, --lf)"
    if reason.startswith("no test was collected"):
        return "run again with the shipped suites whole"
    if reason.startswith("the session ended"):
        return "run again, to the end of the session"
    return "provide what is named as missing, then run again"


def shown(record: RunRecord) -> tuple[str, ...]:
    """What a run has shown, in a few sentences: what a GO opens with."""
    evidence, coverage = record.evidence, record.decision.coverage
    passed = [cell for cell in coverage if cell.outcome is Outcome.PASS]
    required = [cell for cell in coverage if cell.severity is Severity.BLOCKER]
    kept = sum(cell.severity is Severity.BLOCKER for cell in passed)
    waived = sum(bool(cell.waived_by) for cell in required)
    carried = f", {waived} failed and are waived" if waived else ""
    lines = [f"{kept} of {len(required)} required checks passed{carried}"]
    cards = gpus(record)
    if cards:
        lines.append(f"{many(len(cards), 'GPU')}: {', '.join(str(card.address) for card in cards)}")
    for guest in evidence.guests:
        done = [result for result in guest.results if result.answers]
        if not done:
            continue
        right = sum(answer.ok for result in done for answer in result.answers)
        answers = sum(len(result.answers) for result in done)
        # A mix names the engine of each of its loads, which stand here by themselves.
        loads = ", ".join(
            dict.fromkeys(
                result.workload if "+" in result.engine else f"{result.workload} by {result.engine}"
                for result in done
            )
        )
        where = "bare metal" if guest.cards.same else f"guest {guest.name}"
        lines.append(f"{where}: {right} of {answers} known answers correct ({loads})")
    seconds = sum(result.seconds or 0.0 for guest in evidence.guests for result in guest.results)
    watched = sum(guest.telemetry is not None for guest in evidence.guests)
    if seconds:
        beside = (
            f"watched in {watched} of {many(len(evidence.guests), 'guest')}" if watched else "not watched"
        )
        lines.append(f"{duration(seconds)} of load in all, {beside}")
    return tuple(lines)


def many(number: int, what: str) -> str:
    """``1 GPU``, ``8 GPUs``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _merged(found: list[Finding]) -> list[Finding]:
    """Findings that say the same of several subjects, said once."""
    merged: dict[Finding, Finding] = {}
    for finding in found:
        key = replace(finding, subjects=())
        known = merged.get(key)
        subjects = (*known.subjects, *finding.subjects) if known else finding.subjects
        merged[key] = replace(finding, subjects=subjects)
    return list(merged.values())


def ledger(record: RunRecord) -> tuple[LedgerRow, ...]:
    """The coverage, one row a check, in the order in which it was planned."""
    named = titles(record)
    rows: dict[str, list[CoverageCell]] = {}
    for cell in record.decision.coverage:
        rows.setdefault(cell.check, []).append(cell)
    return tuple(
        LedgerRow(
            check=check,
            title=named.get(check, (check, ""))[0],
            why=named.get(check, ("", ""))[1],
            severity=cells[0].severity,
            cells=tuple(cells),
        )
        for check, cells in rows.items()
    )


def stray_results(record: RunRecord) -> tuple[CheckResult, ...]:
    """Results of checks that were not planned: shown, never counted."""
    planned = {(cell.check, cell.subject) for cell in record.decision.coverage}
    return tuple(r for r in record.results if (r.check, r.subject) not in planned)


def measurements(record: RunRecord) -> tuple[Measurement, ...]:
    """Every measured value once: those of check results (with their limits) before those of workloads.

    Ratios of guests beside others are not among them: ``reports.parts.neighbours`` has them all.
    """
    seen: dict[tuple[str, str], Measurement] = {}
    for result in record.results:
        for value in result.measurements:
            if not value.name.startswith(PREFIX):
                seen.setdefault((value.name, value.subject or result.subject), value)
    for guest in record.evidence.guests:
        for done in guest.results:
            for value in done.measurements:
                seen.setdefault((value.name, value.subject or f"{guest.name}/{done.workload}"), value)
    return tuple(_named(value, subject) for (_, subject), value in seen.items())


def _named(value: Measurement, subject: str) -> Measurement:
    return Measurement(
        name=value.name,
        value=value.value,
        unit=value.unit,
        lower=value.lower,
        upper=value.upper,
        subject=subject,
    )


def gpus(record: RunRecord) -> tuple[PciDevice, ...]:
    """The host's GPUs as far as facts and plans name them: by class, by the host file, or handed out."""
    facts = record.evidence.facts
    if facts is None:
        return ()
    selector = record.host.placement.selector
    planned = {gpu.host for guest in record.evidence.guests if guest.plan for gpu in guest.plan.gpus}

    def chosen(device: PciDevice) -> bool:
        if device.address in planned or device.address in selector.addresses:
            return True
        if device.address in selector.exclude:
            return False
        return device.id in selector.ids or (
            device.class_code[:4] in GPU_CLASSES and device.boot_vga is not True
        )

    return tuple(d for d in facts.pci_devices if chosen(d))


def companions(record: RunRecord, gpu: PciAddress) -> tuple[PciAddress, ...]:
    """Functions that travel with a GPU, by any plan that names it."""
    found = [
        planned.companions
        for guest in record.evidence.guests
        if guest.plan
        for planned in guest.plan.gpus
        if planned.host == gpu
    ]
    return found[0] if found else ()


def total_seconds(record: RunRecord) -> float:
    """Seconds of all stages together."""
    return sum(record.evidence.seconds.values())


def versions(record: RunRecord) -> tuple[tuple[str, str], ...]:
    """What the verdict holds for, as name and value; unknown is said, not left out."""
    rows = [("Shakedown", record.shakedown_version)]
    facts = record.evidence.facts
    if facts is not None:
        found = facts.versions
        rows += [
            ("host product", facts.product or "unknown"),
            ("host serial", facts.serial or "unknown"),
            ("CPU", facts.cpu_model or "unknown"),
            ("microcode", found.microcode or "unknown"),
            ("firmware", found.bios or "unknown"),
            ("BMC", found.bmc or "unknown"),
            ("operating system", found.os or "unknown"),
            ("kernel", found.kernel or "unknown"),
            ("QEMU", found.qemu or "unknown"),
            ("libvirt", found.libvirt or "unknown"),
        ]
    rows += [(f"controller: {name}", value) for name, value in sorted(record.versions.items())]
    return tuple(rows)


def attempts(record: RunRecord) -> tuple[str, ...]:
    """Each attempt of a resumed run, and how it ended; nothing for a run that went through in one."""
    versions = {each.shakedown_version for each in record.evidence.attempts}
    return tuple(
        f"attempt {each.number}: {each.started_at} to {each.ended_at} ({duration(each.seconds)}), "
        f"{each.ended}{f', by Shakedown {each.shakedown_version}' if len(versions) > 1 else ''}"
        for each in record.evidence.attempts
    )


def notes(record: RunRecord) -> tuple[str, ...]:
    """What people told the run and is no intervention: who, when and what."""
    return tuple(f"{note.by} at {note.at}: {note.text}" for note in record.evidence.notes)
