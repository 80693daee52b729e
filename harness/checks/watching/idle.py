"""Whether a GPU did nothing while a load that keeps its processors busy ran on it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from harness.checks.watching.parts import COMPUTING, LEAST_SECONDS, Finding, length
from harness.checks.watching.watched import believed, limit
from harness.model.outcome import Action
from harness.model.telemetry import GpuTelemetry, GuestTelemetry, Slice

IDLE_PERCENT = 5.0
"""Use below which the processors of a card did nothing under a load that keeps them busy."""
IDLE_RISE = 0.05
"""Of the power limit: a card that draws less than that above idle does nothing."""
IDLE_SECONDS, IDLE_SHARE = 30.0, 0.2
"""A load may prepare or verify on the host for that long, or for that share of its time, whichever is
longer."""
TAIL_SECONDS = 10.0
"""Seconds that a card may be done before the others that ran the same load: they have the same work, and
cards of one model differ by a few percent."""
_ROUNDED = 0.01
LEAST_PEERS = 2
"""Of two cards nobody knows which one is right."""


def idle(gpu: GpuTelemetry, telemetry: GuestTelemetry) -> Iterator[Finding]:
    """The first load under which the card did nothing for long, or stopped before the others."""
    if believed(gpu, "util_gpu") is None:
        return
    loads = _loads(gpu, telemetry)
    for key, parts in loads.items():
        found = _unused(gpu, telemetry, parts) or _stopped(gpu, telemetry, key, parts)
        if found is not None:
            yield found
            return


def _loads(gpu: GpuTelemetry, telemetry: GuestTelemetry) -> dict[str, list[Slice]]:
    loads: dict[str, list[Slice]] = {}
    for part in gpu.slices:
        if part.samples and _idle_percent(part.workload, telemetry):
            loads.setdefault(part.key, []).append(part)
    return loads


def _idle_percent(workload: str, telemetry: GuestTelemetry) -> float:
    """Use below which a card did nothing under that load; 0 where nobody can say.

    A stand-in is as busy as its scenario says, whatever runs beside it: there, no use at all is none.
    """
    return IDLE_PERCENT if workload in COMPUTING else 0.5 if telemetry.standin else 0.0


def _unused(gpu: GpuTelemetry, telemetry: GuestTelemetry, parts: list[Slice]) -> Finding | None:
    """A load under which the card did nothing for longer than a load may prepare or verify."""
    lasted = sum(map(length, parts))
    doing_nothing = [part for part in parts if _did_nothing(gpu, telemetry, part)]
    shared = [part for part in doing_nothing if _all_did_nothing(gpu, telemetry, part)]
    # What all cards do at once is the load's: it may compute on the host now and then, but not for long.
    seconds = sum(length(part) for part in doing_nothing if part not in shared) + _longest(shared)
    allowed = 0.5 * lasted if lasted < IDLE_SECONDS else max(IDLE_SECONDS, IDLE_SHARE * lasted)
    if lasted < LEAST_SECONDS or not (seconds > allowed or len(doing_nothing) == len(parts)):
        return None
    first = doing_nothing[0]
    return Finding(
        said=f"the GPU was idle for {seconds:.0f} of {lasted:.0f} s of {first.workload}, first from "
        f"{first.start:.1f} s to {first.end:.1f} s (utilisation at most {first.util_gpu_max:g} %)",
        remedy="check in the load's output which device it used; if it was this one, the driver's "
        "utilisation counter is wrong: restart the guest and run again",
        action=Action.RETEST,
    )


def _did_nothing(gpu: GpuTelemetry, telemetry: GuestTelemetry, part: Slice) -> bool:
    if part.util_gpu_max is None or part.util_gpu_max >= _idle_percent(part.workload, telemetry):
        return False
    if believed(gpu, "power") is None or gpu.idle_power is None or part.power_max is None:
        return True
    return part.power_max < gpu.idle_power + IDLE_RISE * (limit(gpu, "power_limit") or 0.0)


def _all_did_nothing(gpu: GpuTelemetry, telemetry: GuestTelemetry, part: Slice) -> bool:
    """Whether most of the guest's other cards, LEAST_PEERS at least, did nothing in the same part either."""
    same = [
        _did_nothing(other, telemetry, beside)
        for other in telemetry.gpus
        if other.index != gpu.index
        for beside in other.slices
        if beside.key == part.key and beside.start == part.start
    ]
    return len(same) >= LEAST_PEERS and sum(same) > len(same) / 2


def _longest(parts: list[Slice]) -> float:
    """Seconds of the longest stretch of parts one after the other."""
    longest = here = until = 0.0
    for part in parts:
        here = here + length(part) if part.start - until < _ROUNDED else length(part)
        longest, until = max(longest, here), part.end
    return longest


def _stopped(gpu: GpuTelemetry, telemetry: GuestTelemetry, key: str, parts: list[Slice]) -> Finding | None:
    """A load whose end the card did not live to see, as the others of the guest did."""
    if parts[0].workload not in COMPUTING:
        return None
    mine = _tail(parts)
    theirs = [
        tail
        for other in telemetry.gpus
        if other.index != gpu.index and other.name == gpu.name and believed(other, "util_gpu") is not None
        if (tail := _tail([part for part in other.slices if part.key == key and part.samples])) is not None
    ]
    if mine is None or len(theirs) < LEAST_PEERS:
        return None
    usual = statistics.median(theirs)
    if mine - usual < TAIL_SECONDS:
        return None
    end = parts[-1].end
    if any(part.start >= end - mine and not _did_nothing(gpu, telemetry, part) for part in parts):
        return None  # its power says that it worked
    return Finding(
        said=f"the GPU did nothing for the last {mine:.0f} s of {parts[0].workload}, from {end - mine:.1f} s "
        f"to {end:.1f} s; the {len(theirs)} other {gpu.name} stopped {usual:.0f} s before its end",
        remedy="look in the load's output for what ended its work on this GPU, and in both kernel logs at "
        "that time; swap it with a neighbour and run again to see whether the fault follows it",
        action=Action.RETEST,
    )


def _tail(parts: list[Slice]) -> float | None:
    """Seconds at the end of a load in which the card did nothing; None where nobody knows."""
    found = 0.0
    for part in reversed(parts):
        if part.quiet is None:
            return None
        found += part.quiet
        if part.quiet < length(part) - _ROUNDED:
            return found
    return found if parts else None
