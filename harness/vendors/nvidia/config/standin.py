"""What must hold in a scenario of the NVML stand-in, beyond its shape."""

from __future__ import annotations

import re

from harness.config.rules import PCI_ID, between, usable_name
from harness.config.yaml_source import Loc, YamlSource
from harness.telemetry.gpu.series import REASONS
from harness.vendors.nvidia.config.series import check_series
from harness.vendors.nvidia.standin.model import (
    MOST_FAULTS,
    MOST_GPUS,
    MOST_LOADS,
    StandinFault,
    StandinFaultKind,
    StandinScenario,
)

_CALL = r"nvml[A-Z]\w+|field \d+"
_STANDIN_WHAT = {
    StandinFaultKind.THROTTLE: "|".join(REASONS.values()),
    StandinFaultKind.ECC: "(l1|l2|dram|register|texture|shared|cbu|sram) (un)?corrected",
    StandinFaultKind.REMAP: "corrected|uncorrected|pending|failure",
    StandinFaultKind.RETIRED: "single|double|pending",
    StandinFaultKind.XID: ".+",
    StandinFaultKind.LOG: ".+",
    StandinFaultKind.HANG: rf"{_CALL}|\*",
    StandinFaultKind.UNSUPPORTED: _CALL,
    StandinFaultKind.FAILING: rf"{_CALL}|\*",
    StandinFaultKind.NVLINK: r"\d+ (replay|recovery|crc|data_crc)",
    StandinFaultKind.PROCESS: "compute|graphics",
}
"""What the text of a fault may be (nvml_standin*.c); kinds that are not here take none."""
_BY_CHANCE = (StandinFaultKind.HANG, StandinFaultKind.UNSUPPORTED, StandinFaultKind.FAILING)


def check_standin(scenario: StandinScenario, source: YamlSource) -> None:
    """A scenario says only what the NVML stand-in can read, and no fault in it is one that can never show."""
    usable_name(scenario.name, source)
    texts = {("driver",): scenario.driver, ("nvml",): scenario.nvml, ("card", "name"): scenario.card.name}
    for loc, text in texts.items():
        if not text or len(text) > 40 or not text.isprintable():
            source.wrong(loc, f"not a usable text of up to 40 characters: {text[:60]!r}")
    for key in ("pci_id", "subsystem"):
        if not PCI_ID.fullmatch(getattr(scenario.card, key)):
            source.wrong(("card", key), "a PCI id is vendor:device in hexadecimal, quoted")
    for index, load in enumerate(scenario.load):
        between(load.share, 0.0, 1.0, source, ("load", index, "share"))
        if load.at < (scenario.load[index - 1].at if index else 0.0):
            source.wrong(("load", index, "at"), "loads are given in order of time")
    for key, given, most in (("load", scenario.load, MOST_LOADS), ("faults", scenario.faults, MOST_FAULTS)):
        if len(given) > most:
            source.wrong((key,), f"{len(given)} are more than the {most} allowed")
    for index, fault in enumerate(scenario.faults):
        _standin_fault(fault, source, ("faults", index))
    check_series(scenario, source)


def _standin_fault(fault: StandinFault, source: YamlSource, loc: Loc) -> None:
    if fault.gpu is not None:
        between(fault.gpu, 0, MOST_GPUS - 1, source, (*loc, "gpu"))
    if fault.at < 0 or (fault.until is not None and fault.until <= fault.at):
        source.wrong((*loc, "at"), "a fault must begin at 0 s or later, and before its end")
    if not 0 < fault.probability <= 1:
        source.wrong((*loc, "probability"), f"{fault.probability} is not above 0 and at most 1")
    elif fault.probability < 1 and fault.kind not in _BY_CHANCE:
        message = f"{fault.kind} takes no probability: only {', '.join(_BY_CHANCE)} do"
        source.wrong((*loc, "probability"), message)
    pattern = _STANDIN_WHAT.get(fault.kind, "")
    if len(fault.what) > 150 or not fault.what.isprintable() or not re.fullmatch(pattern, fault.what):
        remedy = f"for {fault.kind} it has the form {pattern}" if pattern else f"{fault.kind} takes none"
        source.wrong((*loc, "what"), f"not understood: {fault.what[:60]!r}", remedy=remedy)
