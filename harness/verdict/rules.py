"""Whether rules can do their work: a floor that guards nothing, or guards it a thousandfold too low, is an
error of its own. Pure: who read the files adds their lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from harness.model.inventory import Profile
from harness.model.sku import Figure, Floor, Sku
from harness.vendors.names import ENCODERS, ENGINES, maker
from harness.verdict.figures import (
    CODECS,
    FIGURE_OF,
    LEAST_SHARE,
    MOST_SHARE,
    PLAUSIBLE,
    RATIO_TOLERANCE,
    RATIOS,
    REQUIRED,
    SIBLING_FACTOR,
    UNIT_OF,
    WIDTHS,
    link_bandwidth,
)
from harness.workloads.tensor.spec import PRECISIONS

UNKNOWN = "unknown"
_PCI_ID = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}(:[0-9a-f]{4}:[0-9a-f]{4})?")
_SOURCED = ("pci_ids", "engines", "precisions", "codecs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong with one rule, where in its file, and what to do."""

    name: str
    """Of the model or profile."""
    place: tuple[str | int, ...]
    message: str
    remedy: str


def lint_skus(skus: Sequence[Sku]) -> tuple[Problem, ...]:
    """Everything wrong with the descriptions of GPU models, alone and among each other."""
    alone = (problem for sku in skus for problem in lint_sku(sku))
    return (*alone, *_twins(skus), *_siblings(skus))


def lint_sku(sku: Sku) -> Iterator[Problem]:
    """Everything wrong with one description as such."""
    yield from _identity(sku)
    for name, figure in sku.figures.items():
        yield from _figure(sku, name, figure)
    yield from _link(sku)
    yield from _ratios(sku)
    yield from _engines(sku)
    for name, floor in sku.floors.items():
        yield from _floor(sku, name, floor)


def lint_limits(profile: Profile, skus: Sequence[Sku]) -> Iterator[Problem]:
    """Lower limits of a profile that lie outside a sane share of the peak of every model we know."""
    for name, limit in profile.limits.items():
        figure = FIGURE_OF.get(name)
        peaks = {s.name: f.value for s in skus if (f := s.figures.get(figure or "")) and f.value}
        if limit.lower is None or not peaks:
            continue
        shares = {model: limit.lower / peak for model, peak in peaks.items()}
        if not any(sane(share) for share in shares.values()):
            model, share = min(shares.items(), key=lambda pair: abs(pair[1] - MOST_SHARE))
            yield Problem(
                name=profile.name,
                place=("limits", name, "lower"),
                message=f"{limit.lower:g} {UNIT_OF[figure or '']} is {share:.4g} of the peak of {model}: out "
                f"of range for any model ({LEAST_SHARE:g} to {MOST_SHARE:g})",
                remedy="give the limit in the measurement's unit, within the range of the model's peak",
            )


def sane(share: float) -> bool:
    """Whether a floor at this share of a peak can tell a broken card from a whole one."""
    return LEAST_SHARE <= share <= MOST_SHARE


def _identity(sku: Sku) -> Iterator[Problem]:
    if not sku.pci_ids:
        yield _problem(sku, ("pci_ids",), "no PCI id: no device can match this model", "give its ids")
    for index, text in enumerate(sku.pci_ids):
        if not _PCI_ID.fullmatch(text):
            remedy = "write vendor:device or vendor:device:vendor:device in lower-case hex"
            yield _problem(sku, ("pci_ids", index), f"not a PCI id: {text[:40]!r}", remedy)
    filled = {"pci_ids": sku.pci_ids, "precisions": sku.precisions, "codecs": sku.codecs}
    filled["engines"] = tuple(n for n, count in sku.engines.items() if count is not None)
    for name in _SOURCED:
        if filled[name] and sku.sources.get(name, "").strip().lower() in ("", UNKNOWN):
            remedy = "give the source, or remove it"
            yield _problem(sku, ("sources", name), f"{name} has no source", remedy)
    makers = [maker(text[:4]) for text in sku.pci_ids]
    real = any(found is not None and not found.emulated for found in makers)
    for name in REQUIRED if real else ():
        if name not in sku.figures:
            remedy = f"add {name}, with value null and source unknown if it is not known"
            yield _problem(sku, ("figures",), f"{name} is missing: every GPU has one", remedy)
    if _value(sku, "memory_bytes") is not None and "memory_bytes" not in sku.floors:
        remedy = "add the share that is left after ECC and driver overhead, with the reason"
        yield _problem(
            sku, ("floors",), "no threshold for memory_bytes: the size would not be judged", remedy
        )


