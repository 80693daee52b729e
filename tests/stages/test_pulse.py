"""A guest that ends is known within seconds, by name of what ended it, and no wait on it outlasts it."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.backends.process import run_child
from harness.errors import CommandTimeout, GuestDied, TransportError
from harness.model.death import DeathKind
from harness.stages.guest.provision import GuestPlace
from harness.stages.guest.pulse import SCRIPT, Pulse
from harness.telemetry.guest.vitals import VitalsReader
from tests.fakes import FakeClock, FakeHost, FakeTransport
from tests.fakes.scripts import NONCE, asked_nonce
from tests.stages.stand_ins import FakeGuest

PANIC = b"[   30.2] Kernel panic - not syncing: Fatal exception\n"
SHUT = b"2026-01-01 00:00:09.1+0000: shutting down, reason=crashed\n"


def place(name: str) -> GuestPlace:
    return GuestPlace(domain=f"shakedown-{name}", directory="/w", number=0)


def eventually(seen: Callable[[], bool], seconds: float = 9.0) -> bool:
    """Whether it comes true within the ten seconds that a death may take to be known."""
    until = time.monotonic() + seconds
    while not seen() and time.monotonic() < until:
        time.sleep(0.05)
    return seen()


class Watched:
    """Two guests on a host in memory, and what the script prints about them."""

    def __init__(self, directory: Path) -> None:
        self.host = FakeHost()
        self.host.on("stream", lambda argv, _stdin: (0, f"shakedown 1 pulse {argv[4]}\n".encode(), b""))
        self.host.on("guest-serial", b"")
        self.host.on("guest-qemu-log", SHUT)
        self.host.on("guest-host-log", b"")
        self.said: list[str] = []
        self.transport = FakeTransport(self.host)
        self.path = directory / "pulse.txt"
        self.pulse = Pulse(
            self.transport,
            [("a", place("a")), ("b", place("b"))],
            path=self.path,
            clock=FakeClock(),
            progress=self.said.append,
        )
        self.nonce = asked_nonce(self.host.calls[0][0])
        self.guest = FakeGuest(life=self.pulse.life("a"))
        self.guest.host.on("cat", b"400.0 1.0\n")
        self.say("uptime 500.00", "pid 0 4711", "state 0 running booted", "pid 1 4712")

    def say(self, *lines: str) -> None:
        with self.path.open("a") as file:
            file.write("".join(f"{self.nonce} {line}\n" for line in lines))

    def console(self, text: bytes) -> None:
        self.host.on("guest-serial", text)
        self.say(f"console 0 9 {base64.b64encode(text[-2048:]).decode()}")

    def kind(self, name: str = "a") -> DeathKind | None:
        death = self.pulse.death(name)
        return None if death is None else death.kind


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    yield made
    made.pulse.close()


def test_a_panic_in_the_boot_ends_the_wait_with_the_consoles_last_lines(watched: Watched) -> None:
    watched.console(b"[   30.1] line before\n" + PANIC)
    assert eventually(lambda: watched.kind() is DeathKind.PANIC)
    with pytest.raises(GuestDied, match=r"a died: its kernel panicked .*line before \| .*Fatal exception"):
        watched.guest.run(("true",))
    assert watched.kind("b") is None, "each dies alone"
    assert [line for line in watched.said if line.startswith("a died")] != []


def test_what_a_program_writes_is_no_panic_while_the_guest_answers(watched: Watched) -> None:
    watched.pulse.reached("a", watched.guest)
    watched.console(PANIC)
    assert eventually(lambda: any(argv[0] == "cat" for argv, _ in watched.guest.host.calls))
    time.sleep(1.2)
    assert watched.kind() is None
    watched.guest.host.down = "no answer"
    watched.console(PANIC)
    assert eventually(lambda: watched.kind() is DeathKind.PANIC)


def test_a_qemu_that_ended_is_told_by_its_log_and_the_hosts(watched: Watched) -> None:
    killed = b"[ 495.000000] Out of memory: Killed process 4711 (qemu-system-x86)\n"
    watched.host.on("guest-host-log", killed)
    watched.say("gone 0 4711")
    assert eventually(lambda: watched.kind() is DeathKind.HOST_OOM)
    death = watched.pulse.death("a")
    assert death is not None
    assert (death.signal, death.pid, death.state) == (9, 4711, "running booted")
    assert death.host == (killed.decode().strip(), SHUT.decode().strip())


def test_a_reboot_is_told_by_a_kernel_that_is_younger(watched: Watched) -> None:
    watched.console(b"[    0.000000] Linux version 6.1.0\n")
    assert eventually(lambda: watched.pulse._reader.guests[0].begun == 1)
    watched.pulse.reached("a", watched.guest)
    watched.console(b"[    0.000000] Linux version 6.1.0 said a program\n")
    time.sleep(1.2)
    assert watched.kind() is None, "it runs for longer than we know it"
    watched.guest.host.down = "no route to host"
    watched.console(b"[    0.000000] Linux version 6.1.0\n")
    assert eventually(lambda: watched.kind() is DeathKind.REBOOTED)


def test_a_wait_that_broke_is_explained_when_the_watch_knows(watched: Watched) -> None:
    watched.pulse.reached("a", watched.guest)
    watched.guest.silent = 1
    threading.Timer(0.5, lambda: watched.say("gone 0 4711")).start()
    with pytest.raises(GuestDied, match="its QEMU was killed"):
        watched.guest.run(("true",))


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        (["state 0 paused user"], DeathKind.PAUSED),
        (["cpu 0 100", "uptime 530.00", "cpu 0 110"], DeathKind.SILENT),
        (["cpu 0 100", "uptime 530.00", "cpu 0 9100"], None),
    ],
)
def test_silence_is_told_apart_from_slowness(
    watched: Watched, lines: list[str], kind: DeathKind | None
) -> None:
    watched.say(*lines)
    assert eventually(lambda: watched.pulse._reader.strange == 0 and watched.pulse._read > 60)
    time.sleep(0.6)
    watched.pulse.reached("a", watched.guest)
    watched.guest.silent = 2
    error = CommandTimeout(
        "sh did not end within 110 s", remedy="check whether the machine hangs or is only slow"
    )
    told = watched.pulse.life("a").explained(error)
    assert watched.kind() is kind
    if kind is None:
        assert told is error
        assert "a is alive but slow: its QEMU uses 3.0 CPUs" in told.remedy
    else:
        assert isinstance(told, GuestDied)


def test_a_command_of_a_living_guest_that_takes_too_long_is_nobodys_death(watched: Watched) -> None:
    watched.pulse.reached("a", watched.guest)
    error = CommandTimeout("sh did not end within 110 s", remedy="wait")
    assert watched.pulse.life("a").explained(error) is error
    assert (watched.kind(), error.remedy) == (None, "wait")


def test_a_watch_that_is_over_calls_nobody_dead_and_may_be_ended_twice(watched: Watched) -> None:
    watched.pulse.close()
    watched.say("gone 0 4711")
    watched.pulse.close()
    assert watched.kind() is None
    assert not any(stream.alive for stream in watched.transport.streamed)


def test_a_watch_that_broke_is_taken_up_again(watched: Watched) -> None:
    watched.transport.streamed[0].alive = False
    assert eventually(lambda: len(watched.transport.streamed) == 2)
    watched.say("gone 0 4711")
    assert eventually(lambda: watched.kind() is DeathKind.QEMU_KILLED)


def test_a_host_that_cannot_be_watched_is_told_once_and_ends_nothing(tmp_path: Path) -> None:
    host, said = FakeHost(), []
    host.down = "Connection refused"
    pulse = Pulse(
        FakeTransport(host), [("a", place("a"))], path=tmp_path / "p", clock=FakeClock(), progress=said.append
    )
    pulse.life("a").require()
    pulse.close()
    assert said == ["the guests' state cannot be watched: Connection refused"]


def test_a_command_that_waits_is_ended_within_a_second_or_two() -> None:
    begun = time.monotonic()

    def require() -> None:
        if time.monotonic() - begun > 0.5:
            raise GuestDied("it died")

    for argv in (("sleep", "60"), ("sh", "-c", "exec >&- 2>&-; sleep 60")):
        begun = time.monotonic()
        with pytest.raises(GuestDied):
            run_child(argv, deadline=60.0, require=require)
        assert time.monotonic() - begun < 10.0


STATUS = """<!--
WARNING: THIS IS AN AUTO-GENERATED FILE. CHANGES TO IT ARE LIKELY TO BE
OVERWRITTEN AND LOST.
-->
<domstatus state='{state}' reason='{reason}' pid='{pid}'>
  <monitor path='/x' type='unix'/>
