"""What only ACME's GPUs are asked."""

from __future__ import annotations

from harness.checks.answers import failed, ok
from harness.checks.base import Case, Check, Phase, Scope, Subject
from harness.checks.watching.watched import at, card, stated
from harness.model.attachment import Observable
from harness.model.outcome import Action, CheckResult


def _seal(case: Case, subject: Subject) -> CheckResult:
    telemetry, gpu = card(case, subject)
    whole = stated(gpu, "acme_seal")
    evidence = (at(telemetry, gpu, "acme_seal", whole),)
    if not whole:
        return failed("the seal is broken", "send the card to ACME", Action.CONTACT_VENDOR, evidence=evidence)
    return ok("the seal is whole", evidence=evidence)


CHECKS = (
    Check(
        id="gpu.acme_seal",
        title="Is the card's seal whole?",
        why="A card whose seal is broken was opened by somebody.",
        scope=Scope.GUEST_GPU,
        phase=Phase.BURNIN,
        needs=(Observable.CARD,),
        judge=_seal,
    ),
)