def _figure(sku: Sku, name: str, figure: Figure) -> Iterator[Problem]:
    place = ("figures", name)
    source = figure.source.strip().lower()
    if figure.value is None and source != UNKNOWN:
        remedy = f"write source: {UNKNOWN}, or give the number from the source"
        yield _problem(sku, (*place, "source"), "a source without a number", remedy)
    if figure.value is not None and source in ("", UNKNOWN):
        remedy = "give the source; if you have none, write value: null"
        yield _problem(sku, (*place, "source"), f"{figure.value:g} {figure.unit} has no source", remedy)
    wanted = UNIT_OF.get(name)
    if wanted is not None and figure.unit != wanted:
        said = f"the unit is {figure.unit!r}, but measurements are in {wanted!r}"
        yield _problem(sku, (*place, "unit"), said, f"convert the number to {wanted}")
    if figure.value is not None:
        low, high = PLAUSIBLE.get(name, (0.0, float("inf")))
        if not (figure.value > 0 and low <= figure.value <= high):
            said = f"{figure.value:g} {figure.unit} is not between {low:g} and {high:g}"
            yield _problem(sku, (*place, "value"), said, "check the unit and the digits")
    if name in PRECISIONS and name not in sku.precisions:
        yield _problem(sku, place, f"{name} is not one of its precisions", "add it there, or remove the rate")


def _link(sku: Sku) -> Iterator[Problem]:
    gen, width, rate = (_value(sku, name) for name in ("pcie_gen", "pcie_width", "pcie_bandwidth"))
    if width is not None and width not in WIDTHS:
        lanes = ", ".join(map(str, WIDTHS))
        yield _problem(sku, ("figures", "pcie_width", "value"), f"{width:g} lanes", f"one of {lanes}")
    if gen is not None and link_bandwidth(gen, 1) is None:
        yield _problem(sku, ("figures", "pcie_gen", "value"), f"no generation {gen:g}", "give 1 to 6")
    elif gen is not None and width in WIDTHS and width is not None and rate is not None:
        due = link_bandwidth(gen, width) or 1.0
        if not 0.98 <= rate / due <= 1.02:
            said = f"{rate:g} GB/s is not the one-way rate of generation {gen:g} x{width:g} ({due:.3f})"
            place = ("figures", "pcie_bandwidth", "value")
            yield _problem(sku, place, said, "correct the bandwidth, the generation or the width")


def _ratios(sku: Sku) -> Iterator[Problem]:
    for low, high, due in RATIOS:
        slow, fast = _value(sku, low), _value(sku, high)
        if slow and fast and abs(fast / slow / due - 1) > RATIO_TOLERANCE:
            said = f"{high} is {fast / slow:.2f} times {low}; for dense rates it is {due:g} times"
            remedy = "rates with sparsity are twice the dense rates: give dense rates only"
            yield _problem(sku, ("figures", high, "value"), said, remedy)


def _engines(sku: Sku) -> Iterator[Problem]:
    for name, count in sku.engines.items():
        if name not in ENGINES or (count is not None and not 0 <= count <= 64):
            remedy = f"engines are {', '.join(ENGINES)}, each a count, 0 or null"
            yield _problem(sku, ("engines", name), f"no such engine or count: {name}: {count}", remedy)
    for index, codec in enumerate(sku.codecs):
        if codec not in CODECS:
            yield _problem(sku, ("codecs", index), f"unknown codec {codec!r}", f"one of {', '.join(CODECS)}")
    if sku.codecs and not any(sku.engines.get(engine) for engine in ENCODERS):
        said = "lists encode codecs, but has no encoder"
        yield _problem(
            sku,
            ("codecs",),
            said,
            f"give the number of {' or '.join(ENCODERS)} engines, or remove the codecs",
        )
    for index, precision in enumerate(sku.precisions):
        if precision not in PRECISIONS:
            remedy = f"one of {', '.join(PRECISIONS)}"
            yield _problem(sku, ("precisions", index), f"unknown precision {precision!r}", remedy)


