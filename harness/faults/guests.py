"""Guests that go wrong: not started, not reached, wrong answers, traces left behind."""

from __future__ import annotations

import math
from dataclasses import replace

from harness.faults.base import (
    OF_ONE_GPU,
    Fault,
    guest,
    release,
    results,
    with_guest,
    with_release,
    with_result,
)
from harness.model.evidence import Evidence, GuestEvidence, StageError
from harness.model.outcome import Measurement, Outcome
from harness.model.pci import PciAddress
from harness.model.placement import NoPlan
from harness.placement.reasons import Code, reason


def _unplaced(evidence: Evidence) -> Evidence:
    """The first guest has no plan, and so nothing that comes after one."""
    first, *rest = evidence.guests
    why = reason(Code.CORES_TAKEN, "other guests have all cores of node 0")
    bare = GuestEvidence(
        name=first.name,
        request=first.request,
        workloads=first.workloads,
        attach=first.attach,
        no_plan=NoPlan(reasons=(why,)),
    )
    return replace(evidence, guests=(bare, *rest))


def _unreached(evidence: Evidence) -> Evidence:
    broke = StageError(
        stage="provision",
        kind="BootError",
        message="no answer within 600 s",
        subject=guest(evidence).name,
    )
    return replace(with_guest(evidence, reached=False, boot_seconds=None), errors=(*evidence.errors, broke))


def _wrong_answer(evidence: Evidence) -> Evidence:
    first, *rest = results(evidence)[0].answers
    return with_result(evidence, answers=(replace(first, got="0", ok=False), *rest))


def _measured(evidence: Evidence, value: float | None, *, limited: bool = True) -> Evidence:
    low = 1.0 if limited else None
    made = Measurement(name="fault.rate", value=value, unit="1/s", lower=low)
    return with_result(evidence, measurements=(*results(evidence)[0].measurements, made))


def _renamed(evidence: Evidence) -> Evidence:
    """Every measurement under another name, as after an update of a workload."""
    changed = evidence
    for index, one in enumerate(evidence.guests):
        found = tuple(
            replace(r, measurements=tuple(replace(m, name=f"renamed.{m.name}") for m in r.measurements))
            for r in one.results
        )
        changed = with_guest(changed, index, results=found)
    return changed


def _handed_on(evidence: Evidence) -> int:
    """Number of the guest that received a device from an earlier one."""
    return max(index for index, one in enumerate(evidence.guests) if one.residue)


def _leak(evidence: Evidence) -> Evidence:
    index = _handed_on(evidence)
    first, *rest = guest(evidence, index).residue
    leaked = replace(first, found=True, detail="4096 of 4096 bytes are the earlier tenant's")
    return with_guest(evidence, index, residue=(leaked, *rest))


def _device(evidence: Evidence, **changes: object) -> Evidence:
    first, *rest = release(evidence).devices
    return with_release(evidence, devices=(replace(first, **changes), *rest))  # type: ignore[arg-type]


def _leaked_pages(evidence: Evidence) -> Evidence:
    after = dict(release(evidence).hugepages_after)
    key = next(iter(after))
    return with_release(evidence, hugepages_after={**after, key: after[key] - 1})


_OF_A_GUEST = (
    "placement.plan",
    "placement.xml",
    "placement.threads",
    "placement.kernel_threads",
    "placement.memory",
    "placement.guest_topology",
    "placement.devices",
    "placement.kept",
    "guest.reached",
    "guest.alive",
    "guest.gpu_errors",
    "guest.kernel_log",
    "workload.answer",
    "workload.burn_time",
    "workload.limits",
    "workload.expected",
    "gpu.model_known",
    "release.devices",
    "release.memory",
    "release.leftovers",
    "release.orderly",
    *OF_ONE_GPU,
)
"""What is asked of a guest and its loads, and goes without an answer when it has no place."""

