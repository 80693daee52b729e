"""``pytest suites --candidate NAME``: the exit status is the verdict's, and ordinary runs are left alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTEST = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--import-mode=importlib")
HOST = "name: here\ncontrol: {kind: local}\nexpected_gpus: 64\n"
MODEST = "name: modest\nchecks: {run.no_interventions: blocker}\nguests: [{gpus: 1}]\n"
UNREACHABLE = """
import pytest
from harness.errors import TransportError

@pytest.fixture(scope="session")
def candidate_connection():
    def refuse(host, recorder, stack):
        raise TransportError("\\x1b[31mconnection refused\\n<script>", host=host.name, stage="discover")
    return refuse
"""


@pytest.fixture
def suites(tmp_path: Path) -> Path:
    """A copy of the shipped suites, a host file and a modest profile, in a directory of their own."""
    shutil.copytree(ROOT / "suites", tmp_path / "suites", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "host.yaml").write_text(HOST)
    (tmp_path / "modest.yaml").write_text(MODEST)
    return tmp_path


def run(where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PYTEST, "-p", "harness.pytest_plugin", *arguments],
        cwd=where,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def record_of(where: Path) -> dict[str, object]:
    (path,) = where.glob("runs/here/*/run.json")
    found = json.loads(path.read_text())
    assert isinstance(found, dict)
    return found


CANDIDATE = ("suites", "--candidate", "./host.yaml")


def test_without_a_candidate_the_suites_are_skipped_and_nothing_is_written(suites: Path) -> None:
    done = run(suites, "suites", "-rs")
    assert done.returncode == 0
    assert "give --candidate NAME" in done.stdout
    assert "verdict" not in done.stdout
    assert not (suites / "runs").exists()


def test_an_ordinary_run_keeps_its_own_exit_status(tmp_path: Path) -> None:
    (tmp_path / "test_own.py").write_text("def test_own():\n    assert False\n")
    assert run(tmp_path).returncode == 1


def test_this_machine_lacks_64_gpus_so_it_is_no_go(suites: Path) -> None:
    done = run(suites, *CANDIDATE, "-k", "gpu_count or irq_affinity")
    assert done.returncode == 1
    assert "here: NO_GO" in done.stdout
    assert "64" in done.stdout
    record = record_of(suites)
    assert record["decision"]["verdict"] == "NO_GO"  # type: ignore[index]
    (run_directory,) = suites.glob("runs/here/*")
    assert len(list((run_directory / "transcripts").iterdir())) > 3  # testinfra's questions are kept as well


def test_a_profile_that_is_met_is_go_and_exit_0(suites: Path) -> None:
    done = run(suites, *CANDIDATE, "--profile", "./modest.yaml", "-k", "noise")
    assert "here: GO" in done.stdout, done.stdout
    assert done.returncode == 0


def test_a_failing_test_beside_the_checks_is_never_exit_0(suites: Path) -> None:
    (suites / "suites" / "test_more.py").write_text("def test_more(candidate):\n    assert False\n")
    done = run(suites, *CANDIDATE, "--profile", "./modest.yaml", "-k", "test_more")
    assert done.returncode == 1


def test_a_host_that_cannot_be_reached_is_inconclusive_and_its_words_are_escaped(suites: Path) -> None:
    (suites / "conftest.py").write_text(UNREACHABLE)
    done = run(suites, *CANDIDATE)
    assert done.returncode == 3
    assert "here: INCONCLUSIVE" in done.stdout
    assert "\x1b[31mconnection" not in done.stdout
    assert record_of(suites)["decision"]["verdict"] == "INCONCLUSIVE"  # type: ignore[index]


def test_a_candidate_that_no_test_looks_at_is_inconclusive(suites: Path) -> None:
    (suites / "suites" / "test_idle.py").write_text("def test_idle():\n    pass\n")
    done = run(suites, "suites/test_idle.py", "--candidate", "./host.yaml")
    assert done.returncode == 3
    assert "no test looked at the candidate" in done.stdout


def test_an_unknown_candidate_is_a_usage_error_with_the_nearest_name(suites: Path) -> None:
    done = run(suites, "suites", "--candidate", "labb")
    assert done.returncode == 4
    assert "did you mean 'lab'" in done.stdout + done.stderr


def test_collecting_only_opens_no_host(suites: Path) -> None:
    done = run(suites, *CANDIDATE, "--collect-only", "-q")
    assert done.returncode == 0
    assert "test_readiness[host.iommu_live]" in done.stdout
    assert not (suites / "runs").exists()


def test_the_plugin_is_there_in_the_project_itself() -> None:
    done = subprocess.run(
        [*PYTEST, "suites", "--collect-only", "-q", "--candidate", "lab", "--profile", "nightly"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "test_readiness[gpu.reset_works]" in done.stdout
