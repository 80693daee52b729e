"""How a guest ended before anybody asked it to, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DeathKind(StrEnum):
    """What ended a guest, or keeps it from answering (its verdict: harness.checks.guest.death)."""

    PANIC_HARDWARE = "panic_hardware"
    """Its kernel panicked and named hardware: a machine check, an NMI, PCIe, the IOMMU, a GPU's own error."""
    PANIC_DRIVER = "panic_driver"
    """Its kernel panicked in a GPU driver's code."""
    PANIC = "panic"
    """Its kernel panicked, and names no culprit."""
    PANIC_IMAGE = "panic_image"
    """Its kernel found no root, or process 1 ended: what it booted does not work."""
    PROVOKED = "provoked"
    """Somebody in it asked its kernel to crash (sysrq)."""
    WATCHDOG = "watchdog"
    """A watchdog of its kernel, or of its machine, ended it: a CPU or task was stuck."""
    GUEST_OOM = "guest_oom"
    """Its own memory ran out, and its kernel could not go on."""
    HOST_OOM = "host_oom"
    """The host's memory ran out, and the host's kernel killed its QEMU."""
    HOST_HARDWARE = "host_hardware"
    """The host's kernel killed its QEMU for memory that is broken."""
    QEMU_CRASHED = "qemu_crashed"
    """Its QEMU ended by a defect: a signal of its own making, an assertion."""
    QEMU_KILLED = "qemu_killed"
    """Somebody ended its QEMU by a signal, or it ended without a word, as SIGKILL ends it."""
    DESTROYED = "destroyed"
    """Somebody had libvirt end it, save it or move it away."""
    POWERED_OFF = "powered_off"
    """It switched itself off."""
    REBOOTED = "rebooted"
    """It began anew: what ran in it is gone."""
    STUCK_DRIVER = "stuck_driver"
    """It does not answer, and its kernel says that it is stuck in a GPU driver's code."""
    STUCK = "stuck"
    """It does not answer, and its kernel says that a CPU or task is stuck."""
    PAUSED = "paused"
    """It does not answer because libvirt holds it."""
    SILENT = "silent"
    """It does not answer, its processors do nothing, and nobody says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestDeath:
    """A guest that ended, or stopped to answer, before anybody asked it to."""

    kind: DeathKind
    at: str
    """When it was noticed: UTC, ISO 8601, by the controller's clock."""
    during: str = ""
    """The stage that it broke; empty between two stages."""
    why: str = ""
    """The line, of whatever witness, that decided the kind."""
    witness: str = ""
    """Who said it: ``serial console``, ``libvirt``, ``QEMU``, ``host's kernel`` ..."""
    signal: int | None = None
    """What ended its QEMU, where somebody says."""
    pid: int | None = None
    """Of its QEMU on the host."""
    state: str = ""
    """libvirt's word for the domain and the reason, the last time that it had one: ``running booted``."""
    console: tuple[str, ...] = ()
    """The last lines of its serial console."""
    host: tuple[str, ...] = ()
    """What the host's kernel and QEMU's log said of it."""

    @property
    def words(self) -> str:
        """What happened in one sentence, with the line that decided."""
        said = f": {self.why}" if self.why else ""
        return f"{TITLES[self.kind]}{f' ({self.witness})' if self.witness and self.why else ''}{said}"


TITLES: dict[DeathKind, str] = {
    DeathKind.PANIC_HARDWARE: "its kernel panicked and named hardware",
    DeathKind.PANIC_DRIVER: "its kernel panicked in a GPU driver",
    DeathKind.PANIC: "its kernel panicked",
    DeathKind.PANIC_IMAGE: "its kernel panicked because what it booted does not work",
    DeathKind.PROVOKED: "its kernel was told to crash",
    DeathKind.WATCHDOG: "a watchdog ended it",
    DeathKind.GUEST_OOM: "it ran out of memory, and its kernel could not go on",
    DeathKind.HOST_OOM: "the host ran out of memory and killed its QEMU",
    DeathKind.HOST_HARDWARE: "the host's kernel killed its QEMU over broken memory",
    DeathKind.QEMU_CRASHED: "its QEMU crashed",
    DeathKind.QEMU_KILLED: "its QEMU was killed",
    DeathKind.DESTROYED: "it was ended through libvirt",
    DeathKind.POWERED_OFF: "it switched itself off",
    DeathKind.REBOOTED: "it rebooted",
    DeathKind.STUCK_DRIVER: "it hangs, stuck in a GPU driver",
    DeathKind.STUCK: "it hangs: its kernel says that it is stuck",
    DeathKind.PAUSED: "it is paused",
    DeathKind.SILENT: "it hangs: it does not answer, and its processors do nothing",
}
"""What each kind is called in messages, behind the guest's name."""
