"""What ended a guest is told by whoever witnessed it, in whatever words kernels and QEMU have for it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.checks.guest.death import RULES
from harness.model.death import TITLES, DeathKind
from harness.telemetry.guest.autopsy import Witnesses, cause_of_death, panicked, why_silent

AT = "2026-01-01T00:00:00Z"
PANIC = "Kernel panic - not syncing: "
OOPS = "[  30.1] BUG: unable to handle page fault for address: 0000000000000010\n"
MCE = "[  29.9] mce: [Hardware Error]: CPU 3: Machine Check Exception: 5 Bank 4: b200000000070005\n"
IN_DRIVER = "[  30.1] RIP: 0010:_nv012345rm+0x1c/0x90 [nvidia]\n"
START = "2026-01-01 00:00:00.1+0000: starting up libvirt version: 9.0.0\nLC_ALL=C \\\n-name guest=g \\\n"


def ended(console: str = "", **seen: object) -> tuple[DeathKind, int | None]:
    death = cause_of_death(Witnesses(console=console, **seen), at=AT)  # type: ignore[arg-type]
    return death.kind, death.signal


@pytest.mark.parametrize(
    ("before", "reason", "kind"),
    [
        ("", "Fatal machine check", DeathKind.PANIC_HARDWARE),
        ("", "Timeout: Not all CPUs entered broadcast exception handler", DeathKind.PANIC_HARDWARE),
        ("", "NMI: Not continuing", DeathKind.PANIC_HARDWARE),
        ("", "NMI IOCK error: Not continuing", DeathKind.PANIC_HARDWARE),
        (MCE, "Fatal exception in interrupt", DeathKind.PANIC_HARDWARE),
        (
            "[ 29.0] NVRM: Xid (PCI:0000:05:00): 79, GPU has fallen off the bus.\n",
            "Fatal exception",
            DeathKind.PANIC_HARDWARE,
        ),
        (
            "[ 29.0] pcieport 0000:00:01.0: AER: Uncorrected (Fatal) error received: 0000:05:00.0\n",
            "Fatal exception",
            DeathKind.PANIC_HARDWARE,
        ),
        (OOPS + IN_DRIVER, "Fatal exception", DeathKind.PANIC_DRIVER),
        (OOPS + "[ 30.1]  ? amdgpu_irq+0x1/0x20 [amdgpu]\n", "Fatal exception", DeathKind.PANIC_DRIVER),
        (OOPS, "Fatal exception", DeathKind.PANIC),
        ("", "stack-protector: Kernel stack is corrupted in: do_idle", DeathKind.PANIC),
        ("", "Attempted to kill init! exitcode=0x0000000b", DeathKind.PANIC),
        ("", "Attempted to kill init! exitcode=0x00000100", DeathKind.PANIC_IMAGE),
        ("", "VFS: Unable to mount root fs on unknown-block(0,0)", DeathKind.PANIC_IMAGE),
        ("", "No working init found.  Try passing init= option to kernel.", DeathKind.PANIC_IMAGE),
        ("", "sysrq triggered crash", DeathKind.PROVOKED),
        ("[ 30.0] sysrq: Trigger a crash\n" + OOPS, "Fatal exception", DeathKind.PROVOKED),
        ("", "softlockup: hung tasks", DeathKind.WATCHDOG),
        ("", "hung_task: blocked tasks", DeathKind.WATCHDOG),
        ("", "Hard LOCKUP", DeathKind.WATCHDOG),
        ("", "System is deadlocked on memory", DeathKind.GUEST_OOM),
        ("", "Out of memory: system-wide panic_on_oom is enabled", DeathKind.GUEST_OOM),
        (
            "[ 29.0] Out of memory: Killed process 1 (init)\n",
            "Attempted to kill init! exitcode=0x00000009",
            DeathKind.GUEST_OOM,
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("prefix", ["[   30.200000] ", "", "\x1b[0m\r[   30.200000][    T1] "])
def test_a_panic_is_told_by_what_it_names(before: str, reason: str, kind: DeathKind, prefix: str) -> None:
    console = (
        f"{before}{prefix}{PANIC}{reason}\n{prefix}CPU: 0 PID: 1\n{prefix}---[ end {PANIC}{reason} ]---\n"
    )
    assert panicked(console)
    assert ended(console) == (kind, None)


@pytest.mark.parametrize(
    "console",
    ["", "[ 1.0] init: all well\n", 'log: "Kernel panic - not syncing: no"\n', "panic=10 oops=panic\n"],
)
def test_other_words_are_no_panic(console: str) -> None:
    assert not panicked(console)


@pytest.mark.parametrize(
    ("log", "host", "kind", "signal"),
    [
        ("qemu-system-x86_64: terminating on signal 15 from pid 812 (bash)", "", DeathKind.QEMU_KILLED, 15),
        ("qemu: terminating on signal 2", "", DeathKind.QEMU_KILLED, 2),
        ("2026-01-01 00:00:09.1+0000: shutting down, reason=crashed", "", DeathKind.QEMU_KILLED, None),
        ("", "", DeathKind.QEMU_KILLED, None),
        ("2026-01-01 00:00:09.1+0000: shutting down, reason=destroyed", "", DeathKind.DESTROYED, None),
        ("2026-01-01 00:00:09.1+0000: shutting down, reason=migrated", "", DeathKind.DESTROYED, None),
        ("2026-01-01 00:00:09.1+0000: shutting down, reason=shutdown", "", DeathKind.POWERED_OFF, None),
        ("qemu: ../hw/vfio/pci.c:12: f: Assertion `x' failed.", "", DeathKind.QEMU_CRASHED, 6),
        ("KVM: entry failed, hardware error 0x80000021", "", DeathKind.QEMU_CRASHED, 6),
        (
            "2026-01-01 00:00:09.1+0000: shutting down, reason=crashed",
            "kern  :err   : [ 95.000000] Out of memory: Killed process 4711 (qemu-system-x86) total-vm:1kB",
            DeathKind.HOST_OOM,
            9,
        ),
        ("", "[ 95.0] oom-kill:constraint=NONE,task=qemu,pid=4711,uid=64055", DeathKind.HOST_OOM, 9),
        ("", "[ 95.000000] CPU 0/KVM[4720]: segfault at 0 ip 0 sp 0 error 4", DeathKind.QEMU_CRASHED, 11),
        ("", "[ 95.000000] traps: qemu-system-x86[4711] general protection", DeathKind.QEMU_CRASHED, 11),
        (
            "",
            "[ 95.0] Memory failure: 0x1: Killing CPU 0/KVM:4720 due to hardware memory corruption",
            DeathKind.HOST_HARDWARE,
            7,
        ),
        # Of another QEMU: an older crash, another process that ran out of memory, a program's words.
        ("", "[ 11.000000] CPU 0/KVM[4720]: segfault at 0 ip 0 sp 0 error 4", DeathKind.QEMU_KILLED, None),
        ("", "[ 95.000000] Out of memory: Killed process 99 (python3)", DeathKind.QEMU_KILLED, None),
        ("", "user  :err   : [ 95.000000] Out of memory: Killed process 4711", DeathKind.QEMU_KILLED, None),
    ],
)  # fmt: skip
def test_the_end_of_a_qemu_is_told_by_who_ended_it(
    log: str, host: str, kind: DeathKind, signal: int | None
) -> None:
    old = f"{START}2025-12-31 00:00:00.1+0000: shutting down, reason=destroyed\n{START}{log}\n"
    seen = {"qemu_log": old, "host_log": host, "host_since": 90.0, "pid": 4711, "gone": True}
    assert ended(**seen) == (kind, signal)


@pytest.mark.parametrize(
    ("console", "state", "busy", "kind"),
    [
        ("", "paused user", 0.0, DeathKind.PAUSED),
        ("", "paused ioerror", None, DeathKind.PAUSED),
        ("[ 9.0] watchdog: BUG: soft lockup - CPU#3 stuck for 26s!\n", "running", 99.0, DeathKind.STUCK),
        ("[ 9.0] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\n", "running", 99.0, DeathKind.STUCK),
        ("[ 9.0] INFO: task nv_q:12 blocked for more than 120 seconds.\n", "running", 1.0, DeathKind.STUCK),
        (
            "[ 9.0] INFO: task nv_queue:12 blocked for more than 120 seconds.\n"
            "[ 9.1]  os_acquire_mutex+0x3e/0x60 [nvidia]\n",
            "running",
            1.0,
            DeathKind.STUCK_DRIVER,
        ),
        ("", "running booted", 0.7, DeathKind.SILENT),
        ("", "running booted", 180.0, None),
        ("", "running booted", None, None),
        ("[ 9.0] eth0: link up\n", "running booted", 57.0, None),
    ],
)  # fmt: skip
def test_a_guest_that_does_not_answer_is_held_stuck_silent_or_only_slow(
    console: str, state: str, busy: float | None, kind: DeathKind | None
) -> None:
    death = why_silent(Witnesses(console=console, state=state, busy=busy, pid=4711), at=AT)
    assert (None if death is None else death.kind) is kind


def test_a_crash_that_libvirt_noticed_and_a_reboot_have_no_panic_to_show() -> None:
    assert ended(state="crashed panicked")[0] is DeathKind.PANIC
    assert ended("[    0.000000] Linux version 6.1.0\n", rebooted=True)[0] is DeathKind.REBOOTED


def test_the_consoles_last_lines_and_what_the_host_said_are_kept_short() -> None:
    console = "".join(f"[ {n}.0] line {n} {'x' * 9000}\n" for n in range(300)) + f"[ 999.0] {PANIC}no\n"
    host = "\n".join(["[ 95.0] usb 1-1: new device", "[ 95.1] oom-kill:task=qemu,pid=4711"])
    seen = Witnesses(console=console, host_log=host, qemu_log=f"{START}Aborted\n", pid=4711, gone=True)
    death = cause_of_death(seen, at=AT)
    assert (len(death.console), max(map(len, death.console))) == (16, 400)
    assert death.console[-1].endswith(PANIC + "no")
    assert death.host == ("[ 95.1] oom-kill:task=qemu,pid=4711", "Aborted")


def test_every_way_to_die_has_a_name_and_a_rule_with_a_reason_and_a_remedy() -> None:
    assert set(TITLES) == set(RULES) == set(DeathKind)
    assert all(rule.reason and rule.remedy for rule in RULES.values())


WORDS = st.sampled_from(
    [PANIC, MCE, IN_DRIVER, START, "shutting down, reason=", "Assertion '", "\n", "\r", "["]
)
TEXT = st.lists(WORDS | st.text(max_size=20), max_size=30).map("".join)


@given(TEXT, TEXT, TEXT, st.booleans())
def test_no_words_of_a_guest_or_host_keep_its_death_from_being_told(
    console: str, qemu: str, host: str, gone: bool
) -> None:
    seen = Witnesses(console=console, qemu_log=qemu, host_log=host, pid=7, gone=gone, state=qemu[:40])
    death = cause_of_death(seen, at=AT)
    assert death.words
    assert all(len(line) <= 400 for line in (death.why, *death.console, *death.host))
    why_silent(seen, at=AT)


@pytest.mark.parametrize(
    "piece", [PANIC, "Assertion '", "terminating on signal ", "+0x1/0x2 [nvidia", "pid=7 "]
)
def test_words_without_end_cost_no_time(piece: str) -> None:
    long = piece * (65536 // len(piece))
    before = time.process_time()
    cause_of_death(Witnesses(console=long, qemu_log=long[:16384], host_log=long, pid=7, gone=True), at=AT)
    assert time.process_time() - before < 2.0
