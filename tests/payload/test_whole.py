"""Each payload as the guest runs it: prepared, started under a key, waited for, collected and judged."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.model.evidence import WorkloadResult
from harness.workloads.base import Job, Place
from harness.workloads.judge import judge
from harness.workloads.registry import workload
from harness.workloads.runs import collect, start, wait
from tests.packed import packed

Perform = Callable[..., WorkloadResult]


@pytest.fixture
def perform(tmp_path: Path) -> Perform:
    place = Place(
        python=sys.executable,
        payload=str(packed()),
        jobs=str(tmp_path / "jobs"),
        work=str(tmp_path / "work"),
    )

    def run(name: str, path: str | None = None, **parameters: Any) -> WorkloadResult:
        job = Job(key="k1", guest="g1", tenant="run-g1", vcpus=2, parameters=parameters, place=place)
        environment = {**os.environ, **({"PATH": path} if path else {})}
        for argv in (start(job, workload(name).prepare(job)), wait(job, 120)):
            subprocess.run(argv, check=True, capture_output=True, env=environment, timeout=180)
        raw = subprocess.run(collect(job), check=True, capture_output=True, timeout=60).stdout
        return judge(workload(name), job, raw)

    return run


def tool(folder: Path, name: str, script: str) -> str:
    """A stand-in program, first on PATH."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed here")
def test_ffmpeg_brings_every_frame_back(perform: Perform) -> None:
    result = perform("transcode")
    assert (result.status, result.detail) == ("done", "")
    assert [a for a in result.answers if not a.ok] == []
    assert len(result.answers) == 6
    assert result.versions["ffmpeg"][0].isdigit()
    assert not any(Path(result.key).glob("*"))


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed here")
def test_a_picture_spoilt_by_the_encoder_fails_on_quality_alone(perform: Perform) -> None:
    result = perform("transcode", crf=51, frames=5)
    assert [a.name for a in result.answers if not a.ok] == [
        "PSNR of the worst frame",
        "SSIM of the worst frame",
    ]


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed here")
def test_a_decoder_that_changes_one_frame_is_caught(perform: Perform, tmp_path: Path) -> None:
    spoil = "if [ -f decoded.md5 ]; then sed -i '$s/.....$/wrong/' decoded.md5; fi"
    script = f'{shutil.which("ffmpeg")} "$@" || exit\n{spoil}\n'
    result = perform("transcode", tool(tmp_path / "bin", "ffmpeg", script), frames=5, width=64, height=64)
    assert [a.name for a in result.answers if not a.ok] == ["frame hashes"]
    assert "decoding changed it" in next(a.detail for a in result.answers if not a.ok)


def test_an_ffmpeg_that_fails_or_never_reads_leaves_no_answers(perform: Perform, tmp_path: Path) -> None:
    result = perform("transcode", tool(tmp_path / "bin", "ffmpeg", "echo no such codec >&2; exit 1\n"))
    assert (result.status, result.answers) == ("lost", ())
    assert "no such codec" in result.detail


JOHN = """case $* in '') echo 'John the Ripper password cracker, version 1.9.0'; exit 0;; esac
echo 'Loaded 1 password hash (md5crypt [MD5 32/64 X2])'
"""


@pytest.mark.skipif(
    not any(map(shutil.which, ("john", "/usr/sbin/john"))), reason="john is not installed here"
)
def test_john_finds_the_password(perform: Perform) -> None:
    result = perform("hashing", candidates=300)
    assert (result.status, result.detail, result.engine) == ("done", "", "john")
    assert [a for a in result.answers if not a.ok] == []
    rates = {m.name: m.value for m in result.measurements}
    assert rates["hashing.candidate_rate"] is not None
    assert result.versions["engine"].startswith("john 1.")


@pytest.mark.parametrize(
    "script",
    [
        "",
        "echo 'wrongword        (guest)'\n",
        "echo '0g 0:00:00:00 100% 0g/s 17Kp/s 36.5Kc/s 36586C/s a..b' >&2\n",
    ],
)
def test_a_john_that_finds_nothing_or_nonsense_fails(script: str, perform: Perform, tmp_path: Path) -> None:
    result = perform("hashing", tool(tmp_path / "bin", "john", JOHN + script))
    assert result.status == "done"
    assert [a.name for a in result.answers if not a.ok] == ["password"]
    reported = {m.name: m.value for m in result.measurements}["hashing.reported_rate"]
    assert reported == (36500.0 if "36.5K" in script else None)


def test_a_john_that_loads_no_hash_gives_no_answer(perform: Perform, tmp_path: Path) -> None:
    result = perform("hashing", tool(tmp_path / "bin", "john", "echo 'No password hashes loaded'\n"))
    assert result.status == "lost"
    assert "No password hashes loaded" in result.detail
