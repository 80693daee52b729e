"""The widened transcode: which clips are asked for, and what is made of what came back.

Proven, and by what:

- software decoders: they decode reference streams to frames the controller knows (``REFERENCES``);
- the GPU's decoder: the same references, and every frame of every clip as the software decoder has it
  (on a processor alone: the same decoder without SIMD on one thread, or another decoder, in its place);
- encoders: PSNR and SSIM of each frame against the source at no more than the stated bit rate, the source's
  own frames being those the controller draws;
- streams: every one of so many at once kept up with real time, by ffmpeg's own clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import ConfigError, ParseError
from harness.model.evidence import Answer
from harness.model.outcome import Measurement
from harness.vendors import loads
from harness.workloads.base import Job, Observation, at_least, at_most, exact, gpus, measure, rate
from harness.workloads.transcode.golden import REFERENCES, source_hashes

CODECS = tuple(REFERENCES)
"""``hevc10`` and ``av110`` have ten bits a sample; H.264 has none of those on GPUs' engines."""
_ON_GPUS = "h264,hevc"
_MOST_FRAMES = 6000
"""Frames of all clips on all GPUs."""
_FRAME_BYTES, _STREAM_BYTES, _MOST_BYTES = 3 * 36, 20, 1_000_000
"""What a frame's three hashes and a stream's result take of the output, of which 1 MiB comes back."""
_OVERSHOOT = 1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One clip."""

    codec: str
    width: int
    height: int
    bitrate: int
    """Bits per second."""

    @property
    def bits(self) -> int:
        """Of a sample."""
        return 10 if self.codec.endswith("10") else 8

    @property
    def name(self) -> str:
        """As answers name it."""
        return f"{self.codec} {self.width}x{self.height}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is asked of one machine."""

    engine: str
    encoder: str
    addresses: tuple[str, ...]
    cells: tuple[Cell, ...]
    given: Mapping[str, Any]

    @property
    def codecs(self) -> tuple[str, ...]:
        """In the order asked for."""
        return tuple(dict.fromkeys(cell.codec for cell in self.cells))

    @property
    def measured(self) -> bool:
        """Whether encoders are measured: not when they only feed a GPU without any."""
        return self.engine == self.encoder

    def arguments(self) -> dict[str, Any]:
        """For the payload."""
        names = ("rate", "seed", "rate_frames", "stream_seconds", "max_streams")
        return {
            **{name: self.given[name] for name in names},
            "engine": self.engine,
            "encoder": self.encoder,
            "addresses": list(self.addresses),
            "codecs": list(self.codecs),
            "frames": self.given["clip_frames"],
            "cells": [
                {
                    "codec": c.codec,
                    "bits": c.bits,
                    "width": c.width,
                    "height": c.height,
                    "bitrate": c.bitrate,
                }
                for c in self.cells
            ],
        }


def plan(job: Job, given: Mapping[str, Any], engine: str) -> Plan | None:
    """What ``given`` asks for on an engine; None when it is the small clip alone. Raises ConfigError."""
    codecs = given["codecs"]
    if codecs == "auto":
        codecs = _ON_GPUS if engine == "gpu" else ""
    if not codecs:
        if engine == "gpu":
            raise ConfigError(
                "workload transcode: no codec is left for the GPU", remedy="name some in codecs"
            )
        return None
    encoder = engine if given["encoder"] == "auto" else given["encoder"]
    if encoder not in ("cpu", "gpu") or (encoder, engine) == ("gpu", "cpu"):
        raise ConfigError("workload transcode: encoder must be auto, cpu or, with the GPU engine, gpu")
    names, sizes = _different(codecs, "codecs"), _different(given["sizes"], "sizes")
    strange = [name for name in names if name not in CODECS]
    if strange:
        raise ConfigError(f"workload transcode: {strange[0]!r} is no codec of {', '.join(CODECS)}")
    addresses = tuple(str(d.address) for d in gpus(job)) if engine == "gpu" else ()
    cells = tuple(_cell(name, size, given) for name in names for size in sizes)
    if not 2 <= given["clip_frames"] * len(cells) * max(1, len(addresses)) <= _MOST_FRAMES:
        raise ConfigError(f"workload transcode: 2 to {_MOST_FRAMES} frames in all clips on all GPUs")
    for name in ("clip_frames", "rate", "rate_frames", "stream_seconds", "max_streams"):
        if not 1 <= given[name] <= 10_000:
            raise ConfigError(f"workload transcode: {name} must be 1 to 10,000")
    if _output(cells, len(names), max(1, len(addresses)), given) > _MOST_BYTES:
        raise ConfigError("workload transcode: so many clips and streams on so many GPUs tell too much")
    if not 0.01 <= given["bits_per_pixel"] <= 8:
        raise ConfigError("workload transcode: bits_per_pixel must be 0.01 to 8")
    return Plan(engine=engine, encoder=encoder, addresses=addresses, cells=cells, given=given)


