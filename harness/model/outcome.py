"""Outcomes, check results, coverage and verdicts: the closed vocabulary of a judgement."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What one check said. A check that never ran has no outcome: it is *missing* in the coverage."""

    PASS = "PASS"
    FAIL = "FAIL"
    ERROR = "ERROR"
    SKIP = "SKIP"


SERIOUSNESS: dict[Outcome | None, int] = {
    Outcome.PASS: 0,
    Outcome.SKIP: 1,
    None: 2,
    Outcome.ERROR: 2,
    Outcome.FAIL: 3,
}
"""Of several answers about one subject the most serious stands. One that is missing (None) and an ERROR weigh
alike: nothing is known."""


class Severity(StrEnum):
    """``blocker`` (required: decides the verdict) or ``advisory`` (reported only)."""

    BLOCKER = "blocker"
    ADVISORY = "advisory"


class Action(StrEnum):
    """What a person should do about a result."""

    NONE = "NONE"
    RESET_GPU = "RESET_GPU"
    RESTART_VM = "RESTART_VM"
    RESTART_HOST = "RESTART_HOST"
    REPLACE_GPU = "REPLACE_GPU"
    RESEAT = "RESEAT"
    FIX_FIRMWARE = "FIX_FIRMWARE"
    FIX_CONFIG = "FIX_CONFIG"
    CONTACT_VENDOR = "CONTACT_VENDOR"
    RETEST = "RETEST"


class Verdict(StrEnum):
    """The word on a host."""

    GO = "GO"
    GO_WITH_WAIVERS = "GO_WITH_WAIVERS"
    NO_GO = "NO_GO"
    INCONCLUSIVE = "INCONCLUSIVE"

    @property
    def exit_status(self) -> int:
        """Process exit status (DESIGN §4)."""
        return {"GO": 0, "GO_WITH_WAIVERS": 0, "NO_GO": 1, "INCONCLUSIVE": 3}[self.value]


class SubjectKind(StrEnum):
    """What a verdict may be said of. Only ``hardware`` enters baselines and launch reports."""

    HARDWARE = "hardware"
    STANDIN = "standin"
    LAB = "lab"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A named value with unit, and the limit it is held to, if any."""

    name: str
    value: float | None
    """None when it could not be measured; NaN and infinities are never stored."""
    unit: str
    lower: float | None = None
    upper: float | None = None
    subject: str = ""

    @property
    def within(self) -> bool | None:
        """Whether the value keeps its limits; None without a value or without limits."""
        if self.value is None or (self.lower is None and self.upper is None):
            return None
        return (self.lower is None or self.value >= self.lower) and (
            self.upper is None or self.value <= self.upper
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceRef:
    """Where to look: a file inside the run directory, a place in it, and the words that mattered."""

    file: str
    place: str = ""
    """``line 12``, ``pci_devices[3].numa_node`` ..."""
    quote: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What one check says of one subject."""

    check: str
    """Dotted id, ``host.iommu_live``."""
    subject: str
    """``host``, a PCI address, a guest name, ``<guest>/<pci address>`` or ``<guest>/<workload>``."""
    outcome: Outcome
    message: str
    """One sentence that a tired engineer understands, with the values seen."""
    remedy: str = ""
    action: Action = Action.NONE
    evidence: tuple[EvidenceRef, ...] = ()
    measurements: tuple[Measurement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageCell:
    """One planned check on one subject, and whether it was really carried out."""

    check: str
    subject: str
    severity: Severity
    outcome: Outcome | None
    """None: planned but no result (missing)."""
    slot: str = ""
    """Planned place of the subject, as it stands in the id of its test: ``gpu2``, ``4gpu-tensor``."""
    reason: str = ""
    """Why it is missing, skipped or errored."""
    waived_by: str = ""
    """Id of the waiver that carries a FAIL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A verdict with its reasons, most serious first, and the ledger it rests on."""

    verdict: Verdict
    reasons: tuple[str, ...]
    coverage: tuple[CoverageCell, ...]
    waivers_used: tuple[str, ...]
    waivers_unused: tuple[str, ...]
    """Waivers that matched nothing or have expired, with the reason."""
