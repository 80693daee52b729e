"""What ended a guest, by all that witnessed it: serial console, QEMU's log, libvirt and the host's kernel.

Sources of the words: kernel/panic.c, mm/oom_kill.c, drivers/tty/sysrq.c, kernel/watchdog.c, init/do_mounts.c,
kernel/hung_task.c, kernel/exit.c; QEMU's softmmu/runstate.c (qemu_system_killed) and accel/kvm; libvirt's
src/conf/domain_conf.c (virDomainShutoffReason) and src/qemu/qemu_domain.c ("shutting down, reason=").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.model.death import DeathKind, GuestDeath
from harness.model.kernel_codes import KernelCodes
from harness.model.telemetry import GPU_FAMILIES, Family, Ruling
from harness.telemetry.kernel.log import tell
from harness.telemetry.kernel.text import message, pieces, plain
from harness.vendors.names import MODULES, any_of

SHOWN_LINES = 16
"""Of a console's end that go into the record: a panic's own line is among them, or stands as the reason."""
_LONGEST = 400
_BEFORE = 80
"""Lines before a panic that may say why: an oops with its trace is some 50."""

_PANIC = re.compile(r"(?:---\[ end )?Kernel panic - not syncing: ?(?P<why>[^\]]*)", re.IGNORECASE)
_GPU_CODE = re.compile(rf"\[(?:{any_of(MODULES)})(?:_\w*)?\b[^\]]*\]\s*$")
"""Behind a place in a trace stands the module whose code it is: ``_012345rm+0x1c/0x90 [driver]``."""
_TRACED = re.compile(r"(?:RIP: |\? )?(?:[0-9a-f]{4}:)?[\w.]+\+0x[0-9a-f]+/0x[0-9a-f]+", re.IGNORECASE)
_PROVOKED = re.compile(r"sysrq: (?:SysRq : )?Trigger a crash|.*\bsysrq triggered crash", re.IGNORECASE)
_HARDWARE = re.compile(
    r"(?:fatal |uncorrected )?(?:local )?machine check|fatal hardware error|timeout: not all cpus entered"
    r"|.*\b(?:mce|machine check|hardware error|iock error|serr|memory parity)\b|nmi\b(?!.*watchdog)"
    r"|dmar hardware|aer\b",
    re.IGNORECASE,
)
_WATCHDOG = re.compile(r"softlockup|hard lockup|hung_task|watchdog|rcu\b.*stall|panic_on_rcu", re.IGNORECASE)
_OOM = re.compile(r"(?:out of memory\b|system is deadlocked on memory|.*no killable process)", re.IGNORECASE)
_KILLED = re.compile(r"(?:Memory cgroup )?[Oo]ut of memory: Kill(?:ed)? process")
_IMAGE = re.compile(
    r"VFS: Unable to mount root|No (?:working )?init found|Requested init \S+ failed"
    r"|Attempted to kill init! exitcode=0x0000[0-9a-f]{2}00\b",
    re.IGNORECASE,
)
"""An exit code whose low byte is 0: process 1 ended by itself, and by no signal (wait(2))."""
_BEGINS = re.compile(r"Linux version \d|shakedown-guest: init ")
_HARDWARE_FAMILIES = (Family.MCE, Family.AER, Family.IOMMU, *GPU_FAMILIES)
_STUCK = re.compile(
    r"(?:(?:NMI )?watchdog: )?BUG: soft lockup|.*\bhard LOCKUP"
    r"|(?:rcu: )?INFO: \w+ (?:self-)?detected (?:expedited )?stall"
    r"|INFO: task \S.{0,80} blocked .*for more than \d+",
    re.IGNORECASE,
)

_QEMU = r"(?:qemu\S*|kvm|CPU \d+/KVM|IO \S+)"
_HOST_OOM = r"Out of memory: Kill(?:ed)? process {pid}\b|oom-kill:.*\bpid={pid}\b|Killed process {pid} \("
_HOST_MEMORY = r"Killing {qemu}:{pid} due to hardware memory corruption|Killing {qemu}:\d+ due to hardware"
_HOST_SIGNAL = re.compile(
    rf"(?:traps: )?{_QEMU}\[\d+\]:? (?:segfault at|general protection|trap (?P<trap>[\w ]+?) ip)"
)
_TERMINATED = re.compile(r".*\bterminating on signal (?P<signal>\d{1,2})(?P<by> from pid \d+.*)?")
_QEMU_DEFECT = re.compile(
    r".*(?:Assertion [`'\"].*failed|ERROR:.*assertion failed|\bAborted\b|double free|corrupted size|hw error"
    r"|malloc\(\)|kvm run failed|KVM: entry failed|KVM internal error|stack smashing|Segmentation fault)",
    re.IGNORECASE,
)
_SHUT = re.compile(r".*: shutting down, reason=(?P<reason>[\w ]+)")
_BEGUN = re.compile(r".*: starting up libvirt version")


@dataclass(frozen=True, slots=True, kw_only=True)
class Witnesses:
    """All that was gathered of a guest that ended, or does not answer."""

    console: str = ""
    qemu_log: str = ""
    """Of QEMU on the host (``/var/log/libvirt/qemu/DOMAIN.log``), where libvirt writes its own words too."""
    host_log: str = ""
    """The end of the host's kernel log."""
    host_since: float | None = None
    """Seconds since the host's boot, from which on that log is this guest's matter: lines of crashes name no
    process whose number is known."""
    pid: int | None = None
    gone: bool = False
    """Its QEMU is not there any more."""
    state: str = ""
    rebooted: bool = False
    """It answers, and its kernel is younger than when it first did."""
    busy: float | None = None
    """Ticks a second that its QEMU uses; None where nobody looked."""


