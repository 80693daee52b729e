"""QEMU's names for its teaching device (QEMU ``docs/specs/edu.rst``)."""

from __future__ import annotations

from harness.model.vendor import VendorNames

NAMES = VendorNames(name="QEMU edu", pci_ids=("1234",), emulated=True)
