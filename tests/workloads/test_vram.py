"""The memory test's judgement: nothing that was not compared passes, and every wrong word is shown."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import ConfigError, ParseError
from harness.model.pci import PciAddress
from harness.payload import memory_patterns
from harness.workloads.base import GuestDevice, Job
from harness.workloads.base import settings as parameters_of
from harness.workloads.registry import workload
from harness.workloads.vram import answers as module
from tests.workloads.mutations import VALUES, changed

VRAM = workload("vram")
WHERE = "0000:01:00.0"
GPU = GuestDevice(
    address=PciAddress.parse(WHERE), vendor="10de", device="2335", host=PciAddress.parse("0000:41:00.0")
)
JOB = Job(key="k1", guest="g1", tenant="run1-g1", devices=(GPU,), parameters={"walks": 2, "planted": 4})
WORDS = 1 << 17
Line = Callable[..., bytes]


def observed(job: Job = JOB, modulus: int = 1 << 64) -> dict[str, Any]:
    """What a healthy GPU of a little over 1 MiB gives."""
    asked = module.asked(job, parameters_of(VRAM.spec, job))
    passes = []
    for one in asked.passes:
        total = memory_patterns.total(one.kind, WORDS, one.argument)
        passes.append(
            {
                "pattern": one.pattern, "words": WORDS, "mismatches": 0, "bits": 0, "faults": [],
                "sum": 12345 if total is None else total % modulus, "verify_seconds": 0.5,
                "fill_seconds": 0.25 if one.fill else None,
            }
        )  # fmt: skip
    planted = []
    for index, bit in asked.planted:
        word = memory_patterns.value(memory_patterns.RANDOM, index, asked.proof_seed)
        planted.append([index, word, word ^ 1 << bit])
    last = asked.passes[-1]
    samples = [[r % WORDS, memory_patterns.value(last.kind, r % WORDS, last.argument)] for r in asked.samples]
    return {
        "name": "card", "total": 8 * WORDS + 4096, "free": 8 * WORDS + 2048, "words": WORDS, "passes": passes,
        "proof": {"words": module.PROOF_WORDS, "mismatches": 4, "faults": planted}, "samples": samples,
        "copy_rate": 4.0e12, "read_rate": 4.4e12,
    }  # fmt: skip


def entry(seen: Any, **changes: Any) -> dict[str, Any]:
    return {
        "entries": [{"name": WHERE, "kind": "done", "at": "end", "error": None, "observed": seen, **changes}]
    }


def wrong(line: Line, seen: Any, **changes: Any) -> list[str]:
    parsed = VRAM.parse(JOB, line("vram", entry(seen, **changes), engine="cuda"))
    return [a.name.removeprefix(f"{WHERE} ") for a in parsed.answers if not a.ok]


def test_sound_memory_passes(line: Line) -> None:
    parsed = VRAM.parse(JOB, line("vram", entry(observed()), engine="cuda"))
    assert [a.name for a in parsed.answers if not a.ok] == []
    values = {m.name: m.value for m in parsed.measurements}
    assert values["vram.bandwidth"] == 4000.0
    assert values["vram.compared.random"] == 2 * 8 * WORDS
    assert values["vram.fill_rate"] == pytest.approx(8 * WORDS / 0.25 / 1e9)
    assert {m.subject for m in parsed.measurements} == {WHERE}


@pytest.mark.parametrize(
    ("path", "value", "name"),
    [
        (("passes", 0, "mismatches"), 1, "walking_ones"),
        (("passes", 1, "bits"), 8, "walking_zeros"),
        (("passes", 0, "words"), WORDS - 1, "passes"),
        (("passes", 0, "words"), (1 << 64) - 1, "passes"),
        (("passes", 0, "pattern"), "random", "passes"),
        (("passes", 4, "sum"), 1, "sums of all words read"),
        (("passes",), [], "passes"),
        (("proof",), None, "planted faults found"),
        (("proof", "faults"), [], "planted faults found"),
        (("proof", "mismatches"), 5, "planted faults found"),
        (("samples",), [], "words brought back"),
        (("samples", 3, 1), 0, "words brought back"),
    ],
)
def test_each_thing_that_is_not_as_it_must_be_is_a_wrong_answer(
    path: tuple[Any, ...], value: Any, name: str, line: Line
) -> None:
    seen = observed()
    inner: Any = seen
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    assert name in wrong(line, seen)


@pytest.mark.parametrize(("path", "value"), [("total", 16 * WORDS), ("words", 0)])
def test_memory_that_could_not_be_had_is_missing_and_no_fault(path: str, value: int, line: Line) -> None:
    seen = {**observed(), path: value}
    with pytest.raises(ParseError, match="could be had to test, and "):
        VRAM.parse(JOB, line("vram", entry(seen), engine="cuda"))
    seen["passes"][0]["mismatches"] = 1
    if value:
        assert wrong(line, seen) == ["walking_ones"]


def test_no_card_has_more_memory_than_it_has(line: Line) -> None:
    seen = observed()
    seen["total"] = 8 * WORDS - 8
    with pytest.raises(ParseError, match="tested of"):
        VRAM.parse(JOB, line("vram", entry(seen), engine="cuda"))


def test_only_patterns_that_were_asked_for_have_a_measurement(line: Line) -> None:
    seen = observed()
    seen["passes"][0]["pattern"] = "of my own\n"
    parsed = VRAM.parse(JOB, line("vram", entry(seen), engine="cuda"))
    assert [a.ok for a in parsed.answers if a.name.endswith("passes")] == [False]
    assert not [m.name for m in parsed.measurements if "my own" in m.name]


def test_a_missing_pass_is_missed(line: Line) -> None:
    for gone in range(len(observed()["passes"])):
        seen = observed()
        del seen["passes"][gone]
        assert "passes" in wrong(line, seen)


@pytest.mark.parametrize("kind", ["failed", "hung", "died", "broken"])
def test_a_card_that_did_not_finish_is_a_wrong_answer(kind: str, line: Line) -> None:
    assert wrong(line, None, kind=kind, error="no more") == ["to the end"]


def test_a_card_of_which_nothing_is_known_leaves_the_result_open(line: Line) -> None:
    with pytest.raises(ParseError, match=r"unable \(end\): no driver"):
        wrong(line, None, kind="unable", error="no driver")


def test_a_card_that_is_wrong_stands_beside_one_of_which_nothing_is_known(line: Line) -> None:
    other = PciAddress.parse("0000:02:00.0")
    job = replace(JOB, devices=(GPU, replace(GPU, address=other)))
    found = entry(None, kind="unable", error="no driver")["entries"]
    found += entry(None, name=str(other), kind="hung", error="nothing was heard")["entries"]
    parsed = VRAM.parse(job, line("vram", {"entries": found}, engine="cuda"))
    assert [a.name for a in parsed.answers if not a.ok] == [f"{other} to the end"]


def test_the_other_engine_is_a_wrong_answer(line: Line) -> None:
    parsed = VRAM.parse(JOB, line("vram", entry(observed()), engine="cpu"))
    assert [a.name for a in parsed.answers if not a.ok] == ["engine"]


def test_main_memory_is_judged_by_its_own_sums(line: Line) -> None:
    job = replace(JOB, devices=())
    seen = observed(job, (1 << 64) - 1)
    seen["total"] = 8 * WORDS
    parsed = VRAM.parse(job, line("vram", {"entries": [{**entry(seen)["entries"][0], "name": "RAM"}]}))
    assert [a.name for a in parsed.answers if not a.ok] == []
    assert {m.name.partition(".")[0] for m in parsed.measurements} == {"ram"}


@pytest.mark.parametrize(
    "found", [{"entries": []}, {"entries": None}, entry(observed(), name="0000:02:00.0"),
              {"entries": [*entry(observed())["entries"]] * 2}, entry(observed(), kind="fine"), entry([])]
)  # fmt: skip
def test_entries_that_cannot_be_are_not_read(found: Any, line: Line) -> None:
    with pytest.raises(ParseError):
        VRAM.parse(JOB, line("vram", found, engine="cuda"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=st.one_of(changed(entry(observed())), VALUES))
def test_any_observation_is_read_or_refused(found: Any, line: Line) -> None:
    try:
        parsed = VRAM.parse(JOB, line("vram", found, engine="cuda"))
    except ParseError:
        return
    assert parsed.answers
    json.dumps([(a.name, a.got) for a in parsed.answers])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 100_000))
def test_a_truncated_line_is_refused(cut: int, line: Line) -> None:
    raw = line("vram", entry(observed()), engine="cuda")
    with pytest.raises(ParseError):
        VRAM.parse(JOB, raw[: cut % len(raw)])


@pytest.mark.parametrize(
    "parameters",
    [{"share": 1.0}, {"share": 0.0}, {"walks": 0}, {"walks": 65}, {"randoms": 0}, {"planted": 0}, {"mib": 0},
     {"engine": "tpu"}, {"stall_seconds": 0.0}],
)  # fmt: skip
def test_parameters_that_would_test_nothing_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        VRAM.prepare(replace(JOB, parameters=parameters))


def test_a_profile_that_demands_the_card_gets_no_processor() -> None:
    with pytest.raises(ConfigError, match="no GPU"):
        VRAM.prepare(replace(JOB, devices=(), parameters={"engine": "gpu"}))


def test_the_payload_is_told_all_that_is_judged() -> None:
    told = json.loads(VRAM.prepare(JOB)[-1])
    assert told["engine"] == "gpu"
    assert told["gpus"] == [WHERE]
    assert len(told["passes"]) == 2 * 2 + 4 * 3 + 3 + 2
    assert len({tuple(place) for place in told["planted"]}) == 4
    assert told == json.loads(VRAM.prepare(copy.deepcopy(JOB))[-1])
    other = json.loads(VRAM.prepare(replace(JOB, key="k2"))[-1])
    assert other["passes"][-1] != told["passes"][-1]
    assert other["planted"] != told["planted"]


def test_closed_forms_of_sums_are_the_sums() -> None:
    chance = random.Random(3)  # noqa: S311
    cases = [(k, a) for k in range(3) for a in (0, 1, 37, 63)]
    cases += [(memory_patterns.ADDRESS, 0), (memory_patterns.ADDRESS, memory_patterns.WORD)]
    for kind, argument in cases:
        words = chance.randrange(1, 700)
        expected = sum(memory_patterns.value(kind, index, argument) for index in range(words))
        assert memory_patterns.total(kind, words, argument) == expected
    assert memory_patterns.total(memory_patterns.RANDOM, 8, 1) is None


def test_random_words_have_as_many_ones_as_zeros_in_every_place() -> None:
    words = [memory_patterns.value(memory_patterns.RANDOM, 1_000_000 + n, 99) for n in range(20_000)]
    for bit in range(64):
        assert 0.48 < sum(word >> bit & 1 for word in words) / len(words) < 0.52
    assert len(set(words)) == len(words)
