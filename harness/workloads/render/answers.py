"""Rendering without a display: every frame's pictures against golden ones drawn on the controller.

Each frame has two pictures. Every pixel of the *exact* one is known here bit for bit, at any size. Of the
*shaded* one (floating point), some frames are compared with a golden picture within a stated tolerance, and
all frames bit for bit with their own repetitions. Neither golden picture comes from any OpenGL
(``harness.workloads.render.golden``).
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

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
from harness.workloads.render.spec import SPEC
from harness.workloads.spec import WorkloadSpec

if TYPE_CHECKING:
    import numpy as np  # imported where pictures are compared: listing workloads must stay quick


_PASSED = ("width", "height", "frames", "rounds", "seconds", "cubes", "work", "seed", "driver", "packages",
           "stall_seconds")  # fmt: skip
"""Parameters that the payload is given."""
_DRIVERS = ("llvmpipe", "softpipe")
_PIXELS, _ALL_PIXELS, _GOLDEN_PIXELS = 4096 * 4096, 1 << 28, 1 << 25
"""Of one picture, of all frames and of the golden ones: the controller draws them, too, and takes 30 ms for a
million exact pixels, nearly 2 s for a million shaded ones."""
_FRAMES = 500
_VIEW_BYTES = 500_000
"""All views together, as incompressible base64: they must fit into a job's collected output (1 MiB)."""
_ALIKE = 4
"""Pairs of frames with one checksum that are drawn here, to see whether they may be alike."""
_BLOCK = 8
"""Pixels along each edge of the smallest wrong block that must be found."""


@dataclass(frozen=True, slots=True)
class Render:
    """OpenGL through EGL, with moderngl."""

    spec: WorkloadSpec = SPEC

    def prepare(self, job: Job) -> tuple[str, ...]:
        """The payload's command line. Raises ConfigError for what cannot be drawn or compared."""
        given = settings(SPEC, job)
        engine = demanded_engine(job, given["engine"])
        if given["driver"] not in _DRIVERS:
            raise ConfigError(f"workload render: driver must be one of {', '.join(_DRIVERS)}")
        if given["width"] < 64 or given["height"] < 48 or given["width"] * given["height"] > _PIXELS:
            raise ConfigError("workload render: pictures are at least 64 x 48 and at most 16 Mi pixels")
        if not 0 < given["golden"] <= given["frames"] <= _FRAMES or given["rounds"] < 2:
            raise ConfigError(
                f"workload render: 1 to {_FRAMES} frames, golden ones among them, 2 rounds or more"
            )
        pixels = given["width"] * given["height"]
        if pixels * given["frames"] > _ALL_PIXELS or pixels * given["golden"] > _GOLDEN_PIXELS:
            raise ConfigError("workload render: at most 256 Mi pixels in all frames and 32 Mi in golden ones")
        if given["cubes"] > 512 or given["work"] >= 1 << 31:
            raise ConfigError("workload render: at most 512 cubes and 2^31 - 1 steps of work")
        addresses = [str(d.address) for d in gpus(job)] if engine == "gpu" else []
        more = {
            "gpus": addresses,
            "golden": _golden_frames(given),
            "square": _square(given, max(1, len(addresses))),
        }
        return command(job, SPEC.job, {**{name: given[name] for name in _PASSED}, **more})

    def parse(self, job: Job, stdout: bytes) -> Parsed:
        """Checksums and views against the golden pictures, device by device. Raises ParseError."""
        given = settings(SPEC, job)
        engine = demanded_engine(job, given["engine"])
        seen, _, versions = report_of(SPEC, stdout)
        wanted = [str(d.address) for d in gpus(job)] if engine == "gpu" else ["cpu"]
        golden = _Golden(given, _square(given, len(wanted)))
        answers: list[Answer] = []
        measurements: list[Measurement] = []
        drawer = loads.DRAWER if engine == "gpu" else f"opengl:{given['driver']}"
        drew: set[str] = set()  # of each device: what it says counts, and nothing said of all of them
        found = entries("render", seen, wanted)
        for entry in found:
            where, device = f" on {entry.name}", entry.observed
            answers += entry.finished
            if device is not None:
                # What drew must be what was demanded: never the processor for a GPU.
                drew.add(device.text("engine")[:80])
                answers.append(exact(f"renderer{where}", drawer, device.text("engine")))
                answers += _judged(device, given, golden, where)
                measurements += _measured(device, given, entry.name if engine == "gpu" else "")
        return Parsed(
            engine="+".join(sorted(drew)),
            answers=settled("render", answers, found),
            measurements=tuple(measurements),
            versions=versions,
        )


