"""Attach mode ``vfio``: whole GPUs handed to guests, one group of guests after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass

from harness.cleanups import Cleanups
from harness.errors import HarnessError, RecordError
from harness.images.guest import ensure_guest_image
from harness.model.guest import GuestDemand
from harness.ports import Transport
from harness.progress import Progress
from harness.record.files import safe_name
from harness.stages.boundary import Stopped, contained, stage, stage_error
from harness.stages.claimed_host import ClaimedHost
from harness.stages.guest.images import HostImage, place_image
from harness.stages.guest.life import (
    GuestLife,
    GuestSite,
    burn_guest,
    end_window,
    hang_up,
    last_words,
    observe_placement,
    plan_guest,
    reach_guest,
    record_death,
    start_guest,
)
from harness.stages.guest.network import run_network
from harness.stages.guest.provision import serial_log
from harness.stages.guest.pulse import Pulse
from harness.stages.guest.release import Leaving, release_guests
from harness.stages.guest.scratch import private_directory
from harness.stages.host.access import guest_kinds
from harness.stages.host.gpus_in_use import refuse_held
from harness.stages.host.readiness import refuse_foreign_domains
from harness.stages.host.resets import companions_of, exercise_resets
from harness.stages.host.state import HostState, refuse_split, snapshot_host_state

_JOIN_SECONDS = 120.0
"""How long loads that run beside each other may take to notice that the run ends: a wait in the guest, and a
connection that breaks."""


@contextmanager
def guest_site(host: ClaimedHost) -> Iterator[GuestSite]:
    """What guests need, for the length of a block: free GPUs, resets tried, the image on the host, a network
    and a place for keys. Raises Stopped."""
    context = host.context
    with stage(context.recorder, "readiness"):
        refuse_foreign_domains(host)
        refuse_held(host.access.transport, host.gpus)
        # Without libvirt there will be no guest: found before an image is built for it, not after.
        host.access.hypervisor().version()
    _exercise_resets(host)
    image = _image(host)
    with Cleanups() as stack:
        yield GuestSite(
            image=image,
            network=run_network(context.run, len(context.demands)),
            scratch=stack.enter_context(private_directory()),
        )


def _image(host: ClaimedHost) -> HostImage:
    context = host.context
    context.progress.stage("guest image")
    with stage(context.recorder, "image"):
        image = ensure_guest_image(
            context.host.guest_image, context.progress, kinds=guest_kinds(context.host)
        )
        host.lease.require()
        return place_image(
            host.access.transport,
            image,
            image_dirs=context.host.image_dirs,
            work_dir=context.host.work_dir,
            progress=context.progress,
        )


def _exercise_resets(host: ClaimedHost) -> None:
    context, facts = host.context, host.facts
    context.progress.stage("reset")
    with stage(context.recorder, "reset"):
        host.lease.require()
        addresses = tuple(gpu.address for gpu in host.gpus)
        others = companions_of(facts, addresses)
        methods = {a: d.reset_methods for a in others if (d := facts.device(a)) is not None}
        for trial in exercise_resets(host.access.transport, addresses, companions=others, methods=methods):
            context.recorder.reset(trial)


@dataclass(slots=True)
class GuestGroup:
    """Guests that live at the same time (``harness.stages.attached.Attached``)."""

    host: ClaimedHost
    guests: tuple[GuestLife, ...]
    last: bool
    """Nobody in this run comes after them, so that they need leave nothing to be found."""
    before: HostState | None = None
    """The host before any of them was there."""
    pulse: Pulse | None = None
    """Watches whether they live, from before the first of them starts until they are asked to end."""
    parted: bool = False
    """Their last words were taken."""
    released: bool = False

    def broken(self, guest: str) -> bool:
        """Whether it was never reached, or a step of it broke."""
        return self._guest(guest).broken or self._guest(guest).connection is None or self.released

    def connection(self, guest: str) -> Transport | None:
        """Into the guest."""
        return self._guest(guest).connection

    def provision(self) -> None:
        """Plan each around the others, bring one up after the other, and look where all of them landed while
        all of them run."""
        try:
            with stage(self.host.context.recorder, "claim", subject=self._subject):
                self.host.lease.require()
        except Stopped:
            self._all_broken()
            return
        self._plan()
        self._look_before()
        self._feel_pulse()
        for guest in self.guests:
            # One at a time: devices that change hands while another guest boots ask much of a host, and then
            # nobody could say whose start it was that broke.
            self._step(guest, "provision", "start", start_guest)
            self._step(guest, "boot", "boot", reach_guest)
        for guest in self.guests:
            self._step(guest, "observe", "observe", observe_placement)

    def burn(self, workloads: Mapping[str, tuple[str, ...]]) -> None:
        """Run the loads; those of several guests at the same time."""
        able = [g for g in self.guests if not self.broken(g.name) and workloads.get(g.name)]
        if not able:
            return
        self.host.context.progress.stage(f"{self._subject}: burn")
        with self.host.context.recorder.stage("burn"):
            tasks = [(guest, workloads[guest.name]) for guest in able]
            if len(tasks) == 1:
                self._burn(*tasks[0])
            else:
                self._burn_together(tasks)

    def release(self, *, orderly: bool = True) -> None:
        """Give all of them back, and once more where a signal or the controller's full disk broke that off.

        A signal arrives once (``harness.signals``), and a release may be done twice; with a record
        that refuses, the guests are ended all the same, and the refusal goes on to end the run.
        """
        if self.released:
            return
        context = self.host.context
        try:
            for guest in self.guests:
                record_death(guest, "")
                end_window(guest)
            if orderly and not self.parted:
                self.parted = True
                for guest in self.guests:
                    with contained(context.recorder, "release", subject=guest.name):
                        last_words(guest, more_to_come=not self.last)
            with context.recorder.stage("release"):
                self._give_back()
        except (KeyboardInterrupt, RecordError):
            with Cleanups() as stack:
                stack.callback(self._give_back)
                raise
        finally:
            for guest in self.guests:
                hang_up(guest)

    @property
    def _subject(self) -> str:
        return self.guests[0].demand.group

    def _guest(self, name: str) -> GuestLife:
        return next(guest for guest in self.guests if guest.name == name)

    def _step(self, guest: GuestLife, name: str, words: str, step: Callable[[GuestLife], None]) -> None:
        """One step of a guest that got so far; one that breaks does not end the others."""
        context = self.host.context
        if guest.broken:
            return
        context.progress.stage(f"{guest.name}: {words}")
        with self._breaking(guest, name), context.recorder.stage(name):
            step(guest)

    @contextmanager
    def _breaking(self, guest: GuestLife, name: str) -> Iterator[None]:
        """The guest is broken unless the block comes to its end."""
        guest.broken, before = True, guest.broken
        with contained(self.host.context.recorder, name, subject=guest.name):
            yield
            guest.broken = before
        record_death(guest, name)
        if guest.broken:
            guest.progress(f"{guest.name} failed; continuing without it")

    def _plan(self) -> None:
        def step(guest: GuestLife) -> None:
            plan_guest(guest, tuple(other.plan for other in self.guests if other.plan is not None))

        for guest in self.guests:
            self._step(guest, "plan", "plan", step)

    def _look_before(self) -> None:
        """The host as it is without them. Where it cannot be seen, none of them is started."""
        context = self.host.context
        planned = [guest for guest in self.guests if guest.plan is not None and not guest.broken]
        if not planned:
            return
        try:
            with stage(context.recorder, "provision", subject=self._subject):
                # The guests before gave them back to their driver, and what watches GPUs may have them open.
                refuse_held(self.host.access.transport, (d for guest in planned for d in guest.handed_over))
                self.before = snapshot_host_state(
                    self.host.access.transport,
                    tuple(a for guest in planned if guest.plan is not None for a in guest.plan.hostdevs),
                    run=context.run,
                    work_dir=context.host.work_dir,
                )
                refuse_split(self.host.access.name, self.before)
        except Stopped:
            self._all_broken()

    def _feel_pulse(self) -> None:
        """Watch over the guests that are to be started."""
        context = self.host.context
        wanted = [guest for guest in self.guests if guest.plan is not None and not guest.broken]
        if not wanted:
            return
        with contained(context.recorder, "provision", subject=self._subject):
            self.pulse = Pulse(
                self.host.access.transport,
                [(guest.name, guest.place) for guest in wanted],
                path=context.recorder.file_path(f"telemetry/{safe_name(self._subject)}.pulse.txt"),
                clock=context.clock,
                progress=context.progress,
            )
        for guest in wanted:
            guest.pulse = self.pulse

    def _keep_pulse(self) -> None:
        """Write down who died until the watch ended, and keep what it saw."""
        pulse, self.pulse = self.pulse, None
        for guest in self.guests:
            record_death(guest, "")
        if pulse is not None and pulse.path.exists():
            self.host.context.recorder.adopt(pulse.path)

    def _all_broken(self) -> None:
        for guest in self.guests:
            guest.broken = True

    def _burn(self, guest: GuestLife, workloads: tuple[str, ...]) -> None:
        with self._breaking(guest, "burn"):
            burn_guest(guest, workloads)

    def _burn_together(self, tasks: list[tuple[GuestLife, tuple[str, ...]]]) -> None:
        pool = ThreadPoolExecutor(len(tasks), "burn")
        running: list[Future[None]] = []
        try:
            running += [pool.submit(self._burn, *task) for task in tasks]
            # A guest that breaks ends alone: what comes out of a thread is a record that refuses.
            for each in wait(running, return_when=FIRST_EXCEPTION).done:
                each.result()
        except BaseException:
            # An interrupt reaches this thread alone; the others see it between two waits.
            for guest, _ in tasks:
                guest.cancelled.set()
            wait(running, timeout=_JOIN_SECONDS)
            raise
        finally:
            pool.shutdown(wait=False)

    def _give_back(self) -> None:
        if self.pulse is not None:
            self.pulse.close()  # from here on they end because they are asked to
        with Cleanups() as stack:
            stack.callback(self._keep_pulse)  # a record that refuses keeps no guest on the host
            self._end()

    def _end(self) -> None:
        leaving = [guest for guest in self.guests if guest.acquired]
        context, transport = self.host.context, self.host.access.transport
        if not leaving or self.before is None:
            self.released = True
            return
        context.progress.stage(f"{self._subject}: release")
        try:
            self.host.lease.regain()
            for guest in leaving:
                serial_log(transport, guest.place)  # kept as a transcript
            found = release_guests(
                transport,
                self.host.access.hypervisor(),
                tuple(_leaving(guest) for guest in leaving),
                run=context.run,
                before=self.before,
                work_dir=context.host.work_dir,
                clock=context.clock,
                progress=context.progress,
                networks=(leaving[0].site.network.name,),
            )
        except HarnessError as error:
            # Not released: whoever settles the run tries once more.
            context.recorder.error(stage_error(error, "release", self._subject))
            return
        for evidence in found:
            if not (evidence.leftover_domains or evidence.leftover_processes):
                self.host.unreleased.discard(evidence.guest)
            context.recorder.released(evidence)
        self.released = True


def _leaving(guest: GuestLife) -> Leaving:
    place = guest.place
    return Leaving(
        guest=guest.name,
        domain=place.domain,
        devices=guest.plan.hostdevs if guest.plan is not None else (),
        files=(place.overlay, place.serial),
    )


def guest_group(
    host: ClaimedHost, site: GuestSite, demands: tuple[GuestDemand, ...], *, last: bool
) -> GuestGroup:
    """The group of these demands, of which nothing is on the host yet."""
    numbers = {demand.request.name: number for number, demand in enumerate(host.context.demands)}
    return GuestGroup(
        host=host,
        guests=tuple(
            GuestLife(
                host=host,
                site=site,
                demand=demand,
                number=numbers[demand.request.name],
                progress=_saying(host.context.progress, demand if len(demands) > 1 else None),
            )
            for demand in demands
        ),
        last=last,
    )


def _saying(progress: Progress, demand: GuestDemand | None) -> Callable[[str], None]:
    """Progress that names the guest, where several speak at once."""
    if demand is None:
        return progress
    name = demand.request.name
    return lambda message: progress(f"{name}: {message}")
