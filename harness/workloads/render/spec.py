"""What ``render`` is, as data."""

from __future__ import annotations

from harness.vendors import loads
from harness.workloads.spec import Row, Scalar, WorkloadSpec

_DEFAULTS: dict[str, Scalar] = {
    "engine": "auto",
    "width": 256,
    "height": 144,
    "frames": 8,
    "rounds": 3,
    # Rounds go on until this many seconds have passed.
    "seconds": 0.0,
    "golden": 2,
    "cubes": 24,
    # Integer steps per pixel of the exact picture: the load on a GPU's arithmetic.
    "work": 64,
    "seed": 7,
    # Mesa's software renderer when the CPU draws: llvmpipe compiles shaders, softpipe interprets them.
    "driver": "llvmpipe",
    # A device that finishes no frame for this long hangs.
    "stall_seconds": 300.0,
    "packages": "/usr/lib/python3/dist-packages",
    # Two right renderers differ by rounding and by single pixels on edges. llvmpipe and softpipe of Mesa 22.3
    # came to 0.9978 and 2.6 levels at worst, over 32 scenes of four sizes. No GPU has been measured yet.
    "min_ssim": 0.99,
    "max_block_error": 8.0,
}
"""Sizes in pixels, frames and rounds; ``min_ssim`` 0 to 1, ``max_block_error`` in levels of 255."""

SPEC = WorkloadSpec(
    name="render",
    title="a 3D scene rendered without a display, compared with reference pictures",
    defaults=_DEFAULTS,
    row=Row(
        does="a 3D scene without a display",
        proves="one picture known bit for bit, one by likeness (SSIM) to one drawn without OpenGL",
        engines="EGL on the GPU; Mesa's llvmpipe, softpipe",
        needs="`python3-moderngl`, `libegl1`, `libgl1-mesa-dri`",
        needs_with_gpus=loads.DRAW_NEEDS,
    ),
    packages=("python3-moderngl", "libegl1", "libgl1-mesa-dri"),
    gpu_packages=loads.DRAW_PACKAGES,
    mixed={},
    keeps_gpus_busy=True,
)
