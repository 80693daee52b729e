"""hashcat's words are read strictly, and only right passwords out of a whole search pass."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from harness.errors import ConfigError, ParseError
from harness.model.pci import PciAddress
from harness.workloads.base import GuestDevice, Job
from harness.workloads.hashing.hashcat import read_benchmark, read_find, read_status, self_test
from harness.workloads.hashing.vectors import MODES, hash_vectors
from harness.workloads.registry import workload

HASHING = workload("hashing")
RECORDED = (Path(__file__).parent / "cases" / "hashcat-pocl.json").read_bytes()
"""hashcat 6.2.6 on PoCL 3.1 (Debian 12), as the payload handed it over."""
JOB = Job(key="k1", guest="g1", tenant="t", vcpus=2, parameters={"tool": "hashcat", "candidates": 300})
GPU = GuestDevice(
    address=PciAddress.parse("0000:01:00.0"),
    vendor="10de",
    device="2335",
    host=PciAddress.parse("0000:41:00.0"),
)
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def changed(**modes: dict[str, Any]) -> bytes:
    """The recorded line with some of the first session's words replaced."""
    whole = json.loads(RECORDED)
    for at, change in modes.items():
        whole["observed"]["devices"][0]["modes"][int(at[1:])].update(change)
    return (json.dumps(whole) + "\n").encode()


def recorded(mode: int, name: str) -> Any:
    return json.loads(RECORDED)["observed"]["devices"][0]["modes"][mode][name]


def test_the_recorded_search_found_every_password() -> None:
    parsed = HASHING.parse(JOB, RECORDED)
    assert [a for a in parsed.answers if not a.ok] == []
    assert len(parsed.answers) == 3 + 4 * 4
    assert parsed.engine == "opencl:pocl"
    values = {m.name: (m.value, m.unit) for m in parsed.measurements}
    assert len(values) == 8
    assert values["hashing.md5.rate"] == (0.750846565, "GH/s")
    assert values["hashing.bcrypt.attack_rate"] == (4.7e-07, "GH/s")


def test_the_answer_of_another_job_does_not_pass() -> None:
    parsed = HASHING.parse(replace(JOB, key="k2"), RECORDED)
    wrong = {a.name for a in parsed.answers if not a.ok}
    assert {f"{mode}: passwords" for mode in ("md5", "ntlm", "sha256", "bcrypt")} <= wrong


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"found": []}, "md5: passwords"),
        ({"found": recorded(0, "found")[1:]}, "md5: passwords"),
        ({"found": [*recorded(0, "found"), f"{'0' * 32}:6161"]}, "md5: passwords"),
        ({"found": [recorded(0, "found")[0][:-2] + "61", *recorded(0, "found")[1:]]}, "md5: passwords"),
        ({"exit": 0}, "md5: end"),
        ({"status": [recorded(0, "status")[-1].replace('"status": 5', '"status": 6')]}, "md5: end"),
        (
            {"status": [recorded(0, "status")[-1].replace("[33554432, 33554432]", "[33554431, 33554432]")]},
            "md5: candidates tried",
        ),
        ({"said": "no word of a test"}, "md5: hashcat's self-test"),
        (
            {"said": "* Device #1: ATTENTION! OpenCL kernel self-test failed.", "status": [], "found": []},
            "md5: hashcat's self-test",
        ),
    ],
)
def test_a_wrong_search_is_named(change: dict[str, Any], wrong: str) -> None:
    parsed = HASHING.parse(JOB, changed(m0=change))
    assert wrong in {a.name for a in parsed.answers if not a.ok}
    assert not {a.name for a in parsed.answers if not a.ok and a.name.startswith(("ntlm", "sha", "bc"))}


def test_a_missing_password_and_an_invented_one_are_told() -> None:
    finds = recorded(0, "found")
    parsed = HASHING.parse(JOB, changed(m0={"found": [*finds[1:], f"{'0' * 32}:6161"]}))
    (answer,) = (a for a in parsed.answers if not a.ok)
    lost = bytes.fromhex(finds[0].rpartition(":")[2]).decode()
    assert answer.got == "7 right, 1 wrong"
    assert answer.detail == f"not found: {lost}; found 'aa' for {'0' * 32}, which is not its password"


def test_slow_is_not_wrong() -> None:
    parsed = HASHING.parse(JOB, changed(m0={"benchmark": "1:0:4294967295:4294967295:5.82:3\n"}))
    assert [a for a in parsed.answers if not a.ok] == []
    assert {m.name: m.value for m in parsed.measurements}["hashing.md5.rate"] == 3e-9


@pytest.mark.parametrize(
    "change",
    [
        {"status": []},
        {"status": [recorded(0, "status")[-1][:-20]]},
        {"status": [recorded(0, "status")[-1].replace('"progress": [', '"progress": [-')]},
        {"status": [recorded(0, "status")[-1].replace('"speed": ', '"speed": 1e400, "x": ')]},
        {"found": ["half a li"]},
        {"found": "x"},
        {"exit": -1},
        {"benchmark": "1:0:1:1:5,82:372690335\n"},
        {"benchmark": "2:0:1:1:5.82:372690335\n"},
        {"benchmark": "1:0:1:1:5.82:1\n1:0:1:1:5.82:2\n"},
        {"benchmark": "1:0:1:1:5.82:" + "9" * 5000},
        {"mode": "crystal ball"},
    ],
)
def test_words_that_hashcat_does_not_say_are_not_read(change: dict[str, Any]) -> None:
    with pytest.raises(ParseError):
        HASHING.parse(JOB, changed(m0=change))


