"""Transcoding: clips known frame by frame, encoded and decoded again.

By default on a processor one small clip, through FFV1 and H.264: seconds on an emulated guest. With
``codecs``, and always on GPUs, more codecs, sizes and depths: see ``clips.py``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from harness.errors import ConfigError, ParseError
from harness.model.evidence import Answer
from harness.model.outcome import Measurement
from harness.vendors import loads
from harness.workloads.base import (
    Job,
    Observation,
    Parsed,
    at_least,
    command,
    demanded_engine,
    exact,
    measure,
    rate,
    report_of,
    settings,
)
from harness.workloads.entries import settled
from harness.workloads.spec import WorkloadSpec
from harness.workloads.transcode.clips import Plan, judged, plan
from harness.workloads.transcode.payload.job import frames
from harness.workloads.transcode.spec import SPEC


def frame_hashes(width: int, height: int, count: int, seed: int) -> tuple[str, ...]:
    """MD5 of each frame of the clip, as ffmpeg's framemd5 muxer gives for yuv420p."""
    return tuple(
        hashlib.md5(frame, usedforsecurity=False).hexdigest() for frame in frames(width, height, count, seed)
    )


@dataclass(frozen=True, slots=True)
class Transcode:
    """ffmpeg on the CPU, or the GPU's coders through ffmpeg."""

    spec: WorkloadSpec = SPEC

    def _given(self, job: Job) -> tuple[dict[str, Any], str, Plan | None]:
        """Parameters, engine, and what goes beyond the small clip. Raises ConfigError."""
        given = settings(SPEC, job)
        if given["width"] % 2 or given["height"] % 2 or not given["width"] or not given["height"]:
            raise ConfigError("workload transcode: width and height must be even and not zero")
        if not given["frames"] or not given["rate"]:
            raise ConfigError("workload transcode: frames and rate must not be zero")
        engine = demanded_engine(job, given["engine"])
        return given, engine, plan(job, given, engine)

    def prepare(self, job: Job) -> tuple[str, ...]:
        """The payload's command line. Raises ConfigError for what no clip can have."""
        given, engine, more = self._given(job)
        arguments: dict[str, Any] = {"folder": f"{job.place.work}/{job.key}"}
        if engine == "cpu":
            names = ("width", "height", "frames", "rate", "seed", "preset", "crf")
            arguments["small"] = {**{name: given[name] for name in names}, "threads": job.vcpus}
        if more:
            arguments["clips"] = more.arguments()
        return command(job, SPEC.job, arguments)

    def parse(self, job: Job, stdout: bytes) -> Parsed:
        """Frame hashes against our own and each other, quality against its floors.

        Raises ParseError, also where something was lacking, unless an answer is wrong: that one stands.
        """
        given, demanded, more = self._given(job)
        seen, engine, versions = report_of(SPEC, stdout)
        wanted = "cpu"
        if more and demanded == "gpu":
            wanted = f"{loads.ENCODER}+{loads.DECODER}" if more.measured else loads.DECODER
        answers = [exact("engine", wanted, engine)]
        measurements: list[Measurement] = []
        unknown: list[str] = []
        if demanded == "cpu":
            some, numbers = _small(given, seen)
            answers += some
            measurements += numbers
        if more:
            others, rates = judged(more, seen, unknown)
            answers += others
            measurements += rates
        return Parsed(
            engine=engine,
            answers=settled(SPEC.name, answers, (), unknown),
            measurements=tuple(measurements),
            versions=versions,
        )


def _small(given: dict[str, Any], seen: Observation) -> tuple[tuple[Answer, ...], tuple[Measurement, ...]]:
    encode, decode = seen.seconds("encode_seconds"), seen.seconds("decode_seconds")
    psnr, ssim = _quality(seen)
    frames = given["frames"]
    return (*_frames(seen, given), *_floors(seen, given, psnr, ssim)), (
        measure("transcode.psnr_min", psnr, "dB", lower=given["min_psnr_db"]),
        measure("transcode.ssim_min", ssim, "", lower=given["min_ssim"]),
        measure("transcode.encode_rate", rate(frames, encode), "frames/s"),
        measure("transcode.decode_rate", rate(frames, decode), "frames/s"),
        measure("transcode.lossy_size", seen.number("lossy_bytes"), "B"),
    )


def _quality(seen: Observation) -> tuple[float | None, float | None]:
    psnr, ssim = seen.optional("psnr_min_db"), seen.optional("ssim_min")
    if psnr is not None and not 0 <= psnr <= 100:
        raise ParseError(f"transcode: a PSNR of {psnr:g} dB cannot be")
    if ssim is not None and not -1 <= ssim <= 1:
        raise ParseError(f"transcode: an SSIM of {ssim:g} cannot be")
    return psnr, ssim


def _frames(seen: Observation, given: dict[str, Any]) -> tuple[Answer, Answer]:
    expected = frame_hashes(given["width"], given["height"], given["frames"], given["seed"])
    got = tuple(str(value) for value in seen.items("decoded_md5"))
    first = next((n for n, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b), None)
    detail = ""
    if first is not None:
        where = (
            "the source already differed"
            if first not in seen.items("source_differs")
            else "decoding changed it"
        )
        detail = f"first wrong frame: {first}, {expected[first]} became {got[first][:40]}; {where}"
    return (
        exact("frames", given["frames"], len(got)),
        exact("frame hashes", _digest(expected), _digest(got), detail),
    )


def _digest(hashes: tuple[str, ...]) -> str:
    return hashlib.sha256("\n".join(hashes).encode("utf-8", "backslashreplace")).hexdigest()[:32]


def _floors(
    seen: Observation, given: dict[str, Any], psnr: float | None, ssim: float | None
) -> tuple[Answer, ...]:
    compared = seen.items("compared_frames")
    return (
        exact("frames compared", str([given["frames"]] * 2), str(compared)),
        at_least("PSNR of the worst frame", given["min_psnr_db"], psnr, "dB"),
        at_least("SSIM of the worst frame", given["min_ssim"], ssim, ""),
    )


WORKLOAD = Transcode()
