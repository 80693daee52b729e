"""Tools that others made run against the NVML stand-in, and show what it plays.

nvidia-smi cannot be one of them: it asks the library for a private table of functions that no header
describes.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.vendors.nvidia.standin.model import StandinCard, StandinScenario
from tests.native.nvml import Machine, build, fault
from tests.native.played import series

BIN = Path(sys.executable).parent
NAME, POWER, HEAT, UUID, GIB = "Shown T1", 123, 47, "GPU-11111111-2222-3333-4444-555555555555", 1 << 30
NVTOP = shutil.which("nvtop")


@dataclass(frozen=True)
class Stage:
    """A machine on which two cards are played, one of them used by a process that lives."""

    environment: dict[str, str]
    process: int

    def run(self, tool: str, *options: str) -> str:
        """What a tool of the environment printed."""
        argv = (str(BIN / tool), *options)
        done = subprocess.run(
            argv, env=self.environment, capture_output=True, text=True, timeout=60, check=True
        )
        assert "Traceback" not in done.stderr
        return done.stdout


@pytest.fixture
def stage(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Iterator[Stage]:
    library = build(tmp_path_factory.getbasetemp())
    machine = Machine(library, tmp_path)
    with subprocess.Popen(("sleep", "300")) as busy:
        first = {"gpu": 0}
        machine.scene(
            StandinScenario(
                name="shown",
                card=StandinCard(name=NAME),
                faults=(fault("process", value=busy.pid, rate=GIB, what="compute"),),
                series=(
                    series("power", (0.0, float(POWER)), **first),
                    series("temperature", (0.0, float(HEAT)), **first),
                    series("uuid", (0.0, UUID), **first),
                ),
            ),
            gpus=2,
        )
        # Tools find the driver's library as any program does.
        environment = {
            **machine.environment(), "LD_LIBRARY_PATH": str(library.parent), "HOME": str(tmp_path),
            "TERM": "xterm", "LANG": "C.UTF-8",
        }  # fmt: skip
        yield Stage(environment, busy.pid)
        busy.kill()


def test_gpustat_shows_the_cards(stage: Stage) -> None:
    first, second = json.loads(stage.run("gpustat", "--json"))["gpus"]
    assert (first["name"], first["uuid"]) == (NAME, UUID)
    assert (first["power.draw"], first["temperature.gpu"]) == (POWER, HEAT)
    assert (first["enforced.power.limit"], first["memory.total"]) == (250, 16384)
    (process,) = first["processes"]
    assert (process["pid"], process["command"], process["gpu_memory_usage"]) == (stage.process, "sleep", 1024)
    assert second["uuid"] != UUID
    assert second["processes"] == []


def test_nvitop_shows_the_cards(stage: Stage) -> None:
    text = stage.run("nvitop", "--once", "--ascii")
    first, second = re.findall(rf"\d +{NAME} .*\n.*", text)
    assert f"{HEAT}C" in first
    assert f"{POWER}W / 250W" in first
    assert "16384MiB" in second
    assert re.search(rf"\b{stage.process} C .*1024MiB .*sleep 300", text)


def test_nvitop_exporter_serves_the_cards(stage: Stage) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = (str(BIN / "nvitop-exporter"), "--bind-address", "127.0.0.1", "--port", str(port))
    with subprocess.Popen(argv, env=stage.environment, stderr=subprocess.PIPE, text=True) as exporter:
        try:
            text = _fetched(port, exporter)
        finally:
            exporter.send_signal(signal.SIGKILL)
    values = {
        (match[1], match[2]): float(match[3])
        for match in re.finditer(r'^(\w+)\{.*uuid="([^"]*)".*\} (\S+)$', text, re.MULTILINE)
    }
    assert values["gpu_power_usage_W", UUID] == POWER
    assert values["gpu_temperature_C", UUID] == HEAT
    assert values["process_gpu_memory_MiB", UUID] == 1024
    assert len({uuid for name, uuid in values if name == "gpu_power_usage_W"}) == 2
    assert f'devicename="{NAME}"' in text


def _fetched(port: int, server: subprocess.Popen[str]) -> str:
    """What a server answers once it does; it collects for some seconds before its first numbers."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert server.poll() is None, server.communicate()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        text = ""
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        connection.close()
        if "process_gpu_memory_MiB{" in text:
            return text
        time.sleep(0.2)
    raise AssertionError(text)


@pytest.mark.skipif(NVTOP is None, reason="no nvtop (apt-get install nvtop, in Debian's contrib)")
def test_nvtop_shows_the_cards(stage: Stage) -> None:
    assert NVTOP is not None
    text = _on_a_terminal((NVTOP, "-C", "-p"), stage.environment, until="sleep")
    assert f"[{NAME}]" in text
    for pattern in (
        rf"TEMP\s+{HEAT}", rf"POW\s+{POWER} / 250 W", r"PCIe GEN 4@16x",
        rf"\b{stage.process}\b.*Compute.*1024MiB",
    ):  # fmt: skip
        assert re.search(pattern, text), pattern


def _on_a_terminal(argv: tuple[str, ...], environment: dict[str, str], until: str) -> str:
    """What a program drew, without the terminal's own words, until it showed a text and two seconds more."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    drawn, deadline = b"", time.monotonic() + 60
    with subprocess.Popen(argv, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        while time.monotonic() < deadline and process.poll() is None:
            if select.select([ours], [], [], 0.2)[0]:
                drawn += os.read(ours, 65536)
            if until.encode() in drawn:
                deadline, until = min(deadline, time.monotonic() + 2), "\0never"
        process.kill()
    os.close(ours)
    os.close(theirs)
    return re.sub(rb"\x1b(\[[0-9;?]*[A-Za-z]|\([A-Z0-9]|[=>78])", b" ", drawn).decode(errors="replace")
