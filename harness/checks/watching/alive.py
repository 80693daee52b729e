"""Whether the loads were watched at all: a lost second, a lost card or a frozen sensor proves nothing."""

from __future__ import annotations

import re

from harness.checks.answers import error, failed, guest, listing, ok
from harness.checks.base import Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.checks.watching.watched import at, card, genuine, matching, recorded, span, values
from harness.model.attachment import Observable
from harness.model.inventory import TelemetrySpec
from harness.model.outcome import Action, CheckResult, EvidenceRef, Measurement
from harness.model.telemetry import Gap, GpuTelemetry, GuestTelemetry, LoadWindow
from harness.model.vendor import Kind
from harness.telemetry.gpu.series import ENERGY_FROZEN_SECONDS, POWER_FROZEN_SECONDS, SENSORS
from harness.vendors.names import advised

RATE_SHARE = 0.5
"""Least share of the asked rate that must be reached: 5 of 10 Hz, the lower end of the range in which power
readings differ by under 1 % (statistics-and-faults §7)."""
FROZEN_SECONDS = {"energy": ENERGY_FROZEN_SECONDS, "power": POWER_FROZEN_SECONDS}
_UNDER_LOAD = tuple(sensor.name for sensor in SENSORS if sensor.fast and sensor.kind is not Kind.COUNTER)

_AGAIN = (
    "find in the samples file and the guest's log why the sampler fell behind at that time, and run the "
    "load again: time without samples proves nothing"
)


def _coverage(case: Case, subject: Subject) -> CheckResult:
    """Every second of every load of this GPU is covered by samples; nothing is interpolated.

    Missing evidence is an ERROR here, so that the run is INCONCLUSIVE; a planned GPU that a working library
    does not show is a FAIL.
    """
    telemetry = recorded(case, subject)
    if not genuine(case, telemetry):
        return error(
            f"the {advised(telemetry.source).library} stand-in {telemetry.standin!r} answered in a "
            "hardware run",
            "remove the stand-in from the guest image or the library path, and run again",
            evidence=_spool(telemetry),
        )
    gpu = matching(subject, telemetry)
    if gpu is None:
        return _unseen(subject, telemetry)
    if not telemetry.loads:
        raise MissingEvidence("no load was recorded, so coverage by samples cannot be judged")
    faults = [
        *_ends(telemetry),
        *_forgotten(subject, telemetry),
        *_gaps(gpu, telemetry.loads, case.profile.telemetry.max_gap_seconds),
        *_rate(gpu, telemetry, case.profile.telemetry),
    ]
    allowed = case.profile.telemetry.max_gap_seconds
    share = gpu.span_covered / gpu.span_seconds if gpu.span_seconds > 0 else None
    measured = (
        Measurement(name="telemetry.covered_share", value=share, unit="1"),
        Measurement(name="telemetry.longest_silence", value=gpu.longest_silence, unit="s", upper=allowed),
    )
    if faults:
        return error("; ".join(faults[:4]), _AGAIN, evidence=_spool(telemetry))
    if share is None or gpu.longest_silence is None:
        raise MissingEvidence("the longest gap between samples was not recorded")
    return ok(
        f"{100 * share:.1f} % of the {gpu.span_seconds:.1f} s from the first of {len(telemetry.loads)} "
        f"loads to the end of the last are covered; longest gap {gpu.longest_silence:.1f} s, at most "
        f"{allowed:g} s",
        evidence=_spool(telemetry),
        measurements=measured,
    )


def _unseen(subject: Subject, telemetry: GuestTelemetry) -> CheckResult:
    shown = listing([f"{gpu.name} at {gpu.place}" for gpu in telemetry.gpus])
    if any(gpu.host_address is None for gpu in telemetry.gpus):
        return error(
            f"none of the sampler's GPUs could be matched to {subject.device}: it saw {shown}",
            "find out why guest addresses could not be mapped to host addresses (placement.devices)",
            evidence=_spool(telemetry),
        )
    words = advised(telemetry.source)
    return failed(
        f"{words.library} works in {telemetry.guest}, but lists no GPU for host device {subject.device}; it "
        f"lists {shown or 'none'}",
        f"read the guest's kernel log for the driver's reason ({words.start}), then "
        "restart the guest; replace a card that stays missing with a working driver",
        Action.RESTART_VM,
        evidence=_spool(telemetry),
    )


