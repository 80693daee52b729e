"""Every reader of foreign text in the harness, with real captures to change and the errors it may raise.

``test_fuzz.py`` fails when a function that raises ParseError is neither here nor in ``WITHIN``.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from harness.attach.vfio import ATTACHMENT as VFIO
from harness.backends.libvirt_errors import remedy_for
from harness.backends.ssh_errors import classify, explain
from harness.config import files as config
from harness.errors import ConfigError, HarnessError, ParseError, RecordError
from harness.facts import parse_transcript
from harness.model.gpu import Cards
from harness.model.guest import GuestRequest, PlacementPolicy
from harness.model.inventory import SshAccess
from harness.model.pci import PciAddress
from harness.model.placement import PlacementPlan
from harness.model.record import RunRecord
from harness.model.topology import HostFacts
from harness.placement.domain.read import read_domain
from harness.placement.observe.compare import compare
from harness.placement.observe.guest import parse_guest
from harness.placement.observe.host import parse_host
from harness.placement.observe.observed import observe
from harness.placement.observe.qmp import parse_qmp
from harness.placement.planner import plan
from harness.record.directory import RunDirectory
from harness.record.judge import rejudge
from harness.record.notes import _parsed as parsed_note
from harness.record.transcripts import Transcript, from_bytes, to_bytes
from harness.scripts.protocol import GrowingAnswer, read_answer
from harness.serial import from_json, recorded_json, strict_json, to_json
from harness.stages.host.resets import read_trials
from harness.stages.host.state import read_host_state
from harness.telemetry.gpu.gaps import windows
from harness.telemetry.gpu.spool import read_spool
from harness.telemetry.gpu.summary import summarize
from harness.telemetry.host.lines import read_lines
from harness.telemetry.host.summary import summarize_host
from harness.telemetry.kernel.log import read_kernel
from harness.telemetry.kernel.text import kmsg_record, printed_line
from harness.workloads import runs
from harness.workloads.base import GuestDevice, Job
from harness.workloads.hashing.hashcat import read_benchmark, read_find, read_status
from harness.workloads.registry import workloads
from reports import RENDERERS
from tests.fakes.scripts import framed, host_state
from tests.faults import clean
from tests.telemetry import spools
from tests.telemetry.test_host import begin, bye, look, sample
from tests.workloads import test_p2p, test_pcie, test_vram

TESTS = Path(__file__).parents[1]
ADDRESS = PciAddress.parse("0000:41:00.0")


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A function of bytes, what it may raise, and what to begin with."""

    name: str
    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    raises: tuple[type[Exception], ...] = (ParseError,)
    covers: tuple[str, ...] = field(default=())
    """``module.function`` of the readers that it enters by."""


def _kept(value: object) -> object:
    """What was read can be recorded, and read back from the record."""
    return recorded_json(to_json(value))


def _files(*patterns: str) -> tuple[bytes, ...]:
    found = [path.read_bytes() for pattern in patterns for path in sorted(TESTS.glob(pattern))]
    assert found, patterns
    return tuple(found)


def _facts(raw: bytes) -> object:
    return _kept(parse_transcript(raw))


def _planned(raw: bytes) -> object:
    facts = from_json(HostFacts, raw)
    return _kept(plan(facts, GuestRequest(name="g", gpus=1), PlacementPolicy(), VFIO))


CASE = TESTS / "placement/observe/cases/qemu-7.2-memfd-unpinned"


def _observed(raw: bytes) -> object:
    planned = from_json(PlacementPlan, (CASE / "plan.json").read_bytes())
    qmp = json.loads((CASE / "qmp.json").read_bytes())
    seen = observe(planned, host=raw, qmp=qmp, guest=(CASE / "guest.txt").read_bytes())
    compare(planned, seen, memory_share=0.99)
    return _kept(seen)


def _qmp(raw: bytes) -> object:
    try:
        answers = strict_json(raw)
    except ValueError:
        return None
    if not isinstance(answers, dict):
        return None
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in answers.items()}
    return parse_qmp(texts)


def _qmp_seeds() -> tuple[bytes, ...]:
    """The answers as trees, so that changes reach into them."""
    found = []
    for path in sorted(TESTS.glob("placement/observe/cases/*/qmp.json")):
        answers = json.loads(path.read_bytes())
        found.append(json.dumps({key: json.loads(value) for key, value in answers.items()}).encode())
    return tuple(found)


@cache
def _codes() -> Any:
    return config.load_kernel_codes()


def _spool(raw: bytes) -> object:
    spool = read_spool(raw)
    return _kept(
        summarize(
            spool, windows([]), clean.profile().telemetry, guest="g1", cards=Cards(same=True), codes=_codes()
        )
    )


