"""What is watched on a candidate host for as long as loads run: one row a property.

From this table follow the commands of the follower (``host/follow.sh``), the reading of what it prints, how
bad a change is, and the documents. A new property is a row here, of a source that is there or of a new one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from harness.model.host_change import Weight
from harness.telemetry.host.pages import moved
from harness.vendors.names import DEVICE_FILES, any_of

LIBVIRT = "/run/libvirt/qemu"
"""Where libvirt's system daemon keeps the state of its running domains (libvirt, qemu_conf.c: stateDir)."""
CLAIMS = "/run/shakedown/claims"
NOTHING = "not there"
"""What stands for a value that is not there."""

LOOK_SECONDS = 15.0
"""How often the host is asked who runs where: reading every task costs more than everything else."""
HOLDERS_SECONDS = 60.0
"""How often all open files of the host are looked through: 20 to 60 ms where 10,000 are open."""
PAGES_SECONDS = 300.0
"""How often the pages of guests are counted: the kernel walks the page tables, a second for each 100 GiB of
ordinary pages, and nearly nothing for hugepages."""


class About(StrEnum):
    """Whose property it is, and so when it must not change."""

    GUEST = "guest"
    """From the first look at the booted guest to the last look after its loads."""
    DEVICE = "device"
    """While a guest has the device; on a bare machine all the time."""
    HOST = "host"
    """All the time."""
    FOREIGN = "foreign"
    """All the time, of processes and domains that are not this run's: they must not come."""


