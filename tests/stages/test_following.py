"""A file that is followed comes over whole, however often its stream breaks."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from harness.backends.local import LocalTransport
from harness.backends.stream import Streamed
from harness.errors import TransportError
from harness.stages.following import Following


class Streams(LocalTransport):
    """Keeps its streams, and refuses some that follow the first."""

    def __init__(self, refusals: int = 0) -> None:
        super().__init__("here")
        self.refusals = refusals
        self.streams: list[Streamed] = []

    def stream(self, argv: tuple[str, ...], path: Path) -> Streamed:
        if self.streams and self.refusals:
            self.refusals -= 1
            raise TransportError("no way", host="here")
        self.streams.append(super().stream(argv, path))
        return self.streams[-1]


def until(path: Path, content: bytes) -> None:
    for _ in range(500):
        if path.exists() and path.read_bytes() == content:
            return
        time.sleep(0.02)
    pytest.fail(f"expected {content!r}, found {path.read_bytes()!r}")


@pytest.mark.parametrize("refusals", [0, 3])
def test_a_broken_stream_is_taken_up_where_it_ended(tmp_path: Path, refusals: int) -> None:
    remote, path = tmp_path / "remote", tmp_path / "local"
    remote.write_bytes(b"one\ntw")
    transport = Streams(refusals)
    following = Following(transport, str(remote), path, look_seconds=0.05)
    until(path, b"one\ntw")
    for text in (b"o\n", b"three\n"):
        transport.streams[-1].close()
        with remote.open("ab") as file:
            file.write(text)
        until(path, remote.read_bytes())
    following.close()
    following.close()
    assert len(transport.streams) == 3
    assert not any(stream.alive for stream in transport.streams)


def test_one_that_is_closed_is_taken_up_no_more(tmp_path: Path) -> None:
    remote, path = tmp_path / "remote", tmp_path / "local"
    remote.write_bytes(b"one\n")
    transport = Streams()
    following = Following(transport, str(remote), path, look_seconds=0.02)
    until(path, b"one\n")
    following.close()
    time.sleep(0.2)
    assert len(transport.streams) == 1


def test_one_that_cannot_be_begun_says_so(tmp_path: Path) -> None:
    with pytest.raises(TransportError):
        Following(LocalTransport("here"), "/nowhere", tmp_path / "no" / "folder")
