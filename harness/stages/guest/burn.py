"""Run the workloads of one guest (or of a bare machine), one after the other, in rounds until the burn time
is over: each started by a key, waited for, collected, compared."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from harness.errors import GuestDied, HarnessError, RecordError, WorkloadError
from harness.model.evidence import WorkloadResult
from harness.model.gpu import Cards
from harness.model.inventory import Profile
from harness.model.pci import PciAddress
from harness.model.sku import Sku
from harness.ports import Clock, CommandResult, Transport
from harness.record.recorder import Recorder
from harness.stages.boundary import stage_error
from harness.stages.guest.midway import Midway
from harness.workloads import runs
from harness.workloads.applicable import fitted
from harness.workloads.base import GuestDevice, Job, Place, Workload, gpus
from harness.workloads.device import answers as device
from harness.workloads.device import remanence as residue
from harness.workloads.device.spec import SPEC as DEVICE
from harness.workloads.files import install, payload_tar
from harness.workloads.judge import judge
from harness.workloads.registry import NAMES, workload
from harness.workloads.spec import Scalar

_SLICE_SECONDS = 20
"""How long one wait may block in the guest: progress is shown in between."""

_ROUND_TRIP_SECONDS = 90.0
_CATCHING_UP_SECONDS = 5 * _ROUND_TRIP_SECONDS
"""How much longer rounds may go on by our clock than by that of the loads: what starting the first load and
hearing of the last one can take at most."""

_OLDEST_PYTHON = (3, 10)
"""What the payload's scripts need (``zip(strict=True)``); they are tested with 3.11. With an older one each
load would end by an error of its own, which reads like a fault of the machine."""
_WHICH_PYTHON = "import sys; print(*sys.version_info[:2])"


@dataclass(frozen=True, slots=True, kw_only=True)
class Burn:
    """What the burn of one guest needs."""

    run: str
    guest: str
    workloads: tuple[str, ...]
    vcpus: int
    devices: tuple[GuestDevice, ...]
    """As the guest sees them; see ``harness.stages.guest.devices``."""
    cards: Cards
    """The same by both sides' addresses: results are recorded by the host's."""
    profile: Profile
    recorder: Recorder
    clock: Clock
    progress: Callable[[str], None]
    place: Place = Place()
    models: tuple[Sku | None, ...] = ()
    """Of the GPUs; None for one that no inventory file describes."""
    absent: Callable[[str], str] = lambda _name: ""
    """Why a workload is not run: the GPU model is declared not to have its engine. Empty: it is run."""
    results: list[WorkloadResult] = field(default_factory=list)
    """Grows while the loads run."""
    planted: set[PciAddress] = field(default_factory=set)
    """Devices in which an earlier tenant of this run left its pattern; grows as guests come and go."""
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set when the run ends early, while loads of several guests run beside each other."""
    in_the_middle: Callable[[], None] = lambda: None
    """Called once, when half of the burn is over, beside a load that runs where one does."""
    meanwhile: Callable[[], None] = lambda: None
    """Called again and again while a load runs."""


def longest_seconds(profile: Profile, workloads: tuple[str, ...]) -> float:
    """More than a burn can take: its time, and a round that begins at the end of it with each load to its
    deadline. What is started for the length of a burn ends by itself after that, should nobody end it."""
    each = profile.workload_deadline_seconds + _SLICE_SECONDS + 5 * _ROUND_TRIP_SECONDS
    catching_up = _CATCHING_UP_SECONDS if profile.burn_seconds else 0.0
    return profile.burn_seconds + catching_up + each * max(1, len(workloads))


def burn(task: Burn, connection: Transport) -> None:
    """Run every workload, whose payload is there (``put_payload``), and record what each brought back. One
    that breaks does not end the others, but no further round begins after it. Raises GuestDied.

    Rounds go on until the loads' own clocks show the time that the profile demands: by them it is judged
    (``workload.burn_time``): on a busy machine it takes seconds to start the first and to hear of the last.
    """
    begun, due = task.clock.monotonic(), task.profile.burn_seconds
    midway = Midway(task.in_the_middle, task.clock, seconds=due, loads=len(task.workloads))
    task = replace(task, meanwhile=midway.pass_by)
    number = 0
    whole = not task.cancelled.is_set()
    while whole and (not number or another_round(task.results, task.clock.monotonic() - begun, due)):
        number += 1
        if task.profile.burn_seconds:
            spent = task.clock.monotonic() - begun
            task.progress(f"round {number}, {spent:.0f} s of {task.profile.burn_seconds:.0f} s")
        tried = []
        for at, name in enumerate(task.workloads, 1):
            left = f"; then {', '.join(task.workloads[at:])}" if task.workloads[at:] else ""
            task.progress(f"load {at} of {len(task.workloads)}: {name}{left}")
            midway.load_starts()
            tried.append(_attempt(task, connection, name, number))
            midway.pass_by()
        found = [result for result in tried if result is not None]
        # A round in which nothing ran would come again at once, for hours.
        whole = len(found) == len(tried) and any(result.status == "done" for result in found)
        whole = whole and all(result.status in ("done", "not_applicable") for result in found)


