"""``junit.xml``: one test case a planned check and subject, for CI systems.

A failed required check is a ``<failure>``; an errored or missing one is an ``<error>``, so that no CI can
take it for a pass; a skipped one is ``<skipped>``. A waived failure is ``<skipped>`` with the waiver named:
it was neither passed nor may it turn the build red. The same for advisory failures.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

from harness.model.outcome import CoverageCell, Severity, Verdict
from harness.model.record import RunRecord
from reports.parts import telemetry, view
from reports.parts.text import clean

_TAGS = {"FAIL": "failure", "ERROR": "error", "MISSING": "error", "SKIP": "skipped", "WAIVED": "skipped"}


def render(record: RunRecord) -> str:
    """The report in the common JUnit dialect (``testsuites``/``testsuite``/``testcase``)."""
    suite = ET.Element(
        "testsuite", {"name": clean(f"shakedown {record.host.name} {record.profile.name}", 200)}
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in _properties(record):
        ET.SubElement(properties, "property", {"name": clean(name, 100), "value": clean(value, 500)})
    counts = dict.fromkeys(("failure", "error", "skipped"), 0)
    named = view.titles(record)
    cells = record.decision.coverage
    for cell in cells:
        tag = _case(suite, record, cell, named.get(cell.check, (cell.check, ""))[0])
        if tag:
            counts[tag] += 1
    extra = _verdict_case(suite, record)
    if extra:
        counts[extra] += 1
    suite.attrib |= {
        "tests": str(len(cells) + 1),
        "failures": str(counts["failure"]),
        "errors": str(counts["error"]),
        "skipped": str(counts["skipped"]),
        "time": f"{view.total_seconds(record):.3f}",
        "timestamp": clean(record.evidence.started_at.removesuffix("Z"), 40),
        "hostname": clean(record.host.name, 100),
    }
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _properties(record: RunRecord) -> list[tuple[str, str]]:
    return [
        ("verdict", record.decision.verdict.value),
        ("subject", record.evidence.subject.value),
        ("statement", ". ".join(view.STATEMENTS[record.evidence.subject])),
        *(("stand-in", sentence) for sentence in telemetry.standins(record)),
        ("run", record.run),
        ("expires", record.expires_at),
        *(("intervention", said) for said in record.evidence.interventions),
        *(("note", said) for said in view.notes(record)),
        *view.versions(record),
    ]


def _case(suite: ET.Element, record: RunRecord, cell: CoverageCell, title: str) -> str:
    """Add a test case; returns the tag of what it holds, or nothing for a pass."""
    case = ET.SubElement(
        suite,
        "testcase",
        {"classname": clean(cell.check, 200), "name": clean(f"{title} [{cell.subject}]", 300), "time": "0"},
    )
    word = view.word(cell)
    if word == "PASS":
        return ""
    advisory = cell.severity is Severity.ADVISORY
    tag = "skipped" if advisory else _TAGS[word]
    result = view.result_for(record, cell)
    message = (result.message if result else cell.reason) or "no reason was recorded"
    prefix = f"waived by {cell.waived_by}: " if word == "WAIVED" else f"advisory {word}: " if advisory else ""
    if cell.outcome is None:
        prefix += "missing: "
    element = ET.SubElement(case, tag, {"message": clean(prefix + message, 500)})
    if tag != "skipped":
        element.set("type", word)
    element.text = clean(result.remedy) if result and result.remedy else None
    return tag


def _verdict_case(suite: ET.Element, record: RunRecord) -> str:
    """The verdict as a test case of its own: an interrupted run must not look green."""
    verdict = record.decision.verdict
    case = ET.SubElement(suite, "testcase", {"classname": "verdict", "name": verdict.value, "time": "0"})
    tag = {Verdict.NO_GO: "failure", Verdict.INCONCLUSIVE: "error"}.get(verdict, "")
    if tag:
        first = record.decision.reasons[0] if record.decision.reasons else view.MEANINGS[verdict.value]
        ET.SubElement(case, tag, {"message": clean(first, 500), "type": verdict.value}).text = "\n".join(
            clean(reason, 500) for reason in record.decision.reasons[:200]
        )
    return tag
