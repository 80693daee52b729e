"""AMD's names (PCI ID database; drivers/gpu/drm/{amd,radeon})."""

from __future__ import annotations

from harness.model.vendor import VendorNames

NAMES = VendorNames(
    name="AMD",
    pci_ids=("1002",),
    modules=("amdgpu", "radeon"),
    log_words=("amdgpu",),
    repeats=("amdgpu",),
    device_files=("kfd",),
)
