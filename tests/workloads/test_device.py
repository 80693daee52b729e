"""The device workload: every handed-over device is answered for, and residue is told from emptiness."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from harness.errors import ConfigError, ParseError, WorkloadError
from harness.model.pci import PciAddress
from harness.vendors.edu.payload.device import BLOCK, keystream
from harness.vendors.nvidia.payload.residue import PROOF_WORDS
from harness.workloads.base import GuestDevice, Job
from harness.workloads.device import answers as device_module
from harness.workloads.device.answers import JUDGES, planted, residue_trials
from harness.workloads.device.payload import job as device_job
from harness.workloads.registry import workload

DEVICE = workload("device")
HOST = PciAddress.parse("0000:41:00.0")
Line = Callable[..., bytes]


def edu(told: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What a healthy edu shows for what the payload was told."""
    return {
        "identification": 0x010000ED,
        "liveness": told["liveness"] ^ 0xFFFFFFFF,
        "residue": {"state": "empty", "bytes": 0},
        "factorials": {str(n): math.factorial(n) % 2**32 for n in told["factorials"]},
        "dma_checksums": [zlib.crc32(keystream(told["seed"] + n, BLOCK)) for n in range(told["dma_rounds"])],
        "dma_seconds": 0.5,
        "interrupts": told["interrupts"],
        "planted": True,
        **changes,
    }


def output(job: Job, line: Line, entry: dict[str, Any] | None = None, **changes: Any) -> bytes:
    told = json.loads(DEVICE.prepare(job)[-1])
    devices = [
        {**d, "exerciser": "device_edu", "error": None, "observed": edu(told, **changes), **(entry or {})}
        for d in told["devices"]
    ]
    return line("device", {"devices": devices, "seconds": 1.5}, engine="edu")


def test_a_healthy_stand_in_passes_every_answer(job: Job, line: Line) -> None:
    parsed = DEVICE.parse(job, output(job, line))
    assert len(parsed.answers) == 2 + 4 + 2 + 1
    assert all(a.ok for a in parsed.answers), parsed.answers
    assert all(a.name.startswith("0000:01:00.0 ") for a in parsed.answers)
    rate = next(m for m in parsed.measurements if m.name == "device.dma_rate")
    assert (rate.value, rate.subject) == (2 * 4088 * 2 / 0.5, "0000:01:00.0")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"identification": 0xFFFFFFFF}, "identification"),
        ({"liveness": 0}, "liveness"),
        ({"factorials": {"5": 120, "12": 479001600, "20": None, "10": 3628800}}, "20!"),
        ({"factorials": {"5": 121, "12": 479001600, "20": 2192834560, "10": 3628800}}, "5!"),
        ({"dma_checksums": [1, 2]}, "DMA out and back"),
        ({"dma_checksums": [None, None]}, "DMA out and back"),
        ({"dma_checksums": []}, "DMA out and back"),
        ({"interrupts": 7}, "interrupts"),
        ({"planted": False}, "final write"),
    ],
)
def test_a_device_that_errs_is_named(changes: dict[str, Any], name: str, job: Job, line: Line) -> None:
    parsed = DEVICE.parse(job, output(job, line, **changes))
    assert [a.name for a in parsed.answers if not a.ok] == [f"0000:01:00.0 {name}"]


@pytest.mark.parametrize(
    "entry",
    [
        {"error": "uio_pci_generic did not take the device"},
        {"exerciser": None, "error": "no exerciser for 1234:11e8"},
        {"exerciser": "device_nvidia"},
        {"observed": None},
        {"address": "0000:02:00.0"},
        {"device": "11e9"},
    ],
)
def test_a_device_that_was_not_looked_at_is_no_answer(entry: dict[str, Any], job: Job, line: Line) -> None:
    with pytest.raises(ParseError):
        DEVICE.parse(job, output(job, line, entry))


def test_each_of_several_devices_must_be_there(job: Job, line: Line) -> None:
    second = replace(job.devices[0], address=PciAddress.parse("0000:02:00.0"))
    both = replace(job, devices=(*job.devices, second))
    assert len(DEVICE.parse(both, output(both, line)).answers) == 18
    with pytest.raises(ParseError, match="2 devices were expected"):
        DEVICE.parse(both, output(job, line))


def test_companions_are_not_exercised_and_strangers_are_refused(job: Job, line: Line) -> None:
    audio = replace(job.devices[0], vendor="8086", device="2668", companion=True)
    assert len(json.loads(DEVICE.prepare(replace(job, devices=(*job.devices, audio)))[-1])["devices"]) == 1
    with pytest.raises(WorkloadError):
        DEVICE.prepare(replace(job, devices=(audio,)))
    stranger = replace(job, devices=(replace(audio, companion=False),))
    with pytest.raises(ParseError):
        DEVICE.parse(stranger, output(stranger, line))


def test_the_guest_knows_the_same_kinds_of_device() -> None:
    assert [(v, d, m) for v, d, m, _ in JUDGES] == [(v, d, m) for v, d, m, _ in device_job.EXERCISERS]
    assert device_module.BLOCK == BLOCK


