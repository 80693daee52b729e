"""What every Transport does, on the fake, on this machine and over SSH to a server of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.backends.local import LocalTransport
from harness.backends.ssh import SshTransport
from harness.errors import CommandTimeout, TransportError
from harness.ports import CommandResult, Transport
from tests.contract.private_sshd import private_sshd
from tests.fakes import FakeHost, FakeTransport

HOSTILE = ("a b", "", "c'\n$(id) `id`", '"\\', "-n", "*", "\x1b[31m", "ü", "%s;|&")


class Saved:
    """A recorder that remembers."""

    def __init__(self) -> None:
        self.results: list[tuple[str, tuple[str, ...], int, CommandResult]] = []

    def save(self, label: str, argv: tuple[str, ...], stdin_len: int, result: CommandResult) -> str:
        self.results.append((label, argv, stdin_len, result))
        return f"transcripts/{len(self.results)}-{label}"


@pytest.fixture
def saved() -> Saved:
    return Saved()


@pytest.fixture(params=["fake", "local", "ssh"])
def transport(request: pytest.FixtureRequest, tmp_path: Path, saved: Saved) -> Iterator[Transport]:
    if request.param == "fake":
        host = FakeHost()
        host.directories.add(str(tmp_path))
        yield FakeTransport(host, recorder=saved)
    elif request.param == "local":
        yield LocalTransport(recorder=saved)
    else:
        with private_sshd(tmp_path / "sshd") as access:
            real = SshTransport(access, name="private", recorder=saved)
            try:
                yield real
            finally:
                real.close()


def test_every_argument_arrives_as_it_was_given(transport: Transport) -> None:
    result = transport.run(("printf", "%s|", *HOSTILE), deadline=20)
    assert result.status == 0
    assert result.stdout == "".join(word + "|" for word in HOSTILE).encode()


def test_standard_input_of_any_size_and_content_arrives_whole(transport: Transport) -> None:
    data = bytes(range(256)) * 2000
    assert transport.run(("cat",), stdin=data, deadline=20).stdout == data


def test_a_non_zero_status_is_a_result_even_when_it_is_ssh_s_own(transport: Transport) -> None:
    assert transport.run(("false",), deadline=20).status == 1
    assert transport.run(("sh", "-c", "exit 7"), deadline=20).status == 7
    assert transport.run(("sh", "-c", "exit 255"), deadline=20).status == 255


def test_a_signal_is_reported_as_128_and_its_number(transport: Transport) -> None:
    assert transport.run(("sh", "-c", "kill -9 $$"), deadline=20).status == 137


def test_a_program_that_does_not_exist_is_status_127(transport: Transport) -> None:
    result = transport.run(("no-such-program-here",), deadline=20)
    assert result.status == 127
    assert b"not found" in result.stderr


def test_a_command_past_its_deadline_is_an_error_with_a_transcript(
    transport: Transport, saved: Saved
) -> None:
    transport.run(("true",), deadline=20)  # the connection itself is not what is timed
    with pytest.raises(CommandTimeout) as caught:
        transport.run(("sleep", "30"), deadline=0.5, label="nap")
    assert caught.value.transcript.endswith("nap")
    assert saved.results[-1][0] == "nap"
    assert transport.run(("true",), deadline=20).status == 0


def test_every_command_is_saved_before_it_is_returned(transport: Transport, saved: Saved) -> None:
    result = transport.run(("cat",), stdin=b"abc", deadline=20, label="echo")
    label, argv, stdin_len, kept = saved.results[-1]
    assert (label, argv, stdin_len, kept.stdout) == ("echo", ("cat",), 3, b"abc")
    assert result.transcript.endswith("echo")


def test_no_command_at_all_is_an_error(transport: Transport) -> None:
    with pytest.raises(TransportError, match="no command"):
        transport.run(())


def test_a_file_is_copied_whole_and_replaces_what_was_there(transport: Transport, tmp_path: Path) -> None:
    source = tmp_path / "source"
    target = str(tmp_path / "target name")
    for data in (b"first" * 100_000, b"second"):
        source.write_bytes(data)
        transport.put(source, target, deadline=20)
        assert transport.run(("cat", target), deadline=20).stdout == data


def test_a_copy_that_cannot_be_made_is_an_error_and_leaves_nothing(
    transport: Transport, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"data")
    with pytest.raises(TransportError):
        transport.put(source, str(tmp_path / "absent" / "target"), deadline=20)
    with pytest.raises(TransportError):
        transport.put(tmp_path / "absent", str(tmp_path / "target"), deadline=20)
    assert transport.run(("cat", str(tmp_path / "target")), deadline=20).status == 1


def test_closing_twice_is_fine(transport: Transport) -> None:
    transport.run(("true",), deadline=20)
    transport.close()
    transport.close()
