"""An ffmpeg with an NVIDIA card for tests: its words and its refusals, over the real ffmpeg's work.

``h264_nvenc`` becomes libx264 and so on; decoding by cuda becomes decoding in software. ``ffmpeg.json``
beside it names the ``real`` one, the folder of ``lists``, and what is wrong:

- ``missing``: encoders that are not listed; ``refuse``: words of a card that opens no encoder;
- ``flip``: [file, frame, bit]: that bit of that frame comes wrong out of the card;
- ``lose``: true: the card's decoder leaves out the last frame;
- ``full``: CUDA's name of a card whose memory others hold, so that it decodes no clip;
- ``bitrate``: factor on what encoders are told; ``broken``: true, or its words: the card decodes nothing;
- ``capacity`` and ``sessions``: streams that keep up with real time, and that can be open, of those at once;
  ``decoders``: streams that the card decodes; the others are decoded in software without an end.

A card that CUDA_VISIBLE_DEVICES does not name by its UUID is not there. Which cards were asked is
written to ``ffmpeg.log``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
INSTEAD = {
    "h264_nvenc": ["libx264", "-preset", "ultrafast"],
    "hevc_nvenc": ["libx265", "-preset", "ultrafast", "-x265-params", "log-level=error"],
    "av1_nvenc": ["libsvtav1", "-preset", "10"],
}
PLANAR = {"nv12": "yuv420p", "p010le": "yuv420p10le"}
MISSING_CARD = """[{name} @ 0x55b2898f0a40] {words}
Error initializing output stream 0:0 -- Error while opening encoder for output stream #0:0 - maybe incorrect \
parameters such as bit_rate, rate, width or height
Conversion failed!"""


def translated(argv: list[str], told: dict[str, Any]) -> list[str]:
    """The same command for an ffmpeg without a card."""
    words, out = list(argv), []
    on_card = any(word in INSTEAD for word in words)
    while words:
        word = words.pop(0)
        if word in ("-hwaccel", "-hwaccel_output_format"):
            words.pop(0)
        elif word == "-c:v" and words[0] == "av1":
            out += ["-c:v", "libdav1d"]
            words.pop(0)
        elif word == "-c:v" and words[0] in INSTEAD:
            out += ["-c:v", *INSTEAD[words.pop(0)]]
            del words[:2]  # -preset p4
        elif on_card and word == "-pix_fmt" and words[0] in PLANAR:
            out += [word, PLANAR[words.pop(0)]]
        elif "libsvtav1" in out and word in ("-maxrate", "-bufsize"):
            words.pop(0)
        elif word in ("-b:v", "-maxrate", "-bufsize"):
            out += [word, str(int(int(words.pop(0)) * told.get("bitrate", 1)))]
        else:
            out.append(word.removeprefix("hwdownload,"))
    return out


def listing(what: str, told: dict[str, Any]) -> int:
    """As ffmpeg 5.1 of Debian 12 lists it, with a newer one's AV1 encoder and without the ``missing``."""
    lines = (Path(told["lists"]) / f"ffmpeg{what}.txt").read_text(encoding="utf-8").splitlines()
    if what == "-encoders":
        lines.append(" V....D av1_nvenc            NVIDIA NVENC av1 encoder (codec av1)")
        lines = [line for line in lines if not set(line.split()) & set(told.get("missing", []))]
    print("\n".join(lines))
    return 0


