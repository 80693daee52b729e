"""What loads on GPUs are called and need: of the one vendor on whose GPUs they compute.

A second one makes these a choice by the card's PCI id, here and nowhere else.
"""

from __future__ import annotations

from harness.vendors.nvidia.loads import (
    COMPUTE_NEEDS,
    COMPUTE_PACKAGES,
    DECODER_WORD,
    DRAW_NEEDS,
    DRAW_PACKAGES,
    DRAWER,
    DRIVER_WORDS,
    ENCODER_WORD,
    ENGINE_WORDS,
    HASH_PACKAGES,
    HASHERS,
    MAKER,
    MODULE,
    PCI_ID,
    VIDEO_NEEDS,
    VIDEO_PACKAGES,
)
from harness.vendors.nvidia.payload.names import COMPUTE, DECODER, ENCODER

__all__ = [
    "COMPUTE",
    "COMPUTE_NEEDS",
    "COMPUTE_PACKAGES",
    "DECODER",
    "DECODER_WORD",
    "DRAWER",
    "DRAW_NEEDS",
    "DRAW_PACKAGES",
    "DRIVER_WORDS",
    "ENCODER",
    "ENCODER_WORD",
    "ENGINE_WORDS",
    "HASHERS",
    "HASH_PACKAGES",
    "MAKER",
    "MODULE",
    "PCI_ID",
    "VIDEO_NEEDS",
    "VIDEO_PACKAGES",
]
