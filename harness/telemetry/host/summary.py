"""The candidate host's own side while loads ran, summed up from what its follower printed."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from harness.model.kernel_codes import KernelCodes
from harness.model.pci import PciAddress
from harness.model.telemetry import Gap, HostDeviceTelemetry, HostTelemetry, KernelLog, SeriesSummary
from harness.telemetry.host.changes import Found, find_changes
from harness.telemetry.host.grounds import Grounds
from harness.telemetry.host.lines import HostSpool
from harness.telemetry.kernel.log import read_kernel

HOST = "host"
_AER = {"correctable": "TOTAL_ERR_COR", "nonfatal": "TOTAL_ERR_NONFATAL", "fatal": "TOTAL_ERR_FATAL"}
"""Counter to the line of ``aer_dev_*`` that sums it (sysfs-bus-pci-devices-aer_stats of the kernel's ABI)."""
_HWMON = re.compile(r"/sys/class/hwmon/(?P<chip>hwmon\d{1,6})/(?P<file>name|temp\d{1,6}_(?:label|input))")
_HUGE = re.compile(
    r"/sys/devices/system/node/node(?P<node>\d{1,6})/hugepages/hugepages-(?P<kib>\d{1,12})kB/free_hugepages"
)
_GUARD = re.compile(r"(?:<\d{1,3}>)?lapic_guard: cpu \d{1,6}: ")
_COLDEST, _HOTTEST = -100.0, 300.0
"""Degrees Celsius that a sensor can tell; some tell -273 or 255 for nothing, the latter of which passes."""


def summarize_host(
    spool: HostSpool,
    *,
    period_seconds: float,
    max_gap_seconds: float,
    devices: Iterable[PciAddress],
    dedicated: Mapping[str, Iterable[int]],
    codes: KernelCodes,
    grounds: Grounds | None = None,
) -> HostTelemetry:
    """All of it; the name of the spool is the caller's to fill in. Without ``grounds`` nobody says what may
    change, and no change is looked for.

    ``dedicated`` leads from the libvirt domains of this run to the CPUs that each has for itself; they count
    as such from one look at a running domain to the next.
    """
    times = spool.times
    found = find_changes(spool, grounds) if grounds is not None else Found(changes=(), asked={})
    last = spool.ended if spool.ended is not None else (times[-1] if times else None)
    return HostTelemetry(
        started=times[0] if times else None,
        ended=last,
        period_seconds=period_seconds,
        closed=spool.ended is not None,
        samples=len(times),
        gaps=_gaps(times, spool.ended, max_gap_seconds),
        devices=tuple(_device(device, spool) for device in devices),
        temperatures=_temperatures(spool),
        steal_seconds=_steal(spool),
        foreign_tasks=_foreign(spool, {name: frozenset(cpus) for name, cpus in dedicated.items()}),
        hugepages_free_min=_hugepages(spool),
        kernel=_kernel(spool, times, last, codes),
        changes=found.changes,
        asked=found.asked,
        problems=(*spool.problems, *found.problems),
        emulator_mended=_mended(spool),
        detail="" if times else "the host's sampler took no sample",
    )


def _kernel(spool: HostSpool, times: Sequence[float], last: float | None, codes: KernelCodes) -> KernelLog:
    followed = bool(spool.kernel) and bool(times)
    return KernelLog(
        source=HOST,
        followed_from=times[0] if followed else None,
        followed_to=last if followed else None,
        lines=len(spool.kernel),
        dropped=spool.kernel_dropped,
        events=read_kernel(spool.kernel, HOST, codes),
        detail=spool.kernel_failed or ("" if followed else "no line of the kernel's log arrived"),
    )


def _mended(spool: HostSpool) -> int:
    """Acts of the lab's guard while the host was watched: those before are the snapshot's."""
    first = spool.times[0] if spool.times else math.inf
    return sum(at is not None and at >= first for at, text in spool.kernel if _GUARD.match(text))


def _gaps(times: Sequence[float], ended: float | None, longest: float) -> tuple[Gap, ...]:
    """Times without a sample that are longer than ``longest``, seconds."""
    ends = [*times, *([] if ended is None or not times else [max(ended, times[-1])])]
    return tuple(Gap(start=a, end=b) for a, b in pairwise(ends) if b - a > longest)


def _device(device: PciAddress, spool: HostSpool) -> HostDeviceTelemetry:
    there = [bool(lines) for lines in spool.column(f"{device}/vendor")]
    speeds: list[float] = []
    widths: list[int] = []
    rates, lanes = spool.column(f"{device}/current_link_speed"), spool.column(f"{device}/current_link_width")
    for rate, lane in zip(rates, lanes, strict=True):
        speed, width = re.match(r"(\d{1,3}(?:\.\d)?) GT/s", _line(rate)), _line(lane)
        # A link that is down says speed "Unknown" and width 0 or 63.
        if speed is not None and width.isdecimal() and len(width) < 4 and 1 <= int(width) <= 32:
            speeds.append(float(speed[1]))
            widths.append(int(width))
    counts = {name: _totals(spool, f"{device}/aer_dev_{name}", total) for name, total in _AER.items()}
    return HostDeviceTelemetry(
        device=device,
        speed_gts_min=min(speeds, default=None),
        speed_gts_max=max(speeds, default=None),
        width_min=min(widths, default=None),
        width_max=max(widths, default=None),
        aer={name: _grown(values) for name, values in counts.items() if values},
        samples=sum(there),
        missing=len(there) - sum(there),
    )


def _totals(spool: HostSpool, path: str, total: str) -> list[int]:
    """A counter's values, each as often as it changed."""
    found = []
    for _, lines in spool.changes.get(path, []):
        for line in lines:
            key, _, number = line.partition(" ")
            if key == total and number.isdecimal() and len(number) < 19:
                found.append(int(number))
    return found


def _line(lines: Sequence[str]) -> str:
    return lines[0].strip() if lines else ""


def _grown(values: Sequence[int]) -> int:
    """By how much a counter grew in all; where it fell it began again from nothing."""
    return sum(new - old if new >= old else new for old, new in pairwise(values))


def _temperatures(spool: HostSpool) -> dict[str, SeriesSummary]:
    read: dict[tuple[str, str, str], list[tuple[str, ...]]] = {}
    for path in spool.changes:
        match = _HWMON.fullmatch(path)
        if match is None or not match["file"].endswith("_input"):
            continue
        where, sensor = f"/sys/class/hwmon/{match['chip']}", match["file"].removesuffix("_input")
        label = _last(spool, f"{where}/{sensor}_label") or sensor
        chip = _last(spool, f"{where}/name") or match["chip"]
        read[chip[:80], label[:80], match["chip"]] = [lines for lines in spool.column(path) if lines]
    names = Counter((chip, label) for chip, label, _ in read)
    return {
        # Two NVMe drives are both "nvme/Composite": then the kernel's number tells which.
        (name := f"{chip}/{label}" if names[chip, label] == 1 else f"{chip}.{number}/{label}"): _summary(
            name, [_degrees(lines[0]) for lines in column]
        )
        for (chip, label, number), column in sorted(read.items())
    }


def _last(spool: HostSpool, path: str) -> str:
    """The first line of a file when it was last there."""
    return next((_line(lines) for _, lines in reversed(spool.changes.get(path, [])) if lines), "")


def _degrees(text: str) -> float | None:
    """Millidegrees, as hwmon has them (Documentation/hwmon/sysfs-interface)."""
    match = re.fullmatch(r"\s*(-?\d{1,7})\s*", text)
    value = math.nan if match is None else int(match[1]) / 1000.0
    return value if _COLDEST <= value <= _HOTTEST else None


def _summary(name: str, read: Sequence[float | None]) -> SeriesSummary:
    values = [value for value in read if value is not None]
    failed = len(read) - len(values)
    if not values:
        return SeriesSummary(name=name, unit="degC", offered=True, failed=failed)
    return SeriesSummary(
        name=name,
        unit="degC",
        offered=True,
        count=len(values),
        failed=failed,
        first=values[0],
        last=values[-1],
        minimum=min(values),
        maximum=max(values),
        mean=math.fsum(values) / len(values),
        p50=statistics.median(values),
    )


def _hugepages(spool: HostSpool) -> dict[str, int]:
    least: dict[str, int] = {}
    for path, changes in spool.changes.items():
        match = _HUGE.fullmatch(path)
        counts = [int(lines[0]) for _, lines in changes if lines and re.fullmatch(r"[0-9]{1,18}", lines[0])]
        if match is not None and counts:
            least[f"{int(match['node'])}/{int(match['kib']) * 1024}"] = min(counts)
    return dict(sorted(least.items()))


def _steal(spool: HostSpool) -> dict[str, float]:
    """From the first look to the last one; empty with fewer than two."""
    if len(spool.looks) < 2:
        return {}
    first, last = spool.looks[0].steal_ticks, spool.looks[-1].steal_ticks
    return {
        str(cpu): max(0, last[cpu] - ticks) / spool.ticks_per_second
        for cpu, ticks in sorted(first.items())
        if cpu in last
    }


def _foreign(spool: HostSpool, dedicated: Mapping[str, frozenset[int]]) -> dict[str, tuple[str, ...]]:
    """Of each CPU that was looked at twice while its domain ran: tasks that ran in between, on that CPU at
    last, and that neither belong to the domain nor were started by us."""
    found: dict[int, set[str]] = {}
    for before, look in pairwise(spool.looks):
        running = {
            name: cpus
            for name, cpus in dedicated.items()
            if name in look.domains and look.domains[name] == before.domains.get(name)
        }
        theirs = frozenset[int]().union(*running.values())
        ours = look.ours | {look.domains[name] for name in running}
        for cpu in theirs:
            found.setdefault(cpu, set())
        for task in look.active:
            if task.cpu in theirs and task.process not in ours:
                found[task.cpu].add(f"{task.name} ({task.process})")
    return {str(cpu): tuple(sorted(names)) for cpu, names in sorted(found.items())}