@pytest.mark.parametrize(
    "parameters", [{"factorials": 0}, {"factorials": 9}, {"dma_rounds": 0}, {"interrupts": 0}]
)
def test_a_run_that_would_ask_nothing_is_refused(parameters: dict[str, int], job: Job) -> None:
    with pytest.raises(ConfigError):
        DEVICE.prepare(replace(job, parameters=parameters))


@pytest.mark.parametrize(
    ("residue", "found", "words"),
    [
        ({"state": "empty", "bytes": 0}, False, "were zero"),
        ({"state": "unknown", "bytes": 9}, True, "belong to no known tenant"),
        (
            {"state": "tenant", "bytes": 4000, "tenant": "run0-g2", "own": False, "matching": 4088},
            True,
            "'run0-g2'",
        ),
        ({"state": "tenant", "bytes": 4000, "tenant": "run1-g1", "own": True, "matching": 4088}, None, "own"),
    ],
)
def test_residue_is_told_by_host_address(
    residue: dict[str, Any], found: bool | None, words: str, job: Job, line: Line
) -> None:
    raw = output(job, line, residue=residue)
    (trial,) = residue_trials(job, raw, {HOST}, fresh=True)
    assert (trial.device, trial.planted, trial.found) == (HOST, True, found)
    assert words in trial.detail
    assert residue_trials(job, raw, set(), fresh=False)[0].planted is False
    assert planted(job, raw) == {HOST}
    assert all(a.ok for a in DEVICE.parse(job, raw).answers)  # residue is judged by its own check


@pytest.mark.parametrize(
    "residue",
    [
        {"state": "empty", "bytes": 5},
        {"state": "clean", "bytes": 0},
        {"state": "unknown", "bytes": 0},
        "empty",
        {},
    ],
)
def test_residue_that_contradicts_itself_is_not_read(residue: Any, job: Job, line: Line) -> None:
    with pytest.raises(ParseError):
        residue_trials(job, output(job, line, residue=residue), set(), fresh=True)


def test_without_residue_there_is_no_trial(job: Job, line: Line) -> None:
    quiet = replace(job, parameters={"residue": False})
    told = json.loads(DEVICE.prepare(quiet)[-1])
    assert (told["residue_scan"], told["residue_plant"]) == (False, False)
    seen = edu(told)
    del seen["residue"], seen["planted"]
    raw = output(quiet, line, {"observed": seen})
    assert residue_trials(quiet, raw, set(), fresh=True) == ()
    assert planted(quiet, raw) == frozenset()
    assert len(DEVICE.parse(quiet, raw).answers) == 8


def nvidia(line: Line, job: Job, **changes: Any) -> bytes:
    seen = {"uuid": "GPU-1", "serial": None, "name": "H", "memory_bytes": 80 << 30, "driver": "1"}
    seen |= {"bus_id": "00000000:01:00.0", **changes}
    entry = {"address": "0000:01:00.0", "vendor": "10de", "device": "2330", "exerciser": "device_nvidia"}
    devices = [{**entry, "error": None, "observed": seen}]
    return line("device", {"devices": devices, "seconds": 0.1}, engine="nvidia")


@pytest.mark.parametrize(
    ("seen", "fresh", "found"),
    [
        ({}, True, False),
        ({}, False, None),
        ({"matching": 1}, False, True),
        ({"proof": PROOF_WORDS - 1}, True, None),
        ({"bytes": 70 << 30}, True, None),
        ({"bytes": 0, "proof": 0}, True, None),
        ({"total": 0, "bytes": 0}, True, None),
    ],
)
def test_a_gpu_is_clean_only_where_nearly_all_of_it_was_looked_at_before_anything_else_ran(
    seen: dict[str, int], fresh: bool, found: bool | None, job: Job, line: Line
) -> None:
    gpu = GuestDevice(address=job.devices[0].address, vendor="10de", device="2330", host=HOST)
    one = replace(job, devices=(gpu,))
    observed = {"total": 80 << 30, "bytes": 79 << 30, "matching": 0, "proof": PROOF_WORDS, **seen}
    raw = nvidia(line, one, memory={"kind": "done", "observed": observed})
    (trial,) = residue_trials(one, raw, {HOST}, fresh=fresh)
    assert (trial.device, trial.planted, trial.found) == (HOST, True, found)
    assert trial.detail


def test_an_nvidia_gpu_is_known_by_its_identity(job: Job, line: Line) -> None:
    gpu = GuestDevice(address=job.devices[0].address, vendor="10de", device="2330", host=HOST)
    one = replace(job, devices=(gpu,))
    assert [a.ok for a in DEVICE.parse(one, nvidia(line, one)).answers] == [True] * 3
    for changes in ({"bus_id": "00000000:02:00.0"}, {"uuid": ""}, {"memory_bytes": 0}):
        assert [a.ok for a in DEVICE.parse(one, nvidia(line, one, **changes)).answers].count(False) == 1
    with pytest.raises(ParseError):
        DEVICE.parse(one, nvidia(line, one, bus_id="\x1b[31m"))
    assert residue_trials(one, nvidia(line, one), set(), fresh=True) == ()
