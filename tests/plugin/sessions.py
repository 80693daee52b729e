"""Test sessions with a candidate, a process each: this machine itself, watched through the NVML stand-in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

ROOT = Path(__file__).parents[2]
HOST = """
name: here
subject: standin
control: {kind: local}
expected_gpus: 2
placement: {selector: {addresses: ["0000:f1:00.0", "0000:f2:00.0"]}}
work_dir: WORK
allow_sharing: true
nvml_standin: default
"""
PROFILE = """
name: short
attach: bare
guests: [{gpus: 0, workloads: [hashing]}]
workload_parameters: {hashing: {tool: john}}
checks:
  host.gpu_count: advisory
  workload.answer: blocker
  telemetry.coverage: blocker
  run.no_errors: blocker
  run.no_interventions: blocker
"""
"""Met by any machine with john: its GPUs are there for the stand-in alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one session left."""

    status: int
    out: str
    record: dict[str, Any] | None
    run: Path | None

    @property
    def verdict(self) -> str:
        """The word of the record."""
        assert self.record is not None, self.out
        return str(self.record["decision"]["verdict"])

    def cells(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The ledger by check and subject."""
        assert self.record is not None, self.out
        return {(c["check"], c["subject"]): c for c in self.record["decision"]["coverage"]}


def prepare(where: Path, *, host: str = HOST, profile: str = PROFILE) -> None:
    """Write a host and a profile into ``where``."""
    (where / "work").mkdir(exist_ok=True)
    (where / "host.yaml").write_text(host.replace("WORK", str(where / "work")))
    (where / "short.yaml").write_text(profile)


def session(where: Path, *arguments: str, command: tuple[str, ...] = (), deadline: float = 300.0) -> Said:
    """Run pytest (or another ``command``) in ``where``, and read what it left."""
    before = set(where.glob("runs/*/*"))
    done = subprocess.run(
        [
            *(
                command
                or (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--import-mode=importlib")
            ),
            *arguments,
        ],
        cwd=where,
        env={**os.environ, "PYTEST_ADDOPTS": "", "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=deadline,
        check=False,
    )
    made = sorted(set(where.glob("runs/*/*")) - before)
    run = made[-1] if made else None
    file = run / "run.json" if run is not None else None
    record = json.loads(file.read_text()) if file is not None and file.exists() else None
    return Said(status=done.returncode, out=done.stdout, record=record, run=run)


def suites(where: Path, *arguments: str) -> Said:
    """The shipped suites against the host and the profile of ``prepare``."""
    return session(where, str(ROOT / "suites"), *CANDIDATE, *arguments)


CANDIDATE = ("--candidate", "./host.yaml", "--profile", "./short.yaml", "--wait")


def junit(path: Path) -> dict[tuple[str, str], str]:
    """Check and subject of each case to what it holds: ``passed``, ``failure``, ``error`` or ``skipped``."""
    found = {}
    for case in ET.parse(path).getroot().iter("testcase"):  # noqa: S314  our own files
        named = {p.get("name"): p.get("value") for p in case.iter("property")}
        if "check" in named:
            tags = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
            found[str(named["check"]), str(named["subject"])] = tags[0] if tags else "passed"
    return found
