"""The memory test through real ctypes calls into a stand-in driver: each defect is found and named."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.vendors.nvidia.payload import compute as gpu_compute
from harness.vendors.nvidia.payload import driver as gpu_driver
from harness.vendors.nvidia.standin.model import StandinCard, StandinScenario
from harness.workloads.vram import answers as vram
from harness.workloads.vram.payload.gpu import Sweep
from tests.native import fake, nvml
from tests.native.conftest import A, B, Ran, judged, wrong

Run = Callable[..., Ran]
QUICK = {"walks": 1, "randoms": 1, "bandwidth_seconds": 0.0}
PATTERNS = ("walking_ones", "walking_zeros", "moving_inversions", "address", "random")


def test_sound_memory_passes_and_is_covered(run: Run) -> None:
    result = judged(run("vram", (A, B), walks=2), "vram")
    assert wrong(result) == []
    assert result.engine == "cuda"
    assert len(result.answers) == 1 + 2 * 11
    values = {(m.name, m.subject): m.value for m in result.measurements}
    for address in (A, B):
        assert 0.95 <= (values["vram.covered_share", address] or 0) <= 1
        assert values["vram.total", address] == fake.total()
        for name in ("bandwidth", "read_bandwidth", "fill_rate", "compare_rate"):
            assert (values[f"vram.{name}", address] or 0) > 0
        assert all((values[f"vram.compared.{name}", address] or 0) >= 7.5 * fake.MIB for name in PATTERNS)


def test_a_stuck_bit_is_found_on_its_card_with_its_place_and_bit(run: Run) -> None:
    said = fake.machine(A, B, more="stuck=1:5000003:2:1")
    ran = run("vram", (A, B), said, **QUICK)
    result = judged(ran, "vram")
    names = wrong(result)
    assert names
    assert all(name.startswith(B) for name in names)
    (answer,) = (a for a in result.answers if a.name == f"{B} moving_inversions")
    passes = vram.asked(ran.job, {**vram.WORKLOAD.spec.defaults, **QUICK}).passes
    looks = [p.argument for p in passes if p.pattern == "moving_inversions"]
    assert answer.got == f"{sum(not argument >> 26 & 1 for argument in looks)} wrong words"
    assert answer.detail.startswith("bits 26; byte 0x")


def test_two_addresses_of_one_cell_are_found(run: Run) -> None:
    result = judged(run("vram", (A,), fake.machine(A, more=f"alias=0:{5 * fake.MIB}"), **QUICK), "vram")
    assert f"{A} address" in wrong(result) or f"{A} passes" in wrong(result)


def test_too_little_free_memory_is_a_failure_to_cover_and_accuses_no_card(run: Run) -> None:
    said = fake.machine(A, more=f"free={6 * fake.MIB}")
    result = judged(run("vram", (A,), said, **QUICK), "vram")
    assert result.status == "lost"
    assert f"of {fake.total()} bytes could be allocated" in result.detail


def test_a_fault_in_the_memory_that_was_free_stands(run: Run) -> None:
    said = fake.machine(A, more=f"free={6 * fake.MIB} stuck=0:3000003:2:1")
    assert f"{A} moving_inversions" in wrong(judged(run("vram", (A,), said, **QUICK), "vram"))


def test_no_free_memory_at_all_is_one_too(run: Run) -> None:
    ran = run("vram", (A,), fake.machine(A, more="free=20480"), **QUICK)
    result = judged(ran, "vram")
    assert result.status == "lost"
    assert "only 0 of" in result.detail


@pytest.mark.parametrize(
    ("more", "kind", "words"),
    [
        ("lost=30", "failed", "FAKE_ERROR_999"),
        ("hang=cuLaunchKernel:30", "hung", "no progress for 1 s"),
        ("hang=cuMemcpyDtoH_v2:5", "hung", "no progress for"),
    ],
)
def test_a_card_that_goes_away_in_the_middle_is_named(run: Run, more: str, kind: str, words: str) -> None:
    result = judged(run("vram", (A,), fake.machine(A, more=more), **QUICK, stall_seconds=1.0), "vram")
    assert wrong(result) == [f"{A} to the end"]
    (answer,) = (a for a in result.answers if not a.ok)
    assert answer.got.startswith(f"{kind} (")
    assert words in answer.got


def test_one_dead_card_does_not_hide_the_other(run: Run) -> None:
    result = judged(run("vram", (A, B), fake.machine(A, B, more="dead=1"), **QUICK), "vram")
    assert wrong(result) == [f"{B} to the end"]
    assert f"{A} random" in [a.name for a in result.answers]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (803, "different driver versions"),
        (804, "forward-compatibility library"),
        (34, "stub"),
        (802, "Fabric Manager"),
        (807, "Multi-Process Service"),
        (100, "the nvidia kernel module is not loaded"),
    ],
)
def test_software_in_the_way_says_nothing_about_the_card(run: Run, code: int, words: str) -> None:
    ran = run("vram", (A,), fake.machine(A, more=f"init={code}"), **QUICK)
    assert ran.status == 3
    result = judged(ran, "vram")
    assert result.status == "lost"
    assert words in result.detail


def test_no_permission_is_named(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text("NVRM version: x\n")
    (tmp_path / "sys/module/nvidia_uvm").mkdir(parents=True)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch(mode=0o000)
    ran = run("vram", (A,), fake.machine(A, more="init=100"), sysroot=tmp_path, **QUICK)
    # Root may open anything, and then it is the driver that finds no card.
    assert ran.status in (3, 4)
    assert ("no permission" in judged(ran, "vram").detail) == (ran.status == 3)


@pytest.mark.parametrize("code", [100, 999])
def test_a_driver_that_is_there_and_does_not_start_is_a_failure(run: Run, tmp_path: Path, code: int) -> None:
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text("NVRM version: x\n")
    ran = run("vram", (A,), fake.machine(A, more=f"init={code}"), sysroot=tmp_path, **QUICK)
    assert ran.status == 3
    assert "nvidia-uvm is not loaded" in judged(ran, "vram").detail
    (tmp_path / "sys/module/nvidia_uvm").mkdir(parents=True)
    ran = run("vram", (A,), fake.machine(A, more=f"init={code}"), sysroot=tmp_path, **QUICK)
    assert (ran.status, judged(ran, "vram").status) == (4, "failed")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("mode=2", "its compute mode is 2"),
        ("fail=cuModuleLoadData:209", "compute capability 7.5"),
        ("fail=cuDevicePrimaryCtxRetain:2", "other processes use the memory"),
    ],
)
def test_a_card_that_is_not_ours_to_use_is_not_accused(run: Run, more: str, words: str) -> None:
    ran = run("vram", (A,), fake.machine(A, more=more), **QUICK)
    result = judged(ran, "vram")
    assert (ran.status, result.status) == (3, "lost")
    assert words in result.detail


def test_a_card_that_is_split_is_not_tested_by_a_part(
    run: Run, stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both stand-ins at once: the driver's and NVML's."""
    shutil.copy(stand_in / "libcuda.so.1", tmp_path)
    machine = nvml.Machine(nvml.build(tmp_path), tmp_path)
    monkeypatch.setenv("SHAKEDOWN_NVML_SCENARIO", str(tmp_path / "scenario"))
    where = str(nvml.ADDRESSES[0])
    machine.scene(StandinScenario(name="test", card=StandinCard(mig=1)))
    result = judged(run("vram", (where,), libraries=tmp_path, **QUICK), "vram")
    assert (result.status, "MIG is on" in result.detail) == ("lost", True)
    machine.scene(StandinScenario(name="test", card=StandinCard(mig=0)))
    assert wrong(judged(run("vram", (where,), libraries=tmp_path, **QUICK), "vram")) == []