def _host_spool(raw: bytes) -> object:
    found = summarize_host(
        read_lines(raw),
        period_seconds=5.0,
        max_gap_seconds=11.0,
        devices=(ADDRESS,),
        dedicated={"shk-g1": (1,)},
        codes=_codes(),
    )
    return _kept(found)


PID = "/run/libvirt/qemu/shk-g1.pid:7"
HOST_SPOOL = "".join(
    (
        begin(),
        sample(0, 100.0, f"{ADDRESS}/current_link_speed:16.0 GT/s PCIe", f"{ADDRESS}/current_link_width:16"),
        look(0, "task 7 7 1 7 1 50 R work", "/proc/stat:cpu1 1 2 3 4 5 6 7 8 9 10", PID),
        "6,1234,100000000,-;vfio-pci 0000:41:00.0: not ready 65535ms after FLR; giving up\n SUBSYSTEM=pci\n",
        sample(1, 105.0, "/sys/class/hwmon/hwmon0/name:k10temp", "/sys/class/hwmon/hwmon0/temp1_input:45000"),
        look(1, "task 7 7 1 7 1 90 R work", "/proc/stat:cpu1 1 2 3 4 5 6 7 9 9 10", PID),
        bye(106.0),
    )
).encode()
KERNEL = b"""[    1.000000] Linux version 6.1.0-37-amd64
[ 1234.567890] NVRM: Xid (PCI:0000:41:00): 79, pid=1234, name=python3, GPU has fallen off the bus.
NVRM: Xid (PCI:0000:41:00): 149, pid='<unknown>', NETIR_LINK_EVT Nonfatal XC0 i0 Link 00 (0x0000a3c5 0x0)
nvidia-nvswitch1: SXid (PCI:0000:c1:00.0): 12028, Non-fatal, Link 32 egress non-posted PRIV error (First)
pcieport 0000:40:01.0: AER: Uncorrected (Fatal) error received: 0000:41:00.0
{1}[Hardware Error]: Hardware error from APEI Generic Hardware Error Source: 5
DMAR: [DMA Read NO_PASID] Request device [41:00.0] fault addr 0xfffff000 [fault reason 0x06]
amdgpu 0000:03:00.0: amdgpu: GPU reset begin!
6,1234,100000000,-;mce: [Hardware Error]: Machine check events logged
EDAC MC0: 1 CE memory read error on CPU_SrcID#0_MC#0_Chan#0_DIMM#0
"""


def _kernel(raw: bytes) -> object:
    lines = raw.decode("utf-8", "backslashreplace").split("\n")
    for line in lines:
        kmsg_record(line)
    return [_kept(event) for event in read_kernel([printed_line(line) for line in lines], "host", _codes())]


def _xml() -> tuple[bytes, ...]:
    from xml.etree import ElementTree as ET

    from tests.placement.hosts import lab_like
    from tests.placement.test_domxml import tree

    return tuple(ET.tostring(tree(lab_like(), gpus)) for gpus in (1, 2))


def _hashcat(raw: bytes) -> object:
    text = raw.decode("utf-8", "backslashreplace")
    for read in (read_status, read_find, lambda said: read_benchmark(said, 1, 0)):
        try:
            read(text)
        except ParseError:
            continue
    return None


def _grown(raw: bytes) -> object:
    answer = GrowingAnswer("host-state")
    return [answer.take(line) for line in raw.decode("utf-8", "backslashreplace").split("\n")]


STATE = framed(
    "host-state",
    host_state(
        devices=f"{ADDRESS}\t1\tvfio-pci\tflr bus\t de 10 35 23 00 00 10 00 a1 00 02 03 00 00 00 00\n",
        hugepages="0\t2048\t512\n",
        processes="7\tqemu -name guest=g1,debug-threads=on\n",
        qemu="shk-g1\n",
        network="n\n",
        files="/var/lib/shakedown/runs/r/x\n",
        claims="0000:41:00.0\n",
    ),
)
RESETS = framed("resets", {"resets": f"{ADDRESS}\t1\t1\tflr bus\tflr bus\t1\tno words\n"})


@cache
def _run() -> dict[str, bytes]:
    """The files of a small recorded run."""
    from harness.record.judge import finish
    from tests.record.replay import begin as begun
    from tests.record.replay import replay

    with tempfile.TemporaryDirectory() as root:
        evidence = clean.evidence()
        recorder = begun(Path(root), evidence, profile=clean.profile(), host=clean.HOST)
        replay(recorder, evidence)
        finish(recorder)
        path = recorder.path
        return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def _judged(raw: bytes) -> object:
    with tempfile.TemporaryDirectory() as root:
        for name, content in {**_run(), "events.jsonl": raw}.items():
            (Path(root) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(root) / name).write_bytes(content)
        try:
            directory = RunDirectory.open(Path(root))
        except ConfigError:
            return None
        record = rejudge(directory).record
    for renderer in RENDERERS:
        renderer.render(record).encode("utf-8")
    return None


