"""A GPU under load: what slowed it, how hot it got, what power it may draw, who else was on it."""

from __future__ import annotations

import math

from harness.checks.answers import failed, listing, ok
from harness.checks.base import Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.checks.watching.watched import (
    at,
    at_any_time,
    believed,
    card,
    limit,
    sensor,
    span,
    stated,
    values,
)
from harness.model.attachment import Observable
from harness.model.outcome import Action, CheckResult, Measurement
from harness.model.telemetry import GpuTelemetry, Stretch
from harness.vendors.names import advised, typed

REASON_SHARE = 0.01
"""Share of the load for which a clock may be held back. gpud calls 0.6 hardware events in a minute unhealthy;
an event that our slowest accepted sampling sees lasts up to a second, so that is 1 % of the time
(statistics-and-faults §6)."""
REASON_WINDOW = 600.0
"""Seconds of load that are judged by themselves: gpud counts over ten minutes. In a week 1 % of the whole
would be 100 minutes of a card that is held back."""
REASON_SECONDS = 1.0
"""Less than this in a whole run is no finding: hardware slowdown flickers when the power state changes
(statistics-and-faults §6)."""
POWER_OVER_LIMIT = 1.1
"""Mean power over the enforced limit at which sensor or regulator is wrong: twice the 5 % by which power
sensors err (statistics-and-faults §7)."""

HELD_BACK: dict[str, tuple[str, Action]] = {
    "hw_thermal": (
        "clean or fix the airflow (fans, blanking plates, inlet temperature); if a card in the same slot "
        "stays cool, this card's cooler or paste is bad: replace it",
        Action.REPLACE_GPU,
    ),
    "sw_thermal": (
        "clean or fix the airflow (fans, blanking plates, inlet temperature), and run again",
        Action.RETEST,
    ),
    "power_brake": (
        "an external power brake slowed the card: check the power supplies, their redundancy and the "
        "chassis's power budget in the BMC",
        Action.FIX_CONFIG,
    ),
    "hw_slowdown": (
        "temperature or power slowed the card in hardware: check cooling, auxiliary power cables and "
        "power supplies; if it persists, replace the card",
        Action.REPLACE_GPU,
    ),
}
"""Reasons that a healthy card under load does not have, the most telling first, with what to do. A software
power cap is normal at full load; application clocks and display are settings, which the report shows."""


def _clock_reasons(case: Case, subject: Subject) -> CheckResult:
    telemetry, gpu = card(case, subject)
    if values(gpu, "reasons") is None:
        raise MissingEvidence("the card does not report why its clocks are reduced")
    if gpu.load_seconds <= 0:
        raise MissingEvidence("no load time was recorded")
    allowed = max(REASON_SECONDS, REASON_SHARE * min(gpu.load_seconds, REASON_WINDOW))
    held = {name: _worst(gpu, name) for name in HELD_BACK}
    measured = tuple(
        Measurement(name=f"clock_reason.{name}", value=worst.value, unit="s", upper=allowed)
        for name, worst in held.items()
    )
    evidence = (at(telemetry, gpu, "reasons", gpu.reasons),)
    broken = [name for name, worst in held.items() if worst.value > allowed]
    if broken:
        remedy, action = HELD_BACK[broken[0]]
        said = listing([f"{name} for {held[name].value:.1f} s{_since(held[name])}" for name in broken])
        return failed(
            f"the clocks were reduced: {said}, of at most {REASON_WINDOW:.0f} s under load (allowed: "
            f"{allowed:.1f} s)",
            remedy,
            action,
            evidence=evidence,
            measurements=measured,
        )
    others = [f"{name} {seconds:.0f} s" for name, seconds in sorted(gpu.reasons.items()) if seconds > 0]
    rest = f"; seen: {listing(others)}" if others else ""
    message = f"no heat or power fault reduced the clocks{rest}"
    return ok(message, evidence=evidence, measurements=measured)


def _worst(gpu: GpuTelemetry, name: str) -> Stretch:
    """The ten minutes with most of a reason; where these were not recorded, the whole time."""
    worst = gpu.reasons_worst.get(name)
    return worst or Stretch(value=gpu.reasons.get(name, 0.0), start=math.nan, end=math.nan)


def _since(worst: Stretch) -> str:
    return "" if math.isnan(worst.start) else f" from {worst.start:.1f} s to {worst.end:.1f} s"


_COOLING = (
    "compare with the neighbours under the same load: if all are hot, fix the airflow (fans, blanking "
    "plates, inlet temperature); if this one alone is hot, its cooler or paste is bad: replace it"
)


