"""Whether the readings of a sensor can be believed: alive, within what there can be, in agreement with
others.

One table of rules; each looks at the series of one GPU from the sampler's start to its end and says what it
found as a ``Doubt``. A doubt is recorded with the series. Whoever judges a series gets it through
``harness.checks.watching.watched``, which refuses one that is in doubt: a sensor that cannot be believed says
neither that the card is well nor that it is ill.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harness.model.telemetry import Doubt
from harness.telemetry.gpu.plausible_alone import fell, frozen, impossible, jumped
from harness.telemetry.gpu.plausible_beside import claimed, contrary, drifted, empty, unequal, unused, weak
from harness.telemetry.gpu.plausible_heat import cooled, stepped, still, unmoved
from harness.telemetry.gpu.view import View


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One way in which readings cannot be believed."""

    id: str
    title: str
    source: str
    """Why no healthy card does that."""
    find: Callable[[View], Iterator[tuple[str, Doubt]]]
    """Sensors and what is found of them."""


def doubts(view: View) -> dict[str, tuple[Doubt, ...]]:
    """Sensor to everything that speaks against believing it. Sensors without a doubt are not there."""
    found: dict[str, list[Doubt]] = {}
    for rule in RULES:
        for sensor, doubt in rule.find(view):
            found.setdefault(sensor, []).append(doubt)
    return {sensor: tuple(those) for sensor, those in found.items()}


RULES: tuple[Rule, ...] = (
    Rule(
        id="impossible",
        title="readings outside the possible range",
        source="ASHRAE TC 9.9 for air; nvml.h for shares, clocks and memory; PCI Express Base Specification "
        "for links",
        find=impossible,
    ),
    Rule(
        id="frozen",
        title="power or energy that does not change under load",
        source="NVML's energy counter moves every 100 ms, its power is an average of at most 1 s (ml.energy)",
        find=frozen,
    ),
    Rule(
        id="unmoved",
        title="a temperature that does not follow the power",
        source="thermal resistance: no GPU cooler is better than 0.03 K/W (vendors' cold plates)",
        find=unmoved,
    ),
    Rule(
        id="still",
        title="a core's temperature that seconds of idle did not move",
        source="what lies between die and heat spreader (0.03 K/W at least) follows the power at once",
        find=still,
    ),
    Rule(
        id="stepped",
        title="a temperature that jumps while the power stays the same",
        source="a die has 0.05 K/W to its heat spreader, and no other heat than its power",
        find=stepped,
    ),
    Rule(
        id="cooled",
        title="a core that cools under the same power, and not its memory",
        source="core and memory of a module share one heat sink; fans and air cool both",
        find=cooled,
    ),
    Rule(
        id="weak",
        title="less power under load than a card uses when idle",
        source="idle power of the models in inventory/skus: 10 % of the limit and more",
        find=weak,
    ),
    Rule(
        id="unused",
        title="no use while the card draws power",
        source="nvml.h: util_gpu is the share of time in which a kernel ran",
        find=unused,
    ),
    Rule(
        id="unequal",
        title="energy that does not add up from power",
        source="energy counter 5 to 20 % above 1 Hz integration; 65 % at worst for pulses (arXiv 2312.02741)",
        find=unequal,
    ),
    Rule(
        id="drifted",
        title="energy and power whose ratio changes under steady power",
        source="errors of a card's two sensors are a factor that stays (arXiv 2312.02741)",
        find=drifted,
    ),
    Rule(
        id="claimed",
        title="full use while nothing runs",
        source="nvml.h: nvmlClocksEventReasonGpuIdle says that nothing runs on the GPU",
        find=claimed,
    ),
    Rule(
        id="empty",
        title="no memory in use while kernels run",
        source="a CUDA context takes hundreds of MB of the card's memory",
        find=empty,
    ),
    Rule(
        id="contrary",
        title="temperature and margin that contradict each other",
        source="nvml.h: the margin is what is left of the same temperature's limit",
        find=contrary,
    ),
    Rule(
        id="fell",
        title="a counter that fell",
        source="nvml.h: counters restart only with the driver or a reset",
        find=fell,
    ),
    Rule(
        id="jumped",
        title="more energy at once than the card may draw",
        source="nvml.h: power limit; the counter moves every 100 ms",
        find=jumped,
    ),
)
"""All of them; ``shakedown rules lint`` plays a series to each that must trip it, and one that must not."""
