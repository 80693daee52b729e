"""Whether limits, modes and identity stayed what they were while the run had the card."""

from __future__ import annotations

from harness.checks.answers import failed, listing, ok
from harness.checks.base import Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.checks.watching.watched import at, card, span
from harness.model.attachment import Observable
from harness.model.outcome import Action, CheckResult
from harness.model.telemetry import Change
from harness.telemetry.gpu.series import PROPERTIES

ASKED_EVERY = 30.0
"""Seconds within which everything must have been asked again, on average; the sampler does so every 5."""
IDENTITY = ("uuid", "serial", "name", "vbios", "driver")
"""What says which card and which software was tested."""
_WORN = ("sram_exceeded",)
"""Settings that are the card's own verdict on itself."""


def _settings(case: Case, subject: Subject) -> CheckResult:
    telemetry, gpu = card(case, subject)
    asked = gpu.settings_asked
    if asked is None:
        raise MissingEvidence("limits, modes and identity were read only once")
    evidence = (
        at(telemetry, gpu, "settings", listing([_said(c) for c in gpu.changes]) or f"asked {asked} times"),
    )
    changes = sorted(gpu.changes, key=lambda change: (change.name not in IDENTITY, change.at))
    if changes:
        remedy, action = _meaning(changes[0])
        more = f", and {len(changes) - 4} more changes" if len(changes) > 4 else ""
        return failed(
            "changed during the run: " + "; ".join(_said(c) for c in changes[:4]) + more,
            remedy,
            action,
            evidence=evidence,
        )
    lasted = span(telemetry)
    if asked < max(1.0, lasted / ASKED_EVERY):
        raise MissingEvidence(f"limits, modes and identity were read again {asked} times in {lasted:.0f} s")
    return ok(
        f"limits, modes and identity were read again {asked} times and did not change", evidence=evidence
    )


def _said(change: Change) -> str:
    unit = PROPERTIES.get(change.name, "")
    unit = f" {unit}" if unit not in ("", "1", "bool") else ""
    before, after = f"{_value(change.before)}{unit}", f"{_value(change.after)}{unit}"
    return f"{change.name} from {before} to {after} by {change.at:.1f} s"


def _value(value: float | str | bool | None) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float | int) else str(value)[:80]


def _meaning(change: Change) -> tuple[str, Action]:
    if change.name in IDENTITY:
        return (
            "the card or its driver is not the one that the run began with: find out whether it was "
            "swapped, flashed or updated, and run again; if not, the card's own memory is faulty: "
            "replace it",
            Action.CONTACT_VENDOR,
        )
    if change.name in _WORN:
        return ("replace the card: it reports that its memory is worn out", Action.REPLACE_GPU)
    return (
        f"find out who or what changed {change.name} (a management agent, another user, the BMC, a power "
        "brake), set it back and run again: the results mix two states of the card",
        Action.FIX_CONFIG,
    )


CHECKS = (
    Check(
        id="gpu.settings",
        title="Did limits, modes and identity of the GPU stay the same?",
        why="A limit that is lowered in mid-run, or another card under the same address, invalidates "
        "what was measured.",
        scope=Scope.GUEST_GPU,
        phase=Phase.BURNIN,
        needs=(Observable.CARD,),
        judge=_settings,
    ),
)
