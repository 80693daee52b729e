"""Game streaming in the guest: pictures are drawn, encoded, sent as RTP, received, decoded, and read again.

Usage: ``job.main(JSON)`` with the parameters of ``harness.workloads.stream``. Prints one line of strict JSON:
what was observed: when each picture was begun, and which counter arrived when (times in microseconds of one
clock, CLOCK_MONOTONIC). Nothing leaves 127.0.0.1.

Pictures are numbered from 0. Those sent before the first one has come back (both ffmpeg are starting) carry
WARMING, those sent to push the last ones through (a parser knows a picture to be whole when the next one
begins) carry TRAILING; both are beyond all numbers that count.
"""

from __future__ import annotations

import json
import os
import select
import struct
import time

from harness.payload import bounded, processes
from harness.payload import render_device as devices
from harness.vendors.payload.gpu import gpu_video
from harness.vendors.payload.names import ENCODER, H264_CODER, VIDEO_LIBRARIES
from harness.workloads.stream.payload import picture as pictures
from harness.workloads.stream.payload import pipe as pipes
from harness.workloads.stream.payload import reader

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any

WARMING, TRAILING = 1 << 23, 1 << 22


def microseconds() -> int:
    """Now, of the one clock that all processes of a machine share."""
    return time.monotonic_ns() // 1000


def squeezed(raw: bytes) -> str:
    """Base64 of zlib."""
    import binascii
    import zlib

    return binascii.b2a_base64(zlib.compress(raw, 6), newline=False).decode()


def packed(values: list[int]) -> str:
    """The first value and then the differences, as little-endian 64-bit numbers, squeezed."""
    steps = [after - before for before, after in zip([0, *values], values, strict=False)]
    return squeezed(struct.pack(f"<{len(steps)}q", *steps))


