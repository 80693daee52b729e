"""Example runs, built from values: a lab of two nodes and four stand-ins, and a larger hardware host.

``play`` writes one through the real Recorder, as stages would; ``record`` gives the finished RunRecord.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

from harness.model.evidence import (
    Answer,
    DeviceReturn,
    Engine,
    Evidence,
    ReleaseEvidence,
    ResetTrial,
    ResidueTrial,
    SystemAnswer,
    WorkloadResult,
)
from harness.model.guest import GuestDemand, GuestRequest
from harness.model.inventory import GroupSpec, HostFile, Profile, Waiver
from harness.model.outcome import (
    Action,
    CheckResult,
    CoverageCell,
    EvidenceRef,
    Measurement,
    Outcome,
    Severity,
    SubjectKind,
)
from harness.model.pci import PciAddress
from harness.model.placement import (
    GuestCell,
    GuestNode,
    ObservedGpu,
    ObservedMemory,
    ObservedPlacement,
    ObservedThread,
    PlacementPlan,
    PlannedGpu,
)
from harness.model.record import CheckTitle, RunRecord
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
from harness.ports import Clock, CommandResult
from harness.record.judge import finish
from harness.record.recorder import Recorder
from tests.reports import watched

RUN = "20260310T120000Z-3f9a1c"
MIB = 1 << 20


class TickingClock:
    """A clock that moves on by a fixed step whenever it is asked."""

    def __init__(self, step: float = 0.125) -> None:
        self._ticks = itertools.count()
        self._step = step

    def monotonic(self) -> float:
        return 1000.0 + next(self._ticks) * self._step

    def now(self) -> str:
        seconds = next(self._ticks) * self._step
        return f"2026-03-10T12:{int(seconds // 60) % 60:02d}:{seconds % 60:06.3f}Z"

    def sleep(self, seconds: float) -> None:
        return None


@dataclass(frozen=True)
class Shape:
    """A host to build: nodes, whole cores a node, threads a core, GPUs a node."""

    name: str = "lab"
    subject: SubjectKind = SubjectKind.LAB
    nodes: int = 2
    cores: int = 4
    threads: int = 1
    gpus: int = 2
    memory_mib: int = 4096
    vendor_device: str = "1234:11e8"
    class_code: str = "00ff00"
    cpu_model: str = "QEMU Virtual CPU version 2.5+"
    product: str = "Standard PC (Q35 + ICH9, 2009)"

    @property
    def gpu_addresses(self) -> tuple[PciAddress, ...]:
        return tuple(
            PciAddress(0, 0x41 + 0x40 * node + index, 0, 0)
            for node in range(self.nodes)
            for index in range(self.gpus)
        )

    def node_of(self, gpu: PciAddress) -> int:
        return (gpu.bus - 0x41) // 0x40

    def cpus_of(self, node: int, core: int) -> tuple[int, ...]:
        total = self.nodes * self.cores
        return tuple(node * self.cores + core + thread * total for thread in range(self.threads))


LAB = Shape()
BIG = Shape(
    name="gpu-host-07",
    subject=SubjectKind.HARDWARE,
    cores=32,
    threads=2,
    gpus=4,
    memory_mib=1 << 20,
    vendor_device="10de:2335",
    class_code="030200",
    cpu_model="INTEL(R) XEON(R) PLATINUM 8558",
    product="ProLiant XD685",
)


def _device(shape: Shape, address: PciAddress, **changes: object) -> PciDevice:
    vendor, device = shape.vendor_device.split(":")
    port = PciAddress(0, 0x40 + 0x40 * shape.node_of(address), (address.bus - 1) % 0x40, 0)
    fields: dict[str, object] = {
        "address": address,
        "vendor": vendor,
        "device": device,
        "class_code": shape.class_code,
        "subsystem": "1af4:1100",
        "revision": "10",
        "numa_node": shape.node_of(address),
        "local_cpus": tuple(c for k in range(shape.cores) for c in shape.cpus_of(shape.node_of(address), k)),
        "iommu_group": 10 + address.bus % 0x40 + 10 * shape.node_of(address),
        "driver": None,
        "driver_override": None,
        "upstream": (port,),
        "link": None
        if shape.subject is SubjectKind.LAB
        else Link(speed_gts=32.0, width=16, max_speed_gts=32.0, max_width=16),
        "reset_methods": ("bus",),
        "bars": (Bar(index=0, size=MIB, io=False, prefetchable=False, is_64bit=False),),
        "aer": None,
        "power_state": "D0",
        "d3cold_allowed": False,
        "power_control": "on",
        "boot_vga": None,
        "sriov_totalvfs": None,
        "sriov_numvfs": None,
        "config_ok": True,
        "header_type": 0,
        "slot_label": f"slot {address.bus:x}",
        "serial": None if shape.subject is SubjectKind.LAB else f"16531243{address.bus:05d}",
        "vanished": False,
    }
    return PciDevice(**(fields | changes))  # type: ignore[arg-type]


def _devices(shape: Shape) -> tuple[PciDevice, ...]:
    devices = []
    for gpu in shape.gpu_addresses:
        plain = _device(shape, gpu)
        port = plain.upstream[0]
        devices.append(
            replace(
                plain,
                address=port,
                vendor="1b36",
                device="000c",
                class_code="060400",
                upstream=(),
                driver="pcieport",
                header_type=1,
                iommu_group=gpu.bus % 0x40,
                link=Link(speed_gts=16.0, width=16, max_speed_gts=16.0, max_width=16),
                aer=AerCounters(correctable=0, nonfatal=0, fatal=0),
                slot_label=None,
            )
        )
        devices.append(plain)
        if companion(gpu):
            devices.append(
                replace(plain, address=replace(gpu, function=1), device="2668", class_code="040300")
            )
    return tuple(sorted(devices, key=lambda d: d.address))


def companion(gpu: PciAddress) -> tuple[PciAddress, ...]:
    """The first GPU of each node has a second function, as a card brings its audio function."""
    return (replace(gpu, function=1),) if gpu.bus % 0x40 == 1 else ()


def host_facts(shape: Shape) -> HostFacts:
    devices = _devices(shape)
    groups: dict[int, list[PciAddress]] = {}
    for device in devices:
        if device.iommu_group is not None:
            groups.setdefault(device.iommu_group, []).append(device.address)
    return HostFacts(
        hostname=shape.name,
        machine_id="4f1f6c0e7f8b4f0f8f3f0c5d2e1a9b77",
        product=shape.product,
        serial=None,
        cpu_model=shape.cpu_model,
        cpu_vendor="AuthenticAMD",
        physical_address_bits=40,
        virtualization=("svm", "npt", "hypervisor"),
        kvm=True,
        kernel_command_line="root=/dev/vda rw intel_iommu=on iommu=pt",
        versions=Versions(
            kernel="6.1.0-41-amd64",
            os="Debian GNU/Linux 12 (bookworm)",
            qemu="7.2.22",
            libvirt="9.0.0",
            bios="1.16.3-debian-1.16.3-2",
            board=None,
            bmc=None,
            microcode="0x1000065",
        ),
        numa_nodes=tuple(
            NumaNode(
                id=node,
                cpus=tuple(c for core in range(shape.cores) for c in shape.cpus_of(node, core)),
                memory_bytes=shape.memory_mib * MIB,
                free_bytes=shape.memory_mib * MIB // 2,
                distances={other: 10 if other == node else 21 for other in range(shape.nodes)},
                hugepages={2 * MIB: HugepagePool(total=shape.memory_mib // 4, free=shape.memory_mib // 4)},
            )
            for node in range(shape.nodes)
        ),
        cpus=tuple(
            Cpu(
                id=cpu,
                online=True,
                node=node,
                package=node,
                core=core,
                siblings=shape.cpus_of(node, core),
                isolated=False,
            )
            for node in range(shape.nodes)
            for core in range(shape.cores)
            for cpu in shape.cpus_of(node, core)
        ),
        nohz_full=(),
        pci_devices=devices,
        iommu=Iommu(
            units=("dmar0",),
            groups=tuple(
                IommuGroup(id=number, devices=tuple(members), type="DMA-FQ")
                for number, members in sorted(groups.items())
            ),
            interrupt_remapping=shape.subject is not SubjectKind.LAB,
            unsafe_interrupts=shape.subject is SubjectKind.LAB,
            vfio_parameters={"vfio_iommu_type1.allow_unsafe_interrupts": "Y"},
            vfio_device_nodes=("/dev/vfio/vfio",),
            iommufd=False,
        ),
        domains=(),
        noise=Noise(ksm=False, numa_balancing=True, transparent_hugepages="madvise", governor=None),
        storage=(Storage(path="/var/lib/shakedown", total_bytes=6 << 30, free_bytes=3 << 30),),
        kernel_log=("DMAR: IOMMU enabled",),
        uptime_seconds=412.0,
        boot_id="d3b2a7b0-3c61-4b61-9a55-0d1c0c6a7a11",
        collected_at="2026-03-10T12:00:02Z",
        warnings=(),
    )


def plan_for(shape: Shape, name: str, gpus: tuple[PciAddress, ...]) -> PlacementPlan:
    """Equal shares of each node's cores but its first, which the host keeps."""
    nodes = sorted({shape.node_of(gpu) for gpu in gpus})
    share = (shape.cores - 1) // shape.gpus
    cells: list[GuestCell] = []
    pins: dict[int, int] = {}
    for cell, node in enumerate(nodes):
        mine = [gpu for gpu in gpus if shape.node_of(gpu) == node]
        position = shape.gpu_addresses.index(mine[0]) % shape.gpus
        first = 1 + share * (position if len(mine) == 1 else 0)
        cores = range(first, first + share * len(mine))
        cpus = [cpu for core in cores for cpu in shape.cpus_of(node, core)]
        vcpus = tuple(range(len(pins), len(pins) + len(cpus)))
        pins.update(zip(vcpus, cpus, strict=True))
        memory = len(mine) * shape.memory_mib // 4 // shape.gpus
        cells.append(GuestCell(id=cell, host_node=node, vcpus=vcpus, memory_mib=memory))
    return PlacementPlan(
        guest=name,
        gpus=tuple(
            PlannedGpu(
                host=gpu,
                guest_cell=nodes.index(shape.node_of(gpu)),
                host_node=shape.node_of(gpu),
                alias=f"ua-gpu{index}",
                root_port_bus=20 + index,
                companions=companion(gpu),
            )
            for index, gpu in enumerate(gpus)
        ),
        cells=tuple(cells),
        vcpupin=pins,
        emulatorpin=tuple(shape.cpus_of(nodes[0], 0)),
        hugepage_kib=2048,
        threads_per_core=shape.threads,
        distances={a: {b: 10 if a == b else 21 for b in range(len(nodes))} for a in range(len(nodes))},
    )


