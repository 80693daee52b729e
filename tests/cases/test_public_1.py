"""Public logs, tools' words and trees, reworded and re-addressed: each row of ``expected.tsv`` is a test.

A row says in words what is right; what that means for the program stands in ``RIGHT``, and a row without an
entry there fails.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from harness.attach.vfio import ATTACHMENT as VFIO
from harness.checks.watching.kernel_log import trouble
from harness.config.files import load_kernel_codes
from harness.facts import from_sysroot
from harness.model.guest import GuestRequest, PlacementPolicy
from harness.model.placement import NoPlan, PlacementPlan
from harness.model.telemetry import Family, Ruling
from harness.model.topology import HostFacts
from harness.placement.planner import plan
from harness.telemetry.kernel.log import Told, tell
from harness.vendors.nvidia.payload.video import no_fault
from harness.workloads.hashing.payload.hashcat import at_address, devices
from tests.cli.commands import shakedown

HERE = Path(__file__).parent / "public-1"
ROWS = [tuple(row.split("\t")) for row in (HERE / "expected.tsv").read_text().splitlines()[1:]]
CODES = load_kernel_codes()

SILENT = None
"""No event at this line."""
LEAST_RETEST = ("stop", "retest", "unknown")

RIGHT: dict[tuple[str, str], dict[str, Any] | None] = {
    **{
        ("f01", str(number)): {
            "family": "kernel",
            "device": "0000:41:00.0",
            "severity": "retest",
            "action": "RESTART_HOST",
        }
        for number in range(1, 4)
    },
    ("f01", "4"): {"family": "kernel", "device": "0000:17:00.0", "severity": "retest"},
    ("f01", "5"): SILENT,
    ("f02", "1"): {"family": "iommu", "device": "0000:41:00.0", "severity": LEAST_RETEST},
    ("f02", "2"): {"family": "iommu", "device": "0000:41:00.0", "severity": LEAST_RETEST},
    ("f02", "3"): {"family": "iommu", "device": "0000:41:00.0", "severity": "stop"},
    ("f02", "4"): {"family": "iommu", "device": None, "severity": "stop"},
    ("f03", "1"): {"device": "0000:83:00.0", "severity": "stop", "meaning": "GPU"},
    ("f03", "2"): {"device": "0000:83:00.0", "severity": "stop", "meaning": "GPU"},
    ("f03", "3"): SILENT,
    ("f03", "4"): {"device": "0000:83:00.0", "severity": LEAST_RETEST},
    ("f03", "5"): {"device": "0000:83:00.0", "meaning": "GPU", "severity": LEAST_RETEST},
    **{
        ("f04", str(number)): {
            "lines": [1, 5],
            "family": "aer",
            "severity": "note",
            "device": "0000:20:03.1",
            "meaning": "PCIe error",
        }
        for number in range(1, 6)
    },
    ("f05", "1"): {"lines": [1, 2], "device": "0000:05:00.0"},
    ("f05", "2"): {"device": "0000:05:00.0", "severity": "config", "action": "FIX_CONFIG"},
    ("f05", "3"): {"device": "0000:05:00.0", "severity": "config", "action": "FIX_CONFIG"},
    ("f05", "4"): {"device": None, "severity": "config", "action": "FIX_CONFIG"},
    ("f06", "1"): {"device": None, "severity": "retest", "action": "RESET_GPU"},
    ("f06", "2"): {"family": "kernel", "severity": "retest"},
    ("f06", "3"): SILENT,
    ("f07", "1"): {"family": "mce", "severity": "stop"},
    ("f07", "2"): SILENT,
    ("f07", "3"): SILENT,
    **{("f08", str(number)): SILENT for number in range(1, 5)},
    ("p01", "1"): {"family": "xid", "code": 45, "device": "0000:dc:00.0", "ruling": Ruling.LINK},
    ("p01", "2"): {"family": "xid", "code": 149, "subcode": 0, "device": "0019:01:00.0", "severity": "stop"},
    ("p01", "3"): {"family": "xid", "code": 145, "subcode": 0, "severity": "retest"},
    ("p01", "4"): {
        "family": "sxid", "code": 12028, "device": "0000:84:00.0", "severity": "retest", "at": None,
    },
    ("p01", "5"): {"family": "xid", "code": 119, "device": "0000:4a:00.0", "severity": "retest"},
    ("q01", "1"): {"family": "xid", "code": 149, "subcode": 38, "severity": "stop"},
    ("q01", "2"): {"family": "xid", "code": 137, "device": "0000:66:00.0", "severity": "retest"},
    ("q01", "3"): {
        "family": "xid", "code": 48, "device": "3f8cfdd:00:00.0", "severity": "stop", "at": 12.345678,
    },
    ("q01", "4"): {"family": "sxid", "code": 20123, "severity": "unknown"},
    ("q01", "5"): {"family": "xid", "code": 154, "ruling": Ruling.LINK},
    ("h01", "1"): {"family": "kernel", "device": "0000:40:01.1", "severity": LEAST_RETEST},
    ("h01", "2"): {"family": "kernel", "device": "0000:c1:00.1"},
    ("h01", "3"): SILENT,
    ("h05", "1"): {"severity": "config", "meaning": "another driver holds"},
    ("h05", "2"): {"lines": [2, 3], "device": "0009:01:00.0"},
    ("h05", "3"): {"device": "0009:01:00.0", "severity": "config"},
    ("h05", "4"): SILENT,
}  # fmt: skip
LOG_ROWS = [(file, line) for file, line, _ in ROWS if file.endswith(".log")]
"""``ruling`` and ``at`` are the record's own; all else is what the command prints."""