class Mouth:
    """Draws pictures at the demanded rate and pushes them into the encoder."""

    def __init__(self, job: dict[str, Any], source: Any, pipe: int, note: Any) -> None:
        self._job, self._source, self._pipe, self._note = job, source, pipe, note
        self._next = time.monotonic()
        self._interval = 1.0 / job["rate"]
        os.set_blocking(pipe, False)

    def send(self, n: int, number: int, ears: Any, *, late: bool = True) -> int:
        """Draw and push one picture when its time has come; returns when it was begun, in microseconds.

        A picture that is late is sent at once, and the later ones keep the beat. ``late`` False: a new beat.
        """
        now = time.monotonic()
        if not late and self._next < now:
            self._next = now
        while (left := self._next - time.monotonic()) > 0:
            ears.listen(left)
            if ears.ended:
                time.sleep(max(0.0, self._next - time.monotonic()))
        ears.listen()
        self._next += self._interval
        begun = microseconds()
        rest = memoryview(self._source.picture(n, number))
        deadline = time.monotonic() + self._job["stall_seconds"]
        while rest:
            if not select.select([], [self._pipe], [], 1.0)[1]:
                if time.monotonic() > deadline:
                    raise bounded.Failure("the encoder accepts no more pictures")
                continue
            try:
                rest = rest[os.write(self._pipe, rest) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise bounded.Failure("the encoder ended") from None
        self._note(f"picture {number}")
        return begun


def made_source(job: dict[str, Any], address: str) -> Any:
    """What draws the pictures."""
    if job["source"] == "drawn":
        return pictures.Drawn(job)
    from harness.workloads.render.payload import scene as scenes

    return pictures.Rendered(job, address, devices, scenes)


def look(job: dict[str, Any]) -> dict[str, str]:
    """The tools' paths and ffmpeg's version. Raises MissingTool or Missing where one cannot be had."""
    found = {name: processes.find(name) for name in ("ffmpeg", "setpriv")}
    coder = H264_CODER if job["gpus"] else "libx264"
    # One start of ffmpeg tells both (its banner the version): an emulated guest needs seconds for each.
    said = processes.run([found["ffmpeg"], "-encoders"], job["place"])[1]
    if f" {coder} " not in said:
        raise devices.Missing(f"this ffmpeg has no {coder}: {said[-300:]}")
    if job["gpus"]:
        for library in VIDEO_LIBRARIES:
            devices.open_library(library)
    return {**found, "version": said.partition("ffmpeg version ")[2].split(" ", 1)[0][:40] or "unknown"}


def perform(job: dict[str, Any], address: str, note: Any) -> dict[str, Any]:
    """One stream from beginning to end. Raises ``Unable`` or ``Failure`` of ``bounded``."""
    place = f"gpu-{address}" if address else "cpu"
    job["place"] = place
    os.mkdir(place)
    try:
        found, source = look(job), made_source(job, address)
        if address:
            # For both ffmpeg, and only now: what draws was found among all GPUs, by its address.
            from harness.vendors.payload.gpu import gpu_driver

            os.environ.update(gpu_driver.visible(address))
    except (devices.Missing, processes.MissingTool) as error:
        raise bounded.Unable(str(error)) from error
    except (OSError, MemoryError):  # of this machine: no driver's binding raises them
        raise
    except Exception as error:  # bindings of drivers raise their own
        unable = not address or isinstance(error, bounded.Unable)
        raise (bounded.Unable if unable else bounded.Failure)(str(error)) from error
    return run(job, source, found, note)


def run(job: dict[str, Any], source: Any, found: dict[str, str], note: Any) -> dict[str, Any]:
    """Start both ffmpeg, stream, and end both, whatever happens."""
    place = job["place"]
    began, port = time.monotonic(), pipes.free_port()
    session = os.path.join(place, "session.sdp")
    pipes.describe(session, port)
    started: list[Any] = []
    ready = False
    try:
        pictures_in, pictures_out = pipes.wide_pipe()
        argv = pipes.decoder(found["ffmpeg"], job, session, found["version"])
        started.append(pipes.Tool(argv, found["setpriv"], f"{place}/decoder.log", stdout=pictures_out))
        ears = reader.Ears(job, pictures_in, pictures)
        raw_in, raw_out = pipes.wide_pipe()
        argv = pipes.encoder(found["ffmpeg"], job, source.pixel_format, port, found["version"])
        started.append(pipes.Tool(argv, found["setpriv"], f"{place}/encoder.log", stdin=raw_in))
        mouth = Mouth(job, source, raw_out, note)
        while not pipes.bound(port):
            check(started, began, job)
            note("waiting for the receiver")
            time.sleep(0.02)
        warming = warm(mouth, ears, lambda: check(started, began, job))
        started_after, ready = time.monotonic() - began, True
        note("streaming", ready=True)
        unheard = pipes.unheard(port)
        sent = [mouth.send(n, n, ears, late=n > 0) for n in range(job["frames"])]
        trailing = trail(job, mouth, ears)
        living(started)
        unheard = pipes.unheard(port) - unheard
        os.close(raw_out)
        started[1].end(by=None)
        started[0].end(by=9)  # blocked in its socket, ffmpeg does not hear a polite signal
        ears.finish(10.0)
    except bounded.Failure as error:
        said = "; ".join(f"{tool.status}: {tool.said()}" for tool in started if not tool.running())
        # Without a GPU, what never got going is a matter of software; with one, the engine does not work,
        # unless its own words speak of something else.
        other = gpu_video.no_fault(said) if job["gpus"] and not ready else ""
        how = bounded.Failure if ready or (job["gpus"] and not other) else bounded.Unable
        raise how(f"{other} {error} {said}".strip()) from error
    finally:
        for tool in started:
            tool.end(by=9)
    return {
        "engine": "+".join([e for e in (source.engine, ENCODER if job["gpus"] else "cpu") if e]),
        "ffmpeg": found["version"],
        "sent": packed(sent),
        "times": packed([at for at, _ in ears.arrivals]),
        "counters": packed([number for _, number in ears.arrivals]),
        "samples": [[number, squeezed(pixels)] for number, pixels in ears.samples],
        "warming": warming,
        "trailing": trailing,
        "unheard": unheard,
        "start_seconds": started_after,
        "decoder_said": started[0].said()[-400:],
    }


def living(started: list[Any]) -> None:
    """Raises Failure when one of the two has ended."""
    for tool, name in zip(started, ("decoder", "encoder"), strict=False):
        if not tool.running():
            raise bounded.Failure(f"the {name} ended with status {tool.status}")


def check(started: list[Any], began: float, job: dict[str, Any]) -> None:
    """Nothing has come through yet: both must live, and not for too long. Raises Failure."""
    living(started)
    if time.monotonic() - began > job["start_seconds"]:
        raise bounded.Failure(f"no picture arrived within {job['start_seconds']:g} s")


def warm(mouth: Mouth, ears: Any, alive: Any) -> int:
    """Send until a picture came back that was sent after the first one had; returns how many were sent."""
    sent, first = 0, None
    while True:
        mouth.send(sent, WARMING + sent, ears, late=False)
        sent += 1
        back = [number - WARMING for _, number in ears.arrivals if number >= WARMING]
        if back and first is None:
            first = sent
        if first is not None and back[-1] >= first:
            return sent
        alive()


def trail(job: dict[str, Any], mouth: Mouth, ears: Any) -> int:
    """Send until a trailing picture came back, or for so long; returns how many were sent."""
    sent, deadline = 0, time.monotonic() + job["drain_seconds"]
    while time.monotonic() < deadline and not ears.ended:
        mouth.send(job["frames"] + sent, TRAILING + sent, ears)
        sent += 1
        if any(TRAILING <= number < WARMING for _, number in ears.arrivals[-3:]):
            break
    return sent


def main(argument: str) -> None:
    """Run with the parameters in ``argument`` (JSON) and print the observation."""
    job = json.loads(argument)
    processes.clear(job["folder"])
    os.chdir(job["folder"])
    addresses = job["gpus"] or [""]

    def on(address: str) -> Any:
        return lambda note: perform(dict(job), address, note)

    found = bounded.together([on(address) for address in addresses], job["stall_seconds"] + 30.0)
    streamed = [outcome["observed"] for outcome in found if outcome["kind"] == "done"]
    engine = "+".join(sorted({seen["engine"] for seen in streamed}))
    versions = {"ffmpeg": streamed[0]["ffmpeg"]} if streamed else {}
    processes.clear(".")
    outcomes = dict(zip(job["gpus"] or ["cpu"], found, strict=True))
    bounded.conclude("stream", engine, outcomes, versions=versions)
