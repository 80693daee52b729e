"""The candidate host's own side while loads ran: was it watched, was it quiet, did its devices stay well."""

from __future__ import annotations

from harness.checks.answers import error, failed, host_facts, listing, ok
from harness.checks.base import Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.model.outcome import Action, CheckResult, EvidenceRef, Measurement
from harness.model.pci import PciAddress
from harness.model.telemetry import HostDeviceTelemetry, HostTelemetry

STEAL_SHARE = 0.01
"""Share of a CPU's time that a hypervisor above may take: what the noise of a repeated benchmark hides anyway
(CV 1 %, statistics-and-faults §4). A real host has none."""


def _recorded(case: Case) -> HostTelemetry:
    host_facts(case)
    found = case.evidence.host_telemetry
    if found is None:
        raise MissingEvidence("the host was not watched while loads ran")
    if found.samples == 0:
        raise MissingEvidence(f"no sample was taken on the host: {found.detail or 'no reason was recorded'}")
    return found


def _whole(telemetry: HostTelemetry) -> None:
    """Nothing passes on half a watch. Raises MissingEvidence; ``host.watched`` says what is missing."""
    if not telemetry.closed:
        raise MissingEvidence("the host was not watched to the end (see host.watched)")


def _seconds(telemetry: HostTelemetry) -> float:
    if telemetry.started is None or telemetry.ended is None or telemetry.ended <= telemetry.started:
        raise MissingEvidence("it was not recorded how long the host was watched")
    return telemetry.ended - telemetry.started


def _spool(telemetry: HostTelemetry, place: str, quote: str = "") -> tuple[EvidenceRef, ...]:
    return (EvidenceRef(file=telemetry.spool or "run.json", place=place, quote=quote[:400]),)


def _watched(case: Case, _subject: Subject) -> CheckResult:
    telemetry = _recorded(case)
    lasted = _seconds(telemetry)
    faults = [
        f"no sample for {gap.seconds:.1f} s from {gap.start:.1f} s{f': {gap.reason}' if gap.reason else ''}"
        for gap in sorted(telemetry.gaps, key=lambda gap: -gap.seconds)
    ]
    if telemetry.problems:
        faults.append(f"the samples could not be read completely: {listing(telemetry.problems, most=3)}")
    evidence = _spool(telemetry, "host samples")
    if not telemetry.closed:
        faults.append(f"the host's sampler stopped by itself at {telemetry.ended:.0f} s")
    if faults:
        return error(
            f"the host was not watched all the time: {listing(faults, most=3)}",
            "check whether the host was overloaded or its connection lost at that time, and run again",
            evidence=evidence,
        )
    return ok(f"{telemetry.samples} samples in {lasted:.0f} s, no gap", evidence=evidence)


def _noise(case: Case, _subject: Subject) -> CheckResult:
    telemetry = _recorded(case)
    lasted = _seconds(telemetry)
    if not telemetry.steal_seconds:
        raise MissingEvidence("steal time was not read")
    cpu, worst = max(telemetry.steal_seconds.items(), key=lambda item: item[1])
    measured = (Measurement(name="host.steal_share", value=worst / lasted, unit="1", upper=STEAL_SHARE),)
    seen = telemetry.foreign_tasks
    found = [f"{listing(names, most=3)} on CPU {where}" for where, names in seen.items() if names]
    evidence = _spool(telemetry, "steal, tasks", listing(found))
    if found:
        return failed(
            f"host tasks ran on CPUs dedicated to a guest: {listing(found, most=4)}",
            "keep the host's own tasks off the guests' CPUs (isolcpus, cpusets of system.slice, IRQ and "
            "agent affinity); results measured meanwhile are not valid",
            Action.FIX_CONFIG,
            evidence=evidence,
            measurements=measured,
        )
    if worst / lasted > STEAL_SHARE:
        return failed(
            f"steal time: a hypervisor above the host took {worst:.1f} s of CPU {cpu} in {lasted:.0f} s",
            "the candidate host is itself a virtual machine and shares its CPUs: give it whole CPUs, or do "
            "not use its measurements",
            Action.FIX_CONFIG,
            evidence=evidence,
            measurements=measured,
        )
    _whole(telemetry)
    if not case.mode.in_guests:
        said = "negligible steal time; bare metal has no dedicated CPUs"
        return ok(said, evidence=evidence, measurements=measured)
    unseen = sorted(_dedicated(case) - {int(cpu) for cpu in seen if cpu.isdecimal()})
    if unseen:
        raise MissingEvidence(
            f"tasks on the guests' CPUs {listing(unseen)} were not recorded while the guests ran"
        )
    said = f"no foreign task on {len(seen)} dedicated CPUs, and negligible steal time"
    return ok(said, evidence=evidence, measurements=measured)


