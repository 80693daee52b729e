"""What ``stream`` is, as data."""

from __future__ import annotations

from harness.vendors import loads
from harness.workloads.spec import Row, Scalar, WorkloadSpec

_DEFAULTS: dict[str, Scalar] = {
    "engine": "auto",
    # ``drawn``: a pattern of integers; ``render``: the render workload's scene, drawn by OpenGL.
    "source": "drawn",
    "width": 320,
    "height": 180,
    "rate": 30,
    "frames": 60,
    # 0: 0.27 bits per pixel, which is 15 Mbit/s for 1280 x 720 at 60 Hz.
    "kbps": 0,
    "samples": 3,
    "seed": 7,
    "start_seconds": 60.0,
    "drain_seconds": 10.0,
    "stall_seconds": 60.0,
    # For ``render``.
    "cubes": 24,
    "driver": "llvmpipe",
    "packages": "/usr/lib/python3/dist-packages",
    # Loopback loses packets only where the receiver cannot keep up, so these are not the network's shares.
    "max_dropped_share": 0.01,
    "max_duplicated_share": 0.01,
    # A latency is that of a 60 Hz stream only if pictures were drawn at 60 Hz.
    "min_rate_share": 0.95,
    # libx264 ultrafast at 0.27 bits per pixel came to 32 dB at 320 x 180 and 33 dB at 1280 x 720 for the
    # pattern, which moves everywhere, and to 41 dB for the scene. GPUs have not been measured.
    "min_psnr_db": 28.0,
}
"""Pixels, Hz, pictures, kbit/s, seconds; shares of 1; PSNR in dB."""

SPEC = WorkloadSpec(
    name="stream",
    title="pictures encoded and streamed as for cloud gaming, with a counter read at the other end",
    defaults=_DEFAULTS,
    row=Row(
        does="pictures drawn, encoded, sent as RTP over the loopback interface, decoded",
        proves="the counter painted into each; latency, jitter, lost and doubled ones",
        engines=f"{loads.ENCODER_WORD}; ffmpeg's x264",
        needs="`ffmpeg`",
        needs_with_gpus=loads.VIDEO_NEEDS,
    ),
    packages=("ffmpeg",),
    gpu_packages=loads.VIDEO_PACKAGES,
    engines=(loads.ENCODER,),
    mixed={},
)