def observed_for(plan: PlacementPlan, *, pid: int = 2211) -> ObservedPlacement:
    """The plan, come true."""
    host_nodes = tuple(cell.host_node for cell in plan.cells)
    threads = [
        ObservedThread(
            tid=pid + 10 + vcpu,
            name=f"CPU {vcpu}/KVM",
            vcpu=vcpu,
            cpus_allowed=(cpu,),
            mems_allowed=host_nodes,
            cgroup=f"/machine.slice/{plan.guest}/vcpu{vcpu}",
            cgroup_cpus=(cpu,),
            last_cpu=cpu,
        )
        for vcpu, cpu in plan.vcpupin.items()
    ]
    emulator = ObservedThread(
        tid=pid,
        name="qemu-system-x86",
        vcpu=None,
        cpus_allowed=plan.emulatorpin,
        mems_allowed=host_nodes,
        cgroup=f"/machine.slice/{plan.guest}/emulator",
        cgroup_cpus=plan.emulatorpin,
        last_cpu=plan.emulatorpin[0],
    )
    return ObservedPlacement(
        guest=plan.guest,
        pid=pid,
        threads=(emulator, *threads),
        memory=tuple(
            ObservedMemory(
                memdev=f"ram-node{cell.id}",
                guest_cell=cell.id,
                size_bytes=cell.memory_mib * MIB,
                policy="bind",
                host_nodes=(cell.host_node,),
                pages={cell.host_node: cell.memory_mib * MIB},
                page_kib=2048,
                kernel_policy=f"bind:{cell.host_node}",
            )
            for cell in plan.cells
        ),
        gpus=tuple(
            ObservedGpu(
                host=function,
                alias=f"{gpu.alias}-f{function.function}" if function.function else gpu.alias,
                qom_root_port=f"pci.{gpu.root_port_bus}",
                guest=PciAddress(0, gpu.root_port_bus, 0, function.function),
                guest_vendor_device="1234:11e8",
                guest_numa_node=gpu.guest_cell,
                guest_local_cpus=plan.cells[gpu.guest_cell].vcpus,
                host_driver="vfio-pci",
            )
            for gpu in plan.gpus
            for function in (gpu.host, *gpu.companions)
        ),
        guest_nodes=tuple(
            GuestNode(
                id=cell.id,
                cpus=cell.vcpus,
                memory_bytes=cell.memory_mib * MIB,
                distances=(10, 21)[: len(plan.cells)],
            )
            for cell in plan.cells
        ),
        locked_bytes_limit=1 << 33,
        problems=(),
    )


