"""Several GPUs: a process for each, all at once, none left out; frameworks and driver are stand-ins here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.packed import job as named
from tests.packed import unpack

DEVICE = """
class Unable(Exception): pass
class Broken(Exception): pass
def visible(address):
    if address == "0000:99:00.0":
        raise Broken(address + " is not on the bus")
    return {"CUDA_VISIBLE_DEVICES": "GPU-" + address[5:7]}
"""
WORKER = """
import json, os, sys, time
def main(argument):
    job = json.loads(argument)
    def there(name):
        return os.path.exists(os.path.join(job["folder"], name))
    open(os.path.join(job["folder"], job["device"]), "w").close()
    until = time.monotonic() + 20
    while not all(there(name) for name in job["devices"]) and time.monotonic() < until:
        time.sleep(0.01)
    how = job["how"].get(job["device"], "well")
    if how in ("killed", "crashes"):
        os.kill(os.getpid(), 9 if how == "killed" else 6)
    if how == "raises":
        raise KeyError("a defect")
    if how == "mutters":
        print("half a li")
        sys.exit(0)
    if how in ("3", "4"):
        print(json.dumps({"error": "reason " + how}))
        sys.exit(int(how))
    print(json.dumps({
        "device": job["device"], "engine": "cuda:torch", "versions": {"torch": "2"},
        "together": all(there(name) for name in job["devices"]), "sees": os.environ["CUDA_VISIBLE_DEVICES"],
        "no_site": sys.flags.no_site, "isolated": sys.flags.isolated,
    }))
"""
GPUS = ["0000:01:00.0", "0000:02:00.0", "0000:03:00.0"]


@pytest.fixture
def payload(tmp_path: Path) -> Path:
    folder = tmp_path / "payload"
    unpack(folder)
    beside = folder / "harness/workloads/tensor/payload"
    (beside / "device.py").write_text(DEVICE)
    (beside / "worker.py").write_text(WORKER)
    return folder


def run(payload: Path, how: dict[str, str], *options: str, gpus: list[str] = GPUS) -> tuple[int, Any, str]:
    job = {"devices": gpus, "folder": str(payload.parent / "work"), "how": how}
    argv = [
        *(sys.executable, "-I", *options, str(payload / "harness/payload/start.py")),
        *(named("tensor.job"), json.dumps(job)),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("options", [(), ("-S",)])
def test_all_gpus_work_at_the_same_time_and_each_process_sees_its_own(
    payload: Path, options: tuple[str, ...]
) -> None:
    status, said, _ = run(payload, {}, *options)
    assert (status, said["engine"], said["versions"]) == (0, "cuda:torch", {"torch": "2"})
    assert list((payload.parent / "work").iterdir()) == []
    seen = said["observed"]["devices"]
    assert [one["device"] for one in seen] == GPUS
    assert [one["sees"] for one in seen] == ["GPU-01", "GPU-02", "GPU-03"]
    assert all(one["together"] for one in seen)
    assert all((one["no_site"], one["isolated"]) == (len(options), 1) for one in seen)


@pytest.mark.parametrize(
    ("how", "status", "why"),
    [
        (dict.fromkeys(GPUS, "3"), 3, "0000:03:00.0: reason 3"),
        ({GPUS[1]: "4"}, 4, "0000:02:00.0: reason 4"),
        ({GPUS[0]: "3", GPUS[2]: "4"}, 4, "0000:03:00.0: reason 4"),
        ({GPUS[0]: "4", GPUS[2]: "3"}, 4, "0000:01:00.0: reason 4"),
        ({GPUS[2]: "crashes"}, 4, "0000:03:00.0: its process ended with status -6"),
        ({GPUS[0]: "3", GPUS[2]: "crashes"}, 4, "0000:03:00.0: its process ended with status -6"),
        ({GPUS[0]: "raises", GPUS[2]: "crashes"}, 4, "0000:03:00.0: its process ended with status -6"),
        ({GPUS[1]: "mutters"}, 4, "0000:02:00.0: its process ended with status 0"),
    ],
)
def test_one_gpu_that_does_not_come_through_is_the_end_of_it(
    payload: Path, how: dict[str, str], status: int, why: str
) -> None:
    """Nothing of the others is shown as a result: a job without one of its GPUs has none."""
    ended, said, complaint = run(payload, how)
    assert (ended, said) == (status, {"payload": "tensor", "error": why})
    assert why in complaint


def test_a_gpu_that_lacks_something_takes_no_word_from_the_others(payload: Path) -> None:
    status, said, _ = run(payload, {GPUS[0]: "3", GPUS[2]: "3"})
    assert status == 0
    assert [one["device"] for one in said["observed"]["devices"]] == [GPUS[1]]
    assert said["observed"]["unable"] == [
        {"device": GPUS[0], "error": "reason 3"},
        {"device": GPUS[2], "error": "reason 3"},
    ]


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("killed", "its process ended with status -9, as the kernel ends one where memory runs out"),
        ("raises", "its process ended with status 1: a defect of this test"),
    ],
)
def test_what_the_machine_or_the_test_is_to_blame_for_accuses_no_gpu(
    payload: Path, how: str, why: str
) -> None:
    status, said, _ = run(payload, {GPUS[1]: how})
    assert (status, said["observed"]["unable"]) == (0, [{"device": GPUS[1], "error": why}])
    assert run(payload, dict.fromkeys(GPUS, how))[0] == 3


def test_a_gpu_that_the_driver_does_not_hold_is_a_broken_engine(payload: Path) -> None:
    status, said, _ = run(payload, {}, gpus=[*GPUS, "0000:99:00.0"])
    assert (status, "not on the bus" in said["error"]) == (4, True)
