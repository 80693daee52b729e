"""Bare runs on this very machine: loads by the real runner, and nothing of them left behind."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import time

import pytest

from harness.backends.local import LocalTransport
from harness.config.files import load_profile
from harness.errors import ReleaseError, WorkloadError
from harness.model.evidence import Engine, Evidence
from harness.model.guest import AttachMode
from harness.model.inventory import GroupSpec, HostControlRef, HostFile
from harness.model.topology import Domain
from harness.stages.attach_bare import BareMachine, bare_place, sweep_bare
from harness.stages.claimed_host import ClaimedHost
from harness.stages.context import RunContext
from harness.stages.guest.burn import longest_seconds, require_python
from harness.stages.host.access import HostAccess
from harness.workloads import runs
from harness.workloads.base import Job, Place
from harness.workloads.files import payload_tar
from tests.fakes import FakeClock, FakeHost, FakeHypervisor, FakeTransport
from tests.placement import hosts
from tests.stages.stand_ins import RUN, FakeLease, a_demand, a_recorder, evidence, quiet

pytestmark = pytest.mark.skipif(shutil.which("john") is None, reason="no john (apt-get install john)")


@pytest.fixture
def host(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    described = HostFile(name="here", control=HostControlRef(kind="local"), work_dir=str(work))
    profile = dataclasses.replace(
        load_profile("bare"),
        guests=(GroupSpec(gpus=0, workloads=("hashing",)),),
        workload_parameters={"hashing": {"tool": "john"}},
    )
    demand = a_demand("bare", "hashing", gpus=0)
    recorder = a_recorder(tmp_path / "runs", host=described, profile=profile, guests=(demand,))
    context = RunContext(
        run=RUN,
        recorder=recorder,
        host=described,
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
    yield ClaimedHost(context=context, access=access, facts=hosts.lab_like(), gpus=(), lease=FakeLease())  # type: ignore[arg-type]
    recorder.close()


def ran(host: ClaimedHost, *workloads: str) -> Evidence:
    """The whole life of a bare run's one guest; what the record says of it."""
    machine = BareMachine(host, host.context.demands[0])
    machine.provision()
    machine.burn({"bare": workloads or ("hashing",)})
    machine.release(orderly=True)
    said = evidence(host.context.recorder)
    assert [error for error in said.errors if error.stage == "harness"] == []
    return said


def test_loads_run_on_the_machine_itself_and_leave_nothing(host, tmp_path) -> None:
    (bare,) = ran(host).guests
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
def test_a_gpu_that_another_driver_holds_is_said_to_be_so_and_not_called_broken(host, driver, runs) -> None:
    gpu = dataclasses.replace(hosts.lab_like().pci_devices[0], vendor="10de", driver=driver)
    machine = BareMachine(dataclasses.replace(host, gpus=(gpu,)), host.context.demands[0])
    machine.provision()
    assert machine.broken("bare") is not runs
    assert (machine.connection("bare") is not None) is runs
    if runs:
        assert evidence(host.context.recorder).errors == ()
        return
    machine.burn({"bare": ("hashing",)})
    said = evidence(host.context.recorder)
    (error,) = said.errors
    assert (error.stage, error.kind) == ("readiness", "WorkloadError")
    assert f"{gpu.address} ({driver})" in error.message
    assert said.guests[0].results == ()
    assert said.guests[0].reached is False


def test_the_gpus_of_the_machine_are_known_before_its_loads(host) -> None:
    gpu = dataclasses.replace(hosts.lab_like().pci_devices[0], vendor="1002")
    machine = BareMachine(dataclasses.replace(host, gpus=(gpu,)), host.context.demands[0])
    machine.provision()
    (bare,) = evidence(host.context.recorder).guests
    assert (bare.devices, bare.reached, bare.telemetry) == ((gpu.address,), True, None)


def test_domains_of_others_beside_the_loads_are_refused(host) -> None:
    tenant = Domain(name="tenant", uuid=None, pid=7, running=True)
    said = ran(dataclasses.replace(host, facts=hosts.lab_like(domains=(tenant,))))
    (error,) = said.errors
    assert (error.stage, error.kind) == ("readiness", "ProvisionError")
    assert "tenant" in error.message
    assert (said.guests[0].reached, said.guests[0].results) == (False, ())


def test_a_run_that_lost_its_lease_puts_nothing_on_the_machine(host, tmp_path) -> None:
    host.lease.alive = False
    said = ran(host)
    assert [(e.stage, e.kind) for e in said.errors] == [("burn", "ClaimError")]
    assert said.guests[0].results == ()
    assert not list((tmp_path / "work").rglob("payload"))


@pytest.mark.parametrize("taken", [False, True], ids=["nobody came", "another run came"])
def test_a_lease_that_is_lost_under_the_loads_is_noticed(host, taken) -> None:
    class Losing(LocalTransport):
        def run(self, argv, *, label="", **options):
            if label == "bare-hashing":
                host.lease.alive, host.lease.taken = False, taken
            return super().run(argv, label=label, **options)

    said = ran(dataclasses.replace(host, access=dataclasses.replace(host.access, transport=Losing("here"))))
    assert [(e.stage, e.kind) for e in said.errors] == ([("burn", "ClaimError")] if taken else [])
    assert host.lease.regained == (not taken)


def test_an_interrupt_while_it_is_given_back_leaves_nothing(host, tmp_path) -> None:
    struck = []

    class Struck(LocalTransport):
        def run(self, argv, *, label="", **options):
            if label == "sweep-bare" and not struck:
                struck.append(label)
                raise KeyboardInterrupt
            return super().run(argv, label=label, **options)

    access = dataclasses.replace(host.access, transport=Struck("here"))
    machine = BareMachine(dataclasses.replace(host, access=access), host.context.demands[0])
    machine.provision()
    machine.burn({"bare": ("hashing",)})
    assert list((tmp_path / "work").rglob("payload"))
    with pytest.raises(KeyboardInterrupt):
        machine.release(orderly=False)
    assert struck
    assert list((tmp_path / "work").rglob("*")) == [tmp_path / "work" / "runs"]


def test_what_watches_the_loads_ends_by_itself_though_nobody_ends_it(host) -> None:
    """A killed controller ends nothing: its sampler would fill the machine's disk until somebody came."""
    recorder = host.context.recorder
    real = LocalTransport("here", recorder=recorder)
    ran(dataclasses.replace(host, access=dataclasses.replace(host.access, transport=real)))
    (started,) = (recorder.path / "transcripts").glob("*-bare-sampler-start.txt")
    (seconds,) = re.findall(r'seconds\\*":([0-9.]+)', started.read_text())
    assert float(seconds) == longest_seconds(host.context.profile, ("hashing",))


def test_nothing_of_a_burn_takes_longer_than_it_can() -> None:
    profile = load_profile("burnin")
    loads = profile.guests[0].members[0].workloads
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


def test_a_tensorflow_that_cannot_be_installed_ends_tensor_alone(host, tmp_path, monkeypatch) -> None:
    blocked = tmp_path / "cache"
    blocked.write_text("a file where the cache should be")
    monkeypatch.setenv("SHAKEDOWN_CACHE", str(blocked))
    said = ran(host, "hashing", "tensor")
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
