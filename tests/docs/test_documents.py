"""The documents against the project: commands, options, files and claims that a reader would try."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import typing
from pathlib import Path

import pytest
from PIL import Image

from harness.checks.registry import CHECK_IDS
from harness.config.files import list_names, load_host, load_profile, load_standin, load_waivers
from harness.model.inventory import HostFile
from harness.model.outcome import Verdict
from harness.model.pci import PciAddress
from reports import RENDERERS
from tests.cli.commands import command_names, options_of
from tests.docs import checks_page, messages_page
from tests.docs.workload_tables import TABLES, with_table
from tests.gates.source import ROOT
from tests.gates.test_imports import LEVELS

DOCUMENTS = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))
    if path != messages_page.PAGE  # made of texts with values left out, and held by its own test
)
README, ARCHITECTURE, CONTRIBUTING = (
    ROOT / f"{name}.md" for name in ("README", "ARCHITECTURE", "CONTRIBUTING")
)
SEEN = {"hardware", "H200 bare", "stand-in", "lab", "CPU", "never"}


def commands_in(document: Path) -> list[list[str]]:
    """Every ``shakedown ...`` of a document's code, in blocks and in the running text, without comments."""
    text = document.read_text()
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    blocks = [block for language, block in fenced if language in ("", "sh", "console")]
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines += [code.replace("\n", " ") for code in re.findall(r"`([^`]+)`", prose)]
    found = []
    for line in lines:
        if re.match(r"(\./)?shakedown [a-z-]", line):
            found.append(shlex.split(re.split(r"\s+[#>|]", line)[0], comments=True)[1:])
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_in_a_document_exists_with_its_options(document) -> None:
    known = command_names()
    for words in commands_in(document):
        if words[0].startswith("--"):
            assert set(words) <= {"--help", "--version"}, words
            continue
        alternatives = words[1].split("|") if len(words) > 1 else [""]
        for last in alternatives:
            name = next((n for n in known if n in ((words[0],), (words[0], last))), None)
            assert name is not None, f"{document.name}: no command {' '.join(words)}"
        own = words[: words.index("--")] if "--" in words else words
        given = {w.partition("=")[0] for w in own if w.startswith("--")}
        if name not in (("test",), ("pytest",)):
            assert given <= options_of(name), f"{document.name}: {' '.join(words)}"


def test_the_readme_shows_the_two_commands_first() -> None:
    commands = [" ".join(words) for words in commands_in(README)]
    assert commands[:2] == ["qualify", "test"]


def _links(document: Path) -> list[str]:
    return re.findall(r"\]\(([^)#\s]+)", document.read_text())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_inside_the_project_leads_somewhere(document) -> None:
    inside = [link for link in _links(document) if "://" not in link]
    assert [link for link in inside if not (document.parent / link).exists()] == []


def _paths(document: Path) -> set[str]:
    code = re.findall(r"`([^`\n]+)`", document.read_text())
    top = {p.name for p in ROOT.iterdir() if p.is_dir()}
    shaped = [c.rstrip("/") for c in code if re.fullmatch(r"[\w.\-]+(/[\w.\-*]+)+/?", c)]
    return {c for c in shaped if c.split("/")[0] in top - {"runs", ".git"}}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_that_a_document_names_is_there(document) -> None:
    assert [path for path in sorted(_paths(document)) if not list(ROOT.glob(path))] == []


def _yaml(document: Path) -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)


def test_every_inventory_file_that_a_document_shows_can_be_read(tmp_path) -> None:
    shown = [text for document in DOCUMENTS for text in _yaml(document)]
    assert len(shown) >= 2
    for number, text in enumerate(shown):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        if text.startswith("waivers:"):
            assert load_waivers([path])
        elif "\nguests:" in text:
            assert load_profile(path).name
        elif "\nseries:" in text:
            assert load_standin(path).name
        else:
            assert load_host(path).name


def test_the_readme_names_every_verdict_and_every_report_file() -> None:
    text = README.read_text()
    assert [v.value for v in Verdict if v.value not in text] == []
    assert [r.file for r in RENDERERS if r.with_every_run and r.file not in text] == []


def test_the_readme_says_where_each_capability_was_seen() -> None:
    """'never' is honest; a word that is not in the list is a claim nobody can check."""
    table = README.read_text().partition("## Seen on")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    assert len(rows) >= 15
    for row in rows:
        capability, seen = (cell.strip() for cell in row.strip("|").split("|")[:2])
        assert set(seen.split(", ")) <= SEEN, capability


