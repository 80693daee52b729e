"""The tensor payload as a machine runs it: prepared, started, and its line judged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ParseError
from harness.lab.guest_image import put_beside
from harness.model.pci import PciAddress
from harness.workloads.base import GuestDevice, Job, Parsed, Place
from harness.workloads.registry import workload
from harness.workloads.tensor.payload.library import ENGINE_FILE
from tests.frameworks import tensorflow
from tests.packed import code, packed
from tests.skips import LICENCE

TENSORFLOW = str(tensorflow() or "/opt/tf")
TORCH = os.environ.get("SHAKEDOWN_TORCH_PYTHON", "")
TENSOR = workload("tensor")
with_tensorflow = pytest.mark.skipif(
    tensorflow() is None,
    reason="no TensorFlow for this Python in the cache (./shakedown test fetches it; for Python 3.11)",
)
with_torch = pytest.mark.skipif(
    not TORCH,
    reason=f"{LICENCE}: SHAKEDOWN_TORCH_PYTHON names no interpreter with PyTorch, which needs CUDA's",
)
FRAMEWORKS = (
    pytest.param("tensorflow", marks=with_tensorflow),
    pytest.param("torch", marks=with_torch),
    pytest.param("lab", marks=with_tensorflow),
)
"""``lab``: TensorFlow by the way of the lab's guest image."""
GPU = GuestDevice(
    address=PciAddress.parse("0000:01:00.0"),
    vendor="10de",
    device="2335",
    host=PciAddress.parse("0000:41:00.0"),
)


def lab_tree(folder: Path) -> str:
    """The same TensorFlow as the lab's guest image has it, with what lies beside it."""
    for item in Path(TENSORFLOW).iterdir():
        if item.name not in ("shakedown_lab", ENGINE_FILE):
            (folder / item.name).symlink_to(item)
    put_beside(folder)
    return str(folder)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(
        python=sys.executable, payload=str(packed()), tensorflow=TENSORFLOW, work=str(tmp_path / "work")
    )


def job_of(framework: str, place: Place, **parameters: Any) -> Job:
    if framework == "torch":
        parameters.setdefault("python", TORCH)
    if framework == "lab":
        folder = Path(place.work).with_name("lab-tree")
        folder.mkdir()
        place, framework = replace(place, tensorflow=lab_tree(folder)), "tensorflow"
    parameters["framework"] = framework
    # One thread: PyTorch's spin while they wait for each other, which a busy machine feels.
    return Job(key="k1", guest="g1", tenant="t", vcpus=1, parameters=parameters, place=place)


def ended(job: Job, **hooks: Any) -> tuple[int, bytes]:
    """Exit status and stdout; ``hooks`` go to the payload behind the workload's back."""
    *argv, text = TENSOR.prepare(job)
    told = json.dumps({**json.loads(text), **hooks})
    done = subprocess.run([*argv, told], capture_output=True, check=False, timeout=120)
    return done.returncode, done.stdout


def judged(job: Job, **hooks: Any) -> Parsed:
    status, stdout = ended(job, **hooks)
    assert status == 0, stdout
    return TENSOR.parse(job, stdout)


def wrong(parsed: Parsed) -> list[str]:
    return [answer.name for answer in parsed.answers if not answer.ok]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_precision_is_multiplied_and_right(framework: str, place: Place) -> None:
    parsed = judged(job_of(framework, place, curve="64,128", curve_seconds=0.05))
    assert parsed.engine == f"cpu:{framework.replace('lab', 'tensorflow')}"
    assert wrong(parsed) == []
    values = {m.name: m.value for m in parsed.measurements}
    assert all(values[f"tensor.{p}.rate"] for p in ("fp64", "fp32", "fp16", "bf16"))
    assert values["tensor.tf32.rate"] is None
    assert values["tensor.check_cost.64"] is not None
    assert values["tensor.products"] >= 3 * 2 * 4


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("hook", ["inject", "inject_inputs"])
def test_every_flipped_bit_is_found_and_such_a_run_never_passes(
    framework: str, hook: str, place: Place
) -> None:
    job = job_of(framework, place, rounds=60, size=64, blocks=3, check_every=1000)
    status, stdout = ended(job, **{hook: True, "inject_seed": 7})
    assert status == 0
    for burn in json.loads(stdout)["observed"]["devices"][0]["burns"]:
        assert len(burn["injected"]) == burn["rounds"] == 60
        assert [flip for flip in burn["injected"] if not flip["found"]] == []
        if hook == "inject":
            assert all(flip["located"] for flip in burn["injected"])
            assert burn["mismatches"] == 60
    parsed = TENSOR.parse(job, stdout)
    for precision in ("fp64", "fp32", "fp16", "bf16"):
        assert f"cpu {precision}: faults injected on purpose" in wrong(parsed)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_precision_that_is_demanded_and_not_there_is_no_pass(framework: str, place: Place) -> None:
    with pytest.raises(ParseError, match="cpu: tf32 is not offered: the processor has no TF32"):
        judged(job_of(framework, place, precisions="fp32,tf32"))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_burn_lasts_as_long_as_it_must_and_pulses(framework: str, place: Place) -> None:
    parsed = judged(job_of(framework, place, seconds=1.0, duty=0.5, period=0.2, precisions="fp32,bf16"))
    assert wrong(parsed) == []
    assert "cpu fp32: seconds burned" in {a.name for a in parsed.answers}


