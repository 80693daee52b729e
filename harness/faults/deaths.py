"""Guests that ended, or stopped to answer, before anybody asked them to: one fault for each way."""

from __future__ import annotations

from harness.checks.guest.death import RULES
from harness.faults.base import Fault, with_guest, with_release
from harness.model.death import TITLES, DeathKind, GuestDeath
from harness.model.evidence import Evidence
from harness.model.outcome import Outcome
from harness.vendors.names import MODULES

SAID: dict[DeathKind, tuple[str, str]] = {
    DeathKind.PANIC_HARDWARE: ("serial console", "Kernel panic - not syncing: Fatal machine check"),
    DeathKind.PANIC_DRIVER: ("serial console", f"RIP: 0010:rm_isr+0x1c/0x90 [{MODULES[0]}]"),
    DeathKind.PANIC: ("serial console", "Kernel panic - not syncing: Fatal exception in interrupt"),
    DeathKind.PANIC_IMAGE: ("serial console", "Kernel panic - not syncing: VFS: Unable to mount root fs"),
    DeathKind.PROVOKED: ("serial console", "Kernel panic - not syncing: sysrq triggered crash"),
    DeathKind.WATCHDOG: ("serial console", "Kernel panic - not syncing: softlockup: hung tasks"),
    DeathKind.GUEST_OOM: ("serial console", "Kernel panic - not syncing: System is deadlocked on memory"),
    DeathKind.HOST_OOM: ("host's kernel", "Out of memory: Killed process 4711 (qemu-system-x86)"),
    DeathKind.HOST_HARDWARE: (
        "host's kernel",
        "Memory failure: 0x12a4: Killing CPU 0/KVM:4711 due to hardware memory corruption",
    ),
    DeathKind.QEMU_CRASHED: ("host's kernel", "CPU 0/KVM[4712]: segfault at 0 ip 0 sp 0 error 4"),
    DeathKind.QEMU_KILLED: ("QEMU", "qemu-system-x86_64: terminating on signal 15 from pid 812 (bash)"),
    DeathKind.DESTROYED: ("libvirt", "shutting down, reason=destroyed"),
    DeathKind.POWERED_OFF: ("libvirt", "shutting down, reason=shutdown"),
    DeathKind.REBOOTED: ("serial console", "Linux version 6.1.0-37-amd64"),
    DeathKind.STUCK_DRIVER: ("serial console", f"RIP: 0010:rm_isr+0x1c/0x90 [{MODULES[0]}]"),
    DeathKind.STUCK: ("serial console", "watchdog: BUG: soft lockup - CPU#3 stuck for 26s! [kworker/3:1]"),
    DeathKind.PAUSED: ("libvirt", "paused ioerror"),
    DeathKind.SILENT: ("host", "0.4 ticks of processor time a second"),
}
"""Who says of each way what decides it."""


def _dead(evidence: Evidence, kind: DeathKind) -> Evidence:
    witness, line = SAID[kind]
    death = GuestDeath(
        kind=kind,
        at="2026-11-22T00:05:00.000Z",
        during="burn",
        why=line,
        witness=witness,
        pid=4711,
        state="running booted",
        console=("[  301.2] shakedown-guest: ready 8.1", line) if witness == "serial console" else (),
        host=() if witness == "serial console" else (line,),
    )
    return with_release(with_guest(evidence, death=death), ended_before=True)


def _fault(kind: DeathKind) -> Fault:
    return Fault(
        id=f"guest-died-{kind.value.replace('_', '-')}",
        title=f"A guest died: {TITLES[kind]}",
        must_trip="guest.alive",
        corrupt=lambda evidence: _dead(evidence, kind),
        outcome=Outcome.FAIL if RULES[kind].accuses else Outcome.ERROR,
        also=("release.orderly",),
    )


FAULTS = tuple(_fault(kind) for kind in DeathKind)
