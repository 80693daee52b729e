"""A scenario of the NVML stand-in as the text that the library reads (form: nvml_standin_scenario.c)."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence

from harness.model.pci import PciAddress
from harness.model.standin import MOST_GPUS, StandinCard, StandinFault, StandinScenario

DEFAULT_PATH = "/run/shakedown/nvml.scenario"
"""Where the library looks when SHAKEDOWN_NVML_SCENARIO does not name a file. Its folder must be writable: the
state that all processes share is kept beside it."""
_NAMESPACE = uuid.UUID("6f0ed1a8-6d1f-5f2c-9a55-2c1f0f9b7a10")
_ELSEWHERE = ("pci_id", "subsystem")
"""Fields of a card that are written as two numbers each."""


def scenario_text(
    scenario: StandinScenario,
    addresses: Sequence[PciAddress],
    *,
    tenant: str = "",
    kmsg: str = "",
    load_file: str = "",
) -> bytes:
    """The scenario for one machine, with a GPU at each address, in NVML's order (by address).

    ``tenant`` makes the GPUs' UUIDs and serials differ from those that another machine has at the same
    addresses. ``kmsg`` is where lines for the kernel log go (default: /dev/kmsg). With ``load_file`` the GPUs
    are busy while that file exists, and idle else, whatever the scenario's own load is. Raises ValueError for
    more GPUs than the library has room for, and for paths of several lines or with spaces.
    """
    if len(addresses) > MOST_GPUS:
        raise ValueError(f"{len(addresses)} GPUs; the NVML stand-in has room for {MOST_GPUS}")
    for path in (kmsg, load_file):
        if not path.isprintable() or " " in path:
            raise ValueError(f"not a usable path: {path!r}")
    lines = [
        "shakedown-nvml-standin 1",
        f"name {scenario.name}",
        f"seed {scenario.seed}",
        f"driver {scenario.driver}",
        f"nvml {scenario.nvml}",
        f"cuda {scenario.cuda}",
        f"init {scenario.start}",
        f"kmsg {kmsg or '/dev/kmsg'}",
    ]
    if load_file:
        lines.append(f"load_file {load_file} {max((load.share for load in scenario.load), default=0.9)!r}")
    else:
        lines += [f"load {load.at!r} {load.share!r}" for load in scenario.load]
    for address in sorted(addresses):
        lines += _gpu(scenario, address, tenant)
    lines += [_fault(fault) for fault in scenario.faults]
    return "".join(f"{line}\n" for line in lines).encode()


def _gpu(scenario: StandinScenario, address: PciAddress, tenant: str) -> list[str]:
    identity = uuid.uuid5(_NAMESPACE, f"{scenario.name} {tenant} {address}")
    return [
        f"gpu {address}",
        f"card uuid GPU-{identity}",
        f"card serial {identity.int % 10**13:013d}",
        *_card(scenario.card),
    ]


def _card(card: StandinCard) -> list[str]:
    lines = []
    for vendor, model, text in (
        ("vendor", "model", card.pci_id),
        ("subsystem_vendor", "subsystem", card.subsystem),
    ):
        first, _, second = text.partition(":")
        lines += [f"card {vendor} {int(first, 16)}", f"card {model} {int(second, 16)}"]
    for each in dataclasses.fields(card):
        value = getattr(card, each.name)
        if value is not None and each.name not in _ELSEWHERE:
            lines.append(f"card {each.name} {value}")
    return lines


def _fault(fault: StandinFault) -> str:
    gpu = "*" if fault.gpu is None else fault.gpu
    until = "-" if fault.until is None else repr(fault.until)
    return (
        f"fault {fault.kind} {gpu} {fault.at!r} {until} {fault.value!r} {fault.rate!r} {fault.what}".rstrip()
    )
