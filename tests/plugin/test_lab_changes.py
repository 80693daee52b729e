"""On the lab: what is changed of guests and host while the loads run is found, with its time.

Each change is made by a test of a user, on the lab host itself, while the guest's loads run beside it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.lab import HARNESS, PYTEST, call, own_lab
from tests.plugin.sessions import ROOT

pytestmark = [pytest.mark.lab, pytest.mark.timeout(3000)]

DOMAIN = "$(virsh -q list --name | grep '^shakedown-' | head -n 1)"
FOREIGN = (
    "printf '%s' \"<domain type='qemu'><name>tenant-7</name><memory unit='MiB'>32</memory><os><type "
    "arch='x86_64' machine='q35'>hvm</type></os></domain>\" > /tmp/tenant.xml; "
    "virsh -q create /tmp/tenant.xml; sleep 12; virsh -q destroy tenant-7"
)


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """A lab of our own."""
    with own_lab() as chosen:
        yield chosen


@pytest.mark.parametrize(
    ("script", "check", "words"),
    [
        (f"d={DOMAIN}; virsh -q vcpupin $d 0 0; sleep 12", "placement.kept", "thread_cpus"),
        (f"d={DOMAIN}; virsh -q suspend $d; sleep 8; virsh -q resume $d", "placement.kept", "state"),
        (f"d={DOMAIN}; virsh -q suspend $d; virsh -q resume $d; sleep 8", "placement.kept", "unpaused"),
        (FOREIGN, "host.unchanged", "tenant-7"),
    ],
    ids=["re-pinned", "paused", "paused-for-a-moment", "foreign-domain"],
)
def test_a_change_in_mid_run_is_found(
    environment, tmp_path: Path, script: str, check: str, words: str
) -> None:
    runs = tmp_path / "runs"
    stop = threading.Event()
    thread = threading.Thread(target=_when_loads_run, args=(environment, runs, script, stop), daemon=True)
    thread.start()
    command = (*PYTEST, str(ROOT / "suites"), "--candidate", "lab", "--gpus", "1", "--runs", str(runs))
    done = call(*command, environment=environment, cwd=tmp_path, deadline=1500.0)
    stop.set()
    thread.join(60.0)
    run = max((runs / "lab").iterdir())
    record = json.loads((run / "run.json").read_text())
    assert record["decision"]["verdict"] != "GO_WITH_WAIVERS", done.stdout
    (result,) = [r for r in record["results"] if r["check"] == check and r["outcome"] != "PASS"]
    assert words in json.dumps(result)
    assert record["evidence"]["host_telemetry"]["changes"]


def _when_loads_run(environment: dict[str, str], runs: Path, script: str, stop: threading.Event) -> None:
    """Run ``script`` on the lab host once the first load has begun."""
    while not stop.is_set():
        transcripts = list(runs.glob("lab/*/transcripts/*-start.txt"))
        if any("sampler" not in path.name for path in transcripts):
            # One argument: ssh joins several by blanks, and the host's shell would take them apart again.
            command = (*HARNESS, "lab", "ssh", "--", script)
            call(*command, environment=environment, cwd=runs, deadline=120.0)
            return
        time.sleep(1.0)
