"""``report.md``: the verdict and what to do, for a ticket or a chat."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from harness.model.outcome import Verdict
from harness.model.record import RunRecord
from harness.verdict.tally import tally
from reports.parts import landing, neighbours, telemetry, view
from reports.parts.text import duration, markdown, number


def render(record: RunRecord) -> str:
    """The report as GitHub-flavoured Markdown."""
    parts = (
        _head(record),
        _shown(record),
        _broken(record),
        _findings(record),
        _waivers(record),
        _coverage(record),
        _measurements(record),
        _neighbours(record),
        _telemetry(record),
        _guests(record),
        _timings(record),
        _basis(record),
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(record: RunRecord) -> str:
    evidence, verdict = record.evidence, record.decision.verdict.value
    title, sentence = view.statement(record)
    until = view.stands_until(record)
    counts = ", ".join(f"{count} {key}" for key, count in tally(record.decision.coverage).items())
    return "\n".join(
        (
            f"# {verdict.replace('_', ' ')}: {markdown(record.host.name)}",
            "",
            view.MEANINGS[verdict],
            "",
            f"> **{title}.** {sentence}",
            *(f">\n> **STAND-IN telemetry.** {markdown(said)}" for said in telemetry.standins(record)),
            "",
            f"- profile {markdown(record.profile.name)}, run {_code(record.run)}",
            f"- began {markdown(evidence.started_at)}",
            f"- ended {markdown(evidence.ended_at or 'never: interrupted')}",
            *(f"- {markdown(said)}" for said in view.attempts(record)),
            f"- checks: {counts}",
            *((f"- the verdict is valid until {markdown(until)}",) if until else ()),
            f"- manual interventions: {_joined(evidence.interventions) or 'none'}",
            *(f"- note: {markdown(said)}" for said in view.notes(record)),
        )
    )


def _code(text: str) -> str:
    """A name as code; whatever else it may hold, as text."""
    return f"`{text}`" if re.fullmatch(r"[A-Za-z0-9._-]+", text) else markdown(text)


def _shown(record: RunRecord) -> str:
    if record.decision.verdict not in (Verdict.GO, Verdict.GO_WITH_WAIVERS):
        return ""
    return _section("What was shown", [f"- {markdown(line)}" for line in view.shown(record)])


def _broken(record: RunRecord) -> str:
    lines = []
    for cause in view.broken(record):
        lines.append(f"- **FAILED STAGE** {markdown(cause.title)}: {markdown(cause.error.message)}")
        if cause.error.remedy:
            lines.append(f"  - do: {markdown(cause.error.remedy)}")
        if cause.error.transcript:
            lines.append(f"  - command log: {markdown(cause.error.transcript)}")
        if cause.cells:
            cells = [f"{cell.check} on {cell.subject}: {cell.reason}" for cell in cause.cells]
            lines += _folded(cause.count, [f"- {markdown(cell)}" for cell in cells])
    return _section("Stages that failed", lines)


def _findings(record: RunRecord) -> str:
    found = view.findings(record)
    lines = [line for each in found if each.word != "ADVISORY" for line in _finding(each)]
    advisory = [each for each in found if each.word == "ADVISORY"]
    if advisory:
        title = f"{view.many(len(advisory), 'advisory finding')}, with no effect on the verdict"
        lines += _folded(title, [line for each in advisory for line in _finding(each)])
    decides = len(advisory) < len(found)
    return _section("What failed, and what to do" if decides else "No effect on the verdict", lines)


def _finding(finding: view.Finding) -> list[str]:
    subjects = _joined(finding.subjects, ", ")
    lines = [
        f"- **{finding.word}** {markdown(finding.title)} ({markdown(finding.check)} on {subjects})",
        f"  - {markdown(finding.message)}",
    ]
    if finding.waived_by:
        lines.append(f"  - waived by {markdown(finding.waived_by)}")
    if finding.remedy or finding.action.value != "NONE":
        lines.append(
            f"  - do: {markdown(finding.remedy or 'see the action')} ({markdown(finding.action.value)})"
        )
    for ref in finding.evidence:
        place = ", ".join(markdown(part) for part in (ref.file, ref.place, ref.quote) if part)
        lines.append(f"  - evidence: {place}")
    return lines


def _folded(title: str, lines: Sequence[str]) -> list[str]:
    """What is shown only to who asks for it; our own words as title."""
    return ["", f"<details><summary>{title}</summary>", "", *lines, "", "</details>", ""]


def _waivers(record: RunRecord) -> str:
    used = [w for w in record.waivers if w.id in record.decision.waivers_used]
    lines = _table(
        ("Waiver", "Check", "Owner", "Reason", "Expires"),
        [(w.id, f"{w.check} on {w.subject}", w.owner, w.reason, w.expires) for w in used],
    )
    lines += ["", *(f"- not used: {markdown(line)}" for line in record.decision.waivers_unused)]
    return _section("Waivers", lines if used or record.decision.waivers_unused else [])


def _coverage(record: RunRecord) -> str:
    rows = []
    for row in view.ledger(record):
        words: dict[str, list[str]] = {}
        for cell in row.cells:
            words.setdefault(view.word(cell), []).append(cell.subject)
        told = "; ".join(f"{word}: {', '.join(subjects)}" for word, subjects in words.items())
        rows.append((row.check, row.severity.value, told))
    lines = _table(("Check", "Severity", "Outcome"), rows)
    for stray in view.stray_results(record):
        said = f"{stray.check} on {stray.subject} {stray.outcome.value}: {stray.message}"
        lines.append(f"\nNot planned, no effect on the verdict: {markdown(said)}")
    return _section("Coverage ledger", lines or ["Nothing was planned."])


def _measurements(record: RunRecord) -> str:
    rows = []
    for m in view.measurements(record):
        limits = [
            f"≥ {number(m.lower)}" if m.lower is not None else "",
            f"≤ {number(m.upper)}" if m.upper is not None else "",
        ]
        value = "not measured" if m.value is None else f"{number(m.value)} {m.unit}".removesuffix(" 1")
        kept = {True: "kept", False: "BROKEN", None: "–"}[m.within]
        rows.append((m.name, m.subject, value, " ".join(x for x in limits if x) or "none", kept))
    return _section("Measurements", _table(("Measurement", "Subject", "Value", "Limits", ""), rows))


def _neighbours(record: RunRecord) -> str:
    beside = neighbours.beside(record)
    head = ("Guest", "Load", "Figure", "Alone", "Beside neighbours", "Ratio")
    rows = [
        (
            f"{row.guest} beside {row.neighbours}",
            row.load,
            row.figure,
            row.alone,
            row.beside,
            f"{row.ratio}{' SLOWER' if row.lost else ''}",
        )
        for row in beside.rows
    ]
    lines = _table(head, rows)
    lines += ["", *(f"- not compared: {markdown(said)}" for said in beside.left_out)]
    return _section("Beside neighbours", lines)


def _telemetry(record: RunRecord) -> str:
    lines = [f"- the loads of {markdown(name)} were not watched" for name in telemetry.unwatched(record)]
    for seen in telemetry.guests(record):
        mark = " (STAND-IN)" if seen.standin else ""
        lines += ["", f"### {markdown(seen.guest)}{mark}", "", markdown(telemetry.sampler(seen)), ""]
        for gpu in telemetry.gpu_rows(seen):
            state = f": **{markdown(gpu.state)}**" if gpu.state else ""
            lines += [f"{markdown(gpu.title)}, {markdown(gpu.identity)}{state}", ""]
            lines += [*_table(("Seen", ""), gpu.seen), ""]
            if gpu.lacking:
                lines += [f"Not supported by the card: {_joined(gpu.lacking, ', ')}.", ""]
            else:
                lines.append("")
        gaps = [
            (str(gpu.host_address), f"{gap.start:.1f} s", f"{gap.seconds:.1f} s", gap.reason)
            for gpu in seen.gpus
            for gap in gpu.gaps
        ]
        lines += [*_table(("Gap of", "From", "Lasted", "Why"), gaps), ""]
    host = record.evidence.host_telemetry
    if host is not None:
        lines += ["### The host", "", *_table(("", ""), telemetry.host_rows(host)), ""]
    events = [
        (e.source, e.at, e.what, e.device, e.ruling, e.meaning, e.action, e.line)
        for e in telemetry.kernel_rows(record)
    ]
    head = ("Kernel", "Since boot", "What", "Device", "Ruling", "Meaning", "Do", "Line")
    lines += [*_table(head, events), ""]
    left_out = telemetry.not_planned(record)
    lines += [
        f"- not planned: {markdown(workload)} in {markdown(guest)}: {markdown(why)}"
        for guest, workload, why in left_out
    ]
    return _section("What was seen while loads ran", lines)


def _guests(record: RunRecord) -> str:
    lines: list[str] = []
    for guest in record.evidence.guests:
        boot = "never reached" if guest.boot_seconds is None else f"reached after {guest.boot_seconds:.1f} s"
        lines += [f"### {markdown(guest.name)}: {guest.request.gpus} GPUs, {boot}", ""]
        for reason in guest.no_plan.reasons if guest.no_plan else ():
            lines.append(f"- no plan: {markdown(reason.code)}: {markdown(reason.message)}")
        rows = [
            (row.what, row.planned, row.observed, {True: "as planned", False: "DIFFERS", None: "?"}[row.same])
            for row in landing.rows(guest)
        ]
        lines += [*_table(("What", "Planned", "Observed", ""), rows), ""]
        identities = [
            (i.host, i.host_driver, i.alias, i.root_port, i.guest, i.guest_node)
            for i in landing.identities(guest)
        ]
        lines += [
            *_table(("Host", "Driver", "Alias", "Root port", "Guest", "Guest node"), identities),
            "",
        ]
    return _section("Guests", lines)


def _timings(record: RunRecord) -> str:
    rows = [(stage, duration(seconds)) for stage, seconds in record.evidence.seconds.items()]
    return _section("Where the time went", _table(("Stage", "Time"), rows))


def _basis(record: RunRecord) -> str:
    lines = _table(("", ""), list(view.versions(record)))
    engine = record.evidence.engine
    if engine.description or engine.limits:
        lines.append(f"\nThe host runs on: {markdown(engine.description or 'unknown')}.")
        lines += [f"- it cannot show: {markdown(limit)}" for limit in engine.limits]
    lines.append(
        "\nEvery command log is in `transcripts/`, the events are in `events.jsonl`, the record is "
        "`run.json`."
    )
    return _section("What this verdict rests on", lines)


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join((f"## {title}", "", *lines)).rstrip() if any(lines) else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    body = [f"| {' | '.join(markdown(cell, 500) for cell in row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *body] if body else []


def _joined(words: Iterable[str], by: str = "; ") -> str:
    return by.join(markdown(word) for word in words)
