"""Where the GPU is: the NUMA node the kernel knows it on."""

from __future__ import annotations

from harness.checks.answers import failed, gpu, host_facts, of_device, ok, seen
from harness.checks.base import Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.model.attachment import Observable
from harness.model.outcome import Action, CheckResult


def _known(case: Case, subject: Subject) -> CheckResult:
    facts, device = host_facts(case), gpu(case, subject)
    evidence = (seen(case, of_device(device.address, "numa_node"), device.numa_node),)
    if device.numa_node is None:
        if len(facts.numa_nodes) == 1:
            return ok("the kernel names no node, and the host has only one", evidence=evidence)
        return failed(
            f"the kernel knows no NUMA node for this GPU (numa_node is -1); the host has "
            f"{len(facts.numa_nodes)}",
            "update the firmware, or enable NUMA in its setup (Node Interleaving off, ACPI SRAT on), and "
            "remove numa=off from the kernel command line; ask the vendor for _PXM on this slot's root "
            "bus",
            Action.FIX_FIRMWARE,
            evidence=evidence,
        )
    node = facts.node(device.numa_node)
    if node is None:
        raise MissingEvidence(f"node {device.numa_node} of this GPU is not among the host's nodes")
    if not node.cpus:
        return failed(
            f"node {node.id} of this GPU has no CPU online",
            f"bring the CPUs of node {node.id} online, or ask the vendor which node is near this slot",
            Action.FIX_CONFIG,
            evidence=evidence,
        )
    near = device.local_cpus
    if near is not None and near and not set(near) & set(node.cpus):
        return failed(
            f"the kernel contradicts itself: node {node.id} has CPUs {list(node.cpus)[:8]}, but the GPU's "
            f"local CPUs are {list(near)[:8]}",
            "update the firmware: its ACPI tables place this slot on two nodes",
            Action.FIX_FIRMWARE,
            evidence=(*evidence, seen(case, of_device(device.address, "local_cpus"), near)),
        )
    return ok(f"the GPU is on NUMA node {node.id} with {len(node.cpus)} CPUs", evidence=evidence)


CHECKS = (
    Check(
        id="gpu.numa_node_known",
        title="Does the kernel know the GPU's NUMA node?",
        why="Without it no guest can be given cores and memory near the GPU; -1 means unknown, not node 0.",
        scope=Scope.GPU,
        phase=Phase.READINESS,
        needs=(Observable.FUNCTION,),
        judge=_known,
    ),
)
