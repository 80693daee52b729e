"""One watch over a host out of several, each by another attempt of the same run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from harness.model.telemetry import HostDeviceTelemetry, HostTelemetry, KernelLog, SeriesSummary


def merged(watches: Sequence[HostTelemetry]) -> HostTelemetry:
    """What they saw together: extremes of extremes, sums of counts, everything that was said.

    The time between two watches belongs to no load, so it is no gap. ``watches`` are at least one, in order.
    """
    if len(watches) == 1:
        return watches[0]
    return HostTelemetry(
        started=_known(min, (w.started for w in watches)),
        ended=_known(max, (w.ended for w in watches)),
        period_seconds=max(w.period_seconds for w in watches),
        closed=all(w.closed for w in watches),
        samples=sum(w.samples for w in watches),
        gaps=tuple(gap for w in watches for gap in w.gaps),
        devices=_by_key([((d.device, d) for d in w.devices) for w in watches], _device),
        temperatures={s.name: s for s in _by_key([w.temperatures.items() for w in watches], _series)},
        steal_seconds=_summed(w.steal_seconds for w in watches),
        foreign_tasks=_united(w.foreign_tasks for w in watches),
        hugepages_free_min=_least(w.hugepages_free_min for w in watches),
        emulator_mended=sum(w.emulator_mended for w in watches),
        changes=tuple(change for w in watches for change in w.changes),
        asked=_counted(w.asked for w in watches),
        kernel=_kernel([w.kernel for w in watches]),
        problems=tuple(problem for w in watches for problem in w.problems),
        spool=watches[-1].spool,
        detail="; ".join(dict.fromkeys(w.detail for w in watches if w.detail)),
    )


def _by_key(columns: Iterable[Iterable[tuple[Any, Any]]], join: Callable[[Any, Any], Any]) -> tuple[Any, ...]:
    found: dict[Any, Any] = {}
    for column in columns:
        for key, value in column:
            found[key] = join(found[key], value) if key in found else value
    return tuple(found.values())


def _device(one: HostDeviceTelemetry, other: HostDeviceTelemetry) -> HostDeviceTelemetry:
    return HostDeviceTelemetry(
        device=one.device,
        speed_gts_min=_known(min, (one.speed_gts_min, other.speed_gts_min)),
        speed_gts_max=_known(max, (one.speed_gts_max, other.speed_gts_max)),
        width_min=_known(min, (one.width_min, other.width_min)),
        width_max=_known(max, (one.width_max, other.width_max)),
        aer={name: one.aer.get(name, 0) + other.aer.get(name, 0) for name in {**one.aer, **other.aer}},
        samples=one.samples + other.samples,
        missing=one.missing + other.missing,
    )


def _series(one: SeriesSummary, other: SeriesSummary) -> SeriesSummary:
    """Its median is unknown: it cannot be had of two medians."""
    count = one.count + other.count
    total = (one.mean or 0.0) * one.count + (other.mean or 0.0) * other.count
    return replace(
        one,
        offered=one.offered or other.offered,
        count=count,
        failed=one.failed + other.failed,
        first=one.first if one.first is not None else other.first,
        last=other.last if other.last is not None else one.last,
        minimum=_known(min, (one.minimum, other.minimum)),
        maximum=_known(max, (one.maximum, other.maximum)),
        mean=total / count if count else None,
        p50=None,
        unchanged_seconds=max(one.unchanged_seconds, other.unchanged_seconds),
        detail=other.detail or one.detail,
    )


def _kernel(logs: Sequence[KernelLog | None]) -> KernelLog | None:
    """Followed only where every one was; what each of them said counts in any case."""
    known = [log for log in logs if log is not None]
    if not known:
        return None
    whole = len(known) == len(logs) and all(log.followed_from is not None for log in known)
    return KernelLog(
        source=known[0].source,
        followed_from=_known(min, (log.followed_from for log in known)) if whole else None,
        followed_to=_known(max, (log.followed_to for log in known)) if whole else None,
        lines=sum(log.lines for log in known),
        dropped=sum(log.dropped for log in known),
        events=tuple(event for log in known for event in log.events),
        detail="; ".join(dict.fromkeys(log.detail for log in known if log.detail)),
    )


def _known(pick: Callable[[list[Any]], Any], values: Iterable[Any]) -> Any:
    there = [value for value in values if value is not None]
    return pick(there) if there else None


def _summed(tables: Iterable[dict[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for table in tables:
        for key, value in table.items():
            found[key] = found.get(key, 0.0) + value
    return found


def _counted(tables: Iterable[dict[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for table in tables:
        for key, value in table.items():
            found[key] = found.get(key, 0) + value
    return found


def _least(tables: Iterable[dict[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for table in tables:
        for key, value in table.items():
            found[key] = min(found.get(key, value), value)
    return found


def _united(tables: Iterable[dict[str, tuple[str, ...]]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for table in tables:
        for key, names in table.items():
            found[key] = tuple(sorted({*found.get(key, ()), *names}))
    return found
