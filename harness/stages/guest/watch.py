"""Watch the loads of one guest (or of a bare machine): the sampler starts before the first of them, its spool
comes over as it grows, and what it saw is summed up when they are over."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from harness.backends import parquet
from harness.backends.stream import rest_of_file
from harness.errors import HarnessError, ParseError, WorkloadError
from harness.model.evidence import WorkloadResult
from harness.model.gpu import Cards
from harness.model.inventory import TelemetrySpec
from harness.model.kernel_codes import KernelCodes
from harness.model.telemetry import GuestTelemetry
from harness.record.recorder import Recorder
from harness.regular import open_regular
from harness.stages.following import Following, StreamingTransport
from harness.telemetry.gpu.gaps import windows
from harness.telemetry.gpu.spool import read_spool
from harness.telemetry.gpu.spool_lines import Spool
from harness.vendors.sampler import LIBRARY_LINE, SAMPLER
from harness.vendors.standin import SCENARIO_VARIABLE
from harness.workloads import runs
from harness.workloads.base import Job, Place, started

_START_SECONDS = 45
"""How long the sampler may take to have asked the driver: on an emulated guest Python alone takes seconds."""
_ROUND_TRIP_SECONDS = 90.0
_STOP_GRACE_SECONDS = 10

_MAKE = 'umask 077 && mkdir -p -- "${1%/*}" && cat > "$1"'
_AWAIT = r"""
left=$2
while [ "$left" -gt 0 ]; do
    grep -qs "\"type\":\"$3\"" "$1" && exit 0
    left=$((left - 1)); sleep 1
done
exit 1
"""
"""Blocks until the sampler has asked the driver, or that many seconds passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayedLibrary:
    """Where the stand-in's library lies on the loads' machine, and what it is to play."""

    library: str
    scenario: bytes
    kmsg: str = ""
    """File that stands for the kernel log, where the real one is not for the stand-in to write to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What watching one guest needs."""

    run: str
    guest: str
    spec: TelemetrySpec
    codes: KernelCodes
    recorder: Recorder
    progress: Callable[[str], None]
    place: Place = Place()
    binding: str = "/usr/lib/python3/dist-packages"
    """Folder on the loads' machine that holds the library's binding; where it does not, no GPU is asked."""
    seconds: float
    """After which the sampler ends by itself: a controller that was killed leaves it running, and without a
    VM it would for as long as the machine does."""
    cards: Cards
    """The devices of the loads' machine, by both sides' addresses."""
    standin: PlayedLibrary | None = None

    @property
    def spool(self) -> str:
        """The sampler's file on the loads' machine."""
        return f"{self.place.work}/telemetry/{self.guest}.jsonl"

    @property
    def scenario(self) -> str:
        """The stand-in's file there."""
        return f"{self.place.work}/telemetry/{self.guest}.scenario"

    @property
    def file(self) -> str:
        """The spool in the run directory."""
        return f"telemetry/{self.guest}.spool.jsonl"

    @property
    def job(self) -> Job:
        """The sampler as a keyed job."""
        return Job(key=f"{self.run}-{self.guest}-sampler", guest=self.guest, tenant="", place=self.place)


@contextmanager
def watched(watch: Watch, connection: StreamingTransport, results: list[WorkloadResult]) -> Iterator[None]:
    """The sampler for the length of a block in which ``results`` grows by the loads that ran.

    Telemetry is recorded at its end, however it ends. A sampler that does not start, or a spool that cannot
    be fetched, ends no load: what is missing then is missing in the record.
    """
    path = watch.recorder.file_path(watch.file)
    stream, why = None, ""
    try:
        stream = _start(watch, connection, path)
    except HarnessError as error:
        why = f"the sampler could not be started: {error.message}"
        watch.progress(why)
    try:
        if stream is not None:
            watch.recorder.watch_begins(path, watch.guest)
        yield
    finally:
        if stream is not None:
            why = _stop(watch, connection, stream, path) or why
        watch.recorder.telemetry(_summed_up(watch, path, results, why))


