"""``junit.xml``: one test case a planned check and subject, for CI systems.

The colours are pytest's (``harness.verdict.colour``), so its ``--junitxml`` says the same: a failed required
check is a ``<failure>``; an errored, skipped or missing one an ``<error>``, so that no CI can take it for a
pass. A waived failure is ``<skipped>`` with the waiver named: it was neither passed nor may it turn the
build red. The same for advisory failures, and for what there was nothing to ask of. A stage that broke is a
test case of its own, which tells the cause and how much it left open; what could not be asked only names it.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

from harness.model.outcome import CoverageCell, Verdict
from harness.model.record import RunRecord
from harness.verdict.causes import Cause
from harness.verdict.colour import Colour, carried_by, colour
from reports.parts import telemetry, view
from reports.parts.text import clean

_TAGS = {
    Colour.FAILED: "failure",
    Colour.ERROR: "error",
    Colour.XFAILED: "skipped",
    Colour.SKIPPED: "skipped",
}


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
    broken = view.broken(record)
    open_ = {(cell.check, cell.subject): cause for cause in broken for cell in cause.cells}
    for cause in broken:
        _broken(suite, cause)
        counts["error"] += 1
    for cell in record.decision.coverage:
        because = open_.get((cell.check, cell.subject))
        tag = _case(suite, record, cell, named.get(cell.check, (cell.check, ""))[0], because)
        if tag:
            counts[tag] += 1
    known = {(cell.check, cell.slot) for cell in record.decision.coverage}
    told = {(each.check, each.slot): each for each in record.evidence.asked if each.not_applicable}
    idle = [asked for key, asked in told.items() if key not in known]
    for asked in idle:
        case = _testcase(suite, asked.check, named.get(asked.check, (asked.check, ""))[0], asked.slot)
        ET.SubElement(case, "skipped", {"message": clean(asked.message, 500)})
        counts["skipped"] += 1
    extra = _verdict_case(suite, record)
    if extra:
        counts[extra] += 1
    suite.attrib |= {
        "tests": str(len(record.decision.coverage) + len(broken) + len(idle) + 1),
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
        ("statement", ". ".join(view.statement(record))),
        *(("stand-in", sentence) for sentence in telemetry.standins(record)),
        ("run", record.run),
        *((("expires", until),) if (until := view.stands_until(record)) else ()),
        *(("intervention", said) for said in record.evidence.interventions),
        *(("note", said) for said in view.notes(record)),
        *view.versions(record),
    ]


def _testcase(suite: ET.Element, check: str, title: str, subject: str) -> ET.Element:
    """A test case with the same properties as that of the test which asks."""
    name = clean(f"{title} [{subject}]", 300)
    case = ET.SubElement(suite, "testcase", {"classname": clean(check, 200), "name": name, "time": "0"})
    properties = ET.SubElement(case, "properties")
    for key, value in (("check", check), ("subject", subject)):
        ET.SubElement(properties, "property", {"name": key, "value": clean(value)})
    return case


def _broken(suite: ET.Element, cause: Cause) -> None:
    """A broken stage as a case: its message, what to do, and how much is not known because of it."""
    case = ET.SubElement(
        suite, "testcase", {"classname": "stage", "name": clean(cause.title, 300), "time": "0"}
    )
    element = ET.SubElement(case, "error", {"message": clean(cause.error.message, 500), "type": "BROKE"})
    said = (cause.error.remedy, cause.error.transcript, cause.count)
    element.text = "\n".join(clean(line, 500) for line in said if line)


def _case(suite: ET.Element, record: RunRecord, cell: CoverageCell, title: str, because: Cause | None) -> str:
    """Add a test case; returns the tag of what it holds, or nothing for a pass."""
    case = _testcase(suite, cell.check, title, cell.subject)
    tag = _TAGS.get(colour(cell), "")
    if not tag:
        return ""
    word = view.word(cell)
    result = view.result_for(record, cell)
    message = (result.message if result else cell.reason) or "no reason was recorded"
    if because is not None:
        message = f"not judged because of: {because.title}"
    prefix = f"{carried_by(cell, record.waivers)}: " if tag == "skipped" else ""
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
        reasons = view.reasons(record)
        first = reasons[0] if reasons else view.MEANINGS[verdict.value]
        ET.SubElement(case, tag, {"message": clean(first, 500), "type": verdict.value}).text = "\n".join(
            clean(reason, 500) for reason in reasons[:200]
        )
    return tag
