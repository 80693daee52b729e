"""From a demand to an open run: inventory read, room found, the first event written."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from dataclasses import replace
from pathlib import Path

from harness.backends.clock import SystemClock
from harness.config import files as config
from harness.model.guest import most_at_once
from harness.model.inventory import HostFile, Waiver
from harness.model.kernel_codes import KernelCodes
from harness.model.sku import Sku
from harness.plugin.demand import Demand
from harness.ports import Clock
from harness.progress import Progress
from harness.record.attempts import History
from harness.record.disk_space import require_disk_space
from harness.record.events import read_events
from harness.record.recorder import Recorder
from harness.stages.context import RunContext
from harness.stages.recover import recover
from harness.vendors.names import PACKAGES
from harness.vendors.standin import StandinScenario

_WAIT_SECONDS = 24 * 3600.0


def begin(
    demand: Demand, *, runs: Path, progress: Progress, wait: bool
) -> tuple[RunContext, tuple[Waiver, ...]]:
    """What the stages are given, with an open record, and the waivers that may carry failures.

    Raises ConfigError, before there is a run, for inventory that is wrong, and RecordError when the record
    cannot be written or would not have room.
    """
    if demand.resume is not None and demand.history is not None:
        return _again(demand, demand.resume, demand.history, progress, wait)
    clock, host, profile = SystemClock(), demand.host, demand.profile
    skus, codes, standin = config.load_skus(), config.load_kernel_codes(), _standin(host)
    waivers = config.load_waivers(host.waivers)
    gpus = most_at_once((guest.group, guest.request.gpus) for guest in demand.guests)
    seconds = profile.burn_seconds * len(demand.groups)
    require_disk_space(runs, seconds=seconds, gpus=max(gpus, host.expected_gpus or 0))
    recorder = Recorder.begin(
        runs,
        host=host,
        profile=profile,
        waivers=waivers,
        skus=skus,
        guests=demand.guests,
        clock=clock,
        command=tuple(sys.argv),
        versions=_versions(),
    )
    progress(f"run {recorder.path}")
    if demand.reference is not None:
        recorder.reference(demand.reference)
    context = _context(
        demand, recorder, progress, wait=wait, clock=clock, skus=skus, codes=codes, standin=standin
    )
    return context, waivers


def _again(
    demand: Demand, path: Path, known: History, progress: Progress, wait: bool
) -> tuple[RunContext, tuple[Waiver, ...]]:
    """A killed run: what it was given stands in its first event."""
    clock = SystemClock()
    recorder = Recorder.resume(path, clock)
    # Read once it is ours alone. The last event is its own: what lies before it, the attempts before did.
    events = read_events(recorder.directory.events).events[:-1]
    history = known.after(events[demand.events :])
    inputs = history.inputs
    codes, standin = config.load_kernel_codes(), _standin(inputs.host)
    recover(
        recorder,
        events,
        seen=history.seen,
        done=demand.done,
        host=inputs.host,
        profile=inputs.profile,
        codes=codes,
    )
    left = len(demand.groups) - len(demand.done)
    progress(f"resuming run {recorder.path}: groups of guests (or bare metal) still to run: {left}")
    context = _context(
        demand, recorder, progress, wait=wait, clock=clock, skus=inputs.skus, codes=codes, standin=standin
    )
    # The key is the record's own word: its directory may have been moved.
    return replace(context, run=inputs.run, resumed=True), inputs.waivers


def _context(
    demand: Demand,
    recorder: Recorder,
    progress: Progress,
    *,
    wait: bool,
    clock: Clock,
    skus: tuple[Sku, ...],
    codes: KernelCodes,
    standin: StandinScenario | None,
) -> RunContext:
    return RunContext(
        run=recorder.path.name,
        recorder=recorder,
        host=demand.host,
        profile=demand.profile,
        demands=demand.guests,
        clock=clock,
        progress=progress,
        skus=skus,
        codes=codes,
        standin=standin,
        labs=config.load_lab,
        wait_seconds=_WAIT_SECONDS if wait else 0.0,
    )


def _standin(host: HostFile) -> StandinScenario | None:
    return config.load_standin(host.scenario) if host.scenario else None


def _versions() -> dict[str, str]:
    names = ("shakedown", "libvirt-python", *PACKAGES, "pytest", "pytest-testinfra", "pydantic")
    found = {"python": platform.python_version(), "controller": platform.platform()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
