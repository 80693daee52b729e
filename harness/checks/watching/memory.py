"""A GPU's memory: errors that ECC counted under load, and what of it had to be taken out of service."""

from __future__ import annotations

from harness.checks.answers import failed, ok
from harness.checks.base import Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.checks.watching.watched import at, at_any_time, card, counted, span, stated, trusted, values
from harness.model.attachment import Observable
from harness.model.outcome import Action, CheckResult, EvidenceRef, Measurement
from harness.model.telemetry import GpuTelemetry
from harness.vendors.names import advised

CORRECTED_MOST = 10_000
"""Corrected errors under load that are too many, however long it lasted: Azure's limit for SRAM, the
strictest published one (statistics-and-faults §6; for DRAM Azure allows 20,000,000 and gcm 50,000,000)."""
CORRECTED_PER_HOUR = CORRECTED_MOST / 24.0
"""The same as a rate: a card that would reach Azure's limit within a day. In a minute that is 7."""
CORRECTED_LEAST = 100
"""Errors that a run of any length may correct: one weak cell that a load reads again and again counts as
many."""
REMAPPED_MOST = 512
"""Rows remapped after uncorrected errors at which the card has used up its spares (DCGM and Azure, §6)."""
RETIRED_MOST = 63
"""Retired pages of both kinds at which DCGM fails a card from before Ampere (§6)."""
RETIRED_DOUBLE_MOST = 15
"""More pages retired after double-bit errors than this fail with DCGM (§6)."""

_SPARES = ("remap_corrected", "remap_uncorrected", "retired_single_bit", "retired_double_bit")
_REPLACE = "replace the card: its memory does not hold data"


def _ecc_errors(case: Case, subject: Subject) -> CheckResult:
    """Uncorrected errors: none since the driver was loaded. Corrected ones: no flood under load.

    The limit of SRAM errors is the driver's own, and counts the card's whole life, of which no other sensor
    is judged; DCGM fails it (``DCGM_FR_SRAM_THRESHOLD``).
    """
    telemetry, gpu = card(case, subject)
    uncorrected, corrected = counted(gpu, "ecc_uncorrected"), counted(gpu, "ecc_corrected")
    evidence = (at(telemetry, gpu, "ecc_uncorrected, ecc_corrected"),)
    if uncorrected is None or corrected is None:
        return _no_ecc(gpu, "ECC counters", evidence)
    lifetime, corrected_ever = (
        counted(gpu, f"{name}_aggregate") for name in ("ecc_uncorrected", "ecc_corrected")
    )
    # Some drivers count in one of the two only, or late in one.
    grown = max(corrected[1], corrected_ever[1] if corrected_ever else 0.0)
    lasted = span(telemetry)
    most = allowed_corrected(lasted)
    measured = (
        Measurement(name="ecc.uncorrected", value=uncorrected[0], unit="1", upper=0.0),
        Measurement(name="ecc.corrected_under_load", value=grown, unit="1", upper=most),
        *([Measurement(name="ecc.uncorrected_lifetime", value=lifetime[0], unit="1")] if lifetime else []),
    )
    # The volatile counter starts again with the driver; one that lives longer sees a reset in between.
    here = max(uncorrected[1], lifetime[1] if lifetime else 0.0)
    worst = max(uncorrected[0], here)
    if any(at_any_time(gpu, "sram_exceeded")):
        return failed(
            f"the card's uncorrectable SRAM errors exceed {advised(telemetry.source).sram} threshold",
            _REPLACE,
            Action.REPLACE_GPU,
            evidence=evidence,
            measurements=measured,
        )
    if worst > 0:
        return failed(
            f"{worst:g} uncorrected memory errors since the driver was loaded, {here:g} of them during "
            f"the run{_since(gpu, 'ecc_uncorrected', 'ecc_uncorrected_aggregate')}",
            _REPLACE,
            Action.REPLACE_GPU,
            evidence=evidence,
            measurements=measured,
        )
    if grown > most:
        began = _since(gpu, "ecc_corrected", "ecc_corrected_aggregate")
        return failed(
            f"{grown:g} corrected memory errors in {lasted:.0f} s{began}, at most {most:g} (a rate of "
            f"{CORRECTED_PER_HOUR:.0f} in an hour)",
            "reset the GPU and run the whole stage again; a second flood of errors means failing memory: "
            "replace the card",
            Action.RETEST,
            evidence=evidence,
            measurements=measured,
        )
    trusted(gpu, "ecc_uncorrected", "ecc_corrected", "ecc_uncorrected_aggregate")
    old = f"; {lifetime[0]:g} uncorrected ones in its lifetime before" if lifetime and lifetime[0] else ""
    return ok(
        f"no uncorrected error, {grown:g} corrected ones under load{old}",
        evidence=evidence,
        measurements=measured,
    )


def allowed_corrected(seconds: float) -> float:
    """Corrected errors that a whole card may have in that time."""
    return min(CORRECTED_MOST, max(CORRECTED_LEAST, CORRECTED_PER_HOUR * seconds / 3600.0))


