"""Codecs, sizes and GPUs of ``job.py``: clips encoded, decoded twice and compared; rates and streams.

Observes only. Software decoders decode reference streams first, whose frames the controller knows; then they
are what the GPU's decoder is compared with, frame by frame.
"""

from __future__ import annotations

import os
import re

from harness.payload import bounded
from harness.payload import processes as tools
from harness.vendors.payload.gpu import gpu_driver, gpu_video
from harness.vendors.payload.names import DECODER, DECODING, ENCODER
from harness.workloads.transcode.payload import ffmpeg as ff
from harness.workloads.transcode.payload import logs, source

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_HERE = os.path.dirname(os.path.abspath(__file__))
"""Where the reference streams lie."""
_TIME = re.compile(r"rtime=([0-9]+\.[0-9]+)s")
_FRAMES = re.compile(r"frame= *([0-9]+) ")
_LEFT_THE_CARD = "Failed setup for format"
"""libavcodec's words (``ff_get_format``) when it goes on in software, since the card opens no more decoders:
without ``hwdownload`` behind it, nothing else tells."""
_KEPT = 300
"""Letters of what a refused stream said: that of the first one at once, the others say the same."""


class BrokenEngine(Exception):
    """ffmpeg has what it needs, and the GPU does not do it."""


class Clips:
    """One job: what ffmpeg has, and where things are run."""

    def __init__(self, job: dict[str, Any], feed: Callable[[Any], tuple[int, int]]) -> None:
        self.job, self.feed = job, feed
        self.ffmpeg: str = tools.find("ffmpeg")
        status, said = tools.run([self.ffmpeg, "-encoders"], ".")
        self.encoders, self.version = ff.listed(said), ff.version(said)
        if status:
            raise RuntimeError(f"ffmpeg -encoders ended with status {status}: {said[-1000:]}")
        self.decoders = ff.listed(tools.run([self.ffmpeg, "-decoders"], ".")[1])
        if job["engine"] == "gpu" and DECODING not in tools.run([self.ffmpeg, "-hwaccels"], ".")[1].split():
            raise RuntimeError(f"this ffmpeg has no hardware decoding by {DECODING}")
        self.by: dict[str, tuple[str, list[str]]] = {}
        self.software: dict[str, list[str]] = {}
        try:
            for codec in job["codecs"]:
                self.by[codec] = ff.encoder(codec, job["encoder"], self.encoders)
                self.software[codec] = ff.decoders(codec, self.decoders)
        except ff.Lacking as error:
            raise RuntimeError(str(error)) from error
        self.environment: dict[str, str] = {}

    def on(self, address: str) -> None:
        """All that follows runs on this GPU."""
        try:
            self.environment = gpu_driver.visible(address)
        except bounded.Unable as error:
            raise RuntimeError(f"{address}: {error}") from error
        except bounded.Failure as error:
            raise BrokenEngine(f"{address}: {error}") from error

    def failure(self, why: str, said: str, *, gpu: bool) -> Exception:
        """What ffmpeg's failure is: of the GPU, unless its words speak of something else."""
        other = gpu_video.no_fault(said) if gpu else ""
        if other:
            return RuntimeError(f"{other}. {why}")
        return BrokenEngine(why) if gpu else RuntimeError(why)

    def run(self, argv: list[str], what: str, *, gpu: bool, stdin: int | None = None) -> str:
        """Run ffmpeg; what it said. When it fails: BrokenEngine if the GPU may be why, else RuntimeError."""
        status, said = tools.run(argv, ".", environment=self.environment, stdin=stdin)
        if status:
            why = f"{what} ended with status {status}: {said.strip()[-1500:]}"
            raise self.failure(why, said, gpu=gpu)
        return str(said)

    def fed(self, cell: dict[str, Any], argv: list[str], what: str, *, gpu: bool) -> None:
        """Run ffmpeg with the clip's frames on its standard input."""
        job = self.job
        drawn = source.frames(cell["width"], cell["height"], cell["bits"], job["frames"], job["seed"])
        pid, pipe = self.feed(drawn)
        try:
            self.run(argv, what, gpu=gpu, stdin=pipe)
        finally:
            os.close(pipe)
            drawn_status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if drawn_status:
            raise RuntimeError(f"the clip could not be drawn: status {drawn_status}")

    def decoded(self, codec: str, bits: int, path: str, where: str) -> list[str]:
        """Frame hashes by what is compared with the first software decoder: the GPU's, or other software."""
        names = self.software[codec]
        if self.job["engine"] == "gpu":
            argv = ff.decode_on_card(self.ffmpeg, path, bits, codec)
            self.run(argv, f"decoding {codec} on the GPU{where}", gpu=True)
        else:
            argv = ff.decode(self.ffmpeg, path, bits, names[-1], plain=True)
            self.run(argv, f"decoding {codec} a second time", gpu=False)
        return list(logs.hashes("decoded.md5"))

    def reference(self, codec: str, bits: int, where: str) -> dict[str, Any]:
        """Both decoders on a stream whose frames the controller knows."""
        path = os.path.join(_HERE, f"transcode-{codec}.mkv")
        self.run(ff.decode(self.ffmpeg, path, bits, self.software[codec][0]), f"decoding {codec}", gpu=False)
        return {
            "codec": codec,
            "software": logs.hashes("decoded.md5"),
            "decoded": self.decoded(codec, bits, path, where),
        }

    def cell(self, cell: dict[str, Any], where: str) -> dict[str, Any]:
        """Encode one clip, decode it twice, compare. Leaves ``clip.mkv``."""
        job, codec = self.job, cell["codec"]
        on_gpu = job["encoder"] == "gpu"
        argv = ff.encode(self.ffmpeg, cell, job["rate"], self.by[codec])
        self.fed(cell, argv, f"encoding {codec} by {self.by[codec][0]}{where}", gpu=on_gpu)
        argv = ff.compare(self.ffmpeg, cell, job["rate"], self.software[codec][0])
        self.fed(cell, argv, f"comparing {codec}", gpu=False)
        return {
            "codec": codec,
            "width": cell["width"],
            "height": cell["height"],
            "source": logs.hashes("source.md5"),
            "software": logs.hashes("software.md5"),
            "decoded": self.decoded(codec, cell["bits"], "clip.mkv", where),
            "psnr": logs.values("psnr.log", "psnr_avg"),
            "ssim": logs.values("ssim.log", "All"),
            "bytes": os.path.getsize("clip.mkv"),
        }

    def played(self, cell: dict[str, Any], count: int, *, coding: bool, streams: int = 1) -> list[Any]:
        """That many at once of ``count`` frames each: [frames, seconds], or why one does not count."""
        job, by = self.job, self.by[cell["codec"]] if coding else None
        argv = ff.loop(self.ffmpeg, cell, count, job["engine"], by)
        logs = [f"stream-{n}.log" for n in range(streams)]
        pids = [tools.start(argv, log, self.environment) for log in logs]
        found: list[Any] = []
        for pid, log in zip(pids, logs, strict=True):
            status, said = tools.finish(pid, log)
            frames, spent = _FRAMES.findall(said), _TIME.search(said)
            fell = job["engine"] == "gpu" and _LEFT_THE_CARD in said
            if status or fell or not frames or not spent:
                why = (
                    f"decoded in software: {said[said.find(_LEFT_THE_CARD) :]}"
                    if fell
                    else gpu_video.telling(said, _KEPT)
                )
                first = not any(isinstance(result, str) for result in found)
                found.append(f"status {status}" + (f": {why[:_KEPT]}" if first else ""))
            else:
                found.append([int(frames[-1]), float(spent[1])])
        return found

    def rates(self, cell: dict[str, Any], where: str) -> dict[str, Any]:
        """Frames per second of one stream, and tries with more and more at once."""
        job = self.job
        (decode,) = self.played(cell, job["rate_frames"], coding=False)
        encode, tries = None, []
        if job["engine"] == job["encoder"]:
            (encode,) = self.played(cell, job["rate_frames"], coding=True)
            tries = self.search(cell)
        for what, result in (("decoding", decode), ("encoding", encode)):
            if isinstance(result, str):
                why = f"{what} {cell['codec']}{where}: {result}"
                raise self.failure(why, result, gpu=job["engine"] == "gpu")
        return {"codec": cell["codec"], "decode": decode, "encode": encode, "tries": tries}

    def search(self, cell: dict[str, Any]) -> list[dict[str, Any]]:
        """Double the streams until one is slower than real time or refused, then halve the gap."""
        job, tries = self.job, []
        good, bad, now = 0, job["max_streams"] + 1, 1
        while good + 1 < bad:
            results = self.played(cell, job["rate"] * job["stream_seconds"], coding=True, streams=now)
            tries.append({"streams": now, "results": results})
            fast = all(not isinstance(r, str) and r[0] >= job["rate"] * r[1] for r in results)
            good, bad = (now, bad) if fast else (good, now)
            now = min(2 * good, bad - 1) if bad > job["max_streams"] else (good + bad) // 2
        return tries

    def gpu_or_cpu(self, address: str) -> dict[str, Any]:
        """All that one GPU, or the processor, did; with ``unable`` as much as went before what was lacking.

        Raises BrokenEngine.
        """
        seen: dict[str, Any] = {"address": address, "references": [], "cells": [], "rates": []}
        try:
            self._everything(address, seen)
        except (RuntimeError, OSError, ValueError) as error:
            seen["unable"] = str(error)[-3000:]
        return seen

    def _everything(self, address: str, seen: dict[str, Any]) -> None:
        job, where = self.job, f" on {address}" if address else ""
        if address:
            self.on(address)
        bits = {cell["codec"]: cell["bits"] for cell in job["cells"]}
        if job["encoder"] == "gpu":
            for codec, (name, options) in self.by.items():
                argv = ff.probe(self.ffmpeg, name, options, bits[codec])
                self.run(argv, f"one second of {name}{where}", gpu=True)
        for codec in job["codecs"]:
            seen["references"].append(self.reference(codec, bits[codec], where))
        measured = set()
        for cell in job["cells"]:
            seen["cells"].append(self.cell(cell, where))
            if cell["codec"] not in measured:
                measured.add(cell["codec"])
                seen["rates"].append(self.rates(cell, where))


def observe(job: dict[str, Any], feed: Any) -> tuple[list[Any], str, str]:
    """Every GPU of the job in turn, or the processor: the devices' observations, engine, ffmpeg's version.

    Raises MissingTool, RuntimeError (nothing could be done here) or BrokenEngine.
    """
    clips = Clips(job, feed)
    devices = [clips.gpu_or_cpu(address) for address in (job["addresses"] or [""])]
    if not any(device["references"] for device in devices):
        raise RuntimeError("; ".join(device["unable"] for device in devices))
    engine = (
        "cpu" if job["engine"] == "cpu" else f"{ENCODER}+{DECODER}" if job["encoder"] == "gpu" else DECODER
    )
    return devices, engine, clips.version
