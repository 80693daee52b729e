"""Drawing without a display: the same frames again and again, every picture's checksum written down.

Usage: ``job.main(JSON)`` with the parameters of ``harness.workloads.render``. Prints one line of strict JSON:
what was observed. Each GPU is drawn on by a process of its own, all at once. Nothing is compared here: for
each picture of each frame there is a list of the checksums that were seen, how often and when first, and some
pictures come along as mean colours of small squares.
"""

from __future__ import annotations

import json
import time
import zlib

from harness.payload import bounded
from harness.payload import render_device as devices
from harness.workloads.render.payload import scene as scenes

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any

_FEW = 8
"""Different checksums of one picture that are written down; more of them say no more."""


def view(pixels: bytes, width: int, height: int, square: int) -> str:
    """RGB means of squares of ``square`` pixels, rounded down, as base64 of zlib."""
    import binascii

    across, stride = width // square, width * 4
    means = bytearray()
    for top in range(0, height, square):
        rows = [pixels[y * stride : (y + 1) * stride] for y in range(top, top + square)]
        planes = []
        for channel in range(3):
            lines = [row[channel::4] for row in rows]
            if square == 1:
                planes.append(lines[0])
                continue
            area, sums = square * square, [0] * across
            for line in lines:
                sums = [s + sum(line[n * square : (n + 1) * square]) for n, s in enumerate(sums)]
            planes.append(bytes([s // area for s in sums]))
        for triple in zip(*planes, strict=True):
            means += bytes(triple)
    return binascii.b2a_base64(zlib.compress(bytes(means), 6), newline=False).decode()


class Tally:
    """Checksums of one kind of picture: each one seen of a frame, how often, and in which round first."""

    def __init__(self, frames: int) -> None:
        self.seen: list[list[list[Any]]] = [[] for _ in range(frames)]

    def add(self, frame: int, turn: int, pixels: bytes) -> None:
        """Count one picture."""
        checksum, entries = f"{zlib.crc32(pixels):08x}", self.seen[frame]
        for entry in entries:
            if entry[0] == checksum:
                entry[1] += 1
                return
        if len(entries) < _FEW:
            entries.append([checksum, 1, turn])
        else:
            entries[-1][1] += 1


def draw(job: dict[str, Any], address: str, note: Any) -> dict[str, Any]:
    """All rounds on one device. Raises ``Unable`` or ``Failure`` of ``bounded``."""
    started = time.monotonic()
    note("making a context")
    try:
        context = devices.context(job, address)
        scene = scenes.Scene(context, job)
    except devices.Missing as error:
        raise bounded.Unable(str(error)) from error
    except (OSError, MemoryError):  # of this machine: no driver's binding raises them
        raise
    except Exception as error:  # the driver's binding raises its own and bare Exceptions
        # What the processor cannot draw is missing software; what a GPU cannot draw is the GPU's.
        how = bounded.Failure if address else bounded.Unable
        raise how(f"{type(error).__name__}: {error}") from error
    note("the first round", ready=True)
    ready = time.monotonic()
    try:
        seen = rounds(job, scene, note)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise bounded.Failure(f"{type(error).__name__}: {error}") from error
    if context.error != "GL_NO_ERROR":
        raise bounded.Failure("OpenGL reports an error after drawing")
    info = {name: str(context.info[name])[:120] for name in ("GL_RENDERER", "GL_VENDOR", "GL_VERSION")}
    return {
        "engine": devices.engine_of(info["GL_RENDERER"], info["GL_VENDOR"], gpu=bool(address)),
        "renderer": info["GL_RENDERER"],
        "version": info["GL_VERSION"],
        "start_seconds": ready - started,
        "seconds": time.monotonic() - ready,
        **seen,
    }


def rounds(job: dict[str, Any], scene: Any, note: Any) -> dict[str, Any]:
    """Draw every frame in turn, until rounds and seconds are reached."""
    begun, frames = time.monotonic(), job["frames"]
    kinds = ((scene.shaded, Tally(frames)), (scene.exact, Tally(frames)))
    views, spent, slowest, turn = {}, 0.0, 0.0, 0
    while turn < job["rounds"] or time.monotonic() - begun < job["seconds"]:
        for frame in range(frames):
            note(f"round {turn}, frame {frame}")
            took = 0.0
            for paint, tally in kinds:
                at = time.monotonic()
                paint(frame)
                took += time.monotonic() - at
                pixels = scene.read()
                tally.add(frame, turn, pixels)
                if turn == 0 and frame in job["golden"] and tally is kinds[0][1]:
                    views[str(frame)] = view(pixels, job["width"], job["height"], job["square"])
            if turn:  # the first round also compiles and warms up
                spent, slowest = spent + took, max(slowest, took)
        turn += 1
    shaded, exact = (tally.seen for _, tally in kinds)
    return {
        "rounds": turn,
        "shaded": shaded,
        "exact": exact,
        "views": views,
        "draw_seconds": spent,
        "slowest_seconds": slowest,
    }


def main(argument: str) -> None:
    """Run with the parameters in ``argument`` (JSON) and print the observation."""
    job = json.loads(argument)
    addresses = job["gpus"] or [""]

    def on(address: str) -> Any:
        return lambda note: draw(job, address, note)

    found = bounded.together([on(address) for address in addresses], job["stall_seconds"])
    drawn = [outcome["observed"] for outcome in found if outcome["kind"] == "done"]
    engine = "+".join(sorted({seen["engine"] for seen in drawn}))
    versions = {"opengl": drawn[0]["version"], "renderer": drawn[0]["renderer"]} if drawn else {}
    outcomes = dict(zip(job["gpus"] or ["cpu"], found, strict=True))
    bounded.conclude("render", engine, outcomes, versions=versions)
