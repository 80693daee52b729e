"""Names of what is sampled: the words that sampler, summaries, checks and reports have in common.

Each vendor's own sensors, reasons and properties are in its folder (``sensors.py``). The sampler runs where
nothing of the harness is and spells these names itself; a test compares.
"""

from __future__ import annotations

from harness.model.vendor import Sensor
from harness.vendors.registry import parts

SENSORS: tuple[Sensor, ...] = tuple(sensor for table in parts("sensors", "SENSORS") for sensor in table)
"""All of them, of all vendors: a name means the same whoever reads it."""

SENSOR: dict[str, Sensor] = {sensor.name: sensor for sensor in SENSORS}

REASONS: dict[int, str] = {bit: word for table in parts("sensors", "REASONS") for bit, word in table.items()}
"""Why clocks are held down, by the bit of the sensor ``reasons``."""

PROPERTIES: dict[str, str] = {
    name: unit for table in parts("sensors", "PROPERTIES") for name, unit in table.items()
}
"""What is read once of each card, and its unit."""

ENERGY_FROZEN_SECONDS = 10.0
"""Energy counters move every 100 ms (ml.energy), also on an idle card; energy is to be taken from
windows of 10 s and more."""
POWER_FROZEN_SECONDS = 30.0
"""Power is an average of up to 1 s in mW; thirty of them alike are no measurement."""
