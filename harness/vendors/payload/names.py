"""What the engines of GPUs are called in answers and records: see ``gpu.py`` for whose."""

from harness.vendors.nvidia.payload.names import (
    COMPUTE,
    DECODER,
    DECODING,
    ENCODER,
    H264_CODER,
    VIDEO_LIBRARIES,
)

__all__ = ["COMPUTE", "DECODER", "DECODING", "ENCODER", "H264_CODER", "VIDEO_LIBRARIES"]