def _golden_frames(given: Mapping[str, Any]) -> list[int]:
    """Numbers of the frames that are compared: spread evenly, the first among them."""
    return [n * given["frames"] // given["golden"] for n in range(given["golden"])]


def _square(given: Mapping[str, Any], devices: int) -> int:
    """How many pixels each way make one of a view: as few as divide both sizes and keep the output small."""
    for side in range(1, 65):
        across, down = divmod(given["width"], side), divmod(given["height"], side)
        size = across[0] * down[0] * 4 * given["golden"] * devices
        if across[1] == down[1] == 0 and size <= _VIEW_BYTES:
            if min(across[0], down[0]) < 24:
                break
            return side
    raise ConfigError("workload render: too many golden pictures of this size, or the sizes share no divisor")


class _Golden:
    """What the controller draws itself, once for all devices and runs of one profile."""

    def __init__(self, given: Mapping[str, Any], square: int) -> None:
        self._about = (given["width"], given["height"], given["seed"])
        self._cubes, self.square = given["cubes"], square
        self.exact = _exact(*self._about, given["work"], given["frames"])
        self.views = {n: _shrunk(self._drawn(n), square) for n in _golden_frames(given)}

    def _drawn(self, number: int) -> np.ndarray[Any, Any]:
        from harness.workloads.render import golden as render_golden  # noqa: PLC0415

        return render_golden.shaded(*self._about, self._cubes, number)

    def apart(self, one: int, other: int) -> float:
        """How far two frames are apart where they differ most, in levels."""
        from harness.workloads.render import likeness as ssim  # noqa: PLC0415

        return ssim.worst_block(self._drawn(one), self._drawn(other), _BLOCK)[0]


@lru_cache(maxsize=4)
def _exact(width: int, height: int, seed: int, work: int, frames: int) -> tuple[str, ...]:
    """Checksums of all exact pictures. Kept: in a mix the same ones are due of every run."""
    from harness.workloads.render import golden as render_golden  # noqa: PLC0415

    drawn = (render_golden.exact(width, height, seed, work, n) for n in range(frames))
    return tuple(f"{zlib.crc32(picture.tobytes()):08x}" for picture in drawn)


def _shrunk(picture: np.ndarray[Any, Any], square: int) -> np.ndarray[Any, Any]:
    """Means of squares, rounded down, as the payload makes them."""
    height, width, _ = picture.shape
    blocks = picture.reshape(height // square, square, width // square, square, 3).astype("int64")
    means: np.ndarray[Any, Any] = blocks.sum(axis=(1, 3)) // (square * square)
    return means


def _judged(device: Observation, given: dict[str, Any], golden: _Golden, where: str) -> Iterator[Answer]:
    rounds = device.integer("rounds")
    if rounds < given["rounds"]:
        raise ParseError(f"render: {rounds} rounds instead of {given['rounds']} or more")
    shaded = [_checksums(entries, rounds) for entries in _frames(device, "shaded", given)]
    known = [_checksums(entries, rounds) for entries in _frames(device, "exact", given)]
    changed = [(n, seen) for n, seen in enumerate(shaded) if len(seen) > 1]
    detail = "" if not changed else _first(changed[0], changed[0][1][0][0])
    yield exact(f"shaded frames that differed when repeated{where}", 0, len(changed), detail)
    wrong = [(n, seen) for n, seen in enumerate(known) if {s for s, _, _ in seen} != {golden.exact[n]}]
    detail = "" if not wrong else _first(wrong[0], golden.exact[wrong[0][0]])
    yield exact(f"exact frames with a wrong bit{where}", 0, len(wrong), detail)
    yield _moving(shaded, given, golden, where)
    yield from _likeness(device, given, golden, where)


def _moving(
    shaded: list[list[tuple[str, int, int]]], given: dict[str, Any], golden: _Golden, where: str
) -> Answer:
    """Of most frames no picture comes along: one that was never drawn is like the next one that was not."""
    name, drawn_by, looked = f"shaded frames swapped with another{where}", dict[str, int](), 0
    for number, seen in enumerate(shaded):
        for checksum, _, _ in seen:
            other = drawn_by.setdefault(checksum, number)
            if other == number or looked == _ALIKE:
                continue
            looked += 1
            if golden.apart(other, number) > given["max_block_error"]:
                return exact(name, "none", "some", f"first: frame {number} came out as frame {other} did")
    return exact(name, "none", "none")


def _frames(device: Observation, name: str, given: dict[str, Any]) -> list[Any]:
    entries = device.items(name)
    if len(entries) != given["frames"]:
        raise ParseError(f"render: {len(entries)} {name} frames instead of {given['frames']}")
    return entries


def _checksums(entries: Any, rounds: int) -> list[tuple[str, int, int]]:
    """Checksum, how often, first round. Together they must be as many as there were rounds."""
    found = []
    if not isinstance(entries, list):
        raise ParseError("render: a frame's checksums are not a list")
    for entry in entries:
        if not isinstance(entry, list) or len(entry) != 3:
            raise ParseError("render: a checksum is not a triple")
        each = Observation(dict(zip(("crc", "count", "first"), entry, strict=True)), "render.checksum")
        found.append((each.text("crc"), each.integer("count"), each.integer("first")))
    if sum(count for _, count, _ in found) != rounds:
        raise ParseError(f"render: a frame was not drawn in each of {rounds} rounds")
    return found


def _first(frame: tuple[int, list[tuple[str, int, int]]], right: str) -> str:
    number, seen = frame
    wrong = next((entry for entry in seen if entry[0] != right), seen[0])
    return f"first: frame {number}, {wrong[0][:8]} {wrong[1]} times from round {wrong[2]} on, not {right[:8]}"


def _likeness(device: Observation, given: dict[str, Any], golden: _Golden, where: str) -> Iterator[Answer]:
    from harness.workloads.render import likeness as ssim  # noqa: PLC0415

    views = device.inner("views")
    if set(views.names()) != {str(n) for n in golden.views}:
        raise ParseError(f"render: views of frames {', '.join(views.names())[:80]}")
    side = max(1, _BLOCK // golden.square)
    likeness, worst = 1.0, (-1.0, "")
    for number, wanted in golden.views.items():
        got = _view(views.text(str(number)), wanted)
        likeness = min(likeness, ssim.ssim(got, wanted))
        error, column, row = ssim.worst_block(got, wanted, side)
        place = f"frame {number}, at column {column * golden.square}, row {row * golden.square} from below"
        worst = max(worst, (error, place))
    yield at_least(f"SSIM of the worst golden frame{where}", given["min_ssim"], likeness, "")
    yield at_most(f"levels apart in the worst block{where}", given["max_block_error"], *worst)


def _view(text: str, like: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np  # noqa: PLC0415

    try:
        stream = zlib.decompressobj()
        pixels = stream.decompress(base64.b64decode(text, validate=True), like.size + 1)
    except (zlib.error, binascii.Error, ValueError) as error:
        raise ParseError(f"render: a view cannot be unpacked: {error}") from error
    if len(pixels) != like.size or not stream.eof:
        raise ParseError(f"render: a view has {len(pixels)} bytes instead of {like.size}")
    return np.frombuffer(pixels, np.uint8).reshape(like.shape)


def _measured(device: Observation, given: dict[str, Any], subject: str) -> Iterator[Measurement]:
    """The rate counts drawing alone, both pictures of a frame, not the first round and not reading."""
    rounds = device.integer("rounds")
    drawn = given["frames"] * (rounds - 1)
    seconds, whole = device.seconds("draw_seconds"), device.seconds("seconds")
    slowest = device.seconds("slowest_seconds")
    yield measure("render.rate", rate(drawn, seconds), "1/s", subject=subject)
    yield measure("render.slowest_frame", slowest * 1e3, "ms", subject=subject)
    yield measure("render.checked_rate", rate(given["frames"] * rounds, whole), "1/s", subject=subject)
    yield measure("render.start_time", device.seconds("start_seconds"), "s", subject=subject)


WORKLOAD = Render()
