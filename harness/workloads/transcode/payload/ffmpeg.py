"""ffmpeg's command lines for ``clips.py``, and what ffmpeg lists of itself.

A decode on the GPU ends in ``hwdownload``, which accepts frames on a card only: ``-hwaccel`` alone would go
over to the processor in silence when the card does not work. Encoders are named, so nothing replaces them.
"""

from __future__ import annotations

import re

from harness.vendors.payload.names import DECODING, ENCODER

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any

_LISTED = re.compile(r"^ [V.][F.][S.][X.][B.][D.] (\S+)", re.MULTILINE)
_VERSION = re.compile(r"^ffmpeg version (\S+)", re.MULTILINE)

ON_GPU = {family: f"{family}_{ENCODER}" for family in ("h264", "hevc", "av1")}
GPU_DECODERS = {"h264": "h264", "hevc": "hevc", "av1": "av1"}
"""ffmpeg's own decoders are what ``-hwaccel`` works through; libdav1d knows nothing of it."""
SOFTWARE: dict[str, list[tuple[str, list[str]]]] = {
    "h264": [("libx264", ["-preset", "veryfast"])],
    "hevc": [("libx265", ["-preset", "superfast", "-x265-params", "log-level=error"])],
    "av1": [("libsvtav1", ["-preset", "8"]), ("libaom-av1", ["-cpu-used", "8", "-row-mt", "1"])],
}
DECODERS = {"h264": ["h264"], "hevc": ["hevc"], "av1": ["libdav1d", "libaom-av1"]}
NO_CEILING = ("libsvtav1",)
"""Encoders that refuse ``-maxrate`` (SVT-AV1 1.4)."""


class Lacking(Exception):
    """This ffmpeg was built without something that is needed."""


def family(codec: str) -> str:
    """``hevc10`` is HEVC with ten bits a sample."""
    return codec.removesuffix("10")


def surface(bits: int) -> str:
    """The layout in which a card keeps frames; the processor's are brought into it, which loses nothing."""
    return "p010le" if bits == 10 else "nv12"


def planar(bits: int) -> str:
    """The layout of the source."""
    return "yuv420p10le" if bits == 10 else "yuv420p"


def listed(said: str) -> set[str]:
    """The names of ``-encoders`` or ``-decoders``."""
    return set(_LISTED.findall(said))


def version(said: str) -> str:
    """From ffmpeg's banner."""
    found = _VERSION.search(said)
    return found[1][:80] if found else "unknown"


def encoder(codec: str, on: str, encoders: set[str]) -> tuple[str, list[str]]:
    """Name and options of the encoder for a codec on ``cpu`` or ``gpu``. Raises Lacking."""
    able = [(ON_GPU[family(codec)], ["-preset", "p4"])] if on == "gpu" else SOFTWARE[family(codec)]
    for name, options in able:
        if name in encoders:
            return name, options
    newer = " (ffmpeg 6.0 added it: use that, or choose other codecs)" if ON_GPU["av1"] in dict(able) else ""
    raise Lacking(f"this ffmpeg has no encoder {' or '.join(name for name, _ in able)}{newer}")


def decoders(codec: str, known: set[str]) -> list[str]:
    """The software decoders for a codec that this ffmpeg has, best first. Raises Lacking."""
    able = [name for name in DECODERS[family(codec)] if name in known]
    if not able:
        raise Lacking(f"this ffmpeg has no decoder {' or '.join(DECODERS[family(codec)])}")
    return able


def _start(ffmpeg: str) -> list[str]:
    return [ffmpeg, "-nostdin", "-nostats", "-hide_banner", "-y"]


def _coding(cell: dict[str, Any], name: str, options: list[str]) -> list[str]:
    bitrate = str(cell["bitrate"])
    ceiling = [] if name in NO_CEILING else ["-maxrate", bitrate, "-bufsize", bitrate]
    return ["-c:v", name, *options, "-b:v", bitrate, *ceiling, "-g", "50"]


