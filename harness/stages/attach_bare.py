"""Attach mode ``bare``: the loads run on the machine itself, without a VM. The reference for guests."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from importlib import resources

from harness.errors import ImageError, WorkloadError
from harness.images.frameworks import ensure_tensorflow
from harness.images.standin import ensure_standin, pynvml_file
from harness.model.inventory import Profile
from harness.model.pci import PciAddress
from harness.ports import Transport
from harness.stages.attached import Attached
from harness.stages.boundary import stage, stage_error
from harness.stages.burn import Burn, burn, longest_seconds, put_payload, require_python
from harness.stages.given import GuestDemand
from harness.stages.guest_devices import bare_devices
from harness.stages.host_state import run_directory
from harness.stages.watch import NvmlStandin, Watch, watched
from harness.telemetry.standin import scenario_text
from harness.workloads import Place, workload
from harness.workloads.applicable import absence, models
from harness.workloads.base import NVIDIA
from harness.workloads.mix import loads_of, parameters_in_mix

MACHINE = PciAddress(0, 0, 0, 0)
"""The host bridge, which every PCI machine has: claiming it claims the machine, GPUs or none. A second bare
run would disturb the measurements of the first."""

_DRIVER = "nvidia"

_SWEEP = """
directory=$1 runner=$2
[ -d "$directory" ] || exit 0
for job in "$directory"/jobs/*/; do
    [ -d "$job" ] || continue
    key=${job%/}
    sh -c "$runner" runner.sh stop --base "$directory/jobs" --key "${key##*/}" --grace 5 || exit 1
done >/dev/null
rm -rf -- "$directory" || exit 1
rmdir -- "${directory%/*}" 2>/dev/null || :
"""
"""Ends the jobs of a run by their keys, then removes its directory, and the run's own where that is all. The
runner comes along: the one in the directory may be gone with half of it, and its jobs run on."""


def bare_place(work_dir: str, run: str) -> Place:
    """Where a run's loads live on a bare machine: all in one directory of its own."""
    home = _home(work_dir, run)
    payload = f"{home}/payload"
    return Place(payload=payload, jobs=f"{home}/jobs", work=f"{home}/work", pynvml=payload)


def _home(work_dir: str, run: str) -> str:
    return f"{run_directory(work_dir, run)}/bare"


def sweep_bare(transport: Transport, run: str, *, work_dir: str) -> None:
    """End the bare loads of ``run`` and remove its files; safe to call twice, and where there are none.

    Raises WorkloadError when something stays, or TransportError.
    """
    home = _home(work_dir, run)
    runner = resources.files("harness.payload").joinpath("runner.sh").read_text()
    result = transport.run(
        ("sh", "-c", _SWEEP, "sweep-bare", home, runner), deadline=120.0, label="sweep-bare"
    )
    if result.status != 0:
        raise WorkloadError(
            f"what run {run} left in {home} could not be removed: {result.complaint[:300]}",
            host=transport.name,
            remedy="see which processes still use it, end them, and remove it by hand",
        )


def run_bare(attached: Attached) -> None:
    """Burn the machine in with every demand's workloads (a bare profile has one), and leave nothing behind.

    Raises Stopped when another driver than NVIDIA's holds a GPU, or the loads could not be put on it.
    """
    session, transport = attached.session, attached.access.transport
    found = tuple(gpu.address for gpu in attached.gpus)
    named = session.host.placement.selector.addresses if session.standin is not None else ()
    gpus = tuple(sorted({*found, *named}))
    with stage(session.recorder, "readiness"):
        _require_driver(attached)
    for demand in session.demands:
        name = demand.request.name
        session.recorder.bare_devices(name, gpus)
        session.recorder.guest_reached(name, 0.0)
        session.progress.stage(f"{name}: burn")
        with ExitStack() as stack, stage(session.recorder, "burn", subject=name):
            attached.lease.require()
            stack.callback(sweep_bare, transport, session.run, work_dir=session.host.work_dir)
            require_python(transport, bare_place(session.host.work_dir, session.run))
            task = _burn(attached, demand, found)
            put_payload(transport, task.place)
            watch = _watch(attached, demand, task.place, gpus)
            with watched(watch, transport, task.results):
                burn(task, transport)


