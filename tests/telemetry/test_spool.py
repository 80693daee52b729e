"""The sampler's spool is read strictly and loses nothing: what cannot be read is told, all else stands."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ParseError
from harness.telemetry.gpu.spool import read_spool
from tests.telemetry import spools as s


def told(*lines: bytes) -> tuple[str, ...]:
    return read_spool(b"".join((s.start(), s.gpu(), *lines))).problems


def test_a_whole_spool_is_read_without_a_problem() -> None:
    lines = s.whole()
    lines[3:3] = [
        s.line("kmsg", mono=99.0, seq=1, t=12.5, level=3, facility=0, text="NVRM: x"),
        s.line("kmsg", mono=99.0, seq=None, t=None, level=None, facility=None, text="no record"),
        s.line("kmsg_dropped", mono=99.0, lines=7),
        s.line("usage", mono=105.0, wall=1.0, cpu_seconds=0.5),
        s.line("of_a_later_sampler", mono=105.0),
    ]
    spool = read_spool(b"".join(lines))
    assert spool.problems == ()
    (gpu,) = spool.gpus
    assert (gpu.uuid, str(gpu.address), gpu.memory_bytes) == ("GPU-0000", "0000:05:00.0", 150754820096)
    assert gpu.properties == {"power_limit": 700.0, "ecc_current": True, "temperature_gpu_max": None}
    assert len(gpu.fast.times) == 201
    assert len(gpu.slow.times) == 21
    assert list(gpu.fast.columns["power"])[:2] == [600.0, 600.1]
    assert (spool.kernel_from, spool.kernel_dropped) == (99.0, 7)
    assert [(line.at, line.text) for line in spool.kernel] == [(12.5, "NVRM: x"), (None, "no record")]
    assert (spool.ended, spool.end_reason, spool.cpu_seconds, spool.last) == (120.1, "SIGTERM", 1.25, 120.1)


@pytest.mark.parametrize("raw", [b"", b"\n\n", b"login: \n", s.fast(1.0), b"{}\n", s.start()[:-9]])
def test_without_a_start_line_it_is_no_spool(raw: bytes) -> None:
    with pytest.raises(ParseError, match="no readable line of a sampler's start"):
        read_spool(raw)


def test_a_torn_last_line_is_told_and_the_rest_stands() -> None:
    lines = s.whole()[:-1]
    spool = read_spool(b"".join(lines)[:-7])
    assert spool.problems == (f"line {len(lines)}: the last line is torn",)
    assert len(spool.gpus[0].fast.times) == 200
    assert spool.ended is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"NVRM: foreign text\n", "not strict JSON"),
        (b'{"type":"fast","mono":NaN}\n', "NaN is not strict JSON"),
        (b'{"type":"fast","type":"slow"}\n', "a key appears twice"),
        (b"\xff\xfe\n", "not strict JSON"),
        (b"[" * 200_000 + b"\n", "not strict JSON"),
        (b"[1]\n", "a list instead of an object"),
        (b'{"mono":1}\n', "it has no type"),
        (b"\n", "an empty line"),
        (s.fast(100.0, 3), "GPU 3 was never introduced"),
        (s.gpu(0), "introduced twice"),
        (s.start(), "two samplers wrote into one file"),
        (s.line("fast", mono=100.0, gpu=0, values=[1.0]), "1 values for 6 names"),
        (s.line("fast", mono="x", gpu=0, values=[]), "mono is 'x'"),
        (s.line("fast", mono=1e30, gpu=0, values=[0] * 6), "mono is '1e+30'"),
        (s.line("lost", mono=100.0, gpu=10**9, call="x", error="y"), "gpu is '1000000000'"),
        (s.line("lost", gpu=0, call="x", error="y"), "mono is missing"),
        (s.line("gpu", mono=1.0, gpu=1, fast=["a", 5], slow=[], not_offered=[]), "fast.1 is '5'"),
        (s.line("gpu", mono=1.0, gpu=1, fast=["a", "a"], slow=[], not_offered=[]), "fast is"),
    ],
)
def test_a_line_that_cannot_be_read_is_told_and_left_out(line: bytes, words: str) -> None:
    (problem,) = told(line, s.fast(101.0))
    assert words in problem
    assert problem.startswith("line 3: ")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"power": 4294967.295}, "power: 4294967.295 W cannot be"),
        ({"temperature": 4294967295}, "temperature: 4294967295 degC cannot be"),
        ({"clock_sm": -1}, "clock_sm: -1 MHz cannot be"),
        ({"power": True}, "power: True W cannot be"),
        ({"energy": "many"}, "energy: many J cannot be"),
        ({"pcie_gen": 10**400}, "cannot be"),
    ],
)
def test_a_number_that_cannot_be_is_no_reading(values: dict[str, object], words: str) -> None:
    spool = read_spool(s.start() + s.gpu() + s.fast(100.0, **values) + s.fast(100.1))
    assert words in spool.problems[0]
    (name,) = values
    column = spool.gpus[0].fast.columns[name]
    assert math.isnan(column[0])
    assert not math.isnan(column[1])


def test_a_clock_that_goes_back_loses_those_samples_and_no_others() -> None:
    spool = read_spool(b"".join((s.start(), s.gpu(), *map(s.fast, (100.0, 101.0, 100.5, 101.5)))))
    assert list(spool.gpus[0].fast.times) == [100.0, 101.0, 101.5]
    assert spool.problems == ("line 5: GPU 0: the clock went back",)


def test_many_problems_of_one_kind_are_one_with_its_number() -> None:
    problems = told(*[b"foreign\n"] * 400)
    assert len(problems) == 1
    assert problems[0].endswith("(and 399 more like it)")
    assert len(told(*[s.line("fast", mono=f"x{n}", gpu=0) for n in range(5000)])) == 21


def test_what_is_wrong_with_an_introduction_costs_only_that_field() -> None:
    properties = {"power_limit": [], "ecc_current": False}
    spool = read_spool(s.start() + s.gpu(address="nowhere", properties=properties) + s.fast(100.0))
    assert spool.gpus[0].address is None
    assert spool.gpus[0].properties == {"ecc_current": False}
    assert len(spool.gpus[0].fast.times) == 1
    assert len(spool.problems) == 1


def test_hung_and_returned_calls_belong_together() -> None:
    lines = (
        s.line("hung", mono=105.0, gpu=0, call="nvmlDeviceGetPowerUsage", seconds=2.0, pid=9),
        s.line("hung", mono=106.0, gpu=None, call="nvmlInit_v2", seconds=30.0, pid=9),
        s.line("returned", mono=109.0, gpu=0, call="nvmlDeviceGetPowerUsage", seconds=6.0),
    )
    spool = read_spool(s.start() + s.gpu() + b"".join(lines))
    assert [(c.call, c.gpu, c.at, c.returned) for c in spool.hung] == [
        ("nvmlDeviceGetPowerUsage", 0, 105.0, 109.0),
        ("nvmlInit_v2", None, 106.0, None),
    ]


def test_a_gpu_that_failed_before_it_could_be_introduced_is_still_one() -> None:
    spool = read_spool(s.start() + s.line("lost", mono=100.0, gpu=2, call="start", error="GpuIsLost"))
    assert [(g.index, g.lost) for g in spool.gpus] == [(2, [(100.0, "GpuIsLost from start")])]
    assert spool.problems == ()


WHOLE = b"".join(s.whole(100.0, 101.0))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KINDS = ("start", "nvml", "gpu", "fast", "slow", "processes", "error", "lost", "hung", "returned", "died")
NAMES = (
    "mono",
    "gpu",
    "values",
    "list",
    "fast",
    "slow",
    "properties",
    "call",
    "seconds",
    "text",
    "t",
    "lines",
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from((*KINDS, "kmsg", "kmsg_start", "kmsg_dropped", "usage", "end")),
            st.dictionaries(st.sampled_from(NAMES), json_values),
        ),
        max_size=8,
    )
)
def test_no_line_of_a_known_type_raises(lines: list[tuple[str, dict[str, object]]]) -> None:
    read_spool(WHOLE + b"".join(s.line(kind, **values) for kind, values in lines))


@given(st.binary(max_size=200), st.integers(0, len(WHOLE)))
def test_any_bytes_anywhere_give_a_spool_or_a_parse_error(piece: bytes, place: int) -> None:
    try:
        spool = read_spool(WHOLE[:place] + piece + WHOLE[place:])
    except ParseError:
        return
    assert all(len(c) == len(g.fast.times) for g in spool.gpus for c in g.fast.columns.values())


@given(st.integers(0, len(WHOLE)))
def test_a_spool_cut_anywhere_loses_at_most_the_line_that_was_cut(place: int) -> None:
    kept = WHOLE[:place]
    try:
        spool = read_spool(kept)
    except ParseError:
        assert place < len(s.start())
        return
    assert sum(len(g.fast.times) for g in spool.gpus) == kept.count(b'"type": "fast"') - (
        kept.rpartition(b"\n")[2].count(b'"type": "fast"')
    )
