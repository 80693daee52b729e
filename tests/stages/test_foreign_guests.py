"""Other tenants' command lines hold keys and secrets: of their QEMU only which guest it is goes on record."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from harness.stages.host.state import SCRIPT
from tests.fakes.scripts import really


@pytest.mark.parametrize(
    "secret", ["-fw_cfg name=opt/key,string=hunter2", "-object secret,data=hunter2", "-append pass=hunter2"]
)
def test_the_release_script_tells_the_name_and_no_secret(secret: str) -> None:
    named = "open('/proc/self/comm', 'w').write('qemu-system-x86')"
    waits = f"import time; {named}; print(flush=True); time.sleep(60)"
    argv = [sys.executable, "-c", waits, "-name", "guest=theirs,debug-threads=on", *secret.split(" ")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as stranger:
        try:
            assert stranger.stdout is not None
            stranger.stdout.readline()
            time.sleep(0.1)
            answer = really(SCRIPT, "run", "/nonexistent", "--")
        finally:
            stranger.kill()
    rows = [row for row in answer.rows("processes") if row[0] == str(stranger.pid)]
    assert rows == [(str(stranger.pid), "qemu -name guest=theirs,debug-threads=on ")]
    assert b"hunter2" not in answer.raw
