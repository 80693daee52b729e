"""How long it takes to learn a host's facts.

    python bench/facts.py                 parse the transcript of a host with 8 GPUs and 64 CPUs
    python bench/facts.py --host NAME     also: one round trip beside asking testinfra file by file, over the
                                          same kept SSH connection

Goals: parsing at most 100 ms; one round trip at least 20 times faster than file by file. Each ratio is taken
in one run on one machine; absolute times vary with the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from harness.facts import ask, collect, parse_transcript
from harness.facts.frames import read_frames
from harness.model.topology import HostFacts
from harness.ports import CommandResult, Transport

NONCE = "00112233445566778899aabbccddeeff"
GOAL_PARSE_SECONDS = 0.100
GOAL_ROUND_TRIP_RATIO = 20.0


def synthetic_transcript(*, gpus: int = 8, cpus: int = 64, others: int = 120) -> bytes:
    """A two-node host: GPUs behind switches, two threads a core, and as many other functions as such have."""
    pci = _pci(gpus, others)
    sections = {
        "system": [
            ("G system", _lines(dict.fromkeys(ask.SYSTEM_FILES, "1"))),
            ("G irq", _lines({f"/proc/irq/{n}/smp_affinity_list": f"0-{cpus - 1}" for n in range(400)})),
            (
                "C df /var/lib/shakedown",
                "0\nFilesystem 1024-blocks Used Avail Capacity On\n/d 9 1 8 12% /\n",
            ),
        ],
        "cpus": _cpus(cpus),
        "nodes": _nodes(cpus),
        "pci": pci,
        "log": [("C dmesg", "0\n[    0.000000] Linux\n" + "[    1.0] DMAR: something\n" * 800)],
    }
    parts = [f"shakedown 1 facts {NONCE}\n"]
    for section in ask.SECTIONS:
        frames = sections.get(section, [])
        parts += [f"\n{NONCE} {header}\n{content}" for header, content in frames]
        parts.append(f"\n{NONCE} part {section} {len(frames)}\n")
    return "".join((*parts, f"\n{NONCE} exit 0 0\n")).encode()


def _lines(files: dict[str, str]) -> str:
    return "".join(f"{path}:{line}\n" for path, text in files.items() for line in text.split("\n"))


def _cpus(cpus: int) -> list[tuple[str, str]]:
    files = {f"{ask.CPU}/online": f"0-{cpus - 1}", f"{ask.CPU}/isolated": ""}
    for n in range(cpus):
        core = n % (cpus // 2)
        files[f"{ask.CPU}/cpu{n}/online"] = "1"
        files[f"{ask.CPU}/cpu{n}/topology/physical_package_id"] = str(core // (cpus // 4))
        files[f"{ask.CPU}/cpu{n}/topology/core_id"] = str(core)
        files[f"{ask.CPU}/cpu{n}/topology/thread_siblings_list"] = f"{core},{core + cpus // 2}"
    marks = [(f"P {ask.CPU}/cpu{n}", "") for n in range(cpus)]
    return [("F /proc/cpuinfo", "processor : 0\nflags : vmx ept\n"), *marks, ("G cpu", _lines(files))]


def _nodes(cpus: int) -> list[tuple[str, str]]:
    files = {f"{ask.NODE}/online": "0-1"}
    for n in range(2):
        first, last = n * cpus // 4, (n + 1) * cpus // 4 - 1
        node = f"{ask.NODE}/node{n}"
        files[f"{node}/cpulist"] = f"{first}-{last},{first + cpus // 2}-{last + cpus // 2}"
        files[f"{node}/distance"] = "10 21" if n == 0 else "21 10"
        files[f"{node}/meminfo"] = "\n".join(f"Node {n} Key{k}: 1 kB" for k in range(36)) + (
            f"\nNode {n} MemTotal: 1056964608 kB\nNode {n} MemFree: 1000000000 kB"
        )
        for size in (2048, 1048576):
            files[f"{node}/hugepages/hugepages-{size}kB/nr_hugepages"] = "100"
            files[f"{node}/hugepages/hugepages-{size}kB/free_hugepages"] = "100"
    return [(f"P {ask.NODE}/node{n}", "") for n in range(2)] + [("G node", _lines(files))]


def _pci(gpus: int, others: int) -> list[tuple[str, str]]:
    names = [f"0000:{0x10 + n:02x}:00.0" for n in range(gpus)]
    names += [f"0000:{0x40 + n // 8:02x}:{n % 8:02x}.0" for n in range(others)]
    frames = [(f"D {ask.PCI}", "".join(f"{name}\n" for name in names))]
    files: dict[str, str] = {}
    resource = "\n".join(["0x0000383800000000 0x000038481fffffff 0x000000000014220c"] * 13)
    aer = "\n".join(f"Error{k} 0" for k in range(10))
    values = dict.fromkeys(ask.PCI_ATTRIBUTES, "0") | {
        "vendor": "0x10de",
        "device": "0x2330",
        "subsystem_vendor": "0x10de",
        "subsystem_device": "0x16c1",
        "local_cpulist": "0-15,32-47",
        "current_link_speed": "32.0 GT/s PCIe",
        "max_link_speed": "32.0 GT/s PCIe",
        "current_link_width": "16",
        "resource": resource,
        "aer_dev_correctable": f"{aer}\nTOTAL_ERR_COR 0",
        "aer_dev_fatal": f"{aer}\nTOTAL_ERR_FATAL 0",
        "aer_dev_nonfatal": f"{aer}\nTOTAL_ERR_NONFATAL 0",
    }
    blob = b""
    for number, name in enumerate(names):
        path = f"{ask.PCI}/{name}"
        values["class"] = "0x030200" if number < gpus else "0x088000"
        files.update({f"{path}/{key}": value for key, value in values.items()})
        frames.append((f"L {path}", f"/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/{name}"))
        frames.append((f"L {path}/iommu_group", f"/sys/kernel/iommu_groups/{number}"))
        frames += [(f"P {path}", ""), (f"P {path}/reset", "")]
        blob += f"{chr(10) if blob else ''}==> {name}/config <==\n".encode() + b"\xde\x10" * 32
    blob += b"\n==> /dev/null <==\n"
    return [*frames, ("G pci", _lines(files)), ("X header", blob.hex(" ", 1))]


def bench_parsing(rounds: int = 15) -> bool:
    raw = synthetic_transcript()
    facts = parse_transcript(raw)
    assert len(facts.cpus) == 64
    assert sum(d.class_code == "030200" for d in facts.pci_devices) == 8
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        parse_transcript(raw)
        seconds.append(time.perf_counter() - start)
    typical = statistics.median(seconds)
    _report(
        "parse",
        transcript_bytes=len(raw),
        pci_functions=len(facts.pci_devices),
        median_ms=round(typical * 1000, 1),
        best_ms=round(min(seconds) * 1000, 1),
        goal_ms=GOAL_PARSE_SECONDS * 1000,
        share_of_goal=round(typical / GOAL_PARSE_SECONDS, 2),
    )
    return typical <= GOAL_PARSE_SECONDS


class Counting:
    """A transport that counts round trips."""

    def __init__(self, inner: Transport) -> None:
        self.inner, self.trips = inner, 0

    @property
    def name(self) -> str:
        return self.inner.name

    def run(
        self, argv: tuple[str, ...], *, stdin: bytes = b"", deadline: float = 60.0, label: str = ""
    ) -> CommandResult:
        self.trips += 1
        return self.inner.run(argv, stdin=stdin, deadline=deadline, label=label)

    def put(self, source: Path, target: str, *, deadline: float = 600.0) -> None:
        self.inner.put(source, target, deadline=deadline)

    def close(self) -> None:
        self.inner.close()


def ask_file_by_file(transport: Transport, paths: list[str]) -> int:
    """What testinfra does for ``host.file(path).content_string``: one command for each file.

    The backend runs over the given transport, so that both sides use the same kept connection.
    """
    from testinfra.backend.base import BaseBackend  # noqa: PLC0415  only for --host
    from testinfra.host import Host  # noqa: PLC0415  only for --host

    class Over(BaseBackend):
        NAME = "over"

        def __init__(self) -> None:
            super().__init__(transport.name)

        def run(self, command: str, *args: str, **_: object) -> object:
            line = self.quote(command, *args)
            result = transport.run(("sh", "-c", line), label="testinfra")
            return self.result(result.status, line, result.stdout, result.stderr)

    host = Host(Over())
    return sum(1 for path in paths if host.file(path).content_string is not None)


def bench_round_trip(name: str, sample: int) -> bool:
    """One round trip beside a sample of single files, whose mean time is scaled to all files."""
    with _transport(name) as transport:
        counting = Counting(transport)
        collect(counting, work_dir="/var/lib/shakedown")  # both sides start on a warm connection
        start = time.perf_counter()
        facts, raw = collect(counting, work_dir="/var/lib/shakedown")
        one = time.perf_counter() - start
        assert counting.trips == 2
        frames = read_frames(raw)
        paths = [p for p in frames.files if p.startswith("/sys") and not p.endswith(("/config", "/vpd"))]
        chosen = paths[:: max(1, len(paths) // sample)][:sample]
        start = time.perf_counter()
        read = ask_file_by_file(transport, chosen)
        each = (time.perf_counter() - start) / read
    ratio = each * len(paths) / one
    _report(
        "round trip",
        host=_about(facts),
        one_round_trip_seconds=round(one, 2),
        files_in_it=len(paths),
        testinfra_ms_a_file=round(each * 1000, 1),
        testinfra_sample=read,
        testinfra_all_files_seconds=round(each * len(paths), 1),
        ratio=round(ratio, 1),
        goal_ratio=GOAL_ROUND_TRIP_RATIO,
    )
    return ratio >= GOAL_ROUND_TRIP_RATIO


@contextlib.contextmanager
def _transport(name: str) -> Iterator[Transport]:
    from harness.config.files import load_host, load_lab  # noqa: PLC0415  only for --host
    from harness.stages.host.access import open_transport  # noqa: PLC0415  only for --host

    with open_transport(
        load_host(name), lambda line: print(line, file=sys.stderr), labs=load_lab
    ) as transport:
        yield transport


def _about(facts: HostFacts) -> str:
    return f"{facts.product}, {len(facts.cpus)} CPUs, {len(facts.pci_devices)} PCI functions"


def _report(title: str, **values: object) -> None:
    print(json.dumps({"bench": f"facts: {title}", **values}))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", help="compare one round trip with file by file on this host")
    parser.add_argument("--sample", type=int, default=60, help="files that testinfra is asked for")
    options = parser.parse_args()
    reached = bench_parsing()
    if options.host:
        reached = bench_round_trip(options.host, options.sample) and reached
    return 0 if reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
