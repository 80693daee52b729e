"""What the GPU model should do (``inventory/skus``) against what this GPU is and did."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from harness.checks.answers import error, failed, gpu, guest, listing, ok, why_no_guest
from harness.checks.base import Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.checks.watching.links import generation_of, seen_by_host
from harness.checks.watching.watched import at, card
from harness.model.attachment import Observable
from harness.model.evidence import WorkloadResult
from harness.model.gpu import GpuRef
from harness.model.outcome import Action, CheckResult, EvidenceRef, Measurement
from harness.model.pci import PciAddress
from harness.model.sku import Floor, Sku, describing
from harness.model.topology import PciDevice
from harness.vendors.names import advised, typed
from harness.verdict.figures import (
    FIGURE_OF,
    LEAST_SHARE,
    MOST_MEASURED,
    MOST_SHARE,
    link_bandwidth,
    of_workload,
)
from harness.verdict.rules import sane
from harness.workloads.applicable import engine_of, models

MOST_MEMORY = 1.01
"""A card that reports over 1 % more memory than its model has is another model: cards of one chip differ by a
quarter at least (A100 with 40 and 80 GB, H100 with 80 and 94)."""
_LINK = ("pcie.gen_under_load", "pcie.width_under_load")
_ADD = "add the GPU model to inventory/skus, with the source of each number; `shakedown rules lint` checks it"
_SLOW = (
    "check clocks, power and temperature at that time; swap the card with one in another slot and run "
    "again; if the fault follows the card, replace it"
)


def _seen(subject: Subject) -> str:
    """What the run knows of a device whose model it does not know: numbers for whoever describes it."""
    evidence = guest(subject)
    parts: list[str] = []
    for one in evidence.telemetry.gpus if evidence.telemetry is not None else ():
        if one.host_address == subject.device:
            memory = f", {one.memory_bytes / (1 << 30):.1f} GiB" if one.memory_bytes else ""
            parts.append(f"the driver calls it {one.name!r}{memory}")
    parts += [
        f"{m.name} {m.value:g} {m.unit}"
        for result in evidence.results
        for m in result.measurements
        if m.value is not None and m.name in FIGURE_OF and m.subject == str(subject.device)
    ]
    return "; ".join(parts) or "nothing was measured on it"


def _model_known(case: Case, subject: Subject) -> CheckResult:
    device = _device(case, subject)
    found = describing(case.evidence.skus, device.id, device.subsystem)
    called = f"{device.id}, subsystem {device.subsystem or 'unknown'}"
    if len(found) != 1:
        names = listing([sku.name for sku in found])
        said = f"matches several GPU models ({names})" if found else "is not in the inventory of GPU models"
        return error(f"{called} {said}; seen: {_seen(subject)}", _ADD)
    sku = found[0]
    unknown = [name for name, figure in sku.figures.items() if figure.value is None]
    rest = f"; unknown: {listing(unknown, most=20)}" if unknown else ""
    return ok(f"{called} is {sku.title} (inventory/skus/{sku.name}.yaml){rest}")


def _device(case: Case, subject: Subject) -> PciDevice:
    if subject.device is None:
        raise MissingEvidence(f"no device was planned for this place: {why_no_guest(case, guest(subject))}")
    return gpu(case, subject)


def _memory_size(case: Case, subject: Subject) -> CheckResult:
    """The memory that the driver reports against the model's, within the share that ECC and driver may take.

    Under a stand-in of the driver's library the model is the one that it plays: the device below it has no
    memory of a GPU.
    """
    device = _device(case, subject)
    model = _one(describing(case.evidence.skus, device.id, device.subsystem), device.id)
    played = guest(subject).telemetry
    if played is not None and played.standin:
        _, card_played = card(case, subject)
        called, below = card_played.pci_id, card_played.subsystem or None
        model = _one(describing(case.evidence.skus, called, below) or (model,), called)
    figure, floor = model.figures.get("memory_bytes"), model.floors.get("memory_bytes")
    if figure is None:
        return ok(f"the file of {model.title} gives no memory size to compare with")
    telemetry, seen = card(case, subject)
    if seen.memory_bytes is None:
        raise MissingEvidence("the driver did not report the card's memory size")
    size = float(seen.memory_bytes)
    if figure.value is None or floor is None:
        raise MissingEvidence(
            f"the memory of {model.title} is unknown, so {size / (1 << 30):.2f} GiB cannot be judged"
        )
    least, most = figure.value * floor.share, figure.value * MOST_MEMORY
    measured = Measurement(name="memory_bytes", value=size, unit="B", lower=least, upper=most)
    evidence = (at(telemetry, seen, "memory", seen.memory_bytes),)
    said = f"{size / (1 << 30):.2f} GiB of the {figure.value / (1 << 30):.0f} GiB of {model.title}"
    if not least <= size <= most:
        return failed(
            f"{said}: at least {floor.share:g} and at most {MOST_MEMORY:g} of it is expected "
            f"({floor.reason})",
            f"compare the host's other cards{typed(advised(telemetry.source).commands.show)}: a card that "
            "shows less has disabled memory or another board, one that shows more is another "
            "model than its PCI id says",
            Action.REPLACE_GPU,
            evidence=evidence,
            measurements=(measured,),
        )
    return ok(f"{said}, allowing for ECC and driver overhead", evidence=evidence, measurements=(measured,))


def _one(found: tuple[Sku, ...], called: str) -> Sku:
    if len(found) != 1:
        raise MissingEvidence(f"the GPU model of {called} is unknown, so its memory size cannot be judged")
    return found[0]


@dataclass(slots=True, kw_only=True)
class _Findings:
    """What one workload showed on all GPUs of a guest."""

    below: list[str] = field(default_factory=list)
    beyond: list[str] = field(default_factory=list)
    vacuous: list[str] = field(default_factory=list)
    blank: list[str] = field(default_factory=list)
    held: list[Measurement] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)


def _expected(case: Case, subject: Subject) -> CheckResult:
    """Each GPU's measurements against the floors of its model.

    A floor that met no measurement is an ERROR: a rule that matches no metric passes everything. Results of
    the processor are never held to a GPU's floors; where the model has some, nothing was shown.
    """
    evidence, workload = guest(subject), subject.workload or ""
    done = tuple(r for r in evidence.results if r.workload == workload and r.status == "done")
    if not done:
        why = next((r.detail for r in evidence.results if r.workload == workload), "")
        raise MissingEvidence(f"{workload} returned no result: {why or why_no_guest(case, evidence)}")
    files = tuple(EvidenceRef(file=r.transcript or "run.json", place=subject.name) for r in done)
    if not evidence.gpus:
        if evidence.request.gpus:
            raise MissingEvidence(f"no plan names the guest's GPUs: {why_no_guest(case, evidence)}")
        return ok("the guest has no GPU, so no thresholds of a GPU model apply", evidence=files)
    found = _Findings()
    skus = models(case.evidence.skus, case.evidence.facts, evidence.gpus)
    for host, sku in zip(evidence.gpus, skus, strict=True):
        if sku is None:
            seen = _seen(replace(subject, device=host))
            found.vacuous.append(
                f"the GPU model of {host} is unknown, so its rates cannot be judged ({seen})"
            )
        else:
            _hold(case, done, sku, evidence.cards.of(host) or GpuRef(host=host), found)
    return _said(found, workload, files)


def _hold(
    case: Case,
    done: tuple[WorkloadResult, ...],
    sku: Sku,
    card: GpuRef,
    found: _Findings,
) -> None:
    """One GPU's measurements of one workload against its model's floors."""
    workload, host = done[0].workload, card.host
    floors = {name: floor for name, floor in sku.floors.items() if of_workload(name, workload)}
    if floors and engine_of(case.profile, workload) == "cpu":
        named = listing(list(floors))
        found.blank.append(f"{named}: {workload} ran on the processor, but {sku.title} has thresholds for it")
        return
    if floors and card.guest is None:
        found.blank.append(f"{workload}: the guest address of its {sku.title} is unknown")
        return
    mine = [m for r in done for m in r.measurements if r.engine != "cpu" and m.subject == str(host)]
    found.unknown |= {
        f"{m.name} ({m.value:g} {m.unit})"
        for m in mine
        if m.name in FIGURE_OF and m.name not in sku.floors and m.value is not None
    }
    found.beyond += [words for m in mine if (words := _beyond(sku, m))]
    placed = _in_its_slot(case, sku)
    for name, floor in floors.items():
        matching = [m for m in mine if m.name == name]
        without = sorted({r.round for r in done if not _measured(r, name, host)})
        if without:
            which = f" in rounds {listing(without)}" if matching else ""
            found.vacuous.append(f"no measurement for the threshold {name} of {sku.name}: {host}{which}")
        for measurement in matching:
            if _contradicted(case, host, placed, measurement):
                found.blank.append(
                    f"{measurement.name} ({measurement.value:g}, and the host itself saw more)"
                )
            else:
                _one_floor(placed, floor, measurement, found)
    found.vacuous += _limits(case, placed, workload)


def _in_its_slot(case: Case, sku: Sku) -> Sku:
    """The model with the link that the host file says its cards have here, where that is less than theirs."""
    figures = sku.figures
    gen, width = figures.get("pcie_gen"), figures.get("pcie_width")
    link = case.host.expected_link
    if link is None or gen is None or width is None or gen.value is None or width.value is None:
        return sku
    slot_gen = min(gen.value, generation_of(link.speed_gts) or gen.value)
    slot_width = min(width.value, link.width or width.value)
    own, slot = link_bandwidth(gen.value, width.value), link_bandwidth(slot_gen, slot_width)
    changed = {"pcie_gen": replace(gen, value=slot_gen), "pcie_width": replace(width, value=slot_width)}
    bandwidth = figures.get("pcie_bandwidth")
    if bandwidth is not None and bandwidth.value is not None and own and slot:
        changed["pcie_bandwidth"] = replace(bandwidth, value=bandwidth.value * slot / own)
    return replace(sku, figures={**figures, **changed})


def _contradicted(case: Case, host: PciAddress, sku: Sku, measurement: Measurement) -> bool:
    """Whether a guest tells of less link than is due while the host saw it whole (``seen_by_host``)."""
    due = [sku.figures[name].value if name in sku.figures else None for name in ("pcie_gen", "pcie_width")]
    own = sku.figures.get(FIGURE_OF.get(measurement.name, ""))
    if measurement.name not in _LINK or own is None or own.value is None or measurement.value is None:
        return False
    return measurement.value < own.value and seen_by_host(case, host, due[0] or 0.0, due[1] or 0.0)


def _measured(result: WorkloadResult, name: str, host: PciAddress) -> bool:
    """Whether this round of the workload measured it on that GPU."""
    said = any(m.name == name and m.subject == str(host) for m in result.measurements)
    return said and result.engine != "cpu"


def _beyond(sku: Sku, measurement: Measurement) -> str:
    """What is wrong with a measurement that no card of this model can reach; empty when it can."""
    figure = sku.figures.get(FIGURE_OF.get(measurement.name, ""))
    if figure is None or not figure.value or measurement.value is None or figure.unit != measurement.unit:
        return ""
    if not math.isfinite(measurement.value) or measurement.value <= figure.value * MOST_MEASURED:
        return ""
    return (
        f"{measurement.subject} {measurement.name} {measurement.value:g} {measurement.unit} is "
        f"{measurement.value / figure.value:.3g} of the peak of {sku.title}"
    )


def _one_floor(sku: Sku, floor: Floor, measurement: Measurement, found: _Findings) -> None:
    figure = sku.figures.get(floor.of)
    if figure is None or figure.value is None or not sane(floor.share):
        found.vacuous.append(
            f"the threshold for {measurement.name} of {sku.name} has no peak, or a share out of range"
        )
    elif figure.unit != measurement.unit:
        found.vacuous.append(
            f"{measurement.name} is in {measurement.unit!r}, its threshold in {figure.unit!r}"
        )
    elif measurement.value is None or not math.isfinite(measurement.value):
        found.blank.append(f"{measurement.name} of {measurement.subject}")
    else:
        least = figure.value * floor.share
        found.held.append(replace(measurement, lower=least, upper=None))
        if measurement.value < least:
            found.below.append(
                f"{measurement.subject} {measurement.name} {measurement.value:g} {measurement.unit} is "
                f"{measurement.value / figure.value:.3g} of the peak of {sku.title}; the threshold is "
                f"{floor.share:g} ({least:g})"
            )


def _limits(case: Case, sku: Sku, workload: str) -> Iterator[str]:
    """Lower limits of the profile that cannot tell a broken card of this model from a whole one."""
    for name, limit in case.profile.limits.items():
        figure = sku.figures.get(FIGURE_OF.get(name, ""))
        if not of_workload(name, workload) or limit.lower is None or figure is None or not figure.value:
            continue
        if not sane(limit.lower / figure.value):
            yield (
                f"the profile's limit for {name} is {limit.lower / figure.value:.3g} of the peak of "
                f"{sku.title}, outside {LEAST_SHARE:g} to {MOST_SHARE:g}"
            )


def _said(found: _Findings, workload: str, files: tuple[EvidenceRef, ...]) -> CheckResult:
    held = tuple(found.held)
    rest = f"; without a threshold: {listing(sorted(found.unknown), most=12)}" if found.unknown else ""
    if found.below:
        said = f"{listing(found.below)}{rest}"
        return failed(said, _SLOW, Action.RETEST, evidence=files, measurements=held)
    if found.beyond:
        remedy = (
            "find out what was measured instead: a narrower format, a cache, a wrong clock, another model"
        )
        return error(f"above the theoretical peak: {listing(found.beyond)}", remedy, evidence=files)
    if found.vacuous:
        remedy = (
            "correct the threshold, the limit or the workload's parameters, so that each rule has a "
            "measurement"
        )
        return error(listing(found.vacuous), remedy, evidence=files)
    if found.blank:
        raise MissingEvidence(f"no value was measured for {listing(found.blank)}")
    if not held:
        return ok(f"no threshold is defined for {workload} on these GPUs{rest}", evidence=files)
    return ok(
        f"{len(held)} measurements reach the thresholds of their GPU model{rest}",
        evidence=files,
        measurements=held,
    )


CHECKS = (
    Check(
        id="gpu.model_known",
        title="Is the GPU model in the inventory?",
        why="Without a known model there is nothing to judge rates by: an unknown model never passes.",
        scope=Scope.GUEST_GPU,
        phase=Phase.BURNIN,
        needs=(Observable.CARD,),
        judge=_model_known,
    ),
    Check(
        id="gpu.memory_size",
        title="Does the GPU have the memory of its model?",
        why="Cards with disabled memory or a wrong label are sold as full ones.",
        scope=Scope.GUEST_GPU,
        phase=Phase.BURNIN,
        needs=(Observable.CARD,),
        judge=_memory_size,
    ),
    Check(
        id="workload.expected",
        title="Does every GPU reach the rates of its model?",
        why="A card at half its rate still gives right answers, and one limit cannot fit all models.",
        scope=Scope.GUEST_WORKLOAD,
        phase=Phase.BURNIN,
        judge=_expected,
    ),
)
