"""Which workloads a guest's GPUs cannot run at all, because their model is declared not to have the engine,
or because there are too few of them.

Such a workload is not planned and is listed as such; that is another thing than an engine that should be
there and does not work. Only a declared 0 counts: an engine that nobody knows of is demanded as usual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from harness.model.evidence import Evidence, GuestEvidence
from harness.model.inventory import Profile
from harness.model.pci import PciAddress
from harness.model.sku import Sku, describing
from harness.model.topology import HostFacts
from harness.vendors import loads
from harness.workloads.base import Job
from harness.workloads.mix.loads import loads_of, parameters_in_mix
from harness.workloads.registry import NAMES, spec
from harness.workloads.spec import Scalar


def absent(workload: str, skus: Sequence[Sku | None], *, engine: str = "auto") -> str:
    """Why the workload is not planned on a guest with GPUs of these models; empty when it is.

    ``skus`` has one entry a GPU, None for an unknown model, which is planned as usual. A guest of mixed
    models is spared only when all of them lack the engine. ``engine`` is the workload's parameter: with
    ``cpu`` the load is meant for the processor, which has no such limits.
    """
    demanded = spec(workload).engines
    models = [sku for sku in skus if sku is not None]
    if not demanded or engine == "cpu" or not models or len(models) != len(skus):
        return ""
    if any(sku.engines.get(each) != 0 for sku in models for each in demanded):
        return ""
    names = {sku.name: sku.title for sku in models}
    files = ", ".join(f"inventory/skus/{name}.yaml" for name in names)
    lacking = " and no ".join(loads.ENGINE_WORDS[each] for each in demanded)
    return f"{' and '.join(names.values())} has no {lacking} ({files})"


def fitted(
    workload: str, skus: Sequence[Sku | None], profile: Mapping[str, Mapping[str, Scalar]]
) -> dict[str, Scalar]:
    """A workload's parameters with what the GPU model decides, where the profile leaves it open.

    A workload decides by its ``fit``. ``mix`` leaves out what would not be planned alone either: a
    load without its engine would call every right card broken. What is unknown stays as the profile has it.
    ``profile``: the parameters of all workloads.
    """
    given = dict(profile.get(workload, {}))
    known = [sku for sku in skus if sku is not None]
    if workload == "mix":
        loads = loads_of(given)
        engines = {load: str(parameters_in_mix(profile, load).get("engine", "auto")) for load in loads}
        left = [load for load in loads if not absent(load, skus, engine=engines[load])]
        return {**given, "loads": ",".join(left)} if 0 < len(left) < len(loads) else given
    # What a workload is given in a mix (`mix.vram`) stands as the profile has it.
    fit = spec(workload).fit if workload in NAMES else None
    if fit is None or not known or len(known) != len(skus) or given.get("engine") == "cpu":
        return given
    return fit(given, known)


def models(
    skus: Iterable[Sku], facts: HostFacts | None, devices: Iterable[PciAddress]
) -> tuple[Sku | None, ...]:
    """The model of each device; None where it is unknown, or not one only."""
    known = tuple(skus)
    found: list[Sku | None] = []
    for address in devices:
        device = facts.device(address) if facts is not None else None
        matches = describing(known, device.id, device.subsystem) if device is not None else ()
        found.append(matches[0] if len(matches) == 1 else None)
    return tuple(found)


def too_few(
    workload: str, facts: HostFacts | None, devices: Iterable[PciAddress], *, requested: int = 0
) -> str:
    """Why a workload between GPUs has nothing to run on in this guest; empty when it has.

    A device that the facts do not know counts as a GPU, and so does one that was ``requested`` and not found:
    what is unknown is demanded as usual.
    """
    least = spec(workload).least_gpus
    seen = [facts.device(address) if facts is not None else None for address in devices]
    count = sum(1 for device in seen if device is None or device.vendor == loads.PCI_ID)
    count += max(0, requested - len(seen))
    return f"{workload} needs {least} GPUs, and this guest has {count}" if count < least else ""


def why_absent(evidence: Evidence, profile: Profile, guest: GuestEvidence, workload: str) -> str:
    """As ``absent``, from what a run recorded: the guest's devices, the facts and the models."""
    requested = guest.request.gpus
    return absence(evidence.skus, evidence.facts, guest.gpus, profile, requested=requested)(workload)


def engine_of(profile: Profile, workload: str) -> str:
    """The engine that the profile demands: ``auto``, ``cpu`` or ``gpu``."""
    return str(profile.workload_parameters.get(workload, {}).get("engine", "auto"))


def absence(
    skus: Iterable[Sku],
    facts: HostFacts | None,
    devices: Iterable[PciAddress],
    profile: Profile,
    *,
    requested: int = 0,
) -> Callable[[str], str]:
    """What a burn asks before each workload: why it is not run on these devices; empty when it is.

    ``requested`` GPUs were asked for, however many of them were found.
    """
    devices = tuple(devices)
    found = models(skus, facts, devices)

    def why(workload: str) -> str:
        few = too_few(workload, facts, devices, requested=requested)
        return few or absent(workload, found, engine=engine_of(profile, workload))

    return why


def applies(workload: str, job: Job) -> bool:
    """Whether the guest has what the workload is about: devices handed over, where it is about them."""
    return not spec(workload).needs_devices or any(not device.companion for device in job.devices)