def panicked(console: str) -> bool:
    """Whether the console says that a kernel panicked. What a program writes into the kernel's log stands on
    a console as the kernel's own words do, so this is a sign only: see whether the guest still answers."""
    return any(_PANIC.match(text) for text in _kernel_lines(console))


def beginnings(console: str) -> int:
    """How many kernels began on the console."""
    return sum(1 for text in _kernel_lines(console) if _BEGINS.match(text))


def cause_of_death(seen: Witnesses, *, at: str, during: str = "") -> GuestDeath:
    """What ended a guest that is known to have ended: its QEMU is gone, or its kernel panicked or began anew.

    Of several that might have, the one that explains the others: a host that killed QEMU before what QEMU
    says, and a panic before the end that follows it.
    """
    return _told(seen, _end(seen), at, during)


def why_silent(seen: Witnesses, *, at: str, during: str = "") -> GuestDeath | None:
    """What keeps a guest from answering whose QEMU lives; None where it is only slow, or nobody can say."""
    found = None
    if seen.state.startswith("paused"):
        found = _Found(DeathKind.PAUSED, seen.state, "libvirt")
    else:
        lines = _kernel_lines(seen.console)
        number = next((n for n in reversed(range(len(lines))) if _STUCK.match(lines[n])), None)
        if number is not None:
            driver = _gpu_code(lines[number : number + _BEFORE])
            kind = DeathKind.STUCK_DRIVER if driver else DeathKind.STUCK
            found = _Found(kind, driver or lines[number], "serial console")
        elif seen.busy is not None and seen.busy < _IDLE_TICKS:
            found = _Found(DeathKind.SILENT, f"{seen.busy:.1f} ticks of processor time a second", "host")
    return None if found is None else _told(seen, found, at, during)


_IDLE_TICKS = 3.0
"""Ticks (of 10 ms, as nearly everywhere) a second of a QEMU whose guest does nothing: 1 to 2 for timers."""


@dataclass(frozen=True, slots=True)
class _Found:
    kind: DeathKind
    why: str
    witness: str
    signal: int | None = None


def _told(seen: Witnesses, found: _Found, at: str, during: str) -> GuestDeath:
    console = [line for raw in seen.console.splitlines() for line in pieces(raw)]
    mine = re.compile(rf"\b{seen.pid or 'no pid'}\b|{_QEMU}\[|oom-kill|invoked oom-killer", re.IGNORECASE)
    host = [line for line in seen.host_log.splitlines() if mine.search(line)]
    host += [line for line in _of_last_start(seen.qemu_log) if not line.startswith(("-", "LC_ALL=", "/usr/"))]
    return GuestDeath(
        kind=found.kind,
        at=at,
        during=during,
        why=found.why.strip()[:_LONGEST],
        witness=found.witness,
        signal=found.signal,
        pid=seen.pid,
        state=seen.state[:100],
        console=tuple(line.strip()[:_LONGEST] for line in console if line.strip())[-SHOWN_LINES:],
        host=tuple(line.strip()[:_LONGEST] for line in host if line.strip())[-SHOWN_LINES:],
    )


def _end(seen: Witnesses) -> _Found:
    panic = _panic(seen.console)
    if seen.gone:
        # A QEMU whose guest panicked stays: what ended it says so, unless nobody does.
        found = _by_host(seen) or _by_qemu(seen)
        return found if found.witness or panic is None else panic
    if panic is not None:
        return panic
    if seen.state.startswith("crashed"):
        return _Found(DeathKind.PANIC, f"domain {seen.state}", "libvirt")
    return _Found(DeathKind.REBOOTED, _last_beginning(seen.console), "serial console")


