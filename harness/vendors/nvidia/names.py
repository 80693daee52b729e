"""NVIDIA's names (PCI ID database; kernel-open of its open kernel modules; nouveau is Linux's own driver)."""

from __future__ import annotations

from harness.model.vendor import VendorNames

NAMES = VendorNames(
    name="NVIDIA",
    pci_ids=("10de",),
    modules=("nvidia", "nouveau"),
    # Unbinding a GPU in use hangs: "Attempting to remove device ... with non-zero usage count" (nv-pci.c).
    waiting=("nvidia",),
    stop_users="systemctl stop nvidia-persistenced nvidia-dcgm; fuser -v /dev/nvidia*",
    switches=(("10de", "0680"),),  # NVSwitch: "Bridge, Other"
    repeats=("nouveau",),
    marks=("NVRM:",),
    device_files=("nvidia*",),
)