_DEVICES = any_of(("vfio", *(file.rstrip("*") for file in DEVICE_FILES)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What the follower runs. ``command`` is shell text of ``host/follow.sh``: ``ask NAME PATTERN FILE...``
    prints the lines of files that match, ``links NAME COMMAND...`` what a command prints; both only when that
    changed."""

    name: str
    seconds: float
    """Pace; 0 with each sample."""
    command: str


SOURCES = (
    Source(
        name="threads",
        seconds=0,
        command="of status 'task/*/status'; ask threads '^((Cpus|Mems)_allowed_list|HugetlbPages):' $list",
    ),
    Source(
        name="libvirt",
        seconds=0,
        command="ask libvirt '^[0-9]+$|<domstatus |<currentMemory |<vcpupin |<emulatorpin |<memnode |<vcpu id"
        "|<alias name=.ua-|^ +<name>' "
        '"$libvirt/$ours"*.xml "$libvirt"/*.pid /etc/libvirt/qemu/*.xml',
    ),
    Source(
        name="host",
        seconds=0,
        command="ask host '' /proc/sys/kernel/osrelease /proc/sys/kernel/random/boot_id /proc/cmdline "
        f"{CLAIMS}/* $uevents",
    ),
    Source(
        name="cpusets",
        seconds=LOOK_SECONDS,
        command="cpusets; ask cpusets '^(frozen [0-9]+|[0-9,-]+)$' $list",
    ),
    Source(
        name="holders",
        seconds=HOLDERS_SECONDS,
        command="links holders find /proc/[0-9]*/fd -maxdepth 1 \\( -lname 'anon_inode:kvm-vm' "
        + "".join(f"-o -lname '/dev/{file}' " for file in ("vfio/*", *DEVICE_FILES))
        + "\\) -printf '%p:%l\\n'",
    ),
    Source(
        name="pages",
        seconds=PAGES_SECONDS,
        command="of numa_maps; ask pages ' huge |N[0-9]+=[0-9]{4,}' $list",
    ),
)
PAGES = "pages"
"""The source whose lines are summed up before they are compared (``harness.telemetry.host.pages``)."""
LOOKS = "looks"
"""The source that is made of the follower's looks at tasks (``harness.telemetry.host.tasks``)."""


def _any_difference(before: str, after: str) -> bool:
    return before != after


def _clock_jumped(before: str, after: str) -> bool:
    """Boot time by the wall clock, in whole seconds: it moves by one when the clock is steered."""
    return not (before.isdecimal() and after.isdecimal()) or abs(int(before[:15]) - int(after[:15])) > 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """One property."""

    name: str
    title: str
    about: About
    source: str
    reads: re.Pattern[str]
    """On ``PATH:LINE``. Groups: ``value``; ``what`` names it; ``pid``, ``domain`` or ``device`` say whose."""
    weight: Weight
    why: str
    comes_and_goes: bool = False
    """Whether its coming and going are changes too."""
    due: bool = False
    """Whether a guest or host of which it was never read was not watched."""
    differs: Callable[[str, str], bool] = _any_difference


_DOMAIN = r"[^:]*/(?P<domain>[^/:]{1,200})"

WATCHED = (
    Watched(
        name="thread_cpus",
        title="CPUs and NUMA nodes that each thread of the guest's QEMU may use",
        about=About.GUEST,
        source="threads",
        reads=re.compile(
            r"/proc/(?P<pid>\d{1,10})/task/(?P<what>\d{1,10}/status:(?:Cpus|Mems))_allowed_list:\s*(?P<value>[\d,-]+)"
        ),
        weight=Weight.HARMFUL,
        why="a vCPU that is moved during a run has other cores, caches and memory than planned",
        due=True,
    ),
    Watched(
        name="hugepages_of_guest",
        title="Memory of the guest in hugepages",
        about=About.GUEST,
        source="threads",
        reads=re.compile(r"/proc/(?P<pid>\d{1,10})/status:(?P<what>HugetlbPages):\s*(?P<value>\d{1,18} kB)"),
        weight=Weight.HARMFUL,
        why="a guest that gives memory back during a run is smaller than planned",
    ),
    Watched(
        name="state",
        title="State of the guest, and its reason",
        about=About.GUEST,
        source="libvirt",
        reads=re.compile(
            _DOMAIN + r"\.xml:\s*<dom(?P<what>status) (?P<value>state='[\w-]{1,40}' reason='[\w -]{1,60}')"
        ),
        weight=Weight.DOUBTFUL,
        why="the loads of a paused guest did not run all the time, and the cause is not known",
        due=True,
    ),
    Watched(
        name="definition",
        title="Pinning, memory, vCPUs and GPUs of the running guest, as libvirt reports them",
        about=About.GUEST,
        source="libvirt",
        reads=re.compile(
            _DOMAIN + r"\.xml:\s*<(?P<what>vcpupin vcpu='\d{1,5}'|emulatorpin|memnode cellid='\d{1,5}'"
            r"|vcpu id='\d{1,5}'|alias name='ua-[\w-]{1,60}'|currentMemory)(?P<value>[^<]{0,200})"
        ),
        weight=Weight.HARMFUL,
        why="the running guest was changed: pins, memory or devices differ from the plan",
        comes_and_goes=True,
        due=True,
    ),
    Watched(
        name="cpuset",
        title="CPUs and nodes of the guest's cgroups",
        about=About.GUEST,
        source="cpusets",
        reads=re.compile(r"(?P<what>/sys/fs/cgroup/[^:]{1,400}effective[^:/]{0,20}):(?P<value>[\d,-]+)"),
        weight=Weight.HARMFUL,
        why="a changed cpuset confines the guest to other cores than planned",
    ),
    Watched(
        name="frozen",
        title="Whether the guest's cgroup is frozen",
        about=About.GUEST,
        source="cpusets",
        reads=re.compile(r"(?P<what>/sys/fs/cgroup/[^:]{1,400}/cgroup\.events):(?P<value>frozen \d)"),
        weight=Weight.DOUBTFUL,
        why="the loads of a frozen guest do not run",
    ),
    Watched(
        name="process",
        title="QEMU of the guest: process, start, program",
        about=About.GUEST,
        source=LOOKS,
        reads=re.compile(r"qemu/(?P<domain>[^/:]{1,200}):(?P<what>process) (?P<value>.+)"),
        weight=Weight.DOUBTFUL,
        why="the guest was started again, or its process was stopped by a signal",
        comes_and_goes=True,
    ),
    Watched(
        name="pages",
        title="Host NUMA nodes of the guest's pages",
        about=About.GUEST,
        source="pages",
        reads=re.compile(r"/proc/(?P<pid>\d{1,10})/numa_maps:(?P<what>pages) (?P<value>.+)"),
        weight=Weight.HARMFUL,
        why="migrated pages leave the guest's memory on another node than its cores and GPUs",
        differs=moved,
    ),
    Watched(
        name="driver",
        title="Driver that a GPU is bound to",
        about=About.DEVICE,
        source="host",
        reads=re.compile(r"(?P<device>[0-9a-f:.]{12,16})/uevent:(?P<what>DRIVER)=(?P<value>[\w.-]{1,80})"),
        weight=Weight.HARMFUL,
        why="a GPU that changes its driver during a run was taken from the loads",
        comes_and_goes=True,
    ),
    Watched(
        name="claim",
        title="Claims of runs on GPUs",
        about=About.HOST,
        source="host",
        reads=re.compile(
            rf"{CLAIMS}/(?P<what>[^:/]{{1,40}}(?::[^:/]{{1,20}}){{0,3}}):(?P<value>[^\t]{{1,200}})"
        ),
        weight=Weight.DOUBTFUL,
        why="another run considered this one dead, and may have used the GPU meanwhile",
        comes_and_goes=True,
    ),
    Watched(
        name="kernel",
        title="Running kernel, its command line and its boot",
        about=About.HOST,
        source="host",
        reads=re.compile(
            r"/proc/(?P<what>sys/kernel/osrelease|sys/kernel/random/boot_id|cmdline):(?P<value>.*)"
        ),
        weight=Weight.DOUBTFUL,
        why="what was read before belongs to another kernel",
        comes_and_goes=True,
        due=True,
    ),
    Watched(
        name="libvirt",
        title="libvirt's daemon: process and start",
        about=About.HOST,
        source=LOOKS,
        reads=re.compile(r"daemon/(?P<what>[\w.-]{1,60}):(?P<value>process .+)"),
        weight=Weight.TOLD,
        why="guests continue to run without it",
        comes_and_goes=True,
    ),
    Watched(
        name="clock",
        title="Wall clock of the host, judged by the boot time",
        about=About.HOST,
        source=LOOKS,
        reads=re.compile(r"clock:(?P<what>btime) (?P<value>\d{1,15})"),
        weight=Weight.TOLD,
        why="times of a run come from monotonic clocks, which do not jump",
        differs=_clock_jumped,
    ),
    Watched(
        name="domain",
        title="Domains that Shakedown did not create",
        about=About.FOREIGN,
        source="libvirt",
        reads=re.compile(
            r"[^:]*/(?P<what>[^/:]{1,200})\.(?:pid:(?P<value>\d{1,10})|xml:\s*<name>(?P<name>[^<]*))"
        ),
        weight=Weight.HARMFUL,
        why="a domain that appears during a run disturbs like one that was there before "
        "(host.no_foreign_domains)",
    ),
    Watched(
        name="holder",
        title="Other processes that run a virtual machine or have a GPU's device file open",
        about=About.FOREIGN,
        source="holders",
        reads=re.compile(
            r"/proc/(?P<pid>\d{1,10})/fd/\d{1,10}:"
            rf"(?P<value>/dev/(?:{_DEVICES})\S{{0,100}}|anon_inode:kvm-vm)"
        ),
        weight=Weight.HARMFUL,
        why="another user of the host's GPUs, or guests beside ours (host.devices_free)",
    ),
)

EVENTS = {
    "Suspended": ("state", Weight.DOUBTFUL),
    "Stopped": ("state", Weight.DOUBTFUL),
    "Shutdown": ("state", Weight.DOUBTFUL),
    "Crashed": ("state", Weight.DOUBTFUL),
    "PMSuspended": ("state", Weight.DOUBTFUL),
    "Undefined": ("definition", Weight.TOLD),
    "Defined": ("definition", Weight.TOLD),
    "balloon-change": ("definition", Weight.HARMFUL),
    "device-removed": ("definition", Weight.HARMFUL),
    "device-added": ("definition", Weight.HARMFUL),
    "tunable": ("definition", Weight.HARMFUL),
    "memory-device-size-change": ("definition", Weight.HARMFUL),
    "watchdog": ("state", Weight.DOUBTFUL),
    "io-error": ("state", Weight.DOUBTFUL),
    "io-error-reason": ("state", Weight.DOUBTFUL),
    "reboot": ("state", Weight.DOUBTFUL),
}
"""First word of a lifecycle event, or kind of another event, to the property it is about and its weight: what
libvirt says of our guests while their loads run (libvirt, virsh event). All others change nothing."""

CONNECTION = Watched(
    name="connection",
    title="The controller's connection to the host",
    about=About.HOST,
    source="controller",
    reads=re.compile(r"(?!)"),
    weight=Weight.TOLD,
    why="the data arrived late but complete",
)
HUGEPAGES = Watched(
    name="hugepages",
    title="Free hugepages of a node",
    about=About.HOST,
    source="samples",
    reads=re.compile(r"(?!)"),
    weight=Weight.TOLD,
    why="running guests keep their pages; later guests may lack them",
)


def by_name(name: str) -> Watched:
    """The row of that name."""
    return next(row for row in (*WATCHED, CONNECTION, HUGEPAGES) if row.name == name)


def commands(period_seconds: float) -> str:
    """The body of the follower's ``watch``: each source at its pace, in samples."""
    lines = []
    for source in SOURCES:
        every = max(1, round(source.seconds / period_seconds))
        when = "" if every == 1 else f"[ $(($1 % {every})) -ne 0 ] || "
        lines.append(f"        {when}{{ {source.command}; }}")
    return "\n".join(lines)
