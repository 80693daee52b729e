"""Every text of a record is hostile at once: no report of any format lets one of them out as it is."""

from __future__ import annotations

import dataclasses
import enum
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from harness.model.record import RunRecord
from harness.shown import UNSAFE, clean, hand_out, say, say_json
from reports import RENDERERS, renderer
from tests.reports import records as example

WICKED = (
    "\x1b[2J\x1b]0;owned\x07<script>alert(1)</script>|`x`*b*[l](http://evil.example)\r\nGO  host"
    "\u202e\u2066\x9b31m\x00\ud800\ufffe&amp;]]>\"'><img src=x onerror=1>${{7*7}}{{7*7}}"
)
ALLOWED = {"\n", "\N{ZERO WIDTH SPACE}"}
"""What a report itself puts between its lines and into the addresses that it quotes."""


def poisoned(value: Any) -> Any:
    """The same value with every text in it, keys included, made hostile; addresses and enums stay."""
    if isinstance(value, enum.Enum) or value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return f"{value[:8]}{WICKED}"
    if isinstance(value, tuple):
        return tuple(poisoned(each) for each in value)
    if isinstance(value, dict):
        return {poisoned(k) if type(k) is str else k: poisoned(v) for k, v in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: poisoned(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        return dataclasses.replace(value, **fields)
    return value


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    whole = example.record(Path(tmp_path_factory.mktemp("runs")), example.REFUSED)
    found = poisoned(whole)
    assert isinstance(found, RunRecord)
    return found


@pytest.mark.parametrize("form", [each.format for each in RENDERERS])
def test_nothing_moves_a_cursor_or_turns_a_line(record: RunRecord, form: str) -> None:
    text = renderer(form).render(record)
    found = {match[0] for match in UNSAFE.finditer(text)} - ALLOWED
    assert found == set()
    text.encode("utf-8")


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.seen |= {
            f"{tag} {name}" for name, _ in attrs if name.startswith("on") or name in ("src", "href")
        }


def test_html_has_no_element_of_theirs(record: RunRecord) -> None:
    parser = _Tags()
    parser.feed(renderer("html").render(record))
    assert not {"script", "img"} & parser.seen
    assert not {each for each in parser.seen if " on" in each or each.endswith(" src")}


def test_markdown_has_no_markup_of_theirs(record: RunRecord) -> None:
    text = renderer("md").render(record)
    for mark in ("<script", "](http", "`x`", "*b*", "<img"):
        assert not re.search(rf"(?<!\\){re.escape(mark)}", text), mark


def test_xml_and_json_stay_well_formed(record: RunRecord) -> None:
    ET.fromstring(renderer("junit").render(record))  # noqa: S314  our own
    json.loads(renderer("json").render(record))
    for line in renderer("ocp").render(record).splitlines():
        json.loads(line)


@pytest.mark.parametrize(
    "text", ["a\x1b[31mb", "a\nGO  host", "a\u202eb", "a\ud800b", "\x9b2J", "a\xadb", "\U000e0041"]
)
def test_a_terminal_gets_one_line_of_plain_text(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    say(text)
    say_json({"x": text})
    hand_out(f"<x>\n{text.replace(chr(10), '')}</x>\n")
    out = capsys.readouterr().out
    assert out.count("\n") == 4
    assert UNSAFE.search(out.replace("\n", "")) is None
    assert "\\" in clean(text)
