"""A newcomer adds a workload and a check by the words of CONTRIBUTING.md alone, and a run asks for both."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gates.source import PACKAGES, ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.rehearsal,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc (the NVML stand-in is compiled)"),
]

WORKLOAD = {
    "__init__.py": '"""The workload ``primes``."""\n',
    "payload/__init__.py": '"""What runs of ``primes`` in the guest."""\n',
    "spec.py": '''"""What ``primes`` is, as data."""

from __future__ import annotations

from harness.workloads.spec import Row, WorkloadSpec

SPEC = WorkloadSpec(
    name="primes",
    title="primes below a limit are counted",
    defaults={"limit": 20_000},
    row=Row(does="counts primes", proves="their number, counted here", engines="the processor"),
)
''',
    "payload/sieve.py": '''"""The sieve of Eratosthenes."""

from __future__ import annotations


def primes(limit: int) -> int:
    """How many primes lie below ``limit``."""
    marks = bytearray([1]) * limit
    marks[:2] = b"\\0\\0"
    for n in range(2, int(limit**0.5) + 1):
        if marks[n]:
            marks[n * n :: n] = bytes(len(range(n * n, limit, n)))
    return sum(marks)
''',
    "payload/job.py": '''"""Counts primes in the guest."""

from __future__ import annotations

import json
import sys

from harness.workloads.primes.payload.sieve import primes


def main(argument: str) -> None:
    """Run with the parameters in ``argument`` (JSON) and print the observation."""
    job = json.loads(argument)
    versions = {"python": sys.version.split()[0]}
    observed = {"count": primes(job["limit"])}
    print(json.dumps({"payload": "primes", "engine": "cpu", "observed": observed, "versions": versions}))
''',
    "answers.py": '''"""What ``primes`` must come to."""

from __future__ import annotations

from dataclasses import dataclass

from harness.workloads.base import Job, Parsed, command, exact, measure, report_of, settings
from harness.workloads.primes.spec import SPEC
from harness.workloads.spec import WorkloadSpec


def _counted(limit: int) -> int:
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, limit))


@dataclass(frozen=True, slots=True)
class Primes:
    """Counted there by a sieve, here by division."""

    spec: WorkloadSpec = SPEC

    def prepare(self, job: Job) -> tuple[str, ...]:
        """The payload's command line. Raises ConfigError."""
        return command(job, SPEC.job, {"limit": settings(SPEC, job)["limit"]})

    def parse(self, job: Job, stdout: bytes) -> Parsed:
        """One answer. Raises ParseError."""
        seen, engine, versions = report_of(SPEC, stdout)
        count = seen.integer("count")
        return Parsed(
            engine=engine,
            answers=(
                exact("engine", "cpu", engine),
                exact("primes", _counted(settings(SPEC, job)["limit"]), count),
            ),
            measurements=(measure("primes.count", float(count), "1"),),
            versions=versions,
        )


WORKLOAD = Primes()
''',
}
JUDGE = '''

def _told(case: Case, subject: Subject) -> CheckResult:
    """The workload says by which versions it computed."""
    result = _results(case, subject)[0]
    if not result.versions:
        return failed("no version was told", "see what the payload prints", Action.RETEST)
    return ok(f"{result.workload} told {len(result.versions)} versions")


'''
CHECK = """    Check(
        id="workload.versions_told",
        title="Does each workload tell by which versions it computed?",
        why="A wrong answer of unknown software can be repeated by nobody.",
        scope=Scope.GUEST_WORKLOAD,
        phase=Phase.BURNIN,
        judge=_told,
    ),
"""
PROFILE = """name: newcomer
description: What a newcomer added
attach: bare
guests:
  - {gpus: 0, workloads: [primes]}
workload_parameters:
  primes: {limit: 30000}
checks:
  workload.answer: blocker
  workload.versions_told: blocker
"""


def _between(path: Path, before: str, added: str) -> None:
    """Add text before the one place that begins so."""
    text = path.read_text()
    assert text.count(before) == 1, (path, before)
    path.write_text(text.replace(before, added + before))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the project, with what the newcomer added."""
    root = tmp_path / "tree"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    folder = root / "harness/workloads/primes"
    for name, text in WORKLOAD.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    registry = root / "harness/workloads/registry.py"
    _between(registry, '    "render",\n', '    "primes",\n')
    judges = root / "harness/checks/load/workloads.py"
    _between(judges, "\n\nCHECKS", JUDGE.rstrip() + "\n")
    judges.write_text(judges.read_text().rstrip().removesuffix(")") + CHECK + ")\n")
    (root / "inventory/profiles/newcomer.yaml").write_text(PROFILE)
    return root


def test_contributing_names_the_files_that_the_newcomer_touches() -> None:
    """One folder, one line, a profile; a judge, and a profile."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    workload = text.partition("## How to add a workload")[2].partition("\n## ")[0]
    assert set(re.findall(r"`harness/workloads/<name>/([\w/.]+)`", workload)) == {
        "spec.py", "payload/job.py", "answers.py",
    }  # fmt: skip
    assert "`harness/workloads/registry.py`" in workload
    check = text.partition("## How to add a check")[2].partition("\n## ")[0]
    assert "`harness/checks`" in check


def test_what_a_newcomer_added_is_run_and_judged(checkout: Path, tmp_path: Path) -> None:
    host = (ROOT / "inventory/hosts/local-standin.yaml").read_text()
    (tmp_path / "work").mkdir()
    (tmp_path / "here.yaml").write_text(
        host.replace("/var/lib/shakedown", str(tmp_path / "work")).replace(
            "name: local-standin", "name: here"
        )
    )
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "harness", "qualify", "--host", str(tmp_path / "here.yaml")),
            *("--profile", "newcomer", "--json"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    answer = json.loads(done.stdout)
    run = tmp_path / answer["run"]
    assert (answer["verdict"], done.returncode) == ("GO", 0), (run / "report.md").read_text()
    record = json.loads((run / "run.json").read_text())
    (result,) = record["evidence"]["guests"][0]["results"]
    assert (result["workload"], result["status"], result["engine"]) == ("primes", "done", "cpu")
    assert [(m["name"], m["value"]) for m in result["measurements"]] == [("primes.count", 3245.0)]
    outcomes = {cell["check"]: cell["outcome"] for cell in record["results"]}
    assert outcomes == {"workload.answer": "PASS", "workload.versions_told": "PASS"}
