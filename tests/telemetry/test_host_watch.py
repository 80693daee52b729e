"""What must not change on a host while loads run: real processes and files, changed under its eyes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.backends.local import LocalTransport
from harness.model.host_change import HostChange, Weight
from harness.model.pci import PciAddress
from harness.telemetry.host.changes import Found, find_changes
from harness.telemetry.host.grounds import Grounds, GuestWindow
from harness.telemetry.host.lines import host_command, read_lines
from harness.telemetry.host.table import SOURCES, WATCHED

NONCE = "fedcba9876543210"
RUN = "shakedown-r-"
GPU = PciAddress.parse("0000:41:00.0")
THREADS = (
    "import threading, time, sys\n"
    "for _ in range(int(sys.argv[1])):\n"
    "    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    "print('up', flush=True)\n"
    "time.sleep(600)\n"
)


def xml(
    state: str = "running", reason: str = "booted", pins: str = "2", memory: int = 1024, gpus: int = 1
) -> str:
    aliases = "".join(f"      <alias name='ua-gpu{n}'/>\n" for n in range(gpus))
    return (
        f"<domstatus state='{state}' reason='{reason}' pid='1'>\n  <vcpus>\n    <vcpu id='0' pid='7'/>\n"
        f"  </vcpus>\n  <domain type='kvm' id='1'>\n    <name>g</name>\n"
        f"    <currentMemory unit='KiB'>{memory}</currentMemory>\n    <cputune>\n"
        f"      <vcpupin vcpu='0' cpuset='{pins}'/>\n      <emulatorpin cpuset='0'/>\n    </cputune>\n"
        f"{aliases}  </domain>\n</domstatus>\n"
    )


@dataclass
class Machine:
    """A directory like libvirt's, QEMUs that are Python with threads, and the follower on this machine."""

    root: Path
    bin: Path
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def domain(self, name: str, threads: int = 3, **definition: object) -> int:
        """A running domain; returns its process."""
        argv = (sys.executable, "-I", "-S", "-c", THREADS, str(threads))
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        (self.root / f"{name}.pid").write_text(str(process.pid))  # without an end of line, as libvirt does
        self.define(name, **definition)
        return process.pid

    def define(self, name: str, **definition: object) -> None:
        """Write its state down, as libvirt does: whole, by a rename."""
        new = self.root / "new"
        new.write_text(xml(**definition))  # type: ignore[arg-type]
        new.rename(self.root / f"{name}.xml")

    def watch(
        self, between: Callable[[], None], *, grounds: Grounds | None = None, seconds: float = 0.2
    ) -> Found:
        """What is found when ``between`` happens while the follower runs; all guests are in their time."""
        path = self.root / "spool"
        argv = host_command(
            NONCE, period_seconds=seconds, look_seconds=seconds, devices=(), ours=RUN, libvirt=str(self.root)
        )
        environment = f"PATH={self.bin}:{os.environ['PATH']}"
        stream = LocalTransport().stream(("/usr/bin/env", environment, *argv), path)
        try:
            self._until(path, 3)
            between()
            done = path.read_bytes().count(b" sample ")
            self._until(path, done + 3)
        finally:
            stream.close()
        assert stream.errors() == ""
        spool = read_lines(path.read_bytes())
        assert spool.problems == ()
        return find_changes(spool, grounds or self.grounds())

    def grounds(self, **changes: object) -> Grounds:
        names = [p.stem for p in self.root.glob(f"{RUN}*.pid")]
        windows = tuple(
            GuestWindow(guest=name.removeprefix(RUN), domain=name, devices=(GPU,), start=0.0)
            for name in names
        )
        plain = Grounds(windows=windows, domains=frozenset(names), gpus=frozenset({GPU}))
        return replace(plain, **changes)  # type: ignore[arg-type]

    @staticmethod
    def _until(path: Path, samples: int) -> None:
        for _ in range(1000):
            if path.exists() and path.read_bytes().count(b" sample ") > samples:
                return
            time.sleep(0.02)
        pytest.fail(f"no sample {samples}: {path.read_bytes()[-400:]!r}")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    (tmp_path / "qemu").mkdir()
    (tmp_path / "bin").mkdir()
    made = Machine(tmp_path / "qemu", tmp_path / "bin")
    virsh(made, "exec sleep 600")
    yield made
    for process in made.processes:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def virsh(machine: Machine, body: str) -> None:
    """A virsh that does this."""
    path = machine.bin / "virsh"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def of(found: Found, what: str) -> list[HostChange]:
    return [change for change in found.changes if change.what == what]


def nothing() -> None:
    return


def void(_value: object) -> None:
    return


def test_a_quiet_host_shows_no_change_and_everything_was_read(machine: Machine) -> None:
    machine.domain(f"{RUN}g1")
    found = machine.watch(nothing)
    assert [c for c in found.changes if c.weight is not Weight.TOLD and c.what != "holder"] == []
    due = {f"{row.name} of g1" if row.about.value == "guest" else row.name for row in WATCHED if row.due}
    assert {name for name, count in found.asked.items() if count > 2} >= due


