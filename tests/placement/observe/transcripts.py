"""Transcripts as ``observe/host.sh``, ``observe/guest.sh`` and QEMU would write them, made from little."""

from __future__ import annotations

import json

from harness.placement.observe import qmp as q
from tests.fakes.scripts import NONCE, framed

SCOPE = "/machine.slice/machine-qemu\\x2d1\\x2dg1.scope/libvirt"


def frame(kind: str, parts: dict[str, str | bytes], nonce: str = NONCE) -> bytes:
    """A whole transcript."""
    return framed(f"placement-{kind}", parts, nonce=nonce)


def task(pid: int, tid: int, name: str, cpus: str, group: str, *, last: int = 0) -> str:
    """The lines of one thread, as grep -H prints them."""
    base = f"/proc/{pid}/task/{tid}"
    fields = " ".join(str(n) for n in range(3, 39))
    return (
        f"{base}/status:Name:\t{name}\n{base}/status:Tgid:\t{pid}\n{base}/status:Pid:\t{tid}\n"
        f"{base}/status:PPid:\t1\n{base}/status:Cpus_allowed_list:\t{cpus}\n"
        f"{base}/status:Mems_allowed_list:\t0-1\n{base}/cgroup:{group}\n"
        f"{base}/stat:{tid} ({name}) {fields} {last} 0 0\n"
    )


TASKS = task(70, 70, "qemu-system-x86", "0", f"0::{SCOPE}/emulator") + task(
    70, 72, "CPU 0/KVM", "1", f"0::{SCOPE}/vcpu0", last=1
)
OPTIONS = (
    "-name\nguest=shakedown-r-g1,debug-threads=on\n-numa\nnode,nodeid=0,cpus=0,memdev=ram-node0\n"
    "-numa\nnode,nodeid=1,memdev=ram-node1\n-numa\ndist,src=0,dst=1,val=21\n"
)
NAMED = (
    "7f0000000000 bind:0 file=/dev/hugepages/libvirt/qemu/1-g1/qemu_back_mem.ram-node0.u8uxWa\\040(deleted)"
    " huge anon=64 dirty=64 N0=64 kernelpagesize_kB=2048\n"
    "7f0010000000 bind:1 file=/dev/hugepages/libvirt/qemu/1-g1/qemu_back_mem.ram-node1.AbCdEf\\040(deleted)"
    " huge dirty=64 N1=64 kernelpagesize_kB=2048\n"
)


def host_parts(**changes: str | bytes) -> dict[str, str | bytes]:
    """The parts of a host transcript of guest g1: pid 70, one vCPU, two RAM blocks of 128 MiB, one device."""
    parts: dict[str, str | bytes] = {
        "uptime": "812.33 1000.00\n",
        "target": "shakedown-r-g1\n",
        "pid": "70\n",
        "options": OPTIONS,
        "tasks": TASKS,
        "kthreads": "/proc/75/status:Name:\tvhost-70\n/proc/75/status:PPid:\t2\n"
        "/proc/75/status:Cpus_allowed_list:\t0-7\n/proc/75/cgroup:0::/\n",
        "cgroups": f"/sys/fs/cgroup{SCOPE}/emulator/cpuset.cpus.effective:0\n"
        f"/sys/fs/cgroup{SCOPE}/emulator/cpuset.mems.effective:0-1\n"
        f"/sys/fs/cgroup{SCOPE}/vcpu0/cpuset.cpus.effective:1\n",
        "limits": "Limit  Soft Limit\nMax locked memory         2550136832         2550136832  bytes\n",
        "device 0000:82:00.0": "driver=vfio-pci\niommu_group=11\ncdev=vfio0\n",
        "fds": "lrwx------ 1 libvirt-qemu kvm 64 Nov 22 03:20 23 -> /dev/vfio/11\n",
        "numa_maps": "55f1eeb54000 default anon=11 dirty=11 N0=11 kernelpagesize_kB=4\n" + NAMED,
        "tasks.again": TASKS,
    }
    return {**parts, **{key.replace("_again", ".again"): value for key, value in changes.items()}}


def host(**changes: str | bytes) -> bytes:
    """A host transcript with parts changed (``tasks_again`` stands for ``tasks.again``)."""
    return frame("host", host_parts(**changes))


