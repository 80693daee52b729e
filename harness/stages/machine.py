"""Loads on the machine itself, without a VM: the one "guest" of such a run. The reference for guests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from harness.errors import ImageError, RecordError, WorkloadError
from harness.images.frameworks import ensure_tensorflow
from harness.images.standin import binding_file, ensure_standin
from harness.model.guest import GuestDemand
from harness.model.inventory import Profile
from harness.model.pci import PciAddress
from harness.ports import Transport
from harness.scripts.protocol import new_nonce
from harness.stages.boundary import contained, stage, stage_error
from harness.stages.claimed_host import ClaimedHost
from harness.stages.guest.burn import Burn, burn, longest_seconds, put_payload, require_python
from harness.stages.guest.devices import machine_cards, machine_devices
from harness.stages.guest.watch import PlayedLibrary, Watch, watched
from harness.stages.host.readiness import refuse_foreign_domains
from harness.stages.host.state import run_directory
from harness.vendors import loads
from harness.vendors.standin import BINDING, LIBRARY, scenario_text
from harness.workloads.applicable import absence, models
from harness.workloads.base import Place
from harness.workloads.mix.loads import loads_of, parameters_in_mix
from harness.workloads.registry import spec
from harness.workloads.runs import RUNNER

MACHINE = PciAddress(0, 0, 0, 0)
"""The host bridge, which every PCI machine has: claiming it claims the machine, GPUs or none. A second bare
run would disturb the measurements of the first."""


_SWEEP = """
directory=$1 runner=$2 nonce=$3
[ -d "$directory" ] || exit 0
for job in "$directory"/jobs/*/; do
    [ -d "$job" ] || continue
    key=${job%/}
    sh -c "$runner" runner "$nonce" stop --base "$directory/jobs" --key "${key##*/}" --grace 5 || exit 1
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
    return Place(payload=payload, jobs=f"{home}/jobs", work=f"{home}/work", binding=payload)


def _home(work_dir: str, run: str) -> str:
    return f"{run_directory(work_dir, run)}/bare"


def sweep_bare(transport: Transport, run: str, *, work_dir: str) -> None:
    """End the bare loads of ``run`` and remove its files; safe to call twice, and where there are none.

    Raises WorkloadError when something stays, or TransportError.
    """
    home = _home(work_dir, run)
    runner = (RUNNER.text(own_input=True), new_nonce())
    result = transport.run(
        ("sh", "-c", _SWEEP, "sweep-bare", home, *runner), deadline=120.0, label="sweep-bare"
    )
    if result.status != 0:
        raise WorkloadError(
            f"files of run {run} in {home} could not be removed: {result.complaint[:300]}",
            host=transport.name,
            remedy="find the processes that still use them, end them, and remove the directory yourself",
        )


@dataclass(slots=True)
class BareMachine:
    """The machine itself as the one guest of its run (``harness.stages.attached.Attached``)."""

    host: ClaimedHost
    demand: GuestDemand
    ready: bool = False
    released: bool = False

    def broken(self, _guest: str) -> bool:
        """Whether another driver than the loads need holds a GPU, or the machine lacks the loads' Python."""
        return not self.ready or self.released

    def connection(self, _guest: str) -> Transport | None:
        """To the machine."""
        return self.host.access.transport if self.ready else None

    @property
    def _gpus(self) -> tuple[PciAddress, ...]:
        """Those that are there, and those that the stand-in plays."""
        context = self.host.context
        named = context.host.placement.selector.addresses if context.standin is not None else ()
        return tuple(sorted({*(gpu.address for gpu in self.host.gpus), *named}))

    def provision(self) -> None:
        """See that the loads can run on it."""
        context, name = self.host.context, self.demand.request.name
        with contained(context.recorder, "readiness", subject=name):
            with stage(context.recorder, "readiness"):
                refuse_foreign_domains(self.host)
                _require_driver(self.host)
            context.recorder.guest_cards(name, machine_cards(self.host.facts, self._gpus))
            context.recorder.guest_reached(name, 0.0)
            with stage(context.recorder, "burn", subject=name):
                self.host.lease.require()
                require_python(self.host.access.transport, bare_place(context.host.work_dir, context.run))
            self.ready = True

    def burn(self, workloads: Mapping[str, tuple[str, ...]]) -> None:
        """Put the loads on it and run them, watched."""
        context, name = self.host.context, self.demand.request.name
        chosen = workloads.get(name, ())
        if not self.ready or self.released or not chosen:
            return
        context.progress.stage(f"{name}: burn")
        transport = self.host.access.transport
        with contained(context.recorder, "burn", subject=name), stage(context.recorder, "burn", subject=name):
            self.host.lease.require()
            task = _burn(self.host, self.demand, chosen)
            put_payload(transport, task.place)
            watch = _watch(self.host, name, chosen, task.place, self._gpus)
            with watched(watch, transport, task.results):
                burn(task, transport)
            # Without the lease another run may have worked beside the loads, or may have ended them.
            self.host.lease.regain()

    def release(self, *, orderly: bool = True) -> None:
        """End what still runs, and remove its files; an interrupt in its middle does not leave them."""
        del orderly  # a machine that goes on has no last words
        if self.released:
            return
        try:
            self._give_back()
        except (KeyboardInterrupt, RecordError):
            self._give_back()
            raise

    def _give_back(self) -> None:
        context = self.host.context
        with contained(context.recorder, "release", subject=self.demand.request.name):
            sweep_bare(self.host.access.transport, context.run, work_dir=context.host.work_dir)
        self.released = True