def _output(cells: tuple[Cell, ...], codecs: int, devices: int, given: Mapping[str, Any]) -> int:
    """Bytes that the payload may print: every frame's hashes, every stream of every try."""
    tries = 2 * int(given["max_streams"]).bit_length()
    streams = tries * given["max_streams"] * codecs * _STREAM_BYTES
    return int(devices * (given["clip_frames"] * len(cells) * _FRAME_BYTES + streams))


def _different(text: str, name: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(","))
    if len(set(found)) != len(found):
        raise ConfigError(f"workload transcode: {name} names something twice: {text!r}")
    return found


def _cell(codec: str, size: str, given: Mapping[str, Any]) -> Cell:
    numbers = size.split("x")
    if len(numbers) != 2 or not all(n.isascii() and n.isdecimal() and len(n) < 5 for n in numbers):
        raise ConfigError(f"workload transcode: {size!r} is no size such as 1920x1080")
    width, height = int(numbers[0]), int(numbers[1])
    # From the least that GPUs' encoders take in any codec to 4K.
    if width % 2 or height % 2 or not 192 <= width <= 3840 or not 144 <= height <= 2160:
        raise ConfigError(f"workload transcode: {size} is not even and from 192x144 to 3840x2160")
    bitrate = round(width * height * given["rate"] * given["bits_per_pixel"])
    return Cell(codec=codec, width=width, height=height, bitrate=bitrate)


def judged(
    asked: Plan, seen: Observation, unknown: list[str]
) -> tuple[tuple[Answer, ...], tuple[Measurement, ...]]:
    """Every GPU asked for, or the processor, against what was asked; ``unknown`` gets why some of it was not
    done. Raises ParseError."""
    devices = [Observation(item, "transcode: device") for item in seen.items("devices")]
    addresses = [device.text("address") for device in devices]
    wanted = list(asked.addresses or ("",))
    answers = [exact("devices", ", ".join(wanted), ", ".join(addresses))]
    measurements: list[Measurement] = []
    if addresses == wanted:
        for device, address in zip(devices, addresses, strict=True):
            if "unable" in device.names():
                unknown.append(device.text("unable")[:500])
            answers += _device(asked, device, f" on {address}" if address else "")
            for one, codec in _matched(device, "rates", asked.codecs):
                more, numbers = _rates(asked, one, codec, address)
                answers += more
                measurements += numbers
    return tuple(answers), tuple(measurements)


def _matched(seen: Observation, name: str, wanted: tuple[str, ...]) -> Iterator[tuple[Observation, str]]:
    """What was done with each codec in turn: with all, unless something was lacking. Raises ParseError."""
    found = [Observation(item, f"transcode: {name}") for item in seen.items(name)]
    if "unable" in seen.names():
        wanted = wanted[: len(found)]
    if tuple(one.text("codec") for one in found) != wanted:
        raise ParseError(f"transcode: {name} are not those of {', '.join(wanted)}")
    return zip(found, wanted, strict=True)


def _device(asked: Plan, device: Observation, where: str) -> Iterator[Answer]:
    other = loads.DECODER_WORD if asked.engine == "gpu" else "second decoder"
    for one, codec in _matched(device, "references", asked.codecs):
        known = REFERENCES[codec]
        yield _same(f"{codec} reference{where}: software decoder", known, _hashes(one, "software"))
        yield _same(f"{codec} reference{where}: {other}", known, _hashes(one, "decoded"))
    clips = _matched(device, "cells", tuple(c.codec for c in asked.cells))
    for (one, _), cell in zip(clips, asked.cells, strict=False):
        if (one.integer("width"), one.integer("height")) != (cell.width, cell.height):
            raise ParseError(f"transcode: a clip is not {cell.name}")
        yield from _clip(asked, cell, one, f"{cell.name}{where}", other)


