"""The judgements on placement: what passes, what fails with which words, and what is missing evidence."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest

from harness.checks.base import Case, Check, MissingEvidence, Scope, Subject
from harness.checks.guest.placement import CHECKS
from harness.model.evidence import Evidence, GuestEvidence, StageError
from harness.model.guest import GuestRequest
from harness.model.inventory import HostFile, Profile
from harness.model.outcome import Action, Outcome, SubjectKind
from harness.model.pci import PciAddress
from harness.model.placement import (
    GuestCell,
    GuestNode,
    NoPlan,
    ObservedGpu,
    ObservedMemory,
    ObservedPlacement,
    ObservedThread,
    PlacementPlan,
    PlannedGpu,
    Reason,
)

EDU = PciAddress.parse("0000:82:00.0")
OTHER = PciAddress.parse("0000:81:00.0")
PORT = PciAddress.parse("0000:fe:00.0")
BY_ID = {check.id: check for check in CHECKS}

PLAN = PlacementPlan(
    guest="g1",
    gpus=(PlannedGpu(host=EDU, guest_cell=0, host_node=1, alias="ua-gpu0", root_port_bus=2),),
    cells=(GuestCell(id=0, host_node=1, vcpus=(0,), memory_mib=512),),
    vcpupin={0: 5},
    emulatorpin=(4,),
    hugepage_kib=2048,
    threads_per_core=1,
    distances={0: {0: 10}},
)


def thread(tid: int, cpu: int, **fields: Any) -> ObservedThread:
    plain: dict[str, Any] = {"name": "x", "vcpu": None, "cpus_allowed": (cpu,), "cgroup_cpus": (cpu,)}
    rest = {"mems_allowed": (1,), "cgroup": "/x", "last_cpu": cpu}
    return ObservedThread(tid=tid, **{**plain, **rest, **fields})


LANDED = ObservedPlacement(
    guest="g1",
    pid=70,
    threads=(thread(70, 4), thread(72, 5, vcpu=0, guest_cell=0), thread(75, 4, name="vhost-70", kernel=True)),
    memory=(
        ObservedMemory(
            memdev="ram-node0",
            guest_cell=0,
            size_bytes=512 << 20,
            policy="bind",
            host_nodes=(1,),
            pages={1: 512 << 20},
            page_kib=2048,
            kernel_policy="bind:1",
        ),
    ),
    gpus=(
        ObservedGpu(
            host=EDU,
            alias="ua-gpu0",
            qom_root_port="pci.2",
            guest=PciAddress.parse("0000:ff:00.0"),
            guest_vendor_device="1234:11e8",
            guest_numa_node=0,
            guest_local_cpus=(0,),
            host_driver="vfio-pci",
            qemu_vendor_device="1234:11e8",
            qemu_root_port_address=PORT,
            guest_root_port_address=PORT,
            iommu_group=11,
            held=True,
        ),
    ),
    guest_nodes=(GuestNode(id=0, cpus=(0,), memory_bytes=480 << 20, distances=(10,)),),
    locked_bytes_limit=None,
    problems=(),
)
GUEST = GuestEvidence(
    name="g1",
    request=GuestRequest(name="g1", gpus=1),
    workloads=(),
    plan=PLAN,
    domain_xml="domain/g1.xml",
    started=True,
    reached=True,
    observed=LANDED,
    observed_files=("transcripts/g1-host.txt", "transcripts/g1-qmp.json"),
)


def case(guest: GuestEvidence, *errors: StageError, share: float = 0.99) -> Case:
    evidence = Evidence(
        host="h",
        subject=SubjectKind.LAB,
        profile="p",
        run="r",
        started_at="2026-01-01T00:00:00.000Z",
        ended_at=None,
        guests=(guest,),
        errors=errors,
    )
    profile = Profile(name="p", checks={}, guests=(), memory_on_node_share=share)
    return Case(evidence=evidence, profile=profile, host=HostFile(name="h"))


def subject(check: Check, guest: GuestEvidence | None, device: PciAddress | None = EDU) -> Subject:
    if check.scope is Scope.GUEST_GPU:
        return Subject(name=f"g1/{device or 'gpu0'}", slot="g1-gpu0", guest=guest, device=device)
    return Subject(name="g1", slot="g1", guest=guest)


def ask(check_id: str, guest: GuestEvidence = GUEST, *errors: StageError, share: float = 0.99) -> Any:
    check = BY_ID[check_id]
    return check.judge(case(guest, *errors, share=share), subject(check, guest))


def landed(**changes: Any) -> GuestEvidence:
    return replace(GUEST, observed=replace(LANDED, **changes))


@pytest.mark.parametrize("check_id", BY_ID)
def test_a_guest_that_landed_as_planned_passes_with_evidence(check_id: str) -> None:
    result = ask(check_id)
    assert result.outcome is Outcome.PASS
    assert result.evidence
    assert BY_ID[check_id].title.endswith("?")


OBSERVING = [i for i in BY_ID if i not in ("placement.plan", "placement.xml")]

FAULTS: dict[str, tuple[str, GuestEvidence, str]] = {
    "vCPU loose": (
        "placement.threads",
        landed(threads=(LANDED.threads[0], replace(LANDED.threads[1], cpus_allowed=(4, 5)))),
        "vCPU 0 (thread 72) may run on: planned CPU 5, observed CPUs 4-5",
    ),
    "kernel thread loose": (
        "placement.kernel_threads",
        landed(threads=(*LANDED.threads[:2], replace(LANDED.threads[2], cpus_allowed=(0, 5)))),
        "kernel thread vhost-70: planned CPUs 4 (emulator), observed CPUs 0,5",
    ),
    "memory remote": (
        "placement.memory",
        landed(memory=(replace(LANDED.memory[0], pages={0: 512 << 20}),)),
        "observed 512.0 MiB on node 0",
    ),
    "guest distances": (
        "placement.guest_topology",
        landed(guest_nodes=(replace(LANDED.guest_nodes[0], distances=(11,)),)),
        "distances from node 0: planned 10, observed 11",
    ),
    "foreign device": (
        "placement.guest_topology",
        landed(gpus=(*LANDED.gpus, replace(LANDED.gpus[0], host=OTHER, alias="hostdev1"))),
        "host device 0000:81:00.0: planned not handed to this guest, observed hostdev1 in QEMU",
    ),
    "device far": (
        "placement.devices",
        landed(gpus=(replace(LANDED.gpus[0], guest_numa_node=None),)),
        "NUMA node of 0000:82:00.0 (0000:ff:00.0 in the guest): planned node 0, observed -1 (none)",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_deviation_fails_its_check_and_names_both_sides(name: str) -> None:
    check_id, guest, words = FAULTS[name]
    result = ask(check_id, guest)
    assert result.outcome is Outcome.FAIL
    assert words in result.message
    assert words[:60] in result.evidence[0].quote
    assert [ref.file for ref in result.evidence[1:]] == list(GUEST.observed_files)
    assert result.remedy
    assert result.action is Action.FIX_CONFIG
    others = [i for i in OBSERVING if i != check_id]
    assert all(ask(i, guest).outcome is Outcome.PASS for i in others)


@pytest.mark.parametrize("check_id", OBSERVING)
def test_without_an_observation_nothing_is_healthy(check_id: str) -> None:
    stuck = StageError(stage="provision", kind="TransportError", message="no route", subject="g1")
    with pytest.raises(MissingEvidence, match="provision failed: no route"):
        ask(check_id, replace(GUEST, observed=None), stuck)
    with pytest.raises(MissingEvidence):
        ask(check_id, replace(GUEST, plan=None))


@pytest.mark.parametrize("check_id", OBSERVING)
@pytest.mark.parametrize("problem", ["process 70 is not the QEMU of guest g1", "strange: words", ""])
def test_a_doubt_about_everything_leaves_everything_missing(check_id: str, problem: str) -> None:
    with pytest.raises(MissingEvidence):
        ask(check_id, landed(problems=(problem,)))


@pytest.mark.parametrize(
    ("problem", "missing"),
    [
        ("threads: thread 9 could not be read", {"placement.threads", "placement.kernel_threads"}),
        ("memory: no mapping begins there", {"placement.memory"}),
        ("devices: QEMU does not report", {"placement.devices", "placement.guest_topology"}),
        ("guest: was not read", {"placement.devices", "placement.guest_topology"}),
    ],
)
def test_a_doubt_leaves_only_what_it_concerns_missing(problem: str, missing: set[str]) -> None:
    found = set()
    for check_id in OBSERVING:
        with contextlib.suppress(MissingEvidence):
            assert ask(check_id, landed(problems=(problem,))).outcome is Outcome.PASS
            continue
        with pytest.raises(MissingEvidence, match=problem):
            ask(check_id, landed(problems=(problem,)))
        found.add(check_id)
    assert found == missing


def test_a_silent_layer_is_missing_evidence_and_never_health() -> None:
    silent = landed(threads=(LANDED.threads[0], replace(LANDED.threads[1], cgroup_cpus=None)))
    with pytest.raises(MissingEvidence, match="cgroup of vCPU 0"):
        ask("placement.threads", silent)
    with pytest.raises(MissingEvidence, match="NUMA nodes"):
        ask("placement.guest_topology", landed(guest_nodes=()))


def test_a_fault_beside_a_silent_layer_is_still_a_fault() -> None:
    both = replace(LANDED.threads[1], cgroup_cpus=None, cpus_allowed=(1,))
    result = ask("placement.threads", landed(threads=(LANDED.threads[0], both), problems=("threads: x",)))
    assert result.outcome is Outcome.FAIL
    assert "observed CPUs 1" in result.message
    assert "threads: x" in result.evidence[0].quote


def test_the_profile_says_how_much_memory_must_be_near() -> None:
    half = landed(memory=(replace(LANDED.memory[0], pages={0: 256 << 20, 1: 256 << 20}),))
    assert ask("placement.memory", half, share=0.5).outcome is Outcome.PASS
    assert ask("placement.memory", half, share=0.6).outcome is Outcome.FAIL


@pytest.mark.parametrize("device", [None, OTHER])
def test_a_device_that_the_plan_does_not_name_is_missing_evidence(device: PciAddress | None) -> None:
    check = BY_ID["placement.devices"]
    with pytest.raises(MissingEvidence, match="names no device"):
        check.judge(case(GUEST), subject(check, GUEST, device))


def test_no_plan_is_a_failure_with_every_reason() -> None:
    reasons = (Reason(code="too_few_gpus", message="1 of 4"), Reason(code="numa_unknown", message="-1"))
    result = ask("placement.plan", replace(GUEST, plan=None, no_plan=NoPlan(reasons=reasons)))
    assert result.outcome is Outcome.FAIL
    assert "too_few_gpus: 1 of 4" in result.message
    assert "numa_unknown: -1" in result.message


def test_neither_plan_nor_refusal_is_missing_evidence() -> None:
    with pytest.raises(MissingEvidence, match="no placement was planned"):
        ask("placement.plan", replace(GUEST, plan=None))


def test_a_plan_for_fewer_gpus_than_asked_fails() -> None:
    asked = replace(GUEST, request=GuestRequest(name="g1", gpus=4))
    assert ask("placement.plan", asked).outcome is Outcome.FAIL


def test_xml_that_contradicts_itself_fails_and_absent_xml_is_missing() -> None:
    result = ask("placement.xml", replace(GUEST, xml_problems=("bus ranges overlap: 253-255, 252-254",)))
    assert result.outcome is Outcome.FAIL
    assert "bus ranges overlap" in result.message
    assert result.evidence[0].file == "domain/g1.xml"
    with pytest.raises(MissingEvidence, match="no domain XML"):
        ask("placement.xml", replace(GUEST, domain_xml=""))


@pytest.mark.parametrize("check_id", BY_ID)
def test_a_guest_that_was_never_there_is_missing_evidence(check_id: str) -> None:
    check = BY_ID[check_id]
    with pytest.raises(MissingEvidence):
        check.judge(case(GUEST), subject(check, None))
