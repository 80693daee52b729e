"""Guests that did not land where they were planned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from harness.errors import ConfigError
from harness.faults.base import OF_ONE_GPU, Fault, guest, plan, with_guest
from harness.model.evidence import Evidence
from harness.model.gpu import Cards
from harness.model.placement import (
    Moment,
    NoPlan,
    ObservedGpu,
    ObservedMemory,
    ObservedPlacement,
    ObservedThread,
    Reason,
)


def _observed(evidence: Evidence) -> ObservedPlacement:
    found = guest(evidence).observed
    if found is None:
        raise ConfigError(f"guest {guest(evidence).name} was not observed")
    return found


def _with_thread(evidence: Evidence, change: Callable[[ObservedThread], ObservedThread]) -> Evidence:
    """The evidence with the thread of vCPU 0 changed."""
    seen = _observed(evidence)
    threads = tuple(change(t) if t.vcpu == 0 else t for t in seen.threads)
    return with_guest(evidence, observed=replace(seen, threads=threads))


def _with_memory(evidence: Evidence, change: Callable[[ObservedMemory], ObservedMemory]) -> Evidence:
    seen = _observed(evidence)
    first, *rest = seen.memory
    return with_guest(evidence, observed=replace(seen, memory=(change(first), *rest)))


def _with_gpu(evidence: Evidence, change: Callable[[ObservedGpu], ObservedGpu]) -> Evidence:
    seen = _observed(evidence)
    first, *rest = seen.gpus
    return with_guest(evidence, observed=replace(seen, gpus=(change(first), *rest)))


def _later(
    evidence: Evidence, change: Callable[[ObservedPlacement], ObservedPlacement], moment: Moment
) -> Evidence:
    """The evidence with one of the first guest's later looks changed."""
    looks = guest(evidence).looks
    if not any(look.moment is moment and look.observed is not None for look in looks):
        raise ConfigError(f"guest {guest(evidence).name} was not looked at {moment}")
    changed = tuple(
        replace(look, observed=change(look.observed))
        if look.moment is moment and look.observed is not None
        else look
        for look in looks
    )
    return with_guest(evidence, looks=changed)


def _repinned(seen: ObservedPlacement) -> ObservedPlacement:
    """vCPU 0 may run where the emulator does."""
    free = next(t.cpus_allowed for t in seen.threads if t.vcpu is None)
    return replace(
        seen, threads=tuple(replace(t, cpus_allowed=free) if t.vcpu == 0 else t for t in seen.threads)
    )


def _migrated(seen: ObservedPlacement) -> ObservedPlacement:
    first, *rest = seen.memory
    return replace(seen, memory=(_remote_pages(first), *rest))


def _unplugged(seen: ObservedPlacement) -> ObservedPlacement:
    first, *rest = seen.gpus
    gone = replace(first, alias=None, guest=None, guest_vendor_device=None, held=False, host_driver=None)
    return replace(seen, gpus=(gone, *rest))


def _unseen_later(evidence: Evidence) -> Evidence:
    looks = tuple(replace(look, observed=None, detail="no answer") for look in guest(evidence).looks)
    return with_guest(evidence, looks=looks)


def _loose_vcpu(evidence: Evidence) -> Evidence:
    every = tuple(sorted({*plan(evidence).vcpupin.values(), *plan(evidence).emulatorpin}))
    return _with_thread(evidence, lambda t: replace(t, cpus_allowed=every))


def _vcpu_lost(evidence: Evidence) -> Evidence:
    seen = _observed(evidence)
    left = tuple(t for t in seen.threads if t.vcpu != 0)
    return with_guest(evidence, observed=replace(seen, threads=left))


def _stray_emulator(evidence: Evidence) -> Evidence:
    seen, stolen = _observed(evidence), plan(evidence).vcpupin[0]
    threads = tuple(replace(t, cpus_allowed=(stolen,)) if t.vcpu is None else t for t in seen.threads)
    return with_guest(evidence, observed=replace(seen, threads=threads))


