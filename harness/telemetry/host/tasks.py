"""Who ran on the host from one look of its follower to the next."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_DOMAIN = re.compile(r"/(?:[^/]+/)*qemu/(?:run/)?(?P<name>[^/]{1,200})\.pid")
DAEMON = "driver"
"""Name of the file in which libvirt's daemon writes down its own process (libvirt, qemu_driver.c)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A thread of a user's process."""

    process: int
    thread: int
    parent: int
    session: int
    cpu: int
    """On which it ran last."""
    ticks: int
    """Processor time that it has used."""
    start: int
    """When it began, in ticks since the host's boot: with its id it is one process and no other."""
    state: str
    """Letter of proc(5): ``R`` runs, ``T`` was stopped by a signal."""
    name: str

    @property
    def running(self) -> bool:
        """Whether it ran just then."""
        return self.state == "R"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look found."""

    active: tuple[Task, ...]
    """Those that ran since the look before; in the first look those that were running."""
    ours: frozenset[int]
    """Processes that our own connection to the host started."""
    domains: dict[str, int]
    """Running domain to its QEMU's process, as libvirt has written it down."""
    steal_ticks: dict[int, int]
    identities: dict[str, tuple[str, ...]]
    """What must stay the same from look to look, as lines of files: ``qemu/DOMAIN``, ``daemon/FILE``,
    ``clock``."""


def read_task(text: str) -> Task | None:
    """``task TGID TID PPID SESSION CPU TICKS START STATE NAME``; None for what is none."""
    words = text.split(" ", 9)
    if len(words) != 10 or not all(word.isdecimal() and len(word) < 19 for word in words[1:8]):
        return None
    process, thread, parent, session, cpu, ticks, start = map(int, words[1:8])
    return Task(
        process=process,
        thread=thread,
        parent=parent,
        session=session,
        cpu=cpu,
        ticks=ticks,
        start=start,
        state=words[8][:1],
        name=words[9][:64],
    )


def read_look(
    files: Mapping[str, Sequence[str]],
    tasks: Sequence[Task],
    before: Mapping[tuple[int, int], int] | None,
    *,
    follower: int,
    parent: int,
) -> Look:
    """``before``: ticks of each process and thread at the look before; None at the first."""
    domains: dict[str, int] = {}
    for path, lines in files.items():
        match = _DOMAIN.fullmatch(path)
        if match is not None and lines[0].isdecimal() and len(lines[0]) < 10:
            domains[match["name"]] = int(lines[0])
    steal = {}
    for line in files.get("/proc/stat", ()):
        # cpuN user nice system idle iowait irq softirq steal ... (proc(5))
        words = line.split()
        number = words[0][3:] if words else ""
        if len(words) > 8 and number.isdecimal() and words[8].isdecimal() and len(number) < 8:
            steal[int(number)] = int(words[8][:18])
    active = (
        task
        for task in tasks
        if task.running or (before is not None and task.ticks > before.get((task.process, task.thread), 0))
    )
    return Look(
        active=tuple(active),
        ours=_ours(tasks, follower, parent),
        domains=domains,
        steal_ticks=steal,
        identities=_identities(files, tasks, domains),
    )


def _identities(
    files: Mapping[str, Sequence[str]], tasks: Sequence[Task], domains: Mapping[str, int]
) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    due = {pid: name for name, pid in domains.items()}
    for task in tasks:
        name = due.get(task.process)
        if name is None or task.thread != task.process:
            continue
        who = f"process {task.process}, started at tick {task.start}"
        if name == DAEMON:
            found[f"daemon/{name}"] = (who,)
        else:
            stopped = ", stopped by a signal" if task.state in ("T", "t") else ""
            found[f"qemu/{name}"] = (f"process {who.removeprefix('process ')} ({task.name}){stopped}",)
    clock = tuple(line for line in files.get("/proc/stat", ()) if line.startswith("btime "))
    return {**found, "clock": clock} if clock else found


def _ours(tasks: Iterable[Task], follower: int, parent: int) -> frozenset[int]:
    """The follower, what it started, and what our connection to the host started beside it."""
    children: dict[int, list[int]] = {}
    above: dict[int, Task] = {}
    for task in tasks:
        children.setdefault(task.parent, []).append(task.process)
        above.setdefault(task.process, task)
    # A follower that lost its parent has been given to init, whose other children are nobody of ours.
    due = [follower, *([parent] if parent > 1 else [])]
    shell = above.get(parent)
    daemon = above.get(shell.parent) if shell is not None else None
    if daemon is not None and daemon.name.startswith("sshd") and daemon.process > 1:
        due.append(daemon.process)  # of our connection alone: the listening one is above it
    found: set[int] = set()
    while due:
        process = due.pop()
        if process not in found:
            found.add(process)
            due += children.get(process, [])
    return frozenset(found)
