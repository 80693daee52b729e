"""One guest from plan to release: each step recorded as it is learned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from harness.backends.ssh import SshTransport
from harness.errors import HarnessError, RecordError
from harness.images.guest import NVML_STANDIN, PYTHON_DIR
from harness.model.guest import GuestRequest
from harness.model.inventory import HostFile, Profile
from harness.model.kernel_codes import KernelCodes
from harness.model.pci import PciAddress
from harness.model.placement import NoPlan, ObservedPlacement, PlacementPlan
from harness.model.sku import Sku
from harness.model.standin import StandinScenario
from harness.model.topology import HostFacts, PciDevice
from harness.placement import domxml, planner, xmlcheck
from harness.ports import Clock
from harness.progress import Progress
from harness.record.recorder import Recorder
from harness.stages import provision
from harness.stages.access import HostAccess
from harness.stages.boundary import Stopped, stage, stage_error
from harness.stages.burn import Burn, burn, leave, longest_seconds, put_payload, require_python
from harness.stages.guest_devices import guest_devices
from harness.stages.held_gpus import refuse_held
from harness.stages.host_state import HostState, snapshot_host_state
from harness.stages.images import HostImage
from harness.stages.keys import GuestKeys, make_keys
from harness.stages.leases import Lease
from harness.stages.network import RunNetwork
from harness.stages.observe import observe_guest
from harness.stages.provision import GuestPlace
from harness.stages.release import release_guest
from harness.stages.watch import NvmlStandin, Watch, watched
from harness.telemetry.standin import scenario_text
from harness.workloads import GuestDevice
from harness.workloads.applicable import absence, models

KERNEL_LOG = (
    'log=$(dmesg --notime) && [ -n "$log" ] || exit 1; printf \'%s\\n\' "$log" | grep -E -i '
    "'DMAR|IO_PAGE_FAULT|smmu|AER:|PCIe Bus Error|DPC:|pciehp|Hardware Error|machine check|mce:|EDAC|"
    "NVRM|SXid|amdgpu|vfio|D3cold|of (unsigned )?module|BUG:|Oops|panic|protection fault|stall|lockup|"
    "blocked for more|Out of memory' "
    "| tail -n 400 | cut -c 1-1000"
)
"""What ``harness.checks.kernel_log`` looks for, filtered where it lies. A log that cannot be read, or holds
nothing at all, is no quiet log: the status says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestStage:
    """Everything the life of one guest needs."""

    run: str
    recorder: Recorder
    host: HostFile
    profile: Profile
    clock: Clock
    progress: Progress
    access: HostAccess
    facts: HostFacts
    image: HostImage
    network: RunNetwork
    request: GuestRequest
    workloads: tuple[str, ...]
    number: int
    lease: Lease
    """Without it the run must not act on the host: another one may be clearing its guests."""
    planted: set[PciAddress]
    """Devices in which earlier guests of this run left their pattern."""
    unreleased: set[str]
    """Guests of this run that may still hold their devices."""
    dedicated: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Domain to the CPUs of the host that it was given; grows as guests come and go."""
    skus: tuple[Sku, ...] = ()
    """The GPU models that the inventory describes."""
    last: bool = False
    """Nobody in this run comes after it, so that it need leave nothing to be found."""
    codes: KernelCodes = KernelCodes()
    standin: StandinScenario | None = None
    scratch: Path
    """Private directory of the controller for this run's keys."""

    @property
    def name(self) -> str:
        """The guest's name."""
        return self.request.name

    @property
    def place(self) -> GuestPlace:
        """Where it lives on the host."""
        return provision.guest_place(self.run, self.name, self.number, self.host.work_dir)