CHECKS = (
    ("host.iommu_live", "The IOMMU translates", "Without it a guest's DMA reaches any memory of the host."),
    ("host.interrupt_remapping", "Interrupts are remapped", "A guest could raise any interrupt on the host."),
    ("host.numa_balancing", "Automatic NUMA balancing is off", "The kernel moves pages that should stay."),
    (
        "gpu.resets",
        "The card resets, and what it held is gone",
        "The next tenant meets the last one's state.",
    ),
    ("gpu.link", "The link has its expected speed and width", "A half-width link halves every transfer."),
    ("guest.placement", "Every thread and page is where it was planned", "Remote memory costs bandwidth."),
    ("guest.residue", "Nothing of an earlier tenant is left in the device", "Data leaks between tenants."),
    ("guest.released", "Everything came back after the guest", "Leaked hugepages starve the next guest."),
    (
        "workload.answers",
        "The workload computed the known answer",
        "A card that computes wrong is worse than none.",
    ),
)

TITLES = tuple(CheckTitle(check=check, title=title, why=why) for check, title, why in CHECKS)

PROFILE = Profile(
    name="smoke",
    description="One guest with one device, one with four; every workload once.",
    checks={
        check: Severity.ADVISORY if check == "host.numa_balancing" else Severity.BLOCKER
        for check, _, _ in CHECKS
    },
    guests=(
        GroupSpec(gpus=1, workloads=("transcode", "tensor", "hashing", "standin")),
        GroupSpec(gpus=4, workloads=("hashing", "standin")),
    ),
)

