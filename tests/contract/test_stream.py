"""What every streamed command does, on the fake, on this machine and over SSH to a server of its own."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.backends.local import LocalTransport
from harness.backends.ssh import SshTransport
from harness.backends.stream import Streamed, follow_file, rest_of_file
from harness.errors import TransportError
from tests.contract.private_sshd import private_sshd
from tests.fakes import FakeTransport

Streaming = FakeTransport | LocalTransport | SshTransport


@pytest.fixture(params=["fake", "local", "ssh"])
def transport(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Streaming]:
    if request.param == "fake":
        fake = FakeTransport()
        fake.host.on("sh", b"first\nlast\n", stderr=b"sorry\n")
        yield fake
    elif request.param == "local":
        yield LocalTransport()
    else:
        with private_sshd(tmp_path / "sshd") as access:
            real = SshTransport(access, name="private")
            try:
                yield real
            finally:
                real.close()


@pytest.fixture(params=["local", "ssh"])
def real(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Streaming]:
    if request.param == "local":
        yield LocalTransport()
        return
    with private_sshd(tmp_path / "sshd") as access:
        connected = SshTransport(access, name="private")
        try:
            yield connected
        finally:
            connected.close()


def until(true: Callable[[], bool]) -> bool:
    for _ in range(500):
        if true():
            return True
        time.sleep(0.02)
    return False


SPEAKS = "echo sorry >&2; echo first; cat >/dev/null; echo last"


def test_output_lies_in_the_file_and_the_command_lives_while_it_is_held(
    transport: Streaming, tmp_path: Path
) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"before\n")
    stream = transport.stream(("sh", "-c", SPEAKS), path)
    assert until(lambda: b"first\n" in path.read_bytes())
    assert stream.alive
    assert stream.status is None
    assert until(lambda: stream.errors() == "sorry")
    stream.end()
    assert until(lambda: not stream.alive)
    assert path.read_bytes() == b"before\nfirst\nlast\n"
    assert stream.size == 18
    stream.close()
    stream.close()
    assert stream.status == 0


def test_a_command_that_ends_by_itself_says_how(real: Streaming, tmp_path: Path) -> None:
    stream = real.stream(("sh", "-c", "echo x; exit 7"), tmp_path / "out")
    assert until(lambda: not stream.alive)
    assert stream.status == 7
    stream.close()
    assert (tmp_path / "out").read_bytes() == b"x\n"
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o600


def test_a_command_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    stream = LocalTransport().stream(("sleep", "60"), tmp_path / "out")
    before = time.monotonic()
    stream.close(deadline=0.2)
    assert time.monotonic() - before < 5
    assert stream.status == 137


def test_a_file_that_cannot_be_written_or_a_program_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    for argv, path in ((("cat",), tmp_path / "absent" / "out"), (("/no/such/program",), tmp_path / "out")):
        with pytest.raises(TransportError, match="could not be started into"):
            LocalTransport().stream(argv, path)


def test_a_file_never_grows_beyond_its_limit_and_says_that_it_is_full(tmp_path: Path) -> None:
    """Whoever writes on is ended by the kernel, a background process of the command too."""
    for number, script in enumerate(("yes", "yes x & wait", "head -c 9000 /dev/zero; echo more; cat")):
        path = tmp_path / str(number)
        path.write_bytes(b"before\n")
        stream = Streamed(("sh", "-c", script), path, where="here", most=8192)
        assert until(lambda stream=stream: stream.full)  # type: ignore[misc]
        stream.close()
        assert path.stat().st_size == 8192
    assert path.read_bytes().startswith(b"before\n\0\0")


def test_what_is_said_on_the_side_fills_no_memory(tmp_path: Path) -> None:
    stream = LocalTransport().stream(
        ("sh", "-c", "yes sorry | head -c 3000000 >&2; echo done"), tmp_path / "o"
    )
    assert until(lambda: not stream.alive)
    assert stream.errors().startswith("sorry\nsorry")
    assert len(stream.errors()) <= 65536
    stream.close()


def test_a_stream_that_broke_goes_on_where_it_broke(real: Streaming, tmp_path: Path) -> None:
    source, copy = tmp_path / "a spool; $(id)", tmp_path / "copy"
    source.write_bytes(b"one\n")
    stream = real.stream(follow_file(str(source)), copy)
    with source.open("ab", buffering=0) as writer:
        writer.write(b"two\n")
        assert until(lambda: copy.read_bytes() == b"one\ntwo\n")
        stream.close()
        writer.write(b"three\n")
        stream = real.stream(follow_file(str(source), stream.size), copy)
        assert until(lambda: copy.read_bytes() == b"one\ntwo\nthree\n")
        stream.close()
        writer.write(b"four")
    last = real.stream(rest_of_file(str(source), stream.size), copy)
    assert until(lambda: not last.alive)
    last.close()
    assert copy.read_bytes() == source.read_bytes()


def test_a_streamed_command_ends_when_its_holder_is_killed(tmp_path: Path) -> None:
    mark, out = tmp_path / "ended", tmp_path / "out"
    code = (
        "import time; from pathlib import Path; from harness.backends.local import LocalTransport;"
        f"s = LocalTransport().stream(('sh', '-c', 'echo up; cat >/dev/null; touch {mark}'), Path('{out}'));"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as holder:
        assert until(lambda: out.exists() and out.read_bytes() == b"up\n")
        os.kill(holder.pid, 9)
    assert until(mark.exists)