def _floor(sku: Sku, name: str, floor: Floor) -> Iterator[Problem]:
    place, due = ("floors", name), FIGURE_OF.get(name)
    figure = sku.figures.get(floor.of)
    if due is None:
        remedy = f"measurements that can have thresholds: {', '.join(FIGURE_OF)}"
        yield _problem(sku, place, "no workload measures this: the threshold would have no effect", remedy)
    elif floor.of != due:
        said = f"a share of {floor.of!r}, but {name} is compared with {due!r}"
        yield _problem(sku, (*place, "of"), said, f"write of: {due}")
    if figure is None or figure.value is None:
        said = (
            f"a share of {floor.of!r}, which is {'not given for this model' if figure is None else UNKNOWN}"
        )
        yield _problem(sku, (*place, "of"), said, "give the value with its source, or remove the threshold")
    if not sane(floor.share):
        said = f"{floor.share:g} is not between {LEAST_SHARE:g} and {MOST_SHARE:g} of the theoretical peak"
        remedy = (
            "a lower threshold passes broken cards, a higher one passes none: take it from measured rates"
        )
        yield _problem(sku, (*place, "share"), said, remedy)
    if due in ("pcie_gen", "pcie_width") and floor.share != 1.0:
        said = f"{floor.share:g} would pass a link of a lower generation or width"
        yield _problem(
            sku, (*place, "share"), said, "under load a link has its full generation and width: 1.0"
        )
    if due == "pcie_bandwidth" and floor.share <= 0.5:
        said = f"{floor.share:g} would pass a link of half the lanes or of the generation below"
        yield _problem(sku, (*place, "share"), said, "give a share above 0.5")
    if len(floor.reason.strip()) < 20:
        remedy = "name the measured rate that the share comes from"
        yield _problem(sku, (*place, "reason"), "gives no reason for its share", remedy)


def _twins(skus: Sequence[Sku]) -> Iterator[Problem]:
    for sku in skus:
        for index, text in enumerate(sku.pci_ids):
            others = [other.name for other in skus if other is not sku and text in other.pci_ids]
            if others or sku.pci_ids.index(text) != index:
                said = (
                    f"{text} also belongs to {others[0] if others else sku.name}: the device would match "
                    "two models"
                )
                yield _problem(sku, ("pci_ids", index), said, "distinguish them by subsystem id")


def _siblings(skus: Sequence[Sku]) -> Iterator[Problem]:
    """Figures of one family side by side: the same unit, and the same order of magnitude."""
    for sku in skus:
        family = [other for other in skus if other.family == sku.family and other is not sku]
        for name, figure in sku.figures.items():
            others = {o.name: o.figures[name] for o in family if name in o.figures}
            yield from _beside(sku, name, figure, others)


def _beside(sku: Sku, name: str, figure: Figure, others: dict[str, Figure]) -> Iterator[Problem]:
    strange = [other for other, its in others.items() if its.unit != figure.unit]
    if strange and len(strange) * 2 >= len(others):
        said = f"the unit is {figure.unit!r}, that of {strange[0]} is {others[strange[0]].unit!r}"
        yield _problem(sku, ("figures", name, "unit"), said, "models of one family use the same units")
    if figure.value is None or figure.value <= 0 or strange:
        return
    known = sorted(its.value for its in others.values() if its.value)
    if not known:
        return
    middle = known[len(known) // 2]
    factor = max(figure.value / middle, middle / figure.value)
    if factor > SIBLING_FACTOR:
        said = (
            f"{figure.value:g} {figure.unit}, but models of this family have about {middle:g}: off by "
            f"{factor:.0f}"
        )
        yield _problem(sku, ("figures", name, "value"), said, "check the unit and the digits")


def _value(sku: Sku, name: str) -> float | None:
    figure = sku.figures.get(name)
    return figure.value if figure is not None else None


def _problem(sku: Sku, place: Iterable[str | int], message: str, remedy: str) -> Problem:
    return Problem(name=sku.name, place=tuple(place), message=message, remedy=remedy)
