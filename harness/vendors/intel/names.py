"""Intel's names (PCI ID database; drivers/gpu/drm/{i915,xe})."""

from __future__ import annotations

from harness.model.vendor import VendorNames

NAMES = VendorNames(
    name="Intel",
    pci_ids=("8086",),
    modules=("i915", "xe"),
    repeats=("i915", "xe"),
    log_words=("xe 0", "i915"),
)
