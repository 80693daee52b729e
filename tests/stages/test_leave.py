"""The last thing a tenant does: a word in its GPUs' memory, by the real runner and payload on the stand-in of
the CUDA driver."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from harness.backends.local import LocalTransport
from harness.config.files import load_profile
from harness.model.gpu import Cards, GpuRef
from harness.stages.guest.burn import Burn, _attempt, leave, put_payload
from harness.workloads.base import GuestDevice, Place
from harness.workloads.device import remanence as residue
from tests.fakes import FakeClock
from tests.native import fake
from tests.native.conftest import gpu
from tests.processes import naming
from tests.stages.stand_ins import RUN, a_demand, a_recorder, evidence, quiet

A, B = gpu("0000:01:00.0"), gpu("0000:02:00.0")


@pytest.fixture
def task(tmp_path: Path):
    """The burn of a guest on a machine whose cards are stand-ins."""
    if fake.compiler() is None:
        pytest.skip("no C compiler here")
    cuda = fake.build(tmp_path)
    python = tmp_path / "python"
    place = Place(
        python=str(python),
        payload=str(tmp_path / "payload"),
        jobs=str(tmp_path / "jobs"),
        work=str(tmp_path / "work"),
    )
    recorder = a_recorder(tmp_path / "runs", guests=(a_demand("g1", "device"),))

    def made(*devices: GuestDevice, more: str = "", workloads: tuple[str, ...] = ("device",)) -> Burn:
        # A job sees nothing of our environment, so its interpreter brings the machine with it.
        said = fake.machine("0000:01:00.0", "0000:02:00.0", more=more)
        python.write_text(
            f"#!/bin/sh\nLD_LIBRARY_PATH={cuda} FAKE_CUDA='{said}' exec {sys.executable} \"$@\"\n"
        )
        python.chmod(0o755)
        return Burn(
            run=RUN,
            guest="g1",
            workloads=workloads,
            vcpus=1,
            devices=devices,
            cards=Cards(refs=tuple(GpuRef(host=d.host, guest=d.address) for d in devices)),
            profile=load_profile("smoke"),
            recorder=recorder,
            clock=FakeClock(),
            progress=quiet(),
            place=place,
        )

    put_payload(LocalTransport(), place)
    yield made
    recorder.close()
    for pid in naming(place.start):
        os.kill(pid, signal.SIGKILL)


def _instead(one: Burn, module: str, said: str) -> None:
    """That module of the installed payload only says so."""
    path = Path(one.place.payload, "harness/workloads/device/payload", f"{module}.py")
    path.write_text(f"def main(argument):\n    print({said!r})\n")


def test_every_nvidia_gpu_is_left_with_the_word(task) -> None:
    one = task(A, B)
    leave(one, LocalTransport())
    assert one.planted == {A.host, B.host}
    assert len(naming(one.place.start)) == 2
    assert evidence(one.recorder).errors == ()


def test_what_the_tenant_before_left_does_not_stand_for_what_this_one_could_not(task) -> None:
    one = task(A, B, more="dead=1")
    one.planted.update({A.host, B.host})
    leave(one, LocalTransport())
    assert one.planted == {A.host}


@pytest.mark.parametrize(
    ("workloads", "rounds", "found"),
    [(("device",), 1, [False]), (("hashing", "device"), 1, [None]), (("device",), 2, [False, None])],
)
def test_only_a_tenants_first_load_can_tell_what_it_was_given(task, workloads, rounds, found) -> None:
    """Later ones look at what the tenant's own loads wrote over it."""
    one = task(A, workloads=workloads)
    one.planted.add(A.host)
    memory = {"total": 100, "bytes": 96, "matching": 0, "proof": residue.gpu_residue.PROOF_WORDS}
    observed = {
        "uuid": "GPU-1", "serial": None, "name": "H", "memory_bytes": 1, "driver": "1",
        "bus_id": str(A.address), "memory": {"kind": "done", "observed": memory},
    }  # fmt: skip
    entry = {
        "address": str(A.address), "vendor": A.vendor, "device": A.device, "exerciser": "device_nvidia",
        "error": None, "observed": observed,
    }  # fmt: skip
    line = {
        "payload": "device", "engine": "nvidia", "versions": {},
        "observed": {"devices": [entry], "seconds": 0.1},
    }  # fmt: skip
    _instead(one, "job", json.dumps(line))
    for number in range(1, rounds + 1):
        for name in one.workloads:
            _attempt(one, LocalTransport(), name, number)
    (guest,) = evidence(one.recorder).guests
    assert [trial.found for trial in guest.residue] == found


def test_a_gpu_that_does_not_take_it_has_no_first_tenant(task) -> None:
    one = task(A, B, more="dead=1")
    leave(one, LocalTransport())
    assert one.planted == {A.host}


def test_a_payload_that_breaks_is_recorded(task) -> None:
    one = task(A, B)
    _instead(one, "canary", "hello")
    leave(one, LocalTransport())
    assert one.planted == set()
    (error,) = evidence(one.recorder).errors
    assert (error.stage, error.subject) == ("leave", "g1")


@pytest.mark.parametrize("workloads", [(), ("vram",)])
def test_where_nobody_looks_nothing_is_left(task, workloads) -> None:
    one = task(A, workloads=workloads)
    leave(one, LocalTransport())
    assert one.planted == set()
    assert not Path(one.place.jobs).exists()


def test_devices_of_others_are_not_written_to(task) -> None:
    edu = GuestDevice(address=A.address, vendor="1234", device="11e8", host=A.host)
    one = task(edu)
    leave(one, LocalTransport())
    assert (one.planted, Path(one.place.jobs).exists()) == (set(), False)
