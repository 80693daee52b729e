"""Pytest against guests with passed-through devices on the lab: the shipped suites and users' own tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.lab import PYTEST, call, own_lab
from tests.plugin.sessions import ROOT, junit

pytestmark = [pytest.mark.lab, pytest.mark.lab_smoke, pytest.mark.timeout(3000)]
SUITES, EXAMPLES = str(ROOT / "suites"), ROOT / "docs" / "examples"


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """A lab of our own."""
    with own_lab() as chosen:
        yield chosen


def session(
    environment: dict[str, str], where: Path, *arguments: str
) -> tuple[str, int, Path, dict[str, Any]]:
    """What pytest said, its exit status, the run and its record.

    QEMU 10.0 under software emulation sometimes ends in an assertion of its own; the product then says
    INCONCLUSIVE, and the session is done once more (``tests/cli/test_lab_smoke.py``).
    """
    command = (*PYTEST, *arguments, "--candidate", "lab", "--runs", str(where / "runs"))
    for _ in range(2):
        done = call(*command, environment=environment, cwd=where, deadline=1500.0)
        run = max((where / "runs" / "lab").iterdir())
        record = json.loads((run / "run.json").read_text())
        errors = [error["stage"] for error in record["evidence"]["errors"]]
        if not {"provision", "boot", "host"} & set(errors):
            break
    return done.stdout, done.returncode, run, record


def test_ones_own_tests_run_against_two_guests_at_the_same_time(environment, tmp_path) -> None:
    """The example of docs/pytest.md, word for word."""
    profile = str(EXAMPLES / "driver.yaml")
    xml = f"--junitxml={tmp_path / 'pytest.xml'}"
    out, status, run, record = session(
        environment, tmp_path, SUITES, str(EXAMPLES), "--profile", profile, xml
    )
    assert (record["decision"]["verdict"], status) == ("GO_WITH_WAIVERS", 0), out
    cells = {(c["check"], c["subject"]): c for c in record["decision"]["coverage"]}
    for guest in ("2x1gpu-a", "2x1gpu-b"):
        assert cells["user.test_my_driver", guest]["outcome"] == "PASS"
        assert cells["user.test_passwords_are_found", f"{guest}-hashing"]["outcome"] == "PASS"
        assert cells["release.devices", guest]["outcome"] == "PASS"
    assert cells["user.test_two_tenants", "2x1gpu"]["outcome"] == "PASS"

    first, second = record["evidence"]["guests"]
    assert not {g["host"] for g in first["plan"]["gpus"]} & {g["host"] for g in second["plan"]["gpus"]}
    assert not set(first["plan"]["vcpupin"].values()) & set(second["plan"]["vcpupin"].values())
    moments = moments_of(run)
    # Both were up before either was looked at, and both were looked at before either was given back.
    assert max(moments["guest.reached"]) < min(moments["guest.observed"])
    assert max(moments["workload"]) < min(moments["release"])
    # Loaded at the same time: the second load began before the first one ended.
    assert overlapping(run)

    pytests, ours = junit(tmp_path / "pytest.xml"), junit(run / "junit.xml")
    assert pytests.items() <= ours.items()


def moments_of(run: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for line in (run / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        found.setdefault(event["kind"], []).append(event["monotonic"])
    return found


def overlapping(run: Path) -> bool:
    """Whether the loads of both guests were started before the first of them came back."""
    begun, ended = [], []
    for line in (run / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["kind"] == "file" and event["data"]["file"].endswith("-hashing-start.txt"):
            begun.append(event["monotonic"])
        if event["kind"] == "workload":
            ended.append(event["monotonic"])
    return len(begun) == len(ended) == 2 and max(begun) < min(ended)


def test_a_guest_that_a_test_kills_is_given_back_and_the_record_says_so(environment, tmp_path) -> None:
    (tmp_path / "test_kill.py").write_text(
        "import pytest, time\n"
        "def test_kills(guest):\n"
        "    guest.run('sh', '-c', 'echo o > /proc/sysrq-trigger', deadline=20)\n"
        "    time.sleep(5)\n"
    )
    out, status, _run, record = session(
        environment, tmp_path, SUITES, "test_kill.py", "--gpus", "1", "-k", "kills or release or no_errors"
    )
    assert record["decision"]["verdict"] != "GO", out
    assert status in (1, 3)
    (guest,) = record["evidence"]["guests"]
    assert guest["release"]["ended_before"] is True
    assert guest["release"]["leftover_domains"] == guest["release"]["leftover_files"] == []
    cells = {(c["check"], c["subject"]): c for c in record["decision"]["coverage"]}
    assert cells["release.devices", "1gpu"]["outcome"] == "PASS", out
    assert cells["release.leftovers", "1gpu"]["outcome"] == "PASS"
    assert cells["guest.kernel_log", "1gpu"]["outcome"] is None


def test_a_guest_whose_kernel_panics_is_named_with_its_consoles_last_lines(environment, tmp_path) -> None:
    (tmp_path / "test_panic.py").write_text(
        "import pytest, time\n"
        "from harness.errors import HarnessError\n"
        "def test_panics(guest):\n"
        "    begun = time.monotonic()\n"
        "    with pytest.raises(HarnessError):\n"
        "        guest.run('sh', '-c', 'echo c > /proc/sysrq-trigger; sleep 90', deadline=100)\n"
        "    assert time.monotonic() - begun < 30\n"
    )
    out, status, _run, record = session(
        environment, tmp_path, SUITES, "test_panic.py", "--gpus", "1", "-k", "panics or release or alive"
    )
    assert (record["decision"]["verdict"], status) == ("INCONCLUSIVE", 3), out
    (guest,) = record["evidence"]["guests"]
    assert guest["death"]["kind"] == "provoked"
    assert any("sysrq triggered crash" in line for line in guest["death"]["console"])
    cells = {(c["check"], c["subject"]): c for c in record["decision"]["coverage"]}
    assert cells["guest.alive", "1gpu"]["outcome"] == "ERROR"
    assert cells["release.devices", "1gpu"]["outcome"] == "PASS"