def _rendered(raw: bytes) -> object:
    record = from_json(RunRecord, raw)
    for renderer in RENDERERS:
        renderer.render(record).encode("utf-8")
    return _kept(record)


def _inventory(kind: str) -> Callable[[bytes], object]:
    load: dict[str, Callable[[Path], object]] = {
        "hosts": config.load_host,
        "profiles": config.load_profile,
        "labs": config.load_lab,
        "waivers": lambda path: config.load_waivers([path]),
        "standins": config.load_standin,
        "skus": config.load_sku_file,
        "kernel": config.load_kernel_code_file,
    }

    def read(raw: bytes) -> object:
        with tempfile.TemporaryDirectory() as root:
            path = Path(root) / "x.yaml"
            path.write_bytes(raw)
            load[kind](path)
            return None

    return read


def _words(raw: bytes) -> object:
    words = raw.decode("latin-1")
    return classify(words), explain(words, SshAccess(address="h")), remedy_for(words)


def _workload(name: str, job: Job) -> Callable[[bytes], object]:
    found = next(each for each in workloads() if each.spec.name == name)

    def read(raw: bytes) -> object:
        parsed = found.parse(job, raw)
        return _kept(parsed.measurements), _kept(parsed.answers), _kept(parsed.versions)

    return read


GPU = GuestDevice(address=ADDRESS, vendor="10de", device="2335", host=ADDRESS)
PLAIN = Job(key="k1", guest="g1", tenant="t", vcpus=2, devices=())


def _line(name: str, observed: object, engine: str = "cpu", **more: object) -> bytes:
    return (
        json.dumps({"payload": name, "engine": engine, "observed": observed, "versions": {"x": "1"}} | more)
        + "\n"
    ).encode()


_ENTRY = {"name": str(ADDRESS), "kind": "done", "at": "", "error": None, "observed": {"x": 1}}
_JOBS: dict[str, tuple[Job, tuple[bytes, ...]]] = {
    "p2p": (test_p2p.JOB, (_line("p2p", test_p2p.observed(), "cuda"),)),
    "pcie": (test_pcie.JOB, (_line("pcie", test_pcie.observed(), "cuda"),)),
    "vram": (test_vram.JOB, (_line("vram", test_vram.observed(), "cuda"),)),
}
_STATUS = {
    "key": "k1", "state": "done", "created": False, "pid": 7, "exit": 0, "stopped": False, "started": 10.5,
    "ended": 12.75, "now": 13.0, "boot": "b", "stdout_bytes": 3, "stderr_bytes": 0, "stdout_total": 3,
    "stderr_total": 0,
}  # fmt: skip


def _of_workloads() -> tuple[Reader, ...]:
    cases = {
        name: tuple(
            (json.dumps(json.loads(raw)) + "\n").encode() for raw in _files(f"workloads/cases/{name}*.json")
        )
        for name in ("tensor", "transcode")
    }
    found = []
    for each in workloads():
        plain = (
            _line(each.spec.name, {}),
            _line(each.spec.name, {"entries": [_ENTRY]}, "cuda"),
            *cases.get(each.spec.name, ()),
        )
        job, seeds = _JOBS.get(each.spec.name, (PLAIN, plain))
        found.append(
            Reader(
                name=f"workload-{each.spec.name}", read=_workload(each.spec.name, job), seeds=(*seeds, *plain)
            )
        )
    return tuple(found)


