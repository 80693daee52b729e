"""A GPU's PCIe link under load: generation, width and replays."""

from __future__ import annotations

import math

from harness.checks.answers import failed, ok
from harness.checks.base import Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.checks.watching.watched import at, card, counted, limit, span, trusted, values
from harness.model.attachment import Observable
from harness.model.outcome import Action, CheckResult, Measurement
from harness.model.pci import PciAddress
from harness.model.telemetry import GpuTelemetry, GuestTelemetry

GENERATION_GTS = {1: 2.5, 2: 5.0, 3: 8.0, 4: 16.0, 5: 32.0, 6: 64.0}
"""PCIe generation to GT/s for each lane (PCI Express Base Specification)."""
REPLAYS_PER_GTS = 0.06
"""Replays a minute and lane for each GT/s that a bit error rate of 1e-12 explains: 0.48 at generation 3, 0.96
at 4, 1.92 at 5 (DCGM ``GetExpectedPcieReplayRate``, statistics-and-faults §6)."""
REPLAY_BURST = 10.0
"""So many times the replays of a minute, in any one minute, are a burst: a link that is marginal now and then
must not hide in the sum of a week."""
LOW_SECONDS, LOW_SHARE = 5.0, 0.01
"""Time that the link of a computing GPU may run below what is due: it comes up with the load, within a
second, and this is what a sampler of 1 Hz may take for it; in the long run, 1 % as for a held-back clock."""
_RESEAT = "reseat the card and its riser, look for dirt and bent pins, then try another slot and another card"


def best_speed(case: Case, device: PciAddress) -> float | None:
    """The highest link speed in GT/s that was read of a device under load, in a guest or on the host.

    None when nobody looked. A stand-in is not listened to: it knows nothing of the links that are there.
    """
    seen: list[float] = []
    for guest in case.evidence.guests:
        telemetry = guest.telemetry
        if telemetry is None or telemetry.standin:
            continue
        for gpu in telemetry.gpus:
            series = gpu.series.get("pcie_gen")
            if gpu.host_address == device and series is not None and series.maximum is not None:
                seen.append(GENERATION_GTS.get(int(series.maximum), 0.0))
    host = case.evidence.host_telemetry
    for function in host.devices if host is not None else ():
        if function.device == device and function.speed_gts_max is not None:
            seen.append(function.speed_gts_max)
    return max(seen, default=None)


def _pcie(case: Case, subject: Subject) -> CheckResult:
    """Generation and width while the GPU computed, against what the host file demands, or else the card's
    own.

    Neither the best nor the worst moment counts, but what held: a link that falls when it is hot was good
    once.

    In a guest the card may speak of a virtual port (QEMU's are of generation 4 by default), so a link that
    the host itself saw whole is not called broken on the guest's word.
    """
    telemetry, gpu = card(case, subject)
    gen, width = _best(gpu, "pcie_gen"), _best(gpu, "pcie_width")
    due_gen, due_width = _due(case, telemetry, gpu)
    measured = [
        Measurement(name="pcie.gen_under_load", value=gen, unit="1", lower=due_gen),
        Measurement(name="pcie.width_under_load", value=width, unit="1", lower=due_width),
    ]
    evidence = (at(telemetry, gpu, "pcie_gen, pcie_width, pcie_replays"),)
    said = f"generation {gen:g} x{width:g} under load, {due_gen:g} x{due_width:g} expected"
    if width < due_width or gen < due_gen:
        if not _worked(gpu):
            raise MissingEvidence(
                f"{said}; the GPU was idle during these loads, and an idle link may run slower and narrower"
            )
        if seen_by_host(case, subject.device, due_gen, due_width):
            raise MissingEvidence(
                f"{said}; the host itself saw the expected link: the two contradict each other"
            )
        return failed(said, _RESEAT, Action.RESEAT, evidence=evidence, measurements=tuple(measured))
    low = _low(gpu, due_gen, due_width)
    if low:
        return failed(low, _RESEAT, Action.RESEAT, evidence=evidence, measurements=tuple(measured))
    replays = counted(gpu, "pcie_replays")
    if replays is None:
        return ok(
            f"{said}; the card does not report PCIe replays", evidence=evidence, measurements=tuple(measured)
        )
    allowed = allowed_replays(int(gen), int(width), span(telemetry))
    measured.append(Measurement(name="pcie.replays", value=replays[1], unit="1", upper=allowed))
    if replays[1] > allowed:
        return failed(
            f"{replays[1]:g} PCIe replays in {span(telemetry):.0f} s, at most {allowed}: a marginal link",
            _RESEAT,
            Action.RESEAT,
            evidence=evidence,
            measurements=tuple(measured),
        )
    minute = gpu.series["pcie_replays"].grown_minute
    burst = REPLAY_BURST * allowed_replays(int(gen), int(width), 60.0)
    if minute is not None and minute > burst:
        return failed(
            f"{minute:g} PCIe replays in one minute, at most {burst:g}: an intermittently marginal link",
            _RESEAT,
            Action.RESEAT,
            evidence=evidence,
            measurements=tuple(measured),
        )
    trusted(gpu, "pcie_replays")
    return ok(f"{said}; {replays[1]:g} replays", evidence=evidence, measurements=tuple(measured))


