"""The IOMMU: live, remapping interrupts, and grouping devices so that a GPU can be handed over alone."""

from __future__ import annotations

from harness.checks.answers import failed, gpu, host_facts, listing, of_device, ok, seen
from harness.checks.base import WITH_GUESTS, Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.checks.plain import plain
from harness.model.attachment import Observable
from harness.model.outcome import Action, CheckResult
from harness.model.pci import PciAddress
from harness.model.topology import HostFacts, IommuGroup, PciDevice
from harness.placement.gpus import is_bridge
from harness.placement.virtual import VFIO_DRIVERS


def iommu_kind(facts: HostFacts) -> str:
    """``intel``, ``amd``, ``arm`` or ``""``: by the units, then the kernel log, never by the CPU's vendor.

    Unit names are the kernel's: ``dmar*`` (VT-d), ``ivhd*`` (AMD-Vi), ``smmu3.*`` (Arm).
    """
    for unit in facts.iommu.units:
        for prefix, kind in (("dmar", "intel"), ("ivhd", "amd"), ("smmu", "arm"), ("arm-smmu", "arm")):
            if unit.startswith(prefix):
                return kind
    log = facts.kernel_log or ()
    if any("DMAR" in line for line in log):
        return "intel"
    return "amd" if any("AMD-Vi" in line or "IVRS" in line for line in log) else ""


def _switch_on(facts: HostFacts) -> str:
    """What a person must do to get the IOMMU running."""
    kind = iommu_kind(facts)
    words = (facts.kernel_command_line or "").split()
    off = [word for word in words if word in ("intel_iommu=off", "amd_iommu=off", "iommu=off")]
    if off:
        return f"remove {listing(off)} from the kernel command line and reboot"
    if kind == "amd":
        return "enable IOMMU (AMD-Vi) in the firmware setup and reboot; the kernel then uses it automatically"
    if kind == "arm":
        return "enable the SMMU in the firmware setup and reboot"
    if "intel_iommu=on" in words:
        return "intel_iommu=on is set already: enable VT-d in the firmware setup and reboot"
    if kind == "intel":
        return "add intel_iommu=on to the kernel command line and reboot"
    return (
        "enable VT-d (Intel) or AMD-Vi in the firmware setup; with VT-d also add intel_iommu=on to the "
        "kernel command line; then reboot"
    )


def _live(case: Case, _subject: Subject) -> CheckResult:
    facts = host_facts(case)
    units, groups = facts.iommu.units, facts.iommu.groups
    evidence = (
        seen(case, "iommu.units", listing(units) or "none"),
        seen(case, "iommu.groups", f"{len(groups)} groups"),
        seen(case, "kernel_command_line", facts.kernel_command_line),
    )
    if not units or not groups:
        message = f"the IOMMU is not in use: {len(units)} units, {len(groups)} groups"
        return failed(message, _switch_on(facts), Action.FIX_CONFIG, evidence=evidence)
    return ok(f"{listing(units)} with {len(groups)} groups", evidence=evidence)


def _remapping(case: Case, _subject: Subject) -> CheckResult:
    facts = host_facts(case)
    after = case.evidence.facts_after
    unsafe = (facts.iommu.unsafe_interrupts, after.iommu.unsafe_interrupts if after is not None else None)
    remapping = facts.iommu.interrupt_remapping
    evidence = (
        seen(case, "iommu.interrupt_remapping", remapping),
        seen(
            case, "iommu.unsafe_interrupts", f"{plain(unsafe[0])} before, {plain(unsafe[1])} after the guests"
        ),
    )
    if True in unsafe:
        return failed(
            "vfio_iommu_type1.allow_unsafe_interrupts is Y: a guest can raise any interrupt on the host"
            + ("" if remapping else ", and the kernel did not report interrupt remapping"),
            "remove allow_unsafe_interrupts from /etc/modprobe.d and the kernel command line and reboot; "
            "if guests then do not start, enable interrupt remapping (x2APIC) in the firmware setup",
            Action.FIX_CONFIG,
            evidence=evidence,
        )
    if remapping is False:
        return failed(
            "the kernel booted without interrupt remapping",
            "enable interrupt remapping (x2APIC) in the firmware setup, remove intremap=off from the "
            "kernel command line and reboot",
            Action.FIX_FIRMWARE,
            evidence=evidence,
        )
    if False not in unsafe:
        raise MissingEvidence("vfio_iommu_type1 is not loaded, so allow_unsafe_interrupts is unknown")
    if remapping:
        return ok("interrupts are remapped and allow_unsafe_interrupts is N", evidence=evidence)
    if any(g.started and g.plan is not None and g.plan.gpus for g in case.evidence.guests):
        # vfio_iommu_type1 refuses devices with "No interrupt remapping support" unless it is there or
        # allow_unsafe_interrupts is set; the latter is N here.
        return ok("VFIO took devices while allow_unsafe_interrupts was N", evidence=evidence)
    raise MissingEvidence("the kernel log no longer holds the boot messages on interrupt remapping")