LAB_WAIVERS = (
    Waiver(
        id="lab-no-intremap",
        check="host.interrupt_remapping",
        owner="platform team",
        reason="QEMU 10 stalls in boot with intremap=on under software emulation; no tenant ever runs here.",
        expires="2026-12-31",
        subject_kinds=(SubjectKind.LAB,),
    ),
    Waiver(
        id="lab-edu-no-reset",
        check="gpu.resets",
        subject="0000:*",
        owner="platform team",
        reason="The stand-in keeps its registers and buffer over a bus reset.",
        expires="2026-12-31",
        subject_kinds=(SubjectKind.LAB,),
    ),
    Waiver(
        id="lab-edu-leaks",
        check="guest.residue",
        owner="platform team",
        reason="Its 4 KiB buffer survives: the check finds a real leak, in a device nobody rents.",
        expires="2026-12-31",
        subject_kinds=(SubjectKind.LAB,),
    ),
    Waiver(
        id="lab-old-firmware",
        check="host.iommu_live",
        owner="platform team",
        reason="Kept from the first prototype.",
        expires="2025-12-31",
    ),
)


def guests_of(shape: Shape) -> tuple[tuple[str, tuple[PciAddress, ...], tuple[str, ...]], ...]:
    addresses = shape.gpu_addresses
    return (
        ("g1", (addresses[shape.gpus],), PROFILE.guests[0].workloads),
        ("g4", addresses[:2] + addresses[shape.gpus : shape.gpus + 2], PROFILE.guests[1].workloads),
    )


def demands(shape: Shape) -> tuple[GuestDemand, ...]:
    """The guests as they are asked for, before anything is known of the host."""
    return tuple(
        GuestDemand(request=GuestRequest(name=name, gpus=len(gpus)), workloads=workloads, group=name)
        for name, gpus, workloads in guests_of(shape)
    )