def test_a_processor_is_no_gpu_and_devices_must_be_those_of_the_job() -> None:
    job = replace(JOB, devices=(GPU,))
    parsed = HASHING.parse(job, RECORDED)
    assert [(a.name, a.got) for a in parsed.answers] == [("devices", "")]
    assert not parsed.answers[0].ok
    whole = json.loads(RECORDED)
    whole["observed"]["devices"][0]["address"] = "0000:01:00.0"
    parsed = HASHING.parse(job, (json.dumps(whole) + "\n").encode())
    wrong = [a.name for a in parsed.answers if not a.ok]
    assert wrong == ["0000:01:00.0: device type", "0000:01:00.0: device engine"]


@pytest.mark.parametrize("mode", MODES)
def test_a_hunt_is_the_same_twice_and_new_for_every_job(mode: str) -> None:
    asked = hash_vectors(mode, "a", planted=2, keyspace=3000, words=50)
    hash_vectors.cache_clear()
    assert hash_vectors(mode, "a", planted=2, keyspace=3000, words=50) == asked
    assert not set(hash_vectors(mode, "b", planted=2, keyspace=3000, words=50).hashes) & set(asked.hashes)
    assert len(asked.hashes) == 3
    assert asked.decoy in asked.hashes
    assert asked.work >= 3000 if asked.mask else asked.work == 150


def test_passwords_of_a_mask_lie_in_it_and_anywhere() -> None:
    asked = hash_vectors("md5", "j", planted=500, keyspace=5 * 32**3 - 7, words=1)
    assert asked.work == 5 * 32**3
    assert (asked.mask[:8], len(asked.mask), asked.charset) == ("?1?1?1?2", 11, "abcde")
    assert {p[3] for p in asked.planted.values()} == set("abcde")
    assert len({p[0] for p in asked.planted.values()}) == 32
    assert all(p.endswith(asked.mask[8:]) for p in asked.planted.values())


@pytest.mark.parametrize(
    "parameters",
    [
        {"engine": "gpu"}, {"engine": "john"}, {"tool": "crystal ball"}, {"modes": "md5,md5"}, {"modes": ""},
        {"modes": "md5,rot13"}, {"keyspace": 1000}, {"planted": 0}, {"candidates": 0},
    ],
)  # fmt: skip
def test_parameters_that_no_hunt_can_have_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        HASHING.prepare(replace(JOB, parameters={"tool": "hashcat", **parameters}))


def test_john_is_not_taken_for_a_gpu() -> None:
    job = replace(JOB, devices=(GPU,), parameters={"tool": "john"})
    with pytest.raises(ConfigError, match="no GPU engine"):
        HASHING.prepare(job)


def test_a_gpu_means_hashcat_and_the_guest_is_told_addresses_and_no_password() -> None:
    argument = HASHING.prepare(replace(JOB, devices=(GPU,), parameters={"modes": "md5"}))[-1]
    told = json.loads(argument)
    assert (told["tool"], told["engine"], told["addresses"]) == ("hashcat", "gpu", ["0000:01:00.0"])
    asked = hash_vectors("md5", "t\nk1", planted=8, keyspace=1 << 25, words=2000)
    assert set(told["modes"][0]["hashes"]) == {*asked.planted, asked.decoy}
    assert not any(password in argument for password in asked.planted.values())


@quick
@given(st.text())
@example('{ "session": "s" }')
@example("{" * 5000)
def test_any_status_line_is_read_or_refused(line: str) -> None:
    with contextlib.suppress(ParseError):
        assert read_status(line).progress >= 0


@quick
@given(st.text(alphabet="0123456789abcdef:$ \n"))
def test_any_find_is_read_or_refused(line: str) -> None:
    with contextlib.suppress(ParseError):
        assert read_find(line)[0] in line


@quick
@given(st.lists(st.text(alphabet="01:.#9\r", max_size=30)).map("\n".join))
def test_any_benchmark_is_read_or_refused(said: str) -> None:
    with contextlib.suppress(ParseError):
        assert read_benchmark(said, 1, 0) >= 0


@quick
@given(st.data())
def test_a_spoilt_report_is_refused_or_wrong_or_the_same(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(RECORDED) - 1))
    cut = data.draw(st.integers(0, 40))
    spoilt = RECORDED[:at] + data.draw(st.binary(max_size=20)) + RECORDED[at + cut :]
    with contextlib.suppress(ParseError):
        HASHING.parse(JOB, spoilt)


def test_a_self_test_is_passed_only_when_its_end_was_said() -> None:
    assert self_test("Starting self-test. Please be patient...") == "not run"
    assert self_test("Starting self-test. Please be patient...Finished self-test") == "passed"
    assert self_test("Finished self-test\n* Device #2: ATTENTION! HIP kernel self-test failed.") == "failed"
