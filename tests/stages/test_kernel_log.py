"""What the kernels' logs are filtered by, where they lie, against what the checks look for in them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from harness.checks.watching.kernel_log import trouble
from harness.facts.ask import KERNEL_WORDS
from harness.stages.guest.life import KERNEL_LOG
from tests.telemetry.lines import EVENTS, PUBLIC

LINES = tuple(dict.fromkeys(each.line for each in (*EVENTS, *PUBLIC)))
"""Every line of trouble that the tests know, and of the public logs also those that only explain one."""


def _guest_log(directory: Path, dmesg: str) -> subprocess.CompletedProcess[str]:
    """The guest's command with another ``dmesg``."""
    program = directory / "dmesg"
    program.write_text(f"#!/bin/sh\n{dmesg}\n")
    program.chmod(0o755)
    environment = {"PATH": f"{directory}:/usr/bin:/bin"}
    return subprocess.run(
        ("sh", "-c", KERNEL_LOG), env=environment, capture_output=True, text=True, check=False
    )


def test_awk_and_grep_can_read_the_filter() -> None:
    assert "\\" not in KERNEL_WORDS  # awk takes them out of what -v gives it
    assert KERNEL_WORDS.lower() == KERNEL_WORDS


def test_no_line_of_trouble_is_lost_on_the_host(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("\n".join(LINES) + "\n")
    said = subprocess.run(
        ("awk", "-v", f"words={KERNEL_WORDS}", "tolower($0) ~ words", tmp_path / "lines"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stderr == ""
    assert tuple(said.stdout.splitlines()) == LINES


def test_no_line_of_trouble_is_lost_in_the_guest(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("\n".join(("Linux version 6.1.0", *LINES, "random: crng init done")))
    said = _guest_log(tmp_path, f"cat {tmp_path}/lines")
    assert (said.returncode, tuple(said.stdout.splitlines())) == (0, LINES)


def test_what_explains_a_line_comes_with_it() -> None:
    wanted = re.compile(KERNEL_WORDS)
    for line in (
        "nvidia 0000:41:00.0: ready 2047ms after bus reset",
        "{359}[Hardware Error]:   device_id: 0000:20:03.1",
        "NVRM: The NVIDIA GPU 0009:01:00.0 installed in the system",
        "nouveau 0000:01:00.0: ready 4095ms after D3hot->D0",
    ):
        assert wanted.search(line.lower())
    for line in ("usb 1-1: new high-speed USB device number 3", "Default hash table entries: 4096"):
        assert wanted.search(line.lower()) is None


@pytest.mark.parametrize("dmesg", ["echo 'read kernel buffer failed' >&2; exit 1", "true", "exit 127"])
def test_a_guests_log_that_cannot_be_read_is_not_a_quiet_log(tmp_path: Path, dmesg: str) -> None:
    assert _guest_log(tmp_path, dmesg).returncode != 0


def test_a_quiet_log_is_read_as_such(tmp_path: Path) -> None:
    said = _guest_log(tmp_path, "echo 'Linux version 6.1.0'")
    assert (said.returncode, said.stdout) == (0, "")


def test_notes_are_no_trouble() -> None:
    notes = [each.line for each in EVENTS if each.ruling == "note"]
    assert notes
    assert trouble(notes) == []
