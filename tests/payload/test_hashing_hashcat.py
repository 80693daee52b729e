"""hashcat as the payload starts it: a stand-in that speaks like it, with every defect, and the real one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ParseError
from harness.model.evidence import Answer
from harness.model.pci import PciAddress
from harness.workloads.base import GuestDevice, Job, Place
from harness.workloads.hashing.payload import hashcat as beside
from harness.workloads.registry import workload
from tests.packed import packed

CASES = Path(__file__).parents[1] / "workloads" / "cases"
HASHING = workload("hashing")


# As terminal.c of 6.2.6 prints it: two GPUs that CUDA and NVIDIA's OpenCL both show, and a processor.
TWO = """hashcat (v6.2.6) starting in backend information mode

CUDA Info:
==========

CUDA.Version.: 12.2

Backend Device ID #1 (Alias: #3)
  Name...........: NVIDIA L40S
  Processor(s)...: 142
  Clock..........: 2520
  Memory.Total...: 45589 MB
  Memory.Free....: 45051 MB
  Local.Memory...: 99 KB
  PCI.Addr.BDFe..: 0000:01:00.0

Backend Device ID #2 (Alias: #4)
  Name...........: NVIDIA L40S
  PCI.Addr.BDFe..: 0000:41:00.0

OpenCL Info:
============

OpenCL Platform ID #1
  Vendor..: NVIDIA Corporation
  Name....: NVIDIA CUDA
  Version.: OpenCL 3.0 CUDA 12.2.147

  Backend Device ID #3 (Alias: #1)
    Type...........: GPU
    Vendor.ID......: 32
    PCI.Addr.BDF...: 01:00.0

  Backend Device ID #4 (Alias: #2)
    Type...........: GPU
    PCI.Addr.BDF...: 41:00.0

OpenCL Platform ID #2
  Vendor..: The pocl project
  Name....: Portable Computing Language

  Backend Device ID #5
    Type...........: CPU
    Name...........: pthread
