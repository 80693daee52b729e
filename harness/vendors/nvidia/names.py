"""NVIDIA's names (PCI ID database; kernel-open of its open kernel modules; nouveau is Linux's own driver)."""

from __future__ import annotations

from harness.model.vendor import VendorNames
from harness.vendors.nvidia.advice import ADVICE

NAMES = VendorNames(
    name="NVIDIA",
    pci_ids=("10de",),
    modules=("nvidia", "nouveau"),
    driver="nvidia",
    # Unbinding a GPU in use hangs: "Attempting to remove device ... with non-zero usage count" (nv-pci.c),
    # and may do so when its user is gone (NVIDIA/open-gpu-kernel-modules#1374).
    waiting=("nvidia",),
    stop_users="systemctl stop nvidia-persistenced nvidia-dcgm; fuser -v /dev/nvidia*",
    switches=(("10de", "0680"),),  # NVSwitch: "Bridge, Other"
    repeats=("nouveau",),
    marks=("NVRM:",),
    log_words=("nvrm", "xid", "nvidia", "nouveau"),
    device_files=("nvidia*",),
    device_file="nvidia",
    minor_file="/proc/driver/nvidia/gpus/{address}/information",
    code_tables={"xid": "xids", "sxid": "sxids"},
    telemetry="nvml",
    image="nvidia",
    packages=("nvidia-ml-py",),
    engines=("nvenc", "nvdec", "nvjpeg", "rt"),
    encoders=("nvenc",),
    advice=ADVICE,
)