def _kernel_thread(evidence: Evidence) -> Evidence:
    seen = _observed(evidence)
    loose = ObservedThread(
        tid=6000,
        name="kvm-pit/4242",
        vcpu=None,
        cpus_allowed=tuple(plan(evidence).vcpupin.values()),
        mems_allowed=(),
        cgroup=None,
        cgroup_cpus=None,
        last_cpu=None,
        kernel=True,
    )
    return with_guest(evidence, observed=replace(seen, threads=(*seen.threads, loose)))


def _remote_pages(block: ObservedMemory) -> ObservedMemory:
    here = block.host_nodes[0]
    half = block.size_bytes // 2
    return replace(block, pages={here: half, here + 1: block.size_bytes - half})


def _wrong_topology(evidence: Evidence) -> Evidence:
    seen = _observed(evidence)
    first, *rest = seen.guest_nodes
    return with_guest(evidence, observed=replace(seen, guest_nodes=(replace(first, cpus=()), *rest)))


def _doubt(evidence: Evidence, topic: str) -> Evidence:
    seen = _observed(evidence)
    problems = (*seen.problems, f"{topic}: could not be read")
    return with_guest(evidence, observed=replace(seen, problems=problems))


def _no_plan(evidence: Evidence) -> Evidence:
    """The planner found no place; what follows a plan is left as it was, so that one check alone speaks."""
    reason = Reason(code="numa_unknown", message="a GPU's node is unknown")
    return with_guest(evidence, plan=None, no_plan=NoPlan(reasons=(reason,)))


def _lost_in_guest(evidence: Evidence) -> Evidence:
    """The first GPU of the first guest, as the look after its boot has it that did not find it."""
    lost = _with_gpu(evidence, lambda g: replace(g, guest=None, guest_vendor_device=None))
    cards = guest(evidence).cards
    first, *rest = cards.refs
    return with_guest(lost, cards=replace(cards, refs=(replace(first, guest=None), *rest)))


