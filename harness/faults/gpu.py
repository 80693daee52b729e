"""GPUs that are not fit: IOMMU, groups, node, driver, bus, link, errors, reset."""

from __future__ import annotations

from dataclasses import replace

from harness.faults.base import Fault, facts_of, gpu, with_device, with_facts
from harness.model.evidence import Evidence
from harness.model.pci import PciAddress
from harness.model.topology import AerCounters, HostFacts, IommuGroup, PciDevice
from harness.vendors.names import MODULES


def _port(evidence: Evidence) -> PciDevice:
    port = facts_of(evidence).device(gpu(evidence).upstream[-1])
    return port if port is not None else gpu(evidence)


def _no_iommu(evidence: Evidence) -> Evidence:
    return with_facts(evidence, iommu=replace(facts_of(evidence).iommu, units=()))


def _unsafe(evidence: Evidence) -> Evidence:
    iommu = replace(facts_of(evidence).iommu, unsafe_interrupts=True)
    return with_facts(evidence, before=False, iommu=iommu)


def _no_remapping(evidence: Evidence) -> Evidence:
    return with_facts(evidence, iommu=replace(facts_of(evidence).iommu, interrupt_remapping=False))


def _acs_override(evidence: Evidence) -> Evidence:
    line = facts_of(evidence).kernel_command_line or ""
    return with_facts(evidence, kernel_command_line=f"{line} pcie_acs_override=downstream,multifunction")


def _group_with(facts: HostFacts, member: PciDevice) -> HostFacts:
    """The facts with ``member`` in its ``iommu_group``, and in no other."""
    groups = tuple(_regroup(group, member) for group in facts.iommu.groups)
    others = tuple(device for device in facts.pci_devices if device.address != member.address)
    return replace(facts, pci_devices=(*others, member), iommu=replace(facts.iommu, groups=groups))


def _regroup(group: IommuGroup, member: PciDevice) -> IommuGroup:
    rest = tuple(address for address in group.devices if address != member.address)
    mine = (member.address,) if group.id == member.iommu_group else ()
    return replace(group, devices=tuple(sorted((*rest, *mine))))


def _network_in_group(evidence: Evidence) -> Evidence:
    device = gpu(evidence)
    card = replace(
        device,
        address=PciAddress(0, device.address.bus, 5, 0),
        vendor="8086",
        device="1521",
        class_code="020000",
        driver="igb",
    )
    return replace(evidence, facts=_group_with(facts_of(evidence), card))


def _shared_group(evidence: Evidence) -> Evidence:
    mine, facts = gpu(evidence), facts_of(evidence)
    gpus = {planned.host for guest in evidence.guests if guest.plan for planned in guest.plan.gpus}
    other = next(a for a in sorted(gpus) if a.slot != mine.address.slot)
    member = facts.device(other)
    if member is None:
        return evidence
    return replace(evidence, facts=_group_with(facts, replace(member, iommu_group=mine.iommu_group)))


def _narrow(evidence: Evidence) -> Evidence:
    port = _port(evidence)
    if port.link is None:
        return evidence
    return with_device(evidence, port.address, link=replace(port.link, width=4, max_width=4))


def _slow(evidence: Evidence) -> Evidence:
    port = _port(evidence)
    if port.link is None:
        return evidence
    slow = replace(port.link, speed_gts=2.5, max_speed_gts=2.5)
    return with_device(evidence, port.address, link=slow)


def _counters(evidence: Evidence, **changes: int) -> Evidence:
    port = _port(evidence)
    if port.aer is None:
        return evidence
    return with_device(evidence, port.address, before=False, aer=replace(port.aer, **changes))


def _no_counters(evidence: Evidence) -> Evidence:
    changed = evidence
    for device in facts_of(evidence).pci_devices:
        changed = with_device(changed, device.address, aer=None)
    return changed


def _counters_unread(evidence: Evidence) -> Evidence:
    blank = AerCounters(correctable=None, nonfatal=None, fatal=None)
    return with_device(evidence, _port(evidence).address, before=False, aer=blank)


def _trial(evidence: Evidence, **changes: bool | None) -> Evidence:
    mine = gpu(evidence).address
    trials = tuple(replace(t, **changes) if t.device == mine else t for t in evidence.resets)  # type: ignore[arg-type]
    return replace(evidence, resets=trials)


def _split(evidence: Evidence) -> Evidence:
    """A virtual function of the first GPU is bound to VFIO; the number of them cannot be read."""
    card = gpu(evidence)
    address = replace(card.address, device=card.address.device ^ 0x10)
    part = replace(card, address=address, physfn=card.address, iommu_group=4000, driver="vfio-pci")
    return with_facts(evidence, after=False, pci_devices=(*facts_of(evidence).pci_devices, part))


def _on(evidence: Evidence, *, before: bool = True, after: bool = True, **changes: object) -> Evidence:
    return with_device(evidence, gpu(evidence).address, before=before, after=after, **changes)


