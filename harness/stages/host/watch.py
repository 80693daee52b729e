"""Watch the candidate host's own side while guests (or bare loads) run: one script on it, whose output comes
over as it grows, and ends when we do."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from harness.errors import HarnessError, ParseError
from harness.model.host_change import HostChange
from harness.model.inventory import TelemetrySpec
from harness.model.kernel_codes import KernelCodes
from harness.model.pci import PciAddress
from harness.model.telemetry import HostTelemetry
from harness.model.topology import HostFacts
from harness.regular import open_regular
from harness.stages.claimed_host import ClaimedHost
from harness.stages.guest.provision import run_prefix
from harness.stages.host.arrivals import Arrivals
from harness.telemetry.host.grounds import Grounds, GuestWindow
from harness.telemetry.host.lines import host_command, read_lines
from harness.telemetry.host.summary import summarize_host

FILE = "telemetry/host.spool.txt"
_SILENCE_PERIODS = 3.0
"""So many periods without a word of the follower are told: one slow sample is none."""


@contextmanager
def watched_host(host: ClaimedHost) -> Iterator[None]:
    """The follower for the length of a block, in which domains come and go.

    What it saw is recorded at the end. A follower that does not start, or is lost, ends nothing: what is
    missing then is missing in the record.
    """
    context = host.context
    devices = watched_devices(host.facts, tuple(gpu.address for gpu in host.gpus))
    period = context.profile.telemetry.host_period_seconds
    path = context.recorder.file_path(FILE)
    command = host_command(
        secrets.token_hex(8),
        period_seconds=period,
        devices=devices,
        ours="" if _bare(host) else run_prefix(context.run),
    )
    stream, why = None, ""
    arrivals = Arrivals(path, context.clock, longest=_SILENCE_PERIODS * period)
    try:
        stream = host.access.transport.stream(command, path)
    except HarnessError as error:
        why = f"the host cannot be watched: {error.message}"
        context.progress(why)
    try:
        if stream is not None:
            context.recorder.watch_begins(path)
            arrivals.begin()
        yield
    finally:
        if stream is not None:
            why = "" if stream.alive else f"the host's sampler ended by itself: {stream.errors()[:300]}"
            if stream.full:
                why = "the output of the host's sampler was cut off: it exceeds its share of the disk"
            stream.close()
        arrivals.close()
        context.recorder.host_telemetry(_summed_up(host, path, why, arrivals.silences))


def watched_devices(facts: HostFacts, gpus: tuple[PciAddress, ...]) -> tuple[PciAddress, ...]:
    """The GPUs, and the bridges and ports above them: a port counts errors that its card does not."""
    above = [port for gpu in gpus if (d := facts.device(gpu)) is not None for port in d.upstream]
    return tuple(dict.fromkeys((*gpus, *above)))


def read_watch(
    path: Path,
    *,
    spec: TelemetrySpec,
    facts: HostFacts | None,
    gpus: tuple[PciAddress, ...],
    windows: tuple[GuestWindow, ...],
    dedicated: Mapping[str, tuple[int, ...]],
    codes: KernelCodes,
    bare: bool,
    sharing: bool,
) -> HostTelemetry:
    """What a follower's output in ``path`` tells of the host. ``dedicated``: domain to the CPUs of its guest.

    Whoever was on the host before, by its facts, is readiness's to judge. Raises ParseError or OSError.
    """
    with open_regular(path) as lines:
        spool = read_lines(lines)
    before = facts.domains or () if facts is not None else ()
    holders = facts.device_holders or () if facts is not None else ()
    pids = (*(domain.pid for domain in before), *(holder.pid for holder in holders))
    known = {domain.name for domain in before} | {str(pid) for pid in pids if pid is not None}
    return summarize_host(
        spool,
        period_seconds=spec.host_period_seconds,
        max_gap_seconds=spec.host_gap_seconds,
        devices=watched_devices(facts, gpus) if facts is not None else (),
        dedicated=dedicated,
        codes=codes,
        grounds=Grounds(
            windows=windows,
            domains=frozenset(dedicated),
            gpus=frozenset(gpus),
            known=frozenset(known),
            bare=bare,
            sharing=sharing,
        ),
    )


def _bare(host: ClaimedHost) -> bool:
    return not host.context.mode.in_guests


def _summed_up(host: ClaimedHost, path: Path, why: str, silences: tuple[HostChange, ...]) -> HostTelemetry:
    context = host.context
    period = context.profile.telemetry.host_period_seconds
    why_none = why or "no samples arrived"
    nothing = HostTelemetry(started=None, ended=None, period_seconds=period, detail=why_none)
    if not path.exists():
        return nothing
    file = context.recorder.adopt(path)
    try:
        found = read_watch(
            path,
            spec=context.profile.telemetry,
            facts=host.facts,
            gpus=tuple(gpu.address for gpu in host.gpus),
            windows=tuple(host.windows.values()),
            dedicated=host.dedicated,
            codes=context.codes,
            bare=_bare(host),
            sharing=context.host.allow_sharing,
        )
    except ParseError as error:
        return replace(nothing, spool=file, detail=f"{why or 'no output'}: {error.message}")
    problems = (*found.problems, why) if why else found.problems
    return replace(found, changes=(*found.changes, *silences), problems=problems, spool=file)