def _acs_override(case: Case, _subject: Subject) -> CheckResult:
    line = host_facts(case).kernel_command_line
    if line is None:
        raise MissingEvidence("the kernel command line could not be read")
    evidence = (seen(case, "kernel_command_line", line),)
    found = [word for word in line.split() if word.startswith("pcie_acs_override")]
    if found:
        return failed(
            f"{listing(found)} makes IOMMU groups look smaller than the hardware isolates",
            "remove pcie_acs_override from the kernel command line, reboot, and check the real groups",
            Action.FIX_CONFIG,
            evidence=evidence,
        )
    return ok("IOMMU groups match what the hardware isolates (no ACS override)", evidence=evidence)


def _group_of(facts: HostFacts, device: PciDevice) -> IommuGroup | None:
    return facts.group(device.iommu_group) if device.iommu_group is not None else None


def _viable(case: Case, subject: Subject) -> CheckResult:
    facts, device = host_facts(case), gpu(case, subject)
    group = _group_of(facts, device)
    evidence = (seen(case, of_device(device.address, "iommu_group"), device.iommu_group),)
    if group is None:
        remedy = _switch_on(facts)
        return failed("the GPU is in no IOMMU group", remedy, Action.FIX_CONFIG, evidence=evidence)
    held: list[str] = []
    for address in group.devices:
        member = facts.device(address)
        if member is None or member.vanished:
            raise MissingEvidence(f"{address}, a member of IOMMU group {group.id}, could not be read")
        # Functions of the same card are handed over with it, so their host driver lets go.
        if address.slot == device.address.slot or is_bridge(member):
            continue
        if member.driver is not None and member.driver not in VFIO_DRIVERS:
            held.append(f"{address} ({member.driver})")
    if held:
        return failed(
            f"IOMMU group {group.id} is not viable: the host still uses {listing(held)}",
            "move the card to a slot with ACS, or give the other device to VFIO as well: "
            f"driverctl set-override {held[0].split()[0]} vfio-pci",
            Action.FIX_CONFIG,
            evidence=evidence,
        )
    return ok(f"IOMMU group {group.id} of {len(group.devices)} can be assigned", evidence=evidence)


def _isolated(case: Case, subject: Subject) -> CheckResult:
    facts, device = host_facts(case), gpu(case, subject)
    group = _group_of(facts, device)
    if group is None:
        raise MissingEvidence("the GPU is in no IOMMU group")
    gpus = [d.address for d in case.gpus(facts)]
    others = [a for a in gpus if a in group.devices and a.slot != device.address.slot]
    owners = _takers_of_a_part(case, group)
    evidence = (seen(case, f"iommu.groups[{group.id}].devices", listing(group.devices)),)
    if others:
        return failed(
            f"IOMMU group {group.id} also holds GPU {listing(others)}: neither can be rented alone",
            "move one card to a slot behind another root port, or enable ACS in the firmware setup",
            Action.FIX_FIRMWARE,
            evidence=evidence,
        )
    if owners:
        return failed(
            f"guest {listing(owners)} gets only part of IOMMU group {group.id}",
            "give the whole group to one guest: take the other functions out of placement.selector.exclude",
            Action.FIX_CONFIG,
            evidence=evidence,
        )
    return ok(f"IOMMU group {group.id} holds no other GPU", evidence=evidence)


def _takers_of_a_part(case: Case, group: IommuGroup) -> tuple[str, ...]:
    """Guests whose plan takes some but not all endpoints of a group."""
    facts = host_facts(case)
    endpoints: set[PciAddress] = set()
    for address in group.devices:
        member = facts.device(address)
        if member is None or not is_bridge(member):
            endpoints.add(address)
    partial = (
        g.name
        for g in case.evidence.guests
        if g.plan is not None and 0 < len(endpoints & set(g.plan.hostdevs)) < len(endpoints)
    )
    return tuple(partial)


CHECKS = (
    Check(
        id="host.iommu_live",
        title="Is the IOMMU in use?",
        why="Without it a guest's device can write to any memory of the host.",
        scope=Scope.HOST,
        phase=Phase.READINESS,
        needs=WITH_GUESTS,
        judge=_live,
    ),
    Check(
        id="host.interrupt_remapping",
        title="Are device interrupts remapped?",
        why="Without remapping a guest can inject interrupts into the host or its neighbours.",
        scope=Scope.HOST,
        phase=Phase.AFTERWARDS,
        needs=WITH_GUESTS,
        judge=_remapping,
    ),
    Check(
        id="host.no_acs_override",
        title="Do the IOMMU groups match what the hardware isolates?",
        why="An ACS override splits groups in the kernel's view only: peers can still reach each other's "
        "memory.",
        scope=Scope.HOST,
        phase=Phase.READINESS,
        needs=WITH_GUESTS,
        judge=_acs_override,
    ),
    Check(
        id="gpu.iommu_group_viable",
        title="Can the GPU's whole IOMMU group be assigned to a guest?",
        why="The kernel refuses a group while a host driver still uses one of its devices.",
        scope=Scope.GPU,
        phase=Phase.READINESS,
        needs=(*WITH_GUESTS, Observable.FUNCTION),
        judge=_viable,
    ),
    Check(
        id="gpu.group_isolation",
        title="Does the GPU's IOMMU group belong to one guest alone?",
        why="Devices of one group can reach each other, so they must not serve two tenants.",
        scope=Scope.GPU,
        phase=Phase.AFTERWARDS,
        needs=(*WITH_GUESTS, Observable.FUNCTION),
        judge=_isolated,
    ),
)
