"""NVLink under load: links that went down, and errors that they counted."""

from __future__ import annotations

from harness.checks.answers import failed, listing, ok
from harness.checks.base import Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.checks.watching.watched import at, card, counted, span, stated, trusted, values
from harness.model.attachment import Observable
from harness.model.outcome import Action, CheckResult, EvidenceRef, Measurement
from harness.model.telemetry import GpuTelemetry, GuestTelemetry

CRC_PER_SECOND = 100.0
"""NVLink CRC errors a second that DCGM fails (NVLink up to 4, §6), held to the worst minute."""
NVLINK_BITS, NVLINK_BIT_ERRORS = 2e11, 1e-12
"""Bits a second that one NVLink of version 2 to 4 receives (25 GB/s, NVIDIA's data sheets), and the share of
them that may be wrong: DCGM fails more than that on NVLink 5 (``DcgmUtilitiesTests.cpp``, §6), and so is PCIe
held to it. That is 0.2 errors a second and link. Meta's gcm tolerates none at all."""
HARD = ("nvlink_replay", "nvlink_recovery", "nvlink_errors")
"""Counters of which DCGM fails a single one, the last of NVLink 5 (``MonitorNVLink4Fields``,
``MonitorNVLink5Fields``)."""


def _nvlink(case: Case, subject: Subject) -> CheckResult:
    telemetry, gpu = card(case, subject)
    links = stated(gpu, "nvlink_links")
    if links is None or links == 0:
        return ok("the card reports that it has no NVLink", evidence=(at(telemetry, gpu, "nvlink_links"),))
    active = values(gpu, "nvlink_active")
    if active is None or active.maximum is None or active.minimum is None:
        raise MissingEvidence(f"the card has {links} links and does not report which are up")
    evidence = (at(telemetry, gpu, "nvlink_*", active),)
    measured: tuple[Measurement, ...] = (
        Measurement(name="nvlink.active", value=active.minimum, unit="1", lower=active.maximum),
    )
    if active.first == active.minimum and active.last == active.maximum and active.first != active.last:
        # Nothing says that one went down: a fabric may train its links while the first load already waits.
        raise MissingEvidence(
            f"{active.minimum:g} links were up at first and {active.maximum:g} in the end: run again, now "
            "that they are trained"
        )
    if active.minimum < active.maximum:
        down = min(
            (s for s in active.held if s.value < (active.maximum or 0.0)), key=lambda s: s.start, default=None
        )
        when = "" if down is None else f" at {down.start:.1f} s"
        return _broken(
            f"{active.maximum - active.minimum:g} of {active.maximum:g} links went down{when}",
            evidence,
            measured,
        )
    most = _most_links(telemetry, gpu)
    if active.maximum < most:
        return _broken(
            f"{active.maximum:g} links are up, and {most:g} on another {gpu.name} of this guest",
            evidence,
            measured,
        )
    if active.maximum == 0:
        return ok(f"none of its {links} links is connected", evidence=evidence, measurements=measured)
    counts = {name: counted(gpu, name) for name in (*HARD, "nvlink_crc")}
    grown = {name: count[1] for name, count in counts.items() if count is not None}
    if not grown:
        raise MissingEvidence(f"{active.maximum:g} links are up, but none reports error counters")
    hard = [f"{name} +{grown[name]:g}" for name in HARD if grown.get(name)]
    crc = grown.get("nvlink_crc", 0.0)
    minute = gpu.series["nvlink_crc"].grown_minute if "nvlink_crc" in gpu.series else None
    lasted = span(telemetry)
    allowed = allowed_crc(active.maximum, lasted)
    if crc > allowed or (minute or 0.0) / 60.0 >= CRC_PER_SECOND:
        hard.append(f"nvlink_crc +{crc:g} in {lasted:.0f} s, at most {allowed:.0f}")
    measured = (*measured, Measurement(name="nvlink.crc", value=crc, unit="1", upper=allowed))
    if hard:
        return _broken(f"link errors under load: {listing(hard)}", evidence, measured)
    trusted(gpu, *(name for name, count in counts.items() if count is not None))
    return ok(
        f"{active.maximum:g} of {links} links up to the end, no replay or recovery, {crc:g} CRC errors",
        evidence=evidence,
        measurements=measured,
    )


def _broken(what: str, evidence: tuple[EvidenceRef, ...], measured: tuple[Measurement, ...]) -> CheckResult:
    return failed(
        f"NVLink: {what}",
        "reset the GPU and look for XID 74 or SXIDs in both kernel logs; reseat the bridge or module, and "
        "swap it with a neighbour to see whether the fault follows it",
        Action.RESEAT,
        evidence=evidence,
        measurements=measured,
    )


def _most_links(telemetry: GuestTelemetry, gpu: GpuTelemetry) -> float:
    """Links that are up on the best connected card of the same model in this guest."""
    seen = [other.series.get("nvlink_active") for other in telemetry.gpus if other.name == gpu.name]
    return max((s.maximum for s in seen if s is not None and s.maximum is not None), default=0.0)


def allowed_crc(links: float, seconds: float) -> float:
    """CRC errors that so many good NVLinks may have in that time, a minute at least."""
    return links * NVLINK_BITS * NVLINK_BIT_ERRORS * max(seconds, 60.0)


CHECKS = (
    Check(
        id="gpu.nvlink",
        title="Did the GPU's NVLinks stay up and free of errors?",
        why="A lost NVLink halves the bandwidth between GPUs without any error message.",
        scope=Scope.GUEST_GPU,
        phase=Phase.BURNIN,
        needs=(Observable.CARD,),
        judge=_nvlink,
    ),
)