"""
GPUS = tuple(
    GuestDevice(address=PciAddress.parse(a), vendor="10de", device="26b9", host=PciAddress.parse(a))
    for a in ("0000:01:00.0", "0000:41:00.0")
)
Hunt = Callable[..., tuple[int, bytes, Job]]


@pytest.fixture
def hunt(tmp_path: Path) -> Hunt:
    """Run the payload with the stand-in first on PATH."""

    def run(
        defect: str = "", info: str = TWO, *, info_exit: int = 0, **parameters: Any
    ) -> tuple[int, bytes, Job]:
        tools = tmp_path / "bin"
        tools.mkdir()
        source = Path(__file__).parents[1] / "fakes" / "hashcat.py"
        (tools / "hashcat").write_text(f"#!{sys.executable} -IS\n" + source.read_text())
        (tools / "hashcat").chmod(0o755)
        told = {"defect": defect, "info": info, "info_exit": info_exit}
        (tools / "hashcat.json").write_text(json.dumps(told))
        job = Job(
            key="k1", guest="g1", tenant="t", devices=GPUS,
            parameters={"modes": "md5,sha256", "keyspace": 2048, **parameters},
            place=Place(python=sys.executable, payload=str(packed()), work=str(tmp_path / "work")),
        )  # fmt: skip
        done = subprocess.run(
            HASHING.prepare(job), capture_output=True, check=False, timeout=60,
            env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "LC_ALL": "de_DE.UTF-8"},
        )  # fmt: skip
        assert done.stderr == b""
        return done.returncode, done.stdout, job

    return run


def wrong(job: Job, stdout: bytes) -> list[Answer]:
    return [a for a in HASHING.parse(job, stdout).answers if not a.ok]


def test_every_gpu_hunts_in_every_mode_by_cuda(hunt: Hunt, tmp_path: Path) -> None:
    status, stdout, job = hunt()
    assert status == 0
    parsed = HASHING.parse(job, stdout)
    assert [a for a in parsed.answers if not a.ok] == []
    assert parsed.engine == "cuda"
    assert len(parsed.answers) == 1 + 2 * (2 + 2 * 4)
    rates = {(m.name, m.subject): m.value for m in parsed.measurements}
    assert rates["hashing.md5.rate", "0000:41:00.0"] == 64.0948
    assert rates["hashing.sha256.attack_rate", "0000:01:00.0"] == pytest.approx(5 / 3)
    assert len(rates) == 8
    assert list((tmp_path / "work" / "k1").iterdir()) == []


@pytest.mark.parametrize(
    ("defect", "name", "got"),
    [
        ("miss", "sha256 on 0000:01:00.0: passwords", "7 right, 0 wrong"),
        ("wrong", "md5 on 0000:01:00.0: passwords", "7 right, 1 wrong"),
        ("decoy", "md5 on 0000:01:00.0: passwords", "8 right, 1 wrong"),
        ("early", "md5 on 0000:01:00.0: candidates tried", "1024 of 2048"),
        ("self-test", "md5 on 0000:01:00.0: hashcat's self-test", "failed"),
        ("no self-test", "md5 on 0000:01:00.0: hashcat's self-test", "not run"),
    ],
)
def test_a_gpu_that_computes_wrongly_is_named(defect: str, name: str, got: str, hunt: Hunt) -> None:
    status, stdout, job = hunt(defect)
    assert status == 0
    first = wrong(job, stdout)[0]
    assert (first.name, first.got) == (name, got)


@pytest.mark.parametrize(
    ("defect", "words"),
    [
        ("heat", "0000:01:00.0: hashcat stopped for heat: Temperature limit on GPU #1 reached"),
        ("fault", "0000:01:00.0: hashcat ended with status 255: "),
        ("one fault", "0000:41:00.0: hashcat ended with status 255: "),
    ],
)
def test_a_gpu_that_does_not_work_is_a_broken_engine(defect: str, words: str, hunt: Hunt) -> None:
    status, stdout, _ = hunt(defect)
    assert status == 4
    assert words in json.loads(stdout)["error"]


@pytest.mark.parametrize(
    ("defect", "words"),
    [
        ("memory", "0000:41:00.0: hashcat ended with status 252: "),
        ("compiler", "0000:01:00.0: hashcat ended with status 255: "),
    ],
)
def test_kernels_that_cannot_be_built_or_loaded_accuse_no_card(defect: str, words: str, hunt: Hunt) -> None:
    status, stdout, _ = hunt(defect)
    assert status == 3
    assert words in json.loads(stdout)["error"]


def test_what_one_gpu_lacks_hides_no_wrong_answer_of_another(hunt: Hunt) -> None:
    """The first GPU is wrong in its first mode; all else finds no memory."""
    status, stdout, job = hunt("wrong, then memory")
    assert status == 0
    (answer,) = wrong(job, stdout)
    assert (answer.name, answer.got) == ("md5 on 0000:01:00.0: passwords", "7 right, 1 wrong")
    first, second = json.loads(stdout)["observed"]["devices"]
    assert ([one["mode"] for one in first["modes"]], second["modes"]) == (["md5"], [])


def test_right_answers_do_not_stand_for_those_that_are_lacking(hunt: Hunt) -> None:
    status, stdout, job = hunt("right, then memory")
    assert status == 0
    with pytest.raises(ParseError, match=r"(?s)0000:01:00.0: .*Not enough allocatable.*\(and 1 more\)"):
        HASHING.parse(job, stdout)


@pytest.mark.parametrize("defect", ["torn", "no benchmark"])
def test_half_a_report_is_no_result(defect: str, hunt: Hunt) -> None:
    status, stdout, job = hunt(defect)
    assert status == 0
    with pytest.raises(ParseError):
        HASHING.parse(job, stdout)


@pytest.mark.parametrize(
    ("info", "info_exit", "status", "words"),
    [
        (
            TWO.replace("0000:41:00.0", "0000:42:00.0").replace("41:00.0", "42:00.0"),
            0,
            4,
            "0 GPUs at 0000:41",
        ),
        ("hashcat (v6.2.6) starting", 0, 3, "no device); it needs NVRTC"),
        (
            "* Device #1: Outdated or broken NVIDIA driver '1' detected!\nNo devices found/left.",
            255,
            3,
            "No devices found/left",
        ),
        ("ATTENTION! No OpenCL, HIP or CUDA compatible platform found.", 255, 3, "platform found"),
        # OpenCL shows no PCI domain: which of the two would it be?
        (TWO[TWO.index("OpenCL Info") :].replace("41:00.0", "01:00.0"), 0, 3, "2 GPUs at 0000:01:00.0"),
        ("cuDeviceGet(): invalid device ordinal", 255, 4, "invalid device ordinal"),
        ("ATTENTION! No OpenCL, Metal, HIP or CUDA installation found.", 255, 3, "installation found"),
    ],
)
def test_gpus_that_hashcat_does_not_see(
    info: str, info_exit: int, status: int, words: str, hunt: Hunt
) -> None:
    code, stdout, _ = hunt(info=info, info_exit=info_exit)
    assert code == status
    assert words in json.loads(stdout)["error"]


def test_the_processor_of_the_list_is_not_taken_for_a_gpu(hunt: Hunt) -> None:
    code, stdout, _ = hunt(info=(CASES / "hashcat-info-pocl.txt").read_text())
    assert code == 3
    assert "shows 0 GPUs at 0000:01:00.0" in json.loads(stdout)["error"]


def test_hashcat_that_is_not_there_is_named(tmp_path: Path) -> None:
    job = Job(key="k1", guest="g1", tenant="t", devices=GPUS, place=Place(work=str(tmp_path / "work")))
    argv = HASHING.prepare(job)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _WITHOUT, str(packed()), argv[-1]],
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 3
    assert "hashcat is not installed here" in json.loads(done.stdout)["error"]


_WITHOUT = """
import os, sys
hidden, allowed = os.access, os.access
os.access = lambda path, mode: not str(path).endswith("/hashcat") and allowed(path, mode)
sys.path.insert(0, sys.argv[1])
from harness.workloads.hashing.payload import job
job.main(sys.argv[2])
"""


def test_the_list_of_this_kind_of_machine_is_read() -> None:
    (one,) = beside.devices((CASES / "hashcat-info-pocl.txt").read_text())
    assert (one["number"], one["Type"], one["Processor(s)"]) == ("1", "CPU", "2")
    assert beside.backend(one) == "opencl:pocl"


def test_a_gpu_is_found_by_its_address_and_by_cuda_first() -> None:
    listed = beside.devices(TWO)
    assert [d["number"] for d in listed] == ["1", "2", "3", "4", "5"]
    assert beside.at_address(listed, "0000:41:00.0")["number"] == "2"
    assert beside.at_address(listed[2:], "0000:41:00.0")["number"] == "4"
    assert beside.backend(listed[3]) == "opencl:nvidia"
    # hashcat keeps eight bits of a domain
    there = TWO.replace("BDFe..: 0000:41", "BDFe..: 0001:41")
    assert beside.at_address(beside.devices(there), "0101:41:00.0")["number"] == "2"


def test_hashcat_shows_a_device_number_as_device_and_function() -> None:
    """As it did on AWS, for V100s at 00:17.0 to 00:1e.0 and A100s at 10:1c.0 and 10:1d.0 (aws-hashcat)."""
    seen = TWO.replace("01:00.0", "00:02.7").replace("41:00.0", "00:03.0")
    listed = beside.devices(seen)
    assert beside.at_address(listed, "0000:00:17.0")["number"] == "1"
    assert beside.at_address(listed, "0000:00:18.0")["number"] == "2"
    assert beside.at_address(listed[2:], "0000:00:18.0")["number"] == "4"
    with pytest.raises(beside.BrokenEngine):  # not the one that is shown as if it lay there
        beside.at_address(listed, "0000:00:03.0")
    listed = beside.devices(TWO.replace("0000:41:00.0", "0000:10:03.5"))
    assert beside.at_address(listed, "0000:10:1d.0")["number"] == "2"


@given(st.text() | st.lists(st.sampled_from(TWO.splitlines())).map("\n".join))
def test_any_list_is_read(said: str) -> None:
    listed = beside.devices(said)
    with contextlib.suppress(beside.BrokenEngine, RuntimeError):
        assert beside.at_address(listed, "0000:01:00.0") in listed


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("hashcat"), reason="hashcat is not installed here")
def test_the_real_hashcat_finds_every_password_on_the_cpu(tmp_path: Path) -> None:
    """Compiles kernels for the CPU: a minute or two."""
    job = Job(
        key="k1", guest="g1", tenant="t", vcpus=2,
        parameters={"tool": "hashcat", "modes": "md5", "keyspace": 1 << 20},
        place=Place(python=sys.executable, payload=str(packed()), work=str(tmp_path / "work")),
    )  # fmt: skip
    done = subprocess.run(HASHING.prepare(job), capture_output=True, check=False, timeout=500)
    if b"no OpenCL runtime" in done.stdout or b"installation found" in done.stdout:
        pytest.skip("no OpenCL runtime for the CPU here (pocl-opencl-icd)")
    assert done.returncode == 0, done.stdout
    parsed = HASHING.parse(job, done.stdout)
    assert [a for a in parsed.answers if not a.ok] == []
    assert parsed.engine.startswith("opencl:")
