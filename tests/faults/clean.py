"""Evidence of a host on which everything is as it should be: two nodes, four GPUs, two guests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.attach.vfio import ATTACHMENT as VFIO
from harness.config.files import load_profile
from harness.model.evidence import (
    Answer,
    DeviceReturn,
    Evidence,
    GuestEvidence,
    ReleaseEvidence,
    ResetTrial,
    ResidueTrial,
    SystemAnswer,
    WorkloadResult,
)
from harness.model.gpu import with_told
from harness.model.guest import GpuSelector, GuestRequest, PlacementPolicy
from harness.model.inventory import ExpectedLink, HostFile, LimitSpec, Profile, SshAccess, TelemetrySpec
from harness.model.outcome import Measurement, Severity, SubjectKind
from harness.model.pci import PciAddress
from harness.model.placement import Moment, ObservedPlacement, PlacementLook, PlacementPlan
from harness.model.sku import Figure, Floor, Sku
from harness.model.topology import (
    AerCounters,
    Bar,
    Cpu,
    HostFacts,
    HugepagePool,
    Iommu,
    IommuGroup,
    Link,
    Noise,
    NumaNode,
    PciDevice,
    Storage,
    Versions,
)
from harness.placement.planner import plan
from harness.stages.guest.devices import guest_cards
from tests.faults import clean_telemetry as watched
from tests.faults import landed

HUGE = 2 << 20
GIB = 1 << 30
SELECTOR = GpuSelector(ids=("1234:11e8",))
HOST = HostFile(
    name="clean",
    ssh=SshAccess(address="clean.example"),
    placement=PlacementPolicy(selector=SELECTOR),
    expected_gpus=4,
    expected_link=ExpectedLink(speed_gts=16.0, width=16),
)
LIMITS = {"hashing.rate": LimitSpec(lower=10.0, reason="a tenth of what the test's fake measures")}
MODEL = Sku(
    name="test-700",
    title="Test 700",
    pci_ids=("1234:11e8",),
    family="test",
    figures={
        "memory_bytes": Figure(value=141.0 * GIB, unit="B", source="tests"),
        "hashing_md5": Figure(value=20.0, unit="GH/s", source="tests"),
        "hashing_ntlm": Figure(value=None, unit="GH/s", source="unknown"),
    },
    floors={
        "memory_bytes": Floor(of="memory_bytes", share=0.98, reason="as HBM has it"),
        "hashing.md5.rate": Floor(of="hashing_md5", share=0.7, reason="measured by the tests"),
    },
)
"""What the test's cards should do."""
GUESTS = ((1, ("device", "hashing")), (4, ("device", "hashing")))
NEIGHBOURS = (("g2", ""), ("g2-left", "pair"), ("g2-right", "pair"))
"""Guests of two GPUs whose loads ran in three rounds, and the group that they live in."""


def _landed(decided: PlacementPlan) -> ObservedPlacement:
    found = landed.landed(decided)
    assert isinstance(found, ObservedPlacement)
    return found


def address(bus: int, function: int = 0) -> PciAddress:
    """A function in slot 0 of a bus."""
    return PciAddress(0, bus, 0, function)


def profile(name: str = "smoke") -> Profile:
    """A shipped profile with one limit, so that limits are judged too, watched as closely as can be, and with
    neighbours."""
    shipped = load_profile(name)
    checks = {**shipped.checks, "tenants.disturbance": Severity.ADVISORY}
    return replace(shipped, checks=checks, limits=LIMITS, telemetry=TelemetrySpec())


def evidence() -> Evidence:
    """The whole run, clean."""
    before = facts()
    guests = _guests(before)
    return Evidence(
        host=HOST.name,
        subject=SubjectKind.HARDWARE,
        profile="smoke",
        run="20261122-000000-clean",
        started_at="2026-11-22T00:00:00.000Z",
        ended_at="2026-11-22T00:10:00.000Z",
        facts=before,
        facts_file="facts.json",
        facts_after=before,
        host_telemetry=watched.host(
            tuple(d.address for d in before.pci_devices if d.id == "1234:11e8"),
            tuple(d.address for d in before.pci_devices if d.class_code == "060400"),
            {cpu for guest in guests if guest.plan is not None for cpu in guest.plan.vcpupin.values()},
            tuple(guest.name for guest in guests),
        ),
        system=tuple(
            SystemAnswer(question=q, ok=True, detail="as it should be")
            for q in (
                "service:libvirt",
                "module:vfio_pci",
                "program:qemu-system-x86_64",
                "program:qemu-img",
            )
        ),
        skus=(MODEL,),
        resets=tuple(_trial(d.address) for d in before.pci_devices if d.id == "1234:11e8"),
        guests=guests,
    )