@pytest.mark.parametrize("which", ["main", "thread"])
def test_a_thread_that_is_pinned_anew_is_told_with_its_cpus_and_time(machine: Machine, which: str) -> None:
    pid = machine.domain(f"{RUN}g1")
    other = machine.domain(f"{RUN}g2")
    tid = pid if which == "main" else max(int(each.name) for each in Path(f"/proc/{pid}/task").iterdir())
    os.sched_setaffinity(tid, {0})
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    found = machine.watch(lambda: os.sched_setaffinity(tid, {1}))
    (change,) = of(found, "thread_cpus")
    assert (change.guest, change.before, change.after) == ("g1", "0", "1")
    assert str(tid) in change.subject
    assert change.since is not None
    assert change.at is not None
    assert before < change.since < change.at < time.clock_gettime(time.CLOCK_BOOTTIME)
    assert change.weight is Weight.HARMFUL
    assert other != pid


def test_a_pin_that_was_put_back_is_told_with_its_end(machine: Machine) -> None:
    pid = machine.domain(f"{RUN}g1")
    os.sched_setaffinity(pid, {1})

    def for_a_while() -> None:
        os.sched_setaffinity(pid, {0, 1})
        time.sleep(1.5)
        os.sched_setaffinity(pid, {1})

    (change,) = of(machine.watch(for_a_while), "thread_cpus")
    assert change.at is not None
    assert change.until is not None
    assert change.at < change.until


@pytest.mark.parametrize(
    ("definition", "what", "words", "weight"),
    [
        ({"state": "paused", "reason": "user"}, "state", "paused", Weight.DOUBTFUL),
        ({"state": "paused", "reason": "ioerror"}, "state", "ioerror", Weight.DOUBTFUL),
        # A pause that is over before anybody looks leaves its reason.
        ({"reason": "unpaused"}, "state", "unpaused", Weight.DOUBTFUL),
        ({"pins": "0-7"}, "definition", "0-7", Weight.HARMFUL),
        ({"memory": 512}, "definition", "512", Weight.HARMFUL),
        ({"gpus": 0}, "definition", "not there", Weight.HARMFUL),
        ({"gpus": 2}, "definition", "", Weight.HARMFUL),
    ],
)
def test_what_libvirt_changes_of_a_running_guest_is_told(
    machine: Machine, definition, what, words, weight
) -> None:
    machine.domain(f"{RUN}g1")
    (change,) = of(machine.watch(lambda: machine.define(f"{RUN}g1", **definition)), what)
    assert words in change.after
    assert (change.guest, change.weight) == ("g1", weight)


def test_a_guest_that_was_stopped_by_a_signal_is_told(machine: Machine) -> None:
    pid = machine.domain(f"{RUN}g1")
    (change,) = of(machine.watch(lambda: os.kill(pid, signal.SIGSTOP)), "process")
    assert "stopped by a signal" in change.after


def test_another_process_under_the_same_name_is_another_guest(machine: Machine) -> None:
    name = f"{RUN}g1"
    machine.domain(name)
    (change,) = of(machine.watch(lambda: void(machine.domain(name))), "process")
    assert change.before != change.after
    assert change.weight is Weight.DOUBTFUL


@pytest.mark.parametrize("name", ["tenant-7", f"{RUN}g1-evil", "g1"])
def test_a_domain_of_others_that_comes_is_told_whatever_its_name(machine: Machine, name: str) -> None:
    machine.domain(f"{RUN}g1")
    grounds = machine.grounds()
    found = machine.watch(lambda: void(machine.domain(name)), grounds=grounds)
    (change,) = of(found, "domain")
    assert change.subject == f"domain {name}"
    assert (change.weight, change.guest) == (Weight.HARMFUL, "")
    assert change.at is not None


def test_others_are_only_told_where_the_host_is_shared_and_not_at_all_if_they_were_there(
    machine: Machine,
) -> None:
    machine.domain(f"{RUN}g1")
    machine.domain("tenant-7")
    grounds = machine.grounds()
    assert [c.weight for c in of(machine.watch(nothing, grounds=grounds), "domain")] == [Weight.HARMFUL]
    (machine.root / "spool").unlink()
    shared = replace(grounds, sharing=True)
    assert [c.weight for c in of(machine.watch(nothing, grounds=shared), "domain")] == [Weight.TOLD]
    (machine.root / "spool").unlink()
    known = replace(grounds, known=frozenset({"tenant-7"}))
    assert of(machine.watch(nothing, grounds=known), "domain") == []


def test_libvirts_daemon_that_came_back_is_told_and_no_more(machine: Machine) -> None:
    machine.domain(f"{RUN}g1")
    machine.domain("driver")
    found = machine.watch(lambda: void(machine.domain("driver")))
    (change,) = of(found, "libvirt")
    assert change.weight is Weight.TOLD
    assert change.before != change.after


SAID = "printf '%s\\n' \"2026-12-01 00:41:0$1.096+0000: event 'lifecycle' for domain '{name}': {what}\""


