"""Bare runs on this very machine: loads by the real runner, and nothing of them left behind."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import time

import pytest

from harness.backends.local import LocalTransport
from harness.config import load_profile
from harness.errors import ReleaseError, WorkloadError
from harness.model.evidence import Engine
from harness.model.guest import AttachMode, GuestRequest
from harness.model.inventory import GuestSpec, HostControlRef, HostFile
from harness.stages.access import HostAccess
from harness.stages.attach_bare import bare_place, run_bare, sweep_bare
from harness.stages.attached import Attached
from harness.stages.boundary import Stopped
from harness.stages.burn import longest_seconds, require_python
from harness.stages.given import GuestDemand, Session
from harness.workloads import Job, Place, payload_tar, runs
from tests.fakes import FakeClock, FakeHost, FakeHypervisor, FakeTransport
from tests.placement import hosts
from tests.stages.stand_ins import RUN, FakeLease, a_recorder, evidence, quiet

pytestmark = pytest.mark.skipif(shutil.which("john") is None, reason="no john (apt-get install john)")


@pytest.fixture
def attached(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    host = HostFile(name="here", control=HostControlRef(kind="local"), work_dir=str(work))
    profile = dataclasses.replace(
        load_profile("bare"),
        guests=(GuestSpec(gpus=0, workloads=("hashing",)),),
        workload_parameters={"hashing": {"tool": "john"}},
    )
    recorder = a_recorder(tmp_path / "runs", host=host, profile=profile)
    demand = GuestDemand(request=GuestRequest(name="bare", gpus=0), workloads=("hashing",))
    recorder.guest_requested(demand.request, demand.workloads, attach=AttachMode.BARE)
    session = Session(
        run=RUN,
        recorder=recorder,
        host=host,
        profile=profile,
        demands=(demand,),
        clock=FakeClock(),
        progress=quiet(),
    )
    hypervisor = FakeHypervisor()
    access = HostAccess(
        name="here",
        transport=LocalTransport("here"),
        ssh=None,
        engine=Engine(),
        hypervisor=lambda: hypervisor,
    )
    yield Attached(session=session, access=access, facts=hosts.lab_like(), gpus=(), lease=FakeLease())  # type: ignore[arg-type]
    recorder.close()


def test_loads_run_on_the_machine_itself_and_leave_nothing(attached, tmp_path) -> None:
    run_bare(attached)
    (bare,) = evidence(attached.session.recorder).guests
    assert (bare.name, bare.attach, bare.reached, bare.plan) == ("bare", AttachMode.BARE, True, None)
    (result,) = bare.results
    assert (result.workload, result.status, result.engine) == ("hashing", "done", "john")
    assert all(answer.ok for answer in result.answers)
    assert result.started is not None
    assert result.ended is not None
    assert list((tmp_path / "work").rglob("*")) == [tmp_path / "work" / "runs"]


@pytest.mark.parametrize(
    ("driver", "runs"), [("vfio-pci", False), ("nouveau", False), ("nvidia", True), (None, True)]
)
def test_a_gpu_that_another_driver_holds_is_said_to_be_so_and_not_called_broken(
    attached, driver, runs
) -> None:
    gpu = dataclasses.replace(hosts.lab_like().pci_devices[0], vendor="10de", driver=driver)
    held = dataclasses.replace(attached, gpus=(gpu,))
    if runs:
        run_bare(dataclasses.replace(held, session=dataclasses.replace(held.session, demands=())))
        return
    with pytest.raises(Stopped):
        run_bare(held)
    said = evidence(attached.session.recorder)
    (error,) = said.errors
    assert (error.stage, error.kind) == ("readiness", "WorkloadError")
    assert f"{gpu.address} ({driver})" in error.message
    assert said.guests[0].results == ()


def test_what_watches_the_loads_ends_by_itself_though_nobody_ends_it(attached) -> None:
    """A killed controller ends nothing: its sampler would fill the machine's disk until somebody came."""
    recorder = attached.session.recorder
    real = LocalTransport("here", recorder=recorder)
    run_bare(dataclasses.replace(attached, access=dataclasses.replace(attached.access, transport=real)))
    (started,) = (recorder.path / "transcripts").glob("*-bare-sampler-start.txt")
    (seconds,) = re.findall(r'seconds\\*":([0-9.]+)', started.read_text())
    assert float(seconds) == longest_seconds(attached.session.profile, ("hashing",))


