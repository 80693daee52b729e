"""NVIDIA's names (PCI ID database; kernel-open of its open kernel modules; nouveau is Linux's own driver)."""

from __future__ import annotations

from harness.model.vendor import VendorNames

NAMES = VendorNames(
    name="NVIDIA",
    pci_ids=("10de",),
    modules=("nvidia", "nouveau"),
    repeats=("nouveau",),
    marks=("NVRM:",),
    device_files=("nvidia*",),
)
