"""The host as a whole: the right number of GPUs, nobody else's domains, KVM, VFIO, room and versions."""

from __future__ import annotations

from harness.checks.answers import failed, host_facts, listing, ok, seen, version_numbers
from harness.checks.base import WITH_GUESTS, Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.checks.engine import expected
from harness.model.outcome import Action, CheckResult, Measurement
from harness.model.topology import Domain, HostFacts, Storage
from harness.placement.gpus import addresses
from harness.vendors.names import SWITCHES

_GIB = 1 << 30
_ROOM = 1 * _GIB
"""Least free space in the work directory: a throw-away overlay and logs of one guest at a time (the lab's
nested guests wrote under 0.4 GiB); the image itself is checked where it is copied."""
_OLDEST = {"libvirt": (9, 0), "qemu": (7, 2)}
"""Oldest versions that the domain XML was measured with (Debian 12)."""
_BAD_KERNELS = ((6, 14, 2), (6, 12, 23))
"""Upstream kernels in which PCI reset regressed (zen-kernel#380)."""


def _gpu_count(case: Case, _subject: Subject) -> CheckResult:
    facts = host_facts(case)
    found = case.gpus(facts)
    due = case.host.expected_gpus
    counts = {"before": len(found)}
    if case.evidence.facts_after is not None:
        counts["after"] = len(case.gpus(case.evidence.facts_after))
    evidence = (seen(case, "pci_devices", addresses(found) or "no GPU"),)
    measured = (
        Measurement(name="host.gpus", value=float(len(found)), unit="1", lower=float(due) if due else None),
    )
    least = expected(case.host, case.evidence.guests)
    wrong = [when for when, n in counts.items() if n < least or (due is not None and n != due)]
    if wrong:
        return failed(
            f"{counts[wrong[0]]} GPUs found {wrong[0]} the guests, {'expected' if due else 'needed'} {least}",
            "compare the slot labels with the chassis: reseat a card that is missing; if all are there, name "
            "them in the host file (placement.selector, expected_gpus)",
            Action.RESEAT,
            evidence=evidence,
            measurements=measured,
        )
    if "after" not in counts and any(guest.started for guest in case.evidence.guests):
        raise MissingEvidence("the GPU count was not read again after the guests")
    return ok(f"{len(found)} GPUs found", evidence=evidence, measurements=measured)


def _foreign(case: Case, facts: HostFacts) -> tuple[Domain, ...]:
    """Domains that this run did not create: its own carry the run's key in their name."""
    if facts.domains is None:
        raise MissingEvidence("running domains could be read from neither libvirt nor /proc")
    return tuple(
        domain for domain in facts.domains if not case.evidence.run or case.evidence.run not in domain.name
    )


def _no_foreign(case: Case, _subject: Subject) -> CheckResult:
    facts = host_facts(case)
    foreign = _foreign(case, facts)
    gpus = [device.address for device in case.gpus(facts)]
    names = [f"{d.name} ({'running' if d.running or d.pid else 'not running'})" for d in foreign]
    evidence = (seen(case, "domains", listing(names) or "none"),)
    holders = [d.name for d in foreign if set(d.hostdevs) & set(gpus)]
    if holders:
        return failed(
            f"domains that Shakedown did not create hold GPUs: {listing(holders)}",
            "move these guests away (Shakedown never touches them), then run again",
            Action.FIX_CONFIG,
            evidence=evidence,
        )
    if foreign and not case.host.allow_sharing:
        return failed(
            f"the host has domains that Shakedown did not create: {listing(names)}",
            "move these guests away, or set allow_sharing: true in the host file to run beside them",
            Action.FIX_CONFIG,
            evidence=evidence,
        )
    return ok(
        f"{len(foreign)} other domains, none with a GPU" if foreign else "no other domains", evidence=evidence
    )


def _holders(case: Case, _subject: Subject) -> CheckResult:
    holders = host_facts(case).device_holders
    if holders is None:
        raise MissingEvidence("the processes with open GPU or VFIO device files were not read")
    words = [f"process {holder.pid} ({holder.path})" for holder in holders]
    evidence = (seen(case, "device_holders", listing(words) or "none"),)
    if holders:
        return failed(
            f"GPU or VFIO device files are open: {listing(words)}",
            f"identify it (ps -fp {holders[0].pid}) and stop it; detaching a GPU in use can hang the host",
            Action.FIX_CONFIG,
            evidence=evidence,
        )
    return ok("no process holds a GPU or VFIO device file open", evidence=evidence)


