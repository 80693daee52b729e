"""CPUs: whole cores online, and nothing else on the guests' cores."""

from __future__ import annotations

from collections import Counter

from harness.checks.answers import failed, host_facts, listing, ok, seen
from harness.checks.base import WITH_GUESTS, Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.model.outcome import Action, CheckResult
from harness.model.topology import Cpu, HostFacts


def _planned_cpus(case: Case) -> frozenset[int]:
    plans = [guest.plan for guest in case.evidence.guests if guest.plan is not None]
    return frozenset(cpu for plan in plans for cpu in plan.vcpupin.values())


def _whole(case: Case, _subject: Subject) -> CheckResult:
    facts = host_facts(case)
    if not facts.cpus:
        raise MissingEvidence("the facts list no CPU")
    online = [cpu for cpu in facts.cpus if cpu.online]
    unknown = [cpu.id for cpu in facts.cpus if cpu.online is None or (cpu.online and not cpu.siblings)]
    if unknown:
        raise MissingEvidence(f"state or siblings of CPU {listing(unknown)} could not be read")
    offline = [cpu.id for cpu in facts.cpus if not cpu.online]
    evidence = (seen(case, "cpus", f"{len(online)} online, offline: {listing(offline) or 'none'}"),)
    broken = _uneven(online) if offline else []
    problems = [f"core of CPU {cpu} lacks a hardware thread" for cpu in broken]
    problems += _of_plans(case, facts)
    if problems:
        return failed(
            f"some cores are only partly online: {listing(problems)}",
            "bring the other threads online: echo 1 > /sys/devices/system/cpu/cpu<N>/online, and see what "
            "takes them offline at boot (maxcpus=, firmware, tuned)",
            Action.FIX_CONFIG,
            evidence=evidence,
        )
    rest = f"; {len(offline)} offline, evenly" if offline else ""
    return ok(f"{len(online)} CPUs online in whole cores{rest}", evidence=evidence)


def _uneven(online: list[Cpu]) -> list[int]:
    """First CPUs of cores with fewer threads than most; an offline thread no longer says its core."""
    counts = Counter(len(cpu.siblings) for cpu in online)
    usual = max(counts)
    return sorted({cpu.siblings[0] for cpu in online if len(cpu.siblings) < usual})


def _of_plans(case: Case, facts: HostFacts) -> list[str]:
    by_id = {cpu.id: cpu for cpu in facts.cpus}
    problems: list[str] = []
    for guest in case.evidence.guests:
        if guest.plan is None:
            continue
        pinned = set(guest.plan.vcpupin.values())
        for number in sorted(pinned | set(guest.plan.emulatorpin)):
            cpu = by_id.get(number)
            if cpu is None or not cpu.online:
                problems.append(f"{guest.name} needs CPU {number}, which is not online")
            elif number in pinned and not set(cpu.siblings) <= pinned:
                problems.append(f"{guest.name} has only part of the core of CPU {number}")
    return problems


def _interrupts(case: Case, _subject: Subject) -> CheckResult:
    facts = host_facts(case)
    planned = _planned_cpus(case)
    if not planned:
        raise MissingEvidence("no guest was planned, so no CPU is dedicated to a guest")
    if not facts.noise.irq_affinity:
        raise MissingEvidence("interrupt affinities could not be read")
    stray = sorted(irq for irq, cpus in facts.noise.irq_affinity.items() if planned & set(cpus))
    evidence = (seen(case, "noise.irq_affinity", f"{len(stray)} of {len(facts.noise.irq_affinity)}"),)
    if stray:
        return failed(
            f"{len(stray)} host interrupts may run on guests' CPUs: {listing(stray)}",
            "keep them off these CPUs: irqaffinity=<host CPUs> on the kernel command line, "
            "IRQBALANCE_BANNED_CPULIST in /etc/default/irqbalance",
            Action.FIX_CONFIG,
            evidence=evidence,
        )
    return ok("no host interrupt may run on a guest's CPU", evidence=evidence)


CHECKS = (
    Check(
        id="host.cpus",
        title="Are the CPUs online in whole cores, and do guests get whole cores?",
        why="Two tenants that share a core slow each other down and can spy on each other.",
        scope=Scope.HOST,
        phase=Phase.AFTERWARDS,
        needs=WITH_GUESTS,
        judge=_whole,
    ),
    Check(
        id="host.irq_affinity",
        title="Do the host's interrupts stay off the guests' CPUs?",
        why="Every interrupt on a pinned CPU stops the guest for microseconds.",
        scope=Scope.HOST,
        phase=Phase.AFTERWARDS,
        needs=WITH_GUESTS,
        judge=_interrupts,
    ),
)
