"""``shakedown qualify``: the main job, from a host's name to a verdict and its reports."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from harness import config
from harness.backends.clock import SystemClock
from harness.errors import ConfigError
from harness.model.evidence import Reference, StageError
from harness.model.guest import AttachMode, GuestRequest
from harness.model.inventory import HostFile, Profile
from harness.model.outcome import Severity
from harness.model.record import RunRecord
from harness.model.standin import StandinScenario
from harness.progress import Progress
from harness.record.assemble import assemble, run_inputs
from harness.record.directory import RunDirectory
from harness.record.events import read_events
from harness.record.judge import finish
from harness.record.recorder import Recorder
from harness.record.reference import read_reference
from harness.record.room import require_room
from harness.stages.given import GuestDemand, Session
from harness.stages.session import run_session
from harness.verdict.tally import tally
from reports import render_all

MOST_GPUS = 16
"""Planner and bus layout are made and tested for guests of up to 16 GPUs."""

_LINE = 300
_REASONS = 12
_ERRORS = 5
_MISSING = " is missing: "
"""How ``harness.verdict.decide`` words a required check without an answer."""
_WAIT_SECONDS = 24 * 3600.0


def run(
    *,
    host: str,
    profile: str = "",
    attach: str = "",
    gpus: str = "",
    compare: Path | None = None,
    runs: Path = Path("runs"),
    json_output: bool = False,
    dry_run: bool = False,
    wait: bool = False,
    resume: Path | None = None,
) -> int:
    """Qualify ``host``; returns the verdict's exit status.

    Raises ConfigError for an unknown host, profile or guest size, RecordError when the record cannot be
    written. Everything that goes wrong with the host itself ends in a verdict.
    """
    clock = SystemClock()
    progress = Progress()
    try:
        if resume is not None:
            session = _resumed(resume, clock, progress, wait)
        else:
            host_file, demand = config.load_host(host), choose_profile(profile, attach)
            reference = None if compare is None else read_reference(compare)
            demand = demand if reference is None else with_comparison(demand)
            demands = choose_guests(demand, gpus, expected_gpus=host_file.expected_gpus)
            if dry_run:
                return _dry_run(host_file, demand, demands, progress)
            session = _fresh(
                host_file,
                profile=demand,
                demands=demands,
                runs=runs,
                clock=clock,
                progress=progress,
                wait=wait,
                reference=reference,
            )
        begun = clock.monotonic()
        run_session(session)
        record = _conclude(session, progress)
        total = clock.monotonic() - begun
    finally:
        progress.done()
    _answer(session, record, total, json_output=json_output)
    return record.decision.verdict.exit_status


VIRTUALIZATION = "workload.virtualization"
DEFAULT_PROFILES = {AttachMode.VFIO: "smoke", AttachMode.BARE: "bare"}


def choose_profile(name: str, attach: str) -> Profile:
    """The profile of that name or path; without one, the shortest of the attach mode (``vfio`` unless said).

    Raises ConfigError for an unknown mode, and for a profile of another mode than the one asked for.
    """
    known = [mode.value for mode in AttachMode]
    if attach and attach not in known:
        raise ConfigError(f"--attach: {attach[:40]!r} is not one of {', '.join(known)}")
    mode = AttachMode(attach) if attach else None
    profile = config.load_profile(name or DEFAULT_PROFILES[mode or AttachMode.VFIO])
    if mode is not None and profile.attach is not mode:
        raise ConfigError(
            f"profile {profile.name} is for attach mode {profile.attach.value}, not {mode.value}",
            remedy=f"leave out --profile (that means {DEFAULT_PROFILES[mode]}), or give one of that mode",
        )
    return profile


def with_comparison(profile: Profile) -> Profile:
    """The profile with its guests held against a bare run. Raises ConfigError for a bare profile."""
    if profile.attach is AttachMode.BARE:
        raise ConfigError("--compare is for runs with guests: it holds them against a bare run")
    return replace(profile, checks={**profile.checks, VIRTUALIZATION: Severity.BLOCKER})


def choose_guests(
    profile: Profile, gpus: str, *, expected_gpus: int | None = None
) -> tuple[GuestDemand, ...]:
    """The guests to try: the profile's, or one for each number in ``gpus`` (``"1,2,4"``).

    A number the profile does not list gets its default workloads; one that it lists several times gets them
    in that order, the last from then on. A bare run has one, the machine with all the GPUs it should have.
    Raises ConfigError.
    """
    if profile.attach is AttachMode.BARE:
        if gpus:
            raise ConfigError("--gpus is about guests; a bare run takes the machine with all its GPUs")
        request = GuestRequest(name=AttachMode.BARE.value, gpus=expected_gpus or 0)
        return tuple(GuestDemand(request=request, workloads=spec.workloads) for spec in profile.guests)
    listed: dict[int, list[tuple[str, ...]]] = {}
    for spec in profile.guests:
        listed.setdefault(spec.gpus, []).append(spec.workloads)
    wanted = _numbers(gpus) or [spec.gpus for spec in profile.guests]
    demands = []
    for position, number in enumerate(wanted, start=1):
        due = listed.get(number, [profile.default_workloads])
        workloads = due.pop(0) if len(due) > 1 else due[0]
        request = GuestRequest(
            name=f"g{position}-{number}gpu",
            gpus=number,
            vcpus_per_gpu=profile.vcpus_per_gpu,
            memory_mib_per_gpu=profile.memory_mib_per_gpu,
        )
        demands.append(GuestDemand(request=request, workloads=workloads))
    return tuple(demands)


def _numbers(gpus: str) -> list[int]:
    return [_number(part.strip()) for part in gpus.split(",")] if gpus else []


def _number(text: str) -> int:
    # Two digits hold every number that is allowed, and no text so long that int() would refuse it.
    if not (text.isascii() and text.isdigit() and len(text) <= 2 and 1 <= int(text) <= MOST_GPUS):
        raise ConfigError(f"--gpus: {text[:40]!r} is not a number of GPUs from 1 to {MOST_GPUS}")
    return int(text)


def _fresh(
    host: HostFile,
    *,
    profile: Profile,
    demands: tuple[GuestDemand, ...],
    runs: Path,
    clock: SystemClock,
    progress: Progress,
    wait: bool,
    reference: Reference | None,
) -> Session:
    # Whatever is wrong with the inventory is wrong usage, before there is a run.
    skus, codes, standin = config.load_skus(), config.load_kernel_codes(), _standin(host)
    gpus = max((demand.request.gpus for demand in demands), default=0)
    require_room(runs, seconds=profile.burn_seconds * len(demands), gpus=max(gpus, host.expected_gpus or 0))
    recorder = Recorder.begin(
        runs,
        host=host,
        profile=profile,
        waivers=config.load_waivers(host.waivers),
        skus=skus,
        clock=clock,
        command=tuple(sys.argv),
        versions=_versions(),
    )
    progress(f"run {recorder.path}")
    if reference is not None:
        recorder.reference(reference)
    return Session(
        run=recorder.path.name,
        recorder=recorder,
        host=host,
        profile=profile,
        demands=demands,
        clock=clock,
        progress=progress,
        skus=skus,
        codes=codes,
        standin=standin,
        labs=config.load_lab,
        wait_seconds=_WAIT_SECONDS if wait else 0.0,
    )


def _resumed(path: Path, clock: SystemClock, progress: Progress, wait: bool) -> Session:
    """The session of a killed run: its guests that were not given back are tried again, from the start."""
    directory = RunDirectory.open(path)
    events = read_events(directory.events).events
    inputs, evidence = run_inputs(events), assemble(events)
    demands = tuple(
        GuestDemand(request=guest.request, workloads=guest.workloads)
        for guest in evidence.guests
        if guest.release is None
    )
    if read_events(directory.events).ended:
        raise ConfigError(f"{path} has ended: there is nothing to resume", remedy="start a new run")
    recorder = Recorder.resume(path, clock)
    progress(f"resuming run {recorder.path}: {len(demands)} guests are still to be tried")
    return Session(
        run=inputs.run,
        recorder=recorder,
        host=inputs.host,
        profile=inputs.profile,
        demands=demands,
        clock=clock,
        progress=progress,
        skus=inputs.skus,
        codes=config.load_kernel_codes(),
        standin=_standin(inputs.host),
        labs=config.load_lab,
        wait_seconds=_WAIT_SECONDS if wait else 0.0,
        resumed=True,
    )


def _standin(host: HostFile) -> StandinScenario | None:
    return config.load_standin(host.nvml_standin) if host.nvml_standin else None


def _dry_run(
    host: HostFile, profile: Profile, demands: tuple[GuestDemand, ...], progress: Callable[[str], None]
) -> int:
    from harness.stages.dry_run import changes  # noqa: PLC0415  only this way of calling needs it

    for line in changes(host, demands, progress, attach=profile.attach, labs=config.load_lab):
        sys.stdout.write(f"{line}\n")
    return 0


def _conclude(session: Session, progress: Progress) -> RunRecord:
    progress.stage("judge")
    record = finish(session.recorder)
    progress.stage("report")
    render_all(session.recorder.path, record)
    return record


def _versions() -> dict[str, str]:
    names = ("shakedown", "libvirt-python", "nvidia-ml-py", "pytest-testinfra", "pydantic")
    found = {"python": platform.python_version(), "controller": platform.platform()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _answer(session: Session, record: RunRecord, total: float, *, json_output: bool) -> None:
    seconds = {name: round(value, 3) for name, value in record.evidence.seconds.items()}
    if json_output:
        answer = {
            "run": str(session.recorder.path),
            "host": record.host.name,
            "verdict": record.decision.verdict.value,
            "checks": tally(record.decision.coverage),
            "seconds": {**seconds, "total": round(total, 3)},
        }
        sys.stdout.write(json.dumps(answer) + "\n")
        return
    sys.stdout.write(_words(session, record, total))


def _words(session: Session, record: RunRecord, total: float) -> str:
    decision = record.decision
    counts = tally(decision.coverage)
    lines = ["", f"{decision.verdict.value}  {record.host.name} ({record.host.subject.value})"]
    for error in record.evidence.errors[:_ERRORS]:
        lines += _broken(error, record.host.name)
    # What a broken or interrupted stage left unanswered is one line, not a hundred: the report lists each.
    broke = bool(record.evidence.errors) or record.evidence.interrupted
    missing = sum(1 for cell in decision.coverage if cell.outcome is None)
    told = [r for r in decision.reasons if not (broke and (_MISSING in r or r.startswith("stage ")))]
    lines += [f"  - {_plain(reason)}" for reason in told[:_REASONS]]
    if len(told) > _REASONS:
        lines.append(f"  ... and {len(told) - _REASONS} more reasons in the report")
    if broke and missing:
        lines.append(f"  - {missing} checks were left without an answer")
    lines.append("checks: " + ", ".join(f"{number} {name}" for name, number in counts.items()))
    required = sum(1 for cell in decision.coverage if cell.severity is Severity.BLOCKER)
    lines.append(f"        {required} of {len(decision.coverage)} required; {total:.0f} s in all")
    lines.append(f"report: {session.recorder.path / 'report.html'}")
    return "\n".join(lines) + "\n"


def _broken(error: StageError, host: str) -> list[str]:
    """Which stage broke where, what was said, what to do, and where the command and its output are."""
    where = " ".join(part for part in (error.subject, f"on {error.host or host}") if part)
    lines = [f"  - stage {error.stage or '?'} broke {_plain(where)}: {_plain(error.message)}"]
    if error.remedy:
        lines.append(f"    remedy: {_plain(error.remedy)}")
    if error.transcript:
        lines.append(f"    command and output: {_plain(error.transcript)}")
    return lines


def _plain(text: str) -> str:
    """One line for a terminal; the middle of a long one is left out: what went wrong stands at the ends."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= _LINE else f"{line[: _LINE // 2]} ... {line[-_LINE // 2 :]}"
