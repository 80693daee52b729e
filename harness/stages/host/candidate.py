"""The candidate host from first contact to give-back: reached, discovered, claimed, asked and watched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.cleanups import Cleanups
from harness.model.pci import PciAddress
from harness.model.topology import HostFacts, PciDevice
from harness.stages.boundary import stage
from harness.stages.claimed_host import ClaimedHost
from harness.stages.context import RunContext
from harness.stages.guest.provision import DOMAIN_PREFIX
from harness.stages.guest.release import sweep
from harness.stages.host.access import HostAccess, open_host
from harness.stages.host.claims import claimed
from harness.stages.host.discovery import discover, look
from harness.stages.host.end import names_end
from harness.stages.host.orphans import clear_orphans
from harness.stages.host.readiness import ask_system
from harness.stages.machine import MACHINE, sweep_bare

_STILL_FRESH_SECONDS = 5.0
"""What was seen of the host before its claims were taken holds if they were taken at once."""


@contextmanager
def claimed_host(context: RunContext) -> Iterator[ClaimedHost]:
    """The host for the length of a block: this run's alone, with what it is and what it answers recorded.

    What earlier runs left on it is cleared first, where they are proven gone. Raises Stopped.
    """
    recorder, progress = context.recorder, context.progress
    with Cleanups() as stack:
        progress.stage("host")
        with stage(recorder, "host"):
            access = stack.enter_context(
                open_host(context.host, progress, recorder=recorder, labs=context.labs, clock=context.clock)
            )
            names_end(recorder, context.host.name, access.ended, progress)
            recorder.engine(access.engine)
        facts, file = look(context, access)
        unreleased: set[str] = set()
        # A bare machine need not have libvirt; where no domain has a name as we give them, none is ours.
        ours = any(domain.name.startswith(DOMAIN_PREFIX) for domain in facts.domains or ())
        guests_possible = context.mode.in_guests or ours
        cleared: list[str] = []

        def evict(run: str) -> None:
            cleared.append(run)
            _sweep(context, access, run, guests=guests_possible)

        progress.stage("claim")
        begun = context.clock.monotonic()
        with stage(recorder, "claim"):
            lease = stack.enter_context(
                claimed(
                    access.transport,
                    context.run,
                    _functions(context, facts),
                    clock=context.clock,
                    progress=progress,
                    evict=evict,
                    wait=context.wait_seconds,
                    keep=lambda: bool(unreleased),
                )
            )
            if context.resumed:
                evict(context.run)
            if facts.domains and guests_possible:
                clear_orphans(
                    access.transport, access.hypervisor(), run=context.run, evict=evict, progress=progress
                )
        # Judged is the host as it is once it is ours: without the guests of a run cleared or waited for.
        waited = context.clock.monotonic() - begun > _STILL_FRESH_SECONDS
        if cleared or waited or facts.domains:
            facts = discover(context, access)
        else:
            recorder.facts(facts, file=file)
        progress.stage("readiness")
        with stage(recorder, "readiness"):
            recorder.system(ask_system(access.transport))
        yield ClaimedHost(
            context=context,
            access=access,
            facts=facts,
            gpus=_gpus(context, facts),
            lease=lease,
            unreleased=unreleased,
        )


def _gpus(context: RunContext, facts: HostFacts) -> tuple[PciDevice, ...]:
    return context.mode.select(facts, context.host.placement.selector)


def _functions(context: RunContext, facts: HostFacts) -> tuple[PciAddress, ...]:
    """All that is claimed: GPUs with their companions, and a bare machine as such."""
    functions = [
        function
        for gpu in _gpus(context, facts)
        for function in (gpu.address, *(c.address for c in context.mode.companions(facts, gpu)))
    ]
    machine = [] if context.mode.in_guests else [MACHINE]
    return tuple(dict.fromkeys((*machine, *functions)))


def _sweep(context: RunContext, access: HostAccess, run: str, *, guests: bool) -> None:
    """Remove what ``run``, which is proven gone or our own, left on the host: bare loads, and guests where
    there can be any (a bare machine need not have libvirt)."""
    sweep_bare(access.transport, run, work_dir=context.host.work_dir)
    if guests:
        sweep(
            access.transport,
            access.hypervisor(),
            run,
            work_dir=context.host.work_dir,
            progress=context.progress,
        )