def another_round(results: Sequence[WorkloadResult], spent: float, due: float) -> bool:
    """Whether another round is due ``spent`` seconds, by our clock, after the first began.

    Loads whose clocks stand still, or which tell none, are not waited for without end.
    """
    timed = [(r.started, r.ended) for r in results if r.started is not None and r.ended is not None]
    ran = max(end for _, end in timed) - min(start for start, _ in timed) if timed else due
    return spent < due or (ran < due and spent < due + _CATCHING_UP_SECONDS)


def _attempt(task: Burn, connection: Transport, name: str, number: int) -> WorkloadResult | None:
    if task.cancelled.is_set():
        return None
    try:
        result = _run(task, connection, workload(name), number)
    except (RecordError, GuestDied):
        raise
    except HarnessError as error:
        task.recorder.error(stage_error(error, f"burn {name}", task.guest))
        task.progress(f"{name} broke: {error.message}")
        return None
    task.results.append(result)
    return result


def leave(task: Burn, connection: Transport) -> None:
    """Leave this tenant's word in the memory of its GPUs, for the next tenant to look for.

    Call it when the loads are over and nobody watches any more: it holds all memory until the guest is
    switched off. Where it cannot be left that is recorded; then nobody can say what the next tenant got.
    Raises GuestDied.
    """
    if DEVICE.name not in task.workloads:
        return
    job = _job(task, DEVICE.name, "leave")
    argv = residue.leaving(job)
    if not argv:
        return
    # What an earlier tenant left, this one has looked for; from here on the next one's find is its own doing.
    task.planted.difference_update(gpu.host for gpu in gpus(job))
    try:
        _await(task, connection, "leave", job, argv)
        label = f"{job.guest}-leave"
        collected = connection.run(runs.collect(job), deadline=_ROUND_TRIP_SECONDS, label=label)
        output = runs.parse_collected(
            _output(collected, "collect"), job.key, runs.nonce_of(collected.argv)
        ).stdout
        held, why = residue.left(job, output)
    except GuestDied:
        raise
    except HarnessError as error:
        task.recorder.error(stage_error(error, "leave", task.guest))
        task.progress(f"no canary was written to the GPUs for the next tenant: {error.message}")
        return
    task.planted.update(held)
    task.progress(
        f"wrote a canary to the memory of {len(held)} GPUs"
        + (f"; not in {task.cards.on_host(why)}" if why else "")
    )


def _run(task: Burn, connection: Transport, load: Workload, number: int) -> WorkloadResult:
    again = f"-r{number}" if number > 1 else ""
    job = _job(task, load.spec.name, f"{load.spec.name}{again}")
    why = task.absent(load.spec.name)
    if why:
        task.progress(f"{load.spec.name} is not run: {why}")
        result = WorkloadResult(
            workload=load.spec.name,
            guest=job.guest,
            engine="",
            key=job.key,
            status="not_applicable",
            round=number,
            detail=why,
        )
        task.recorder.workload(result)
        return result
    task.progress(f"{load.spec.name}: {load.spec.title}")
    _await(task, connection, load.spec.name, job, load.prepare(job))
    collected = connection.run(
        runs.collect(job), deadline=_ROUND_TRIP_SECONDS, label=f"{job.guest}-{load.spec.name}{again}"
    )
    result = judge(
        load,
        job,
        _output(collected, "collect"),
        limits=task.profile.limits,
        transcript=collected.transcript,
        nonce=runs.nonce_of(collected.argv),
    )
    result = replace(on_host(result, task.cards), round=number)
    task.recorder.workload(result)
    if load is device.WORKLOAD and result.status == "done":
        output = runs.parse_collected(collected.stdout, job.key).stdout
        fresh = number == 1 and load.spec.name == task.workloads[0]
        for trial in device.residue_trials(job, output, task.planted, fresh=fresh):
            task.recorder.residue(task.guest, replace(trial, detail=task.cards.on_host(trial.detail)))
        task.planted.update(device.planted(job, output))
    task.progress(f"{load.spec.name}: {_words(result)}")
    return result