def _kvm(case: Case, _subject: Subject) -> CheckResult:
    facts = host_facts(case)
    flags = listing(facts.virtualization, most=12)
    evidence = (seen(case, "kvm", facts.kvm), seen(case, "virtualization", flags))
    if not facts.kvm:
        has = bool({"vmx", "svm"} & set(facts.virtualization))
        return failed(
            "/dev/kvm is missing" + ("" if has else ", and the CPU shows neither vmx nor svm"),
            "modprobe kvm_intel or kvm_amd" if has else "enable VT-x or AMD-V (SVM) in the firmware setup",
            Action.FIX_CONFIG if has else Action.FIX_FIRMWARE,
            evidence=evidence,
        )
    return ok(f"/dev/kvm exists ({flags or 'CPU flags unknown'})", evidence=evidence)


def _vfio(case: Case, _subject: Subject) -> CheckResult:
    looks = [facts for facts in (host_facts(case), case.evidence.facts_after) if facts is not None]
    nodes = [node for facts in looks for node in facts.iommu.vfio_device_nodes]
    cdev = any(facts.iommu.iommufd for facts in looks)
    evidence = (
        seen(case, "iommu.vfio_device_nodes", listing(nodes) or "none"),
        seen(case, "iommu.iommufd", cdev),
    )
    if not nodes and not cdev:
        return failed(
            "VFIO is not available: neither /dev/vfio/vfio nor /dev/iommu exists",
            "modprobe vfio-pci, and name it in /etc/modules-load.d/vfio.conf",
            Action.FIX_CONFIG,
            evidence=evidence,
        )
    backends = [text for text, there in (("container", bool(nodes)), ("iommufd", cdev)) if there]
    return ok(f"VFIO is available ({' and '.join(backends)})", evidence=evidence)


def _storage(case: Case, _subject: Subject) -> CheckResult:
    facts = host_facts(case)
    room = _filesystem(facts, case.host.work_dir)
    if room is None or room.free_bytes is None:
        raise MissingEvidence(f"the free space of {case.host.work_dir} could not be read")
    evidence = (seen(case, f"storage[{room.path}]", f"{room.free_bytes} of {room.total_bytes} bytes free"),)
    free = Measurement(name="host.free_space", value=float(room.free_bytes), unit="B", lower=float(_ROOM))
    if room.free_bytes < _ROOM:
        return failed(
            f"{room.free_bytes / _GIB:.1f} GiB free for {case.host.work_dir}, {_ROOM / _GIB:.0f} are needed",
            f"free space on the filesystem of {case.host.work_dir}, or set work_dir in the host file",
            Action.FIX_CONFIG,
            evidence=evidence,
            measurements=(free,),
        )
    message = f"{room.free_bytes / _GIB:.1f} GiB free for {case.host.work_dir}"
    return ok(message, evidence=evidence, measurements=(free,))


def _filesystem(facts: HostFacts, path: str) -> Storage | None:
    """The listed filesystem that holds ``path``: the longest that is a parent of it."""
    holding = [
        s
        for s in facts.storage
        if path == s.path or path.startswith(s.path.rstrip("/") + "/") or s.path == "/"
    ]
    return max(holding, key=lambda s: len(s.path), default=None)


def _versions(case: Case, _subject: Subject) -> CheckResult:
    found = host_facts(case).versions
    evidence = (seen(case, "versions", found),)
    unknown = [name for name in ("kernel", "qemu", "libvirt") if getattr(found, name) is None]
    if unknown:
        raise MissingEvidence(
            f"the version of {listing(unknown)} is unknown, so the verdict cannot be tied to a version"
        )
    after = case.evidence.facts_after
    changed = [
        f"{name} {getattr(found, name)} became {getattr(after.versions, name)}"
        for name in ("kernel", "qemu", "libvirt", "bios", "bmc", "microcode")
        if after is not None and getattr(found, name) != getattr(after.versions, name)
    ]
    problems = [f"during the run {text}" for text in changed]
    for name, oldest in _OLDEST.items():
        if version_numbers(getattr(found, name) or "") < oldest:
            wanted = ".".join(str(n) for n in oldest)
            problems.append(f"{name} {getattr(found, name)} is older than {wanted}")
    if version_numbers(found.kernel or "") in _BAD_KERNELS:
        problems.append(f"kernel {found.kernel} has broken PCI reset (zen-kernel#380)")
    if problems:
        return failed(
            listing(problems),
            "update the host to a supported version, keep upgrades off during a run, and run again",
            Action.FIX_CONFIG,
            evidence=evidence,
        )
    return ok(f"kernel {found.kernel}, QEMU {found.qemu}, libvirt {found.libvirt}", evidence=evidence)


