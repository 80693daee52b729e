"""Transcoding in the guest: one clip encoded losslessly and lossily, both decoded again and compared.

Usage: ``job.main(JSON)`` with the parameters of ``harness.workloads.transcode``. Prints one line of
strict JSON: what was observed. Exit status 3: it could not be done here; 4: the demanded GPU does not do it.
Codecs, large sizes and GPUs are in ``clips.py``. For the small clip two ffmpeg processes do
everything, since starting ffmpeg (some 150 shared libraries) is what costs on an emulated guest.

The clip is drawn here from integers only, not by a filter of ffmpeg, so that the controller knows every
frame's MD5 without ffmpeg and whatever its version.
"""

from __future__ import annotations

import json
import os
import sys
import time

from harness.payload import processes as tools
from harness.workloads.transcode.payload import logs

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


def frames(width: int, height: int, count: int, seed: int) -> Iterator[bytes]:
    """``count`` yuv420p frames: a soft texture whose rows drift at different speeds, and moving chroma."""
    base, value = bytearray(), seed & 0x7FFFFFFF
    for x in range(width):
        value = (value * 1103515245 + 12345) & 0x7FFFFFFF
        base.append(32 + abs((x * 5) % 320 - 160) + (value >> 16) % 17)
    row, chroma = bytes(base) * 2, bytes(64 + abs(x * 2 % 256 - 128) for x in range(width)) * 2
    for n in range(count):
        parts = []
        for y in range(height):
            at = (y * 3 + n * (2 + y // 32 % 3) + seed) % width
            parts.append(row[at : at + width])
        for plane in (1, 2):
            for y in range(height // 2):
                at = (y + n * plane + seed) % width
                parts.append(chroma[at : at + width // 2])
        yield b"".join(parts)


def pour(drawn: Iterator[bytes], descriptor: int) -> None:
    """Write all frames to a pipe."""
    with os.fdopen(descriptor, "wb") as pipe:
        for frame in drawn:
            pipe.write(frame)


def feed(drawn: Iterator[bytes]) -> tuple[int, int]:
    """Start a process that draws the clip; returns its pid and the pipe's reading end."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reading)
            pour(drawn, writing)
            status = 0
        except BrokenPipeError:
            pass  # ffmpeg ended early and says why itself
        finally:
            os._exit(status)
    os.close(writing)
    return pid, reading


def encode_argv(job: dict[str, Any], ffmpeg: str) -> list[str]:
    """Raw frames in; FFV1, H.264 and the frame hashes of the source out."""
    size, rate = f"{job['width']}x{job['height']}", str(job["rate"])
    exact = ["-flags", "+bitexact", "-fflags", "+bitexact"]
    return [
        ffmpeg, "-nostdin", "-nostats", "-v", "info", "-y",
        "-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", size, "-r", rate, "-i", "pipe:0",
        "-map", "0:v", "-c:v", "ffv1", "-threads", "1", *exact, "lossless.mkv",
        "-map", "0:v", "-c:v", "libx264", "-preset", str(job["preset"]), "-crf", str(job["crf"]),
        "-threads", str(job["threads"]), *exact, "lossy.mkv",
        "-map", "0:v", "-f", "framemd5", "source.md5",
    ]  # fmt: skip


def decode_argv(ffmpeg: str) -> list[str]:
    """Both files in; frame hashes of the lossless one, PSNR and SSIM of the lossy one against it out."""
    graph = (
        "[0:v]split=3[hash][r1][r2];[1:v]split[l1][l2];"
        "[l1][r1]psnr=stats_file=psnr.log[p];[l2][r2]ssim=stats_file=ssim.log[s]"
    )
    return [
        ffmpeg, "-nostdin", "-nostats", "-v", "error", "-y", "-threads", "1", "-i", "lossless.mkv",
        "-threads", "1", "-i", "lossy.mkv", "-filter_complex", graph,
        "-map", "[hash]", "-f", "framemd5", "decoded.md5",
        "-map", "[p]", "-f", "null", "-", "-map", "[s]", "-f", "null", "-",
    ]  # fmt: skip


def observe(job: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Encode, decode, compare. Raises RuntimeError when ffmpeg fails."""
    ffmpeg = tools.find("ffmpeg")
    started = time.monotonic()
    pid, pipe = feed(frames(job["width"], job["height"], job["frames"], job["seed"]))
    status, said = tools.run(encode_argv(job, ffmpeg), ".", stdin=pipe)
    os.close(pipe)
    drawn = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    encoded = time.monotonic()
    if status or drawn:
        raise RuntimeError(f"ffmpeg ended with status {status} while encoding: {said[-2000:]}")
    version = said.split("version ", 1)[-1].split(" ", 1)[0] if "ffmpeg version " in said else "unknown"
    status, said = tools.run(decode_argv(ffmpeg), ".")
    decoded = time.monotonic()
    if status:
        raise RuntimeError(f"ffmpeg ended with status {status} while decoding: {said[-2000:]}")
    psnr, ssim = logs.values("psnr.log", "psnr_avg"), logs.values("ssim.log", "All")
    source, result = logs.hashes("source.md5"), logs.hashes("decoded.md5")
    observed = {
        "frames": len(result),
        "decoded_md5": result,
        "source_differs": [
            n for n, pair in enumerate(zip(source, result, strict=False)) if len(set(pair)) > 1
        ][:20],
        "source_frames": len(source),
        "compared_frames": [len(psnr), len(ssim)],
        "psnr_min_db": min(psnr, default=None),
        "psnr_mean_db": sum(psnr) / len(psnr) if psnr else None,
        "ssim_min": min(ssim, default=None),
        "lossless_bytes": os.path.getsize("lossless.mkv"),
        "lossy_bytes": os.path.getsize("lossy.mkv"),
        "encode_seconds": encoded - started,
        "decode_seconds": decoded - encoded,
    }
    return observed, {"ffmpeg": version, "python": sys.version.split()[0]}


def main(argument: str) -> None:
    """Run with the parameters in ``argument`` (JSON) and print the observation."""
    job = json.loads(argument)
    tools.clear(job["folder"])
    os.chdir(job["folder"])
    broken: Any = ()
    try:
        observed: dict[str, Any] = {}
        engine, versions = "cpu", {"python": sys.version.split()[0]}
        if "small" in job:
            observed, versions = observe(job["small"])
        if "clips" in job:
            from harness.workloads.transcode.payload import clips

            broken = clips.BrokenEngine
            observed["devices"], engine, versions["ffmpeg"] = clips.observe(job["clips"], feed)
    except (tools.MissingTool, RuntimeError, OSError, ValueError) as error:
        print(json.dumps({"payload": "transcode", "error": str(error)[-3000:]}), flush=True)
        sys.exit(3)
    except broken as error:
        print(json.dumps({"payload": "transcode", "error": str(error)[-3000:]}), flush=True)
        sys.exit(4)
    result = {"payload": "transcode", "engine": engine, "observed": observed, "versions": versions}
    print(json.dumps(result, allow_nan=False), flush=True)
    tools.clear(".")