def _low(gpu: GpuTelemetry, due_gen: float, due_width: float) -> str:
    """How long the link ran below what is due while the GPU computed, when that is too long; else empty."""
    for name, due in (("pcie_gen", due_gen), ("pcie_width", due_width)):
        series = gpu.series[name]
        busy = sum(series.levels.values())
        low = sum(seconds for value, seconds in series.levels.items() if float(value) < due)
        if low <= max(min(LOW_SECONDS, 0.5 * busy), LOW_SHARE * busy):
            continue
        worst = max((s for s in series.held if s.value < due), key=lambda s: s.seconds)
        first = min((at for value, at in series.since.items() if float(value) < due), default=worst.start)
        what = "generation" if name == "pcie_gen" else "width"
        return (
            f"the link ran at {what} {worst.value:g} instead of {due:g} for {low:.1f} of {busy:.1f} s of "
            f"GPU work, first at {first:.1f} s, longest from {worst.start:.1f} s to {worst.end:.1f} s"
        )
    return ""


def allowed_replays(generation: int, width: int, seconds: float) -> int:
    """Replays that a good link may have in that time: DCGM's whole number a minute, for a minute at least."""
    each = math.ceil(round(REPLAYS_PER_GTS * GENERATION_GTS.get(generation, 2.5) * width, 6))
    return math.floor(each * max(1.0, seconds / 60.0))


def _best(gpu: GpuTelemetry, name: str) -> float:
    series = values(gpu, name)
    if series is None or series.maximum is None:
        raise MissingEvidence(f"the card does not report its {name}")
    return series.maximum


def _due(case: Case, telemetry: GuestTelemetry, gpu: GpuTelemetry) -> tuple[float, float]:
    """Generation and width: what the host file says that real cards have here, and else the card's own.

    The file may say less: a card of 16 lanes in a slot of 8 claims 16 also in a guest (seen on T4 and L40S).
    """
    due_gen, due_width = limit(gpu, "pcie_max_gen") or 0.0, limit(gpu, "pcie_max_width") or 0.0
    host = case.host.expected_link
    if host is not None and not telemetry.standin:
        due_gen = generation_of(host.speed_gts) or due_gen
        due_width = float(host.width or 0) or due_width
    if not due_gen or not due_width:
        raise MissingEvidence("neither the card nor the host file gives the expected link")
    return due_gen, due_width


def generation_of(gts: float | None) -> float | None:
    """The PCIe generation whose links run at that speed, or the one below; None for no speed of any."""
    return max((float(g) for g, speed in GENERATION_GTS.items() if speed <= (gts or 0.0)), default=None)


def seen_by_host(case: Case, device: PciAddress | None, due_gen: float, due_width: float) -> bool:
    """Whether the host itself read such a link of the GPU while loads ran."""
    host = case.evidence.host_telemetry
    return any(
        function.device == device
        and (generation_of(function.speed_gts_max) or 0.0) >= due_gen
        and (function.width_max or 0) >= due_width
        for function in (host.devices if host is not None else ())
    )


def _worked(gpu: GpuTelemetry) -> bool:
    """Whether the GPU did anything under these loads; one that does not say is taken at its word of load."""
    series = gpu.series.get("util_gpu")
    return series is None or series.maximum is None or series.maximum > 0


CHECKS = (
    Check(
        id="gpu.pcie_under_load",
        title="Does the GPU's PCIe link reach its generation and width under load, without replays?",
        why="Every idle link looks slow; a marginal link shows only under load.",
        scope=Scope.GUEST_GPU,
        phase=Phase.AFTERWARDS,
        needs=(Observable.CARD,),
        judge=_pcie,
    ),
)
