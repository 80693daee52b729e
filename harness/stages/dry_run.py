"""``qualify --dry-run``: every change a run would make on the host, and none made."""

from __future__ import annotations

from collections.abc import Callable

from harness import facts as host_facts
from harness.images.guest import guest_image_here
from harness.model.attachment import Attachment
from harness.model.guest import GuestDemand
from harness.model.inventory import HostFile
from harness.model.placement import NoPlan, PlacementPlan
from harness.model.topology import HostFacts, PciDevice
from harness.placement import planner
from harness.placement.virtual import split_words
from harness.stages.guest import images
from harness.stages.guest.network import run_network
from harness.stages.host.access import Labs, guest_kinds, open_host
from harness.stages.host.leases import CLAIM_ROOTS
from harness.stages.machine import bare_place

_RUN = "RUN"


def changes(
    host: HostFile,
    demands: tuple[GuestDemand, ...],
    progress: Callable[[str], None],
    *,
    mode: Attachment,
    labs: Labs | None = None,
) -> tuple[str, ...]:
    """What a run would change on the host, one sentence each, in order; ``RUN`` stands for the run's key.

    Asks the host, read only, and nothing else: no image is built, no lab is started. Raises
    ConfigError, TransportError, LabError, ImageError or ParseError.
    """
    if not mode.in_guests:
        return _of_machine(host, demands, progress, mode, labs)
    facts = _facts(host, progress, labs)
    gpus = mode.select(facts, host.placement.selector)
    lines = [
        f"on {host.name}: write claims for {len(gpus)} GPUs and their companion functions, and a lease, "
        f"below {CLAIM_ROOTS[0]}",
        *(_of_reset(facts, gpu) for gpu in gpus),
        *_of_image(host),
    ]
    network = run_network(_RUN, len(demands))
    beside: dict[str, tuple[PlacementPlan, ...]] = {}
    for demand in demands:
        neighbours = beside.get(demand.group, ())
        answer = planner.plan(facts, demand.request, host.placement, mode, neighbours)
        if isinstance(answer, PlacementPlan):
            beside[demand.group] = (*neighbours, answer)
        lines += _of_guest(demand, answer, facts, host.work_dir, network.name)
    lines.append(
        "release everything: drivers, hugepages, networks, files and claims, and check that it was released"
    )
    return tuple(lines)


def _of_reset(facts: HostFacts, gpu: PciDevice) -> str:
    words, _ = split_words(facts, gpu)
    if words:
        return f"leave {gpu.address} alone, without a reset and in no guest: it {words}"
    return f"reset {gpu.address} through sysfs ({', '.join(gpu.reset_methods) or 'no method listed'})"


def _facts(host: HostFile, progress: Callable[[str], None], labs: Labs | None) -> HostFacts:
    with open_host(host, progress, labs=labs, start=False) as access:
        facts, _ = host_facts.collect(access.transport, work_dir=host.work_dir)
    return facts


def _of_image(host: HostFile) -> tuple[str, ...]:
    kinds = guest_kinds(host)
    image = guest_image_here(host.guest_image, kinds=kinds)
    if image is not None:
        return images.changes(image, host.work_dir)
    return (
        f"build the guest image {host.guest_image} on this machine (takes minutes and up to "
        f"{2 * kinds[host.guest_image].disk_mib >> 10} GiB of disk space), and copy it to "
        f"{host.work_dir}/images",
    )


def _of_machine(
    host: HostFile,
    demands: tuple[GuestDemand, ...],
    progress: Callable[[str], None],
    mode: Attachment,
    labs: Labs | None,
) -> tuple[str, ...]:
    facts = _facts(host, progress, labs)
    gpus = mode.select(facts, host.placement.selector)
    place = bare_place(host.work_dir, _RUN)
    home = place.payload.rpartition("/")[0]
    return (
        f"on {host.name}: write claims for the machine, {len(gpus)} GPUs and their companion functions, and "
        f"a lease, below {CLAIM_ROOTS[0]}",
        f"write {home}: the loads, their output, the sampler and its samples",
        *(f"run on bare metal: {', '.join(demand.workloads)}" for demand in demands),
        "end processes that still run, and remove that directory and the claims",
    )


def _of_guest(
    demand: GuestDemand, answer: PlacementPlan | NoPlan, facts: HostFacts, work_dir: str, network: str
) -> list[str]:
    name = demand.request.name
    if isinstance(answer, NoPlan):
        return [
            f"guest {name} would not be started: "
            + "; ".join(f"{r.code}: {r.message}" for r in answer.reasons)
        ]
    lines = [
        f"start a transient network like {network} (isolated bridge, DHCP)",
        f"write {work_dir}/runs/{_RUN}/shakedown-{_RUN}-{name}.qcow2 (overlay) and .serial (console)",
    ]
    for address in answer.hostdevs:
        device = facts.device(address)
        driver = device.driver if device is not None else None
        lines.append(
            f"take {address} from {driver or 'no driver'} to vfio-pci for {name}, and return it afterwards"
        )
    cpus = ", ".join(str(cpu) for cpu in sorted(answer.vcpupin.values()))
    cells = ", ".join(f"{cell.memory_mib} MiB on node {cell.host_node}" for cell in answer.cells)
    pages = f" in pages of {answer.hugepage_kib} KiB" if answer.hugepage_kib else ""
    lines.append(f"define and run domain shakedown-{_RUN}-{name}: CPUs {cpus}; {cells}{pages}")
    return lines