def test_every_row_is_a_test() -> None:
    others = {file for file, _, _ in ROWS if not file.endswith(".log")}
    assert {(file[:3], line) for file, line in LOG_ROWS} == set(RIGHT)
    assert others == {FFMPEG, FFMPEG_HIDDEN, HASHCAT, *TREES}


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What the command prints of each log."""
    where = tmp_path_factory.mktemp("log")
    found = {}
    for name in sorted({file for file, _ in LOG_ROWS}):
        said = shakedown("log", str(HERE / name), "--json", cwd=where)
        assert (said.status, said.err) == (0, "")
        found[name] = json.loads(said.out)
    return found


def _told(name: str) -> list[Told]:
    lines = (HERE / name).read_text().splitlines()
    return list(tell(((None, line) for line in lines), CODES))


@pytest.mark.parametrize(("name", "line"), LOG_ROWS)
def test_a_line_of_a_public_log(name: str, line: str, printed: dict[str, list[dict[str, Any]]]) -> None:
    right, number = RIGHT[name[:3], line], int(line)
    here = [event for event in printed[name] if event["lines"][0] <= number <= event["lines"][1]]
    told = [each.event for each in _told(name) if each.first <= number <= each.last]
    assert len(here) == len(told) == (0 if right is SILENT else 1)
    for key, value in (right or {}).items():
        if key in ("ruling", "at"):
            assert getattr(told[0], key) == value
        elif key == "meaning":
            assert value in here[0]["meaning"]
            assert not any(word in here[0]["meaning"] for word in ("processor", "host"))
        elif isinstance(value, tuple):
            assert here[0][key] in value
        else:
            assert here[0][key] == value


def test_the_record_reads_what_the_command_prints(printed: dict[str, list[dict[str, Any]]]) -> None:
    for name, events in printed.items():
        told = [(each.first, each.event.family.value, each.event.code) for each in _told(name)]
        assert told == [(event["lines"][0], event["family"], event["code"]) for event in events]


def test_a_wrong_driver_accuses_no_card() -> None:
    found = trouble((HERE / "f05-nvrm-wrong-module.log").read_text().splitlines())
    assert [each.config for each in found] == [True, True, True]
    assert {event.event.family for event in _told("f05-nvrm-wrong-module.log")} == {Family.KERNEL}


FFMPEG, FFMPEG_HIDDEN, HASHCAT = "f09-ffmpeg-words.txt", "h09-ffmpeg-words.txt", "q04-hashcat7-devices.txt"


@pytest.mark.parametrize(
    ("name", "line", "word"),
    [
        (FFMPEG, 1, "threads"),
        (FFMPEG, 2, "older"),
        (FFMPEG, 3, ""),
        (FFMPEG_HIDDEN, 1, "surface"),
        (FFMPEG_HIDDEN, 2, "Fabric Manager"),
    ],
)
def test_what_ffmpeg_says_accuses_a_card_or_none(name: str, line: int, word: str) -> None:
    said = (HERE / name).read_text().splitlines()[line - 1]
    why = no_fault(said)
    assert bool(why) is bool(word)
    assert word in why


@pytest.mark.parametrize(("address", "number"), [("0000:41:00.0", "1"), ("0000:81:00.0", "2")])
def test_hashcat_7_shows_addresses_as_they_are(address: str, number: str) -> None:
    device = at_address(devices((HERE / HASHCAT).read_text()), address)
    assert (device["api"], device["number"]) == ("CUDA", number)


TREES = {
    "f10-cpulist-ends-in-nul.tar.gz": "nul",
    "p02-epyc-nps4-audio.tar.gz": "nps4",
    "f11-gb200-arm.tar.gz": "gb200",
}


def _facts(name: str, where: Path) -> HostFacts:
    with tarfile.open(HERE / name) as tree:
        tree.extractall(where, filter="data")
    return from_sysroot(where / TREES[name])


def test_a_list_that_ends_in_nul_is_read(tmp_path: Path) -> None:
    facts = _facts("f10-cpulist-ends-in-nul.tar.gz", tmp_path)
    assert [(node.id, node.cpus) for node in facts.numa_nodes] == [(0, (0, 2)), (1, (1, 3))]
    assert [cpu.siblings for cpu in facts.cpus] == [(0, 2), (1, 3), (0, 2), (1, 3)]
    assert not [warning for warning in facts.warnings if "node" in warning or "CPU" in warning]


def test_a_node_without_memory_and_a_gpu_without_a_node_are_told(tmp_path: Path) -> None:
    facts = _facts("p02-epyc-nps4-audio.tar.gz", tmp_path)
    one = plan(facts, GuestRequest(name="g1", gpus=1), PlacementPolicy(), VFIO)
    assert isinstance(one, PlacementPlan)
    assert [(str(gpu.host), [str(each) for each in gpu.companions]) for gpu in one.gpus] == [
        ("0000:c1:00.0", ["0000:c1:00.1"])
    ]
    assert one.cells[0].host_node == 3
    assert sorted(one.vcpupin.values()) == [*range(49, 64), *range(113, 128)]
    two = plan(facts, GuestRequest(name="g2", gpus=2), PlacementPolicy(), VFIO)
    assert isinstance(two, NoPlan)
    said = {reason.code: reason.message for reason in two.reasons}
    assert "node 1" in said["node_without_memory"]
    assert "0000:81:00.0" in said["numa_unknown"]
    assert not any(cpu.isolated for cpu in facts.cpus)


def test_a_machine_of_another_architecture_gets_no_plan(tmp_path: Path) -> None:
    facts = _facts("f11-gb200-arm.tar.gz", tmp_path)
    answer = plan(facts, GuestRequest(name="g1", gpus=1), PlacementPolicy(), VFIO)
    assert isinstance(answer, NoPlan)
    assert [reason.code for reason in answer.reasons] == ["architecture_unsupported"]
    assert "aarch64" in answer.reasons[0].message
    assert [node.id for node in facts.numa_nodes if node.generic_initiator] == list(range(2, 34))
    assert all(not node.memory_bytes for node in facts.numa_nodes if node.generic_initiator)