def _ends(telemetry: GuestTelemetry) -> list[str]:
    """What is wrong with the sampler's own life: late, cut off, or not readable."""
    faults = []
    first, last = min(w.start for w in telemetry.loads), max(w.end for w in telemetry.loads)
    if telemetry.started is None or telemetry.started > first:
        faults.append(f"the sampler started {_moment(telemetry.started)}, the first load at {first:.1f} s")
    if not telemetry.closed:
        why = f" ({telemetry.detail})" if telemetry.detail else ""
        faults.append(f"the sampler stopped by itself {_moment(telemetry.ended)}{why}")
    elif telemetry.ended is None or telemetry.ended < last:
        faults.append(f"the sampler ended {_moment(telemetry.ended)}, the last load at {last:.1f} s")
    if telemetry.problems:
        faults.append(f"the samples file could not be read completely: {listing(telemetry.problems, most=3)}")
    return faults


def _moment(seconds: float | None) -> str:
    return "at an unknown time" if seconds is None else f"at {seconds:.1f} s"


def _forgotten(subject: Subject, telemetry: GuestTelemetry) -> list[str]:
    """Workloads that ran and have no load window: nobody would look for their samples."""
    known = {window.key for window in telemetry.loads}
    lost = [
        f"{result.workload} ({result.key})"
        for result in guest(subject).results
        if result.status in ("done", "failed", "timeout") and result.key not in known
    ]
    return [f"loads without a recorded time: {listing(lost)}"] if lost else []


def _gaps(gpu: GpuTelemetry, loads: tuple[LoadWindow, ...], allowed: float) -> list[str]:
    """Silences longer than the profile allows, wherever loads began or ended meanwhile."""
    worst = sorted((gap for gap in gpu.gaps if gap.seconds > allowed), key=lambda gap: -gap.seconds)
    faults = [_gap(gap, loads) for gap in worst[:3]]
    if len(worst) > 3:
        faults.append(f"and {len(worst) - 3} more gaps")
    if gpu.load_seconds <= 0:
        return ["no load time was recorded"]
    if not faults and (gpu.longest_silence or 0.0) > allowed:
        faults.append(f"no sample for {gpu.longest_silence:.1f} s, at most {allowed:g} s are allowed")
    if not faults and gpu.covered_seconds <= 0:
        faults.append(f"none of {gpu.load_seconds:.1f} s under load is covered by samples")
    return faults


def _gap(gap: Gap, loads: tuple[LoadWindow, ...]) -> str:
    during = sorted({w.workload for w in loads if w.start < gap.end and gap.start < w.end})
    why = f": {gap.reason}" if gap.reason else ""
    under = f" under {listing(during)}" if during else " between loads"
    return f"no sample for {gap.seconds:.1f} s from {gap.start:.1f} s to {gap.end:.1f} s{under}{why}"


def _rate(gpu: GpuTelemetry, telemetry: GuestTelemetry, asked: TelemetrySpec) -> list[str]:
    """Whether enough samples came: a sampler that limps along leaves no gap and sees no peak."""
    if telemetry.fast_hz < asked.fast_hz:
        return [f"the sampler ran at {telemetry.fast_hz:g} Hz, the profile requires {asked.fast_hz:g} Hz"]
    # Counters are read between loads too, so their number says nothing of the rate under load.
    most = max((gpu.series[name].count for name in _UNDER_LOAD if name in gpu.series), default=0)
    if most == 0:
        return ["no fast sensor gave any value under load"]
    due = RATE_SHARE * asked.fast_hz
    # Less than one value is due in a load that short, and the first sample may fall before it.
    reached = (most + 1) / gpu.load_seconds if gpu.load_seconds > 0 else due
    if reached < due:
        return [f"{most} samples in {gpu.load_seconds:.1f} s under load: less than {due:g} Hz"]
    return []


def _spool(telemetry: GuestTelemetry) -> tuple[EvidenceRef, ...]:
    return (EvidenceRef(file=telemetry.spool or "run.json", place=f"guest {telemetry.guest}"),)