def test_a_driver_that_never_starts_is_a_failure_in_time(run: Run) -> None:
    ran = run("vram", (A,), fake.machine(A, more="hang=cuInit:1"), **QUICK, stall_seconds=1.0)
    result = judged(ran, "vram")
    assert (ran.status, result.status) == (4, "failed")
    assert "starting CUDA" in result.detail


def test_without_the_library_nothing_is_known_and_nothing_falls_back(run: Run, tmp_path: Path) -> None:
    ran = run("vram", (A,), libraries=tmp_path, **QUICK)
    assert ran.status == 3
    assert "libcuda.so.1 cannot be loaded" in judged(ran, "vram").detail


def test_a_card_that_is_not_at_its_address_is_a_failure(run: Run) -> None:
    ran = run("vram", (A,), fake.machine(B), **QUICK)
    assert (ran.status, judged(ran, "vram").status) == (4, "failed")


def test_main_memory_is_tested_without_a_card_and_called_so(run: Run) -> None:
    result = judged(run("vram", mib=1, **QUICK), "vram")
    assert wrong(result) == []
    assert result.engine == "cpu"
    assert {m.name.partition(".")[0] for m in result.measurements} == {"ram"}


@pytest.fixture
def opened(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """A GPU of 8 MiB in this process, and the stand-in's levers: ctypes finds the loaded library by name."""
    monkeypatch.setenv("FAKE_CUDA", fake.machine(A))
    library = fake.levers(stand_in)
    monkeypatch.setattr(gpu_driver, "LIBRARY", str(stand_in / "libcuda.so.1"))
    return gpu_compute.Gpu(gpu_driver.Driver(), A), library


def test_a_small_piece_is_not_read_right_after_it_was_written(opened: tuple[Any, Any]) -> None:
    """Its words would come out of the cache: so the largest is written last, and looked at first."""
    gpu, _ = opened
    memory = gpu.allocate(3 * 4096)
    sweep = Sweep(gpu, [(memory, 8192), (memory + 8192, 4096)])
    assert sweep.pieces == [(memory + 8192, 512, 0), (memory, 1024, 512)]
    seen: list[int] = []
    for name in ("fill", "verify"):
        real = getattr(gpu, name)
        setattr(gpu, name, lambda *a, real=real: (seen.append(a[1]), real(*a)))
    sweep.fill(0, 7)
    assert sweep.verify(0, 7, None, backwards=True)["mismatches"] == 0
    assert seen == [512, 1024, 1024, 512]


def test_times_are_told_no_finer_than_they_are_known(run: Run) -> None:
    """A mix brings back many results, within a limit: random digits are what does not pack."""
    entry = json.loads(run("vram", (A,), **QUICK).output)["observed"]["entries"][0]["observed"]
    times = [one[name] for one in entry["passes"] for name in ("fill_seconds", "verify_seconds")]
    assert all(time is None or time == round(time, 6) for time in times)


def test_a_thousand_of_a_thousand_flipped_bits_are_found(opened: tuple[Any, Any]) -> None:
    """One bit of one word between writing and comparing, at random places, under every pattern."""
    gpu, _ = opened
    chance = random.Random(7)  # noqa: S311
    words, first = 8192, 1 << 33
    memory = gpu.allocate(8 * words)
    found = 0
    for _ in range(1000):
        kind, argument = chance.randrange(5), chance.getrandbits(64)
        index, bit = chance.randrange(words), chance.randrange(64)
        gpu.clear()
        gpu.fill(memory, words, first, kind, argument)
        gpu.launch("sd_flip", memory, index, 1 << bit)
        gpu.verify(memory, words, first, kind, argument)
        seen = gpu.report()
        ((place, expected, got),) = seen["faults"]
        found += (
            (seen["words"], seen["mismatches"], seen["bits"]) == (words, 1, 1 << bit)
            and place == first + index
            and expected ^ got == 1 << bit
        )
    assert found == 1000


def test_a_thousand_of_a_thousand_stuck_bits_are_found(opened: tuple[Any, Any]) -> None:
    """Stuck at either value: moving inversions alone find every one."""
    gpu, library = opened
    chance = random.Random(11)  # noqa: S311
    words = 4096
    memory = gpu.allocate(8 * words)
    sweep = Sweep(gpu, [(memory, 4 * words), (memory + 4 * words, 4 * words)])
    found = 0
    for _ in range(1000):
        offset, bit = chance.randrange(8 * words), chance.randrange(8)
        library.fake_set_stuck(memory + offset, bit, chance.randrange(2))
        sweep.fill(0, 0)
        looks = [
            sweep.verify(0, argument, argument ^ (1 << 64) - 1, backwards=bool(argument))
            for argument in (0, (1 << 64) - 1)
        ]
        places = {fault[0] for look in looks for fault in look["faults"]}
        found += places == {offset // 8}
    library.fake_heal()
    assert found == 1000
