"""What ``transcode`` is, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.model.sku import Sku
from harness.vendors import loads
from harness.workloads.spec import Row, Scalar, WorkloadSpec

_DEFAULTS: dict[str, Scalar] = {
    "engine": "auto",
    "width": 320,
    "height": 180,
    "frames": 25,
    "rate": 25,
    "seed": 7,
    "preset": "veryfast",
    "crf": 23,
    # Floors for this clip: libx264 at crf 23 gives 34.3 dB and 0.977 (ffmpeg 5.1); a decoder or encoder
    # that goes wrong in a single frame falls far below either.
    "min_psnr_db": 30.0,
    "min_ssim": 0.93,
    "codecs": "auto",
    "sizes": "1920x1080",
    "encoder": "auto",
    "clip_frames": 30,
    "bits_per_pixel": 0.2,
    # Floors for these clips at 0.2 bits a pixel. What GPUs give was never measured, so they stand between
    # the worst frame of the worst right encoders (x264, x265 and MPEG-2 of ffmpeg 5.1 at their fastest, 360p
    # and 1080p: 25.6 dB, 0.922) and the least wrong picture, the neighbouring frame (22.2 dB, 0.897).
    "min_clip_psnr_db": 24.0,
    "min_clip_ssim": 0.91,
    "rate_frames": 300,
    "stream_seconds": 4,
    "max_streams": 32,
    "min_streams": 1,
}
"""``engine`` auto, cpu or gpu. Sizes in pixels and frames; ``rate`` in frames per second; floors in
dB and SSIM. ``width`` to ``min_ssim`` are the small clip's, but for ``rate`` and ``seed``.

``codecs``: a list of h264, hevc, hevc10, av1 and av110, or auto: none on a CPU, h264 and hevc on a
GPU. ``encoder``: auto, or cpu for GPUs that only decode. ``sizes``, ``clip_frames``,
``bits_per_pixel`` (the bit rate) and floors are those of each codec's clips. ``rate_frames``,
``stream_seconds`` and ``max_streams`` bound what is measured with the first size.
"""


def _fit(given: Mapping[str, Scalar], models: Sequence[Sku]) -> dict[str, Scalar]:
    """Encode what the models are declared to encode. On models that only decode, the processor encodes and
    the GPU's decoder is compared."""
    if all(sku.engines.get(loads.ENCODER) == 0 for sku in models):
        return {"encoder": "cpu", **given}
    common = [codec for codec in models[0].codecs if all(codec in sku.codecs for sku in models)]
    return {"codecs": ",".join(common), **given} if common else dict(given)


SPEC = WorkloadSpec(
    name="transcode",
    title="known clips encoded and decoded by ffmpeg",
    defaults=_DEFAULTS,
    row=Row(
        does="H.264, HEVC, AV1, 8 and 10 bits, up to 4K",
        proves="frames decoded bit for bit as software does, which known streams prove; quality at a "
        "bit rate",
        engines=f"{loads.ENCODER_WORD} and {loads.DECODER_WORD}; ffmpeg's coders",
        needs="`ffmpeg`",
        needs_with_gpus=loads.VIDEO_NEEDS,
    ),
    packages=("ffmpeg",),
    gpu_packages=loads.VIDEO_PACKAGES,
    engines=(loads.ENCODER, loads.DECODER),
    mixed={},
    fit=_fit,
)
