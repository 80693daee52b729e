"""``shakedown pytest``: the environment's pytest, with its root and its exit status."""

from __future__ import annotations

import pytest

from tests.cli.commands import shakedown
from tests.gates.source import ROOT


@pytest.mark.parametrize("folder", [".", "tests/facts"])
def test_in_the_checkout_its_root_and_settings_count_from_any_folder(folder) -> None:
    said = shakedown("pytest", str(ROOT / "tests/facts/test_notation.py"), "--co", "-q", cwd=ROOT / folder)
    assert said.status == 0, said.out + said.err
    assert "tests/facts/test_notation.py::" in said.out


def test_suites_without_a_candidate_are_wrong_usage_and_nothing_is_skipped() -> None:
    said = shakedown("pytest", "suites", cwd=ROOT)
    assert said.status == 4
    assert "give --candidate NAME (for a try: lab)" in said.out + said.err
    assert "skipped" not in said.out + said.err


@pytest.mark.parametrize(
    ("body", "status"), [("assert True", 0), ("assert False", 1), ("raise KeyboardInterrupt", 2)]
)
def test_elsewhere_tests_of_ones_own_have_their_own_root_and_their_status_comes_through(
    tmp_path, body, status
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\npython_files = check_*.py\n")
    (tmp_path / "check_own.py").write_text(f"def test_own():\n    {body}\n")
    said = shakedown("pytest", cwd=tmp_path)
    assert said.status == status
    assert f"rootdir: {tmp_path}" in said.out
