"""Kernels that report GPU faults while loads run, and hosts that nobody watched or that were not well."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.errors import ConfigError
from harness.faults.base import Fault
from harness.faults.telemetry import watched, with_telemetry
from harness.model.evidence import Evidence
from harness.model.outcome import Action, Outcome
from harness.model.telemetry import (
    Family,
    Gap,
    HostDeviceTelemetry,
    HostTelemetry,
    KernelEvent,
    KernelLog,
    Ruling,
)

_BUS_LINE = "NVRM: Xid (PCI:0000:05:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
_LINK_LINE = "NVRM: Xid (PCI:0000:05:00): 45, pid=4242, name=python3, Ch 00000010"
_NEW_LINE = "NVRM: Xid (PCI:0000:05:00): 999, something unknown"
_SWITCH_LINE = "nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30 LTSSM Fault Up"


def _event(line: str, ruling: Ruling, *, code: int, family: Family = Family.XID) -> KernelEvent:
    return KernelEvent(source="", at=None, family=family, line=line, code=code, ruling=ruling)


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


def _in_guest(evidence: Evidence, **changes: Any) -> Evidence:
    return with_telemetry(evidence, kernel=replace(_log(watched(evidence).kernel), **changes))


def _in_host(evidence: Evidence, **changes: Any) -> Evidence:
    return _with_host(evidence, kernel=replace(_log(_host(evidence).kernel), **changes))


def _device(evidence: Evidence, **changes: Any) -> Evidence:
    """The last sampled function, a port with a link, changed."""
    *rest, last = _host(evidence).devices
    changed: HostDeviceTelemetry = replace(last, **changes)
    return _with_host(evidence, devices=(*rest, changed))


FAULTS = (
    Fault(
        id="xid-stop",
        title="The guest's driver reports XID 79",
        must_trip="guest.gpu_errors",
        corrupt=lambda e: _in_guest(
            e,
            events=(replace(_event(_BUS_LINE, Ruling.STOP, code=79), action=Action.REPLACE_GPU),),
        ),
    ),
    Fault(
        id="xid-unknown",
        title="The guest's driver reports an unknown code",
        must_trip="guest.gpu_errors",
        corrupt=lambda e: _in_guest(e, events=(_event(_NEW_LINE, Ruling.UNKNOWN, code=999),)),
    ),
    Fault(
        id="xid-alone",
        title="A consequence appeared in the log without its cause",
        must_trip="guest.gpu_errors",
        corrupt=lambda e: _in_guest(e, events=(_event(_LINK_LINE, Ruling.LINK, code=45),)),
        outcome=Outcome.ERROR,
    ),
    Fault(
        id="guest-log-lost",
        title="The guest's kernel lost lines before they were read",
        must_trip="guest.gpu_errors",
        corrupt=lambda e: _in_guest(e, dropped=7),
        outcome=Outcome.ERROR,
    ),
    Fault(
        id="sxid-fatal",
        title="The host's NVSwitch driver reports a fatal SXid",
        must_trip="host.gpu_errors",
        corrupt=lambda e: _in_host(
            e, events=(_event(_SWITCH_LINE, Ruling.STOP, code=20034, family=Family.SXID),)
        ),
    ),
    Fault(
        id="host-log-unfollowed",
        title="The host's kernel log could not be followed",
        must_trip="host.gpu_errors",
        corrupt=lambda e: _in_host(e, followed_from=None, followed_to=None, detail="permission denied"),
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
