"""Attach mode ``vfio``: whole GPUs handed to guests, one guest after the other."""

from __future__ import annotations

from harness.images.guest import GuestImage
from harness.model.pci import PciAddress
from harness.stages.attached import Attached
from harness.stages.boundary import Stopped, stage
from harness.stages.guest import GuestStage, run_guest
from harness.stages.held_gpus import refuse_held
from harness.stages.images import place_image
from harness.stages.network import run_network
from harness.stages.resets import companions_of, exercise_resets
from harness.stages.scratch import private_directory


def run_guests(
    attached: Attached, image: GuestImage, *, unreleased: set[str], dedicated: dict[str, tuple[int, ...]]
) -> None:
    """Try the resets, put the image on the host, and run every guest. A guest that breaks ends alone.

    ``unreleased`` holds the guests that may still have their devices when this returns or is interrupted,
    ``dedicated`` the CPUs of the host that each domain was given.
    Raises Stopped when a GPU cannot be taken from its driver, or a reset trial or the image breaks.
    """
    session = attached.session
    with stage(session.recorder, "readiness"):
        refuse_held(attached.access.transport, attached.gpus)
    _exercise_resets(attached)
    session.progress.stage("guest image on the host")
    with stage(session.recorder, "image"):
        attached.lease.require()
        host_image = place_image(
            attached.access.transport,
            image,
            image_dirs=session.host.image_dirs,
            work_dir=session.host.work_dir,
            progress=session.progress,
        )
    network = run_network(session.run, len(session.demands))
    planted: set[PciAddress] = set()
    with private_directory() as scratch:
        for number, demand in enumerate(session.demands):
            guest = GuestStage(
                run=session.run,
                recorder=session.recorder,
                host=session.host,
                profile=session.profile,
                clock=session.clock,
                progress=session.progress,
                access=attached.access,
                facts=attached.facts,
                image=host_image,
                network=network,
                request=demand.request,
                workloads=demand.workloads,
                number=number,
                last=number + 1 == len(session.demands),
                lease=attached.lease,
                planted=planted,
                unreleased=unreleased,
                dedicated=dedicated,
                codes=session.codes,
                standin=session.standin,
                scratch=scratch,
                skus=session.skus,
            )
            try:
                run_guest(guest)
            except Stopped:
                session.progress(f"{demand.request.name} broke; going on with the next guest")


def _exercise_resets(attached: Attached) -> None:
    session, facts = attached.session, attached.facts
    session.progress.stage("reset")
    with stage(session.recorder, "reset"):
        attached.lease.require()
        addresses = tuple(gpu.address for gpu in attached.gpus)
        others = companions_of(facts, addresses)
        methods = {a: d.reset_methods for a in others if (d := facts.device(a)) is not None}
        for trial in exercise_resets(
            attached.access.transport, addresses, companions=others, methods=methods
        ):
            session.recorder.reset(trial)