def test_each_pause_is_counted_though_nobody_looked_in_between(machine: Machine) -> None:
    machine.domain(f"{RUN}g1")
    pair = "\n".join(
        SAID.replace("$1", str(n)).format(name=f"{RUN}g1", what=what)
        for n, what in enumerate(["Suspended Paused", "Resumed Unpaused"] * 3)
    )
    virsh(machine, f"sleep 0.7\n{pair}\nexec sleep 600")
    found = machine.watch(lambda: time.sleep(1.0))
    pauses = of(found, "state")
    assert [c.subject for c in pauses] == ["Suspended"] * 3
    assert {c.weight for c in pauses} == {Weight.DOUBTFUL}
    assert "00:41:04.096" in pauses[-1].after


def test_a_domain_that_came_and_went_between_two_looks_is_told(machine: Machine) -> None:
    machine.domain(f"{RUN}g1")
    lines = "\n".join(
        SAID.replace("$1", str(n)).format(name="burst", what=what)
        for n, what in enumerate(["Started Booted", "Stopped Destroyed"])
    )
    virsh(machine, f"sleep 0.5\n{lines}\nexec sleep 600")
    (change,) = of(machine.watch(lambda: time.sleep(1.0)), "domain")
    assert change.weight is Weight.HARMFUL


@pytest.mark.parametrize(
    ("day", "found"),
    [
        ("00:41:03.200", []),
        ("00:41:00.700", ["Shutdown"]),
        ("00:30:00.000", ["Shutdown"]),
        ("09:00:00.000", []),
    ],
    ids=["after-the-window", "in-the-window", "a-clock-set-back", "a-clock-set-forward"],
)
def test_an_event_has_its_own_time_and_not_that_of_the_sample_before_it(day: str, found: list[str]) -> None:
    """Samples at 100 s and 105 s, the clock said 00:41:00 at 100 s; our guest was let go of at 101 s."""
    name = f"{RUN}g1"
    lines = [
        *(f"shakedown 1 host-follow {NONCE}", f"{NONCE} self 1 1 100"),
        *(f"{NONCE} sample 0", "/proc/uptime:100.00 1", f"{NONCE} end 0"),
        f"{NONCE} clock 100.00 {datetime(2026, 12, 1, 0, 41, tzinfo=UTC).timestamp():.3f}000000",
        f"2026-12-01 {day}+0000: event 'lifecycle' for domain '{name}': Shutdown Finished",
        *(f"{NONCE} sample 1", "/proc/uptime:105.00 1", f"{NONCE} end 1", ""),
    ]
    window = GuestWindow(guest="g1", domain=name, devices=(), start=90.0, end=101.0)
    grounds = Grounds(windows=(window,), domains=frozenset({name}))
    spool = read_lines("\n".join(lines).encode())
    assert spool.problems == ()
    assert 100.0 <= spool.events[0].at <= 105.0
    assert [change.subject for change in of(find_changes(spool, grounds), "state")] == found


@pytest.mark.parametrize(("body", "words"), [("exit 1", "status 1"), ("exit 127", "no virsh")])
def test_events_that_cannot_be_had_are_told(machine: Machine, body: str, words: str) -> None:
    machine.domain(f"{RUN}g1")
    virsh(machine, body)
    (change,) = of(machine.watch(nothing), "libvirt")
    assert words in change.after


def test_who_opens_a_device_file_is_told_once_it_stays(machine: Machine, tmp_path: Path) -> None:
    """Of files by the names of devices nobody can make any here, so the lines are those of the real find."""
    spool = machine_lines([["900/fd/3:/dev/vfio/11", "901/fd/4:/dev/nvidiactl"], ["900/fd/3:/dev/vfio/11"]])
    changes = {c.subject: c for c in of(find_changes(read_lines(spool), Grounds()), "holder")}
    assert changes["process 900 (name unknown)"].weight is Weight.HARMFUL
    assert changes["process 901 (name unknown)"].weight is Weight.TOLD
    assert find_changes(read_lines(spool), Grounds(bare=True)).changes == ()
    known = Grounds(known=frozenset({"900", "901"}))
    assert find_changes(read_lines(spool), known).changes == ()


def machine_lines(holders: list[list[str]]) -> bytes:
    lines = [f"shakedown 1 host-follow {NONCE}", f"{NONCE} self 1 1 100"]
    for number, found in enumerate(holders):
        lines += [f"{NONCE} sample {number}", f"/proc/uptime:{10 + number}.00 1", f"{NONCE} end {number}"]
        lines += [f"{NONCE} watch holders {10 + number}.10", *(f"/proc/{line}" for line in found)]
        lines += [f"{NONCE} end holders"]
    return "\n".join([*lines, ""]).encode()


def test_each_source_of_the_table_is_asked_by_the_real_script(machine: Machine) -> None:
    machine.domain(f"{RUN}g1")
    machine.watch(nothing)
    raw = (machine.root / "spool").read_text()
    for source in SOURCES:
        assert f"{NONCE} watch {source.name} " in raw, source.name
    assert f"{NONCE} same threads " in raw
