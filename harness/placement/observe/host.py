"""Understands ``observe/host.sh``: QEMU's threads, cgroups, memory mappings and hostdevs, by the kernel."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from harness.errors import ParseError
from harness.facts.notation import id_list
from harness.model.pci import PciAddress
from harness.placement.observe.scripts import HOST
from harness.reading import reader
from harness.scripts.protocol import lines_of, read_answer

_TASK_LINE = re.compile(r"/proc/(\d{1,10})(?:/task/(\d{1,10}))?/(status|cgroup|stat):(.*)", re.DOTALL)
_CPUSET_V1 = re.compile(r"\d+:(?:[^:]*,)?cpuset(?:,[^:]*)?:(.*)", re.DOTALL)
_CGROUP_FILE = re.compile(
    r"/sys/fs/cgroup(?P<v1>/cpuset)?(?P<path>/.*?)/?/cpuset\.(?:(?P<cpus>cpus\.effective|effective_cpus)"
    r"|mems\.effective|effective_mems):(?P<list>[\d,-]*)",
    re.DOTALL,
)
_MAPPING = re.compile(r"([0-9a-f]{1,16}) (prefer \(many\)\S*|\S+)(.*)", re.DOTALL)
_NODE_PAGES = re.compile(r"N(\d{1,5})=(\d{1,15})")
_LOCKED = re.compile(r"^Max locked memory +(\d{1,19}|unlimited) ", re.MULTILINE)
_VFIO_NODE = re.compile(r" -> (/dev/vfio/[\w/-]+)$")
_UPTIME = re.compile(rb"(\d{1,11}\.\d{1,9}) ")
_STAT_PROCESSOR = 36
"""Index of ``processor`` after the command name (proc(5): field 39; the name ends field 2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One thread; a field is None when its file could not be read."""

    tid: int
    name: str | None = None
    parent: int | None = None
    cpus: tuple[int, ...] | None = None
    mems: tuple[int, ...] | None = None
    cgroup: str | None = None
    """Path whose cpuset binds it: of the v1 cpuset hierarchy where there is one, else of cgroup v2."""
    cgroup_version: int = 2
    last_cpu: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """One line of ``numa_maps``."""

    start: int
    policy: str
    file: str | None
    pages: dict[int, int]
    """Host node to pages of ``page_kib``."""
    page_kib: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostDevice:
    """A handed-over function on the host."""

    driver: str | None
    iommu_group: int | None
    cdevs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReading:
    """Everything one transcript says."""

    target: str
    """What was asked for: a domain's name, or a pid."""
    pid: int
    options: tuple[str, ...]
    """``-name`` and ``-numa`` of QEMU's command line, each before its value."""
    tasks: tuple[Task, ...]
    kernel_tasks: tuple[Task, ...]
    cgroups: dict[tuple[int, str], tuple[int, ...]]
    """cgroup version and path to the CPUs in force there."""
    locked_bytes_limit: int | None
    """None for unlimited or unknown."""
    devices: dict[PciAddress, HostDevice]
    at: float | None = None
    """When the host was asked, in seconds since its boot."""
    vfio_nodes: tuple[str, ...] = field(default=())
    """VFIO device nodes that the process has open."""
    mappings: tuple[Mapping, ...] = ()


@reader("the output about the host's placement")
def parse_host(raw: bytes, nonce: str | None = None) -> HostReading:
    """A host transcript as a value. Raises ParseError when it is incomplete or shows no QEMU process."""
    parts = read_answer(raw, HOST.name, nonce).contents()
    pid_text = _part(parts, "pid").decode("ascii", "replace").strip()
    if not re.fullmatch(r"[1-9]\d{0,9}", pid_text):
        raise ParseError(
            "the domain has no QEMU process on this host",
            remedy="check whether it still runs: virsh list --all; its log is in /var/log/libvirt/qemu",
        )
    pid = int(pid_text)
    first = _tasks(_part(parts, "tasks"), pid)
    again = _tasks(_part(parts, "tasks.again"), pid)
    if not again:
        raise ParseError(
            f"process {pid} ended while it was being observed", remedy="find out why the guest stopped"
        )
    # A thread of which the first look saw only a part, and the second nothing, ended in between.
    seen = {task.tid for task in again}
    gone = tuple(task for task in first if task.tid not in seen and None not in (task.cpus, task.cgroup))
    locked = _LOCKED.search("\n".join(lines_of(_part(parts, "limits"))))
    return HostReading(
        target="\n".join(lines_of(_part(parts, "target"))).strip(),
        pid=pid,
        options=tuple(line for line in lines_of(_part(parts, "options")) if line),
        tasks=(*again, *gone),
        kernel_tasks=tuple(t for t in _tasks(_part(parts, "kthreads"), None) if t.parent in (2, None)),
        cgroups=_cgroups(_part(parts, "cgroups")),
        locked_bytes_limit=int(locked[1]) if locked and locked[1] != "unlimited" else None,
        devices=_devices(parts),
        at=float(up[1]) if (up := _UPTIME.match(parts.get("uptime", b"").strip())) else None,
        vfio_nodes=tuple(m[1] for line in lines_of(_part(parts, "fds")) if (m := _VFIO_NODE.search(line))),
        mappings=_mappings(_part(parts, "numa_maps")),
    )


def _part(parts: dict[str, bytes], title: str) -> bytes:
    if title not in parts:
        raise ParseError(f"the output about the host's placement lacks its part {title!r}")
    return parts[title]


def _tasks(content: bytes, pid: int | None) -> tuple[Task, ...]:
    found: dict[int, dict[str, list[str]]] = {}
    for line in lines_of(content):
        match = _TASK_LINE.fullmatch(line)
        if match is None or (pid is not None and (int(match[1]) != pid or match[2] is None)):
            continue
        files = found.setdefault(int(match[2] or match[1]), {})
        files.setdefault(match[3], []).append(match[4])
    return tuple(_task(tid, files) for tid, files in sorted(found.items()))


def _task(tid: int, files: dict[str, list[str]]) -> Task:
    status = dict(line.split(":", 1) for line in files.get("status", []) if ":" in line)
    version, cgroup = _cgroup(files.get("cgroup", []))
    name = status.get("Name")
    parent = status.get("PPid", "").strip()
    return Task(
        tid=tid,
        name=name.strip() if name is not None else None,
        parent=int(parent) if parent.isdecimal() and len(parent) < 11 else None,
        cpus=id_list(status["Cpus_allowed_list"].strip()) if "Cpus_allowed_list" in status else None,
        mems=id_list(status["Mems_allowed_list"].strip()) if "Mems_allowed_list" in status else None,
        cgroup=cgroup,
        cgroup_version=version,
        last_cpu=_processor(files.get("stat", [])),
    )


def _cgroup(lines: list[str]) -> tuple[int, str | None]:
    for line in lines:
        match = _CPUSET_V1.fullmatch(line)
        if match:
            return 1, match[1]
    return 2, next((line[3:] for line in lines if line.startswith("0::")), None)


def _processor(lines: list[str]) -> int | None:
    fields = lines[0].rpartition(")")[2].split() if len(lines) == 1 else []
    last = fields[_STAT_PROCESSOR] if len(fields) > _STAT_PROCESSOR else ""
    return int(last) if last.isdecimal() and len(last) < 10 else None


def _cgroups(content: bytes) -> dict[tuple[int, str], tuple[int, ...]]:
    found: dict[tuple[int, str], tuple[int, ...]] = {}
    for line in lines_of(content):
        match = _CGROUP_FILE.fullmatch(line)
        cpus = id_list(match["list"]) if match and match["cpus"] else None
        if match and cpus is not None:
            version = 1 if match["cpus"] == "effective_cpus" else 2
            prefix = match["v1"] or "" if version == 2 else ""
            found[version, prefix + match["path"]] = cpus
    return found


def _devices(parts: dict[str, bytes]) -> dict[PciAddress, HostDevice]:
    found: dict[PciAddress, HostDevice] = {}
    for title, content in parts.items():
        if not title.startswith("device "):
            continue
        try:
            address = PciAddress.parse(title.removeprefix("device "))
        except ValueError as error:
            raise ParseError(f"the output describes {title[:80]!r}") from error
        values = [line.partition("=") for line in lines_of(content)]
        group = next((v for key, _, v in values if key == "iommu_group"), "")
        found[address] = HostDevice(
            driver=next((v for key, _, v in values if key == "driver" and v), None),
            iommu_group=int(group) if group.isdecimal() and len(group) < 10 else None,
            cdevs=tuple(v for key, _, v in values if key == "cdev" and v),
        )
    return found


def _mappings(content: bytes) -> tuple[Mapping, ...]:
    found = []
    for line in lines_of(content):
        match = _MAPPING.fullmatch(line)
        if match is None:
            continue
        words = match[3].split(" ")
        pages = [m for word in words if (m := _NODE_PAGES.fullmatch(word))]
        size = next((w.partition("=")[2] for w in words if w.startswith("kernelpagesize_kB=")), "")
        found.append(
            Mapping(
                start=int(match[1], 16),
                policy=match[2],
                file=next((w[5:] for w in words if w.startswith("file=")), None),
                pages={int(m[1]): int(m[2]) for m in pages},
                page_kib=int(size) if size.isdecimal() and 0 < len(size) < 12 else None,
            )
        )
    return tuple(found)
