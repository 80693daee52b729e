"""What loads on its GPUs are called, and what they need in a guest."""

from __future__ import annotations

from harness.vendors.nvidia.payload.names import DECODER, ENCODER

ENGINE_WORDS = {"nvenc": "NVENC", "nvdec": "NVDEC", "nvjpeg": "NVJPEG", "rt": "ray tracing"}
"""The same as people write them."""
ENCODER_WORD, DECODER_WORD = ENGINE_WORDS[ENCODER], ENGINE_WORDS[DECODER]
DRAWER = "opengl:nvidia"
HASHERS = ("cuda", "opencl:nvidia")
"""Backends of hashcat."""
PCI_ID = "10de"
MODULE = "nvidia"
"""Kernel module by which loads reach a GPU."""
MAKER, DRIVER_WORDS = "NVIDIA", "CUDA"

COMPUTE_NEEDS = "`libcuda.so.1` and `libnvidia-ptxjitcompiler.so.1`"
COMPUTE_PACKAGES = ("libcuda1", "libnvidia-ptxjitcompiler1")
VIDEO_NEEDS = "NVIDIA's `libnvidia-encode.so.1` and `libnvcuvid.so.1`"
VIDEO_PACKAGES = ("libnvidia-encode1", "libnvcuvid1")
DRAW_NEEDS = "NVIDIA's EGL (`nvidia-egl-icd`)"
DRAW_PACKAGES = ("nvidia-egl-icd",)
HASH_PACKAGES = ("nvidia-opencl-icd",)
