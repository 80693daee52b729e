"""How long readings of a card under load may stand still."""

ENERGY_FROZEN_SECONDS = 10.0
"""NVML's energy counter moves every 100 ms (ml.energy), also on an idle card; energy is to be taken from
windows of 10 s and more."""
POWER_FROZEN_SECONDS = 30.0
"""NVML's power is an average of up to 1 s in mW; thirty of them alike are no measurement."""