def _present(case: Case, subject: Subject) -> CheckResult:
    telemetry, gpu = card(case, subject)
    words = advised(telemetry.source)
    if words.reset_required and words.reset_required in gpu.vanished:
        return failed(
            f"{gpu.name} at {gpu.place} must be reset before it can be used: {gpu.vanished}",
            f"look for the {words.code} that explains it in the kernel log of the guest (or of the host on "
            "bare metal), reset the GPU and run the whole stage again; replace the card if it happens again",
            Action.RESET_GPU,
            evidence=(at(telemetry, gpu, "vanished", gpu.vanished),),
        )
    if gpu.vanished:
        return failed(
            f"{gpu.name} at {gpu.place} stopped answering: {gpu.vanished}",
            f"power the host off and on; look for {words.lost} and PCIe errors in both kernel logs; reseat "
            "the card once, and replace it if it fails again under load",
            Action.REPLACE_GPU,
            evidence=(at(telemetry, gpu, "vanished", gpu.vanished),),
        )
    late = [call for call in telemetry.hung if not _of_another(call, gpu, telemetry)]
    # A call that came back late left a gap, which telemetry.coverage judges by its length.
    hung = [call for call in late if "came back after" not in call]
    if hung:
        return failed(
            f"driver calls did not return: {listing(hung)}",
            f"look for {words.hung} in the guest's kernel log; restart "
            "the host, since a hung driver call survives a reset of the guest",
            Action.RESTART_HOST,
            evidence=(at(telemetry, gpu, "hung", listing(hung)),),
        )
    if gpu.unasked:
        raise MissingEvidence(f"{gpu.name or 'the GPU'} was not sampled to the end: {gpu.unasked}")
    wanted = values(gpu, "recovery_action")
    if wanted is not None and wanted.maximum:
        unknown = ("an action that is not known", Action.RESET_GPU)
        asked, action = words.recovery.get(int(wanted.maximum), words.recovery.get(1, unknown))
        return failed(
            f"the driver requires {asked} before {gpu.name} is used again (GPU recovery action "
            f"{wanted.maximum:g})",
            f"do that, look for the {words.code} that explains it, and run the whole stage again; replace "
            "the card if the driver requires it again",
            action,
            evidence=(at(telemetry, gpu, "recovery_action", wanted),),
        )
    answered = sum(series.count for series in gpu.series.values())
    if answered == 0:
        raise MissingEvidence("the GPU was listed but never answered")
    rest = f"; late: {listing(late, most=2)}" if late else ""
    return ok(
        f"{gpu.name} answered {answered} queries to the end{rest}",
        evidence=(at(telemetry, gpu, "all series"),),
    )


def _of_another(call: str, gpu: GpuTelemetry, telemetry: GuestTelemetry) -> bool:
    """Whether a hung call names another GPU of the guest; one that names none is everybody's."""

    def names(card: GpuTelemetry) -> bool:
        return (card.uuid != "" and card.uuid in call) or re.search(
            rf"\bGPU {card.index}\b", call
        ) is not None

    return not names(gpu) and any(names(other) for other in telemetry.gpus)


_DEAD_SENSOR = (
    "restart the guest and the host and run again; if the readings are wrong again, the card's telemetry is "
    "broken and its faults would not be seen: replace it"
)


def _alive(case: Case, subject: Subject) -> CheckResult:
    """No reading is in doubt, and what must move under load moved.

    Which doubts there are is ``harness.telemetry.gpu.plausible``. A broken sensor says neither that the card
    is well nor that it is ill, so this is an ERROR.
    """
    telemetry, gpu = card(case, subject)
    lasted = span(telemetry)
    doubts = [(name, doubt) for name, series in gpu.series.items() for doubt in series.doubts]
    if doubts:
        said = list(dict.fromkeys(doubt.said for _, doubt in doubts))
        names = listing(list(dict.fromkeys(name for name, _ in doubts)))
        return error(
            f"readings of {gpu.name} are not plausible: " + "; ".join(said[:3]),
            _DEAD_SENSOR,
            evidence=(at(telemetry, gpu, names, "; ".join(said)),),
        )
    moving: list[str] = []
    for name in ("energy", "power"):
        series = values(gpu, name)
        if series is None:
            continue
        same = series.minimum == series.maximum
        still = lasted if same else series.unchanged_seconds
        if still >= FROZEN_SECONDS[name]:
            return error(
                f"{name} did not change for {still:.1f} s; it must change within {FROZEN_SECONDS[name]:g} s",
                _DEAD_SENSOR,
                evidence=(at(telemetry, gpu, name, series),),
            )
        if not same:
            moving.append(name)
    if not moving:
        raise MissingEvidence(
            "the card reports neither energy nor power, or the loads were too short to judge"
        )
    return ok(
        f"{listing(moving)} changed under load, and every reading is plausible",
        evidence=(at(telemetry, gpu, listing(moving)),),
    )


CHECKS = (
    Check(
        id="telemetry.coverage",
        title="Is every second of every load covered by samples of this GPU?",
        why="Telemetry that was lost looks like a healthy card.",
        scope=Scope.GUEST_GPU,
        phase=Phase.BURNIN,
        needs=(Observable.CARD,),
        judge=_coverage,
    ),
    Check(
        id="telemetry.present",
        title="Did the GPU and its driver answer to the end?",
        why="A card that falls off the bus takes its error counters with it.",
        scope=Scope.GUEST_GPU,
        phase=Phase.BURNIN,
        needs=(Observable.CARD,),
        judge=_present,
    ),
    Check(
        id="telemetry.alive",
        title="Do the sensors that must change under load change?",
        why="A frozen sensor reports the last good value forever.",
        scope=Scope.GUEST_GPU,
        phase=Phase.BURNIN,
        needs=(Observable.CARD,),
        judge=_alive,
    ),
)
