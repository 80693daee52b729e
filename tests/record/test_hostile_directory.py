"""Whatever lies in a run directory: ``judge``, ``report`` and ``compare`` come back soon, and say so."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import ConfigError, HarnessError
from harness.record.directory import RunDirectory
from harness.record.events import read_events
from harness.record.judge import rejudge
from harness.regular import read_regular, sha256_of
from tests.cli.commands import shakedown
from tests.record.unprivileged import nobody


def fifo(path: Path) -> None:
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def away(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def listening(path: Path) -> None:
    if len(str(path)) > 100:
        pytest.skip("the path is too long for a socket")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


KINDS = (fifo, loop, away, device, folder, listening)
Kind = Callable[[Path], None]


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_regular_file_is_read(kind: Kind, tmp_path: Path) -> None:
    kind(tmp_path / "x")
    with pytest.raises(OSError, match=r"not a regular file|link"):
        read_regular(tmp_path / "x", 100)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="larger than 1 MiB"):
        read_regular(tmp_path / "x", 1 << 20)
    with pytest.raises(OSError, match="larger than 66560 MiB"):
        sha256_of(tmp_path / "x")


@pytest.mark.parametrize("kind", KINDS)
def test_events_that_are_no_file_are_no_run(kind: Kind, tmp_path: Path) -> None:
    kind(tmp_path / "events.jsonl")
    with pytest.raises(ConfigError):
        RunDirectory.open(tmp_path)


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "loop/x", "../../etc/passwd", "/etc/passwd", "\ud800"])
def test_a_recorded_name_that_leads_nowhere_or_away_is_refused(name: str, tmp_path: Path) -> None:
    loop(tmp_path / "loop")
    directory = RunDirectory(tmp_path)
    with pytest.raises((HarnessError, OSError)):
        read_regular(directory.file(name), 100)


@pytest.mark.parametrize("gpus", ["1000000000000", "1" + "0" * 400, "9" * 5000, "-1", "1e400", "NaN", "true"])
def test_a_count_that_cannot_be_is_refused_before_anything_is_made_of_it(gpus: str, tmp_path: Path) -> None:
    start = {
        "run": "r",
        "host": {"name": "h", "ssh": {"address": "h"}, "expected_gpus": None},
        "profile": {"name": "p", "checks": {}, "guests": []},
        "waivers": [],
        "skus": [],
        "guests": [{"request": {"name": "g", "gpus": "COUNT"}, "workloads": [], "group": ""}],
        "shakedown_version": "0",
        "command": [],
        "versions": {},
    }
    event = {"seq": 1, "at": "2026-03-10T12:00:00.000Z", "monotonic": 1.0, "kind": "run.start", "data": start}
    (tmp_path / "events.jsonl").write_text(json.dumps(event).replace('"COUNT"', gpus) + "\n")
    with pytest.raises(HarnessError):
        rejudge(RunDirectory.open(tmp_path))
    done = shakedown("judge", str(tmp_path), cwd=tmp_path)
    assert done.status == 3
    assert "INCONCLUSIVE" in done.out
    assert "Traceback" not in done.err


def test_an_unreadable_file_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text("")
    (tmp_path / "events.jsonl").chmod(0)
    with nobody():
        with pytest.raises(ConfigError, match="you may not read it"):
            RunDirectory.open(tmp_path)
        with pytest.raises(HarnessError, match="you may not read it"):
            read_events(tmp_path / "events.jsonl")


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind is not away]
)  # a link to a file is one there
@pytest.mark.parametrize("argument", [("plan", "--gpus", "1", "--facts"), ("facts", "--transcript")])
def test_no_command_waits_for_what_is_no_file(kind: Kind, argument: tuple[str, ...], tmp_path: Path) -> None:
    kind(tmp_path / "x")
    done = shakedown(*argument, str(tmp_path / "x"), cwd=tmp_path)
    assert done.status == 2
    assert "Traceback" not in done.err
