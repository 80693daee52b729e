"""One guest of a group: each step of its life, recorded as it is learned. ``group`` says in what order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.backends.ssh import SshTransport
from harness.errors import BootError, HarnessError, ParseError
from harness.facts.ask import KERNEL_WORDS
from harness.images.kinds import PYTHON_DIR
from harness.model.gpu import Cards
from harness.model.guest import GuestDemand
from harness.model.placement import Moment, NoPlan, ObservedPlacement, PlacementPlan
from harness.model.topology import PciDevice
from harness.placement import planner
from harness.placement.domain import check as xmlcheck
from harness.placement.domain import write as domxml
from harness.stages.boundary import Stopped, recorded, stage_error
from harness.stages.claimed_host import ClaimedHost
from harness.stages.guest import provision
from harness.stages.guest.burn import Burn, burn, leave, longest_seconds, put_payload, require_python
from harness.stages.guest.devices import guest_cards, guest_devices
from harness.stages.guest.images import HostImage
from harness.stages.guest.keys import GuestKeys, make_keys
from harness.stages.guest.network import RunNetwork
from harness.stages.guest.observe import host_uptime, look_again, observe_guest
from harness.stages.guest.provision import GuestPlace
from harness.stages.guest.pulse import Pulse, died
from harness.stages.guest.stuck import keep_vcpus
from harness.stages.guest.watch import PlayedLibrary, Watch, watched
from harness.telemetry.host.grounds import GuestWindow
from harness.vendors.standin import GUEST_LIBRARY, scenario_text
from harness.workloads.applicable import absence, models
from harness.workloads.base import GuestDevice

MOST_LINES, LONGEST_LINE = 1000, 4096
"""What is kept of a guest's kernel log. A guest that does as it is told sends 400 lines of 1000 bytes."""

KERNEL_LOG = (
    'log=$(dmesg -kSx 2>/dev/null || dmesg) && [ -n "$log" ] || exit 1; printf \'%s\\n\' "$log" | grep -E -i '
    f"'{KERNEL_WORDS}' | tail -n 400 | cut -c 1-1000"
)
"""What ``harness.checks.watching.kernel_log`` looks for, filtered where it lies, with the facility of each
line and without those of programs (``-k``). Only by syslog(2) (``-S``) has every line of a message its
facility; raw lines (``-r``) of util-linux 2.38 have a wrong one. A ``dmesg`` that knows no such options
(busybox) tells all. A log that cannot be read, or holds nothing at all, is no quiet log: the status says
so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestSite:
    """What all guests of a run share on their host."""

    image: HostImage
    network: RunNetwork
    scratch: Path
    """Private directory of the controller for this run's keys."""


@dataclass(slots=True, kw_only=True)
class GuestLife:
    """One guest on a claimed host, and how far it has come."""

    host: ClaimedHost
    site: GuestSite
    demand: GuestDemand
    number: int
    """Its place among the guests of the run, from 0: its address follows from it."""
    progress: Callable[[str], None]
    plan: PlacementPlan | None = None
    keys: GuestKeys | None = None
    xml: str = ""
    acquired: bool = False
    """Something of it may lie on the host."""
    connection: SshTransport | None = None
    observed: ObservedPlacement | None = None
    cards: Cards = Cards()
    """Its devices by both sides' addresses, once it was observed."""
    burnt: Burn | None = None
    """Its loads, once they ran."""
    pulse: Pulse | None = None
    """Who knows whether it lives, once it is to be started."""
    broken: bool = False
    """A step broke and is recorded: none of those that build on it may follow."""
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def name(self) -> str:
        """The guest's name."""
        return self.demand.request.name

    @property
    def place(self) -> GuestPlace:
        """Where it lives on the host."""
        context = self.host.context
        return provision.guest_place(context.run, self.name, self.number, context.host.work_dir)

    @property
    def handed_over(self) -> Iterator[PciDevice]:
        """The GPUs of its plan, as discovered."""
        gpus = self.plan.gpus if self.plan is not None else ()
        return (device for gpu in gpus if (device := self.host.facts.device(gpu.host)) is not None)


def plan_guest(guest: GuestLife, given: tuple[PlacementPlan, ...]) -> None:
    """Place it beside those ``given``, and write its definition. Raises Stopped."""
    context = guest.host.context
    with recorded(context.recorder, "plan", subject=guest.name):
        answer = planner.plan(
            guest.host.facts, guest.demand.request, context.host.placement, context.mode, given
        )
        context.recorder.guest_planned(guest.name, answer)
    if isinstance(answer, NoPlan):
        for reason in answer.reasons:
            guest.progress(f"no plan: {reason.code}: {reason.message}")
        raise Stopped
    guest.plan = answer
    with recorded(context.recorder, "plan", subject=guest.name):
        guest.keys = make_keys(guest.site.scratch, guest.name)
        _define(guest, answer, guest.keys)


