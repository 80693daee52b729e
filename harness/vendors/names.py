"""The names of all makers of GPUs. They import nothing, so that whoever only needs a name may ask here."""

from __future__ import annotations

import re

from harness.model.vendor import Advice, VendorNames
from harness.vendors.registry import parts

VENDOR_NAMES: tuple[VendorNames, ...] = parts("names", "NAMES")
MODULES: tuple[str, ...] = tuple(module for names in VENDOR_NAMES for module in names.modules)
"""Kernel modules that drive GPUs."""
REPEATING: tuple[str, ...] = tuple(module for names in VENDOR_NAMES for module in names.repeats)
MARKS: tuple[str, ...] = tuple(mark for names in VENDOR_NAMES for mark in names.marks)
SWITCHES: tuple[tuple[str, str], ...] = tuple(each for names in VENDOR_NAMES for each in names.switches)
LOG_WORDS: tuple[str, ...] = tuple(word for names in VENDOR_NAMES for word in names.log_words)
DEVICE_FILES: tuple[str, ...] = tuple(file for names in VENDOR_NAMES for file in names.device_files)


ENGINES: tuple[str, ...] = tuple(engine for names in VENDOR_NAMES for engine in names.engines)
ENCODERS: tuple[str, ...] = tuple(engine for names in VENDOR_NAMES for engine in names.encoders)
IMAGES: tuple[str, ...] = tuple(names.image for names in VENDOR_NAMES if names.image)
SOURCES: tuple[str, ...] = tuple(names.telemetry for names in VENDOR_NAMES if names.telemetry)
"""Of telemetry, as records call them."""
PACKAGES: tuple[str, ...] = tuple(package for names in VENDOR_NAMES for package in names.packages)
CODE_TABLES: dict[str, str] = {
    family: table for names in VENDOR_NAMES for family, table in names.code_tables.items()
}
"""Family of a kernel event to the table of its codes."""


def maker(pci_vendor: str) -> VendorNames | None:
    """The vendor of a PCI vendor id (four lower-case hex digits); None for one that makes no GPU we know."""
    return next((names for names in VENDOR_NAMES if pci_vendor in names.pci_ids), None)


def advised(telemetry: str) -> Advice:
    """What to do about GPUs whose telemetry has that source, in their maker's words; else in nobody's."""
    found = (names.advice for names in VENDOR_NAMES if telemetry and names.telemetry == telemetry)
    return next(found, Advice())


def typed(command: str, gpu: int = 0, value: float = 0.0) -> str:
    """A command in brackets with a space before it, to stand behind what it does; empty for an empty one."""
    return f" ({command.format(gpu=gpu, value=value)})" if command else ""


def who_waits(module: str | None) -> VendorNames | None:
    """The vendor of a driver from which a GPU in use can only be taken by a reboot; None for any other."""
    return next((names for names in VENDOR_NAMES if module in names.waiting), None)


def any_of(words: tuple[str, ...]) -> str:
    """A regular expression for one of some words."""
    return "|".join(re.escape(word) for word in words)
