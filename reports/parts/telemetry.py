"""What telemetry saw, in words: GPUs under load, kernel events, the host. Judging is the checks' work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.model.evidence import GuestEvidence
from harness.model.host_change import HostChange
from harness.model.record import RunRecord
from harness.model.telemetry import (
    GPU_LINKS,
    GpuTelemetry,
    GuestTelemetry,
    HostTelemetry,
    KernelEvent,
    SeriesSummary,
)
from reports.parts.text import duration, number, size

NONE = "not offered"
"""The card said itself that it has no such sensor."""
UNREAD = "not read"
"""It has one, or nobody asked: there is no value either way."""
_UNITS = {"degC": "°C", "1": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRow:
    """One GPU of one guest: who it is, and what was seen of it, as name and words."""

    title: str
    identity: str
    state: str
    """What is wrong with the watching itself; empty when all of it was seen."""
    seen: tuple[tuple[str, str], ...]
    lacking: tuple[str, ...]
    """Sensors that the card says it does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRow:
    """One kernel event."""

    source: str
    at: str
    what: str
    device: str
    ruling: str
    meaning: str
    action: str
    line: str


def standins(record: RunRecord) -> tuple[str, ...]:
    """A sentence for each scenario of a stand-in that took the driver's place."""
    found: dict[str, list[str]] = {}
    for seen in guests(record):
        if seen.standin:
            found.setdefault(seen.standin, []).append(seen.guest)
    return tuple(
        f"A stand-in (scenario {scenario}) replaced the driver in {', '.join(names)}: none of its "
        "values, errors or cards are real."
        for scenario, names in found.items()
    )


def workloads(record: RunRecord) -> tuple[str, ...]:
    """Names of all loads, in the order in which they first ran: each has one colour in the whole page."""
    return tuple(dict.fromkeys(load.workload for seen in guests(record) for load in seen.loads))


def guests(record: RunRecord) -> tuple[GuestTelemetry, ...]:
    """What each watched guest brought back."""
    return tuple(g.telemetry for g in record.evidence.guests if g.telemetry is not None)


def unwatched(record: RunRecord) -> tuple[str, ...]:
    """Guests whose loads nobody watched, of those that ran any."""
    return tuple(g.name for g in record.evidence.guests if g.telemetry is None and g.results)


def sampler(telemetry: GuestTelemetry) -> str:
    """The sampler's own life in a sentence."""
    if not telemetry.source:
        return f"The GPU driver's library could not be used: {telemetry.detail or 'no reason was recorded'}."
    parts = [f"driver {telemetry.driver or 'unknown'}", f"{number(telemetry.fast_hz)} Hz"]
    if telemetry.started is not None and telemetry.ended is not None:
        parts.append(f"watched for {duration(telemetry.ended - telemetry.started)}")
    if telemetry.cpu_seconds is not None:
        parts.append(f"the sampler took {number(telemetry.cpu_seconds)} s of processor time")
    if not telemetry.closed:
        parts.append(f"it STOPPED BY ITSELF ({telemetry.detail or 'no reason was recorded'})")
    parts += [f"unreadable: {problem}" for problem in telemetry.problems[:3]]
    parts += [f"hung: {call}" for call in telemetry.hung[:3]]
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def gpu_rows(telemetry: GuestTelemetry) -> tuple[GpuRow, ...]:
    """Each GPU that the sampler saw."""
    return tuple(_gpu(gpu) for gpu in telemetry.gpus)


def side_by_side(rows: tuple[GpuRow, ...]) -> list[tuple[str, list[str]]]:
    """What was seen, a line for each name and a cell for each GPU: neighbours are there to be compared."""
    if not rows:
        return []
    lines = [(name, [row.seen[place][1] for row in rows]) for place, (name, _) in enumerate(rows[0].seen)]
    return [*lines, (NONE, [", ".join(row.lacking) or "–" for row in rows])]


def _gpu(gpu: GpuTelemetry) -> GpuRow:
    inside = ""
    if gpu.gpu is not None and gpu.address not in (None, gpu.host_address):
        inside = f"{gpu.address} in the guest"
    serial = gpu.serial if gpu.gpu is None or gpu.gpu.serial != gpu.serial else ""
    known = [inside, gpu.uuid, gpu.pci_id, f"serial {serial}" if serial else "", gpu.vbios]
    return GpuRow(
        title=f"{gpu.name or 'GPU'} at {gpu.place}",
        identity=", ".join(
            part for part in (*known, size(gpu.memory_bytes) if gpu.memory_bytes else "") if part
        ),
        state=_state(gpu),
        seen=_seen(gpu),
        lacking=tuple(name for name, series in gpu.series.items() if not series.offered),
    )


