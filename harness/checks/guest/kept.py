"""Whether a guest stayed where it was put, and whole, for as long as its loads ran.

``placement.*`` ask where it landed. Here each later look is held to the same plan, and the worst decides.
"""

from __future__ import annotations

from harness.checks.answers import error, failed, guest, listing, ok, why_no_guest
from harness.checks.base import WITH_GUESTS, Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.checks.host.unchanged import asides, references, watched, words
from harness.model.evidence import GuestEvidence
from harness.model.host_change import Weight
from harness.model.inventory import Profile
from harness.model.outcome import Action, CheckResult, EvidenceRef
from harness.model.placement import Difference, Moment, ObservedPlacement, PlacementLook, PlacementPlan
from harness.placement.observe.compare import (
    compare_kernel_threads,
    compare_memory,
    compare_state,
    compare_threads,
)
from harness.placement.observe.compare_guest import compare_devices, compare_guest
from harness.placement.observe.difference import UNKNOWN
from harness.telemetry.host.table import WATCHED, About

_REMEDY = (
    "find what made this change at that time and prevent it: a person or tool using virsh (vcpupin, "
    "suspend, setmem, detach-device), a tuning daemon, numad, a cpuset; the loads' results do not hold "
    "for the planned placement"
)


def _kept(case: Case, subject: Subject) -> CheckResult:
    evidence = guest(subject)
    if evidence.plan is None or evidence.observed is None:
        raise MissingEvidence(f"the guest's placement was not observed: {why_no_guest(case, evidence)}")
    wrong: list[str] = []
    silent: list[str] = []
    for look in evidence.looks:
        found, unknown = _look(case.profile, evidence.plan, evidence.observed, look)
        wrong += found
        silent += unknown
    telemetry = case.evidence.host_telemetry
    changes = [c for c in telemetry.changes if c.guest == evidence.name] if telemetry is not None else []
    wrong += [words(change) for change in changes if change.weight is Weight.HARMFUL]
    doubtful = [words(change) for change in changes if change.weight is Weight.DOUBTFUL]
    refs = _refs(evidence, [*wrong, *doubtful, *silent])
    if telemetry is not None and changes:
        refs = (*refs, *references(telemetry, changes))
    if wrong or doubtful:
        found = [*wrong, *doubtful]
        more = f" (in {len(found)} places)" if len(found) > 1 else ""
        said = f"the placement changed{more}: {listing(found, most=4)}"
        if wrong:
            return failed(said, _REMEDY, Action.FIX_CONFIG, evidence=refs)
        return error(said, _REMEDY, evidence=refs)
    silent += _never_looked(case, evidence)
    seen = watched(case)
    if not seen.closed:
        silent.append("the host was not watched to the end (see host.watched)")
    asked = seen.asked
    silent += [f"not read while the loads ran: {name}" for name in _due(evidence) if not asked.get(name)]
    if silent:
        raise MissingEvidence(listing(silent, most=4))
    moments = " and ".join(_when(look) for look in evidence.looks)
    reads = min(asked[name] for name in _due(evidence))
    return ok(f"as planned {moments}; unchanged in {reads} readings between{asides(changes)}", evidence=refs)


def _due(evidence: GuestEvidence) -> list[str]:
    return [f"{row.name} of {evidence.name}" for row in WATCHED if row.due and row.about is About.GUEST]


def _look(
    profile: Profile, plan: PlacementPlan, before: ObservedPlacement, look: PlacementLook
) -> tuple[list[str], list[str]]:
    """What one look shows that is not as planned, and what it could not show."""
    silent = [f"{_when(look)}: {look.detail}"] if look.detail else []
    seen = look.observed
    if seen is None:
        return [], silent
    differences = [
        *compare_state(seen),
        *compare_threads(plan, seen),
        *compare_memory(plan, seen, memory_share=profile.memory_on_node_share),
        *compare_guest(plan, seen),
        *compare_devices(plan, seen),
        *_process(before, seen),
        *_kernel_threads(plan, before, seen),
    ]
    wrong = [f"{_when(look)}: {_words(d)}" for d in differences if d.observed != UNKNOWN]
    silent += [f"{_when(look)}: {_words(d)}" for d in differences if d.observed == UNKNOWN]
    silent += [f"{_when(look)}: {problem}" for problem in seen.problems]
    return wrong, silent


def _process(before: ObservedPlacement, seen: ObservedPlacement) -> list[Difference]:
    if seen.pid == before.pid:
        return []
    said = [f"process {pid}" for pid in (before.pid, seen.pid)]
    return [Difference(layer="kernel", what="QEMU of the guest", planned=said[0], observed=said[1])]


def _kernel_threads(
    plan: PlacementPlan, before: ObservedPlacement, seen: ObservedPlacement
) -> list[Difference]:
    """Those that were loosened. How they are from the start is ``placement.kernel_threads``'s to say: libvirt
    does not confine them."""
    known = {(d.what, d.observed) for d in compare_kernel_threads(plan, before)}
    tied = {thread.name for thread in before.threads if thread.kernel}
    return [
        d
        for d in compare_kernel_threads(plan, seen)
        if (d.what, d.observed) not in known and d.what.removeprefix("kernel thread ") in tied
    ]


def _never_looked(case: Case, evidence: GuestEvidence) -> list[str]:
    seen = {look.moment for look in evidence.looks}
    missing = [moment.value for moment in Moment if moment not in seen]
    if not missing:
        return []
    return [f"the placement was not observed {' or '.join(missing)}: {why_no_guest(case, evidence)}"]


def _when(look: PlacementLook) -> str:
    return look.moment.value if look.at is None else f"{look.moment.value} (host up {look.at:.0f} s)"


def _words(difference: Difference) -> str:
    return f"{difference.what}: planned {difference.planned}, observed {difference.observed}"


def _refs(evidence: GuestEvidence, quotes: list[str]) -> tuple[EvidenceRef, ...]:
    place = f"guests[{evidence.name}].looks"
    files = tuple(EvidenceRef(file=f, place="transcript") for look in evidence.looks for f in look.files)
    return (EvidenceRef(file="run.json", place=place, quote="; ".join(quotes)[:400]), *files)


CHECKS = (
    Check(
        id="placement.kept",
        title="Did the guest keep running, placed as planned, while its loads ran?",
        why="If a guest is moved, paused or shrunk during a run, its results do not describe the planned "
        "guest.",
        scope=Scope.GUEST,
        phase=Phase.AFTERWARDS,
        needs=WITH_GUESTS,
        judge=_kept,
    ),
)
