"""A spool and the loads that ran meanwhile, summed up for the checks."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from harness.model.inventory import TelemetrySpec
from harness.model.kernel_codes import KernelCodes
from harness.model.pci import PciAddress
from harness.model.telemetry import (
    Gap,
    GpuTelemetry,
    GuestTelemetry,
    KernelLog,
    LoadWindow,
    SeriesSummary,
)
from harness.telemetry.gaps import Span, coverage, under_load, union
from harness.telemetry.kernel_log import read_kernel
from harness.telemetry.kernel_text import with_facility
from harness.telemetry.series import REASONS, SENSORS, Kind, Sensor
from harness.telemetry.spool_lines import GpuSpool, HungCall, KernelLine, Samples, Spool

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
    addresses: Mapping[PciAddress, PciAddress] | None,
    codes: KernelCodes,
) -> GuestTelemetry:
    """All of it, as one guest's telemetry; the names of its files are the caller's to fill in.

    ``addresses`` leads from the guest's addresses to the host's; None where both are one (a bare host).
    """
    loads = tuple(loads)
    spans = union(loads)
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
        gpus=tuple(_gpu(gpu, spool, spans, spec, addresses) for gpu in spool.gpus),
        kernel=_kernel(spool, guest, codes),
        hung=_late(spool),
        problems=spool.problems,
        cpu_seconds=spool.cpu_seconds,
        detail=spool.detail,
    )
    if found.detail:
        return found
    if not found.source:
        return replace(found, detail="NVML never answered" if found.hung else "NVML was never asked")
    return found if found.closed else replace(found, detail=spool.end_reason)


def _kernel(spool: Spool, guest: str, codes: KernelCodes) -> KernelLog:
    until = spool.kernel_until if spool.kernel_until is not None else spool.ended
    return KernelLog(
        source=guest,
        followed_from=spool.kernel_from,
        followed_to=None if spool.kernel_from is None else spool.last if until is None else until,
        lines=len(spool.kernel),
        dropped=spool.kernel_dropped,
        events=read_kernel(((line.at, _as_written(line, spool)) for line in spool.kernel), guest, codes),
        detail=spool.kernel_error if spool.kernel_error or spool.kernel_from else "nobody began to follow it",
    )


def _as_written(line: KernelLine, spool: Spool) -> str:
    """The line with who wrote it. The NVML stand-in plays a driver and writes as the program that it is:
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
    spans: tuple[Span, ...],
    spec: TelemetrySpec,
    addresses: Mapping[PciAddress, PciAddress] | None,
) -> GpuTelemetry:
    seen = _answered(gpu.fast)
    covered = coverage(seen, spans, spec.max_gap_seconds)
    fast = under_load(gpu.fast.times, spans, spec.max_gap_seconds)
    # Two slow samples are due 1 / slow_hz apart, which may be all that the longest gap allows.
    slow = under_load(gpu.slow.times, spans, max(spec.max_gap_seconds, _twice(spool.slow_hz)))
    series = {
        sensor.name: _series(sensor, gpu, samples, weights, spans)
        for sensor in SENSORS
        for samples, weights in ((gpu.fast, fast), (gpu.slow, slow))
        if sensor.name in samples.columns
    }
    series |= {
        sensor.name: SeriesSummary(name=sensor.name, unit=sensor.unit, offered=False)
        for sensor in SENSORS
        if sensor.name in gpu.not_offered and sensor.name not in series
    }
    calls = sorted((call for call in spool.hung if call.gpu == gpu.index), key=lambda call: call.at)
    # One process asks a GPU, so its calls come back in the order in which they were made.
    backs = [math.inf if call.returned is None else call.returned for call in calls]
    return GpuTelemetry(
        index=gpu.index,
        uuid=gpu.uuid,
        name=gpu.name,
        address=gpu.address,
        host_address=_on_host(gpu.address, addresses),
        pci_id=gpu.pci_id,
        subsystem=gpu.subsystem,
        serial=gpu.serial,
        vbios=gpu.vbios,
        memory_bytes=gpu.memory_bytes,
        properties=_properties(gpu),
        series=series,
        reasons=_reasons(gpu.fast, fast),
        gaps=tuple(replace(gap, reason=_why(gap, gpu, calls, backs, spool)) for gap in covered.gaps),
        load_seconds=covered.load,
        covered_seconds=covered.covered,
        vanished=_vanished(gpu, calls),
        unasked=_told(gpu.died),
        processes=tuple(sorted(gpu.foreign)),
    )


def _properties(gpu: GpuSpool) -> dict[str, float | str | bool | None]:
    """None says that the card does not have it; one whose question failed is not there at all."""
    return {
        name: value for name, value in gpu.properties.items() if value is not None or name not in gpu.errors
    }


def _twice(hz: float) -> float:
    return 2.0 / hz if hz > 0 else 0.0


