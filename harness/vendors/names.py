"""The names of all makers of GPUs. They import nothing, so that whoever only needs a name may ask here."""

from __future__ import annotations

import re

from harness.model.vendor import VendorNames
from harness.vendors.amd.names import NAMES as AMD
from harness.vendors.intel.names import NAMES as INTEL
from harness.vendors.nvidia.names import NAMES as NVIDIA

VENDOR_NAMES: tuple[VendorNames, ...] = (NVIDIA, AMD, INTEL)
MODULES: tuple[str, ...] = tuple(module for names in VENDOR_NAMES for module in names.modules)
"""Kernel modules that drive GPUs."""
REPEATING: tuple[str, ...] = tuple(module for names in VENDOR_NAMES for module in names.repeats)
MARKS: tuple[str, ...] = tuple(mark for names in VENDOR_NAMES for mark in names.marks)
SWITCHES: tuple[tuple[str, str], ...] = tuple(each for names in VENDOR_NAMES for each in names.switches)
DEVICE_FILES: tuple[str, ...] = tuple(file for names in VENDOR_NAMES for file in names.device_files)


def who_waits(module: str | None) -> VendorNames | None:
    """The vendor of a driver from which a GPU in use can only be taken by a reboot; None for any other."""
    return next((names for names in VENDOR_NAMES if module in names.waiting), None)


def any_of(words: tuple[str, ...]) -> str:
    """A regular expression for one of some words."""
    return "|".join(re.escape(word) for word in words)