def sampler_argv(watch: Watch) -> tuple[str, ...]:
    """The sampler's command line; with the stand-in, its scenario in the environment."""
    arguments: dict[str, str | float] = {
        "spool": watch.spool,
        "fast_hz": watch.spec.fast_hz,
        "slow_hz": watch.spec.slow_hz,
        "seconds": watch.seconds,
        "jobs": watch.place.jobs,
        "binding": watch.binding,
        "library": watch.standin.library if watch.standin is not None else "",
    }
    if watch.standin is not None and watch.standin.kmsg:
        arguments["kmsg"] = watch.standin.kmsg
    script = started(watch.place, SAMPLER, arguments)
    if watch.standin is None:
        return script
    return ("/usr/bin/env", f"{SCENARIO_VARIABLE}={watch.scenario}", *script)


def _start(watch: Watch, connection: StreamingTransport, path: Path) -> Following:
    scenario = watch.standin.scenario if watch.standin is not None else b""
    made = connection.run(
        ("sh", "-c", _MAKE, "make", watch.scenario),
        stdin=scenario,
        deadline=_ROUND_TRIP_SECONDS,
        label=f"{watch.guest}-sampler-scenario",
    )
    if made.status != 0:
        raise WorkloadError(f"{watch.scenario} could not be written: {made.complaint[:300]}")
    started = connection.run(
        runs.start(watch.job, sampler_argv(watch)),
        deadline=_ROUND_TRIP_SECONDS,
        label=f"{watch.guest}-sampler-start",
    )
    if started.status != 0:
        raise WorkloadError(f"the job runner refused the sampler: {started.complaint[:300]}")
    connection.run(
        ("sh", "-c", _AWAIT, "await", watch.spool, str(_START_SECONDS), LIBRARY_LINE),
        deadline=_START_SECONDS + _ROUND_TRIP_SECONDS,
        label=f"{watch.guest}-sampler-ready",
    )
    return Following(connection, watch.spool, path)


def _stop(watch: Watch, connection: StreamingTransport, stream: Following, path: Path) -> str:
    """End the sampler and fetch what the stream did not bring; returns what went wrong, or nothing."""
    try:
        ended = connection.run(
            runs.stop(watch.job, grace=_STOP_GRACE_SECONDS),
            deadline=_ROUND_TRIP_SECONDS,
            label=f"{watch.guest}-sampler-stop",
        )
        stream.close()
        have = path.stat().st_size if path.exists() else 0
        if stream.full:
            return f"the samples file was cut off after {have} bytes: later samples are lost"
        rest = connection.run(
            rest_of_file(watch.spool, have),
            deadline=_ROUND_TRIP_SECONDS,
            label=f"{watch.guest}-sampler-rest",
        )
        if rest.status == 0:
            with path.open("ab") as file:
                file.write(rest.stdout)
            return ""
        said = ended.complaint or rest.complaint
        return f"the last samples could not be fetched: {said[:300]}"
    except HarnessError as error:
        return f"the sampler was lost: {error.message}"
    finally:
        stream.close()


def _summed_up(watch: Watch, path: Path, results: list[WorkloadResult], why: str) -> GuestTelemetry:
    loads = windows(results)
    nothing = GuestTelemetry(guest=watch.guest, source="", loads=loads, detail=why or "no samples arrived")
    if not path.exists():
        return nothing
    file = watch.recorder.adopt(path)
    try:
        with open_regular(path) as lines:
            spool = read_spool(lines)
    except ParseError as error:
        return replace(nothing, spool=file, detail=f"{why or 'the samples file is empty'}: {error.message}")
    # numpy is imported where it is used: what is asked before any load need not wait for it.
    from harness.telemetry.gpu.summary import summarize  # noqa: PLC0415

    found = summarize(spool, loads, watch.spec, guest=watch.guest, cards=watch.cards, codes=watch.codes)
    problems = (*found.problems, why) if why else found.problems
    return replace(found, problems=problems, spool=file, parquet=_as_parquet(watch, spool))


def _as_parquet(watch: Watch, spool: Spool) -> str:
    """The samples as Parquet in the run directory; empty when the controller could not write it."""
    with contextlib.suppress(OSError):
        path = watch.recorder.file_path(f"telemetry/{watch.guest}.parquet")
        parquet.write(spool, path, guest=watch.guest, cards=watch.cards)
        return watch.recorder.adopt(path)
    return ""
