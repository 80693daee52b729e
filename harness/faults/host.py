"""Hosts that are not fit: the wrong number of GPUs, tenants, no KVM, no room, wrong versions, noise."""

from __future__ import annotations

from dataclasses import replace

from harness.faults.base import Fault, facts_of, gpu, plan, with_facts
from harness.model.evidence import Evidence, StageError
from harness.model.outcome import Outcome
from harness.model.pci import PciAddress
from harness.model.topology import Cpu, DeviceHolder, Domain, HostFacts, HugepagePool
from harness.vendors.names import DEVICE_FILES, SWITCHES


def _gpu_lost(evidence: Evidence) -> Evidence:
    lost = gpu(evidence).address
    after = evidence.facts_after or facts_of(evidence)
    left = tuple(device for device in after.pci_devices if device.address != lost)
    return with_facts(evidence, before=False, pci_devices=left)


def _tenant(evidence: Evidence) -> Evidence:
    domain = Domain(name="tenant-7", uuid=None, pid=4711, hostdevs=(), running=True)
    return with_facts(evidence, domains=(domain,))


def _holder(evidence: Evidence) -> Evidence:
    return with_facts(
        evidence, device_holders=(DeviceHolder(pid=812, path=f"/dev/{DEVICE_FILES[0].replace('*', '0')}"),)
    )


def _no_vfio(evidence: Evidence) -> Evidence:
    iommu = replace(facts_of(evidence).iommu, vfio_device_nodes=(), iommufd=False)
    return with_facts(evidence, iommu=iommu)


def _disk_full(evidence: Evidence) -> Evidence:
    full = tuple(replace(storage, free_bytes=4096) for storage in facts_of(evidence).storage)
    return with_facts(evidence, storage=full)


def _storage_unknown(evidence: Evidence) -> Evidence:
    return with_facts(evidence, storage=())


def _old_libvirt(evidence: Evidence) -> Evidence:
    return with_facts(evidence, versions=replace(facts_of(evidence).versions, libvirt="8.0.0"))


def _upgraded(evidence: Evidence) -> Evidence:
    versions = replace(facts_of(evidence).versions, qemu="99.0.1")
    return with_facts(evidence, before=False, versions=versions)


def _noisy(evidence: Evidence) -> Evidence:
    return with_facts(evidence, noise=replace(facts_of(evidence).noise, ksm=True))


def _stray_interrupt(evidence: Evidence) -> Evidence:
    victim = next(iter(plan(evidence).vcpupin.values()))
    noise = facts_of(evidence).noise
    return with_facts(evidence, noise=replace(noise, irq_affinity={**noise.irq_affinity, "25": (victim,)}))


def _switch(evidence: Evidence) -> Evidence:
    vendor, kind = SWITCHES[0]
    switch = replace(
        gpu(evidence),
        address=PciAddress(0, 0xF0, 0, 0),
        vendor=vendor,
        device="22a3",
        class_code=f"{kind:0<6}",
        iommu_group=None,
        upstream=(),
    )
    return with_facts(evidence, pci_devices=(*facts_of(evidence).pci_devices, switch))


def _service_down(evidence: Evidence) -> Evidence:
    first, *rest = evidence.system
    return replace(evidence, system=(replace(first, ok=False, detail="inactive"), *rest))


def _service_unasked(evidence: Evidence) -> Evidence:
    return replace(evidence, system=evidence.system[1:])


def _cpu_offline(evidence: Evidence) -> Evidence:
    victim = next(iter(plan(evidence).vcpupin.values()))
    cpus = tuple(_offline(cpu, victim) for cpu in facts_of(evidence).cpus)
    return with_facts(evidence, cpus=cpus)


def _offline(cpu: Cpu, victim: int) -> Cpu:
    if cpu.id == victim:
        return replace(cpu, online=False, package=None, core=None, siblings=())
    return replace(cpu, siblings=tuple(s for s in cpu.siblings if s != victim))


def _no_free_pages(evidence: Evidence) -> Evidence:
    cell = plan(evidence).cells[0]

    def drained(facts: HostFacts) -> HostFacts:
        nodes = tuple(
            replace(
                n, hugepages={size: HugepagePool(total=p.total, free=0) for size, p in n.hugepages.items()}
            )
            if n.id == cell.host_node
            else n
            for n in facts.numa_nodes
        )
        return replace(facts, numa_nodes=nodes)

    return replace(evidence, facts=drained(facts_of(evidence)))


def _host_line(evidence: Evidence, line: str) -> Evidence:
    log = (evidence.facts_after or facts_of(evidence)).kernel_log or ()
    return with_facts(evidence, before=False, kernel_log=(*log, line))


def _with_error(evidence: Evidence) -> Evidence:
    broke = StageError(stage="burn", kind="TransportError", message="the connection broke")
    return replace(evidence, errors=(*evidence.errors, broke))