def run_guest(guest: GuestStage) -> None:
    """Plan, start, look, burn and release one guest. Raises Stopped when a step broke and was recorded."""
    with stage(guest.recorder, "claim", subject=guest.name):
        guest.lease.require()
    plan = _plan(guest)
    with stage(guest.recorder, "plan", subject=guest.name):
        keys = make_keys(guest.scratch, guest.name)
    xml = _definition(guest, plan, keys)
    with stage(guest.recorder, "provision", subject=guest.name):
        # The guest before gave them back to their driver, and what watches GPUs may have them open by now.
        refuse_held(guest.access.transport, _handed_over(guest, plan))
        hypervisor = guest.access.hypervisor()
        before = snapshot_host_state(
            guest.access.transport, plan.hostdevs, run=guest.run, work_dir=guest.host.work_dir
        )
    with ExitStack() as stack:
        guest.unreleased.add(guest.name)
        stack.callback(_release, guest, before)
        guest.progress.stage(f"{guest.name}: start")
        with stage(guest.recorder, "provision", subject=guest.name):
            hypervisor.start_network(guest.network.xml)
            provision.make_overlay(guest.access.transport, guest.place, guest.image)
            guest.lease.require()
            hypervisor.define_and_start(xml, run=guest.run)
            guest.recorder.guest_started(guest.name)
            guest.dedicated[guest.place.domain] = tuple(sorted(plan.vcpupin.values()))
        connection = _reach(guest, plan, keys)
        stack.callback(connection.close)
        observed = _observe(guest, connection, plan)
        _burn(guest, connection, plan, observed)
        _kernel_log(guest, connection)


def _plan(guest: GuestStage) -> PlacementPlan:
    guest.progress.stage(f"{guest.name}: plan")
    with stage(guest.recorder, "plan", subject=guest.name):
        answer = planner.plan(guest.facts, guest.request, guest.host.placement)
        guest.recorder.guest_planned(guest.name, answer)
    if isinstance(answer, NoPlan):
        for reason in answer.reasons:
            guest.progress(f"no plan: {reason.code}: {reason.message}")
        raise Stopped
    return answer


def _handed_over(guest: GuestStage, plan: PlacementPlan) -> Iterator[PciDevice]:
    return (device for gpu in plan.gpus if (device := guest.facts.device(gpu.host)) is not None)


def _definition(guest: GuestStage, plan: PlacementPlan, keys: GuestKeys) -> str:
    with stage(guest.recorder, "plan", subject=guest.name):
        definition = provision.define(
            plan,
            guest.facts,
            run=guest.run,
            place=guest.place,
            image=guest.image,
            network=guest.network,
            keys=keys,
        )
        xml = domxml.render(plan, definition)
        found = tuple(f"{p.code}: {p.message}" for p in xmlcheck.problems(xml, guest.facts))
        file = guest.recorder.save_domain_xml(guest.name, keys.redact(xml))
        guest.recorder.guest_xml(guest.name, file, found)
    if found:
        guest.progress(f"the domain would be wrong: {found[0]}")
        raise Stopped
    return xml


def _reach(guest: GuestStage, plan: PlacementPlan, keys: GuestKeys) -> SshTransport:
    guest.progress.stage(f"{guest.name}: boot")
    with stage(guest.recorder, "boot", subject=guest.name):
        connection, seconds = provision.wait_for_guest(
            guest.access,
            guest.place,
            provision.guest_access(guest.network, guest.place, keys, guest.scratch),
            name=guest.name,
            deadline=provision.boot_deadline(guest.profile, plan),
            clock=guest.clock,
            progress=guest.progress,
            recorder=guest.recorder,
        )
        guest.recorder.guest_reached(guest.name, seconds)
    guest.progress(f"{guest.name} answered after {seconds:.0f} s")
    return connection


def _observe(guest: GuestStage, connection: SshTransport, plan: PlacementPlan) -> ObservedPlacement | None:
    """A placement that cannot be read is missing evidence; the burn still shows what it can."""
    guest.progress.stage(f"{guest.name}: observe")
    try:
        with stage(guest.recorder, "observe", subject=guest.name):
            observed, files = observe_guest(
                guest.recorder,
                guest.access.transport,
                guest.access.hypervisor(),
                connection,
                plan=plan,
                domain=guest.place.domain,
            )
            guest.recorder.guest_observed(guest.name, observed, files)
    except Stopped:
        guest.progress("the placement could not be read; going on")
        return None
    return observed


