"""A private libvirtd for tests: session mode, unprivileged, its own directories, nothing of the system's."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

START_SECONDS = 60


@contextlib.contextmanager
def private_libvirtd() -> Iterator[Any]:
    """A libvirt connection that knows QEMU and defines domains. Raises RuntimeError when there is none."""
    if shutil.which("qemu-system-x86_64") is None:
        raise RuntimeError("qemu-system-x86_64 is not installed")
    import libvirt

    libvirt.registerErrorHandler(lambda *_: None, None)
    with private_daemon() as socket:
        connection = libvirt.open(f"qemu+unix:///session?socket={socket}")
        try:
            yield connection
        finally:
            connection.close()


@contextlib.contextmanager
def private_daemon() -> Iterator[Path]:
    """The socket of a daemon. Raises RuntimeError when there is none."""
    program = shutil.which("libvirtd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise RuntimeError("libvirtd is not installed")
    # Short, since a socket's path may have 107 characters; root's own session would be the system's.
    base = Path(tempfile.mkdtemp(prefix="sdlv", dir="/tmp"))
    account = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    base.chmod(0o755)
    places = {"HOME": "h", "XDG_RUNTIME_DIR": "r", "XDG_CACHE_HOME": "c", "XDG_CONFIG_HOME": "k"}
    for name in places.values():
        (base / name).mkdir(mode=0o700)
        os.chown(base / name, account.pw_uid, account.pw_gid)
    process = subprocess.Popen(
        [program, "--timeout=120"],
        env={"PATH": os.environ["PATH"], **{key: str(base / name) for key, name in places.items()}},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **(
            {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        ),
    )
    try:
        socket = base / "r" / "libvirt" / "libvirt-sock"
        deadline = time.monotonic() + START_SECONDS
        while not socket.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("libvirtd did not start")
            time.sleep(0.1)
        yield socket
    finally:
        process.terminate()
        process.wait(timeout=30)
        shutil.rmtree(base, ignore_errors=True)
