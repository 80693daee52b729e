"""Copies over links through real ctypes calls into a stand-in driver: each wrong word is found on its way."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import WorkloadError
from harness.vendors.nvidia.standin.model import StandinCard, StandinScenario
from harness.workloads.pcie.payload import gpu
from harness.workloads.registry import workload
from tests.native import fake, nvml
from tests.native.conftest import A, B, C, Ran, judged, wrong

Run = Callable[..., Ran]
SMALL = {"mib": 1, "repeats": 1}
PCIE = {**SMALL, "copies": 2}


def test_data_crosses_each_link_whole_and_rates_are_measured(run: Run) -> None:
    result = judged(run("pcie", (A, B), fake.machine(A, B, mib=16), **PCIE), "pcie")
    assert wrong(result) == []
    assert result.engine == "cuda"
    values = {(m.name, m.subject): m.value for m in result.measurements}
    for address in (A, B):
        for name in ("h2d", "d2h", "both", "latency"):
            assert (values[f"pcie.{name}", address] or 0) > 0


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize(("kind", "words"), [("h2d", "host to device"), ("d2h", "device to host")])
def test_one_bit_in_any_copy_is_found_on_its_way(run: Run, number: int, kind: str, words: str) -> None:
    """Two copies one way, then two of them in both directions at once: none of the four may be missed."""
    ran = run("pcie", (A,), fake.machine(A, mib=16, more=f"flip={kind}:{number}:5"), **PCIE)
    result = judged(ran, "pcie")
    assert [name for name in wrong(result) if "read back" not in name] == [f"{A} cell 0 {words}"]
    (answer,) = (a for a in result.answers if a.name == f"{A} cell 0 {words}")
    assert answer.got.startswith("1 wrong of")


def test_a_link_that_hangs_is_named_and_the_next_card_still_measured(run: Run) -> None:
    said = fake.machine(A, B, mib=16, more="hang=cuMemcpyDtoHAsync_v2:3")
    result = judged(run("pcie", (A, B), said, **PCIE, stall_seconds=1.0), "pcie")
    assert wrong(result) == [f"{A} to the end", f"{B} to the end"]
    assert all("hung (copies with cell 0, batch 1)" in a.got for a in result.answers if not a.ok)


def test_many_batches_may_take_longer_than_one_may_be_silent(run: Run) -> None:
    batches = {"mib": 1, "copies": 2, "repeats": 800}
    ran = run("pcie", (A,), fake.machine(A, mib=16), **batches, stall_seconds=1.0)
    assert wrong(judged(ran, "pcie")) == []


def test_without_a_card_the_processors_copy_and_say_so(run: Run) -> None:
    result = judged(run("pcie", **PCIE), "pcie")
    assert wrong(result) == []
    assert result.engine == "cpu"
    assert all(m.name.startswith("ram.copy.cell") for m in result.measurements)


def test_every_ordered_pair_is_copied_and_compared_three_ways(run: Run) -> None:
    result = judged(run("p2p", (A, B, C), **SMALL), "p2p")
    assert wrong(result) == []
    assert len(result.answers) == 1 + 6 * 4
    subjects = {m.subject for m in result.measurements if m.name == "p2p.bandwidth"}
    assert subjects == {f"{a}->{b}" for a in (A, B, C) for b in (A, B, C) if a != b}


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_corrupted_peer_copy_is_found_on_its_pair(run: Run, number: int) -> None:
    result = judged(run("p2p", (A, B), fake.machine(A, B, more=f"flip=peer1:{number}:0"), **SMALL), "p2p")
    assert wrong(result) == [f"{A}->{B} copy"]


def test_stores_that_never_reach_the_peer_are_found_by_its_owner(run: Run) -> None:
    result = judged(run("p2p", (A, B), fake.machine(A, B, more="swallow"), **SMALL), "p2p")
    assert wrong(result) == [f"{A}->{B} store", f"{B}->{A} store"]


def test_without_peer_access_copies_go_through_the_host_and_are_still_compared(run: Run) -> None:
    said = fake.machine(A, B, more="nopeer")
    result = judged(run("p2p", (A, B), said, **SMALL), "p2p")
    assert wrong(result) == []
    (answer,) = (a for a in result.answers if a.name == f"{A}->{B} copy")
    assert answer.detail == "through the host, compared by the owner"
    assert {m.value for m in result.measurements if m.name == "p2p.access"} == {0.0}
    flipped = judged(run("p2p", (A, B), f"{said} flip=peer0:2:7", **SMALL), "p2p")
    assert wrong(flipped) == [f"{B}->{A} copy"]


@pytest.mark.parametrize("code", [217, 711])
def test_peer_access_that_is_promised_and_refused_is_none(run: Run, code: int) -> None:
    said = fake.machine(A, B, more=f"fail=cuCtxEnablePeerAccess:{code}")
    result = judged(run("p2p", (A, B), said, **SMALL), "p2p")
    assert wrong(result) == []
    assert {m.value for m in result.measurements if m.name == "p2p.access"} == {0.0}


def test_a_profile_may_demand_peer_access(run: Run) -> None:
    said = fake.machine(A, B, more="nopeer")
    result = judged(run("p2p", (A, B), said, **SMALL, demand_peer=True), "p2p")
    assert wrong(result) == [f"{A}->{B} peer access", f"{B}->{A} peer access"]


def test_one_card_has_no_peers(run: Run) -> None:
    with pytest.raises(WorkloadError, match="need two"):
        run("p2p", (A,))
    assert workload("p2p").spec.name == "p2p"


def test_a_machine_that_does_not_let_memory_be_bound_tells_nothing_of_the_card(
    run: Run, tmp_path: Path
) -> None:
    """The kernel's files promise a second cell that this machine does not have."""
    for cell, cpus in ((0, "0"), (1000, "0")):
        folder = tmp_path / f"sys/devices/system/node/node{cell}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(f"{cpus}\n")
        (folder / "meminfo").write_text(f"Node {cell} MemTotal: 1024 kB\n")
    ran = run("pcie", (A,), fake.machine(A, mib=16), sysroot=tmp_path, **PCIE)
    assert ran.status == 3
    assert "memory cannot be bound to cell" in judged(ran, "pcie").detail


