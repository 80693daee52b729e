"""``shakedown plan``: the placement of one guest on a host known by its facts, or why there is none."""

from __future__ import annotations

import sys
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TextIO, TypeVar

from harness.attach import attachment
from harness.commands.plan_picture import draw
from harness.errors import ConfigError, HarnessError
from harness.model.attachment import Attachment
from harness.model.guest import DEFAULT_ATTACH, GpuSelector, GuestRequest, PlacementPolicy
from harness.model.inventory import Profile
from harness.model.pci import PciAddress
from harness.model.placement import NoPlan, PlacementPlan
from harness.model.topology import HostFacts
from harness.placement.buses import pci_hole64_kib
from harness.placement.domain.check import problems
from harness.placement.domain.definition import GuestDefinition
from harness.placement.domain.write import render
from harness.placement.planner import MAX_GPUS, plan
from harness.regular import MOST_TEXT, read_regular
from harness.serial import from_json, to_data
from harness.shown import hand_out, say_json

PLANNED, NO_PLAN, WRONG_USAGE = 0, 1, 2
"""Exit status (DESIGN §4)."""

T = TypeVar("T")
_NO_GPU = (
    "shakedown plan: none of the facts' devices is of a GPU's class\n"
    "  remedy: --host NAME, whose file says what its GPUs are, or --gpu ADDRESS or --gpu VENDOR:DEVICE"
)
_HEX = frozenset("0123456789abcdef")


def run(
    *,
    facts_file: Path,
    gpus: int,
    given: tuple[Path, ...] = (),
    xml: bool = False,
    json_output: bool = False,
    host: str | None = None,
    profile: str | None = None,
    vcpus_per_gpu: int | None = None,
    memory_mib_per_gpu: int | None = None,
    vcpus: int | None = None,
    memory_mib: int | None = None,
    gpu: tuple[str, ...] = (),
    name: str | None = None,
    output: TextIO | None = None,
    errors: TextIO | None = None,
) -> int:
    """Plan and print; returns the exit status: 0 with a plan, 1 with every reason, 2 for wrong input.

    ``host`` and ``profile`` name inventory files (policy and sizes); ``gpu`` adds GPUs by address or
    ``vendor:device``; ``given`` are plans as printed by ``--json`` of guests already placed. The answer goes
    to ``output``, complaints about the input to ``errors``.
    """
    out, err = output or sys.stdout, errors or sys.stderr
    try:
        if not 0 <= gpus <= MAX_GPUS:
            raise ConfigError(f"--gpus {gpus}: a guest has 0 to {MAX_GPUS} GPUs")
        facts = _read(HostFacts, facts_file, "facts, as printed by `shakedown facts --json`")
        placed = tuple(_read(PlacementPlan, path, "a plan, as printed by `plan --json`") for path in given)
        sizes = _profile(profile)
        request = GuestRequest(
            name=name or _free_name(placed),
            gpus=gpus,
            vcpus_per_gpu=_first(vcpus_per_gpu, sizes.vcpus_per_gpu if sizes else None),
            memory_mib_per_gpu=_first(memory_mib_per_gpu, sizes.memory_mib_per_gpu if sizes else None),
            vcpus=vcpus,
            memory_mib=memory_mib,
        )
        _definition(request.name, None)  # a name that no domain can have is wrong usage, found early
        mode = _mode(sizes)
        answer = plan(facts, request, _policy(host, gpu), mode, placed)
        domain = ""
        if isinstance(answer, PlacementPlan) and xml:
            domain, *others = (
                render(each, _definition(each.guest, pci_hole64_kib(facts, each)), mode)
                for each in (answer, *placed)
            )
            wrong = problems(domain, facts, tuple(others))
            answer = NoPlan(reasons=wrong) if wrong else answer
    except HarnessError as error:
        hand_out(f"shakedown plan: {error}", to=err)
        return WRONG_USAGE
    _show(answer, facts, domain=domain, as_json=json_output, out=out)
    if isinstance(answer, NoPlan) and host is None and not gpu and not mode.select(facts, GpuSelector()):
        hand_out(_NO_GPU, to=err)
    return PLANNED if isinstance(answer, PlacementPlan) else NO_PLAN


def _show(
    answer: PlacementPlan | NoPlan, facts: HostFacts, *, domain: str, as_json: bool, out: TextIO
) -> None:
    planned = isinstance(answer, PlacementPlan)
    if as_json and domain and planned:
        say_json({**to_data(answer), "domain_xml": domain}, indent=2, to=out)
    elif as_json:
        say_json(to_data(answer), indent=2, to=out)
    elif domain and planned:
        hand_out(domain, to=out)
    else:
        draw(answer, facts, out)


def _read(kind: type[T], path: Path, what: str) -> T:
    try:
        text = read_regular(path, MOST_TEXT, links=True)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}", remedy=f"give a file of {what}") from error
    try:
        return from_json(kind, text, source=str(path))
    except HarnessError as error:
        raise ConfigError(error.message, remedy=f"give a file of {what}") from error


def _mode(profile: Profile | None) -> Attachment:
    """The profile's attach mode; the default without one, and for a profile that places no guests."""
    mode = attachment(profile.attach if profile is not None else DEFAULT_ATTACH)
    return mode if mode.in_guests else attachment(DEFAULT_ATTACH)


def _profile(name: str | None) -> Profile | None:
    from harness.config.files import load_profile  # noqa: PLC0415  YAML costs 50 ms that `--help` must not pay

    return None if name is None else load_profile(name)


def _policy(host: str | None, gpu: tuple[str, ...]) -> PlacementPolicy:
    policy = PlacementPolicy()
    if host is not None:
        from harness.config.files import load_host  # noqa: PLC0415

        policy = load_host(host).placement
    selector = policy.selector
    for text in gpu:
        selector = _with_gpu(selector, text)
    return replace(policy, selector=selector)


def _with_gpu(selector: GpuSelector, text: str) -> GpuSelector:
    vendor, _, device = text.lower().partition(":")
    if len(vendor) == len(device) == 4 and _HEX.issuperset(vendor + device):
        return replace(selector, ids=(*selector.ids, text.lower()))
    try:
        return replace(selector, addresses=(*selector.addresses, PciAddress.parse(text)))
    except ValueError as error:
        raise ConfigError(
            f"--gpu {text!r} is neither a PCI address nor vendor:device",
            remedy="write 0000:17:00.0 or 10de:2335",
        ) from error


def _first(asked: int | None, profile: int | None) -> int | None:
    return asked if asked is not None else profile


def _free_name(placed: tuple[PlacementPlan, ...]) -> str:
    taken = {p.guest for p in placed}
    return next(name for n in range(1, len(taken) + 2) if (name := f"guest{n}") not in taken)


def _definition(name: str, window_kib: int | None) -> GuestDefinition:
    """A definition to show the placement in: disk, network and identity are placeholders."""
    return GuestDefinition(
        name=name,
        uuid=str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:shakedown:plan:{name}")),
        run="plan",
        disk=f"/var/lib/shakedown/{name}.qcow2",
        serial_log=f"/var/lib/shakedown/{name}.log",
        pci_hole64_kib=window_kib,
    )
