"""The stand-in of the library that tells a GPU's telemetry: the one that there is, for those who play it."""

from __future__ import annotations

from harness.vendors.nvidia.standin.library import (
    BINDING,
    BINDING_PACKAGE,
    GUEST_LIBRARY,
    LIBRARY,
    NAME,
    SCENARIO_VARIABLE,
    sources,
)
from harness.vendors.nvidia.standin.model import (
    MOST_FAULTS,
    MOST_GPUS,
    MOST_LOADS,
    MOST_POINTS,
    MOST_SERIES,
    MOST_TEXTS,
    StandinApply,
    StandinFault,
    StandinFaultKind,
    StandinForm,
    StandinScenario,
    StandinSeries,
    StandinValue,
)
from harness.vendors.nvidia.standin.models import HEALTHY, healthy
from harness.vendors.nvidia.standin.scenario import (
    OF_THE_MACHINE,
    READINGS,
    TEXTS,
    reasons,
    scenario_text,
    standing_form,
)

__all__ = [
    "BINDING",
    "BINDING_PACKAGE",
    "GUEST_LIBRARY",
    "HEALTHY",
    "LIBRARY",
    "MOST_FAULTS",
    "MOST_GPUS",
    "MOST_LOADS",
    "MOST_POINTS",
    "MOST_SERIES",
    "MOST_TEXTS",
    "NAME",
    "OF_THE_MACHINE",
    "READINGS",
    "SCENARIO_VARIABLE",
    "TEXTS",
    "StandinApply",
    "StandinFault",
    "StandinFaultKind",
    "StandinForm",
    "StandinScenario",
    "StandinSeries",
    "StandinValue",
    "healthy",
    "reasons",
    "scenario_text",
    "sources",
    "standing_form",
]
