"""SSH: who is trusted, what is said when it fails, and what reaches the other side."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.backends.ssh import SshTransport, remote_line, remove_abandoned
from harness.backends.ssh_errors import classify, explain
from harness.errors import CommandTimeout, ConfigError, GuestDied, HarnessError, TransportError
from harness.model.inventory import SshAccess
from tests.contract.private_sshd import private_sshd

CASES = sorted((Path(__file__).parent / "cases" / "ssh").glob("*.txt"))
ACCESS = SshAccess(address="gpu07", port=2222, user="root", known_hosts="/etc/lab/known_hosts")


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_each_way_to_fail_is_told_apart_and_has_a_remedy(case: Path) -> None:
    failure = classify(case.read_text())
    assert failure is not None
    assert failure.kind.replace(" ", "_") == case.stem
    message, remedy = explain(case.read_text(), ACCESS)
    assert "gpu07" in message
    assert "{" not in remedy
    assert "\n" not in message


def test_unknown_words_are_quoted_and_silence_is_named() -> None:
    assert "weird: thing" in explain("weird: thing", ACCESS)[0]
    assert "without a message" in explain("", ACCESS)[0]


@given(st.text())
def test_any_words_at_all_give_one_line_and_a_remedy(words: str) -> None:
    message, remedy = explain(words, ACCESS)
    assert len(message) < 1000
    assert remedy


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_the_remote_line_is_read_back_by_a_shell_as_the_same_words(argv: list[str]) -> None:
    line = remote_line(tuple(argv))
    assert line.endswith("; exit $?")
    assert shlex.split(line.removesuffix("; exit $?")) == argv


@pytest.mark.parametrize("address", ["-oProxyCommand=id", "a b", "", "$(id)", "a'b", "host\n"])
def test_an_address_that_could_be_an_option_or_a_command_is_refused(address: str) -> None:
    with pytest.raises(ConfigError):
        SshTransport(SshAccess(address=address))
    with pytest.raises(ConfigError):
        SshTransport(SshAccess(address="fine", user=address))


def test_a_key_that_is_not_pinned_is_refused_never_accepted(tmp_path: Path) -> None:
    with private_sshd(tmp_path / "s") as access:
        empty = tmp_path / "empty"
        empty.write_text("")
        stranger = SshTransport(_with(access, known_hosts=str(empty)))
        with pytest.raises(TransportError, match="host key unknown"):
            stranger.run(("true",), deadline=20)
        stranger.close()
        assert empty.read_text() == ""


def test_a_changed_key_is_refused_and_named(tmp_path: Path) -> None:
    with private_sshd(tmp_path / "s") as access:
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True
        )
        other = (tmp_path / "other.pub").read_text()
        wrong = tmp_path / "wrong"
        wrong.write_text(f"[127.0.0.1]:{access.port} {other}")
        stranger = SshTransport(_with(access, known_hosts=str(wrong)))
        with pytest.raises(TransportError, match="host key changed") as caught:
            stranger.run(("true",), deadline=20)
        stranger.close()
        assert str(wrong) in caught.value.remedy


def test_a_wrong_key_of_ours_is_permission_denied(tmp_path: Path) -> None:
    with private_sshd(tmp_path / "s") as access:
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True
        )
        stranger = SshTransport(_with(access, identity_file=str(tmp_path / "other")))
        with pytest.raises(TransportError, match="permission denied"):
            stranger.run(("true",), deadline=20)
        stranger.close()


def test_a_port_where_nobody_listens_is_connection_refused(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    nobody = SshTransport(SshAccess(address="127.0.0.1", port=port), name="gpu07")
    with pytest.raises(TransportError, match="connection refused") as caught:
        nobody.run(("true",), deadline=20)
    nobody.close()
    assert str(port) in caught.value.remedy
    assert caught.value.host == "gpu07"


def test_a_silent_port_is_a_timeout_within_a_few_seconds() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        transport = SshTransport(SshAccess(address="127.0.0.1", port=port, connect_timeout_seconds=1))
        began = time.monotonic()
        with pytest.raises(TransportError, match=r"timeout|connection lost"):
            transport.run(("true",), deadline=20)
        transport.close()
    assert time.monotonic() - began < 15


def test_one_machine_is_reached_through_another(tmp_path: Path) -> None:
    with private_sshd(tmp_path / "host dir") as outer, private_sshd(tmp_path / "guest") as inner:
        host = SshTransport(outer, name="host")
        guest = SshTransport(inner, name="guest", through=host)
        assert guest.run(("printf", "%s", "inside"), deadline=20).text == "inside"
        guest.close()
        assert host.run(("true",), deadline=20).status == 0
        host.close()


def test_the_connection_is_shared_private_and_gone_after_close(tmp_path: Path) -> None:
    with private_sshd(tmp_path / "s") as access:
        transport = SshTransport(access)
        directory = transport.connect()
        assert directory.stat().st_mode & 0o777 == 0o700
        assert len(str(directory / "m")) < 100
        log = tmp_path / "s" / "log"
        for _ in range(3):
            assert transport.run(("true",), deadline=20).status == 0
        assert log.read_text().count("Accepted publickey") == 1
        transport.close()
        assert not directory.exists()


def test_a_connection_that_died_is_opened_again(tmp_path: Path) -> None:
    with private_sshd(tmp_path / "s") as access:
        transport = SshTransport(access)
        directory = transport.connect()
        subprocess.run(
            [*transport.client(), "-O", "exit", "--", access.address], check=True, capture_output=True
        )
        assert transport.run(("true",), deadline=20).status == 0
        assert transport.connect() == directory
        transport.close()


def test_a_lost_server_is_an_error_not_a_result(tmp_path: Path) -> None:
    with private_sshd(tmp_path / "s") as access:
        transport = SshTransport(access)
        transport.run(("true",), deadline=20)
        with pytest.raises(TransportError):
            # Ends the server's side of the connection from inside, as a crashing host would.
            transport.run(("sh", "-c", "kill -9 $(ps -o ppid= -p $PPID)"), deadline=20)
        transport.close()


class Mortal:
    """``harness.ports.Life`` of a machine that dies when it is told."""

    def __init__(self) -> None:
        self.dead = False

    def require(self) -> None:
        if self.dead:
            raise GuestDied("its kernel panicked")

    def explained(self, error: HarnessError) -> HarnessError:
        return GuestDied(f"it died: {error.message}") if self.dead else error


def test_no_command_copy_or_stream_outlasts_the_life_of_its_machine(tmp_path: Path) -> None:
    life = Mortal()
    with private_sshd(tmp_path / "s") as access:
        transport = SshTransport(access, life=life)
        assert transport.run(("true",)).status == 0
        threading.Timer(0.5, lambda: setattr(life, "dead", True)).start()
        begun = time.monotonic()
        with pytest.raises(GuestDied, match="panicked"):
            transport.run(("sleep", "60"), deadline=90.0)
        assert time.monotonic() - begun < 20.0
        asked: tuple[Callable[[], object], ...] = (
            lambda: transport.run(("true",)),
            lambda: transport.put(tmp_path / "s" / "config", str(tmp_path / "copy")),
            lambda: transport.hold(("cat",)),
            lambda: transport.stream(("cat",), tmp_path / "out"),
        )
        for ask in asked:
            with pytest.raises(GuestDied):
                ask()
        transport.close()


def test_a_command_that_broke_off_is_explained_by_who_knows_why(tmp_path: Path) -> None:
    life = Mortal()
    with private_sshd(tmp_path / "s") as access:
        transport = SshTransport(access, life=life)
        with pytest.raises(CommandTimeout):
            transport.run(("sleep", "5"), deadline=0.3)
        life.require = lambda: None  # type: ignore[method-assign]  # known only when it is too late
        life.dead = True
        with pytest.raises(GuestDied, match="it died: sleep 5 did not end"):
            transport.run(("sleep", "5"), deadline=0.3)
        transport.close()


def test_directories_of_killed_controllers_are_removed_and_others_kept(tmp_path: Path) -> None:
    dead, living, young, busy = (
        tmp_path / name
        for name in ("shk-999999999-a", f"shk-{os.getpid()}-b", "shk-999999999-c", "shk-999999999-d")
    )
    for directory in (dead, living, young, busy):
        directory.mkdir()
        (directory / "words").write_text("")
    (busy / "m").write_text("")
    for directory in (dead, living, busy):
        os.utime(directory, (0, 0))
    remove_abandoned(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted((living, young, busy))


def test_programs_needed_here_are_the_openssh_client() -> None:
    assert shutil.which("ssh")


def _with(access: SshAccess, **changes: str) -> SshAccess:
    from dataclasses import replace

    return replace(access, **changes)  # type: ignore[arg-type]