def _state(gpu: GpuTelemetry) -> str:
    parts = [f"VANISHED: {gpu.vanished}"] if gpu.vanished else []
    parts += [f"NOT ASKED TO THE END: {gpu.unasked}"] if gpu.unasked else []
    if gpu.gaps:
        lost = sum(gap.seconds for gap in gpu.gaps)
        count = "1 gap" if len(gpu.gaps) == 1 else f"{len(gpu.gaps)} gaps"
        parts.append(f"{count}, {duration(lost)} unwatched")
    doubtful = [name for name, series in gpu.series.items() if series.doubts]
    parts += [f"NOT PLAUSIBLE: {', '.join(doubtful)}"] if doubtful else []
    changed = dict.fromkeys(change.name for change in gpu.changes)
    parts += [f"CHANGED: {', '.join(changed)}"] if changed else []
    return "; ".join(parts)


def _seen(gpu: GpuTelemetry) -> tuple[tuple[str, str], ...]:
    series, known = gpu.series, gpu.properties
    return (
        ("watched", _watched(gpu)),
        ("power", _range(series, "power", _limit(known, "power_limit", "W"))),
        ("energy", _grown(series, "energy", "J")),
        ("core temperature", _range(series, "temperature", _limit(known, "temperature_gpu_max", "°C"))),
        (
            "memory temperature",
            _range(series, "temperature_memory", _limit(known, "temperature_memory_max", "°C")),
        ),
        ("SM clock", _range(series, "clock_sm", _limit(known, "clock_sm_max", "MHz"))),
        ("memory clock", _range(series, "clock_memory", _limit(known, "clock_memory_max", "MHz"))),
        ("GPU utilisation", _range(series, "util_gpu")),
        ("clocks reduced", _reasons(gpu)),
        ("ECC mode", _mode(known, "ecc_current")),
        ("uncorrected memory errors", _count(series, "ecc_uncorrected")),
        ("corrected memory errors", _count(series, "ecc_corrected")),
        ("remapped rows", _repair(series, ("remap_corrected", "remap_uncorrected"), "remap_pending")),
        ("retired pages", _repair(series, ("retired_single_bit", "retired_double_bit"), "retired_pending")),
        ("PCIe under load", _pcie(gpu)),
        ("PCIe replays", _count(series, "pcie_replays")),
        ("GPU links up", _least(series, GPU_LINKS)),
        ("other processes", ", ".join(gpu.processes) or _absent(series.get("processes")) or "none"),
    )


def _watched(gpu: GpuTelemetry) -> str:
    """What share of the whole time, loads and pauses, and the longest silence in it."""
    if gpu.longest_silence is None or gpu.span_seconds <= 0:
        return f"{duration(gpu.covered_seconds)} of {duration(gpu.load_seconds)} under load"
    share = 100.0 * gpu.span_covered / gpu.span_seconds
    return f"{share:.1f} % of {duration(gpu.span_seconds)}, longest gap {gpu.longest_silence:.1f} s"


def _mode(known: Mapping[str, float | str | bool | None], name: str) -> str:
    if name not in known:
        return UNREAD
    value = known[name]
    return NONE if value is None else "on" if value else "OFF"


def _absent(series: SeriesSummary | None) -> str:
    """Why there is no value; empty when there is one."""
    if series is None:
        return UNREAD
    if not series.offered:
        return NONE
    if series.count == 0:
        return f"{UNREAD}: {series.failed} reads failed{f' ({series.detail})' if series.detail else ''}"
    return ""


def _unit(series: SeriesSummary) -> str:
    unit = _UNITS.get(series.unit, series.unit)
    return f" {unit}" if unit else ""


def _range(series: Mapping[str, SeriesSummary], name: str, rest: str = "") -> str:
    found = series.get(name)
    if found is None or found.minimum is None or found.maximum is None:
        return _absent(found) or UNREAD
    mean = "" if found.mean is None else f", mean {number(round(found.mean, 1))}"
    return f"{number(found.minimum)} to {number(found.maximum)}{_unit(found)}{mean}{rest}"


def _limit(known: Mapping[str, float | str | bool | None], name: str, unit: str) -> str:
    value = known.get(name)
    if value is None or isinstance(value, bool | str):
        return ""
    return f" (limit {number(value)} {unit})"


def _grown(series: Mapping[str, SeriesSummary], name: str, unit: str) -> str:
    found = series.get(name)
    if found is None or found.increase is None:
        return _absent(found) or UNREAD
    return f"{number(found.increase)} {unit}"


def _count(series: Mapping[str, SeriesSummary], name: str) -> str:
    found = series.get(name)
    if found is None or found.increase is None or found.last is None:
        return _absent(found) or UNREAD
    return f"{number(found.increase)} under load, {number(found.last)} in all"


def _least(series: Mapping[str, SeriesSummary], name: str) -> str:
    found = series.get(name)
    if found is None or found.minimum is None or found.maximum is None:
        return _absent(found) or UNREAD
    fell = found.minimum != found.maximum
    return f"{number(found.minimum)} to {number(found.maximum)}" if fell else number(found.minimum)