FAULTS = (
    Fault(
        id="guest-unplaced",
        title="A guest cannot be placed on the host",
        must_trip="guest.started",
        corrupt=_unplaced,
        also=_OF_A_GUEST,
    ),
    Fault(
        id="guest-not-started",
        title="A guest was never started, and no reason was recorded",
        must_trip="guest.started",
        corrupt=lambda e: with_guest(e, started=False, reached=False, boot_seconds=None),
        outcome=None,
        also=("guest.reached", "guest.alive", "release.devices", "release.memory", "release.orderly"),
    ),
    Fault(
        id="guest-silent",
        title="A guest started and never answered",
        must_trip="guest.reached",
        corrupt=_unreached,
        also=("run.no_errors",),
    ),
    Fault(
        id="wrong-answer",
        title="A workload computed a wrong answer",
        must_trip="workload.answer",
        corrupt=_wrong_answer,
    ),
    Fault(
        id="no-answer",
        title="A workload ended without an answer to compare",
        must_trip="workload.answer",
        corrupt=lambda e: with_result(e, answers=()),
        outcome=Outcome.ERROR,
    ),
    Fault(
        id="burn-of-unknown-length",
        title="The times of the loads were not recorded",
        must_trip="workload.burn_time",
        corrupt=lambda e: with_guest(
            e, results=tuple(replace(r, started=None, ended=None) for r in results(e))
        ),
        outcome=None,
    ),
    Fault(
        id="workload-failed",
        title="A workload ended with an error after its answers",
        must_trip="workload.answer",
        corrupt=lambda e: with_result(e, status="failed", detail="exit status 139"),
        also=("workload.expected",),
    ),
    Fault(
        id="workload-timeout",
        title="A workload did not end in time",
        must_trip="workload.answer",
        corrupt=lambda e: with_result(e, status="timeout"),
        outcome=Outcome.ERROR,
        also=("workload.expected",),
    ),
    Fault(
        id="workload-unsuited",
        title="A required workload reports that it does not apply",
        must_trip="workload.answer",
        corrupt=lambda e: with_result(e, status="not_applicable"),
        outcome=Outcome.SKIP,
        also=("workload.expected",),
    ),
    Fault(
        id="workload-lost",
        title="A workload's result was lost",
        must_trip="workload.answer",
        corrupt=lambda e: with_guest(e, results=results(e)[1:]),
        outcome=None,
        also=("workload.limits", "workload.expected"),
    ),
    Fault(
        id="too-slow",
        title="A measurement is below its limit",
        must_trip="workload.limits",
        corrupt=lambda e: _measured(e, 0.5),
    ),
    Fault(
        id="not-a-number",
        title="A limited measurement is not a number",
        must_trip="workload.limits",
        corrupt=lambda e: _measured(e, math.nan),
        outcome=None,
    ),
    Fault(
        id="unmeasured",
        title="A limited measurement has no value",
        must_trip="workload.limits",
        corrupt=lambda e: _measured(e, None),
        outcome=None,
    ),
    Fault(
        id="idle-limits",
        title="The profile's limits match no measurement",
        must_trip="workload.limits_matched",
        corrupt=_renamed,
        outcome=Outcome.ERROR,
        also=("workload.expected",),
    ),
    Fault(
        id="residue",
        title="One tenant's data reaches the next tenant tenant tenant tenant tenant",
        must_trip="device.residue",
        corrupt=_leak,
        also=("gpu.reset_works",),
    ),
    Fault(
        id="residue-unlooked",
        title="Data remanence was not checked",
        must_trip="device.residue",
        corrupt=lambda e: with_guest(e, _handed_on(e), residue=()),
        outcome=None,
    ),
    Fault(
        id="guest-oops",
        title="The guest's kernel faulted",
        must_trip="guest.kernel_log",
        corrupt=lambda e: with_guest(e, kernel_log=("BUG: unable to handle page fault for address: 0",)),
    ),
    Fault(
        id="driver-not-back",
        title="A device did not return to its driver",
        must_trip="release.devices",
        corrupt=lambda e: _device(e, driver_after="vfio-pci"),
    ),
    Fault(
        id="device-not-back",
        title="A device is gone after the guest",
        must_trip="release.devices",
        corrupt=lambda e: _device(e, present=False, config_ok=None),
    ),
    Fault(
        id="device-unlooked",
        title="The devices were not read after the guest",
        must_trip="release.devices",
        corrupt=lambda e: with_release(e, devices=()),
        outcome=None,
    ),
    Fault(
        id="reset-method-lost",
        title="A device lost its reset method",
        must_trip="release.devices",
        corrupt=lambda e: _device(e, reset_methods_after=()),
    ),
    Fault(
        id="hugepage-leak",
        title="A hugepage was not freed",
        must_trip="release.memory",
        corrupt=_leaked_pages,
    ),
    Fault(
        id="hugepages-unread",
        title="Free hugepages were not read after the guest",
        must_trip="release.memory",
        corrupt=lambda e: with_release(e, hugepages_after={}),
        outcome=None,
    ),
    Fault(
        id="process-left",
        title="A QEMU process is left",
        must_trip="release.leftovers",
        corrupt=lambda e: with_release(e, leftover_processes=("1234 qemu-system-x86_64",)),
    ),
    Fault(
        id="forced-off",
        title="The guest had to be destroyed",
        must_trip="release.orderly",
        corrupt=lambda e: with_release(e, forced=True),
    ),
    Fault(
        id="ended-by-itself",
        title="The guest ended before it was asked to shut down",
        must_trip="release.orderly",
        corrupt=lambda e: with_release(e, ended_before=True),
        also=("guest.alive",),
    ),
    Fault(
        id="release-step-failed",
        title="A step of the release failed",
        must_trip="release.orderly",
        corrupt=lambda e: with_release(e, problems=("stop network n1: connection lost",)),
    ),
    Fault(
        id="release-unknown",
        title="A guest's release was not recorded",
        must_trip="release.devices",
        corrupt=lambda e: with_guest(e, release=None),
        outcome=None,
        also=("guest.alive", "release.memory", "release.leftovers", "release.orderly"),
    ),
    Fault(
        id="unlisted-device",
        title="The release read other devices than were assigned",
        must_trip="release.devices",
        corrupt=lambda e: _device(e, device=PciAddress(0, 0xEE, 0, 0)),
        outcome=None,
    ),
)