def readers() -> tuple[Reader, ...]:
    """All of them."""
    record = _run()
    facts = to_json(clean.facts()).encode()
    transcript = Transcript(
        label="x", argv=("a", "b"), status=0, seconds=1.5, at="2026-03-10T12:00:00.000Z", stdin_bytes=2,
        stdin=b"in", stdout=b"out\n", stderr=b"",
    )  # fmt: skip
    note = b'{"at":"2026-03-10T12:00:05.250Z","by":"Ada","text":"fans are loud","intervention":false}'
    inventory = TESTS.parent / "inventory"
    return (
        Reader(
            name="facts",
            read=_facts,
            seeds=_files("facts/cases/*.txt"),
            covers=("facts.assemble.parse_transcript", "facts.frames.read_frames", "facts.frames.frames_of"),
        ),
        Reader(name="plan", read=_planned, seeds=(facts,), covers=("serial.from_json",)),
        Reader(
            name="placement-host",
            read=parse_host,
            seeds=_files("placement/observe/cases/*/host.txt", "placement/observe/captured/*.txt"),
            covers=("placement.observe.host.parse_host",),
        ),
        Reader(
            name="placement-guest",
            read=parse_guest,
            seeds=_files("placement/observe/cases/*/guest.txt"),
            covers=("placement.observe.guest.parse_guest",),
        ),
        Reader(name="placement", read=_observed, seeds=((CASE / "host.txt").read_bytes(),)),
        Reader(name="qmp", read=_qmp, seeds=_qmp_seeds(), covers=("placement.observe.qmp.parse_qmp",)),
        Reader(
            name="domain-xml",
            read=lambda raw: read_domain(raw.decode("utf-8", "backslashreplace")),
            seeds=_xml(),
            covers=("placement.domain.read.read_domain",),
        ),
        Reader(
            name="spool",
            read=_spool,
            seeds=(b"".join(spools.whole(last=103.0)),),
            covers=("telemetry.gpu.spool.read_spool",),
        ),
        Reader(
            name="host-spool",
            read=_host_spool,
            seeds=(HOST_SPOOL,),
            covers=("telemetry.host.lines.read_lines",),
        ),
        Reader(name="kernel-log", read=_kernel, seeds=(KERNEL,)),
        Reader(
            name="hashcat",
            read=_hashcat,
            seeds=_files("workloads/cases/hashcat*"),
            covers=(
                "workloads.hashing.hashcat.read_status",
                "workloads.hashing.hashcat.read_find",
                "workloads.hashing.hashcat.read_benchmark",
            ),
        ),
        Reader(
            name="job-status",
            read=lambda raw: runs.parse_status(raw, "k1"),
            seeds=(framed("runner", {"status": json.dumps(_STATUS) + "\n"}),),
            covers=("workloads.runs.parse_status",),
        ),
        Reader(
            name="job-output",
            read=lambda raw: runs.parse_collected(raw, "k1"),
            seeds=(framed("runner", {"status": json.dumps(_STATUS) + "\n", "stdout": "out", "stderr": ""}),),
            covers=("workloads.runs.parse_collected",),
        ),
        Reader(
            name="script-answer",
            read=lambda raw: (_grown(raw), read_answer(raw, "host-state")),
            seeds=(STATE, framed("host-state", {"failed": "no flock\n"}, status=1)),
            covers=("scripts.protocol.read_answer",),
        ),
        Reader(
            name="host-state",
            read=lambda raw: read_host_state(read_answer(raw, "host-state"), (ADDRESS,)),
            seeds=(STATE,),
            covers=("stages.host.state.read_host_state",),
        ),
        Reader(
            name="resets",
            read=lambda raw: _kept(read_trials(read_answer(raw, "resets"))),
            seeds=(RESETS,),
            covers=("stages.host.resets.read_trials",),
        ),
        Reader(
            name="transcript",
            read=from_bytes,
            seeds=(to_bytes(transcript),),
            covers=("record.transcripts.from_bytes",),
        ),
        Reader(
            name="note",
            read=lambda raw: parsed_note("20260310T120005Z-0123456789abcdef.json", raw),
            seeds=(note,),
        ),
        Reader(
            name="events", read=_judged, seeds=(record["events.jsonl"],), raises=(RecordError, ParseError)
        ),
        Reader(name="record", read=_rendered, seeds=(record["run.json"],), raises=(ParseError,)),
        Reader(
            name="json",
            read=strict_json,
            seeds=(facts[:2000], note, b'["\\ud83d\\ude00", 1e5]'),
            raises=(ValueError,),
        ),
        Reader(name="ssh-words", read=_words, seeds=_files("backends/cases/ssh/*.txt")),
        *(
            Reader(
                name=f"inventory-{kind}",
                read=_inventory(kind),
                seeds=tuple(path.read_bytes() for path in sorted((inventory / kind).glob("*.yaml"))),
                raises=(ConfigError,),
            )
            for kind in config.KINDS
        ),
        *_of_workloads(),
    )


WITHIN = {
    "facts.collect.collect": "asks a host, then parse_transcript",
    "reading.reader": "the boundary itself",
    "record.notes.leave_note": "writes",
    "serial.from_data": "after from_json",
    "scripts.script.ask": "asks a machine, then read_answer",
    "stages.host.gpus_in_use.refuse_held": "asks a host, then read_answer",
    "stages.host.watch.read_watch": "opens a file, then reader `host-spool`",
    "stages.host.state.snapshot_host_state": "asks a host, then read_host_state",
    "facts.tree.from_sysroot": "reads a directory; tests/facts/test_tree.py",
    "stages.guest.life.last_words": "keeps the ends of a kernel log that has no end",
    "stages.guest.devices.guest_devices": "takes what observe gives",
    "stages.host.resets.exercise_resets": "asks a host, then read_trials",
    "placement.observe.observed.observe": "reader `placement`",
    "lab.prelink.bind_own_symbols": "a library of our own image that is being built",
    "workloads.base.strict_object": "every workload",
    "workloads.base.report_of": "every workload",
}
"""Functions that say they raise ParseError and are entered by a reader above, and how."""
__all__ = ["WITHIN", "HarnessError", "Reader", "readers"]
