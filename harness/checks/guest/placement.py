"""Where a guest really landed, against the plan it was given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.checks.answers import failed, guest, listing, ok, why_no_guest
from harness.checks.base import WITH_GUESTS, Case, Check, Judge, MissingEvidence, Phase, Scope, Subject
from harness.model.attachment import Observable
from harness.model.evidence import GuestEvidence
from harness.model.outcome import Action, CheckResult, EvidenceRef
from harness.model.placement import Difference, ObservedPlacement, PlacementPlan
from harness.placement.observe.compare import compare_kernel_threads, compare_memory, compare_threads
from harness.placement.observe.compare_guest import compare_devices, compare_guest
from harness.placement.observe.difference import UNKNOWN

_TOPICS = ("threads", "memory", "devices", "guest")
"""First words of ``ObservedPlacement.problems``; a problem without one leaves everything in doubt."""

Compare = Callable[[Case, Subject, PlacementPlan, ObservedPlacement], Sequence[Difference]]


def _refs(evidence: GuestEvidence, quotes: Sequence[str]) -> tuple[EvidenceRef, ...]:
    quote = "; ".join(quotes)[:400]
    place = f"guests[{evidence.name}].observed"
    files = tuple(EvidenceRef(file=file, place="transcript") for file in evidence.observed_files)
    return (EvidenceRef(file="run.json", place=place, quote=quote), *files)


def _words(difference: Difference) -> str:
    return f"{difference.what}: planned {difference.planned}, observed {difference.observed}"


def _plain(compare: Callable[[PlacementPlan, ObservedPlacement], Sequence[Difference]]) -> Compare:
    """A comparison that needs nothing but the two placements."""
    return lambda _case, _subject, plan, observed: compare(plan, observed)


def _judge(
    compare: Compare, topics: Sequence[str], remedy: str, said: str, action: Action = Action.FIX_CONFIG
) -> Judge:
    """A judge that demands no difference, and no doubt about its ``topics`` either."""

    def judge(case: Case, subject: Subject) -> CheckResult:
        evidence = guest(subject)
        plan, observed = _evidence(case, evidence)
        differences = compare(case, subject, plan, observed)
        wrong = [_words(d) for d in differences if d.observed != UNKNOWN]
        silent = [_words(d) for d in differences if d.observed == UNKNOWN]
        doubts = [problem for problem in observed.problems if _concerns(problem, topics)]
        if wrong:
            refs = _refs(evidence, [*wrong, *silent, *doubts])
            more = f" (in {len(wrong)} places)" if len(wrong) > 1 else ""
            return failed(
                f"not placed as planned{more}: {listing(wrong, most=4)}", remedy, action, evidence=refs
            )
        if silent or doubts:
            raise MissingEvidence(listing([*doubts, *silent], most=4))
        return ok(said, evidence=_refs(evidence, []))

    return judge


def _concerns(problem: str, topics: Sequence[str]) -> bool:
    topic = problem.partition(":")[0]
    return topic in topics or topic not in _TOPICS


def _evidence(case: Case, evidence: GuestEvidence) -> tuple[PlacementPlan, ObservedPlacement]:
    if evidence.plan is None:
        raise MissingEvidence(f"there is nothing to compare: {why_no_guest(case, evidence)}")
    if evidence.observed is None:
        raise MissingEvidence(f"the guest's placement was not observed: {why_no_guest(case, evidence)}")
    return evidence.plan, evidence.observed


def _memory(
    case: Case, _subject: Subject, plan: PlacementPlan, observed: ObservedPlacement
) -> Sequence[Difference]:
    return compare_memory(plan, observed, memory_share=case.profile.memory_on_node_share)


def _devices(
    _case: Case, subject: Subject, plan: PlacementPlan, observed: ObservedPlacement
) -> Sequence[Difference]:
    if subject.device is None or all(gpu.host != subject.device for gpu in plan.gpus):
        raise MissingEvidence(f"the plan names no device for {subject.name}")
    return compare_devices(plan, observed, only=subject.device)


def _plan(case: Case, subject: Subject) -> CheckResult:
    evidence = guest(subject)
    if evidence.plan is not None:
        plan = evidence.plan
        place = f"guests[{evidence.name}].plan"
        gpus = ", ".join(str(gpu.host) for gpu in plan.gpus) or "no GPU"
        nodes = ", ".join(str(node) for node in sorted({cell.host_node for cell in plan.cells}))
        if len(plan.gpus) != evidence.request.gpus:
            return failed(
                f"the plan has {len(plan.gpus)} GPUs, the guest requests {evidence.request.gpus}",
                "this is a bug in the planner: report it with this run directory",
                Action.RETEST,
                evidence=(EvidenceRef(file="run.json", place=place, quote=gpus),),
            )
        return ok(
            f"planned on NUMA node {nodes} with {gpus}",
            evidence=(EvidenceRef(file="run.json", place=place, quote=gpus),),
        )
    if evidence.no_plan is None:
        raise MissingEvidence(f"no placement was planned: {why_no_guest(case, evidence)}")
    reasons = [f"{reason.code}: {reason.message}" for reason in evidence.no_plan.reasons]
    return failed(
        f"this guest cannot be placed on the host: {listing(reasons)}",
        "remove each reason, then run again; `shakedown plan --facts FILE --gpus N` shows them without a run",
        Action.FIX_CONFIG,
        evidence=(
            EvidenceRef(file="run.json", place=f"guests[{evidence.name}].no_plan", quote=listing(reasons)),
        ),
    )


def _xml(case: Case, subject: Subject) -> CheckResult:
    evidence = guest(subject)
    if evidence.xml_problems:
        return failed(
            f"the domain XML contradicts itself or the plan: {listing(evidence.xml_problems)}",
            "report this with the XML and the facts of this run: libvirt would accept this domain, but "
            "the guest would not work properly",
            Action.FIX_CONFIG,
            evidence=(EvidenceRef(file=evidence.domain_xml or "run.json", place="domain"),),
        )
    if not evidence.domain_xml:
        raise MissingEvidence(f"no domain XML was made: {why_no_guest(case, evidence)}")
    return ok(
        "the domain XML passes our own checks",
        evidence=(EvidenceRef(file=evidence.domain_xml, place="domain"),),
    )


CHECKS = (
    Check(
        id="placement.plan",
        title="Can this guest be placed on the host?",
        why="A host that cannot place a guest NUMA-locally cannot be rented in that size.",
        scope=Scope.GUEST,
        phase=Phase.PLACEMENT,
        needs=WITH_GUESTS,
        judge=_plan,
    ),
    Check(
        id="placement.xml",
        title="Is the domain XML free of errors that libvirt does not catch?",
        why="libvirt accepts overlapping bus ranges, shared CPUs and absent nodes; guests then lose devices.",
        scope=Scope.GUEST,
        phase=Phase.PLACEMENT,
        needs=WITH_GUESTS,
        judge=_xml,
    ),
    Check(
        id="placement.threads",
        title="Does every thread of the guest's process run where it was planned?",
        why="A vCPU that may move, or an emulator thread on a vCPU's core, costs the tenant CPU time at "
        "random.",
        scope=Scope.GUEST,
        phase=Phase.PLACEMENT,
        needs=WITH_GUESTS,
        judge=_judge(
            _plain(compare_threads),
            ("threads",),
            "compare <cputune> of the domain with the plan, and look for what moves threads on this host: "
            "cpuset cgroups, a tuning daemon, numad, isolcpus",
            "every vCPU thread may run on its own CPU only, all others on the emulator's",
        ),
    ),
    Check(
        id="placement.kernel_threads",
        title="Do the guest's kernel threads stay off the tenants' cores?",
        why="vhost and KVM threads run on any core unless they are pinned.",
        scope=Scope.GUEST,
        phase=Phase.PLACEMENT,
        needs=WITH_GUESTS,
        judge=_judge(
            _plain(compare_kernel_threads),
            ("threads",),
            "pin them after start (taskset -p -c CPUS TID), confine them with isolcpus or a cpuset, or "
            "avoid them: kernel-irqchip=split removes KVM's timer thread (kvm-pit)",
            "every kernel thread of the guest stays among the emulator's CPUs",
        ),
    ),
    Check(
        id="placement.memory",
        title="Is the guest's memory on the planned NUMA nodes?",
        why="Remote memory halves bandwidth to the GPU, and the guest cannot see it.",
        scope=Scope.GUEST,
        phase=Phase.PLACEMENT,
        needs=WITH_GUESTS,
        judge=_judge(
            _memory,
            ("memory",),
            "check <numatune> and <memoryBacking> of the domain, and free hugepages of each node "
            "(/sys/devices/system/node/node*/hugepages)",
            "every guest cell's memory is bound to its host node and is there",
        ),
    ),
    Check(
        id="placement.guest_topology",
        title="Does the guest see its planned NUMA nodes, and no foreign device?",
        why="Software in the guest places itself by what the guest's kernel reports.",
        scope=Scope.GUEST,
        phase=Phase.PLACEMENT,
        needs=WITH_GUESTS,
        judge=_judge(
            _plain(compare_guest),
            ("guest", "devices"),
            "compare <numa> and <hostdev> of the domain with the plan; look in the guest's kernel log for "
            "SRAT, SLIT and numa= on its command line",
            "the guest's nodes, CPUs and distances are as planned",
        ),
    ),
    Check(
        id="placement.devices",
        title="Did the guest get exactly this device, near the right node?",
        why="Order of enumeration proves nothing: each layer must name the same device.",
        scope=Scope.GUEST_GPU,
        phase=Phase.PLACEMENT,
        needs=(*WITH_GUESTS, Observable.FUNCTION),
        judge=_judge(
            _devices,
            ("devices", "guest"),
            "compare <hostdev> and the pcie-expander-bus controllers of the domain with the plan; a device "
            "that is missing in the guest means overlapping bus numbers or a device that does not answer",
            "host, QEMU and guest agree on the device, its root port and its NUMA node",
        ),
    ),
)