def test_nothing_of_a_burn_takes_longer_than_it_can() -> None:
    profile = load_profile("burnin")
    loads = profile.guests[0].workloads
    assert longest_seconds(profile, loads) > 14400.0 + len(loads) * profile.workload_deadline_seconds
    assert longest_seconds(load_profile("bare"), ()) > 0, "0 would mean: without end"


@pytest.mark.parametrize("damaged", [False, True], ids=["whole", "without its payload"])
def test_what_a_dead_run_left_running_is_ended_by_its_keys(tmp_path, damaged) -> None:
    transport = LocalTransport("here")
    place = bare_place(str(tmp_path), RUN)
    (tmp_path / "runs" / RUN).mkdir(parents=True)
    subprocess.run(("mkdir", "-p", place.payload), check=True)
    subprocess.run(("tar", "-C", place.payload, "-xf", "-"), input=payload_tar(), check=True)
    job = Job(key="stray", guest="bare", tenant="t", place=place)
    assert transport.run(runs.start(job, ("/bin/sleep", "600"))).status == 0
    (pid,) = (tmp_path / "runs" / RUN / "bare").rglob("pid")
    number = int(pid.read_text())
    if damaged:
        shutil.rmtree(place.payload)
    sweep_bare(transport, RUN, work_dir=str(tmp_path))
    assert not (tmp_path / "runs" / RUN / "bare").exists()
    for _ in range(50):
        if subprocess.run(("kill", "-0", str(number)), check=False, capture_output=True).returncode:
            break
        time.sleep(0.1)
    else:
        pytest.fail("the stray load still runs")
    sweep_bare(transport, RUN, work_dir=str(tmp_path))  # nothing is there any more


def test_a_run_key_that_would_lead_elsewhere_is_refused() -> None:
    with pytest.raises(ReleaseError, match="no directory of a run"):
        sweep_bare(LocalTransport("here"), "../../etc", work_dir="/srv/work")


def test_a_tensorflow_that_cannot_be_installed_ends_tensor_alone(attached, tmp_path, monkeypatch) -> None:
    blocked = tmp_path / "cache"
    blocked.write_text("a file where the cache should be")
    monkeypatch.setenv("SHAKEDOWN_CACHE", str(blocked))
    demand = dataclasses.replace(attached.session.demands[0], workloads=("hashing", "tensor"))
    session = dataclasses.replace(attached.session, demands=(demand,))
    run_bare(dataclasses.replace(attached, session=session))
    said = evidence(attached.session.recorder)
    assert [(e.stage, e.kind) for e in said.errors] == [("frameworks", "ImageError")]
    statuses = {result.workload: result.status for result in said.guests[0].results}
    assert statuses == {"hashing": "done", "tensor": "lost"}


def test_the_python_of_this_machine_is_good_enough() -> None:
    require_python(LocalTransport("here"), Place())


@pytest.mark.parametrize(
    ("status", "stdout", "stderr", "words"),
    [
        (0, "3 9\n", b"", "is Python 3.9; the loads need 3.10 or newer"),
        (127, "", b"sh: /usr/bin/python3: not found", "does not run: sh: /usr/bin/python3: not found"),
        (0, "", b"", "does not run"),
        (1, "3 12\n", b"killed", "does not run: killed"),
        (0, "3 x\n", b"", "does not run"),
    ],
)
def test_a_python_that_can_run_no_load_is_named_before_any(status, stdout, stderr, words) -> None:
    """Each load would end by an error of its own, and a sound machine would be NO_GO for it."""
    host = FakeHost()
    host.on("python", stdout, status=status, stderr=stderr)
    with pytest.raises(WorkloadError, match="python3") as caught:
        require_python(FakeTransport(host), Place())
    assert words in caught.value.message
    assert "apt-get install python3" in caught.value.remedy