FAULTS = (
    Fault(id="iommu-off", title="The IOMMU is not in use", must_trip="host.iommu_live", corrupt=_no_iommu),
    Fault(
        id="unsafe-interrupts",
        title="allow_unsafe_interrupts was switched on for the guests",
        must_trip="host.interrupt_remapping",
        corrupt=_unsafe,
    ),
    Fault(
        id="no-remapping",
        title="The kernel booted without interrupt remapping",
        must_trip="host.interrupt_remapping",
        corrupt=_no_remapping,
    ),
    Fault(
        id="acs-override",
        title="IOMMU groups are split by an ACS override",
        must_trip="host.no_acs_override",
        corrupt=_acs_override,
    ),
    Fault(
        id="network-in-group",
        title="A network card that the host uses shares the GPU's IOMMU group",
        must_trip="gpu.iommu_group_viable",
        corrupt=_network_in_group,
        also=("gpu.group_isolation",),
    ),
    Fault(
        id="shared-group",
        title="Two GPUs share an IOMMU group",
        must_trip="gpu.group_isolation",
        corrupt=_shared_group,
        also=("gpu.iommu_group_viable",),
    ),
    Fault(
        id="numa-unknown",
        title="The kernel knows no NUMA node for the GPU",
        must_trip="gpu.numa_node_known",
        corrupt=lambda e: _on(e, numa_node=None),
    ),
    Fault(
        id="driver-holds-gpu",
        title="A host driver holds the GPU",
        must_trip="gpu.driver_state",
        corrupt=lambda e: _on(e, after=False, driver=MODULES[0]),
    ),
    Fault(
        id="fell-off-the-bus",
        title="Configuration space reads all ones after the guests",
        must_trip="gpu.config_space",
        corrupt=lambda e: _on(e, before=False, config_ok=False, header_type=127),
        also=("gpu.power_state",),
    ),
    Fault(
        id="config-unread",
        title="Configuration space could not be read",
        must_trip="gpu.config_space",
        corrupt=lambda e: _on(e, config_ok=None, power_state=None),
        outcome=None,
        also=("gpu.power_state",),
    ),
    Fault(
        id="stuck-in-d3cold",
        title="The GPU is in D3cold after the guests",
        must_trip="gpu.power_state",
        corrupt=lambda e: _on(e, before=False, power_state="D3cold"),
    ),
    Fault(
        id="no-bars",
        title="The firmware assigned no memory BAR",
        must_trip="gpu.bars",
        corrupt=lambda e: _on(e, bars=()),
    ),
    Fault(
        id="bits-unknown",
        title="The physical address width is unknown",
        must_trip="gpu.bars",
        corrupt=lambda e: with_facts(e, physical_address_bits=None),
        outcome=None,
    ),
    Fault(
        id="virtual-functions-left",
        title="Virtual functions are still enabled",
        must_trip="gpu.no_virtual_functions",
        corrupt=lambda e: _on(e, after=False, sriov_totalvfs=16, sriov_numvfs=4),
    ),
    Fault(
        id="virtual-functions-in-use",
        title="A guest of another user has a virtual function of the GPU",
        must_trip="gpu.no_virtual_functions",
        corrupt=_split,
    ),
    Fault(id="narrow-link", title="The link lost lanes", must_trip="gpu.link", corrupt=_narrow),
    Fault(id="slow-link", title="The link trained at generation 1", must_trip="gpu.link", corrupt=_slow),
    Fault(
        id="link-unknown",
        title="The root port reports no link",
        must_trip="gpu.link",
        corrupt=lambda e: with_device(e, _port(e).address, link=None),
        outcome=None,
    ),
    Fault(
        id="correctable-errors",
        title="The port counted correctable errors during the run",
        must_trip="gpu.aer",
        corrupt=lambda e: _counters(e, correctable=7),
    ),
    Fault(
        id="fatal-error",
        title="The root port counted a fatal error during the run",
        must_trip="gpu.aer",
        corrupt=lambda e: _counters(e, rootport_fatal=1),
    ),
    Fault(
        id="no-counters",
        title="No port above the GPU has error counters",
        must_trip="gpu.aer",
        corrupt=_no_counters,
        outcome=None,
    ),
    Fault(
        id="counters-unread",
        title="The counters could not be read after the run",
        must_trip="gpu.aer",
        corrupt=_counters_unread,
        outcome=None,
    ),
    Fault(
        id="no-reset-method",
        title="The kernel lists no reset method",
        must_trip="gpu.reset_claimed",
        corrupt=lambda e: _on(e, reset_methods=()),
    ),
    Fault(
        id="reset-refused",
        title="The kernel refuses the reset that it lists",
        must_trip="gpu.reset_works",
        corrupt=lambda e: _trial(e, accepted=False, state_cleared=None),
    ),
    Fault(
        id="reset-keeps-state",
        title="The reset succeeds and changes nothing",
        must_trip="gpu.reset_works",
        corrupt=lambda e: _trial(e, state_cleared=False),
    ),
    Fault(
        id="reset-untried",
        title="The reset was not tried",
        must_trip="gpu.reset_works",
        corrupt=lambda e: replace(e, resets=()),
        outcome=None,
    ),
)
