"""What loads do on a GPU: the one vendor's code by which they compute.

A second vendor with loads makes these names a choice by the card's PCI id, here and nowhere else.
"""

from harness.vendors.nvidia.payload import compute as gpu_compute
from harness.vendors.nvidia.payload import driver as gpu_driver
from harness.vendors.nvidia.payload import link as gpu_link
from harness.vendors.nvidia.payload import residue as gpu_residue
from harness.vendors.nvidia.payload import video as gpu_video

__all__ = ["gpu_compute", "gpu_driver", "gpu_link", "gpu_residue", "gpu_video"]