@pytest.mark.parametrize("word", ["GPU", "NVIDIA"])
def test_nothing_is_claimed_of_real_gpus(word) -> None:
    """No GPU was ever passed through by this project's own runs: the table must not say otherwise."""
    table = README.read_text().partition("## Seen on")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("|") and f"real {word}" in line]
    assert rows
    assert all("never" in row for row in rows)


@pytest.mark.parametrize("made", [checks_page, messages_page], ids=["checks", "messages"])
def test_a_generated_page_is_up_to_date(made) -> None:
    text = made.page()
    if os.environ.get("SHAKEDOWN_UPDATE_DOCS"):
        made.PAGE.write_text(text)
    assert made.PAGE.read_text() == text, "run SHAKEDOWN_UPDATE_DOCS=1 pytest tests/docs"


def test_the_glossary_is_linked_where_people_begin() -> None:
    for name in ("README.md", "docs/checks.md", "docs/messages.md"):
        assert "glossary.md" in (ROOT / name).read_text()


def test_no_document_names_a_check_that_does_not_exist() -> None:
    families = "|".join(sorted({i.split(".")[0] for i in CHECK_IDS}))
    for document in DOCUMENTS:
        named = set(re.findall(rf"`((?:{families})\.[a-z_]+)`", document.read_text()))
        files = {"run.json"}
        assert named - set(CHECK_IDS) - files == set(), document.name


def test_the_architecture_names_every_room_with_its_level() -> None:
    text = ARCHITECTURE.read_text()
    for room, level in LEVELS.items():
        name = room.removeprefix("harness.")
        assert re.search(rf"^\s*{re.escape(name)}(/|\.py)?[^\n]*\bL{level}\b", text, re.MULTILINE), room


def test_contributing_names_what_a_newcomer_adds() -> None:
    text = CONTRIBUTING.read_text()
    for word in ("a check", "a workload", "a lab", "golden", "guest image"):
        assert word in text
    assert all(name in text for name in list_names("labs"))


@pytest.mark.parametrize("document", TABLES, ids=lambda path: path.name)
def test_the_table_of_workloads_says_what_their_folders_say(document: Path) -> None:
    if os.environ.get("SHAKEDOWN_UPDATE_DOCS"):
        document.write_text(with_table(document))
    assert document.read_text() == with_table(document), "run SHAKEDOWN_UPDATE_DOCS=1 pytest tests/docs"


def test_the_changelog_begins_with_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "Keep a Changelog" in text
    assert re.search(r"^## \[0\.1\.0\] - (unreleased|\d{4}-\d{2}-\d{2})$", text, re.MULTILINE)


def test_the_readme_shows_every_profile_plan_and_how_long_the_two_commands_take() -> None:
    text = README.read_text()
    assert [name for name in list_names("profiles") if f"| `{name}` |" not in text] == []
    shown = [" ".join(words) for words in commands_in(README)]
    assert any(command.startswith("plan --facts ") for command in shown)
    assert any(command.startswith("pytest suites ") for command in shown)
    assert ".venv/bin/pytest" in text
    first = text.partition("## Two commands")[2].partition("\n## ")[0]
    assert len(re.findall(r"\d+ to \d+", first)) >= 2
    assert "minutes" in first


def _keys(kind: type) -> dict[str, type | None]:
    """Every key that a file of this type may hold, below the keys that hold them; and their types where they
    are made of keys themselves."""
    hints = typing.get_type_hints(kind)
    found: dict[str, type | None] = {}
    for field in dataclasses.fields(kind):
        kinds = (hints[field.name], *typing.get_args(hints[field.name]))
        found[field.name] = next(
            (k for k in kinds if dataclasses.is_dataclass(k) and k is not PciAddress), None
        )
    return found


def _unexplained(kind: type, lines: list[str]) -> list[str]:
    missing = []
    for key, below in _keys(kind).items():
        stands = [n for n, line in enumerate(lines) if re.match(rf"[#\s]*{key}:", line)]
        said = [
            n for n in stands if re.search(r"\S.*\s#\s", lines[n]) or lines[n - 1].lstrip().startswith("#")
        ]
        missing += [] if said or (stands and below) else [key]
        missing += _unexplained(below, lines) if below else []
    return missing


def test_the_example_of_a_host_file_explains_every_key_that_there_is() -> None:
    """``port`` and ``user`` say by themselves what they are."""
    lines = (ROOT / "inventory/hosts/example.yaml").read_text().splitlines()
    assert set(_unexplained(HostFile, lines)) <= {"port", "user"}
    assert _unexplained(HostFile, [line for line in lines if "work_dir" not in line])


def test_the_picture_is_dated_as_its_caption_says() -> None:
    with Image.open(ROOT / "docs/report.png") as picture:
        made = picture.text["Creation Time"]
    assert f"`docs/picture.py`, {made}." in README.read_text()
