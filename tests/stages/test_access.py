"""Reaching a host: by data, with nothing left open."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config.files import load_lab
from harness.errors import ConfigError, TransportError
from harness.lab.control import LabControl
from harness.model.evidence import Engine
from harness.model.inventory import HostControlRef, HostFile, SshAccess
from harness.stages.host.access import open_host, open_transport
from tests.contract.private_sshd import private_sshd


def quiet(_text: str) -> None:
    return


def test_a_host_that_is_simply_there_is_reached_and_left(tmp_path: Path) -> None:
    with private_sshd(tmp_path / "s") as ssh:
        with open_host(HostFile(name="gpu07", ssh=ssh), quiet) as access:
            assert access.transport.name == "gpu07"
            assert access.transport.run(("printf", "%s", "hello"), deadline=20).text == "hello"
            assert access.ssh == ssh
            directory = access.transport.connect()  # type: ignore[union-attr]
            assert directory.exists()
        assert not directory.exists()


def test_this_machine_needs_no_ssh() -> None:
    host = HostFile(name="local", control=HostControlRef(kind="local"))
    with open_host(host, quiet) as access:
        assert access.ssh is None
        assert access.transport.run(("true",)).status == 0
    with open_transport(host, quiet) as transport:
        assert transport.name == "local"


def test_a_guest_is_reached_through_its_host(tmp_path: Path) -> None:
    with (
        private_sshd(tmp_path / "host") as outer,
        private_sshd(tmp_path / "guest") as inner,
        open_host(HostFile(name="gpu07", ssh=outer), quiet) as access,
    ):
        guest = access.guest(inner, name="g1")
        assert guest.run(("true",), deadline=20).status == 0
        guest.close()
        assert "Accepted publickey" in (tmp_path / "guest" / "log").read_text()


class Standing:
    """A HostControl whose machine runs on when all is done."""

    def __init__(self, access: SshAccess) -> None:
        self.access, self.started = access, 0

    def ensure_up(self, progress: object) -> SshAccess:
        self.started += 1
        return self.access

    def as_it_is(self) -> SshAccess:
        return self.access

    def engine(self) -> Engine:
        return Engine()

    def ended(self) -> None:
        return None

    def stays(self) -> str:
        return "it stays up; stop it with: halt"


def test_what_stays_up_is_announced_when_all_is_done_and_not_by_who_only_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    with private_sshd(tmp_path / "s") as ssh:
        control = Standing(ssh)
        monkeypatch.setattr("harness.stages.host.access._CONTROLS", (("none", lambda _host, _labs: control),))
        host = HostFile(name="gpu07", ssh=ssh)
        with open_host(host, said.append):
            assert said == []
        assert said == [control.stays()]
        with open_host(host, said.append, start=False):
            pass
    assert (len(said), control.started) == (1, 1)


def test_a_lab_names_the_command_that_stops_it(tmp_path: Path) -> None:
    lab = load_lab("four-nodes")
    assert LabControl(lab, state=tmp_path).stays().endswith("stop it with: shakedown lab down four-nodes")
    assert LabControl(lab, 2, state=tmp_path).stays().endswith("down four-nodes --instance 2")


@pytest.mark.parametrize(
    "host",
    [
        HostFile(name="gpu07"),
        HostFile(name="gpu07", control=HostControlRef(kind="magic")),
        HostFile(name="gpu07", control=HostControlRef(kind="lab")),
        HostFile(name="gpu07", control=HostControlRef(kind="lab", lab="two-nodes")),
    ],
)
def test_a_host_file_that_does_not_say_how_is_a_config_error(host: HostFile) -> None:
    with pytest.raises(ConfigError, match="gpu07"), open_host(host, quiet):
        pytest.fail("opened")


def test_a_host_that_does_not_answer_fails_before_anything_is_done(tmp_path: Path) -> None:
    with private_sshd(tmp_path / "s") as ssh:
        pass
    host = HostFile(name="gpu07", ssh=SshAccess(address=ssh.address, port=ssh.port))
    with pytest.raises(TransportError, match="connection refused") as caught, open_host(host, quiet):
        pytest.fail("opened")
    assert caught.value.host == "gpu07"
