"""Samples that are read many at once come out as if read one by one, whatever lies between them."""

from __future__ import annotations

import json
import random
import re

import pytest

from harness.telemetry.gpu.spool import read_spool
from harness.telemetry.gpu.spool_lines import Spool
from tests.telemetry import spools as s

PREFIXES = (b'{"type":"fast","mono":', b'{"type":"slow","mono":')
STRANGE: tuple[bytes, ...] = (
    b"",
    b"{}",
    b"not json",
    b'{"type":"fast","mono":106.0,"gpu":0,"values":[1,2]}',
    b'{"type":"fast","mono":106.0,"gpu":7,"values":[1,2,3,4,5,6]}',
    b'{"type":"fast","mono":106.0,"gpu":0,"values":[NaN,2,3,4,5,6]}',
    b'{"type":"fast","mono":106.0,"gpu":0,"values":[1,2,3,4,5,6],"more":1}',
    b'{"type":"fast","mono":106.0,"gpu":0,"values":[99999999,2,3,4,5,6]}',
    b'{"type":"fast","mono":"106","gpu":0,"values":[1,2,3,4,5,6]}',
    b'{"type":"fast","mono":106.0,"gpu":0,"gpu":1,"values":[1,2,3,4,5,6]}',
    b'{"type":"fast","mono":1.0,"gpu":0,"values":[1,2,3,4,5,6]}',
    b'{"type":"fast","mono":-1.0,"gpu":0,"values":[1,2,3,4,5,6]}',
    b'{"type":"fast","mono":106.0,"gpu":0,"values":[true,2,3,4,5,6]}',
    b'{"type":"fast","mono":106.0,"gpu":0,"values":[1,2,3,4,5,6]}{"type":"fast","mono":106.0,"gpu":0,"values":[]}',
    b'{"type":"slow","mono":106.0,"gpu":1,"values":[0,0,-3,1]}',
    *(
        b'{"type":"fast","mono":106.0,"gpu":0,"values":[%s,2,3,4,5,6]}' % value
        for value in (
            *(b"01", b"-1", b"-01", b"1.", b".5", b"1.5.5", b"1-2", b"--1", b"-", b"", b"nul", b"~", b"null"),
            *(b"1e2", b"1E2", b"+1", b" 1", b"0.05", b"10.0", b"-0", b"Infinity", b'"1"', b"[1]", b"0x1"),
        )
    ),
    b'{"type":"fast","mono":106.0,"gpu":00,"values":[1,2,3,4,5,6]}',
    b'{"type":"fast","mono":0106.0,"gpu":0,"values":[1,2,3,4,5,6]}',
    b'{"type":"fast","mono":106.,"gpu":0,"values":[1,2,3,4,5,6]}',
    b'{"type":"fast","mono":null,"gpu":0,"values":[1,2,3,4,5,6]}',
    b'{"type":"fast","mono":106.0,"gpu":99999999999999999999,"values":[1,2,3,4,5,6]}',
    b'{"type":"fast","mono":106.0,"gpu":0,"values":[]}',
    b'{"type":"faster"}',
    b'{"type":"lost","mono":106.0,"gpu":1,"call":"x","error":"GpuIsLost"}',
)


def compact(lines: list[bytes]) -> list[bytes]:
    """As the sampler writes them; ``spools`` leaves spaces, by which no line begins as a sample does."""
    return [json.dumps(json.loads(line), separators=(",", ":")).encode() + b"\n" for line in lines]


def seen(spool: Spool) -> object:
    gpus = [
        (gpu.index, gpu.fast.times, str(gpu.fast.columns), gpu.slow.times, str(gpu.slow.columns), gpu.lost)
        for gpu in spool.gpus
    ]
    return (
        gpus,
        spool.last,
        sorted(re.sub(r"column \d+ \(char \d+\)", "", p) for p in spool.problems),
        spool.ended,
    )


def one_by_one(lines: list[bytes]) -> list[bytes]:
    """The same lines, none of which is read with others."""
    return [b" " + line if line.startswith(PREFIXES) else line for line in lines]


@pytest.mark.parametrize("seed", range(120))
def test_both_ways_of_reading_give_the_same(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a seed
    lines = compact(s.whole(gpus=(0, 1)))
    for _ in range(chance.randrange(4)):
        lines.insert(chance.randrange(3, len(lines)), chance.choice(STRANGE) + b"\n")
    if chance.random() < 0.3:
        lines[-1] = lines[-1][:-5]
    together, apart = read_spool(b"".join(lines)), read_spool(b"".join(one_by_one(lines)))
    assert seen(together) == seen(apart)


def test_samples_before_their_gpu_was_introduced_are_nobody_s() -> None:
    lines = compact([s.start(), s.nvml(), s.fast(100.0), s.gpu(), s.fast(101.0), s.fast(102.0)])
    (gpu,) = read_spool(b"".join(lines)).gpus
    assert gpu.fast.times == [101.0, 102.0]


def test_many_samples_do_not_stay_in_memory_and_come_back_whole() -> None:
    lines = [s.start(), s.gpu(), *(s.fast(100.0 + n / 10) for n in range(120_000))]
    (gpu,) = read_spool(b"".join(compact(lines))).gpus
    read = gpu.fast.read()
    assert gpu.fast.count == len(read.times) == 120_000
    assert gpu.fast.last == read.times[-1] == pytest.approx(100.0 + 11_999.9)
    assert read.columns["power"][-1] == pytest.approx(500.0 + 100.0 + 11_999.9)


def _settings(at: float, limit: float) -> bytes:
    return s.line("settings", mono=at, gpu=0, values=[limit])


def test_settings_that_say_the_same_again_are_counted_and_others_read() -> None:
    said = [_settings(101.0 + n, limit) for n, limit in enumerate((700.0, 700.0, 500.0, 700.0, 700.0))]
    (gpu,) = read_spool(b"".join(compact([s.start(), s.gpu(settings=["power_limit"]), *said]))).gpus
    assert gpu.settings_asked == 5
    assert [(c.at, c.after) for c in gpu.changes] == [(103.0, 500.0), (104.0, 700.0)]


@pytest.mark.parametrize("strange", [b"00", b"0x1", b"", b"-1", b"1"])
def test_settings_of_no_gpu_are_told(strange: bytes) -> None:
    lines = compact([s.start(), s.gpu(settings=["power_limit"]), _settings(101.0, 700.0)])
    broken = lines[-1].replace(b'"gpu":0,', b'"gpu":' + strange + b",").replace(b"101.0", b"102.0")
    spool = read_spool(b"".join([*lines, broken]))
    assert spool.gpus[0].settings_asked == 1
    assert len(spool.problems) == 1


def test_gpus_with_different_sensors_are_read_together() -> None:
    lines = [s.start(), s.gpu(0), s.gpu(1, fast=["power", "energy"])]
    for n in range(50):
        lines += [
            s.fast(100.0 + n),
            s.line("fast", mono=100.0 + n, gpu=1, values=[1.0, None if n == 7 else n]),
        ]
    spool = read_spool(b"".join(compact(lines)))
    assert [gpu.fast.count for gpu in spool.gpus] == [50, 50]
    assert spool.gpus[1].fast.columns["energy"][48] == 48.0
    assert spool.problems == ()