def _repair(series: Mapping[str, SeriesSummary], names: tuple[str, str], pending: str) -> str:
    found = [series.get(name) for name in names]
    last = [one.last for one in found if one is not None and one.last is not None]
    if len(last) < len(names):
        return next((why for one in found if (why := _absent(one))), UNREAD)
    waits = series.get(pending)
    rest = ", MORE PENDING" if waits is not None and waits.maximum else ""
    return f"{number(last[0])} for corrected and {number(last[1])} for uncorrected errors{rest}"


def _reasons(gpu: GpuTelemetry) -> str:
    held = [f"{name} {duration(s)}" for name, s in sorted(gpu.reasons.items()) if s > 0]
    return ", ".join(held) or _absent(gpu.series.get("reasons")) or "never"


def _pcie(gpu: GpuTelemetry) -> str:
    gen, width = gpu.series.get("pcie_gen"), gpu.series.get("pcie_width")
    if gen is None or width is None or gen.maximum is None or width.maximum is None:
        return _absent(gen) or _absent(width) or UNREAD
    most = [gpu.properties.get(name) for name in ("pcie_max_gen", "pcie_max_width")]
    known = [number(v) for v in most if isinstance(v, float | int) and not isinstance(v, bool)]
    rest = f" of {known[0]} x{known[1]}" if len(known) == 2 else ""
    return f"generation {number(gen.maximum)} x{number(width.maximum)}{rest}"


def kernel_rows(record: RunRecord) -> tuple[KernelRow, ...]:
    """Events of all followed kernel logs, the guests' before the host's, in order of their time."""
    logs = [telemetry.kernel for telemetry in guests(record)]
    host = record.evidence.host_telemetry
    logs.append(host.kernel if host is not None else None)
    return tuple(_event(event) for log in logs if log is not None for event in log.events)


def _event(event: KernelEvent) -> KernelRow:
    code = "" if event.code is None else f" {event.code}"
    sub = "" if event.subcode is None else f".{event.subcode}"
    mig = f" {event.instance}" if event.instance else ""
    return KernelRow(
        source=event.source,
        at="unknown" if event.at is None else f"{event.at:.3f} s",
        what=f"{event.family.value.upper().replace('_', ' ')}{code}{sub}",
        device=f"{event.place or 'unknown'}{mig}",
        ruling=event.ruling.value,
        meaning=event.meaning,
        action=event.action.value,
        line=event.line,
    )


def host_rows(telemetry: HostTelemetry) -> tuple[tuple[str, str], ...]:
    """The host's own side: how it was watched, its temperatures, stolen time, foreign tasks, devices."""
    watched = f"{telemetry.samples} samples, every {number(telemetry.period_seconds)} s"
    if telemetry.gaps:
        watched += f", {len(telemetry.gaps)} GAPS of {duration(sum(g.seconds for g in telemetry.gaps))}"
    rows = [("watched", watched)]
    rows += [
        (f"temperature of {name}", _range({"it": s}, "it")) for name, s in telemetry.temperatures.items()
    ]
    stolen = max(telemetry.steal_seconds.values(), default=None)
    rows.append(("highest steal time of one CPU", duration(stolen) if stolen is not None else UNREAD))
    rows += [
        (f"foreign tasks on CPU {cpu}", ", ".join(tasks))
        for cpu, tasks in telemetry.foreign_tasks.items()
        if tasks
    ]
    for device in telemetry.devices:
        speed = "" if device.speed_gts_max is None else f"{number(device.speed_gts_max)} GT/s at its best"
        width = "" if device.width_max is None else f"x{device.width_min} to x{device.width_max}"
        errors = ", ".join(f"{name} +{count}" for name, count in device.aer.items() if count)
        away = (
            f"AWAY in {device.missing} of {device.samples + device.missing} samples" if device.missing else ""
        )
        said = [part for part in (speed, width, errors, away) if part]
        rows.append((f"device {device.device}", ", ".join(said) or "no link, no error counters"))
    rows += [_change(change) for change in telemetry.changes]
    return tuple(rows)


def _change(change: HostChange) -> tuple[str, str]:
    """What changed while loads ran, from what to what, and when."""
    whose = f" of {change.guest}" if change.guest else ""
    at = "" if change.at is None else f", seen at {change.at:.0f} s"
    back = "" if change.until is None else f", restored at {change.until:.0f} s"
    said = f"{change.subject}: {change.before} -> {change.after}{at}{back} ({change.source})"
    return f"{change.weight.value} change of {change.what}{whose}", said


def not_planned(record: RunRecord) -> tuple[tuple[str, str, str], ...]:
    """Guest, workload and reason of what was left out because the GPU model has no engine for it."""
    return tuple(
        (guest.name, result.workload, result.detail)
        for guest in record.evidence.guests
        for result in guest.results
        if result.status == "not_applicable"
    )


def rounds(guest: GuestEvidence) -> dict[str, int]:
    """Key of a load to its round."""
    return {result.key: result.round for result in guest.results}