def _raw(cell: dict[str, Any], rate: int) -> list[str]:
    size = f"{cell['width']}x{cell['height']}"
    return ["-f", "rawvideo", "-pix_fmt", planar(cell["bits"]), "-s", size, "-r", str(rate), "-i", "pipe:0"]


def _on_card(codec: str) -> list[str]:
    return ["-hwaccel", DECODING, "-hwaccel_output_format", DECODING, "-c:v", GPU_DECODERS[family(codec)]]


def probe(ffmpeg: str, name: str, options: list[str], bits: int) -> list[str]:
    """One second of video through an encoder: being listed says nothing about working.

    With warnings: what an encoder cannot do, ffmpeg says in those.
    """
    return [
        *_start(ffmpeg), "-v", "warning", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25", "-t", "1",
        "-pix_fmt", surface(bits), "-c:v", name, *options, "-f", "null", "-",
    ]  # fmt: skip


def encode(ffmpeg: str, cell: dict[str, Any], rate: int, by: tuple[str, list[str]]) -> list[str]:
    """Raw frames in; ``clip.mkv`` and the hashes of the source out."""
    name, options = by
    pixels = surface(cell["bits"]) if name in ON_GPU.values() else planar(cell["bits"])
    return [
        *_start(ffmpeg), "-v", "error", *_raw(cell, rate), "-map", "0:v", "-pix_fmt", pixels,
        *_coding(cell, name, options), "clip.mkv", "-map", "0:v", "-f", "framemd5", "source.md5",
    ]  # fmt: skip


def compare(ffmpeg: str, cell: dict[str, Any], rate: int, decoder: str) -> list[str]:
    """``clip.mkv`` decoded in software beside the source: hashes, PSNR and SSIM of every frame."""
    number = f"settb=1/{rate},setpts=N"  # by number: containers round times
    graph = (
        f"[0:v]{number},split=3[a][b][h];[1:v]{number},split=2[c][d];[h]format={surface(cell['bits'])}[hash];"
        "[a][c]psnr=stats_file=psnr.log[p];[b][d]ssim=stats_file=ssim.log[s]"
    )
    return [
        *_start(ffmpeg), "-v", "error", "-c:v", decoder, "-i", "clip.mkv", *_raw(cell, rate),
        "-filter_complex", graph, "-map", "[hash]", "-f", "framemd5", "software.md5",
        "-map", "[p]", "-f", "null", "-", "-map", "[s]", "-f", "null", "-",
    ]  # fmt: skip


def decode(ffmpeg: str, path: str, bits: int, decoder: str, *, plain: bool = False) -> list[str]:
    """Frame hashes by a software decoder; ``plain``: without SIMD and on one thread, so by other code."""
    how = ["-cpuflags", "0", "-threads", "1"] if plain else []
    return [
        *_start(ffmpeg), "-v", "error", *how, "-c:v", decoder, "-i", path,
        "-vf", f"format={surface(bits)}", "-f", "framemd5", "decoded.md5",
    ]  # fmt: skip


def decode_on_card(ffmpeg: str, path: str, bits: int, codec: str) -> list[str]:
    """Frame hashes by the GPU's decoder."""
    return [
        *_start(ffmpeg), "-v", "error", *_on_card(codec), "-i", path,
        "-vf", f"hwdownload,format={surface(bits)}", "-f", "framemd5", "decoded.md5",
    ]  # fmt: skip


def loop(ffmpeg: str, cell: dict[str, Any], count: int, engine: str, by: Any) -> list[str]:
    """``count`` frames of ``clip.mkv``, over and over: decoded, or also encoded, into nothing.

    On the card the frames stay there.
    """
    reading = _on_card(cell["codec"]) if engine == "gpu" else []
    coding = _coding(cell, *by) if by else []
    return [
        *_start(ffmpeg), "-v", "info", "-benchmark", *reading, "-stream_loop", "-1", "-i", "clip.mkv",
        "-map", "0:v", "-frames:v", str(count), *coding, "-f", "null", "-",
    ]  # fmt: skip
