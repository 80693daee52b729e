"""Run a guest's workloads, one after the other: each started by a key, waited for, collected, compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from harness.errors import HarnessError, ParseError, WorkloadError
from harness.model.evidence import WorkloadResult
from harness.model.inventory import Profile
from harness.model.pci import PciAddress
from harness.model.placement import ObservedPlacement, PlacementPlan
from harness.ports import Clock, CommandResult, Transport
from harness.record.recorder import Recorder
from harness.stages.boundary import stage_error
from harness.workloads import (
    GuestDevice,
    Job,
    Place,
    Workload,
    device,
    install,
    judge,
    payload_tar,
    runs,
    workload,
)

_SLICE_SECONDS = 20
"""How long one wait may block in the guest: progress is shown in between."""

_ROUND_TRIP_SECONDS = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Burn:
    """What the burn of one guest needs."""

    run: str
    guest: str
    workloads: tuple[str, ...]
    plan: PlacementPlan
    observed: ObservedPlacement | None
    """None when the placement could not be read: then nobody knows which device is which."""
    profile: Profile
    recorder: Recorder
    clock: Clock
    progress: Callable[[str], None]
    planted: set[PciAddress] = field(default_factory=set)
    """Devices in which an earlier tenant of this run left its pattern; grows as guests come and go."""


def burn(task: Burn, connection: Transport) -> None:
    """Run every workload and record what each brought back. One that breaks does not end the others.

    Raises TransportError when the payload cannot be put into the guest.
    """
    _put_payload(connection, Place())
    for name in task.workloads:
        try:
            _run(task, connection, workload(name))
        except HarnessError as error:
            task.recorder.error(stage_error(error, f"burn {name}", task.guest))
            task.progress(f"{name} broke: {error.message}")


def _run(task: Burn, connection: Transport, load: Workload) -> None:
    job = Job(
        key=f"{task.run}-{task.guest}-{load.name}",
        guest=task.guest,
        tenant=f"{task.run}/{task.guest}",
        vcpus=len(task.plan.vcpupin),
        devices=_devices(task),
        parameters=task.profile.workload_parameters.get(load.name, {}),
    )
    task.progress(f"{load.name}: {load.title}")
    begun = task.clock.monotonic()
    started = connection.run(
        runs.start(job, load.prepare(job)),
        deadline=_ROUND_TRIP_SECONDS,
        label=f"{job.guest}-{load.name}-start",
    )
    status = runs.parse_status(_output(started, "start"), job.key)
    deadline = task.profile.workload_deadline_seconds
    while status.state == "running":
        waited = task.clock.monotonic() - begun
        if waited > deadline:
            task.progress(f"{load.name}: over its {deadline:.0f} s, stopping it")
            connection.run(
                runs.stop(job), deadline=_ROUND_TRIP_SECONDS, label=f"{job.guest}-{load.name}-stop"
            )
            break
        task.progress(f"waiting for {load.name}: {waited:.0f} s of at most {deadline:.0f} s")
        answer = connection.run(runs.wait(job, _SLICE_SECONDS), deadline=_SLICE_SECONDS + _ROUND_TRIP_SECONDS)
        status = runs.parse_status(_output(answer, "wait"), job.key)
    collected = connection.run(
        runs.collect(job), deadline=_ROUND_TRIP_SECONDS, label=f"{job.guest}-{load.name}"
    )
    result = judge(
        load,
        job,
        _output(collected, "collect"),
        limits=task.profile.limits,
        transcript=collected.transcript,
    )
    task.recorder.workload(result)
    if load is device.WORKLOAD and result.status == "done":
        output = runs.parse_collected(collected.stdout, job.key).stdout
        for trial in device.residue_trials(job, output, task.planted):
            task.recorder.residue(task.guest, trial)
        task.planted.update(device.planted(job, output))
    task.progress(f"{load.name}: {_words(result)}")


def _output(result: CommandResult, verb: str) -> bytes:
    if result.status != 0:
        words = result.complaint[:400]
        raise WorkloadError(
            f"the guest's job runner could not {verb} (exit status {result.status}): {words}",
            remedy="see the transcript; a user's own image must hold sh, flock, setsid and python3",
            transcript=result.transcript,
        )
    return result.stdout


def _devices(task: Burn) -> tuple[GuestDevice, ...]:
    """The handed-over functions as the guest sees them, by the identity map: never by enumeration order."""
    if task.observed is None:
        return ()
    gpus = {gpu.host for gpu in task.plan.gpus}
    devices = []
    for seen in task.observed.gpus:
        if seen.guest is None or seen.guest_vendor_device is None:
            raise ParseError(
                f"{seen.host} was not found in the guest: its workloads cannot be aimed at it",
                remedy="see placement.devices in the report",
            )
        vendor, _, device = seen.guest_vendor_device.partition(":")
        devices.append(
            GuestDevice(
                address=seen.guest,
                vendor=vendor,
                device=device,
                host=seen.host,
                companion=seen.host not in gpus,
            )
        )
    return tuple(devices)


def _put_payload(connection: Transport, place: Place) -> None:
    result = connection.run(install(place), stdin=payload_tar(), deadline=120.0, label="payload")
    if result.status != 0:
        words = result.complaint[:400]
        raise WorkloadError(
            f"the workloads could not be put into the guest: {words}",
            remedy="the image needs tar and room in /opt",
        )


def _words(result: WorkloadResult) -> str:
    if result.status != "done":
        return f"{result.status}: {result.detail[:200]}"
    right = sum(1 for answer in result.answers if answer.ok)
    took = f" in {result.seconds:.0f} s" if result.seconds is not None else ""
    return f"{right} of {len(result.answers)} answers right{took} ({result.engine})"