def _define(guest: GuestLife, plan: PlacementPlan, keys: GuestKeys) -> None:
    context = guest.host.context
    definition = provision.define(
        plan,
        guest.host.facts,
        run=context.run,
        place=guest.place,
        image=guest.site.image,
        network=guest.site.network,
        keys=keys,
    )
    guest.xml = domxml.render(plan, definition, context.mode)
    found = tuple(f"{p.code}: {p.message}" for p in xmlcheck.problems(guest.xml, guest.host.facts))
    file = context.recorder.save_domain_xml(guest.name, keys.redact(guest.xml))
    context.recorder.guest_xml(guest.name, file, found)
    if found:
        guest.progress(f"the domain XML is wrong: {found[0]}")
        raise Stopped


def start_guest(guest: GuestLife) -> None:
    """Let libvirt start it; from here on it must be released. Raises Stopped."""
    host, context = guest.host, guest.host.context
    with recorded(context.recorder, "provision", subject=guest.name):
        guest.acquired = True
        host.unreleased.add(guest.name)
        hypervisor = host.access.hypervisor()
        hypervisor.start_network(guest.site.network.xml)
        provision.make_overlay(host.access.transport, guest.place, guest.site.image)
        host.lease.require()
        hypervisor.define_and_start(guest.xml, run=context.run)
        context.recorder.guest_started(guest.name)
        if guest.plan is not None:
            host.dedicated[guest.place.domain] = tuple(sorted(guest.plan.vcpupin.values()))


def reach_guest(guest: GuestLife) -> None:
    """Wait until it answers. Raises Stopped."""
    context, plan, keys = guest.host.context, guest.plan, guest.keys
    assert plan is not None and keys is not None  # noqa: S101, PT018  started guests have both
    with recorded(context.recorder, "boot", subject=guest.name):
        try:
            guest.connection, seconds = provision.wait_for_guest(
                guest.host.access,
                guest.place,
                provision.guest_access(guest.site.network, guest.place, keys, guest.site.scratch),
                name=guest.name,
                deadline=provision.boot_deadline(context.profile, plan),
                clock=context.clock,
                progress=guest.progress,
                recorder=context.recorder,
                life=guest.pulse.life(guest.name) if guest.pulse is not None else None,
            )
        except BootError as error:
            hypervisor, domain = guest.host.access.hypervisor(), guest.place.domain
            file = keep_vcpus(context.recorder, hypervisor, context.clock, guest=guest.name, domain=domain)
            raise BootError(error.message, remedy=error.remedy, transcript=file) from error
        if guest.pulse is not None:
            guest.pulse.reached(guest.name, guest.connection)
        context.recorder.guest_reached(guest.name, seconds)
    guest.progress(f"{guest.name} answered after {seconds:.0f} s")


def observe_placement(guest: GuestLife) -> None:
    """Read back where it landed. A placement that cannot be read is missing evidence, and ends nothing."""
    context, plan = guest.host.context, guest.plan
    if plan is None or guest.connection is None:
        return
    try:
        with recorded(context.recorder, "observe", subject=guest.name):
            guest.observed, files = observe_guest(
                context.recorder,
                guest.host.access.transport,
                guest.host.access.hypervisor(),
                guest.connection,
                plan=plan,
                domain=guest.place.domain,
            )
            context.recorder.guest_observed(guest.name, guest.observed, files)
            guest.cards = guest_cards(guest.host.facts, plan, guest.observed)
            context.recorder.guest_cards(guest.name, guest.cards)
            _begin_window(guest, plan, guest.observed)
    except Stopped:
        guest.progress("the placement could not be read; continuing")


def _begin_window(guest: GuestLife, plan: PlacementPlan, observed: ObservedPlacement) -> None:
    """From here on nothing of it may change."""
    if observed.at is not None:
        guest.host.windows[guest.name] = GuestWindow(
            guest=guest.name, domain=guest.place.domain, devices=plan.hostdevs, start=observed.at
        )


def end_window(guest: GuestLife, at: float | None = None) -> None:
    """From here on it may be changed: ``at`` seconds after the host's boot, or now. Safe to call twice."""
    window = guest.host.windows.get(guest.name)
    if window is None or window.end is not None:
        return
    at = at if at is not None else host_uptime(guest.host.access.transport)
    if at is None:
        # Nobody knows until when it was to stay: what its release changes would look like a fault.
        del guest.host.windows[guest.name]
    else:
        guest.host.windows[guest.name] = replace(window, end=at)


def look_at(guest: GuestLife, moment: Moment) -> None:
    """Read back where it is now, if that could be read after its boot. Ends nothing: what cannot be read is
    missing evidence, and said in the record."""
    context, plan = guest.host.context, guest.plan
    if plan is None or guest.connection is None or guest.observed is None:
        return
    guest.progress(f"reading its placement {moment}")
    look = look_again(
        context.recorder,
        guest.host.access.transport,
        guest.host.access.hypervisor(),
        guest.connection,
        plan=plan,
        domain=guest.place.domain,
        moment=moment,
    )
    context.recorder.guest_looked_at(guest.name, look)
    if moment is Moment.END:
        end_window(guest, look.at)
    if look.detail:
        guest.progress(f"the placement could not be read {moment}: {look.detail}")