def _dedicated(case: Case) -> set[int]:
    """CPUs of the host that belonged to guests which were reached."""
    plans = (guest.plan for guest in case.evidence.guests if guest.reached)
    return {cpu for plan in plans if plan is not None for cpu in plan.vcpupin.values()}


def _device_errors(case: Case, _subject: Subject) -> CheckResult:
    """What only samples show: a function that was away, a link that lost lanes, errors while loads ran.

    ``gpu.aer`` compares the counters before and after; a reset in between sets them back to nothing.
    """
    telemetry = _recorded(case)
    sampled = {device.device: device for device in telemetry.devices if device.samples > 0}
    lost = [str(address) for address in _planned(case) if address not in sampled]
    away = [
        f"{device.device} was missing in {device.missing} of {device.samples + device.missing} samples"
        for device in telemetry.devices
        if device.missing
    ]
    narrow = [
        f"{device.device} fell from x{device.width_max} to x{device.width_min}"
        for device in telemetry.devices
        if device.width_min is not None
        and device.width_max is not None
        and device.width_min < device.width_max
    ]
    counted = [words for device in telemetry.devices if (words := _grown(device))]
    found = [*away, *narrow, *counted]
    evidence = _spool(telemetry, "pci devices", listing(found))
    if found:
        return failed(
            f"PCIe errors while loads ran: {listing(found)}",
            "reseat the card and its riser, look for dirt and bent pins, check the temperature at that "
            "time, then try another slot and another card",
            Action.RESEAT,
            evidence=evidence,
        )
    if lost:
        raise MissingEvidence(f"no sample was taken of {listing(lost)}")
    if not sampled:
        raise MissingEvidence("no PCI device of the host was sampled")
    _whole(telemetry)
    linked = sum(1 for device in sampled.values() if device.width_max is not None)
    counting = sum(1 for device in sampled.values() if device.aer)
    if not linked and not counting:
        raise MissingEvidence(f"none of {len(sampled)} functions reports its link width or AER counters")
    return ok(
        f"{len(sampled)} functions stayed present; {linked} report their link width and kept it, "
        f"{counting} have AER counters and counted no error",
        evidence=evidence,
    )


def _planned(case: Case) -> tuple[PciAddress, ...]:
    """GPUs that were handed to a guest, or burnt on the machine itself."""
    return tuple(dict.fromkeys(address for guest in case.evidence.guests for address in guest.gpus))


def _grown(device: HostDeviceTelemetry) -> str:
    grown = [f"{name} +{count}" for name, count in sorted(device.aer.items()) if count > 0]
    return f"{device.device} counted {listing(grown)}" if grown else ""


CHECKS = (
    Check(
        id="host.watched",
        title="Was the host itself watched while loads ran?",
        why="A guest cannot see errors of the host, and a gap in the samples looks like silence.",
        scope=Scope.HOST,
        phase=Phase.AFTERWARDS,
        judge=_watched,
    ),
    Check(
        id="host.load_noise",
        title="Were the guests' CPUs free of host tasks while loads ran?",
        why="A foreign task on a dedicated core makes a good card look slow, at random.",
        scope=Scope.HOST,
        phase=Phase.AFTERWARDS,
        judge=_noise,
    ),
    Check(
        id="host.device_errors",
        title="Did the devices stay present, at full link width and without errors, while loads ran?",
        why="A link that fails when hot has recovered before a later check.",
        scope=Scope.HOST,
        phase=Phase.AFTERWARDS,
        judge=_device_errors,
    ),
)