@pytest.mark.parametrize("framework", ["tensorflow", "torch"])
def test_a_framework_that_is_not_there_is_said_so(framework: str, place: Place, tmp_path: Path) -> None:
    job = job_of(framework, place, python=sys.executable, library_dir=str(tmp_path))
    status, stdout = ended(job)
    assert status == 3
    assert json.loads(stdout)["payload"] == "tensor"
    assert "not usable here" in json.loads(stdout)["error"]


@pytest.mark.skipif(Path("/proc/driver/nvidia/version").exists(), reason="this machine has a driver")
def test_a_gpu_that_is_demanded_is_never_replaced_by_the_processor(place: Place) -> None:
    job = Job(key="k1", guest="g1", tenant="t", devices=(GPU,), place=place)
    status, stdout = ended(job)
    assert (status, json.loads(stdout)["error"]) == (3, "the nvidia kernel module is not loaded")


ELSEWHERE = """
sys.path.insert(0, sys.argv[1])
from harness.workloads.tensor.payload import tensorflow_engine as made
engine = made.Engine({"device": "cpu", "threads": 1})
engine.device = "/device:GPU:0"
try:
    engine.products("fp32", 64, 1, 1).multiply()
    print("done somewhere")
except made.ERRORS as error:
    print(error)
"""


@with_tensorflow
def test_what_a_gpu_should_do_is_never_done_by_the_processor_in_silence() -> None:
    argv = [*code(ELSEWHERE), TENSORFLOW]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120)
    assert "Could not satisfy device specification" in done.stdout


ROWS = """
import json
sys.path.insert(0, sys.argv[1])
from shakedown_lab import engine as tensor_tf
from harness.workloads.tensor.payload import numbers as tensor_numbers
engine = tensor_tf.Engine({"device": "cpu", "library_dir": sys.argv[1], "threads": 1})
signs = tensor_numbers.signs(3, 256)

def seen(small, wide, precision, spoil):
    tensor_tf._SMALL, tensor_tf._WIDE = small, wide
    products = engine.products(precision, 256, 2, 1)
    products.multiply()
    for element in spoil:
        products.flip(1, element, products.output_bits - 2)
    run, runs = products.graph.run, []
    products.graph.run = lambda *what: runs.append(what) or run(*what)
    found = products.freivalds([1, 0], signs)
    products.graph.run = run
    tile = products.elements(1, (100, 7), 16).tolist()
    products.close()
    return found, tile, len(runs)

for precision in ("fp64", "fp32", "fp16", "bf16"):
    for spoil in ([], [0], [256 * 256 - 1]):
        print(json.dumps([seen(1024, 1 << 25, precision, spoil), seen(0, 256 * 100, precision, spoil)]))
"""


@with_tensorflow
def test_large_products_are_proven_some_rows_at_a_time_with_the_same_result(tmp_path: Path) -> None:
    """Whole matrices in float64 fill a small card, which then would seem broken."""
    argv = [*code(ROWS), lab_tree(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 12
    for number, ((whole, tile, once), (by_rows, same_tile, runs)) in enumerate(lines):
        assert tile == same_tile
        assert (once, runs) == (1, 2 * (3 + 1 + 3))  # 256 rows are 100, 100 and 56
        assert by_rows == pytest.approx(whole, rel=0.5, nan_ok=True)  # rounding is what is left of some
        assert by_rows[1] < 1.0
        assert (by_rows[0] < 1.0) is (number % 3 == 0)