def workload_result(guest: str, workload: str, *, ok: bool = True) -> WorkloadResult:
    rates = {
        "transcode": Measurement(name="transcode.psnr", value=38.2 if ok else 21.4, unit="dB", lower=32.0),
        "tensor": Measurement(
            name="tensor.relative_error", value=4.1e-7 if ok else 0.5, unit="1", upper=1e-4
        ),
        "hashing": Measurement(name="hashing.rate", value=1843.0, unit="hashes/s", lower=200.0),
        "standin": Measurement(name="standin.dma_rate", value=3.1, unit="MiB/s"),
    }
    answers = {
        "transcode": Answer(name="frame hashes", expected="9f2c…", got="9f2c…" if ok else "77ab…", ok=ok),
        "tensor": Answer(
            name="matrix product", expected="float64 reference", got="agrees" if ok else "off", ok=ok
        ),
        "hashing": Answer(name="password", expected="correct horse", got="correct horse", ok=True),
        "standin": Answer(name="factorial of 12", expected="479001600", got="479001600", ok=True),
    }
    return WorkloadResult(
        workload=workload,
        guest=guest,
        engine="edu" if workload == "standin" else "cpu",
        key=f"{RUN}-{guest}-{workload}",
        status="done",
        answers=(answers[workload],),
        measurements=(replace(rates[workload], subject=f"{guest}/{workload}"),),
        seconds={"transcode": 34.2, "tensor": 96.0, "hashing": 12.5, "standin": 3.4}[workload],
        versions={"ffmpeg": "5.1.9"} if workload == "transcode" else {},
    )


def release_of(guest: str, plan: PlacementPlan) -> ReleaseEvidence:
    return ReleaseEvidence(
        guest=guest,
        devices=tuple(
            DeviceReturn(
                device=function,
                driver_before=None,
                driver_after=None,
                config_ok=True,
                reset_methods_before=("bus",),
                reset_methods_after=("bus",),
                present=True,
            )
            for function in plan.hostdevs
        ),
        hugepages_before={"0/2097152": 1024, "1/2097152": 1024},
        hugepages_after={"0/2097152": 1024, "1/2097152": 1024},
        leftover_processes=(),
        leftover_files=(),
        leftover_domains=(),
        leftover_networks=(),
        leftover_claims=(),
        seconds=4.2,
    )


@dataclass(frozen=True)
class Scenario:
    """What goes wrong in a run, if anything."""

    shape: Shape = LAB
    waivers: tuple[Waiver, ...] = LAB_WAIVERS
    bad_answer: bool = False
    misplaced: bool = False
    stop_after: str = ""
    """Guest after which the run is killed."""
    text: str = "one round trip"
    """Text that a host could have made hostile."""


WITH_WAIVERS = Scenario()
REFUSED = Scenario(bad_answer=True, misplaced=True)
UNFINISHED = Scenario(stop_after="g1")
HARDWARE = Scenario(shape=BIG, waivers=())


def host_file(scenario: Scenario) -> HostFile:
    return HostFile(
        name=scenario.shape.name,
        description="Two NUMA nodes, four stand-in accelerators, real libvirt and VFIO, all emulated",
        subject=scenario.shape.subject,
        expected_gpus=scenario.shape.nodes * scenario.shape.gpus,
    )


def play(recorder: Recorder, scenario: Scenario) -> None:
    """Write the run's events as stages would, up to ``run.end`` or to where it is killed."""
    shape = scenario.shape
    recorder.engine(
        Engine(
            description="QEMU 10.0.2, software emulation (TCG), 8 vCPUs",
            accelerator="tcg",
            limits=("no GPU: four edu stand-ins compute factorials and copy memory by DMA",),
        )
    )
    transcript = recorder.save(
        "facts", ("sh", "-s"), 0, answer(b"numa 2\n" + scenario.text.encode(errors="replace"))
    )
    recorder.facts(host_facts(shape), file=transcript)
    recorder.stage_ended("discover", 1.3)
    recorder.system(
        (SystemAnswer(question="service:libvirtd", ok=True, detail=scenario.text, transcript=transcript),)
    )
    recorder.stage_ended("readiness", 6.1)
    for gpu in shape.gpu_addresses:
        recorder.reset(
            ResetTrial(
                device=gpu,
                methods=("bus",),
                attempted=True,
                accepted=True,
                state_cleared=shape.subject is SubjectKind.HARDWARE,
                detail=scenario.text,
            )
        )
    recorder.stage_ended("reset trials", 2.4)
    for name, gpus, workloads in guests_of(shape):
        _play_guest(recorder, scenario, name, gpus, workloads)
        if scenario.stop_after == name:
            return
    ports = tuple(d.address for d in host_facts(shape).pci_devices if d.class_code == "060400")
    plans = (plan_for(shape, name, gpus) for name, gpus, _ in guests_of(shape))
    cpus = {cpu for plan in plans for cpu in plan.vcpupin.values()}
    recorder.host_telemetry(watched.host(shape.gpu_addresses, ports, cpus))
    recorder.facts(host_facts(shape), after=True)
    recorder.run_ended()


