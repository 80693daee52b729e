"""The run as a list of stages, and what happens when one of them breaks."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

from harness import facts as host_facts
from harness.errors import HarnessError, ProvisionError
from harness.images.guest import ensure_guest_image
from harness.model.evidence import StageError
from harness.model.guest import AttachMode
from harness.model.pci import PciAddress
from harness.model.topology import HostFacts
from harness.placement.gpus import companions, select_gpus
from harness.stages.access import HostAccess, open_host
from harness.stages.attach_bare import MACHINE, run_bare, sweep_bare
from harness.stages.attach_vfio import run_guests
from harness.stages.attached import Attached
from harness.stages.boundary import Stopped, stage
from harness.stages.claims import claimed
from harness.stages.given import Session
from harness.stages.orphans import clear_orphans
from harness.stages.provision import DOMAIN_PREFIX
from harness.stages.readiness import ask_system
from harness.stages.release import sweep
from harness.stages.watch_host import watched_host

_STILL_FRESH_SECONDS = 5.0
"""What was seen of the host before its claims were taken holds if they were taken at once."""


def run_session(session: Session) -> bool:
    """Do all stages, record what they learn, release everything; returns whether it was interrupted.

    A broken stage ends what builds on it and nothing else. Never raises HarnessError except RecordError
    (a run must not go on blind); an error of our own code is recorded as such and makes the run
    INCONCLUSIVE.
    """
    recorder = session.recorder
    for demand in session.demands if not session.resumed else ():
        recorder.guest_requested(demand.request, demand.workloads, attach=session.profile.attach)
    interrupted = False
    with _terminate_as_interrupt(session.progress) as signals:
        try:
            with ExitStack() as stack:
                _stages(session, stack)
        except Stopped:
            session.progress("a stage broke; what depends on it was not run")
        except KeyboardInterrupt:
            interrupted = True
        except HarnessError as error:
            recorder.error(
                StageError(
                    stage="release",
                    kind=type(error).__name__,
                    message=error.message,
                    remedy=error.remedy,
                    transcript=error.transcript,
                )
            )
        except Exception as error:  # noqa: BLE001  the session boundary: our own defects become evidence too
            file = recorder.save_file("transcripts/internal-error.txt", traceback.format_exc().encode())
            recorder.error(
                StageError(
                    stage="harness",
                    kind=type(error).__name__,
                    message=f"internal error of Shakedown: {error}",
                    remedy="a defect of Shakedown, not of the host: report it with this run directory",
                    transcript=file,
                )
            )
    # A release that fails under an interrupt hides the interrupt's own exception.
    interrupted = interrupted or bool(signals)
    recorder.run_ended(interrupted=interrupted)
    return interrupted


def _stages(session: Session, stack: ExitStack) -> None:
    recorder, progress = session.recorder, session.progress
    image = None
    if session.profile.attach is AttachMode.VFIO:
        progress.stage("guest image")
        with stage(recorder, "image"):
            image = ensure_guest_image(session.host.guest_image, progress)
    progress.stage("host")
    with stage(recorder, "host"):
        access = stack.enter_context(
            open_host(session.host, progress, recorder=recorder, labs=session.labs, clock=session.clock)
        )
        recorder.engine(access.engine)
    facts, file = look(session, access)
    gpus = select_gpus(facts, session.host.placement.selector)
    functions = tuple(f for gpu in gpus for f in (gpu.address, *companion_addresses(facts, gpu.address)))
    if session.profile.attach is AttachMode.BARE:
        functions = (MACHINE, *functions)
    unreleased: set[str] = set()
    cleared: list[str] = []

    # A bare machine need not have libvirt; where no domain has a name as we give them, none is ours.
    ours = any(domain.name.startswith(DOMAIN_PREFIX) for domain in facts.domains or ())
    guests_possible = session.profile.attach is AttachMode.VFIO or ours

    def evict(run: str) -> None:
        cleared.append(run)
        _sweep(session, access, run, guests=guests_possible)

    progress.stage("claim")
    begun = session.clock.monotonic()
    with stage(recorder, "claim"):
        lease = stack.enter_context(
            claimed(
                access.transport,
                session.run,
                tuple(dict.fromkeys(functions)),
                clock=session.clock,
                progress=progress,
                evict=evict,
                wait=session.wait_seconds,
                keep=lambda: bool(unreleased),
            )
        )
        if session.resumed:
            evict(session.run)
        if facts.domains and guests_possible:
            clear_orphans(
                access.transport, access.hypervisor(), run=session.run, evict=evict, progress=progress
            )
    # Judged is the host as it is once it is ours: without the guests of a run cleared or waited for.
    waited = session.clock.monotonic() - begun > _STILL_FRESH_SECONDS
    if cleared or waited or facts.domains:
        facts = discover(session, access)
        gpus = select_gpus(facts, session.host.placement.selector)
    else:
        recorder.facts(facts, file=file)
    progress.stage("readiness")
    with stage(recorder, "readiness"):
        recorder.system(ask_system(access.transport))
        _refuse_foreign_domains(session, facts)
    attached = Attached(session=session, access=access, facts=facts, gpus=gpus, lease=lease)
    dedicated: dict[str, tuple[int, ...]] = {}
    with watched_host(attached, dedicated):
        if session.profile.attach is AttachMode.BARE:
            run_bare(attached)
        else:
            assert image is not None  # noqa: S101  made above for every mode that boots guests
            run_guests(attached, image, unreleased=unreleased, dedicated=dedicated)
    discover(session, access, after=True)


def discover(session: Session, access: HostAccess, *, after: bool = False) -> HostFacts:
    """Facts of the host, recorded."""
    facts, file = look(session, access, after=after)
    session.recorder.facts(facts, file=file, after=after)
    return facts


def look(session: Session, access: HostAccess, *, after: bool = False) -> tuple[HostFacts, str]:
    """Facts of the host and their transcript: one round trip, stored before they are understood."""
    session.progress.stage("discover again" if after else "discover")
    with stage(session.recorder, "discover"):
        facts, raw = host_facts.collect(access.transport, work_dir=session.host.work_dir)
        name = "facts-after" if after else "facts"
        return facts, session.recorder.save_file(f"transcripts/{name}.frames", raw)


def companion_addresses(facts: HostFacts, address: PciAddress) -> tuple[PciAddress, ...]:
    """Functions that are handed over together with the GPU at ``address``."""
    device = facts.device(address)
    return tuple(c.address for c in companions(facts, device)) if device is not None else ()


def _refuse_foreign_domains(session: Session, facts: HostFacts) -> None:
    """Domains that we did not create are never touched; beside them nothing is tried unless allowed.

    Our own are gone by now: the claims are held, and what dead runs left was cleared.
    """
    if session.host.allow_sharing:
        return
    if facts.domains is None:
        raise ProvisionError(
            "neither libvirt nor /proc could be asked for running domains, so there may be some",
            host=session.host.name,
            remedy="see that the SSH user may run `virsh list`, or set allow_sharing: true in its host file",
        )
    if not facts.domains:
        return
    names = ", ".join(domain.name for domain in facts.domains[:5])
    raise ProvisionError(
        f"{len(facts.domains)} domains are running that this run did not create: {names}",
        host=session.host.name,
        remedy="empty the host first, or set allow_sharing: true in its host file",
    )


def _sweep(session: Session, access: HostAccess, run: str, *, guests: bool) -> None:
    """Remove what ``run``, which is proven gone or our own, left on the host: bare loads, and guests where
    there can be any (a bare machine need not have libvirt)."""
    sweep_bare(access.transport, run, work_dir=session.host.work_dir)
    if guests:
        sweep(
            access.transport,
            access.hypervisor(),
            run,
            work_dir=session.host.work_dir,
            progress=session.progress,
        )


@contextmanager
def _terminate_as_interrupt(progress: Callable[[str], None]) -> Iterator[list[str]]:
    """SIGTERM and SIGHUP end a run as Ctrl-C does: by way of its releases. Once, so that they can finish.

    A signal that is ignored already stays so: that is how ``nohup`` keeps a run alive without its terminal.
    Yields the name of the signal that came, if one did.
    """
    came: list[str] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        came.append(signal.Signals(number).name)
        progress(f"{came[0]}: giving everything back before the end; this cannot be interrupted")
        for each in caught:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt(came[0])

    ending = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    caught = tuple(each for each in ending if signal.getsignal(each) is not signal.SIG_IGN)
    before: dict[signal.Signals, Any] = {}
    try:
        for each in caught:
            before[each] = signal.signal(each, handle)
    except ValueError:
        # Not the main thread (a test): the caller's own handling stays.
        yield came
        return
    try:
        yield came
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
