"""A scenario of the NVML stand-in as the text that the library reads (form: nvml_standin_scenario.c)."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence

from harness.model.pci import PciAddress
from harness.model.vendor import Kind
from harness.telemetry.gpu.series import PROPERTIES, REASONS, SENSORS
from harness.vendors.nvidia.standin.model import (
    MOST_GPUS,
    StandinCard,
    StandinFault,
    StandinForm,
    StandinMissing,
    StandinScenario,
    StandinSeries,
    StandinValue,
)

_NAMESPACE = uuid.UUID("6f0ed1a8-6d1f-5f2c-9a55-2c1f0f9b7a10")
_ELSEWHERE = ("pci_id", "subsystem")
"""Fields of a card that are written as two numbers each."""
TEXTS = ("uuid", "serial", "name", "vbios", "driver", "nvml")
"""Readings that are texts; the last two are the machine's, the others a GPU's."""
OF_THE_MACHINE = ("driver", "nvml")
CAUSES = {"load": "1", "ambient": "degC", "clock_cap": "MHz"}
"""Not told by NVML: what the card's behaviour follows from."""
_MORE = {
    "power_limit_min": "W", "clock_sm_application": "MHz", "clock_memory_application": "MHz",
    "memory_bytes": "B", "fan_speed": "%", "pcie_tx": "KB/s", "pcie_rx": "KB/s", "pstate": "1",
}  # fmt: skip
"""Readings that Shakedown does not sample, and other tools show."""
READINGS: dict[str, Kind | None] = {
    **{sensor.name: sensor.kind for sensor in SENSORS},
    **{
        name: Kind.STATE if unit in ("1", "bool") else Kind.GAUGE
        for name, unit in (PROPERTIES | _MORE).items()
    },
    **dict.fromkeys(CAUSES, Kind.GAUGE),
    **dict.fromkeys(TEXTS),
}
"""All that a series can set, and how it is to be read; None: a text."""
_ERRORS = {StandinMissing.FAILED: 999, StandinMissing.NOT_OFFERED: 3}
"""NVML_ERROR_UNKNOWN and NVML_ERROR_NOT_SUPPORTED."""
_REASON_BITS = {name: bit for bit, name in REASONS.items()}


def scenario_text(
    scenario: StandinScenario,
    addresses: Sequence[PciAddress],
    *,
    tenant: str = "",
    kmsg: str = "",
    load_file: str = "",
    jobs: str = "",
) -> bytes:
    """The scenario for one machine, with a GPU at each address, in NVML's order (by address).

    ``tenant`` makes the GPUs' UUIDs and serials differ from those that another machine has at the same
    addresses. ``kmsg`` is where lines for the kernel log go (default: /dev/kmsg). With ``load_file`` the GPUs
    are busy while that file exists, and idle else, whatever the scenario's own load is. ``jobs`` is the
    folder in which keyed jobs of loads show (``workloads/runner.sh``): from the first of them count the
    times that are by load, and a scenario that follows loads is idle between them. Raises ValueError for more
    GPUs than the library has room for, and for paths of several lines or with spaces.
    """
    if len(addresses) > MOST_GPUS:
        raise ValueError(f"{len(addresses)} GPUs; the NVML stand-in has room for {MOST_GPUS}")
    for path in (kmsg, load_file, jobs):
        if not path.isprintable() or " " in path:
            raise ValueError(f"not a usable path: {path!r}")
    lines = [
        "shakedown-nvml-standin 2",
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
        lines += [f"jobs {jobs}"] if jobs else []
        lines += ["follow"] if jobs and scenario.follow_loads else []
    for address in sorted(addresses):
        lines += _gpu(scenario, address, tenant)
    lines += [_fault(fault) for fault in scenario.faults]
    for series in scenario.series:
        lines += _series(series)
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
    numbers = f"{fault.value!r} {fault.rate!r} {fault.probability!r} {fault.what}".rstrip()
    at = f"{fault.clock} {fault.at!r} {_until(fault.until)}"
    return f"fault {fault.kind} {_gpu_or_all(fault.gpu)} {at} {numbers}"


def _series(series: StandinSeries) -> list[str]:
    form = series.form or standing_form(series.reading)
    shape = f"{series.clock} {form} {series.apply} {int(series.rate)} {series.noise!r} {series.repeat or 0!r}"
    end = f"{_until(series.until)} {_ERRORS[series.missing]}"
    return [
        f"series {series.reading} {_gpu_or_all(series.gpu)} {shape} {end}",
        *(f"point {at!r} {_value(series.reading, value)}" for at, value in series.points),
    ]


def standing_form(reading: str) -> StandinForm:
    """How a reading goes from one point to the next where the scenario does not say: what names a state, or
    is a text, has nothing in between."""
    return StandinForm.STEP if READINGS.get(reading) in (None, Kind.STATE) else StandinForm.LINEAR


def reasons(text: str) -> int | None:
    """The bits of clock-event reasons by name, joined by ``+``; None where a name is unknown."""
    bits = [_REASON_BITS.get(name.strip()) for name in text.split("+")]
    known = [bit for bit in bits if bit is not None]
    return sum(set(known)) if len(known) == len(bits) else None


def _value(reading: str, value: StandinValue) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value if reading in TEXTS else str(reasons(value))
    return repr(float(value))


def _gpu_or_all(gpu: int | None) -> str:
    return "*" if gpu is None else str(gpu)


def _until(until: float | None) -> str:
    return "-" if until is None else repr(until)