def _panic(console: str) -> _Found | None:
    lines = _kernel_lines(console)
    panics = [n for n, text in enumerate(lines) if _PANIC.match(text)]
    if not panics:
        return None
    number = next((n for n in reversed(panics) if not lines[n].startswith("-")), panics[-1])
    said = _PANIC.match(lines[number])
    reason = said["why"] if said is not None else ""
    around = lines[max(0, number - _BEFORE) :]
    before = lines[max(0, number - _BEFORE) : number]
    kind, why = DeathKind.PANIC, lines[number]
    if any(_PROVOKED.match(text) for text in around) or _PROVOKED.match(reason):
        kind = DeathKind.PROVOKED
    elif _HARDWARE.match(reason):
        kind = DeathKind.PANIC_HARDWARE
    elif named := _hardware_named(before):
        kind, why = DeathKind.PANIC_HARDWARE, named
    elif _OOM.match(reason) or any(_KILLED.match(text) for text in before):
        kind = DeathKind.GUEST_OOM
    elif driver := _gpu_code(around):
        kind, why = DeathKind.PANIC_DRIVER, f"{lines[number]}; in {driver}"
    elif _IMAGE.match(reason):
        kind = DeathKind.PANIC_IMAGE
    elif _WATCHDOG.match(reason):
        kind = DeathKind.WATCHDOG
    return _Found(kind, why, "serial console")


def _hardware_named(lines: Sequence[str]) -> str:
    """The line that names hardware, by the one reader of kernel logs; empty where none does."""
    for told in tell(((None, line) for line in lines), KernelCodes()):
        event = told.event
        if event.family in _HARDWARE_FAMILIES and event.ruling not in (Ruling.NOTE, Ruling.CONFIG):
            return event.line
    return ""


def _gpu_code(lines: Iterable[str]) -> str:
    """The first place of a trace that is a GPU driver's code; empty where there is none."""
    for text in lines:
        words = text.strip()
        if _TRACED.search(words) and _GPU_CODE.search(words):
            return words
    return ""


def _by_host(seen: Witnesses) -> _Found | None:
    """What the host's kernel did to this QEMU, by its process id; a crash also by its name, since a thread's
    number is another."""
    pid = seen.pid if seen.pid is not None else "no pid"
    memory = re.compile(_HOST_MEMORY.format(qemu=_QEMU, pid=pid))
    killed = re.compile(_HOST_OOM.format(pid=pid))
    crash = None
    for text in _kernel_lines(seen.host_log, seen.host_since):
        if memory.search(text):
            return _Found(DeathKind.HOST_HARDWARE, text, "host's kernel", 7)
        if killed.search(text):
            return _Found(DeathKind.HOST_OOM, text, "host's kernel", 9)
        signalled = _HOST_SIGNAL.match(text)
        if signalled is not None:
            number = 4 if "invalid opcode" in (signalled["trap"] or "") else 11
            crash = _Found(DeathKind.QEMU_CRASHED, text, "host's kernel", number)
    return crash


def _by_qemu(seen: Witnesses) -> _Found:
    lines = _of_last_start(seen.qemu_log)
    for line in lines:
        ended = _TERMINATED.match(line)
        if ended is not None:
            return _Found(DeathKind.QEMU_KILLED, line, "QEMU", int(ended["signal"]))
    defect = next((line for line in lines if _QEMU_DEFECT.match(line)), None)
    if defect is not None:
        return _Found(DeathKind.QEMU_CRASHED, defect, "QEMU", 6)
    shut = next((line for line in reversed(lines) if _SHUT.match(line)), "")
    match = _SHUT.match(shut)
    reason = match["reason"] if match is not None else ""
    if reason == "shutdown":
        return _Found(DeathKind.POWERED_OFF, shut, "libvirt")
    if reason in ("destroyed", "saved", "migrated", "daemon", "from snapshot"):
        return _Found(DeathKind.DESTROYED, shut, "libvirt")
    why = shut or "neither QEMU, libvirt nor the host's kernel reports why"
    return _Found(DeathKind.QEMU_KILLED, why, "libvirt" if shut else "")


def _of_last_start(log: str) -> list[str]:
    lines = log.splitlines()
    begun = next((n for n in reversed(range(len(lines))) if _BEGUN.match(lines[n])), -1)
    return lines[begun + 1 :]


def _last_beginning(console: str) -> str:
    return next((text for text in reversed(_kernel_lines(console)) if _BEGINS.match(text)), "")


def _kernel_lines(text: str, since: float | None = None) -> list[str]:
    """The kernel's words, line by line, whatever a console or ``dmesg`` puts before them."""
    found = []
    for raw in text.splitlines():
        for piece in pieces(raw):
            said = plain(piece)
            if said is not None and (since is None or said[0] is None or said[0] >= since):
                found.append(message(said[1]).text)
    return found