GUEST_PARTS: dict[str, str | bytes] = {
    "pci.paths": "0000:00:00.0 /sys/devices/pci0000:00/0000:00:00.0\n"
    "0000:fe:00.0 /sys/devices/pci0000:fe/0000:fe:00.0\n"
    "0000:ff:00.0 /sys/devices/pci0000:fe/0000:fe:00.0/0000:ff:00.0\n",
    "pci.files": "./0000:00:00.0/vendor:0x8086\n./0000:00:00.0/device:0x29c0\n./0000:00:00.0/numa_node:-1\n"
    "./0000:ff:00.0/vendor:0x1234\n./0000:ff:00.0/device:0x11e8\n./0000:ff:00.0/class:0x00ff00\n"
    "./0000:ff:00.0/numa_node:1\n./0000:ff:00.0/local_cpulist:1\n",
    "nodes": "./node0/cpulist:0\n./node0/distance:10 21\n./node0/meminfo:Node 0 MemTotal:         100000 kB\n"
    "./node1/cpulist:1\n./node1/distance:21 10\n./node1/meminfo:Node 1 MemTotal:         120000 kB\n",
}


def guest(**changes: str | bytes) -> bytes:
    """A guest transcript with parts changed (``files``, ``paths`` and ``nodes``)."""
    names = {"files": "pci.files", "paths": "pci.paths", "nodes": "nodes"}
    return frame("guest", {**GUEST_PARTS, **{names[key]: value for key, value in changes.items()}})


FLAT_VIEW = (
    'FlatView #0\r\n AS "I/O", root: io\r\n Root memory region: io\r\n'
    "  0000000000000000-0000000000000007 (prio 0, i/o): dma-chan\r\n\r\n"
    'FlatView #1\r\n AS "memory", root: system\r\n AS "cpu-memory-0", root: system\r\n'
    " Root memory region: system\r\n"
    "  0000000000000000-000000000009ffff (prio 0, ram): ram-node0 KVM\r\n"
    "  00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem\r\n"
    "  0000000000100000-0000000007ffffff (prio 0, ram): ram-node0 @0000000000100000 KVM\r\n"
    "  0000000008000000-000000000fffffff (prio 0, ram): ram-node1 KVM\r\n\r\n"
)


def pci_device(name: str, bus: int, slot: int, vendor: int, device: int, **more: object) -> dict[str, object]:
    """One entry of query-pci."""
    identity = {"device": device, "vendor": vendor}
    place = {"bus": bus, "slot": slot, "function": 0}
    return {"qdev_id": name, "id": identity, "class_info": {"class": 0}, "regions": [], **place, **more}


def answers(**changes: object) -> dict[str, str]:
    """QEMU's answers for guest g1; ``changes`` by ``cpus``, ``memdevs``, ``pci``, ``devices``, ``host``."""
    endpoint = pci_device("ua-gpu0", 0xFF, 0, 0x1234, 0x11E8)
    port = pci_device("pci.4", 0xFE, 0, 0x1B36, 0x0C, pci_bridge={"bus": {}, "devices": [endpoint]})
    values: dict[str, object] = {
        "cpus": [{"cpu-index": 0, "thread-id": 72, "props": {"node-id": 0}, "qom-path": "/x"}],
        "memdevs": [
            {"id": f"ram-node{n}", "size": 128 << 20, "policy": "bind", "host-nodes": [n], "prealloc": True}
            for n in (0, 1)
        ],
        "pci": [
            {"bus": 0, "devices": [pci_device("", 0, 0, 0x8086, 0x29C0)]},
            {"bus": 254, "devices": [port]},
        ],
        "devices": [
            {"name": "pci.4", "type": "child<pcie-root-port>"},
            {"name": "ua-gpu0", "type": "child<vfio-pci>"},
            {"name": "type", "type": "string"},
        ],
        "host": "0000:82:00.0",
        "tree": FLAT_VIEW,
        "node0": "Host virtual address for 0x0 (ram-node0) is 0x7f0000000000\r\n",
        "node1": "Host virtual address for 0x8000000 (ram-node1) is 0x7f0010000000\r\n",
        "status": {"status": "running", "running": True, "singlestep": False},
        **changes,
    }
    queries = {
        "cpus": q.CPUS,
        "memdevs": q.MEMDEVS,
        "pci": q.PCI,
        "devices": q.DEVICES,
        "status": q.STATUS,
        "tree": q.MEMORY_TREE,
        "host": q.command("qom-get", path="/machine/peripheral/ua-gpu0", property="host"),
        "node0": q.monitor("gpa2hva 0x0"),
        "node1": q.monitor("gpa2hva 0x8000000"),
    }
    return {queries[key]: json.dumps({"return": value, "id": "libvirt-9"}) for key, value in values.items()}