def _since(gpu: GpuTelemetry, *names: str) -> str:
    """When the first of these counters began to grow."""
    began = [s.grown_from for name in names if (s := gpu.series.get(name)) and s.grown_from is not None]
    return f" from {min(began):.1f} s on" if began else ""


def _no_ecc(gpu: GpuTelemetry, what: str, evidence: tuple[EvidenceRef, ...]) -> CheckResult:
    """A card without ECC has nothing to count, and says so; one with ECC that hides its counters does not.

    Workstation cards are delivered with ECC off: ``gpu.ecc_mode`` takes that as it is, and so does this.
    """
    mode = stated(gpu, "ecc_current")
    if mode is None:
        return ok(f"the card reports that it has no ECC, so there are no {what}", evidence=evidence)
    if mode is False and stated(gpu, "ecc_default") is False:
        return ok(f"ECC is off, the card's factory default, so there are no {what}", evidence=evidence)
    state = "on" if mode else "off"
    raise MissingEvidence(f"ECC is {state}, but the card does not offer {what}")


def _retired_memory(case: Case, subject: Subject) -> CheckResult:
    """Remapped rows (Ampere and later) or retired pages (before): failure, pending, used up, or growing."""
    telemetry, gpu = card(case, subject)
    evidence = (at(telemetry, gpu, "remap_*, retired_*"),)
    rows = [counted(gpu, name) for name in ("remap_corrected", "remap_uncorrected")]
    pages = [counted(gpu, name) for name in ("retired_single_bit", "retired_double_bit")]
    kept = [value for value in (*rows, *pages) if value is not None]
    if not kept:
        return _no_ecc(gpu, "remapped rows or retired pages", evidence)
    measured = (
        *_totals("memory.remapped_uncorrected", rows[1], REMAPPED_MOST - 1),
        *_totals("memory.retired_double_bit", pages[1], RETIRED_DOUBLE_MOST),
    )
    if _flag(gpu, "remap_failed"):
        return failed(
            "a row could not be remapped: the card has no spare row left for it",
            f"run the vendor's field diagnostic for the RMA, and {_REPLACE}",
            Action.REPLACE_GPU,
            evidence=evidence,
            measurements=measured,
        )
    full = _used_up(rows, pages)
    if full:
        return failed(full, _REPLACE, Action.REPLACE_GPU, evidence=evidence, measurements=measured)
    if _flag(gpu, "remap_pending") or _flag(gpu, "retired_pending"):
        return failed(
            "a memory row or page will be retired at the next reset",
            "reset the GPU, then run the whole stage again: what was tested is not what a tenant gets",
            Action.RESET_GPU,
            evidence=evidence,
            measurements=measured,
        )
    grown = sum(growth for _, growth in kept)
    if grown > 0:
        return failed(
            f"{grown:g} rows or pages were retired under load{_since(gpu, *_SPARES)}",
            "reset the GPU and run the whole stage again; another one within the run means failing memory",
            Action.RETEST,
            evidence=evidence,
            measurements=measured,
        )
    trusted(gpu, *_SPARES)
    old = sum(last for last, _ in kept)
    return ok(
        f"none under load, {old:g} in the card's lifetime before", evidence=evidence, measurements=measured
    )


def _totals(name: str, value: tuple[float, float] | None, most: float) -> list[Measurement]:
    return [] if value is None else [Measurement(name=name, value=value[0], unit="1", upper=most)]


def _flag(gpu: GpuTelemetry, name: str) -> bool:
    """Whether a state was ever set; a card without it has it never set."""
    found = values(gpu, name)
    return found is not None and found.maximum is not None and found.maximum > 0


def _used_up(rows: list[tuple[float, float] | None], pages: list[tuple[float, float] | None]) -> str:
    """In words, when the spares are used up."""
    if rows[1] is not None and rows[1][0] >= REMAPPED_MOST:
        return f"{rows[1][0]:g} rows are remapped after uncorrected errors (at most {REMAPPED_MOST - 1})"
    retired = [last for last, _ in (page for page in pages if page is not None)]
    if sum(retired) >= RETIRED_MOST:
        return f"{sum(retired):g} pages are retired (at most {RETIRED_MOST - 1})"
    if pages[1] is not None and pages[1][0] > RETIRED_DOUBLE_MOST:
        return f"{pages[1][0]:g} pages are retired after double-bit errors (at most {RETIRED_DOUBLE_MOST})"
    return ""


CHECKS = (
    Check(
        id="gpu.ecc_errors",
        title="Did the GPU's memory run without uncorrected ECC errors or a flood of corrected ones?",
        why="An uncorrected error means a wrong result or a killed job, and tends to recur.",
        scope=Scope.GUEST_GPU,
        phase=Phase.BURNIN,
        needs=(Observable.CARD,),
        judge=_ecc_errors,
    ),
    Check(
        id="gpu.retired_memory",
        title="Does the GPU have spare memory rows left, and did it use none under load?",
        why="A card that has used up its spare rows fails at the next bad memory cell, while a tenant "
        "uses it.",
        scope=Scope.GUEST_GPU,
        phase=Phase.BURNIN,
        needs=(Observable.CARD,),
        judge=_retired_memory,
    ),
)
