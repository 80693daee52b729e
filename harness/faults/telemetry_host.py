"""Kernels that report GPU faults while loads run, and hosts that nobody watched or that were not well."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.errors import ConfigError
from harness.faults.base import Fault
from harness.faults.telemetry import watched, with_telemetry
from harness.model.evidence import Evidence
from harness.model.outcome import Outcome
from harness.model.telemetry import (
    Gap,
    HostDeviceTelemetry,
    HostTelemetry,
    KernelLog,
)


def _host(evidence: Evidence) -> HostTelemetry:
    if evidence.host_telemetry is None:
        raise ConfigError("this evidence holds no telemetry of the host, so no fault can be put into it")
    return evidence.host_telemetry


def _with_host(evidence: Evidence, **changes: Any) -> Evidence:
    return replace(evidence, host_telemetry=replace(_host(evidence), **changes))


def _log(log: KernelLog | None) -> KernelLog:
    if log is None:
        raise ConfigError("this evidence holds no followed kernel log, so no fault can be put into it")
    return log


def with_guest_log(evidence: Evidence, **changes: Any) -> Evidence:
    """The evidence with fields of the first guest's followed kernel log changed."""
    return with_telemetry(evidence, kernel=replace(_log(watched(evidence).kernel), **changes))


def with_host_log(evidence: Evidence, **changes: Any) -> Evidence:
    """The evidence with fields of the host's followed kernel log changed."""
    return _with_host(evidence, kernel=replace(_log(_host(evidence).kernel), **changes))


def _device(evidence: Evidence, **changes: Any) -> Evidence:
    """The last sampled function, a port with a link, changed."""
    *rest, last = _host(evidence).devices
    changed: HostDeviceTelemetry = replace(last, **changes)
    return _with_host(evidence, devices=(*rest, changed))


FAULTS = (
    Fault(
        id="guest-log-lost",
        title="The guest's kernel lost lines before they were read",
        must_trip="guest.gpu_errors",
        corrupt=lambda e: with_guest_log(e, dropped=7),
        outcome=Outcome.ERROR,
    ),
    Fault(
        id="host-log-unfollowed",
        title="The host's kernel log could not be followed",
        must_trip="host.gpu_errors",
        corrupt=lambda e: with_host_log(e, followed_from=None, followed_to=None, detail="permission denied"),
        outcome=Outcome.ERROR,
    ),
    Fault(
        id="host-unwatched",
        title="The host was not watched while loads ran",
        must_trip="host.watched",
        corrupt=lambda e: replace(e, host_telemetry=None),
        outcome=None,
        also=("host.gpu_errors", "host.load_noise", "host.device_errors", "host.unchanged", "placement.kept"),
    ),
    Fault(
        id="host-gap",
        title="The host's samples have a gap",
        must_trip="host.watched",
        corrupt=lambda e: _with_host(e, gaps=(Gap(start=1100.0, end=1160.0, reason="no answer"),)),
        outcome=Outcome.ERROR,
    ),
    Fault(
        id="host-follower-lost",
        title="The host's sampler stopped before the loads ended",
        must_trip="host.watched",
        corrupt=lambda e: _with_host(e, closed=False, ended=1100.0),
        outcome=Outcome.ERROR,
        also=("host.gpu_errors", "host.load_noise", "host.device_errors", "host.unchanged", "placement.kept"),
    ),
    Fault(
        id="cpus-unseen",
        title="Tasks on a guest's cores were not recorded",
        must_trip="host.load_noise",
        corrupt=lambda e: _with_host(e, foreign_tasks={}),
        outcome=None,
    ),
    Fault(
        id="foreign-task",
        title="A host task ran on a guest's core",
        must_trip="host.load_noise",
        corrupt=lambda e: _with_host(e, foreign_tasks=_host(e).foreign_tasks | {"5": ("backup-agent",)}),
    ),
    Fault(
        id="stolen-time",
        title="A hypervisor above the host took CPU time",
        must_trip="host.load_noise",
        corrupt=lambda e: _with_host(e, steal_seconds={"0": 30.0}),
    ),
    Fault(
        id="surprise-down",
        title="A PCI function was missing in some samples and came back",
        must_trip="host.device_errors",
        corrupt=lambda e: _device(e, missing=3),
    ),
    Fault(
        id="lanes-lost-when-hot",
        title="A link lost lanes under load and recovered them",
        must_trip="host.device_errors",
        corrupt=lambda e: _device(e, width_min=8),
    ),
    Fault(
        id="errors-under-load",
        title="Correctable errors were counted under load, and reset afterwards",
        must_trip="host.device_errors",
        corrupt=lambda e: _device(e, aer={"correctable": 12}),
    ),
)
