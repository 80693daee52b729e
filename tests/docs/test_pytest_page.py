"""The page on pytest shows the examples as they are, and names every option and fixture that there is."""

from __future__ import annotations

import re

from harness.plugin import PHASES
from harness.plugin.fixtures import _FOR_ALL
from tests.gates.source import ROOT
from tests.plugin.sessions import session

PAGE = ROOT / "docs" / "pytest.md"
EXAMPLES = ROOT / "docs" / "examples"


def test_the_examples_on_the_page_are_the_files_that_are_run() -> None:
    text = PAGE.read_text()
    assert f"```python\n{(EXAMPLES / 'test_my_driver.py').read_text()}```" in text
    assert f"```yaml\n{(EXAMPLES / 'driver.yaml').read_text()}```" in text


def test_every_option_is_named() -> None:
    told = session(ROOT, "--candidate", "lab", "--help").out
    ours = told.partition("Shakedown: qualify a candidate host")[2].partition("\n\n")[0]
    options = set(re.findall(r"^  (--[a-z-]+)", ours, re.MULTILINE))
    assert len(options) >= 8
    assert [option for option in sorted(options) if f"`{option}" not in PAGE.read_text()] == []


def test_every_fixture_for_all_and_every_mark_is_named() -> None:
    text = PAGE.read_text()
    assert [name for name in _FOR_ALL if f"| `{name}` |" not in text] == []
    assert [name for name in PHASES if f"`{name}`" not in text] == []


def test_the_examples_are_collected_for_each_guest_gpu_and_load() -> None:
    said = session(
        ROOT,
        str(EXAMPLES),
        "--candidate",
        "lab",
        "--profile",
        str(EXAMPLES / "driver.yaml"),
        "--collect-only",
        "-q",
    )
    assert said.status == 0, said.out
    for test in (
        "test_my_driver[2x1gpu-a]",
        "test_my_driver[2x1gpu-b]",
        "test_config_space[2x1gpu-a-gpu0]",
        "test_passwords_are_found[2x1gpu-b-hashing]",
        "test_two_tenants[2x1gpu]",
        "test_the_host",
    ):
        assert test in said.out
