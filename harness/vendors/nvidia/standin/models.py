"""A healthy card of a GPU model for the NVML stand-in, from what the inventory knows of the model.

Memory, power limit and link are the model's own figures (``inventory/skus``). Everything else is made up, and
only has to hang together as on a real card: it is for showing that a healthy card of any model raises no
alarm.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.model.sku import Sku
from harness.vendors.nvidia.standin.model import (
    StandinApply,
    StandinCard,
    StandinFault,
    StandinFaultKind,
    StandinLoad,
    StandinScenario,
    StandinSeries,
)

HEALTHY = "healthy-"
"""How the name of such a scenario begins; the model's follows."""
BUSY = (StandinLoad(at=0.0, share=0.97),)


@dataclass(frozen=True, slots=True)
class _Family:
    """What cards of a family have in common, as far as a stand-in shows it."""

    sm_peak: float
    memory_clock: float
    tlimit: int
    remaps: bool
    nvlink_version: int


_FAMILIES = {
    "turing": _Family(1590.0, 5001.0, 0, False, 2),
    "ampere": _Family(1695.0, 6251.0, 0, True, 3),
    "ampere-ga100": _Family(1410.0, 1593.0, 0, True, 3),
    "ada": _Family(2100.0, 9001.0, 1, True, 4),
    "hopper": _Family(1980.0, 2619.0, 1, True, 4),
    "blackwell": _Family(1965.0, 3996.0, 1, True, 5),
}
_OTHER = _Family(1700.0, 7000.0, 0, True, 3)
_LINKS_OF_SXM = {"ampere-ga100": 12, "hopper": 18, "blackwell": 18}
"""NVLinks of modules on a board; cards in a slot are shown without any."""


def healthy(sku: Sku, load: tuple[StandinLoad, ...] = BUSY, *, seed: int = 1) -> StandinScenario:
    """A scenario in which cards of that model do nothing wrong, busy while a load of the run goes on.

    They warm each other, differ a little, and at full load meet their power limit, as most real ones do.
    """
    faults = () if sku.engines.get("nvenc") else (_NO_ENCODER,)
    return StandinScenario(
        name=f"{HEALTHY}{sku.name}",
        description=f"Healthy cards of {sku.title}; how they behave is made up",
        seed=seed,
        card=healthy_card(sku),
        load=load,
        follow_loads=True,
        faults=faults,
        series=(_RESTLESS,),
    )


_NO_ENCODER = StandinFault(kind=StandinFaultKind.UNSUPPORTED, what="nvmlDeviceGetEncoderStats")

_RESTLESS = StandinSeries(reading="load", points=((0.0, 1.0),), apply=StandinApply.SCALE, noise=0.03)
"""No load is the same in each tenth of a second."""


def healthy_card(sku: Sku) -> StandinCard:
    """The card alone, to put into a scenario with faults."""
    family = _FAMILIES.get(sku.family, _OTHER)
    # One that is unknown gets the figure of the library's own card.
    power = _figure(sku, "power", 250.0)
    memory = int(_figure(sku, "memory_bytes", 2.0**34))
    gen, width = int(_figure(sku, "pcie_gen", 4.0)), int(_figure(sku, "pcie_width", 16.0))
    module = sku.name.endswith("-sxm") or "-sxm-" in sku.name or sku.family == "blackwell"
    vendor, device, *subsystem = sku.pci_ids[0].split(":")
    # Server cards draw a tenth of their limit at rest; cards beside each other share one stream of air.
    return StandinCard(
        name=f"{sku.title} (Shakedown stand-in)",
        pci_id=f"{vendor}:{device}",
        subsystem=":".join(subsystem) or "10de:0000",
        memory_bytes=memory,
        power_idle=round(power * 0.1, 1),
        power_peak=round(power * 1.06, 1),
        power_limit=power,
        power_default=power,
        power_min=round(power * 0.3, 1),
        power_max=power,
        ambient=26.0,
        rise=36.0 if module else 42.0,
        lag=60.0 if module else 100.0,
        memory_rise=14.0 if module else 8.0,
        slowdown=92.0,
        shutdown=97.0,
        gpu_max=87.0,
        memory_max=95.0,
        sm_idle=345.0 if module else 210.0,
        sm_peak=family.sm_peak,
        memory_clock_idle=family.memory_clock if module else 405.0,
        memory_clock_peak=family.memory_clock,
        pcie_gen=gen,
        pcie_gen_idle=gen if module else 1,
        pcie_width=width,
        nvlinks=_LINKS_OF_SXM.get(sku.family, 0) if module else 0,
        nvlink_version=family.nvlink_version,
        remap_banks=640 if family.remaps else 0,
        tlimit=family.tlimit,
        ramp=0.8,
        linger=4.0,
        quick=0.35,
        neighbour=2.0 if module else 4.0,
        leak=0.001,
        droop=1.0,
        util_window=0.5,
        spread=0.03,
        draught=0.7,
    )


def _figure(sku: Sku, name: str, otherwise: float) -> float:
    figure = sku.figures.get(name)
    return otherwise if figure is None or figure.value is None else figure.value