def _require_driver(attached: Attached) -> None:
    """Raises WorkloadError for NVIDIA's GPUs that another driver holds, ``vfio-pci`` after a run with guests
    perhaps: each load would find a sound card missing. One without a driver is for the loads to tell of."""
    other = [
        f"{gpu.address} ({gpu.driver})"
        for gpu in attached.gpus
        if gpu.vendor == NVIDIA and gpu.driver not in (None, _DRIVER)
    ]
    if other:
        raise WorkloadError(
            f"without a VM the loads need NVIDIA's driver, and another one holds {', '.join(other)}",
            host=attached.access.name,
            remedy=f"driverctl unset-override ADDRESS, or unbind it and bind it to {_DRIVER}",
        )


def _burn(attached: Attached, demand: GuestDemand, gpus: tuple[PciAddress, ...]) -> Burn:
    session, facts = attached.session, attached.facts
    return Burn(
        run=session.run,
        guest=demand.request.name,
        workloads=demand.workloads,
        vcpus=max(1, len(facts.online_cpus)),
        devices=bare_devices(facts, gpus),
        place=_place(attached, demand),
        profile=session.profile,
        recorder=session.recorder,
        clock=session.clock,
        progress=session.progress,
        models=models(session.skus, facts, gpus),
        absent=absence(session.skus, facts, gpus, session.profile, requested=demand.request.gpus),
    )


def _place(attached: Attached, demand: GuestDemand) -> Place:
    """On the machine that Shakedown itself runs on, TensorFlow comes from its cache; elsewhere the machine
    has it where a guest image has it. Where it cannot be installed, that is recorded and tensor says so."""
    session = attached.session
    place = bare_place(session.host.work_dir, session.run)
    if attached.access.ssh is not None or not uses_tensorflow(session.profile, demand.workloads):
        return place
    kind = "cuda" if any(gpu.vendor == NVIDIA for gpu in attached.gpus) else "cpu"
    try:
        return replace(place, tensorflow=str(ensure_tensorflow(session.progress, kind)))
    except ImageError as error:
        # The other loads need none of it.
        session.recorder.error(stage_error(error, "frameworks", demand.request.name))
        session.progress(f"TensorFlow could not be installed: {error.message}")
        return place


def uses_tensorflow(profile: Profile, workloads: tuple[str, ...]) -> bool:
    """Whether one of these loads needs the TensorFlow that Shakedown brings: not PyTorch, not one's own."""
    given = profile.workload_parameters
    tensors = [given.get("tensor", {})] if "tensor" in workloads else []
    if "mix" in workloads and "tensor" in loads_of(given.get("mix", {})):
        tensors.append(parameters_in_mix(given, "tensor"))
    whole = [{**workload("tensor").defaults, **tensor} for tensor in tensors]
    return any(tensor["framework"] == "tensorflow" and not tensor["library_dir"] for tensor in whole)


def _watch(attached: Attached, demand: GuestDemand, place: Place, gpus: tuple[PciAddress, ...]) -> Watch:
    """The sampler beside the loads, with ``pynvml`` from the controller: a bare machine need not have it."""
    session, transport, name = attached.session, attached.access.transport, demand.request.name
    transport.put(pynvml_file(), f"{place.payload}/pynvml.py")
    standin = None
    if session.standin is not None:
        library, kmsg = f"{place.payload}/libnvidia-ml.so.1", f"{place.payload}/standin.kmsg"
        transport.put(ensure_standin(session.progress), library)
        transport.run(("touch", kmsg))
        text = scenario_text(session.standin, gpus, tenant=f"{session.run}/{name}", kmsg=kmsg)
        standin = NvmlStandin(library=library, scenario=text, kmsg=kmsg)
    return Watch(
        run=session.run,
        guest=name,
        spec=session.profile.telemetry,
        seconds=longest_seconds(session.profile, demand.workloads),
        codes=session.codes,
        recorder=session.recorder,
        progress=session.progress,
        place=place,
        pynvml=place.payload,
        standin=standin,
    )
