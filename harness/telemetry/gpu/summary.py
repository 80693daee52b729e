"""A spool and the loads that ran meanwhile, summed up for the checks."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.model.gpu import Cards, GpuRef
from harness.model.inventory import TelemetrySpec
from harness.model.kernel_codes import KernelCodes
from harness.model.telemetry import Gap, GpuTelemetry, GuestTelemetry, KernelLog, LoadWindow
from harness.telemetry.gpu.gaps import Span, coverage, silences, union
from harness.telemetry.gpu.samples import Numbers, Read
from harness.telemetry.gpu.series_summary import reasons, reasons_worst, series_of
from harness.telemetry.gpu.slices import slices
from harness.telemetry.gpu.spool_lines import GpuSpool, HungCall, KernelLine, Spool
from harness.telemetry.gpu.view import View, median
from harness.telemetry.kernel.log import read_kernel
from harness.telemetry.kernel.text import with_facility

MOST_GAPS = 1000
"""Of one GPU that are kept; a sampler that limps along for days would fill the record."""
_LATE_SHOWN = 50
"""Calls that came back late which are told one by one."""
_ROUNDED = 0.0015
"""Seconds by which the ends of a gap may differ from the samples that they are."""
OWN_ENDS = ("SIGTERM", "SIGINT", "seconds")
"""Reasons of an end that was asked for."""


def summarize(
    spool: Spool,
    loads: Iterable[LoadWindow],
    spec: TelemetrySpec,
    *,
    guest: str,
    cards: Cards,
    codes: KernelCodes,
) -> GuestTelemetry:
    """All of it, as one guest's telemetry; the names of its files are the caller's to fill in.

    ``cards`` leads from the addresses that the guest uses to those of the host.
    """
    loads = tuple(loads)
    found = GuestTelemetry(
        guest=guest,
        source=spool.source,
        standin=spool.standin,
        driver=spool.driver,
        library=spool.library,
        fast_hz=spool.fast_hz,
        slow_hz=spool.slow_hz,
        started=spool.started,
        ended=spool.last if spool.ended is None else spool.ended,
        closed=spool.ended is not None and spool.end_reason in OWN_ENDS,
        loads=loads,
        gpus=tuple(_gpu(gpu, spool, loads, spec, cards) for gpu in spool.gpus),
        kernel=_kernel(spool, guest, codes, cards),
        hung=_late(spool),
        problems=spool.problems,
        cpu_seconds=spool.cpu_seconds,
        detail=spool.detail,
    )
    if found.detail:
        return found
    if not found.source:
        asked = "the GPU driver's library"
        return replace(found, detail=f"{asked} never answered" if found.hung else f"{asked} was never asked")
    return found if found.closed else replace(found, detail=spool.end_reason)


def _kernel(spool: Spool, guest: str, codes: KernelCodes, cards: Cards) -> KernelLog:
    told = read_kernel(((line.at, _as_written(line, spool)) for line in spool.kernel), guest, codes)
    until = spool.kernel_until if spool.kernel_until is not None else spool.ended
    return KernelLog(
        source=guest,
        followed_from=spool.kernel_from,
        followed_to=None if spool.kernel_from is None else spool.last if until is None else until,
        lines=len(spool.kernel),
        dropped=spool.kernel_dropped,
        events=tuple(event.on_host(cards) for event in told),
        detail=spool.kernel_error if spool.kernel_error or spool.kernel_from else "reading it never started",
    )


def _as_written(line: KernelLine, spool: Spool) -> str:
    """The line with who wrote it. A stand-in plays a driver and writes as the program that it is:
    where it is loaded, programs' lines count, and nowhere else."""
    return line.text if spool.standin else with_facility(line.text, line.facility)


def _late(spool: Spool) -> tuple[str, ...]:
    """All that never came back, and the first ones that did: a driver that is late every other second for a
    day would fill the record."""
    back = [call for call in spool.hung if call.returned is not None]
    told = [call for call in spool.hung if call.returned is None] + back[:_LATE_SHOWN]
    said = tuple(_hung(call, spool) for call in sorted(told, key=lambda call: call.at))
    more = len(back) - _LATE_SHOWN
    return said if more <= 0 else (*said, f"{more} more calls, each of which came back after its deadline")


def _hung(call: HungCall, spool: Spool) -> str:
    gpu = next((g for g in spool.gpus if g.index == call.gpu), None)
    on = "" if call.gpu is None else f" on GPU {call.gpu}"
    named = f" ({gpu.uuid})" if gpu is not None and gpu.uuid else ""
    back = f"; it came back after {call.seconds:.1f} s" if call.returned is not None else ""
    return f"{call.call}{on}{named} at {call.at:.1f} s{back}"