def on_host(result: WorkloadResult, cards: Cards) -> WorkloadResult:
    """The result of a load with each GPU as the candidate host calls it, in figures and in every word.

    Payloads know the addresses of their own machine only; the transcript keeps what they said.
    """
    named = cards.on_host
    return replace(
        result,
        detail=named(result.detail),
        measurements=tuple(replace(m, subject=named(m.subject)) for m in result.measurements),
        answers=tuple(
            replace(
                answer,
                name=named(answer.name),
                expected=named(answer.expected),
                got=named(answer.got),
                detail=named(answer.detail),
            )
            for answer in result.answers
        ),
    )


def _job(task: Burn, name: str, key: str) -> Job:
    """A job with the parameters of the workload of that name."""
    return Job(
        key=f"{task.run}-{task.guest}-{key}",
        guest=task.guest,
        tenant=f"{task.run}/{task.guest}",
        vcpus=task.vcpus,
        devices=task.devices,
        parameters=_parameters(task, name),
        siblings={each: _parameters(task, each) for each in _with_parameters(task)},
        place=task.place,
    )


def _parameters(task: Burn, name: str) -> dict[str, Scalar]:
    return fitted(name, task.models, task.profile.workload_parameters)


def _with_parameters(task: Burn) -> tuple[str, ...]:
    """Every workload by name, and those of a mix that the profile gives parameters of their own."""
    return tuple(dict.fromkeys((*NAMES, *task.profile.workload_parameters)))


def _await(task: Burn, connection: Transport, name: str, job: Job, payload: tuple[str, ...]) -> None:
    """Start the job, unless it is there already, and see it end or stop it at its deadline."""
    begun = task.clock.monotonic()
    started = connection.run(
        runs.start(job, payload),
        deadline=_ROUND_TRIP_SECONDS,
        label=f"{job.guest}-{name}-start",
    )
    status = runs.parse_status(_output(started, "start"), job.key, runs.nonce_of(started.argv))
    deadline = task.profile.workload_deadline_seconds
    while status.state == "running":
        if task.cancelled.is_set():
            raise WorkloadError(f"{name} was abandoned: the run ends early")
        task.meanwhile()
        waited = task.clock.monotonic() - begun
        if waited > deadline:
            task.progress(f"{name}: exceeded {deadline:.0f} s, stopping it")
            connection.run(runs.stop(job), deadline=_ROUND_TRIP_SECONDS, label=f"{job.guest}-{name}-stop")
            break
        task.progress(f"waiting for {name}: {waited:.0f} s of at most {deadline:.0f} s")
        answer = connection.run(runs.wait(job, _SLICE_SECONDS), deadline=_SLICE_SECONDS + _ROUND_TRIP_SECONDS)
        status = runs.parse_status(_output(answer, "wait"), job.key, runs.nonce_of(answer.argv))


def _output(result: CommandResult, verb: str) -> bytes:
    if result.status != 0:
        words = result.complaint[:400]
        raise WorkloadError(
            f"the guest's job runner could not {verb} (exit status {result.status}): {words}",
            remedy="read the command log; a guest image of your own must contain sh, flock, setsid and "
            "python3",
            transcript=result.transcript,
        )
    return result.stdout


def put_payload(connection: Transport, place: Place) -> None:
    """Unpack the payload where ``place`` says. Raises WorkloadError or TransportError."""
    result = connection.run(install(place), stdin=payload_tar(), deadline=120.0, label="payload")
    if result.status != 0:
        words = result.complaint[:400]
        raise WorkloadError(
            f"the workloads could not be copied into {place.payload}: {words}",
            remedy="the machine needs tar, disk space and write permission there",
        )


def require_python(connection: Transport, place: Place) -> None:
    """Raises WorkloadError where the loads' Python is missing or too old: then no load can say anything."""
    result = connection.run((place.python, "-I", "-S", "-c", _WHICH_PYTHON), label="python")
    wanted = ".".join(map(str, _OLDEST_PYTHON))
    version = result.text.split() if result.status == 0 else []
    known = len(version) == 2 and all(word.isdecimal() for word in version)
    if known and (int(version[0]), int(version[1])) >= _OLDEST_PYTHON:
        return
    told = f"is Python {'.'.join(version)}" if known else f"does not run: {result.complaint[:300]}"
    raise WorkloadError(
        f"{place.python} {told}; the loads need {wanted} or newer",
        remedy="install it there (Debian, Ubuntu: apt-get install python3); the loads use no other Python "
        "Python",
        transcript=result.transcript,
    )


def _words(result: WorkloadResult) -> str:
    if result.status != "done":
        return f"{result.status}: {result.detail[:200]}"
    right = sum(1 for answer in result.answers if answer.ok)
    took = f" in {result.seconds:.0f} s" if result.seconds is not None else ""
    return f"{right} of {len(result.answers)} answers correct{took} ({result.engine})"