def _clip(asked: Plan, cell: Cell, one: Observation, name: str, other: str) -> Iterator[Answer]:
    given, count = asked.given, asked.given["clip_frames"]
    known = source_hashes(cell.width, cell.height, cell.bits, count, given["seed"])
    yield _same(f"{name}: source", known, _hashes(one, "source"))
    software = _hashes(one, "software")
    yield exact(f"{name}: frames decoded", count, len(software))
    yield _same(f"{name}: {other} against software", software, _hashes(one, "decoded"))
    psnr, ssim = _numbers(one, "psnr", 0, 100), _numbers(one, "ssim", -1, 1)
    yield exact(f"{name}: frames compared", f"{count}, {count}", f"{len(psnr)}, {len(ssim)}")
    yield at_least(
        f"{name}: PSNR of the worst frame", given["min_clip_psnr_db"], min(psnr, default=None), "dB"
    )
    yield at_least(f"{name}: SSIM of the worst frame", given["min_clip_ssim"], min(ssim, default=None), "")
    # A second's worth may be spent at once (-bufsize), so a short clip may be that much larger.
    allowed = cell.bitrate * (count / given["rate"] + 1) * _OVERSHOOT
    yield at_most(f"{name}: bits over those allowed", 1.0, one.integer("bytes", bits=50) * 8 / allowed)


def _hashes(seen: Observation, name: str) -> tuple[str, ...]:
    found = seen.items(name)
    if len(found) > _MOST_FRAMES or not all(isinstance(h, str) and len(h) == 32 for h in found):
        raise ParseError(f"transcode: {name} is not a list of frame hashes")
    return tuple(found)


def _same(name: str, expected: tuple[str, ...], got: tuple[str, ...]) -> Answer:
    """Frame by frame; the first that differs is named."""
    pairs = zip(expected, got, strict=False)
    first = next((n for n, (a, b) in enumerate(pairs) if a != b), None)
    if first is None and len(expected) != len(got):
        first = min(len(expected), len(got))
    wrong = sum(a != b for a, b in zip(expected, got, strict=False)) + abs(len(expected) - len(got))
    shown = f"{len(expected)} frames the same"
    detail = "" if first is None else f"{wrong} wrong of {len(expected)}, {len(got)} came"
    told = shown if first is None else f"first differing frame: {first}"
    return Answer(name=name, expected=shown, got=told, ok=first is None and bool(expected), detail=detail)


def _numbers(seen: Observation, name: str, low: float, high: float) -> list[float]:
    found = seen.items(name)
    if any(type(v) not in (int, float) or not low <= v <= high for v in found):
        raise ParseError(f"transcode: {name} holds what cannot be: {str(found)[:80]}")
    return [float(v) for v in found]


def _played(item: Any, count: int) -> float:
    """Frames per second of [frames, seconds]; ``count`` frames were asked for. Raises ParseError."""
    if not isinstance(item, list) or len(item) != 2 or type(item[0]) is not int or item[0] != count:
        raise ParseError(f"transcode: not {count} frames and a time: {str(item)[:200]}")
    (spent,) = _numbers(Observation({"seconds": item[1:]}, "transcode"), "seconds", 0, 1e6)
    if not spent:
        raise ParseError(f"transcode: {count} frames in no time")
    return rate(item[0], spent) or 0.0


def _rates(
    asked: Plan, seen: Observation, codec: str, address: str
) -> tuple[list[Answer], list[Measurement]]:
    given, name = asked.given, f"transcode.{codec}"
    decode = _played(seen.items("decode"), given["rate_frames"])
    numbers = [measure(f"{name}.decode_rate", decode, "1/s", subject=address)]
    if not asked.measured:
        return [], numbers
    encode = _played(seen.items("encode"), given["rate_frames"])
    streams = _streams(asked, [Observation(item, "transcode: try") for item in seen.items("tries")])
    where = f" on {address}" if address else ""
    return [at_least(f"{codec}{where}: streams in real time", given["min_streams"], streams, "")], [
        *numbers,
        measure(f"{name}.encode_rate", encode, "1/s", subject=address),
        measure(f"{name}.streams", streams, "1", subject=address),
    ]


def _streams(asked: Plan, tries: list[Observation]) -> int:
    """The most streams that all kept up. Raises ParseError when the search is unfinished or incredible."""
    given, most = asked.given, 0
    bad = given["max_streams"] + 1
    for one in tries:
        count, results = one.integer("streams", bits=16), one.items("results")
        if not most < count < bad or len(results) != count:
            raise ParseError(f"transcode: {len(results)} results of {count} streams between {most} and {bad}")
        refused = [item for item in results if isinstance(item, str)]
        total = given["rate"] * given["stream_seconds"]
        played = [_played(item, total) for item in results if not isinstance(item, str)]
        if not refused and min(played) >= given["rate"]:
            most = count
        else:
            bad = count
    if bad != most + 1:
        raise ParseError(f"transcode: the search for streams ended between {most} and {bad}")
    return most