def _gpu(
    gpu: GpuSpool,
    spool: Spool,
    loads: tuple[LoadWindow, ...],
    spec: TelemetrySpec,
    cards: Cards,
) -> GpuTelemetry:
    spans = union(loads)
    # Two slow samples are due 1 / slow_hz apart, which may be all that the longest gap allows.
    slowest = max(spec.max_gap_seconds, _twice(spool.slow_hz))
    properties = _properties(gpu)
    view = View(
        fast=gpu.fast.read(),
        slow=gpu.slow.read(),
        spans=spans,
        longest=spec.max_gap_seconds,
        properties=properties | {"memory_bytes": gpu.memory_bytes},
    )
    seen = _answered(view.fast)
    covered = coverage(seen, spans, spec.max_gap_seconds)
    calls = sorted((call for call in spool.hung if call.gpu == gpu.index), key=lambda call: call.at)
    why = _Why(gpu=gpu, times=view.fast.times, calls=calls, spool=spool)
    watched = _whole_time(seen, spans, spec.max_gap_seconds)
    return GpuTelemetry(
        index=gpu.index,
        uuid=gpu.uuid,
        name=gpu.name,
        address=gpu.address,
        gpu=_ref(gpu, cards),
        pci_id=gpu.pci_id,
        subsystem=gpu.subsystem,
        serial=gpu.serial,
        vbios=gpu.vbios,
        memory_bytes=gpu.memory_bytes,
        properties=properties,
        series=series_of(gpu, view, slowest),
        changes=tuple(gpu.changes),
        settings_asked=gpu.settings_asked if gpu.settings else None,
        reasons=reasons(view),
        reasons_worst=reasons_worst(view),
        slices=slices(view, loads),
        idle_power=median(view.column("power"), view.fast.times < view.first) if spans else None,
        gaps=tuple(replace(gap, reason=why.of(gap)) for gap in watched.gaps[:MOST_GAPS]),
        longest_silence=watched.longest,
        span_seconds=watched.seconds,
        span_covered=watched.covered,
        load_seconds=covered.load,
        covered_seconds=covered.covered,
        vanished=_vanished(gpu, calls),
        unasked=_told(gpu.died),
        processes=tuple(sorted(gpu.foreign)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watched:
    """From the first load's begin to the last one's end."""

    seconds: float = 0.0
    covered: float = 0.0
    longest: float | None = None
    gaps: tuple[Gap, ...] = ()


def _whole_time(seen: Numbers, spans: tuple[Span, ...], most: float) -> _Watched:
    if not spans:
        return _Watched()
    first, last = spans[0][0], spans[-1][1]
    longest, gaps = silences(seen, first, last, most)
    found = coverage(seen, ((first, last),), most)
    return _Watched(seconds=found.load, covered=found.covered, longest=longest, gaps=gaps)


def _properties(gpu: GpuSpool) -> dict[str, float | str | bool | None]:
    """None says that the card does not have it; one whose question failed is not there at all."""
    return {
        name: value for name, value in gpu.properties.items() if value is not None or name not in gpu.errors
    }


def _twice(hz: float) -> float:
    return 2.0 / hz if hz > 0 else 0.0


def _ref(gpu: GpuSpool, cards: Cards) -> GpuRef | None:
    found = cards.seen_at(gpu.address)
    if found is None:
        return None
    return replace(found, uuid=gpu.uuid or found.uuid, serial=found.serial or gpu.serial or None)


def _answered(read: Read) -> Numbers:
    """Times of samples in which at least one sensor gave a value: a round of failures saw nothing."""
    if not read.columns:
        return read.times[:0]
    gave = np.zeros(len(read.times), dtype=np.bool_)
    for column in read.columns.values():
        gave |= ~np.isnan(column)
    return read.times[gave]


def _vanished(gpu: GpuSpool, calls: Sequence[HungCall]) -> str:
    return _told([*gpu.lost, *((c.at, f"{c.call} never came back") for c in calls if c.returned is None)])


def _told(ends: Iterable[tuple[float, str]]) -> str:
    return "; ".join(f"at {at:.1f} s: {why}" for at, why in sorted(ends))


class _Why:
    """What is known of the causes of one GPU's gaps."""

    def __init__(self, *, gpu: GpuSpool, times: Numbers, calls: Sequence[HungCall], spool: Spool) -> None:
        self._times, self._calls, self._spool = times, calls, spool
        # One process asks a GPU, so its calls come back in the order in which they were made.
        self._backs = [math.inf if call.returned is None else call.returned for call in calls]
        self._ends = sorted((*gpu.lost, *gpu.died))

    def of(self, gap: Gap) -> str:
        """Empty when nothing is known."""
        place = bisect_right(self._backs, gap.start)
        if place < len(self._calls) and self._calls[place].began < gap.end:
            call = self._calls[place]
            return f"{call.call} {'did not come back' if call.returned is None else 'came back late'}"
        for at, why in self._ends:
            if at < gap.end:
                return why
        if gap.start < self._spool.started:
            return "the sampler was not yet running"
        if gap.end > self._spool.last:
            return "the sampler stopped by itself" if self._spool.ended is None else "the sampler had ended"
        # A gap begins and ends with samples that did see something; its ends are those, rounded.
        after, before = np.searchsorted(self._times, (gap.start + _ROUNDED, gap.end - _ROUNDED))
        return "every read failed" if after < before else ""