def _play_guest(
    recorder: Recorder,
    scenario: Scenario,
    name: str,
    gpus: tuple[PciAddress, ...],
    workloads: tuple[str, ...],
) -> None:
    plan = plan_for(scenario.shape, name, gpus)
    recorder.guest_planned(name, plan)
    recorder.guest_xml(name, recorder.save_domain_xml(name, f"<domain><name>{name}</name></domain>\n"))
    recorder.guest_started(name)
    recorder.guest_reached(name, 41.7 + 8 * len(gpus))
    recorder.stage_ended("provision", 48.0 + 8 * len(gpus))
    observed = observed_for(plan)
    if scenario.misplaced and name == "g4":
        observed = misplace(observed)
    file = recorder.save(f"observe-{name}", ("sh", "-s"), 0, answer(b"tasks\n"))
    recorder.guest_observed(name, observed, (file,))
    recorder.stage_ended("observe", 2.2)
    for workload in workloads:
        recorder.workload(
            workload_result(name, workload, ok=not (scenario.bad_answer and workload == "transcode"))
        )
    lab = scenario.shape.subject is SubjectKind.LAB
    if not (scenario.stop_after == name and lab):
        recorder.telemetry(
            watched.guest(
                name,
                workloads,
                gpus,
                run=RUN,
                standin="default" if lab else "",
                bad=scenario.bad_answer and name == "g4",
            )
        )
    recorder.stage_ended("burn", sum(workload_result(name, w).seconds or 0 for w in workloads))
    leaks = scenario.shape.subject is not SubjectKind.HARDWARE and name == "g4"
    for gpu in gpus if name == "g4" else ():
        recorder.residue(
            name, ResidueTrial(device=gpu, planted=gpu == gpus[2], found=leaks and gpu == gpus[2])
        )
    recorder.guest_kernel_log(name, (scenario.text,))
    recorder.released(release_of(name, plan))
    recorder.stage_ended("release", 4.2)