def test_the_link_under_load_is_what_nvml_says_of_the_card_at_that_address(
    run: Run, stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both stand-ins at once: the driver's and NVML's, in one folder as a driver lays them."""
    shutil.copy(stand_in / "libcuda.so.1", tmp_path)
    machine = nvml.Machine(nvml.build(tmp_path), tmp_path)
    card = StandinCard(pcie_gen=4, pcie_width=8)
    machine.scene(StandinScenario(name="test", card=card))
    monkeypatch.setenv("SHAKEDOWN_NVML_SCENARIO", str(tmp_path / "scenario"))
    where = str(nvml.ADDRESSES[0])
    ran = run("pcie", (where,), fake.machine(where, mib=16), libraries=tmp_path, **PCIE)
    result = judged(ran, "pcie")
    assert wrong(result) == []
    values = {m.name: m.value for m in result.measurements}
    assert (values["pcie.gen_under_load"], values["pcie.width_under_load"]) == (4, 8)


class Queue:
    """Copies that are queued and done at once."""

    streams = (1, 2)

    def __init__(self) -> None:
        self.gpu = self

    def down(self, _stream: int) -> None: ...

    def up(self, _stream: int) -> None: ...

    def driver(self, *_call: object) -> None: ...


def test_a_link_that_was_seen_at_its_generation_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle card's link is slow, and a look between two batches may find it so."""
    payload = gpu
    said = [(1, 16), (5, 16), *[(1, 16)] * 1_000_000]
    monkeypatch.setattr(payload.gpu_link, "load", lambda: None)
    monkeypatch.setattr(payload.gpu_link, "link", lambda _nvml, _address: said.pop(0))
    monkeypatch.setattr(payload, "LOAD_SECONDS", 0.02)
    assert payload._link(Queue(), A, "/") == {"source": "nvml", "generation": 5, "width": 16}