def _trial(device: PciAddress) -> ResetTrial:
    return ResetTrial(device=device, methods=("bus",), attempted=True, accepted=True, state_cleared=True)


def _guests(before: HostFacts) -> tuple[GuestEvidence, ...]:
    found: list[GuestEvidence] = []
    for gpus, workloads in GUESTS:
        found.append(_guest(before, GuestRequest(name=f"g{gpus}", gpus=gpus), workloads, tuple(found)))
    for name, group in NEIGHBOURS:
        request = GuestRequest(name=name, gpus=2)
        one = _guest(before, request, ("device", "hashing"), tuple(found), group=group)
        rounds = tuple(replace(result, round=number) for number in (1, 2, 3) for result in one.results)
        found.append(replace(one, results=rounds))
    return tuple(found)


def _guest(
    before: HostFacts,
    request: GuestRequest,
    workloads: tuple[str, ...],
    earlier: tuple[GuestEvidence, ...],
    *,
    group: str = "",
) -> GuestEvidence:
    """A guest after those ``earlier``, and beside those of them that are of its group."""
    beside = tuple(g.plan for g in earlier if group and g.group == group and g.plan is not None)
    decided = plan(before, request, HOST.placement, VFIO, beside)
    assert isinstance(decided, PlacementPlan), decided
    mine = [gpu.host for gpu in decided.gpus]
    telemetry = watched.guest(request.name, workloads, tuple(mine))
    told = tuple(gpu.gpu for gpu in telemetry.gpus if gpu.gpu is not None)
    used = {gpu for g in earlier for gpu in g.gpus}
    return GuestEvidence(
        name=request.name,
        request=request,
        workloads=workloads,
        group=group,
        plan=decided,
        cards=with_told(guest_cards(before, decided, _landed(decided)), told),
        domain_xml=f"domain/{request.name}.xml",
        started=True,
        reached=True,
        boot_seconds=42.0,
        observed=_landed(decided),
        observed_files=(f"transcripts/{request.name}-observed.txt",),
        looks=looks(decided),
        results=tuple(result(request.name, workload, mine) for workload in workloads),
        residue=tuple(ResidueTrial(device=a, planted=True, found=False) for a in mine if a in used),
        telemetry=telemetry,
        release=release(request.name, decided),
        kernel_log=("Linux version 6.1.0",),
    )


def looks(decided: PlacementPlan) -> tuple[PlacementLook, ...]:
    """A guest that stayed where its plan says."""
    return tuple(
        PlacementLook(
            moment=moment,
            observed=replace(_landed(decided), at=at, state="running"),
            at=at,
            files=(f"transcripts/{decided.guest}-looked-at-{at:.0f}.txt",),
        )
        for moment, at in ((Moment.MIDDLE, 1100.0), (Moment.END, 1200.0))
    )


def result(guest: str, workload: str, gpus: Sequence[PciAddress]) -> WorkloadResult:
    """A load that went well, with a rate of each GPU where it is `hashing`."""
    rates = tuple(
        Measurement(name="hashing.md5.rate", value=19.0, unit="GH/s", subject=str(gpu))
        for gpu in (gpus if workload == "hashing" else ())
    )
    return WorkloadResult(
        workload=workload,
        guest=guest,
        engine="cuda",
        key=f"{guest}-{workload}",
        status="done",
        answers=(Answer(name="known", expected="42", got="42", ok=True),),
        measurements=(Measurement(name=f"{workload}.rate", value=100.0, unit="1/s"), *rates),
        seconds=3.0,
        started=10.0,
        ended=13.0,
    )


def release(guest: str, decided: PlacementPlan) -> ReleaseEvidence:
    """All given back."""
    pools = {"0/2097152": 1408, "1/2097152": 1408}
    return ReleaseEvidence(
        guest=guest,
        devices=tuple(
            DeviceReturn(
                device=device,
                driver_before="snd_hda_intel" if device.function else None,
                driver_after="snd_hda_intel" if device.function else None,
                config_ok=True,
                reset_methods_before=() if device.function else ("bus",),
                reset_methods_after=() if device.function else ("bus",),
                present=True,
            )
            for device in decided.hostdevs
        ),
        hugepages_before=pools,
        hugepages_after=pools,
        leftover_processes=(),
        leftover_files=(),
        leftover_domains=(),
        leftover_networks=(),
        leftover_claims=(),
        seconds=5.0,
    )


