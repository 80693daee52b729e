"""An OpenSSH server of the test's own: loopback only, a free port, keys made for it, gone afterwards."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.model.inventory import SshAccess

_CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey "{directory}/host_key"
AuthorizedKeysFile "{directory}/authorized_keys"
PidFile "{directory}/pid"
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
StrictModes no
"""


def _key(path: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text()


def _program() -> str:
    program = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None or shutil.which("ssh-keygen") is None:
        pytest.skip("no OpenSSH server on this machine (Debian package openssh-server)")
    return program


@contextmanager
def private_sshd(directory: Path) -> Iterator[SshAccess]:
    """Start the server, yield how to reach it with its key pinned, and end it."""
    program = _program()
    directory.mkdir(parents=True, exist_ok=True)
    host_key = _key(directory / "host_key")
    (directory / "authorized_keys").write_text(_key(directory / "user_key"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (directory / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    (directory / "config").write_text(_CONFIG.format(port=port, directory=directory))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd refuses to start as root without it
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(
            [program, "-D", "-e", "-f", str(directory / "config")], stdin=subprocess.DEVNULL, stderr=log
        )
    try:
        _wait_for(port, server, directory)
        yield SshAccess(
            address="127.0.0.1",
            port=port,
            user=getpass.getuser(),
            identity_file=str(directory / "user_key"),
            known_hosts=str(directory / "known_hosts"),
        )
    finally:
        server.terminate()
        server.wait(10)


def _wait_for(port: int, server: subprocess.Popen[bytes], directory: Path) -> None:
    for _ in range(100):
        if server.poll() is not None:
            pytest.skip(f"sshd does not start here: {(directory / 'log').read_text()[-300:]}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("sshd never listened")
