"""Every format, of every verdict, against golden files; and hostile text in all of them.

``SHAKEDOWN_UPDATE_GOLDEN=1 pytest tests/reports`` writes the golden files and the schema anew.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import hypothesis
import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from referencing import Registry, Resource

from harness.errors import ConfigError
from harness.model.evidence import Answer, Engine, Note, StageError
from harness.model.outcome import Severity, Verdict
from harness.model.record import RunRecord
from harness.model.telemetry import (
    Family,
    Gap,
    GuestTelemetry,
    KernelEvent,
    KernelLog,
    SeriesSummary,
)
from harness.serial import from_json, json_schema, to_data
from reports import RENDERERS, render_all, renderer
from reports.parts import view
from reports.parts.text import clean, markdown
from tests.captured import CAPTURES
from tests.reports import records as example

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SCHEMA = ROOT / "reports" / "schema" / "run.schema.json"
OCP = CAPTURES / "ocp-schema"
UPDATE = os.environ.get("SHAKEDOWN_UPDATE_GOLDEN") == "1"
SCENARIOS = {
    "go_with_waivers": example.WITH_WAIVERS,
    "no_go": example.REFUSED,
    "inconclusive": example.UNFINISHED,
}
FORMATS = tuple(r.format for r in RENDERERS)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    @functools.cache
    def make(name: str) -> RunRecord:
        scenario = {**SCENARIOS, "hardware": example.HARDWARE}[name]
        return example.record(tmp_path_factory.mktemp(name), scenario)

    return make


def hostile_record(record: RunRecord, text: str) -> RunRecord:
    """The record with ``text`` in every place that a host, a guest or a file can fill."""
    evidence = record.evidence
    guest = evidence.guests[0]
    results = tuple(replace(r, message=text, remedy=text) for r in record.results)
    coverage = tuple(replace(c, reason=text) for c in record.decision.coverage)
    facts = evidence.facts
    assert facts is not None
    devices = tuple(replace(d, slot_label=text, serial=text) for d in facts.pci_devices)
    answers = (Answer(name=text, expected=text, got=text, ok=False, detail=text),)
    workloads = tuple(
        replace(r, workload=text, answers=answers, detail=text, transcript=text) for r in guest.results
    )
    error = StageError(stage=text, kind=text, message=text, remedy=text, host=text, transcript=text)
    return replace(
        record,
        host=replace(record.host, description=text),
        waivers=tuple(replace(w, reason=text, owner=text) for w in record.waivers),
        titles=tuple(replace(t, title=text, why=text) for t in record.titles),
        results=results,
        evidence=replace(
            evidence,
            facts=replace(facts, hostname=text, product=text, cpu_model=text, pci_devices=devices),
            guests=(
                replace(guest, results=workloads, telemetry=hostile_telemetry(guest.telemetry, text)),
                *evidence.guests[1:],
            ),
            errors=(error,),
            interventions=(text,),
            notes=(Note(at=text, by=text, text=text),),
            engine=Engine(description=text, accelerator=text, limits=(text,)),
            seconds={text: 1.0},
        ),
        decision=replace(record.decision, coverage=coverage, reasons=(text,), waivers_unused=(text,)),
        command=(text,),
        versions={text: text},
        files={**record.files, text: "sha256:0"},
    )


def hostile_telemetry(telemetry: GuestTelemetry | None, text: str) -> GuestTelemetry | None:
    """The telemetry with ``text`` in every place that a sampler, a driver or a kernel can fill."""
    if telemetry is None:
        return None
    series = SeriesSummary(name=text, unit=text, offered=True, failed=3, detail=text)
    gap = Gap(start=30.0, end=40.0, reason=text)
    event = KernelEvent(source=text, at=35.0, family=Family.XID, line=text, instance=text, meaning=text)
    gpus = tuple(
        replace(
            gpu,
            name=text,
            uuid=text,
            serial=text,
            vbios=text,
            gaps=(gap,),
            vanished=text,
            unasked=text,
            processes=(text,),
            reasons={text: 3.0},
            properties=gpu.properties | {"power_limit": text},
            series=gpu.series | {text: series, "power": series},
        )
        for gpu in telemetry.gpus
    )
    return replace(
        telemetry,
        standin=text,
        driver=text,
        detail=text,
        closed=False,
        gpus=gpus,
        loads=tuple(replace(load, workload=text) for load in telemetry.loads),
        hung=(text,),
        problems=(text,),
        spool=text,
        kernel=KernelLog(source=text, followed_from=None, followed_to=None, events=(event,), detail=text),
    )


HOSTILE = (
    "\x1b[31m<script>alert(1)</script>\n\r\t\x00\x9b & ]]> ' \" | `x` [a](javascript:b) "
    "\u202e\ud800\ufffe {{7*7}}"
)


@pytest.mark.parametrize("format_name", [f for f in FORMATS if f != "json"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_each_format_matches_its_golden_file(recorded, name, format_name):
    chosen = renderer(format_name)
    text = chosen.render(recorded(name))
    golden = HERE / "golden" / f"{name}.{chosen.file}"
    if UPDATE:
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_the_schema_of_run_json_is_the_one_checked_in():
    schema = json.dumps(json_schema(RunRecord), indent=1, sort_keys=True) + "\n"
    if UPDATE:
        SCHEMA.write_text(schema)
    assert SCHEMA.read_text() == schema, "stale: run with SHAKEDOWN_UPDATE_GOLDEN=1"


@pytest.mark.parametrize("name", [*SCENARIOS, "hardware"])
def test_a_record_validates_against_the_schema(recorded, name):
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(to_data(recorded(name)))


def test_every_module_in_the_folder_is_registered():
    modules = {f"reports.{p.stem}" for p in (ROOT / "reports").glob("*.py") if p.stem != "__init__"}
    assert {r.module for r in RENDERERS} == modules
    assert all(callable(importlib.import_module(r.module).render) for r in RENDERERS)
    assert len({r.file for r in RENDERERS}) == len(RENDERERS)


def test_an_unknown_format_is_refused_by_name():
    with pytest.raises(ConfigError, match="unknown report format 'pdf'"):
        renderer("pdf")


def test_render_all_writes_every_default_format_whole(tmp_path, recorded):
    written = render_all(tmp_path, recorded("no_go"))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["report.html", "report.md", "junit.xml", "ocp.jsonl", "metrics.prom"]
    )
    assert set(written) == {"html", "md", "junit", "ocp", "openmetrics"}


def test_the_json_report_is_the_record(recorded):
    record = recorded("go_with_waivers")
    assert from_json(RunRecord, renderer("json").render(record)) == record


# -- hostile text -----------------------------------------------------------------------------------


@pytest.mark.parametrize("format_name", [f for f in FORMATS if f != "json"])
def test_hostile_text_is_escaped_in_every_format(recorded, format_name):
    text = renderer(format_name).render(hostile_record(recorded("no_go"), HOSTILE))
    text.encode("utf-8")  # no lone surrogate
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert "<script>" not in text or format_name in ("openmetrics", "ocp")
    assert "49" not in re.findall(r"\{\{7\*7\}\}|49(?=\})", text)
    check(format_name, text)


@pytest.mark.parametrize("format_name", [f for f in FORMATS if f != "json"])
def test_a_megabyte_of_text_is_cut_with_its_length_named(recorded, format_name):
    record = hostile_record(recorded("no_go"), "A" * 1_000_000)
    text = renderer(format_name).render(record)
    assert "A" * 5000 not in text
    assert len(text) < 3_000_000
    assert "more characters" in text or "\\u2026" in text
    check(format_name, text)


@given(text=st.text(st.characters(), max_size=60))
@hypothesis.example(text="//elsewhere.example")
@settings(max_examples=25, deadline=None)
def test_any_text_leaves_every_format_well_formed(recorded, text):
    record = hostile_record(recorded("inconclusive"), text)
    for each in RENDERERS:
        if each.format != "json":
            check(each.format, each.render(record))


@given(st.text(st.characters(), max_size=3000))
def test_clean_text_is_one_line_of_legal_xml(text):
    shown = clean(text)
    assert "\n" not in shown
    parse_xml(ET.tostring(_element(shown), encoding="unicode"))
    assert len(shown) <= 6 * 2000 + 40


@given(st.text(st.characters(), max_size=200))
def test_markdown_text_holds_no_bare_markup(text):
    assert not re.search(r"(?<!\\)(?:\\\\)*[<>|`\[\]*_]", markdown(text))


def parse_xml(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314  our own output


def _element(text: str) -> ET.Element:
    element = ET.Element("x")
    element.text = text
    return element


def check(format_name: str, text: str) -> None:
    """Whether a consumer of the format could read it."""
    {
        "html": check_html,
        "md": check_markdown,
        "junit": check_junit,
        "ocp": check_ocp,
        "openmetrics": check_prom,
    }[format_name](text)


class _Page(HTMLParser):
    void = frozenset({"meta", "link", "br", "img", "hr", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.tags: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def check_html(text: str) -> None:
    page = _Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert not page.tags & {"script", "iframe", "object", "img", "form", "link"}
    assert not [a for a in page.attributes if a.startswith("on")]
    assert not [link for link in page.links if ":" in link or link.startswith(("/", "\\"))]


def check_markdown(text: str) -> None:
    assert text.startswith("# ")
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")


def check_junit(text: str) -> None:
    suite = parse_xml(text)[0]
    cases = suite.findall("testcase")
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suite.attrib[name]) == sum(case.find(tag) is not None for case in cases)
    assert int(suite.attrib["tests"]) == len(cases)


def forbid(constant: str) -> None:
    raise AssertionError(f"bare {constant}")


@functools.cache
def ocp_validator() -> jsonschema.Draft202012Validator:
    schemas = [json.loads(path.read_text()) for path in sorted(OCP.glob("*.json"))]
    registry: Registry = Registry().with_resources(
        (schema["$id"], Resource.from_contents(schema)) for schema in schemas
    )
    root = next(s for s in schemas if s["title"] == "OutputArtifact")
    return jsonschema.Draft202012Validator(root, registry=registry)


def check_ocp(text: str) -> None:
    lines = [json.loads(line, parse_constant=forbid) for line in text.splitlines()]
    assert [line["sequenceNumber"] for line in lines] == list(range(len(lines)))
    assert "testRunEnd" in lines[-1]["testRunArtifact"]
    validator = ocp_validator()
    for line in lines:
        validator.validate(line)


_LABEL = r'[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*"'
_SAMPLE = re.compile(
    rf"([a-zA-Z_:][\w:]*)\{{{_LABEL}(?:,{_LABEL})*\}} (-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)", re.ASCII
)


def check_prom(text: str) -> None:
    lines = text.split("\n")
    assert lines[-2:] == ["# EOF", ""]
    typed: set[str] = set()
    seen: set[str] = set()
    for line in lines[:-2]:
        if line.startswith("# "):
            word, name = line.split(" ")[1:3]
            assert word in ("TYPE", "UNIT", "HELP")
            if word == "TYPE":
                assert name not in typed
                typed.add(name)
            if word == "UNIT":
                assert name.endswith("_" + line.split(" ")[3])
            continue
        match = _SAMPLE.fullmatch(line)
        assert match, line
        assert match[1] in typed
        assert line.rpartition(" ")[0] not in seen or "AAAA" in line
        seen.add(line.rpartition(" ")[0])


# -- what each format must say ----------------------------------------------------------------------


@pytest.mark.parametrize("format_name", ["html", "md", "junit", "json"])
def test_what_people_did_and_saw_is_listed_with_who_and_when(recorded, format_name):
    record = recorded("no_go")
    note = Note(at="2026-03-10T12:00:05Z", by="Ada", text="fan 3 is loud")
    touched = "Bob at 2026-03-10T12:00:06Z: restarted libvirtd"
    evidence = replace(record.evidence, interventions=(touched,), notes=(note,))
    text = renderer(format_name).render(replace(record, evidence=evidence))
    assert touched in text
    said = "Ada at 2026-03-10T12:00:05Z: fan 3 is loud"
    assert (said in text) if format_name != "json" else ('"fan 3 is loud"' in text)


@pytest.mark.parametrize("name", [*SCENARIOS, "hardware"])
def test_every_ocp_line_validates(recorded, name):
    validator = ocp_validator()
    lines = renderer("ocp").render(recorded(name)).splitlines()
    assert len(lines) > 20
    for line in lines:
        validator.validate(json.loads(line))
    bad = json.loads(lines[1]) | {"extra": 1}
    assert list(validator.iter_errors(bad)), "the validator must be able to refuse"


def test_ocp_ends_say_what_the_verdict_says(recorded):
    ends = {}
    for name in SCENARIOS:
        last = json.loads(renderer("ocp").render(recorded(name)).splitlines()[-1])
        ends[name] = tuple(last["testRunArtifact"]["testRunEnd"].values())
    assert ends == {
        "go_with_waivers": ("COMPLETE", "PASS"),
        "no_go": ("COMPLETE", "FAIL"),
        "inconclusive": ("ERROR", "NOT_APPLICABLE"),
    }


def test_a_missing_required_check_is_a_junit_error(recorded):
    """Which names the stage that kept it from being asked; the stage alone tells the cause, and how much."""
    record = recorded("inconclusive")
    text = renderer("junit").render(record)
    suite = parse_xml(text)[0]
    missing = [c for c in record.decision.coverage if c.outcome is None]
    assert missing
    errors = [c for c in suite.findall("testcase") if c.find("error") is not None]
    assert [c.get("classname") for c in errors] == ["stage", *(c.check for c in missing), "verdict"]
    (cause,) = view.broken(record)
    told, *others = (case.find("error").get("message") for case in errors[:-1])
    assert told == cause.error.message
    assert set(others) == {f"missing: not judged because of: {cause.title}"}
    assert cause.count in errors[0].find("error").text
    assert suite.get("failures") == "0"
    unbroken = replace(record, evidence=replace(record.evidence, errors=(), interrupted=False))
    suite = parse_xml(renderer("junit").render(unbroken))[0]
    errors = [c.get("classname") for c in suite.findall("testcase") if c.find("error") is not None]
    assert errors == [*(c.check for c in missing), "verdict"]
    assert suite.get("tests") == str(len(suite.findall("testcase")))


def test_a_go_opens_with_what_was_shown_and_folds_what_decides_nothing(recorded):
    page = renderer("html").render(recorded("go_with_waivers"))
    shown, findings = page.index('id="shown"'), page.index('id="findings"')
    fold = page.index("with no effect on the verdict")
    assert shown < findings < fold
    assert page.index('<article class="finding ADVISORY"') > page.rindex("<details", 0, fold)
    assert 'id="shown"' not in renderer("html").render(recorded("no_go"))


def test_a_tile_has_a_colour_only_for_what_has_a_say(recorded):
    record = recorded("go_with_waivers")
    first = record.decision.coverage[:2]
    cells = [replace(c, severity=Severity.ADVISORY, outcome=None, waived_by="") for c in first]
    decision = replace(record.decision, coverage=(*cells, *record.decision.coverage[2:]))
    page = renderer("html").render(replace(record, decision=decision))
    assert '<div class="tile "><b>2</b><span>missing (2 advisory)</span></div>' in page
    required = replace(
        decision, coverage=(replace(cells[0], severity=Severity.BLOCKER), *decision.coverage[1:])
    )
    page = renderer("html").render(replace(record, decision=required))
    assert '<div class="tile unsure"><b>2</b><span>missing (1 advisory)</span></div>' in page


@pytest.mark.parametrize("name", ["html", "md", "junit", "ocp", "openmetrics"])
def test_an_inconclusive_verdict_stands_until_nothing(recorded, name):
    inconclusive, go = recorded("inconclusive"), recorded("go_with_waivers")
    day = inconclusive.expires_at[:10]
    assert day
    stood = renderer(name).render(replace(go, expires_at=inconclusive.expires_at))
    assert (day in stood) or name == "openmetrics"
    assert day not in renderer(name).render(inconclusive)
    assert "expiry" not in renderer(name).render(inconclusive)


def test_no_report_sends_anybody_to_find_out_why(recorded):
    for name in SCENARIOS:
        for format_ in ("html", "md", "junit", "ocp"):
            assert "find out why it was never answered" not in renderer(format_).render(recorded(name))


def test_a_required_failure_is_a_junit_failure_and_a_waived_one_is_not(recorded):
    suite = parse_xml(renderer("junit").render(recorded("no_go")))[0]
    failed = {c.get("classname") for c in suite.findall("testcase") if c.find("failure") is not None}
    assert failed == {"workload.answers", "guest.placement", "verdict"}
    waived = [
        c.find("skipped").get("message")
        for c in suite.findall("testcase")
        if c.get("classname") == "gpu.resets"
    ]
    assert all(message.startswith("waived by lab-edu-no-reset") for message in waived)


def test_a_record_with_nothing_planned_is_red_in_every_format(recorded):
    """Zero test cases must not read as success."""
    record = recorded("go_with_waivers")
    empty = replace(
        record,
        results=(),
        decision=replace(
            record.decision, verdict=Verdict.INCONCLUSIVE, coverage=(), reasons=("no check was required",)
        ),
    )
    assert parse_xml(renderer("junit").render(empty))[0].get("errors") == "1"
    assert 'verdict="INCONCLUSIVE"} 1' in renderer("openmetrics").render(empty)
    assert "INCONCLUSIVE" in renderer("html").render(empty)


def test_the_page_says_plainly_that_a_lab_tested_no_gpu(recorded):
    for name in ("html", "md"):
        assert "no GPU was tested" in renderer(name).render(recorded("go_with_waivers"))
        assert "no GPU was tested" not in renderer(name).render(recorded("hardware"))


def test_the_page_draws_every_gpu_core_and_guest(recorded):
    page = renderer("html").render(recorded("go_with_waivers"))
    drawing = next(s for s in re.findall(r"<svg.*?</svg>", page, re.DOTALL) if "Host lab" in s)
    for gpu in example.LAB.gpu_addresses:
        assert f">{gpu}</text>" in drawing
    assert drawing.count("<title>CPU ") == 8
    assert drawing.count("-line proven") == 2 * (1 + 4)  # a line and a dot for each device of each guest


def test_a_misplaced_guest_is_marked_in_the_drawing_and_the_table(recorded):
    page = renderer("html").render(recorded("no_go"))
    assert 'class="stray"' in page
    assert "-line wrong" in page
    assert page.count('<tr class="wrong">') >= 4
    right = renderer("html").render(recorded("go_with_waivers"))
    assert 'class="stray"' not in right
    assert '<tr class="wrong">' not in right


def test_links_lead_only_to_recorded_files(recorded):
    page = _Page()
    page.feed(renderer("html").render(recorded("go_with_waivers")))
    files = set(recorded("go_with_waivers").files) | {"run.json", "events.jsonl"}
    assert set(page.links) <= files
    assert "transcripts/0001-facts.txt" in page.links


def test_a_record_without_facts_or_guests_still_renders(recorded):
    record = recorded("inconclusive")
    bare = replace(
        record, evidence=replace(record.evidence, facts=None, guests=(), seconds={}, ended_at=None)
    )
    for each in RENDERERS:
        if each.format != "json":
            check(each.format, each.render(bare))
    assert "nothing to draw" in renderer("html").render(bare)
