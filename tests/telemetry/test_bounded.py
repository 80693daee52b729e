"""A line without an end costs no memory, and what follows it is read all the same."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from harness.regular import LONGEST_LINE, lines_of
from harness.telemetry.gpu.spool import MOST_TOLD, read_spool
from harness.telemetry.host.lines import read_lines
from tests.telemetry import spools as s

LONG = b"x" * (3 * LONGEST_LINE)


def test_a_line_that_is_too_long_comes_cut_and_the_next_one_whole() -> None:
    found = list(lines_of(io.BytesIO(b"a\n" + LONG + b"\nb\nc"), longest=1000))
    assert found == [b"a\n", b"x" * 1000, b"b\n", b"c"]


def test_a_spool_tells_of_it_and_keeps_what_follows() -> None:
    spool = read_spool(io.BytesIO(s.start() + s.gpu() + LONG + b"\n" + s.fast(100.0)))
    assert len(spool.gpus[0].fast.times) == 1
    assert any("more than 1048576 bytes" in problem for problem in spool.problems)


def test_so_does_the_hosts_follower() -> None:
    spool = read_lines(
        io.BytesIO(b"shakedown 1 host-follow 0123456789abcdef\n" + LONG + b"\n0123456789abcdef bye 7.0\n")
    )
    assert spool.ended == 7.0
    assert any("more than 1048576 bytes" in problem for problem in spool.problems)


@pytest.mark.parametrize("kind", ["lost", "died", "hung", "error"])
def test_what_is_told_without_end_is_kept_up_to_a_number(kind: str) -> None:
    fields = {
        "lost": {"error": "gone", "call": "x"},
        "died": {"status": 1},
        "hung": {"call": "x", "seconds": 1},
        "error": {"error": "e"},
    }[kind]
    lines = (
        s.line(kind, mono=100.0, gpu=0, **({"name": f"n{n}"} if kind == "error" else {}), **fields)
        for n in range(MOST_TOLD + 7)
    )
    spool = read_spool(s.start() + s.gpu() + b"".join(lines))
    assert any(f"more than {MOST_TOLD}" in problem for problem in spool.problems)


def test_a_gigabyte_on_one_line_is_read_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    with path.open("wb") as file:
        file.write(s.start() + s.gpu())
        file.truncate(1_200_000_000)  # a sparse file: NUL after NUL
    script = (
        "import resource, sys; from harness.regular import open_regular;"
        "from pathlib import Path; from harness.telemetry.gpu.spool import read_spool;"
        "f = open_regular(Path(sys.argv[1])); before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "s = read_spool(f); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, s.problems)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True, timeout=120
    )
    grown, _, problems = done.stdout.partition(" ")
    assert int(grown) < 20_000, "KiB"
    assert "more than" in problems
