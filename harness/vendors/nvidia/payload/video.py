"""Which of ffmpeg's complaints about a GPU that encodes and decodes accuse no card, for ``transcode``
and ``stream``.
"""

from __future__ import annotations

_NO_FAULT = (
    # nv-codec-headers, dynlink_loader.h; ffmpeg's nvdec.c and nvenc.c
    ("Cannot load ", "the driver's libcuda, libnvidia-encode or libnvcuvid is missing here"),
    ("Failed loading nvcuvid", "the driver's libnvcuvid is missing here"),
    ("required nvenc API version", "the driver is older than this ffmpeg's NVENC needs"),
    # An A100 says this, and so do cards whose NVENC a container or hypervisor keeps back.
    (
        "unsupported device (2)",
        "this GPU offers no NVENC: if its model has none, its file in inventory/skus must say engines: "
        "{nvenc: 0}",
    ),
    ("Codec not supported", "NVENC of this GPU does not encode this codec: choose others in `codecs`"),
    ("10 bit encode not supported", "NVENC of this GPU does not encode 10 bit: choose other codecs"),
    ("lacking required capabilities", "NVDEC of this GPU does not decode this: choose other codecs"),
    # Both mean the limit of sessions of a GeForce, which counts those of the whole machine; the second one
    # was also a defect of drivers before 515.105.
    ("incompatible client key (21)", "the driver allows no more encoding sessions"),
    (
        "OpenEncodeSessionEx failed: out of memory (10)",
        "the driver allows no more encoding sessions, or the card's memory is in use",
    ),
    ("failed: invalid param (8)", "NVENC refuses this ffmpeg's parameters: use another ffmpeg or driver"),
    ("failed: unsupported param (12)", "NVENC does not know a parameter of this ffmpeg"),
    ("failed: invalid version (15)", "this ffmpeg's NVENC version does not match the driver's"),
    (
        "decode surfaces might cause nvdec to fail",
        "ffmpeg has too many threads for the card's decode surfaces",
    ),
    ("No decoder surfaces left", "ffmpeg has no decode surface left: too few surfaces for its threads"),
    ("CUDA_ERROR_OUT_OF_MEMORY", "the card's memory is in use"),
    ("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "library and kernel module have different driver versions"),
    ("CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE", "a forward-compatibility library is installed here"),
    ("CUDA_ERROR_STUB_LIBRARY", "libcuda is a stub here"),
    (
        "CUDA_ERROR_SYSTEM_NOT_READY",
        "a daemon that the driver needs is not running or not ready: with NVSwitch the Fabric Manager "
        "(nvidia-fabricmanager), on the host if only the host has the switches",
    ),
    ("CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER", "the driver is too old for this call"),
    ("CUDA_ERROR_DEVICE_NOT_LICENSED", "a virtual GPU has no licence"),
    ("CUDA_ERROR_NOT_PERMITTED", "the driver does not permit it here"),
    ("CUDA_ERROR_MPS_", "the Multi-Process Service of this machine refuses this process"),
    ("No space left on device", "the disk is full"),
    ("Cannot allocate memory", "the memory of this machine is in use"),
    ("Unknown encoder ", "this ffmpeg was built without that encoder"),
    ("Unrecognized option ", "this ffmpeg does not know an option"),
)  # fmt: skip
"""Words of ffmpeg (4.4 to 7.1) and what they mean. None of them proves a defect of the card."""

_FAULT = (
    "CUDA_ERROR_ECC_UNCORRECTABLE", "CUDA_ERROR_NVLINK_UNCORRECTABLE", "CUDA_ERROR_HARDWARE_STACK_ERROR",
    "CUDA_ERROR_ILLEGAL_", "CUDA_ERROR_LAUNCH_FAILED", "CUDA_ERROR_LAUNCH_TIMEOUT", "CUDA_ERROR_CONTAINED",
    "CUDA_ERROR_EXTERNAL_DEVICE",
)  # fmt: skip
"""Words that accuse the card, whatever else was said beside them (``cuda.h``, CUresult)."""


def no_fault(said: str) -> str:
    """What a failed ffmpeg's words say of machine, model or licence; empty when the card may be to blame."""
    if any(words in said for words in _FAULT):
        return ""
    return next((meaning for words, meaning in _NO_FAULT if words in said), "")


def telling(said: str, most: int) -> str:
    """What matters of a failed ffmpeg's words: the line that accuses the card, else one that accuses none,
    else the end."""
    lines = said.splitlines()
    accusing = (line for line in lines if any(words in line for words in _FAULT))
    excusing = (line for line in lines if no_fault(line))
    return next(accusing, next(excusing, said.strip()))[-most:]