def burn_guest(guest: GuestLife, workloads: tuple[str, ...]) -> None:
    """Run ``workloads`` in it, watched. Raises Stopped."""
    context, plan, connection = guest.host.context, guest.plan, guest.connection
    if plan is None or connection is None:
        raise Stopped
    with recorded(context.recorder, "burn", subject=guest.name):
        devices = guest_devices(guest.cards, guest.observed)
        guest.burnt = task = _burn(guest, plan, devices, workloads)
        watch = Watch(
            run=context.run,
            guest=guest.name,
            spec=context.profile.telemetry,
            seconds=longest_seconds(context.profile, workloads),
            codes=context.codes,
            recorder=context.recorder,
            progress=guest.progress,
            binding=PYTHON_DIR,
            cards=guest.cards,
            standin=_standin(guest, devices, task.place.jobs),
        )
        if guest.site.image.kernel is None:  # an image of one's own: ours has the Python it was built with
            require_python(connection, task.place)
        put_payload(connection, task.place)
        with watched(watch, connection, task.results):
            burn(task, connection)
        look_at(guest, Moment.END)


def _burn(
    guest: GuestLife, plan: PlacementPlan, devices: tuple[GuestDevice, ...], workloads: tuple[str, ...]
) -> Burn:
    host, context = guest.host, guest.host.context
    gpus = tuple(gpu.host for gpu in plan.gpus)
    requested = guest.demand.request.gpus
    return Burn(
        run=context.run,
        guest=guest.name,
        workloads=workloads,
        vcpus=len(plan.vcpupin),
        devices=devices,
        cards=guest.cards,
        profile=context.profile,
        recorder=context.recorder,
        clock=context.clock,
        progress=guest.progress,
        models=models(context.skus, host.facts, gpus),
        absent=absence(context.skus, host.facts, gpus, context.profile, requested=requested),
        planted=host.planted,
        cancelled=guest.cancelled,
        in_the_middle=lambda: look_at(guest, Moment.MIDDLE),
    )


def _standin(guest: GuestLife, devices: tuple[GuestDevice, ...], jobs: str) -> PlayedLibrary | None:
    """What the guest's own copy of the stand-in plays: a GPU at each of its devices."""
    context = guest.host.context
    if context.standin is None:
        return None
    seen = sorted(d.address for d in devices if not d.companion)
    tenant = f"{context.run}/{guest.name}"
    scenario = scenario_text(context.standin, seen, tenant=tenant, jobs=jobs)
    return PlayedLibrary(library=GUEST_LIBRARY, scenario=scenario)


def last_words(guest: GuestLife, *, more_to_come: bool) -> None:
    """What is done with a guest just before it is given back: its word for the next tenant, if there is one
    and it did not break, and its kernel's log. What cannot be read is missing evidence. Nothing of a guest
    that died."""
    if guest.connection is None or (guest.pulse is not None and guest.pulse.death(guest.name) is not None):
        return
    if guest.burnt is not None and more_to_come and not guest.broken:
        leave(guest.burnt, guest.connection)
    recorder = guest.host.context.recorder
    try:
        with recorded(recorder, "observe", subject=guest.name):
            result = guest.connection.run(("sh", "-c", KERNEL_LOG), label=f"{guest.name}-kernel-log")
            lines = result.text.splitlines() if result.status == 0 else None
            recorder.guest_kernel_log(guest.name, None if lines is None else ends_of(lines))
            if lines is not None and len(lines) > MOST_LINES:
                raise ParseError(
                    f"its kernel log has {len(lines)} relevant lines; {MOST_LINES} of them are kept",
                    remedy="read the guest's serial console: so many errors mean a serious fault",
                )
    except Stopped:
        guest.progress("its kernel log could not be read")


def ends_of(lines: Sequence[str]) -> tuple[str, ...]:
    """The first and the last lines, ``MOST_LINES`` in all, each of at most ``LONGEST_LINE`` characters."""
    half = MOST_LINES // 2
    kept = lines if len(lines) <= MOST_LINES else (*lines[:half], *lines[-half:])
    return tuple(line[:LONGEST_LINE] for line in kept)


def record_death(guest: GuestLife, stage: str) -> None:
    """Write down that it died, once, and let nothing more be asked of it. Raises RecordError."""
    death = guest.pulse.unrecorded(guest.name) if guest.pulse is not None else None
    if death is None:
        return
    guest.broken = True
    recorder = guest.host.context.recorder
    recorder.guest_died(guest.name, replace(death, during=stage))
    recorder.error(stage_error(died(guest.name, death), stage, guest.name))


def hang_up(guest: GuestLife) -> None:
    """End the connection into it; safe to call twice."""
    if guest.connection is not None:
        try:
            guest.connection.close()
        except HarnessError as error:
            guest.progress(f"closing the connection: {error.message}")