def _temperature(case: Case, subject: Subject) -> CheckResult:
    """Core and memory against the card's own thresholds (gpud: core above GPU_MAX, memory above MEM_MAX).

    Ada and later tell their core's limit as a margin: absolute thresholds are superseded there and will go
    (driver r575), so they count only where no margin is told.
    """
    telemetry, gpu = card(case, subject)
    core = values(gpu, "temperature")
    if core is None or core.maximum is None:
        raise MissingEvidence("the card reports no temperature")
    margin = _margin(gpu)
    due = None
    if margin is None:
        own = limit(gpu, "temperature_gpu_max"), limit(gpu, "temperature_slowdown")
        due = min((most for most in own if most is not None), default=None)
        if due is None:
            raise MissingEvidence("the card reports neither a maximum operating nor a slowdown temperature")
    measured = [Measurement(name="temperature.core", value=core.maximum, unit="degC", upper=due)]
    measured += [] if margin is None else [margin]
    memory = values(gpu, "temperature_memory")
    rest = "; it has no memory temperature sensor"
    if memory is not None and memory.maximum is not None:
        most = limit(gpu, "temperature_memory_max")
        measured.append(Measurement(name="temperature.memory", value=memory.maximum, unit="degC", upper=most))
        rest = "" if most is not None else "; it reports no maximum memory temperature"
    said = listing([_held(m) for m in measured])
    evidence = (at(telemetry, gpu, "temperature, temperature_memory", said),)
    if any(m.within is False for m in measured):
        return failed(
            f"too hot under load: {said}",
            _COOLING,
            Action.RETEST,
            evidence=evidence,
            measurements=tuple(measured),
        )
    return ok(f"{said}{rest}", evidence=evidence, measurements=tuple(measured))


def _margin(gpu: GpuTelemetry) -> Measurement | None:
    """The least that was left below the core's limit; None when the card does not tell it.

    gpud: on some H100 the margin is never above zero, and then no margin (temperature/component.go).
    """
    found = gpu.series.get("temperature_margin")
    if found is None or found.maximum is None or found.maximum <= 0:
        return None
    due = stated(gpu, "temperature_gpu_max_tlimit")
    least = 0.0 if due is None else float(due)  # the distance to the nearest slowdown threshold
    return Measurement(
        name="temperature.margin",
        value=sensor(gpu, "temperature_margin").minimum,
        unit="degC",
        lower=least,
    )


def _held(value: Measurement) -> str:
    most = "" if value.upper is None else f", at most {value.upper:g}"
    least = "" if value.lower is None else f", at least {value.lower:g}"
    return f"{value.name.removeprefix('temperature.')} {value.value:g} {value.unit}{most}{least}"


def _power(case: Case, subject: Subject) -> CheckResult:
    """The lowest limit that was in force against the card's default, and the mean draw against that limit."""
    telemetry, gpu = card(case, subject)
    now, default = limit(gpu, "power_limit"), limit(gpu, "power_limit_default")
    if now is None:
        raise MissingEvidence("the card does not report its power limit")
    limits = [float(value) for value in at_any_time(gpu, "power_limit") if not isinstance(value, str)]
    lowest, now = min(limits), max(limits)
    mean, how = _mean_power(gpu, span(telemetry))
    measured = (
        Measurement(name="power.limit", value=lowest, unit="W", lower=default),
        Measurement(name="power.mean", value=mean, unit="W", upper=POWER_OVER_LIMIT * now),
    )
    evidence = (at(telemetry, gpu, "power_limit, energy, power", f"limit {lowest:g} W, default {default} W"),)
    if default is not None and lowest < default:
        back = typed(advised(telemetry.source).commands.power_limit, gpu.index, default)
        return failed(
            f"the power limit was {lowest:g} W{_when(gpu, lowest)}, the card's default is {default:g} W",
            f"find out who lowered it and set it back{back}, also in the start-up scripts of guest and host",
            Action.FIX_CONFIG,
            evidence=evidence,
            measurements=measured,
        )
    if mean > POWER_OVER_LIMIT * now:
        return failed(
            f"the card drew {mean:.0f} W on average ({how}) with a limit of {now:g} W",
            "the sensor or the regulator is wrong: compare with the BMC's reading, update the card's "
            "firmware, and replace the card if they agree",
            Action.CONTACT_VENDOR,
            evidence=evidence,
            measurements=measured,
        )
    known = "" if default is not None else "; the card reports no default"
    return ok(
        f"{mean:.0f} W on average ({how}), limit {now:g} W{known}", evidence=evidence, measurements=measured
    )


