"""After the guest: devices, hugepages and files are back to what they were."""

from __future__ import annotations

from harness.checks.answers import failed, guest, listing, ok, why_no_guest
from harness.checks.base import WITH_GUESTS, Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.checks.guest.death import told_of
from harness.checks.plain import plain
from harness.model.evidence import DeviceReturn, GuestEvidence, ReleaseEvidence
from harness.model.outcome import Action, CheckResult, EvidenceRef, Measurement


def _release(case: Case, subject: Subject) -> tuple[GuestEvidence, ReleaseEvidence]:
    evidence = guest(subject)
    if evidence.release is None:
        raise MissingEvidence(f"the release was not recorded: {why_no_guest(case, evidence)}")
    return evidence, evidence.release


def _ref(evidence: GuestEvidence, place: str, quote: str) -> tuple[EvidenceRef, ...]:
    return (
        EvidenceRef(file="run.json", place=f"guests[{evidence.name}].release.{place}", quote=quote[:400]),
    )


def _devices(case: Case, subject: Subject) -> CheckResult:
    evidence, release = _release(case, subject)
    if evidence.plan is None:
        raise MissingEvidence("no plan names the devices that were assigned")
    looked = {back.device for back in release.devices}
    unseen = [device for device in evidence.plan.hostdevs if device not in looked]
    problems = [words for back in release.devices for words in _device_problems(back)]
    refs = _ref(evidence, "devices", listing(list(release.devices)))
    if problems:
        return failed(
            f"devices did not return to their state before the guest: {listing(problems)}",
            "read the host's kernel log; bind the driver again (driverctl unset-override); a device that is "
            "gone or lost its reset needs a power cycle of the host",
            Action.RESTART_HOST,
            evidence=refs,
        )
    if unseen:
        raise MissingEvidence(f"{listing(unseen)} was not read after the guest")
    blind = [back.device for back in release.devices if back.config_ok is None]
    if blind:
        raise MissingEvidence(f"configuration space of {listing(blind)} was not read after the guest")
    _require_start(case, evidence)
    return ok(f"{len(release.devices)} functions returned to their state before the guest", evidence=refs)


def _require_start(case: Case, evidence: GuestEvidence) -> None:
    """What was never handed over cannot come back: no PASS for a guest that did not start."""
    if not evidence.started:
        raise MissingEvidence(f"the guest was not started: {why_no_guest(case, evidence)}")


def _device_problems(back: DeviceReturn) -> list[str]:
    if not back.present:
        return [f"{back.device} is gone"]
    problems = []
    if back.config_ok is False:
        problems.append(f"{back.device} no longer answers")
    if back.driver_after != back.driver_before:
        was, now = back.driver_before or "no driver", back.driver_after or "no driver"
        problems.append(f"{back.device} was on {was}, is on {now}")
    lost = [method for method in back.reset_methods_before if method not in back.reset_methods_after]
    if lost:
        problems.append(f"{back.device} lost reset method {listing(lost)}")
    return problems


def _memory(case: Case, subject: Subject) -> CheckResult:
    evidence, release = _release(case, subject)
    before, after = release.hugepages_before, release.hugepages_after
    refs = _ref(evidence, "hugepages_after", f"before: {plain(before)}; after: {plain(after)}")
    unread = sorted(set(before) - set(after))
    if unread:
        raise MissingEvidence(f"free hugepages of {listing(unread)} were not read after the guest")
    if not before and (evidence.plan is None or evidence.plan.hugepage_kib is not None):
        raise MissingEvidence("free hugepages were not read before the guest")
    short = [
        f"{key}: {before[key]} before, {after[key]} after"
        for key in sorted(before)
        if after[key] < before[key]
    ]
    if short:
        return failed(
            f"hugepages were not freed: {listing(short)}",
            "find who holds them (grep -l huge /proc/*/numa_maps); end left-over QEMU processes",
            Action.RESTART_HOST,
            evidence=refs,
        )
    _require_start(case, evidence)
    return ok(f"free hugepages are back in {len(before)} pools", evidence=refs)


def _leftovers(case: Case, subject: Subject) -> CheckResult:
    evidence, release = _release(case, subject)
    kinds = ("processes", "files", "domains", "networks", "claims")
    left = {kind: getattr(release, f"leftover_{kind}") for kind in kinds}
    found = [f"{kind}: {listing(items)}" for kind, items in left.items() if items]
    if found:
        return failed(
            f"left on the host: {'; '.join(found)}",
            "run `shakedown qualify --host NAME`, which clears what ended runs left, then check again",
            Action.FIX_CONFIG,
            evidence=_ref(evidence, "leftover", "; ".join(found)),
        )
    return ok("no process, file, domain, network or claim was left")


def _orderly(case: Case, subject: Subject) -> CheckResult:
    evidence, release = _release(case, subject)
    took = Measurement(name="guest.release", value=release.seconds, unit="s", subject=evidence.name)
    _require_start(case, evidence)
    if evidence.death is not None and (release.ended_before or release.forced):
        return told_of(evidence, evidence.death, measurements=(took,))
    if release.ended_before:
        return failed(
            "the guest had ended by itself before it was asked to shut down",
            "read the end of the guest's serial console and the host's /var/log/libvirt/qemu log",
            Action.RETEST,
            measurements=(took,),
        )
    if release.problems:
        return failed(
            f"steps of the release failed: {listing(release.problems)}",
            "see what is left on the host, and what libvirt and the kernel log say of these steps",
            Action.RETEST,
            measurements=(took,),
        )
    if release.forced:
        return failed(
            "the guest did not shut down by itself and was destroyed",
            "read the end of the guest's serial console; GPUs are often lost after a forced stop",
            Action.RETEST,
            measurements=(took,),
        )
    return ok("the guest shut down by itself", measurements=(took,))


CHECKS = (
    Check(
        id="release.devices",
        title="Are the devices back on their drivers, responding, with their reset methods?",
        why="A device that a guest left broken stays lost until it is noticed.",
        scope=Scope.GUEST,
        phase=Phase.RELEASE,
        needs=WITH_GUESTS,
        judge=_devices,
    ),
    Check(
        id="release.memory",
        title="Are all hugepages free again?",
        why="Leaked pages make a later guest fail to start.",
        scope=Scope.GUEST,
        phase=Phase.RELEASE,
        needs=WITH_GUESTS,
        judge=_memory,
    ),
    Check(
        id="release.leftovers",
        title="Is nothing of the guest left on the host?",
        why="Left-over processes and claims hold devices; left-over files fill disks.",
        scope=Scope.GUEST,
        phase=Phase.RELEASE,
        needs=WITH_GUESTS,
        judge=_leftovers,
    ),
    Check(
        id="release.orderly",
        title="Did the guest shut down when asked?",
        why="Killing a guest can leave its device in an undefined state.",
        scope=Scope.GUEST,
        phase=Phase.RELEASE,
        needs=WITH_GUESTS,
        judge=_orderly,
    ),
)