def device(where: PciAddress, **changes: object) -> PciDevice:
    """A healthy stand-in GPU, changed."""
    fields: dict[str, object] = {
        "address": where,
        "vendor": "1234",
        "device": "11e8",
        "class_code": "00ff00",
        "subsystem": None,
        "revision": "10",
        "numa_node": 0,
        "local_cpus": None,
        "iommu_group": None,
        "driver": None,
        "driver_override": None,
        "upstream": (),
        "link": None,
        "reset_methods": ("bus",),
        "bars": (Bar(index=0, size=1 << 20, io=False, prefetchable=False, is_64bit=False),),
        "aer": None,
        "power_state": None,
        "d3cold_allowed": False,
        "power_control": "on",
        "boot_vga": None,
        "sriov_totalvfs": None,
        "sriov_numvfs": None,
        "config_ok": True,
        "header_type": 0,
        "slot_label": None,
        "serial": None,
        "vanished": False,
    }
    return PciDevice(**{**fields, **changes})  # type: ignore[arg-type]


def _pci() -> tuple[tuple[PciDevice, ...], tuple[IommuGroup, ...]]:
    devices: list[PciDevice] = []
    groups: list[IommuGroup] = []
    for number, (bus, node, companion) in enumerate(
        ((0x41, 0, True), (0x42, 0, False), (0x81, 1, True), (0x82, 1, False))
    ):
        port = PciAddress(0, bus & 0xF0, (bus & 0x0F) - 1, 0)
        devices.append(
            device(
                port,
                vendor="1b36",
                device="000c",
                class_code="060400",
                header_type=1,
                driver="pcieport",
                numa_node=node,
                iommu_group=20 + number,
                reset_methods=(),
                link=Link(speed_gts=16.0, width=16, max_speed_gts=16.0, max_width=16),
                aer=AerCounters(
                    correctable=3,
                    nonfatal=0,
                    fatal=0,
                    rootport_correctable=3,
                    rootport_nonfatal=0,
                    rootport_fatal=0,
                ),
            )
        )
        members = [address(bus)]
        devices.append(device(address(bus), numa_node=node, iommu_group=10 + number, upstream=(port,)))
        if companion:
            members.append(address(bus, 1))
            devices.append(
                device(
                    address(bus, 1),
                    vendor="8086",
                    device="293e",
                    class_code="040300",
                    driver="snd_hda_intel",
                    numa_node=node,
                    iommu_group=10 + number,
                    upstream=(port,),
                    reset_methods=(),
                )
            )
        groups.append(IommuGroup(id=10 + number, devices=tuple(members), type="identity"))
        groups.append(IommuGroup(id=20 + number, devices=(port,), type="identity"))
    return tuple(sorted(devices, key=lambda d: d.address)), tuple(groups)


def facts() -> HostFacts:
    """The host, clean."""
    devices, groups = _pci()
    return HostFacts(
        hostname="clean",
        machine_id="0" * 32,
        product="Test",
        serial="1",
        cpu_model="QEMU TCG CPU",
        cpu_vendor="AuthenticAMD",
        physical_address_bits=40,
        virtualization=("svm", "npt"),
        kvm=True,
        kernel_command_line="root=/dev/vda intel_iommu=on iommu=pt",
        versions=Versions(
            kernel="6.1.0-56-amd64",
            os="Debian 12",
            qemu="7.2.22",
            libvirt="9.0.0",
            bios="1.16",
            board=None,
            bmc=None,
            microcode=None,
        ),
        numa_nodes=tuple(
            NumaNode(
                id=node,
                cpus=tuple(range(node * 4, node * 4 + 4)),
                memory_bytes=4608 << 20,
                free_bytes=1 << 30,
                distances={0: 10 if node == 0 else 21, 1: 21 if node == 0 else 10},
                hugepages={HUGE: HugepagePool(total=1408, free=1408)},
            )
            for node in (0, 1)
        ),
        cpus=tuple(
            Cpu(id=n, online=True, node=n // 4, package=n // 4, core=n % 4, siblings=(n,), isolated=False)
            for n in range(8)
        ),
        nohz_full=(),
        pci_devices=devices,
        iommu=Iommu(
            units=("dmar0",),
            groups=groups,
            interrupt_remapping=True,
            unsafe_interrupts=False,
            vfio_parameters={"vfio_iommu_type1.allow_unsafe_interrupts": "N"},
            vfio_device_nodes=("/dev/vfio/vfio",),
            iommufd=False,
        ),
        domains=(),
        device_holders=(),
        noise=Noise(
            ksm=False,
            numa_balancing=False,
            transparent_hugepages="madvise",
            governor=None,
            irq_affinity={"24": (0, 4)},
        ),
        storage=(Storage(path="/", total_bytes=64 * GIB, free_bytes=40 * GIB),),
        kernel_log=(
            "[    0.1] DMAR: IOMMU enabled",
            "[    0.4] DMAR-IR: Enabled IRQ remapping in xapic mode",
        ),
        uptime_seconds=100.0,
        boot_id="boot-1",
        collected_at="2026-11-22T00:00:01Z",
        warnings=(),
    )
