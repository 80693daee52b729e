"""Game streaming: each picture carries a counter, and what arrives is held against what was sent.

A picture is drawn, encoded, sent as RTP over the guest's own loopback, received, decoded and read. The
end-to-end latency of a picture is from the begin of its drawing to the moment its counter has been read; both
ends are of one clock. ffmpeg's receiver knows a picture to be whole when the next one begins, so one interval
(16.7 ms at 60 Hz) is part of every latency here, as it is of any player built on it.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import math
import statistics
import struct
import zlib
from collections.abc import Iterator, Mapping
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
    at_most,
    command,
    demanded_engine,
    exact,
    gpus,
    measure,
    rate,
    report_of,
    settings,
)
from harness.workloads.entries import entries, settled
from harness.workloads.spec import WorkloadSpec
from harness.workloads.stream.spec import SPEC

_PASSED = ("source", "width", "height", "rate", "frames", "seed", "start_seconds", "drain_seconds",
           "stall_seconds", "cubes", "driver", "packages")  # fmt: skip
"""Parameters that the payload is given."""
_TRAILING = 1 << 22
"""Counters from here on are outside of the stream that counts, see the payload."""
_FRAMES = 40_000
"""Pictures of all GPUs together: their times must fit into a job's collected output (1 MiB)."""
_SAMPLE_BYTES = 225_000
_GOLDEN_PIXELS = 1 << 25
"""Of all samples of rendered pictures: the controller takes nearly 2 s for a million."""
_POINTS = 14_400
_THREADS = 8
"""More slices of one picture than that cost quality and bring nothing."""
_AUTO_BITS = 0.27
_LEAST_ON_GPU = (192, 160)
"""Pixels. The encoder refuses less than some 145 x 145, by model ("Frame Dimension less than the minimum
supported value", github.com/tritant/ComfyUI_MiniMax_H3_Extender/issues/44)."""
_LEAST_KBPS = 200


@dataclass(frozen=True, slots=True)
class Stream:
    """ffmpeg on both ends: libx264 and its decoder, or the GPU's coders."""

    spec: WorkloadSpec = SPEC

    def prepare(self, job: Job) -> tuple[str, ...]:
        """The payload's command line. Raises ConfigError for what cannot be streamed or told."""
        given = settings(SPEC, job)
        engine = demanded_engine(job, given["engine"])
        if given["source"] not in ("drawn", "render"):
            raise ConfigError("workload stream: source must be drawn or render")
        pixels = given["width"] * given["height"] * given["samples"]
        if given["width"] % 2 or given["height"] % 2 or given["width"] < 64 or given["height"] < 48:
            raise ConfigError("workload stream: width and height must be even, at least 64 x 48")
        if engine == "gpu" and (given["width"] < _LEAST_ON_GPU[0] or given["height"] < _LEAST_ON_GPU[1]):
            least = f"{_LEAST_ON_GPU[0]} x {_LEAST_ON_GPU[1]}"
            raise ConfigError(
                f"workload stream: {loads.ENCODER_WORD} encodes no pictures below some size: at least {least}"
            )
        if given["source"] == "render" and pixels > _GOLDEN_PIXELS:
            raise ConfigError("workload stream: at most 32 Mi rendered pixels in samples, drawn here, too")
        if given["width"] > 4096 or given["height"] > 4096:
            raise ConfigError("workload stream: width and height of at most 4096, as H.264 encoders take")
        addresses = [str(d.address) for d in gpus(job)] if engine == "gpu" else []
        if given["frames"] < 2 or given["frames"] * max(1, len(addresses)) > _FRAMES:
            raise ConfigError(f"workload stream: at least 2 frames, and {_FRAMES} of all GPUs together")
        if not 1 <= given["rate"] <= 240 or not 1 <= given["samples"] <= min(20, given["frames"]):
            raise ConfigError("workload stream: 1 to 240 Hz, and 1 to 20 samples of its frames")
        automatic = round(given["width"] * given["height"] * given["rate"] * _AUTO_BITS / 1000)
        more = {
            "gpus": addresses,
            "kbps": given["kbps"] or max(_LEAST_KBPS, automatic),
            "samples": _wanted(given),
            "step": _step(given, max(1, len(addresses))),
            "threads": min(job.vcpus, _THREADS),
            "work": 0,
            "folder": f"{job.place.work}/{job.key}",
        }
        return command(job, SPEC.job, {**{name: given[name] for name in _PASSED}, **more})

    def parse(self, job: Job, stdout: bytes) -> Parsed:
        """Counters, times and samples against what was to be sent. Raises ParseError."""
        given = settings(SPEC, job)
        engine = demanded_engine(job, given["engine"])
        seen, _, versions = report_of(SPEC, stdout)
        wanted = [str(d.address) for d in gpus(job)] if engine == "gpu" else ["cpu"]
        answers: list[Answer] = []
        measurements: list[Measurement] = []
        worked: set[str] = set()  # of each device: what it says counts, and nothing said of all of them
        found, unknown = entries("stream", seen, wanted), list[str]()
        for entry in found:
            where, observed = f" on {entry.name}", entry.observed
            answers += entry.finished
            if observed is not None:
                told = _Told(observed, given["frames"])
                worked.add(observed.text("engine")[:80])
                answers.append(exact(f"encoder{where}", _engine(given, engine), observed.text("engine")))
                step = _step(given, len(wanted))
                seen_there = [*_judged(told, given, where), *_likeness(observed, given, step, where)]
                deaf = _deaf(observed.integer("unheard"), seen_there)
                unknown += [f"{entry.name} {words}" for words in (deaf, _slow(told, given)) if words]
                answers += [answer for answer in seen_there if answer.ok or not deaf]
                subject = entry.name if engine == "gpu" else ""
                measurements += told.measured(subject, observed.seconds("start_seconds"))
        return Parsed(
            engine="+".join(sorted(worked)),
            answers=settled("stream", answers, found, unknown),
            measurements=tuple(measurements),
            versions=versions,
        )


