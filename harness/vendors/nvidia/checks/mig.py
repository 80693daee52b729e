"""Whether a GPU is whole, or cut into instances (MIG)."""

from __future__ import annotations

from harness.checks.answers import failed, ok
from harness.checks.base import Case, Check, Phase, Scope, Subject
from harness.checks.watching.gpu import on
from harness.checks.watching.watched import at, at_any_time, card, stated
from harness.model.attachment import Observable
from harness.model.outcome import Action, CheckResult


def _mig_mode(case: Case, subject: Subject) -> CheckResult:
    """A GPU that is cut into instances, or will be, is no whole GPU: CUDA then sees one instance of it."""
    telemetry, gpu = card(case, subject)
    now, pending = stated(gpu, "mig"), stated(gpu, "mig_pending")
    evidence = (at(telemetry, gpu, "mig mode", f"current {now}, pending {pending}"),)
    if now is None:
        return ok("the card reports that it has no MIG mode", evidence=evidence)
    once = any(at_any_time(gpu, "mig"))
    if once or pending:
        will = "" if bool(pending) == once else f", and will be {on(pending)} after the next reset"
        since = next((f" from {c.at:.1f} s on" for c in gpu.changes if c.name == "mig" and c.after), "")
        return failed(
            f"MIG is {on(once)}{since}{will}: a tenant would get a slice of the GPU",
            f"find out who enabled MIG, switch it off (nvidia-smi -i {gpu.index} -mig 0), reset the GPU "
            "and run again",
            Action.FIX_CONFIG,
            evidence=evidence,
        )
    return ok("MIG is off", evidence=evidence)


CHECKS = (
    Check(
        id="gpu.mig_mode",
        title="Is the GPU whole, with MIG off?",
        why="MIG stays on after the guest ends: the next tenant gets a slice and pays for a GPU.",
        scope=Scope.GUEST_GPU,
        phase=Phase.BURNIN,
        needs=(Observable.CARD,),
        judge=_mig_mode,
    ),
)