def _on_host(
    address: PciAddress | None, addresses: Mapping[PciAddress, PciAddress] | None
) -> PciAddress | None:
    if address is None or addresses is None:
        return address
    return addresses.get(address)


def _answered(samples: Samples) -> Sequence[float]:
    """Times of samples in which at least one sensor gave a value: a round of failures saw nothing."""
    columns = list(samples.columns.values())
    return [
        at
        for place, at in enumerate(samples.times)
        if any(not math.isnan(column[place]) for column in columns)
    ]


def _series(
    sensor: Sensor, gpu: GpuSpool, samples: Samples, weights: Sequence[float], spans: tuple[Span, ...]
) -> SeriesSummary:
    """Of fast gauges and states what was read under load. Of counters and slow states also what was read
    between loads, and of those read seldom the nearest readings before and after them: an error that is
    counted in the first second, or told in the last, is an error of the load. Energy is read often, and is
    divided by the time of the loads: what was used before and after them has no part in that."""
    column, times = samples.columns[sensor.name], samples.times
    wide = sensor.kind is Kind.COUNTER or (sensor.kind is Kind.STATE and not sensor.fast)
    taken: list[float] = []
    failed = 0
    for start, end in ((spans[0][0], spans[-1][1]),) if wide and spans else spans:
        inside = column[bisect_left(times, start) : bisect_right(times, end)]
        taken += inside
        failed += sum(map(math.isnan, inside))
    if wide and spans and not sensor.fast:
        before = range(bisect_left(times, spans[0][0]) - 1, -1, -1)
        after = range(bisect_right(times, spans[-1][1]), len(times))
        taken[:0] = _first_read(column, before)
        taken += _first_read(column, after)
    values = [value for value in taken if not math.isnan(value)]
    found = SeriesSummary(
        name=sensor.name,
        unit=sensor.unit,
        offered=True,
        count=len(values),
        failed=failed,
        detail=gpu.errors.get(sensor.name, ""),
    )
    if not values:
        return found
    return replace(
        found,
        first=values[0],
        last=values[-1],
        minimum=min(values),
        maximum=max(values),
        mean=math.fsum(values) / len(values),
        p50=statistics.median(values),
        unchanged_seconds=_unchanged(column, weights),
    )


def _first_read(column: Sequence[float], places: Iterable[int]) -> list[float]:
    return next(([column[place]] for place in places if not math.isnan(column[place])), [])


def _unchanged(column: Sequence[float], weights: Sequence[float]) -> float:
    """Longest time under load in which each reading was the one before. A gap or a failed read ends it."""
    longest = run = 0.0
    for place in range(len(column) - 1):
        same = weights[place] >= 0 and column[place] == column[place + 1]
        run = run + weights[place] if same else 0.0
        longest = max(longest, run)
    return longest


def _reasons(samples: Samples, weights: Sequence[float]) -> dict[str, float]:
    """Seconds under load by reason; a reading holds until the next one. Empty when the card tells none."""
    column = samples.columns.get("reasons")
    if column is None:
        return {}
    found = dict.fromkeys(REASONS.values(), 0.0)
    for value, seconds in zip(column, weights, strict=True):
        if math.isnan(value) or seconds <= 0:
            continue
        bits = int(value)
        for place in range(bits.bit_length()):
            if bits >> place & 1:
                name = REASONS.get(1 << place, f"bit_{place}")
                found[name] = found.get(name, 0.0) + seconds
    return found


def _vanished(gpu: GpuSpool, calls: Sequence[HungCall]) -> str:
    return _told([*gpu.lost, *((c.at, f"{c.call} never came back") for c in calls if c.returned is None)])


def _told(ends: Iterable[tuple[float, str]]) -> str:
    return "; ".join(f"at {at:.1f} s: {why}" for at, why in sorted(ends))


def _why(gap: Gap, gpu: GpuSpool, calls: Sequence[HungCall], backs: Sequence[float], spool: Spool) -> str:
    """What is known of a gap's cause; empty when nothing is. ``backs``: when each of the calls came back."""
    place = bisect_right(backs, gap.start)
    if place < len(calls) and calls[place].began < gap.end:
        late = "did not come back" if calls[place].returned is None else "came back late"
        return f"{calls[place].call} {late}"
    for at, why in sorted((*gpu.lost, *gpu.died)):
        if at < gap.end:
            return why
    if gap.start < spool.started:
        return "the sampler was not yet running"
    if gap.end > spool.last:
        return "the sampler had ended" if spool.ended is not None else "the sampler fell silent"
    # A gap begins and ends with samples that did see something; its ends are those, rounded.
    if bisect_right(gpu.fast.times, gap.start + _ROUNDED) < bisect_left(gpu.fast.times, gap.end - _ROUNDED):
        return "every read failed"
    return ""