def _wanted(given: Mapping[str, Any]) -> list[int]:
    """Numbers of the pictures of which some pixels come along: spread evenly, the first among them."""
    return [n * given["frames"] // given["samples"] for n in range(given["samples"])]


def _step(given: Mapping[str, Any], devices: int) -> int:
    """Each how many-th pixel of each how many-th row of a plane is sampled; chroma adds half of luma's."""
    points = min(_POINTS, _SAMPLE_BYTES * 2 // (3 * given["samples"] * devices))
    return math.ceil(math.sqrt(given["width"] * given["height"] / points))


def _engine(given: Mapping[str, Any], engine: str) -> str:
    drawer = loads.DRAWER if engine == "gpu" else f"opengl:{given['driver']}"
    coder = loads.ENCODER if engine == "gpu" else "cpu"
    return f"{drawer}+{coder}" if given["source"] == "render" else coder


def _unsqueezed(text: str, most: int) -> bytes:
    """Raises ParseError for more than ``most`` bytes or what cannot be unpacked."""
    try:
        stream = zlib.decompressobj()
        raw = stream.decompress(base64.b64decode(text, validate=True), most + 1)
    except (zlib.error, binascii.Error, ValueError) as error:
        raise ParseError(f"stream: a list cannot be unpacked: {error}") from error
    if len(raw) > most or not stream.eof:
        raise ParseError(f"stream: a list is longer than {most} bytes or torn")
    return raw


def _unpacked(text: str, most: int) -> list[int]:
    raw = _unsqueezed(text, 8 * most)
    if len(raw) % 8:
        raise ParseError("stream: a list is torn")
    return list(itertools.accumulate(struct.unpack(f"<{len(raw) // 8}q", raw)))


class _Told:
    """When which picture was begun and which arrived, and what follows from that."""

    def __init__(self, observed: Observation, frames: int) -> None:
        self.sent = _unpacked(observed.text("sent"), frames + 1)
        most = 3 * frames + 100_000
        times, counters = (_unpacked(observed.text(name), most) for name in ("times", "counters"))
        if len(times) != len(counters):
            raise ParseError(f"stream: {len(times)} times of {len(counters)} arrivals")
        for name, values in (("begun", self.sent), ("arrived", times)):
            if any(later < earlier for earlier, later in itertools.pairwise(values)):
                raise ParseError(f"stream: the times at which pictures {name} go backwards")
        if any(not -1 <= counter < 1 << 24 for counter in counters):
            raise ParseError("stream: a counter that has no 24 bits")
        self.corrupt = counters.count(-1)
        self.stray = [n for n in counters if len(self.sent) <= n < _TRAILING]
        self.first: dict[int, int] = {}
        self.repeated = self.disordered = 0
        newest = -1
        for at, number in zip(times, counters, strict=True):
            if not 0 <= number < len(self.sent):
                continue
            if number in self.first:
                self.repeated += 1
                continue
            if at < self.sent[number]:
                raise ParseError(f"stream: picture {number} arrived before it was started")
            self.disordered += number < newest
            newest = max(newest, number)
            self.first[number] = at

    @property
    def dropped(self) -> int:
        """Pictures that never arrived whole."""
        return len(self.sent) - len(self.first)

    def rate(self) -> float | None:
        """Pictures begun per second."""
        return rate(len(self.sent) - 1, (self.sent[-1] - self.sent[0]) / 1e6) if self.sent else None

    def measured(self, subject: str, start: float) -> Iterator[Measurement]:
        """Latencies and jitter in ms, counts. Percentiles are nearest ranks."""
        late = sorted((at - self.sent[number]) / 1e3 for number, at in self.first.items())
        pairs = itertools.pairwise(sorted(self.first))
        delays = [at - self.sent[number] for number, at in sorted(self.first.items())]
        # RFC 3550, section 6.4.1: how much farther apart two neighbours arrived than they were sent.
        drift = [
            (later - earlier) / 1e3
            for (one, other), (earlier, later) in zip(pairs, itertools.pairwise(delays), strict=True)
            if other == one + 1
        ]
        yield measure("stream.latency_p50", _rank(late, 0.5), "ms", subject=subject)
        yield measure("stream.latency_p99", _rank(late, 0.99), "ms", subject=subject)
        yield measure("stream.jitter", statistics.pstdev(drift) if drift else None, "ms", subject=subject)
        apart = _rank(sorted(abs(value) for value in drift), 0.99)
        yield measure("stream.jitter_p99", apart, "ms", subject=subject)
        yield measure("stream.dropped", float(self.dropped), "1", subject=subject)
        yield measure("stream.duplicated", float(self.repeated), "1", subject=subject)
        yield measure("stream.rate", self.rate(), "1/s", subject=subject)
        yield measure("stream.start_time", start, "s", subject=subject)


def _rank(ordered: list[float], share: float) -> float | None:
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else None


def _judged(told: _Told, given: dict[str, Any], where: str) -> Iterator[Answer]:
    frames = given["frames"]
    yield exact(f"pictures sent{where}", frames, len(told.sent))
    yield exact(f"pictures whose counter is corrupt{where}", 0, told.corrupt)
    detail = f"first: {told.stray[0]}" if told.stray else ""
    yield exact(f"counters that were never sent{where}", 0, len(told.stray), detail)
    yield exact(f"pictures out of order{where}", 0, told.disordered)
    missing = next((n for n in range(frames) if n not in told.first), None)
    detail = "" if missing is None else f"{told.dropped} of {frames}, the first is number {missing}"
    share = 1 - len(told.first) / frames
    yield at_most(f"share of pictures that never arrived{where}", given["max_dropped_share"], share, detail)
    share, bound = told.repeated / frames, given["max_duplicated_share"]
    yield at_most(f"share of pictures that arrived twice{where}", bound, share)


def _slow(told: _Told, given: dict[str, Any]) -> str:
    """Why this was no stream of the demanded rate; empty when it was.

    Drawing, copying and converting pictures is the processors' work: a GPU is not to blame.
    """
    rate, least = told.rate(), given["rate"] * given["min_rate_share"]
    if rate is not None and rate >= least:
        return ""
    return (
        f"sent {rate or 0:.4g} pictures a second, but {least:g} are required: give the machine more "
        "CPUs, or the stream fewer pixels or pictures"
    )


def _deaf(unheard: int, answers: list[Answer]) -> str:
    """Why wrong answers of this stream accuse no GPU; empty when there are none, or they do.

    The kernel counts the packets that it threw away since the receiver did not fetch them in time: a key
    frame may fill its buffer, of which most machines grant no more than ``net.core.rmem_max``, 208 KiB.
    """
    wrong = [answer.name for answer in answers if not answer.ok]
    if not unheard or not wrong:
        return ""
    return (
        f"lost {unheard} packets inside the machine, which explains {wrong[0]!r}: give the machine more "
        "CPUs or a larger net.core.rmem_max, or the stream fewer kbps"
    )


def _likeness(observed: Observation, given: dict[str, Any], step: int, where: str) -> Iterator[Answer]:
    """Sampled pixels of received pictures, plane by plane, against those of the pictures as drawn here."""
    import numpy as np  # noqa: PLC0415

    from harness.workloads.render import likeness as ssim  # noqa: PLC0415
    from harness.workloads.stream import golden as stream_golden  # noqa: PLC0415

    about = (given["width"], given["height"], given["seed"])
    seen: list[int] = []
    worst = math.inf
    for pair in observed.items("samples"):
        if not isinstance(pair, list) or len(pair) != 2:
            raise ParseError("stream: a sample is not a pair")
        sample = Observation({"number": pair[0], "pixels": pair[1]}, "stream.samples")
        number = sample.integer("number")
        if number >= given["frames"] or number in seen or len(seen) >= given["samples"]:
            raise ParseError(f"stream: a sample of picture {number}")
        seen.append(number)
        if given["source"] == "drawn":
            golden = stream_golden.drawn(*about, number)
        else:
            golden = stream_golden.rendered(*about, given["cubes"], number)
        wanted = [plane[::step, ::step] for plane in golden]
        size = sum(plane.size for plane in wanted)
        raw = _unsqueezed(sample.text("pixels"), size)
        if len(raw) != size:
            raise ParseError(f"stream: a sample of {len(raw)} pixels instead of {size}")
        ends = list(itertools.accumulate(plane.size for plane in wanted))[:-1]
        for plane, got in zip(wanted, np.split(np.frombuffer(raw, np.uint8), ends), strict=True):
            worst = min(worst, ssim.psnr(got, plane.reshape(-1)))
    yield exact(f"pictures sampled{where}", given["samples"], len(seen))
    value = worst if seen else None
    yield at_least(f"PSNR of the worst sampled picture{where}", given["min_psnr_db"], value, "dB")


WORKLOAD = Stream()
