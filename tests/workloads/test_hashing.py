"""Hashing: hashes made here are the ones crypt makes, and only the right password passes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from harness.errors import ConfigError, ParseError
from harness.workloads.base import Job
from harness.workloads.hashing.answers import secret
from harness.workloads.hashing.vectors import md5crypt, word
from harness.workloads.registry import workload

HASHING = workload("hashing")
Line = Callable[..., bytes]


@pytest.mark.parametrize(
    ("password", "salt", "digest"),
    [
        # hashcat's example hash for mode 500, and three made with `openssl passwd -1`
        ("hashcat", "28772684", "$1$28772684$iEwNOgGugqO9.bIz5sk8k/"),
        ("password", "xxxxxxxx", "$1$xxxxxxxx$UYCIxa628.9qXjpQCjM4a."),
        ("", "abcdefgh", "$1$abcdefgh$M55TzYaaccxVGbptZWaxX/"),
        ("a longer password than sixteen bytes", "ab", "$1$ab$QPh5htJmMtcM8zDb4F4FT1"),
    ],
)
def test_hashes_are_those_of_crypt(password: str, salt: str, digest: str) -> None:
    assert md5crypt(password, salt) == digest


def test_the_password_lies_late_in_the_list_and_differs_from_job_to_job() -> None:
    secrets = [secret(f"k{n}", "run-g1", 2000) for n in range(50)]
    assert len({s.password for s in secrets}) == 50
    assert all(1600 <= s.index < 2000 and word(s.seed, s.index) == s.password for s in secrets)
    assert secret("k", "t", 1).index == 0


def test_the_guest_is_told_the_hash_and_not_the_password(job: Job) -> None:
    argument = HASHING.prepare(job)[-1]
    asked = secret(job.key, job.tenant, 2000)
    told = json.loads(argument)
    assert told["digest"] == asked.digest
    assert asked.password not in argument
    assert str(asked.index) not in {str(v) for v in told.values()}


@pytest.mark.parametrize("found", [None, "", "wrong", "found me"])
def test_a_hash_that_stays_uncracked_is_a_wrong_answer(found: str | None, job: Job, line: Line) -> None:
    seen = {"found": found, "reported_rate": None, "seconds": 2.0, "candidates": 2000}
    parsed = HASHING.parse(job, line("hashing", seen, engine="john"))
    (answer,) = (a for a in parsed.answers if not a.ok)
    assert (answer.name, answer.expected) == ("password", secret(job.key, job.tenant, 2000).password)
    assert answer.got == ("no answer" if found is None else found)
    assert {m.name: m.value for m in parsed.measurements}["hashing.candidate_rate"] == 1000.0


def test_another_engine_than_the_one_asked_for_does_not_pass(job: Job, line: Line) -> None:
    asked = secret(job.key, job.tenant, 2000)
    seen = {"found": asked.password, "reported_rate": None, "seconds": 2.0, "candidates": 2000}
    parsed = HASHING.parse(job, line("hashing", seen, engine="hashcat"))
    assert [a.name for a in parsed.answers if not a.ok] == ["engine"]


@pytest.mark.parametrize(
    "changes",
    [{"seconds": -1}, {"found": 7}, {"reported_rate": "17K"}, {"candidates": 2000.0}, {"seconds": 1e19}],
)
def test_values_that_cannot_be_are_not_read(changes: dict[str, Any], job: Job, line: Line) -> None:
    seen = {"found": None, "reported_rate": None, "seconds": 2.0, "candidates": 2000, **changes}
    with pytest.raises(ParseError):
        HASHING.parse(job, line("hashing", seen, engine="john"))


@pytest.mark.parametrize(
    "parameters", [{"engine": "crystal ball"}, {"engine": "gpu"}, {"tool": "abacus"}, {"candidates": 0}]
)
def test_parameters_out_of_range_are_refused(parameters: dict[str, Any], job: Job) -> None:
    with pytest.raises(ConfigError):
        HASHING.prepare(replace(job, parameters=parameters))
