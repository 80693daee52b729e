"""Where a bare run's TensorFlow is: brought along on the machine itself, as it lies on any other."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from harness.backends.local import LocalTransport
from harness.config.files import load_profile
from harness.images import frameworks
from harness.model.evidence import Engine, WorkloadResult
from harness.model.inventory import GroupSpec, HostControlRef, HostFile, Profile
from harness.model.topology import PciDevice
from harness.stages.claimed_host import ClaimedHost
from harness.stages.context import RunContext
from harness.stages.host.access import HostAccess
from harness.stages.machine import BareMachine, uses_tensorflow
from tests.fakes import FakeClock, FakeHypervisor
from tests.placement import hosts
from tests.stages.stand_ins import RUN, FakeLease, a_demand, a_recorder, evidence, quiet


def profile_of(workloads: tuple[str, ...], **parameters: dict[str, int | float | str | bool]) -> Profile:
    named = {name.replace("_", "."): given for name, given in parameters.items()}
    return dataclasses.replace(
        load_profile("bare"),
        guests=(GroupSpec(gpus=0, workloads=workloads),),
        workload_parameters=named,
    )


@pytest.mark.parametrize(
    ("workloads", "parameters", "needed"),
    [
        (("tensor",), {}, True),
        (("hashing", "vram"), {"tensor": {"seconds": 1.0}}, False),
        (("tensor",), {"tensor": {"framework": "torch"}}, False),
        (("tensor",), {"tensor": {"library_dir": "/srv/tf"}}, False),
        (("mix",), {}, False),
        (("mix",), {"mix": {"loads": "hashing, tensor"}}, True),
        (("mix",), {"mix": {"loads": "tensor"}, "tensor": {"framework": "torch"}}, False),
        (("mix",), {"mix": {"loads": "tensor"}, "mix_tensor": {"framework": "torch"}}, False),
        (("tensor", "mix"), {"mix": {"loads": "tensor"}, "mix_tensor": {"framework": "torch"}}, True),
    ],
)
def test_it_is_brought_where_a_load_needs_it(
    workloads: tuple[str, ...], parameters: dict[str, dict[str, int | float | str | bool]], needed: bool
) -> None:
    assert uses_tensorflow(profile_of(workloads, **parameters), workloads) is needed


@pytest.fixture
def trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A cache that holds a tree of each kind, for a Python that is not here: a load names the tree it got."""
    monkeypatch.setenv("SHAKEDOWN_CACHE", str(tmp_path / "cache"))
    found = {}
    for kind in frameworks.LOCKS:
        digest = frameworks.tree_digest(kind)
        found[kind] = tmp_path / "cache" / frameworks.CACHE_KIND / digest / "tree"
        (found[kind] / "numpy" / "_core").mkdir(parents=True)
        (found[kind] / "numpy" / "_core" / "_multiarray_umath.cpython-39-x86_64-linux-gnu.so").touch()
    return found


def a_gpu() -> PciDevice:
    return hosts.lab_like().pci_devices[0]


def ran(tmp_path: Path, gpus: tuple[PciDevice, ...] = (), *, remote: bool = False) -> WorkloadResult:
    """What became of a tensor load on the processor, on a machine with these GPUs."""
    (tmp_path / "work").mkdir()
    host = HostFile(name="here", control=HostControlRef(kind="local"), work_dir=str(tmp_path / "work"))
    profile = profile_of(("tensor",), tensor={"engine": "cpu"})
    demand = a_demand("bare", "tensor", gpus=0)
    recorder = a_recorder(tmp_path / "runs", host=host, profile=profile, guests=(demand,))
    context = RunContext(
        run=RUN, recorder=recorder, host=host, profile=profile, demands=(demand,), clock=FakeClock(),
        progress=quiet(),
    )  # fmt: skip
    hypervisor = FakeHypervisor()
    access = HostAccess(
        name="here",
        transport=LocalTransport("here"),
        ssh=object() if remote else None,  # type: ignore[arg-type]
        engine=Engine(),
        hypervisor=lambda: hypervisor,
    )
    machine = BareMachine(
        ClaimedHost(context=context, access=access, facts=hosts.lab_like(), gpus=gpus, lease=FakeLease()),  # type: ignore[arg-type]
        demand,
    )
    machine.provision()
    machine.burn({"bare": demand.workloads})
    machine.release()
    (bare,) = evidence(recorder).guests
    recorder.close()
    (result,) = bare.results
    return result


def test_this_machine_gets_the_locked_tree_and_another_python_is_named(
    tmp_path: Path, trees: dict[str, Path]
) -> None:
    result = ran(tmp_path)
    assert result.status == "lost"
    assert f"{trees['cpu']} is for cpython-39, and /usr/bin/python3 is Python 3." in result.detail


def test_with_an_nvidia_gpu_it_is_the_tree_with_cuda(tmp_path: Path, trees: dict[str, Path]) -> None:
    other, nvidia = (dataclasses.replace(a_gpu(), vendor=vendor) for vendor in ("1002", "10de"))
    assert str(trees["cuda"]) in ran(tmp_path, (other, nvidia)).detail


def test_a_gpu_of_another_make_needs_no_cuda(tmp_path: Path, trees: dict[str, Path]) -> None:
    assert str(trees["cpu"]) in ran(tmp_path, (dataclasses.replace(a_gpu(), vendor="1002"),)).detail


def test_another_machine_has_its_own(tmp_path: Path, trees: dict[str, Path]) -> None:
    detail = ran(tmp_path, remote=True).detail
    assert str(tmp_path) not in detail