def _noise(case: Case, _subject: Subject) -> CheckResult:
    noise = host_facts(case).noise
    known = {
        "KSM": noise.ksm,
        "NUMA balancing": noise.numa_balancing,
        "transparent hugepages": noise.transparent_hugepages,
        "CPU governor": noise.governor,
    }
    evidence = (seen(case, "noise", known),)
    loud: list[tuple[str, str]] = []
    if noise.ksm:
        loud.append(("KSM merges pages", "echo 2 > /sys/kernel/mm/ksm/run"))
    if noise.numa_balancing:
        loud.append(("NUMA balancing moves pages", "sysctl kernel.numa_balancing=0"))
    if noise.governor not in (None, "performance"):
        loud.append((f"the CPU governor is {noise.governor}", "cpupower frequency-set -g performance"))
    if loud:
        remedy = "; ".join(command for _, command in loud)
        message = "; ".join(what for what, _ in loud)
        return failed(message, remedy, Action.FIX_CONFIG, evidence=evidence)
    unread = [
        what
        for what, value in (("KSM", noise.ksm), ("NUMA balancing", noise.numa_balancing))
        if value is None
    ]
    if unread:
        raise MissingEvidence(f"the state of {listing(unread)} could not be read")
    # A host without frequency scaling (most virtual ones) has no governor at all.
    governor = "CPU governor performance" if noise.governor is not None else "no CPU frequency governor"
    return ok(f"no KSM, no NUMA balancing, {governor}", evidence=evidence)


def _fabric(case: Case, _subject: Subject) -> CheckResult:
    facts = host_facts(case)
    switches = [
        d.address
        for d in facts.pci_devices
        if any(d.vendor == vendor and d.class_code.startswith(code) for vendor, code in SWITCHES)
    ]
    if switches:
        raise MissingEvidence(
            f"the host has {len(switches)} switches between its GPUs; guests with two or more GPUs need a "
            "fabric partition, and its state is not read yet"
        )
    evidence = (seen(case, "pci_devices", f"{len(facts.pci_devices)} functions, no switch between GPUs"),)
    return ok("no switch fabric, so no partition is needed", evidence=evidence)


CHECKS = (
    Check(
        id="host.gpu_count",
        title="Does the host have all its GPUs, before and after the guests?",
        why="A card that is missing from the bus causes no error anywhere else.",
        scope=Scope.HOST,
        phase=Phase.AFTERWARDS,
        judge=_gpu_count,
    ),
    Check(
        id="host.no_foreign_domains",
        title="Is the host free of domains that Shakedown did not create?",
        why="A test beside a tenant disturbs both and proves nothing about the host.",
        scope=Scope.HOST,
        phase=Phase.READINESS,
        judge=_no_foreign,
    ),
    Check(
        id="host.devices_free",
        title="Are the GPUs' device files closed?",
        why="Taking a GPU from a process that uses it hangs the host's driver (kubevirt#8549).",
        scope=Scope.HOST,
        phase=Phase.READINESS,
        needs=WITH_GUESTS,
        judge=_holders,
    ),
    Check(
        id="host.kvm",
        title="Can the host run guests with KVM?",
        why="Without /dev/kvm guests are emulated, a hundred times slower.",
        scope=Scope.HOST,
        phase=Phase.READINESS,
        needs=WITH_GUESTS,
        judge=_kvm,
    ),
    Check(
        id="host.vfio_available",
        title="Is VFIO available?",
        why="Without a VFIO device node there is no passthrough; a verdict also holds for one VFIO "
        "backend only.",
        scope=Scope.HOST,
        phase=Phase.AFTERWARDS,
        needs=WITH_GUESTS,
        judge=_vfio,
    ),
    Check(
        id="host.storage",
        title="Is there enough disk space for a guest's temporary disk?",
        why="A full disk stops guests in the middle of their work.",
        scope=Scope.HOST,
        phase=Phase.AFTERWARDS,
        judge=_storage,
    ),
    Check(
        id="host.versions",
        title="Are kernel, QEMU and libvirt known, new enough, and the same after the run?",
        why="A verdict holds for the versions it was given on.",
        scope=Scope.HOST,
        phase=Phase.AFTERWARDS,
        needs=WITH_GUESTS,
        judge=_versions,
    ),
    Check(
        id="host.noise",
        title="Is the host tuned for stable measurements?",
        why="KSM, NUMA balancing and power saving make equal GPUs look different.",
        scope=Scope.HOST,
        phase=Phase.READINESS,
        judge=_noise,
    ),
    Check(
        id="host.fabric",
        title="Is the GPU fabric ready for guests, if the host has one?",
        why="On hosts with GPU switches two or more GPUs need an active partition; else no program can "
        "use them.",
        scope=Scope.HOST,
        phase=Phase.READINESS,
        judge=_fabric,
    ),
)
