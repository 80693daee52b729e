"""The receiving end of ``stream.py``: reads decoded pictures in a process of its own and tells what it saw.

A process, not a thread: when a picture arrived must not depend on the drawing of another one.
"""

from __future__ import annotations

import os
import select
import struct
import time

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any

_RECORD = struct.Struct("<qq")
"""When and what; a negative first one: so many bytes of a sample of picture *what* follow."""


def read_pictures(job: dict[str, Any], pipe: int, told: int, pictures: Any) -> None:
    """The reader's whole life: for each picture tell when it was there and its counter; then some pixels."""
    width, height = job["width"], job["height"]
    cell, luma = pictures.cell_size(width), width * height
    size, wanted, samples = luma * 3 // 2, list(job["samples"]), []
    view = memoryview(bytearray(size))
    with open(pipe, "rb", buffering=0) as stream:
        while True:
            got = 0
            while got < size:
                count = stream.readinto(view[got:])
                if not count:
                    break
                got += count
            if got < size:
                break
            number, at = pictures.read_number(view, width, cell), time.monotonic_ns() // 1000
            os.write(told, _RECORD.pack(at, number))
            if wanted and wanted[0] <= number < job["frames"]:
                wanted.pop(0)
                samples.append((number, pictures.sample(view, width, height, job["step"])))
    for number, pixels in samples:
        rest = _RECORD.pack(-len(pixels), number) + pixels
        while rest:
            rest = rest[os.write(told, rest) :]


class Ears:
    """The reader's process and what it told."""

    def __init__(self, job: dict[str, Any], pipe: int, pictures: Any) -> None:
        self.arrivals: list[tuple[int, int]] = []
        self.samples: list[tuple[int, bytes]] = []
        self._reading, told = os.pipe()
        self._raw, self.ended = b"", False
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.close(self._reading)
                read_pictures(job, pipe, told, pictures)
                status = 0
            finally:
                os._exit(status)
        os.close(told)
        os.close(pipe)
        os.set_blocking(self._reading, False)

    def listen(self, seconds: float = 0.0) -> None:
        """Take in what was told, waiting for something at most so long."""
        if self.ended or not select.select([self._reading], [], [], seconds)[0]:
            return
        try:
            chunk = os.read(self._reading, 1 << 20)
        except BlockingIOError:
            return
        self.ended, self._raw = not chunk, self._raw + chunk
        while len(self._raw) >= _RECORD.size:
            at, number = _RECORD.unpack_from(self._raw)
            more = max(0, -at)
            if len(self._raw) < _RECORD.size + more:
                return
            body, self._raw = self._raw[_RECORD.size : _RECORD.size + more], self._raw[_RECORD.size + more :]
            if more:
                self.samples.append((number, body))
            else:
                self.arrivals.append((at, number))

    def finish(self, seconds: float) -> None:
        """After the decoder ended: hear the rest, and reap the reader."""
        deadline = time.monotonic() + seconds
        while not self.ended and time.monotonic() < deadline:
            self.listen(0.1)
        if not self.ended:
            os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)
