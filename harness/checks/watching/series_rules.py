"""Every rule by which a series of a GPU is judged, with its source, a series that breaks it and one that
keeps it. Whose cards play them keeps the table (``checks/series.py`` of a vendor's folder).

``shakedown rules lint`` plays both: a rule that its own bad series does not trip guards nothing, and one that
its clean series trips calls whole cards broken. The thresholds themselves stand beside the code that uses
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from harness.checks.base import Case as Judged
from harness.checks.base import MissingEvidence, Subject
from harness.checks.registry import CHECKS
from harness.model.evidence import Evidence, GuestEvidence
from harness.model.gpu import Cards, GpuRef
from harness.model.guest import GuestRequest
from harness.model.inventory import HostFile, Profile, TelemetrySpec
from harness.model.kernel_codes import KernelCodes
from harness.model.outcome import Outcome, SubjectKind
from harness.model.pci import PciAddress
from harness.model.telemetry import LoadWindow
from harness.telemetry.gpu.spool_lines import Spool
from harness.telemetry.gpu.summary import summarize
from harness.vendors.registry import parts

Points = Sequence[tuple[float, float]]
Case = Mapping[str, Points]
"""Reading or property to its points ``(seconds, value)``, straight between them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsedCard:
    """A card of one maker that plays cases under one load."""

    play: Callable[[Case], Spool]
    load: LoadWindow
    address: PciAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesRule:
    """One rule: what it guards, by which check, and the two series that show that it does."""

    id: str
    check: str
    source: str
    card: RehearsedCard
    file: str
    """Where it stands, from the root of the tree."""
    bad: Case
    clean: Case = field(default_factory=dict)
    """Empty: a healthy card."""
    outcome: Outcome | None = Outcome.FAIL
    """What the bad series leads to; None: missing evidence."""


def tried(rule: SeriesRule, host: HostFile, profile: Profile, codes: KernelCodes) -> Iterator[str]:
    """What is wrong with a rule, in words."""
    if not rule.source.strip():
        yield "no source"
    answer, words = judged(rule.check, rule.card, rule.bad, host=host, profile=profile, codes=codes)
    if answer is not rule.outcome:
        yield f"its bad series gives {answer or 'missing'}, not {rule.outcome or 'missing'}: {words}"
    answer, words = judged(rule.check, rule.card, rule.clean, host=host, profile=profile, codes=codes)
    if answer is not Outcome.PASS:
        yield f"its clean series gives {answer or 'missing'}: {words}"


def judged(
    check: str, card: RehearsedCard, case: Case, *, host: HostFile, profile: Profile, codes: KernelCodes
) -> tuple[Outcome | None, str]:
    """What a check says of a card that goes through a case; no outcome where evidence is missing."""
    load, address = card.load, card.address
    seen = summarize(
        card.play(case), (load,), TelemetrySpec(), guest="rehearsed", cards=Cards(same=True), codes=codes
    )
    guest = GuestEvidence(
        name="rehearsed",
        request=GuestRequest(name="rehearsed", gpus=1),
        workloads=(load.workload,),
        cards=Cards(refs=(GpuRef(host=address, guest=address),), same=True),
        telemetry=seen,
    )
    evidence = Evidence(
        host=host.name,
        subject=SubjectKind.HARDWARE,
        profile=profile.name,
        run="rehearsed",
        started_at="",
        ended_at=None,
        guests=(guest,),
    )
    subject = Subject(name="rehearsed", slot="rehearsed", guest=guest, device=address)
    try:
        asked = next(each for each in CHECKS if each.id == check)
        result = asked.judge(Judged(evidence=evidence, profile=profile, host=host), subject)
    except MissingEvidence as missing:
        return None, str(missing)
    return result.outcome, result.message


@cache
def rules() -> tuple[SeriesRule, ...]:
    """Every rule of every vendor."""
    return tuple(rule for table in parts("checks.series", "RULES") for rule in table)