def _burn(
    guest: GuestStage,
    connection: SshTransport,
    plan: PlacementPlan,
    observed: ObservedPlacement | None,
) -> None:
    guest.progress.stage(f"{guest.name}: burn")
    with stage(guest.recorder, "burn", subject=guest.name):
        devices = guest_devices(plan, observed)
        gpus = tuple(gpu.host for gpu in plan.gpus)
        task = Burn(
            run=guest.run,
            guest=guest.name,
            workloads=guest.workloads,
            vcpus=len(plan.vcpupin),
            devices=devices,
            profile=guest.profile,
            recorder=guest.recorder,
            clock=guest.clock,
            progress=guest.progress,
            models=models(guest.skus, guest.facts, gpus),
            absent=absence(guest.skus, guest.facts, gpus, guest.profile, requested=guest.request.gpus),
            planted=guest.planted,
        )
        watch = Watch(
            run=guest.run,
            guest=guest.name,
            spec=guest.profile.telemetry,
            seconds=longest_seconds(guest.profile, guest.workloads),
            codes=guest.codes,
            recorder=guest.recorder,
            progress=guest.progress,
            pynvml=PYTHON_DIR,
            addresses={d.address: d.host for d in devices},
            standin=_standin(guest, devices),
        )
        if guest.image.kernel is None:  # an image of one's own: ours has the Python that it was built with
            require_python(connection, task.place)
        put_payload(connection, task.place)
        with watched(watch, connection, task.results):
            burn(task, connection)
        if not guest.last:
            leave(task, connection)


def _standin(guest: GuestStage, devices: tuple[GuestDevice, ...]) -> NvmlStandin | None:
    """What the guest's own copy of the stand-in plays: a GPU at each of its devices."""
    if guest.standin is None:
        return None
    seen = sorted(d.address for d in devices if not d.companion)
    tenant = f"{guest.run}/{guest.name}"
    return NvmlStandin(library=NVML_STANDIN, scenario=scenario_text(guest.standin, seen, tenant=tenant))


def _kernel_log(guest: GuestStage, connection: SshTransport) -> None:
    with stage(guest.recorder, "observe", subject=guest.name):
        result = connection.run(("sh", "-c", KERNEL_LOG), label=f"{guest.name}-kernel-log")
        lines = tuple(result.text.splitlines()) if result.status == 0 else None
        guest.recorder.guest_kernel_log(guest.name, lines)


def _release(guest: GuestStage, before: HostState) -> None:
    """Give the guest back, and once more where a signal or the controller's full disk broke that off.

    A signal arrives once (``harness.stages.session``), and a release may be done twice; with a record that
    refuses, the guest is ended all the same, and the refusal goes on to end the run.
    """
    try:
        with guest.recorder.stage("release"):
            _give_back(guest, before)
    except (KeyboardInterrupt, RecordError):
        _give_back(guest, before)
        raise


def _give_back(guest: GuestStage, before: HostState) -> None:
    guest.progress.stage(f"{guest.name}: release")
    place = guest.place
    try:
        guest.lease.regain()
        provision.serial_log(guest.access.transport, place)
        evidence = release_guest(
            guest.access.transport,
            guest.access.hypervisor(),
            run=guest.run,
            guest=guest.name,
            domain=place.domain,
            before=before,
            work_dir=guest.host.work_dir,
            clock=guest.clock,
            progress=guest.progress,
            files=(place.overlay, place.serial),
            networks=(guest.network.name,),
        )
    except HarnessError as error:
        guest.recorder.error(stage_error(error, "release", guest.name))
        return
    if not (evidence.leftover_domains or evidence.leftover_processes):
        guest.unreleased.discard(guest.name)
    guest.recorder.released(evidence)