FAULTS = (
    Fault(
        id="gpu-lost",
        title="A GPU is gone after the guests",
        must_trip="host.gpu_count",
        corrupt=_gpu_lost,
        also=("gpu.config_space",),
    ),
    Fault(
        id="tenant-on-host",
        title="A domain that Shakedown did not create runs on the host",
        must_trip="host.no_foreign_domains",
        corrupt=_tenant,
    ),
    Fault(
        id="domains-unknown",
        title="The running domains are unknown",
        must_trip="host.no_foreign_domains",
        corrupt=lambda e: with_facts(e, domains=None),
        outcome=None,
    ),
    Fault(
        id="gpu-in-use",
        title="A process of the host has the GPU's device file open",
        must_trip="host.devices_free",
        corrupt=_holder,
    ),
    Fault(
        id="no-kvm",
        title="/dev/kvm is missing",
        must_trip="host.kvm",
        corrupt=lambda e: with_facts(e, kvm=False),
    ),
    Fault(
        id="no-vfio",
        title="No VFIO device node exists",
        must_trip="host.vfio_available",
        corrupt=_no_vfio,
    ),
    Fault(id="disk-full", title="The work directory is full", must_trip="host.storage", corrupt=_disk_full),
    Fault(
        id="disk-unknown",
        title="The free space could not be read",
        must_trip="host.storage",
        corrupt=_storage_unknown,
        outcome=None,
    ),
    Fault(id="old-libvirt", title="libvirt is too old", must_trip="host.versions", corrupt=_old_libvirt),
    Fault(
        id="upgraded-in-run",
        title="QEMU was upgraded during the run",
        must_trip="host.versions",
        corrupt=_upgraded,
    ),
    Fault(id="noisy-host", title="KSM merges pages", must_trip="host.noise", corrupt=_noisy),
    Fault(
        id="stray-interrupt",
        title="A host interrupt may run on a guest's CPU",
        must_trip="host.irq_affinity",
        corrupt=_stray_interrupt,
    ),
    Fault(
        id="fabric-unread",
        title="The host has a GPU switch whose partitions were not read",
        must_trip="host.fabric",
        corrupt=_switch,
        outcome=None,
    ),
    Fault(id="service-down", title="libvirt is not active", must_trip="host.services", corrupt=_service_down),
    Fault(
        id="service-unasked",
        title="Whether libvirt is active was not read",
        must_trip="host.services",
        corrupt=_service_unasked,
        outcome=None,
    ),
    Fault(
        id="cpu-offline",
        title="A CPU that a guest was pinned to is offline",
        must_trip="host.cpus",
        corrupt=_cpu_offline,
    ),
    Fault(
        id="hugepages-taken",
        title="The first guest's node has no free hugepage",
        must_trip="host.hugepages",
        corrupt=_no_free_pages,
    ),
    Fault(
        id="rebooted",
        title="The host rebooted during the run",
        must_trip="host.same_boot",
        corrupt=lambda e: with_facts(e, before=False, boot_id="another-boot"),
        also=("gpu.aer",),
    ),
    Fault(
        id="dmar-fault",
        title="The IOMMU stopped a device's access during the run",
        must_trip="host.kernel_log",
        corrupt=lambda e: _host_line(
            e,
            "[ 99.1] DMAR: [DMA Write NO_PASID] Request device [41:00.0] fault addr 0x0 [fault reason 0x05]",
        ),
    ),
    Fault(
        id="machine-check",
        title="The CPU reported a machine check during the run",
        must_trip="host.kernel_log",
        corrupt=lambda e: _host_line(e, "[ 99.2] mce: [Hardware Error]: Machine check events logged"),
    ),
    Fault(
        id="kernel-log-unread",
        title="The kernel log could not be read after the run",
        must_trip="host.kernel_log",
        corrupt=lambda e: with_facts(e, before=False, kernel_log=None),
        outcome=None,
    ),
    Fault(
        id="facts-after-missing",
        title="The host's facts were not read again after the run",
        must_trip="host.kernel_log",
        corrupt=lambda e: replace(e, facts_after=None),
        outcome=None,
        also=("host.same_boot", "gpu.aer", "host.gpu_count", "gpu.config_space"),
    ),
    Fault(
        id="stage-broke",
        title="A stage failed",
        must_trip="run.no_errors",
        corrupt=_with_error,
        outcome=Outcome.ERROR,
    ),
    Fault(
        id="interrupted",
        title="The run was interrupted",
        must_trip="run.no_errors",
        corrupt=lambda e: replace(e, interrupted=True),
        outcome=Outcome.ERROR,
    ),
    Fault(
        id="helping-hand",
        title="A person intervened",
        must_trip="run.no_interventions",
        corrupt=lambda e: replace(e, interventions=("restarted libvirtd",)),
    ),
)