def refused(argv: list[str], told: dict[str, Any]) -> str:
    """What the card says instead of working; empty when it works."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if not re.fullmatch(r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", seen):
        return "dl_fn->cuda_dl->cuInit(0) failed -> CUDA_ERROR_NO_DEVICE: no CUDA-capable device is detected"
    name = next((word for word in argv if word in INSTEAD), "")
    if name and told.get("refuse"):
        return str(told["refuse"])
    if name and _stream() >= told.get("sessions", 1000):
        return "OpenEncodeSessionEx failed: out of memory (10): (no details)"
    if not name and "clip.mkv" in argv and seen == told.get("full"):
        return "cu->cuMemAlloc(&dptr, size) failed -> CUDA_ERROR_OUT_OF_MEMORY: out of memory"
    if not name and told.get("broken"):
        words = "decoder->cvdl->cuvidCreateDecoder(&decoder->decoder, params) failed -> CUDA_ERROR_UNKNOWN"
        return words if told["broken"] is True else str(told["broken"])
    return ""


def _stream() -> int:
    """The number of this stream among those at once: it stands in the name of its log."""
    found = re.search(r"stream-([0-9]+)\.log$", str(Path("/proc/self/fd/1").readlink()))
    return int(found[1]) if found else 0


def played(argv: list[str], told: dict[str, Any]) -> int:
    """Frames into nothing: real time is kept or not, by ``capacity`` and not by this machine."""
    frames = int(argv[argv.index("-frames:v") + 1])
    coding = any(word in INSTEAD for word in argv)
    slow = coding and _stream() >= told.get("capacity", 1000)
    if _stream() >= told.get("decoders", 1000):
        print("[h264 @ 0x5581c2c43f40] Failed setup for format cuda: hwaccel initialisation returned error.")
    print(f"frame={frames:5} fps=0.0 q=-0.0 Lsize=N/A time=00:00:02.40 bitrate=N/A speed= 194x")
    print(f"bench: utime=0.012s stime=0.000s rtime={frames / (24.9 if slow else 100):.3f}s")
    return 0


def spoil(argv: list[str], told: dict[str, Any]) -> None:
    """Make what came off the card wrong in the way asked for."""
    if told.get("lose"):
        lines = Path(argv[-1]).read_text(encoding="ascii").splitlines()
        Path(argv[-1]).write_text("\n".join(lines[:-1]) + "\n", encoding="ascii")
    file, frame, bit = told.get("flip", ["", 0, 0])
    if Path(argv[argv.index("-i") + 1]).name != file:
        return
    command = [*translated(argv, told)[:-3], "-f", "rawvideo", "pipe:1"]
    raw = subprocess.run([told["real"], *command], capture_output=True, check=True).stdout
    lines = Path(argv[-1]).read_text(encoding="ascii").splitlines()
    at = [n for n, line in enumerate(lines) if not line.startswith("#")]
    size = len(raw) // len(at)
    picture = bytearray(raw[frame * size : (frame + 1) * size])
    right = hashlib.md5(picture, usedforsecurity=False).hexdigest()
    assert lines[at[frame]].endswith(right)
    picture[bit // 8 % size] ^= 1 << bit % 8
    spoilt = hashlib.md5(picture, usedforsecurity=False).hexdigest()
    lines[at[frame]] = lines[at[frame]].replace(right, spoilt)
    Path(argv[-1]).write_text("\n".join(lines) + "\n", encoding="ascii")


def main(argv: list[str]) -> int:
    """Do what ffmpeg would."""
    told = json.loads((HERE / "ffmpeg.json").read_text(encoding="utf-8"))
    if len(argv) == 1:
        return listing(argv[0], told)
    on_card = "-hwaccel" in argv or any(word in INSTEAD for word in argv)
    if on_card:
        with (HERE / "ffmpeg.log").open("a", encoding="ascii") as log:
            log.write(os.environ.get("CUDA_VISIBLE_DEVICES", "") + "\n")
        words = refused(argv, told)
        if words:
            print(MISSING_CARD.format(name="h264_nvenc", words=words))
            return 1
        if "-stream_loop" in argv:
            return played(argv, told)
    elif any(word.startswith("hwdownload") for word in argv):
        print("Impossible to convert between the formats supported by the filter")
        return 1
    done = subprocess.run([told["real"], *translated(argv, told)], check=False)
    if on_card and done.returncode == 0 and argv[-1].endswith("decoded.md5"):
        spoil(argv, told)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