def _when(gpu: GpuTelemetry, value: float) -> str:
    """Since when the power limit was that, where it was not so from the beginning."""
    moment = next((c.at for c in gpu.changes if c.name == "power_limit" and c.after == value), None)
    return "" if moment is None else f" from {moment:.1f} s on"


def _mean_power(gpu: GpuTelemetry, seconds: float) -> tuple[float, str]:
    """Watts over all loads: by the energy counter where there is one (statistics-and-faults §7)."""
    energy = believed(gpu, "energy")
    if energy is not None and energy.increase is not None and energy.increase > 0:
        return energy.increase / seconds, "from the energy counter"
    power = values(gpu, "power")
    if power is None or power.mean is None:
        raise MissingEvidence("the card reports neither energy nor power")
    return power.mean, "from power readings"


def _foreign_processes(case: Case, subject: Subject) -> CheckResult:
    telemetry, gpu = card(case, subject)
    if values(gpu, "processes") is None:
        raise MissingEvidence("the driver does not report which processes use the GPU")
    evidence = (at(telemetry, gpu, "processes", listing(gpu.processes)),)
    if gpu.processes:
        return failed(
            f"processes of others used the GPU: {listing(gpu.processes)}",
            "end them (a display server, another tenant's job, a monitoring agent that computes) and run "
            "again: results measured beside them are not valid for this GPU",
            Action.FIX_CONFIG,
            evidence=evidence,
        )
    return ok("no other process used the GPU", evidence=evidence)


def _ecc_mode(case: Case, subject: Subject) -> CheckResult:
    telemetry, gpu = card(case, subject)
    now, pending, default = (stated(gpu, f"ecc_{name}") for name in ("current", "pending", "default"))
    evidence = (at(telemetry, gpu, "ecc mode", f"current {now}, pending {pending}, default {default}"),)
    if now is None:
        return ok("the card reports that it has no ECC mode", evidence=evidence)
    if pending is not None and bool(pending) != bool(now):
        return failed(
            f"ECC is {on(now)} and will be {on(pending)} after the next reset",
            "reset the GPU or restart its guest so that the setting takes effect, and run again: what "
            "was tested is not what a tenant gets",
            Action.RESET_GPU,
            evidence=evidence,
        )
    off = [value for value in at_any_time(gpu, "ecc_current") if not value]
    if off and default is not False:
        commands = advised(telemetry.source).commands
        return failed(
            "ECC is off" + (", though the card's default is on" if default else ""),
            f"switch it on{typed(commands.ecc_on, gpu.index)}, reset the GPU and run again: without "
            "ECC bad memory shows as wrong results only",
            Action.FIX_CONFIG,
            evidence=evidence,
        )
    return ok(f"ECC is {on(now)}" + ("" if now else ", the card's factory default"), evidence=evidence)


def on(mode: object) -> str:
    """A mode in words."""
    return "on" if mode else "off"


CHECKS = (
    Check(
        id="gpu.clock_reasons",
        title="Did the GPU run without throttling by heat or a power fault?",
        why="A throttled card gives right answers at half its speed.",
        scope=Scope.GUEST_GPU,
        phase=Phase.BURNIN,
        needs=(Observable.CARD,),
        judge=_clock_reasons,
    ),
    Check(
        id="gpu.temperature",
        title="Did core and memory stay below the card's own thresholds?",
        why="Bad paste or a dead fan shows under load first, and ends in corrupted results.",
        scope=Scope.GUEST_GPU,
        phase=Phase.BURNIN,
        needs=(Observable.CARD,),
        judge=_temperature,
    ),
    Check(
        id="gpu.power",
        title="Is the power limit the card's default, and does the card keep it?",
        why="A lowered power limit costs every tenant speed without any error.",
        scope=Scope.GUEST_GPU,
        phase=Phase.BURNIN,
        needs=(Observable.CARD,),
        judge=_power,
    ),
    Check(
        id="gpu.foreign_processes",
        title="Was the GPU free of other processes?",
        why="A forgotten process takes memory and time, and the card gets the blame.",
        scope=Scope.GUEST_GPU,
        phase=Phase.BURNIN,
        needs=(Observable.CARD,),
        judge=_foreign_processes,
    ),
    Check(
        id="gpu.ecc_mode",
        title="Is ECC on, with no change pending?",
        why="With ECC off there is more memory and no counter: nothing reports a bad cell.",
        scope=Scope.GUEST_GPU,
        phase=Phase.BURNIN,
        needs=(Observable.CARD,),
        judge=_ecc_mode,
    ),
)
