"""Every load on this machine itself, watched through the NVML stand-in, from command line to report."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.config.files import find

TOOLS = ("ffmpeg", "john", "gcc")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.rehearsal,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        any(shutil.which(tool) is None for tool in TOOLS), reason=f"needs {', '.join(TOOLS)} on this machine"
    ),
]


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """The shipped host file, with its work below the test's own directory."""
    text = find("hosts", "local-standin").read_text()
    work = tmp_path / "work"
    work.mkdir()
    changed = text.replace("work_dir: /var/lib/shakedown", f"work_dir: {work}")
    assert changed != text
    path = tmp_path / "local-standin.yaml"
    path.write_text(changed)
    return path


def test_the_rehearsal_is_go_and_says_that_it_is_one(host: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            "-m",
            "harness",
            "qualify",
            "--host",
            str(host),
            "--profile",
            "rehearsal",
            "--json",
        ],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    answer = json.loads(done.stdout)
    run = tmp_path / answer["run"]
    words = (run / "report.md").read_text()
    assert (answer["verdict"], done.returncode) == ("GO", 0), words
    assert "stand-in" in words
    record = json.loads((run / "run.json").read_text())
    (bare,) = record["evidence"]["guests"]
    assert bare["telemetry"]["standin"] == "default"
    assert {result["status"] for result in bare["results"]} == {"done"}
    assert len(bare["results"]) == len(bare["workloads"]) == 8
    for gpu in bare["telemetry"]["gpus"]:
        assert gpu["covered_seconds"] == pytest.approx(gpu["load_seconds"], abs=2.0)
        assert gpu["load_seconds"] > 20
    assert list((tmp_path / "work").rglob("*.py")) == []
    judged = subprocess.run(
        [sys.executable, "-P", "-m", "harness", "judge", str(run), "--json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (json.loads(judged.stdout)["agrees"], judged.returncode) == (True, 0)