def _require_driver(host: ClaimedHost) -> None:
    """Raises WorkloadError for GPUs of loads that another driver holds, ``vfio-pci`` after a run with guests
    perhaps: each load would find a healthy GPU missing. One without a driver is for the loads to tell of."""
    other = [
        f"{gpu.address} ({gpu.driver})"
        for gpu in host.gpus
        if gpu.vendor == loads.PCI_ID and gpu.driver not in (None, loads.MODULE)
    ]
    if other:
        raise WorkloadError(
            f"on bare metal the loads need {loads.MAKER}'s driver, but another driver is bound to "
            f"{', '.join(other)}",
            host=host.access.name,
            remedy=f"driverctl unset-override ADDRESS, or unbind it and bind it to {loads.MODULE}",
        )


def _burn(host: ClaimedHost, demand: GuestDemand, workloads: tuple[str, ...]) -> Burn:
    context, facts = host.context, host.facts
    gpus = tuple(gpu.address for gpu in host.gpus)
    cards = machine_cards(facts, gpus)
    return Burn(
        run=context.run,
        guest=demand.request.name,
        workloads=workloads,
        vcpus=max(1, len(facts.online_cpus)),
        devices=machine_devices(facts, cards),
        cards=cards,
        place=_place(host, demand.request.name, workloads),
        profile=context.profile,
        recorder=context.recorder,
        clock=context.clock,
        progress=context.progress,
        models=models(context.skus, facts, gpus),
        absent=absence(context.skus, facts, gpus, context.profile, requested=demand.request.gpus),
    )


def _place(host: ClaimedHost, name: str, workloads: tuple[str, ...]) -> Place:
    """On the machine that Shakedown itself runs on, TensorFlow comes from its cache; elsewhere the machine
    has it where a guest image has it. Where it cannot be installed, that is recorded and tensor says so."""
    context = host.context
    place = bare_place(context.host.work_dir, context.run)
    if host.access.ssh is not None or not uses_tensorflow(context.profile, workloads):
        return place
    kind = loads.COMPUTE if any(gpu.vendor == loads.PCI_ID for gpu in host.gpus) else "cpu"
    try:
        return replace(place, tensorflow=str(ensure_tensorflow(context.progress, kind)))
    except ImageError as error:
        # The other loads need none of it.
        context.recorder.error(stage_error(error, "frameworks", name))
        context.progress(f"TensorFlow could not be installed: {error.message}")
        return place


def uses_tensorflow(profile: Profile, workloads: tuple[str, ...]) -> bool:
    """Whether one of these loads needs the TensorFlow that Shakedown brings: not PyTorch, not one's own."""
    given = profile.workload_parameters
    tensors = [given.get("tensor", {})] if "tensor" in workloads else []
    if "mix" in workloads and "tensor" in loads_of(given.get("mix", {})):
        tensors.append(parameters_in_mix(given, "tensor"))
    whole = [{**spec("tensor").defaults, **tensor} for tensor in tensors]
    return any(tensor["framework"] == "tensorflow" and not tensor["library_dir"] for tensor in whole)


def _watch(
    host: ClaimedHost, name: str, workloads: tuple[str, ...], place: Place, gpus: tuple[PciAddress, ...]
) -> Watch:
    """The sampler beside the loads, with the library's binding from the controller: it may not be there."""
    context, transport = host.context, host.access.transport
    transport.put(binding_file(), f"{place.payload}/{BINDING}.py")
    standin = None
    if context.standin is not None:
        library, kmsg = f"{place.payload}/{LIBRARY}", f"{place.payload}/standin.kmsg"
        transport.put(ensure_standin(context.progress), library)
        transport.run(("touch", kmsg))
        tenant = f"{context.run}/{name}"
        text = scenario_text(context.standin, gpus, tenant=tenant, kmsg=kmsg, jobs=place.jobs)
        standin = PlayedLibrary(library=library, scenario=text, kmsg=kmsg)
    return Watch(
        run=context.run,
        guest=name,
        spec=context.profile.telemetry,
        seconds=longest_seconds(context.profile, workloads),
        codes=context.codes,
        recorder=context.recorder,
        progress=context.progress,
        place=place,
        cards=machine_cards(host.facts, gpus),
        binding=place.payload,
        standin=standin,
    )