</domstatus>
"""


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Callable[[], VitalsReader]]:
    """The real script beside a process that stands for QEMU; what it has printed so far, read."""
    watched = ("one", str(tmp_path / "one.serial"), "two", "/no")
    out = tmp_path / "out"
    with out.open("wb") as file:
        running = subprocess.Popen(
            SCRIPT.held(NONCE, "0.2", str(tmp_path), *watched), stdin=subprocess.PIPE, stdout=file
        )

    def read() -> VitalsReader:
        reader = VitalsReader(2, NONCE)
        *lines, _ = out.read_text().split("\n")
        for line in lines:
            reader.take(line)
        return reader

    yield read
    assert running.stdin is not None
    running.stdin.close()
    assert running.wait(10.0) == 0
    assert read().strange == 0


def test_the_real_script_sees_a_process_its_state_its_console_and_its_end(
    tmp_path: Path, script: Callable[[], VitalsReader]
) -> None:
    qemu = subprocess.Popen(("sleep", "600"))
    status = tmp_path / "one.xml"
    status.write_text(STATUS.format(state="running", reason="booted", pid=qemu.pid))
    assert eventually(lambda: script().guests[0].pid == qemu.pid)
    serial = tmp_path / "one.serial"
    serial.write_bytes(b"[    0.000000] Linux version 6.1.0\ngone 1 7\n\xff")
    assert eventually(lambda: script().guests[0].begun == 1)
    with serial.open("ab") as file:
        file.write(b"x" * 100_000 + b"\n" + PANIC)
    assert eventually(lambda: script().guests[0].console.endswith(PANIC.decode()))
    status.write_text(STATUS.format(state="crashed", reason="panicked", pid=qemu.pid))
    assert eventually(lambda: script().guests[0].state == "crashed panicked")
    serial.write_bytes(b"rotated\n")
    assert eventually(lambda: script().guests[0].console.endswith("rotated\n"))
    os.kill(qemu.pid, signal.SIGKILL)  # it stays a zombie until it is waited for
    assert eventually(lambda: script().guests[0].gone)
    qemu.wait()
    one, other = script().guests
    assert (len(one.cpu) > 2, other.pid, other.console) == (True, None, "")


def test_an_error_of_the_transport_that_nobody_watches_stays_what_it_is() -> None:
    guest = FakeGuest(silent=1)
    with pytest.raises(TransportError, match="Connection refused"):
        guest.run(("true",))
