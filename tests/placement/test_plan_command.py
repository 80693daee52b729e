"""``shakedown plan`` as a person or a script meets it."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest

from harness.commands.plan import run
from harness.model.topology import HostFacts
from harness.serial import to_json
from tests.placement.hosts import GpuSpec, gpu_address, host, lab_like, with_device


def call(tmp_path: Path, facts: HostFacts | str, **arguments: Any) -> tuple[int, str, str]:
    """Exit status, stdout and stderr."""
    file = tmp_path / "facts.json"
    file.write_text(facts if isinstance(facts, str) else to_json(facts))
    out, err = io.StringIO(), io.StringIO()
    status = run(facts_file=file, output=out, errors=err, **{"gpus": 1, **arguments})
    return status, out.getvalue(), err.getvalue()


def test_a_plan_as_json_has_the_shape_that_others_rely_on(tmp_path: Path) -> None:
    status, out, err = call(tmp_path, lab_like(), gpus=3, json_output=True)
    assert (status, err) == (0, "")
    answer = json.loads(out)
    assert [(g["host"], g["guest_cell"]) for g in answer["gpus"]] == [
        ("0000:c0:00.0", 0),
        ("0000:c1:00.0", 0),
        ("0000:c2:00.0", 1),
    ]
    assert [sorted(c) for c in answer["cells"]] == [["host_node", "id", "memory_mib", "vcpus"]] * 2
    assert answer["vcpupin"] == {"0": 1, "1": 2, "2": 5}
    assert answer["emulatorpin"] == [0, 4]
    assert answer["hugepage_kib"] == 2048


def test_no_plan_exits_one_with_every_reason(tmp_path: Path) -> None:
    facts = with_device(lab_like(), gpu_address(3), numa_node=None)
    status, out, _ = call(tmp_path, facts, gpus=4, json_output=True)
    assert status == 1
    answer = json.loads(out)
    assert list(answer) == ["reasons"]
    assert [sorted(r) for r in answer["reasons"]] == [["code", "message"]] * 2
    assert {r["code"] for r in answer["reasons"]} == {"too_few_gpus", "numa_unknown"}
    status, out, _ = call(tmp_path, facts, gpus=4)
    assert status == 1
    assert "numa_unknown" in out
    assert "0000:c3:00.0" in out


def test_plans_given_back_are_planned_around(tmp_path: Path) -> None:
    given: tuple[Path, ...] = ()
    seen: set[str] = set()
    for number, size in enumerate((1, 2, 1)):
        status, out, _ = call(tmp_path, lab_like(), gpus=size, given=given, json_output=True, xml=number == 1)
        assert status == 0
        answer = json.loads(out)
        hosts = {g["host"] for g in answer["gpus"]}
        assert not hosts & seen
        seen |= hosts
        file = tmp_path / f"plan{number}.json"
        file.write_text(out)
        given = (*given, file)
    assert len(seen) == 4
    status, out, _ = call(tmp_path, lab_like(), given=given)
    assert status == 1
    assert "already_placed" in out


def test_xml_is_a_domain_on_stdout_and_nothing_else(tmp_path: Path) -> None:
    status, out, err = call(tmp_path, lab_like(), gpus=2, xml=True)
    assert (status, err) == (0, "")
    assert out.startswith("<domain")
    assert out.endswith("</domain>\n")
    status, out, _ = call(tmp_path, lab_like(), gpus=2, xml=True, json_output=True)
    assert json.loads(out)["domain_xml"].startswith("<domain")


def test_the_picture_says_what_goes_where(tmp_path: Path) -> None:
    status, out, _ = call(tmp_path, lab_like(), gpus=3)
    assert status == 0
    assert "NUMA node 1 -> guest cell 1" in out
    assert "GPU 0000:c0:00.0 with 0000:c0:00.1 -> ua-gpu0" in out
    assert "\x1b" not in out, "no colour when not on a terminal"


@pytest.mark.parametrize("gpus", [-1, 257, 10**9])
def test_absurd_numbers_of_gpus_are_wrong_usage(tmp_path: Path, gpus: int) -> None:
    status, out, err = call(tmp_path, lab_like(), gpus=gpus)
    assert (status, out) == (2, "")
    assert f"--gpus {gpus}" in err


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "null", '{"schema_version": 1}', "[" * 100_000, "\x00"]
)
def test_a_file_that_holds_no_facts_is_named(tmp_path: Path, text: str) -> None:
    status, out, err = call(tmp_path, text)
    assert (status, out) == (2, "")
    assert "facts.json" in err
    assert "shakedown facts --json" in err


def test_a_file_that_is_not_there_or_no_plan_is_named(tmp_path: Path) -> None:
    out, err = io.StringIO(), io.StringIO()
    assert run(facts_file=tmp_path / "none", gpus=1, output=out, errors=err) == 2
    assert "none" in err.getvalue()
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    status, _, complaint = call(tmp_path, lab_like(), given=(binary,))
    assert status == 2
    assert "binary" in complaint


def test_gpus_are_named_by_address_or_by_id(tmp_path: Path) -> None:
    facts = host([GpuSpec(class_code="00ff00", ids="1234:11e8"), GpuSpec(class_code="00ff00")])
    assert call(tmp_path, facts)[0] == 1
    for name in ("1234:11e8", "0000:c1:00.0"):
        status, out, _ = call(tmp_path, facts, gpu=(name,), json_output=True)
        assert status == 0
        assert json.loads(out)["gpus"][0]["host"] == ("0000:c0:00.0" if "11e8" in name else "0000:c1:00.0")
    status, _, err = call(tmp_path, facts, gpu=("GPU0",))
    assert status == 2
    assert "GPU0" in err


def test_host_and_profile_come_from_the_inventory_and_unknown_ones_are_wrong_usage(tmp_path: Path) -> None:
    edu = host([GpuSpec(class_code="00ff00", ids="1234:11e8")])
    assert call(tmp_path, edu, host="lab")[0] == 0
    for arguments in ({"host": "labb"}, {"profile": "smok"}):
        status, out, err = call(tmp_path, edu, **arguments)
        assert (status, out) == (2, "")
        assert "did you mean" in err


def test_hostile_names_move_no_cursor(tmp_path: Path) -> None:
    facts = dataclasses.replace(lab_like(), hostname="x\x1b[2J\n[bold]y")
    status, out, _ = call(tmp_path, facts)
    assert status == 0
    assert "\x1b" not in out
    assert "x\\x1b[2J\\n[bold]y" in out
    status, _, err = call(tmp_path, facts, name="a\x1b[31m")
    assert status == 2
    assert "\x1b" not in err


def test_facts_keep_their_meaning_through_json(tmp_path: Path) -> None:
    """A guest without GPUs planned from a file is the one planned from memory."""
    status, out, _ = call(tmp_path, lab_like(), gpus=0, vcpus=1, memory_mib=512, json_output=True)
    assert status == 0
    answer = json.loads(out)
    assert answer["gpus"] == []
    assert answer["cells"] == [{"id": 0, "host_node": 0, "vcpus": [0], "memory_mib": 512}]


@pytest.mark.parametrize("gpus", [1, 2])
def test_where_nothing_is_a_gpu_the_way_to_name_one_is_told(tmp_path: Path, gpus: int) -> None:
    bare = host([])
    status, out, err = call(tmp_path, bare, gpus=gpus, json_output=True)
    assert status == 1
    assert "too_few_gpus" in out
    assert "--host NAME" in err
    assert "--gpu VENDOR:DEVICE" in err
    assert call(tmp_path, bare, gpus=gpus, gpu=("1234:11e8",))[2] == ""
    assert call(tmp_path, bare, gpus=gpus, host="lab")[2] == ""
    assert call(tmp_path, lab_like(), gpus=16)[2] == ""