FAULTS = (
    Fault(
        id="no-place",
        title="The host has no place for a guest",
        must_trip="placement.plan",
        corrupt=_no_plan,
        also=(
            "gpu.model_known",
            "workload.expected",
            "placement.threads",
            "placement.kernel_threads",
            "placement.memory",
            "placement.guest_topology",
            "placement.devices",
            "placement.kept",
            "release.devices",
            # Without a plan nobody knows which device's telemetry to look for.
            *OF_ONE_GPU,
        ),
    ),
    Fault(
        id="xml-contradicts-plan",
        title="The domain XML failed validation",
        must_trip="placement.xml",
        corrupt=lambda e: with_guest(e, xml_problems=("bus ranges 253 and 252 overlap",)),
    ),
    Fault(
        id="xml-unknown",
        title="No domain XML was kept",
        must_trip="placement.xml",
        corrupt=lambda e: with_guest(e, domain_xml=""),
        outcome=None,
    ),
    Fault(
        id="loose-vcpu",
        title="A vCPU may run on other CPUs than its own",
        must_trip="placement.threads",
        corrupt=_loose_vcpu,
    ),
    Fault(
        id="lost-vcpu",
        title="A vCPU has no thread",
        must_trip="placement.threads",
        corrupt=_vcpu_lost,
    ),
    Fault(
        id="stray-emulator",
        title="The emulator's threads run on a vCPU's CPU",
        must_trip="placement.threads",
        corrupt=_stray_emulator,
    ),
    Fault(
        id="cgroup-unread",
        title="The cgroup of a vCPU could not be read",
        must_trip="placement.threads",
        corrupt=lambda e: _with_thread(e, lambda t: replace(t, cgroup_cpus=None)),
        outcome=None,
    ),
    Fault(
        id="loose-kernel-thread",
        title="KVM's timer thread runs on the guests' CPUs",
        must_trip="placement.kernel_threads",
        corrupt=_kernel_thread,
    ),
    Fault(
        id="remote-memory",
        title="Half of the guest's memory is on another node",
        must_trip="placement.memory",
        corrupt=lambda e: _with_memory(e, _remote_pages),
    ),
    Fault(
        id="small-pages",
        title="The guest's memory is not in the planned page size",
        must_trip="placement.memory",
        corrupt=lambda e: _with_memory(e, lambda m: replace(m, page_kib=4)),
    ),
    Fault(
        id="unbound-memory",
        title="The guest's memory is not bound to a node",
        must_trip="placement.memory",
        corrupt=lambda e: _with_memory(e, lambda m: replace(m, policy="default", kernel_policy="default")),
    ),
    Fault(
        id="memory-unread",
        title="The guest's pages could not be read",
        must_trip="placement.memory",
        corrupt=lambda e: _doubt(e, "memory"),
        outcome=None,
    ),
    Fault(
        id="wrong-guest-node",
        title="The guest sees its CPUs on another node",
        must_trip="placement.guest_topology",
        corrupt=_wrong_topology,
    ),
    Fault(
        id="device-on-no-node",
        title="The guest's kernel knows no node for its device",
        must_trip="placement.devices",
        corrupt=lambda e: _with_gpu(e, lambda g: replace(g, guest_numa_node=None)),
    ),
    Fault(
        id="device-lost-in-guest",
        title="The guest's kernel does not see its device",
        must_trip="placement.devices",
        corrupt=_lost_in_guest,
        also=("workload.expected",),
    ),
    Fault(
        id="swapped-device",
        title="Another device sits at the GPU's address in the guest",
        must_trip="placement.devices",
        corrupt=lambda e: _with_gpu(e, lambda g: replace(g, guest_vendor_device="1af4:1041")),
    ),
    Fault(
        id="unobserved",
        title="The guest's placement was not observed",
        must_trip="placement.threads",
        corrupt=lambda e: with_guest(e, observed=None, observed_files=(), cards=Cards()),
        outcome=None,
        also=(
            "workload.expected",
            "placement.kernel_threads",
            "placement.memory",
            "placement.guest_topology",
            "placement.devices",
            "placement.kept",
        ),
    ),
    Fault(
        id="re-pinned",
        title="A vCPU was pinned again in the middle of the burn-in",
        must_trip="placement.kept",
        corrupt=lambda e: _later(e, _repinned, Moment.MIDDLE),
    ),
    Fault(
        id="pages-migrated",
        title="The guest's memory is on another node when its loads are over",
        must_trip="placement.kept",
        corrupt=lambda e: _later(e, _migrated, Moment.END),
    ),
    Fault(
        id="found-paused",
        title="The guest was paused in the middle of the burn-in-in-in-in-in",
        must_trip="placement.kept",
        corrupt=lambda e: _later(e, lambda seen: replace(seen, state="paused"), Moment.MIDDLE),
    ),
    Fault(
        id="unplugged",
        title="A GPU was taken from the running guest",
        must_trip="placement.kept",
        corrupt=lambda e: _later(e, _unplugged, Moment.END),
    ),
    Fault(
        id="another-process",
        title="QEMU of the guest is another process than after its boot",
        must_trip="placement.kept",
        corrupt=lambda e: _later(e, lambda seen: replace(seen, pid=seen.pid + 1), Moment.END),
    ),
    Fault(
        id="never-looked-again",
        title="The guest's placement was not observed while its loads ran",
        must_trip="placement.kept",
        corrupt=lambda e: with_guest(e, looks=()),
        outcome=None,
    ),
    Fault(
        id="unseen-later",
        title="The guest's placement could not be read while its loads ran",
        must_trip="placement.kept",
        corrupt=_unseen_later,
        outcome=None,
    ),
)