def misplace(observed: ObservedPlacement) -> ObservedPlacement:
    """One vCPU on a foreign core, a fifth of a cell on the other node, one device in the wrong cell."""
    threads = tuple(
        replace(t, cpus_allowed=(0,), cgroup_cpus=(0,)) if t.vcpu == 1 else t for t in observed.threads
    )
    block = observed.memory[-1]
    strayed = replace(block, pages={0: block.size_bytes // 5, 1: block.size_bytes * 4 // 5})
    gpu = replace(observed.gpus[0], guest_numa_node=1)
    return replace(
        observed, threads=threads, memory=(*observed.memory[:-1], strayed), gpus=(gpu, *observed.gpus[1:])
    )


def answer(stdout: bytes) -> CommandResult:
    return CommandResult(argv=("sh", "-s"), status=0, stdout=stdout, stderr=b"", seconds=1.25)


def _result(
    check: str, subject: str, ok: bool | None, good: str, bad: str = "", **more: object
) -> CheckResult:
    outcome = Outcome.SKIP if ok is None else Outcome.PASS if ok else Outcome.FAIL
    fields: dict[str, object] = {"remedy": "", "action": Action.NONE}
    if ok is not True:
        fields |= more
    else:
        fields["measurements"] = more.get("measurements", ())
    return CheckResult(check=check, subject=subject, outcome=outcome, message=good if ok else bad, **fields)  # type: ignore[arg-type]


def checker(
    evidence: Evidence, profile: Profile, host: HostFile
) -> tuple[tuple[CheckResult, ...], tuple[CoverageCell, ...]]:
    """Simple judges for the example: enough of each kind to see every part of a report."""
    facts = evidence.facts
    results: list[CheckResult] = []
    planned: list[tuple[str, str]] = [(check, "host") for check, _, _ in CHECKS[:3]]
    seen = EvidenceRef(file=evidence.facts_file, place="line 1", quote="numa 2")
    if facts is not None:
        results.append(
            _result(
                "host.iommu_live",
                "host",
                bool(facts.iommu.groups),
                f"{len(facts.iommu.groups)} IOMMU groups, DMA translation on",
            )
        )
        results.append(
            _result(
                "host.interrupt_remapping",
                "host",
                facts.iommu.interrupt_remapping,
                "interrupt remapping is on",
                "the kernel did not enable interrupt remapping, and allow_unsafe_interrupts is Y",
                remedy="enable VT-d interrupt remapping in the firmware and boot with intremap=on",
                action=Action.FIX_FIRMWARE,
                evidence=(seen,),
            )
        )
        results.append(
            _result(
                "host.numa_balancing",
                "host",
                not facts.noise.numa_balancing,
                "numa_balancing is 0",
                "/proc/sys/kernel/numa_balancing is 1",
                remedy="sysctl kernel.numa_balancing=0",
                action=Action.FIX_CONFIG,
                evidence=(seen,),
            )
        )
    for trial in evidence.resets:
        planned += [("gpu.resets", str(trial.device)), ("gpu.link", str(trial.device))]
        results.append(
            _result(
                "gpu.resets",
                str(trial.device),
                trial.state_cleared,
                "bus reset accepted, state cleared",
                "the kernel took the reset, but the register written before it still held its value",
                remedy="exclude the card from rental until its firmware resets it",
                action=Action.CONTACT_VENDOR,
            )
        )
        results.append(_result("gpu.link", str(trial.device), True, "root port at 16 GT/s x16, as expected"))
    for spec in profile.guests:
        name = f"g{spec.gpus}"
        planned += [(check, name) for check in ("guest.placement", "guest.released")]
        planned += [("guest.residue", name)] if name == "g4" else []
        planned += [("workload.answers", f"{name}/{workload}") for workload in spec.workloads]
        results += _guest_results(evidence, name)
    cells = tuple(
        CoverageCell(
            check=check,
            subject=subject,
            severity=profile.checks[check],
            outcome=None,
            reason="the run ended before it was reached",
        )
        for check, subject in planned
    )
    return tuple(results), cells


def _guest_results(evidence: Evidence, name: str) -> list[CheckResult]:
    guest = next((g for g in evidence.guests if g.name == name), None)
    if guest is None or guest.observed is None:
        return []
    strays = sum(t.vcpu is not None and t.cpus_allowed == (0,) for t in guest.observed.threads)
    results = [
        _result(
            "guest.placement",
            name,
            strays == 0,
            f"all {len(guest.observed.threads)} threads and all pages are where they were planned",
            f"{strays} vCPU may run on host CPU 0; 20 % of cell 1 lies on node 0",
            remedy="look for a cgroup that another tool changed, then run again",
            action=Action.RESTART_VM,
        )
    ]
    if guest.residue:
        results.append(
            _result(
                "guest.residue",
                name,
                not any(r.found for r in guest.residue),
                "nothing of the earlier tenant was found",
                "64 bytes planted by g1 in 0000:81:00.0 were read by g4",
                remedy="do not rent this card to a second tenant",
                action=Action.CONTACT_VENDOR,
            )
        )
    if guest.release:
        results.append(_result("guest.released", name, True, "devices, hugepages and files are as before"))
    for found in guest.results:
        results.append(
            _result(
                "workload.answers",
                f"{name}/{found.workload}",
                all(a.ok for a in found.answers),
                f"{found.answers[0].name} agrees",
                f"{found.answers[0].name}: expected {found.answers[0].expected}, got {found.answers[0].got}",
                remedy="run it again on another card of this host; if only this one is wrong, replace it",
                action=Action.REPLACE_GPU,
                measurements=found.measurements,
            )
        )
    return results


def begin(root: Path, scenario: Scenario, *, clock: Clock | None = None) -> Recorder:
    return Recorder.begin(
        root,
        host=host_file(scenario),
        profile=PROFILE,
        waivers=scenario.waivers,
        guests=demands(scenario.shape),
        clock=clock or TickingClock(),
        run_id=RUN,
        command=("shakedown", "qualify", "--host", scenario.shape.name),
        versions={"python": "3.11.2"},
    )


def record(root: Path, scenario: Scenario) -> RunRecord:
    """The scenario played and finished under ``root``."""
    recorder = begin(root, scenario)
    play(recorder, scenario)
    return replace(finish(recorder, checker=checker, titles=TITLES), shakedown_version="0.1.0")
