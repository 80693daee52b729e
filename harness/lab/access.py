"""Keys of one lab and the ssh command lines that use them; its host key is pinned, never accepted blindly."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.backends.ssh_options import ssh_argv
from harness.errors import LabError
from harness.images.processes import require_tool
from harness.model.inventory import SshAccess

_KEY_BYTES = 1024
_PUBLIC_KEY_BYTES = 256
"""Blobs have one size for all labs: the size of a fw_cfg blob is part of the machine a snapshot is for."""

_PROBE_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LabKeys:
    """Files below a lab's directory."""

    identity: Path
    """Private key of the client."""
    authorized_key: Path
    """Its public key, padded, as the machine is given it."""
    host_key: Path
    """Private key of the machine, padded."""
    host_public: Path


def keys_in(directory: Path) -> LabKeys:
    """Where the keys of a lab lie."""
    return LabKeys(
        identity=directory / "identity",
        authorized_key=directory / "authorized_key.blob",
        host_key=directory / "host_key.blob",
        host_public=directory / "host_key.pub",
    )


def make_keys(directory: Path) -> LabKeys:
    """Make a fresh client key and host key (ed25519) in ``directory``. Raises LabError."""
    keys = keys_in(directory)
    _keygen(keys.identity)
    _pad(keys.identity.with_suffix(".pub"), keys.authorized_key, _PUBLIC_KEY_BYTES)
    raw = directory / "host_key"
    _keygen(raw)
    _pad(raw, keys.host_key, _KEY_BYTES)
    raw.unlink()
    return keys


def _keygen(path: Path) -> None:
    tool = require_tool("ssh-keygen", "openssh-client")
    path.unlink(missing_ok=True)
    done = subprocess.run(
        [tool, "-q", "-t", "ed25519", "-N", "", "-C", "shakedown-lab", "-f", str(path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=30,
    )
    if done.returncode != 0:
        raise LabError(f"ssh-keygen failed: {done.stderr.decode('utf-8', 'backslashreplace').strip()}")


def _pad(source: Path, target: Path, size: int) -> None:
    data = source.read_bytes()
    if len(data) > size:
        raise LabError(f"{source} has {len(data)} bytes, more than the {size} of its blob")
    target.touch(mode=0o600)
    target.write_bytes(data.ljust(size, b"\n"))


def pin(keys: LabKeys, port: int, known_hosts: Path) -> SshAccess:
    """Write the pinned host key for ``port`` and say how the lab is reached."""
    kind, key, *_ = keys.host_public.read_text("ascii").split()
    known_hosts.write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
    return SshAccess(
        address="127.0.0.1",
        port=port,
        user="root",
        identity_file=str(keys.identity),
        known_hosts=str(known_hosts),
    )


def ssh_command(access: SshAccess, arguments: Sequence[str] = ()) -> tuple[str, ...]:
    """An ssh command line that uses exactly this key and this pinned host key and no user settings."""
    return (*ssh_argv(access, terminal=True), "--", f"{access.user}@{access.address}", *arguments)


def run(access: SshAccess, script: str, *, deadline: float) -> subprocess.CompletedProcess[bytes]:
    """Run a shell script on the lab host. Raises LabError when it does not end within ``deadline``."""
    try:
        return subprocess.run(
            (*ssh_argv(access), "--", access.address, "sh", "-s"),
            input=script.encode(),
            capture_output=True,
            check=False,
            timeout=deadline,
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"the lab host did not answer within {deadline:.0f} s") from error


def wait_for_ssh(
    access: SshAccess, *, alive: Callable[[], bool], deadline: float, waiting: Callable[[float], None]
) -> None:
    """Wait until the host runs a command over SSH, and set its clock with that command.

    A machine restored from a snapshot still has the snapshot's time. Raises LabError when the machine ends
    or does not answer within ``deadline`` seconds; ``waiting`` hears of the time waited every ten seconds.
    """
    began = time.monotonic()
    reported = 0.0
    said = ""
    while (waited := time.monotonic() - began) < deadline:
        if not alive():
            raise LabError("QEMU ended while the lab host was starting")
        try:
            done = run(access, f"date -u -s @{time.time():.3f} >/dev/null", deadline=_PROBE_SECONDS)
        except LabError as error:
            said = error.message
        else:
            if done.returncode == 0:
                return
            said = done.stderr.decode("utf-8", "backslashreplace").strip()
        if waited - reported >= 10.0:
            waiting(waited)
            reported = waited
        time.sleep(0.1)
    raise LabError(f"the lab host did not answer SSH within {deadline:.0f} s; last: {said[-300:]}")
