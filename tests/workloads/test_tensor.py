"""Tensor: what a burn leaves out, or says that cannot be, is never a pass."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import ConfigError, ParseError
from harness.model.pci import PciAddress
from harness.workloads.base import GuestDevice, Job
from harness.workloads.judge import judge
from harness.workloads.registry import workload
from harness.workloads.tensor.reference import loss_tolerance, reference_losses, residual_bound

TENSOR = workload("tensor")
CASES = Path(__file__).parent / "cases"
FIRST, LAST = 2.960057497024536, 0.17107346653938293
"""As TensorFlow 2.21.0 printed the losses for the default parameters, on two different processors."""
Change = Callable[[dict[str, Any]], object]


def recorded(framework: str) -> dict[str, Any]:
    """What the payload really printed for the default parameters on a processor (TensorFlow 2.21.0, PyTorch
    2.13.0)."""
    found: dict[str, Any] = json.loads((CASES / f"tensor-{framework}.json").read_bytes())
    return found


def line(whole: dict[str, Any]) -> bytes:
    return (json.dumps(whole) + "\n").encode()


def gpu(slot: int, device: str = "2335") -> GuestDevice:
    address = PciAddress.parse(f"0000:{slot:02x}:00.0")
    return GuestDevice(address=address, vendor="10de", device=device, host=address)


def on_gpus(job: Job, framework: str = "torch", count: int = 2, **parameters: Any) -> Job:
    given = {"framework": framework, "size": 128, "blocks": 2, **parameters}
    return replace(job, devices=tuple(gpu(n + 1) for n in range(count)), parameters=given)


def as_gpus(job: Job, framework: str = "torch") -> dict[str, Any]:
    """The recorded report as GPUs of compute capability 9.0 would give it: made up here, never seen."""
    whole = recorded(framework)
    whole["engine"] = f"cuda:{framework}"
    (one,) = whole["observed"]["devices"]
    one["offered"] = dict.fromkeys(one["offered"], "")
    fp32 = one["burns"][1]
    one["burns"].insert(2, {**copy.deepcopy(fp32), "precision": "tf32"})
    one["burns"][2]["golden"]["samples"] = exact_samples("tf32")
    devices = []
    for device in job.devices:
        mine = copy.deepcopy(one)
        address = str(device.address)
        mine.update(device=address, address=address, engine=whole["engine"], capability=[9, 0], name="x")
        devices.append(mine)
    whole["observed"]["devices"] = devices
    return whole


def exact_samples(precision: str) -> list[float]:
    from harness.workloads.tensor.reference import sampled

    return [value for block in (0, 1) for value in sampled(1, precision, block, 128, 2)]


def wrong(job: Job, whole: dict[str, Any]) -> list[str]:
    return [a.name for a in TENSOR.parse(job, line(whole)).answers if not a.ok]


@pytest.fixture
def torch_job(job: Job) -> Job:
    return replace(job, parameters={"framework": "torch"})


def test_what_tensorflow_really_printed_passes(job: Job) -> None:
    parsed = TENSOR.parse(job, line(recorded("tensorflow")))
    assert [a for a in parsed.answers if not a.ok] == []
    assert parsed.engine == "cpu:tensorflow"
    values = {m.name: m for m in parsed.measurements}
    assert values["tensor.fp32.rate"].unit == "TFLOP/s"
    assert values["tensor.fp32.rate"].value is not None
    assert values["tensor.fp8.rate"].value is None
    assert values["tensor.products"].value == 4 * 3 * 2


def test_what_torch_really_printed_passes(torch_job: Job) -> None:
    parsed = TENSOR.parse(torch_job, line(recorded("torch")))
    assert [a for a in parsed.answers if not a.ok] == []
    assert {m.name for m in parsed.measurements if m.value is not None} >= {"tensor.fp8.rate"}


def test_one_engine_is_not_taken_for_the_other(job: Job, torch_job: Job) -> None:
    assert "engine" in wrong(torch_job, recorded("tensorflow"))
    assert "engine" in wrong(job, recorded("torch"))


def burn_of(whole: dict[str, Any], precision: str = "fp32") -> dict[str, Any]:
    for one in whole["observed"]["devices"][0]["burns"]:
        if one["precision"] == precision:
            found: dict[str, Any] = one
            return found
    raise AssertionError(precision)


TOLD = {
    "kind": "stored", "block": 1, "iteration": 2, "in": "", "elements": 1, "row": 7, "column": 9,
    "bits": "0x40",
}  # fmt: skip


def mismatch(burn: dict[str, Any]) -> None:
    burn.update(mismatches=1, told=[TOLD])


def test_a_mismatch_is_wrong_with_block_iteration_and_bits(job: Job) -> None:
    whole = recorded("tensorflow")
    mismatch(burn_of(whole, "bf16"))
    (answer,) = (a for a in TENSOR.parse(job, line(whole)).answers if not a.ok)
    assert (answer.name, answer.got) == ("cpu bf16: products with other bits", "1")
    assert "block 1, iteration 2" in answer.detail
    assert "row 7, column 9, bits 0x40" in answer.detail


BOUND = residual_bound("cpu:tensorflow", "fp32", 128)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda b: b.update(residual_worst=BOUND * 1.01), "worst Freivalds residual over the bound"),
        (lambda b: b.update(residual_worst=None), "worst Freivalds residual over the bound"),
        (lambda b: b.update(residual_worst=-1.0), "worst Freivalds residual over the bound"),
        (
            lambda b: b["golden"].update(residual_worst=BOUND * 2),
            "Freivalds residual of the first products over the bound",
        ),
        (lambda b: b["golden"].update(tiles_worst=1.5), "worst element of 4 tiles over the bound"),
        (lambda b: b["golden"].update(tiles_worst=None), "worst element of 4 tiles over the bound"),
        (
            lambda b: b["golden"]["samples"].__setitem__(3, 0.0),
            "worst of 4 elements against exact integers, over the bound",
        ),
        (
            lambda b: b["golden"]["samples"].__setitem__(0, None),
            "worst of 4 elements against exact integers, over the bound",
        ),
        (lambda b: b.update(rounds=2, products=4), "products verified"),
        (lambda b: b.update(rounds=0, products=0), "products verified"),
        (lambda b: b.update(freivalds=3), "Freivalds checks"),
        (lambda b: b.update(input_checks=0), "looks at the inputs"),
        (lambda b: b.update(injected=[{"bit": 1}]), "faults injected on purpose"),
        (mismatch, "products with other bits"),
        (
            lambda b: b.update(
                inputs_changed=1, told=[{"kind": "input changed", "block": 0, "iteration": 1, "in": "A"}]
            ),
            "inputs that changed in memory",
        ),
    ],
)
def test_a_wrong_burn_is_named(change: Change, name: str, job: Job) -> None:
    whole = recorded("tensorflow")
    change(burn_of(whole))
    assert wrong(job, whole) == [f"cpu fp32: {name}"]


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b.update(size=64),
        lambda b: b.update(blocks=1),
        lambda b: b.update(products=7),
        lambda b: b.update(mismatches=1),
        lambda b: b.update(told=[TOLD]),
        lambda b: b.update(told=[{**TOLD, "kind": "cosmic"}], mismatches=1),
        lambda b: b["golden"].update(samples=[0.0]),
        lambda b: b["golden"].update(tiles=0),
        lambda b: b["golden"].update(freivalds=0),
        lambda b: b.update(precision="fp4"),
        lambda b: b.update(precision="fp64"),
        lambda b: b.update(rate=-1.0),
        lambda b: b.update(rate=0),
        lambda b: b.update(mismatches=None),
        lambda b: b.update(seconds=-1),
        lambda b: b.pop("injected"),
        lambda b: b.pop("golden"),
    ],
)
def test_a_burn_that_cannot_be_is_not_read(change: Change, job: Job) -> None:
    whole = recorded("tensorflow")
    change(burn_of(whole))
    with pytest.raises(ParseError):
        TENSOR.parse(job, line(whole))


@pytest.mark.parametrize("precision", ["fp64", "fp32", "fp16", "bf16"])
def test_a_precision_that_goes_missing_is_wrong(precision: str, job: Job) -> None:
    whole = recorded("tensorflow")
    burns = whole["observed"]["devices"][0]["burns"]
    burns.remove(burn_of(whole, precision))
    assert wrong(job, whole) == ["cpu: precisions"]


@pytest.mark.parametrize("precision", ["fp64", "fp32", "fp16", "bf16"])
def test_a_precision_that_the_framework_has_not_is_missing_evidence(precision: str, job: Job) -> None:
    whole = recorded("tensorflow")
    (device,) = whole["observed"]["devices"]
    device["burns"].remove(burn_of(whole, precision))
    device["offered"][precision] = "not today"
    with pytest.raises(ParseError, match=f"cpu: {precision} is not offered: not today"):
        TENSOR.parse(job, line(whole))
    mismatch(device["burns"][0])
    (name,) = wrong(job, whole)  # which stands, whatever is missing
    assert "products with other bits" in name


def test_no_burns_or_no_devices_are_no_pass(job: Job) -> None:
    whole = recorded("tensorflow")
    whole["observed"]["devices"][0]["burns"] = []
    assert wrong(job, whole) == ["cpu: precisions"]
    whole["observed"]["devices"] = []
    assert wrong(job, whole) == ["devices that computed"]


def test_what_is_offered_must_be_said_of_each_precision(job: Job) -> None:
    whole = recorded("tensorflow")
    del whole["observed"]["devices"][0]["offered"]["fp8"]
    with pytest.raises(ParseError, match="fp8 is missing"):
        TENSOR.parse(job, line(whole))


def test_gpus_pass_with_all_that_their_capability_has(job: Job) -> None:
    job = on_gpus(job)
    parsed = TENSOR.parse(job, line(as_gpus(job)))
    assert [a for a in parsed.answers if not a.ok] == []
    subjects = {m.subject for m in parsed.measurements if m.name == "tensor.bf16.rate"}
    assert subjects == {"0000:01:00.0", "0000:02:00.0"}
    assert sum("whose products differ" in a.name for a in parsed.answers) == 6


@pytest.mark.parametrize("precision", ["fp64", "fp32", "tf32", "fp16", "bf16", "fp8"])
def test_a_gpu_without_a_precision_of_its_capability_does_not_pass(precision: str, job: Job) -> None:
    job = on_gpus(job)
    whole = as_gpus(job)
    device = whole["observed"]["devices"][1]
    device["burns"] = [b for b in device["burns"] if b["precision"] != precision]
    (answer,) = (a for a in TENSOR.parse(job, line(whole)).answers if not a.ok)
    assert (answer.name, answer.detail) == ("0000:02:00.0: precisions", f"not burned: {precision}")
    device["offered"][precision] = "out of order"
    with pytest.raises(ParseError, match=f"0000:02:00.0: {precision} is not offered: out of order"):
        TENSOR.parse(job, line(whole))


def test_a_gpu_that_nothing_is_known_of_hides_no_other_that_is_wrong(job: Job) -> None:
    job = on_gpus(job)
    whole = as_gpus(job)
    whole["observed"]["unable"] = [{"device": "0000:02:00.0", "error": "CUDA out of memory"}]
    del whole["observed"]["devices"][1]
    with pytest.raises(ParseError, match=r"0000:02:00\.0: CUDA out of memory"):
        TENSOR.parse(job, line(whole))
    mismatch(whole["observed"]["devices"][0]["burns"][0])
    assert wrong(job, whole) == ["0000:01:00.0 fp64: products with other bits"]


def test_a_precision_that_memory_was_lacking_for_hides_no_wrong_one_before_it(job: Job) -> None:
    job = on_gpus(job, seconds=600.0)
    whole = as_gpus(job)
    for burn in (one for device in whole["observed"]["devices"] for one in device["burns"]):
        burn["seconds"] = 100.0  # of the six that were to share the time
    first = whole["observed"]["devices"][0]
    first.update(unable="0000:01:00.0: CUDA out of memory", burns=first["burns"][:1])
    with pytest.raises(ParseError, match="CUDA out of memory"):
        TENSOR.parse(job, line(whole))
    mismatch(first["burns"][0])
    assert wrong(job, whole) == ["0000:01:00.0 fp64: products with other bits"]


def test_a_gpu_that_is_missing_or_another_one_is_wrong(job: Job) -> None:
    job = on_gpus(job)
    whole = as_gpus(job)
    gone = whole["observed"]["devices"].pop()
    assert wrong(job, whole) == ["devices that computed"]
    whole["observed"]["devices"].append({**gone, "device": "0000:09:00.0"})
    assert "devices that computed" in wrong(job, whole)
    whole["observed"]["devices"][-1] = {**gone, "address": "0000:01:00.0"}
    assert wrong(job, whole) == ["0000:02:00.0: the GPU that CUDA showed"]
    whole["observed"]["devices"] = [gone, gone]
    with pytest.raises(ParseError, match="twice"):
        TENSOR.parse(job, line(whole))


def test_the_processor_is_no_gpu(job: Job) -> None:
    whole = recorded("torch")
    assert {"engine", "devices that computed"} <= set(wrong(on_gpus(job), as_cpu_with_capability(whole)))
    whole = as_gpus(on_gpus(job))
    whole["observed"]["devices"][0]["engine"] = "cpu:torch"
    assert wrong(on_gpus(job), whole) == ["0000:01:00.0: engine"]


def as_cpu_with_capability(whole: dict[str, Any]) -> dict[str, Any]:
    whole["observed"]["devices"][0]["capability"] = [9, 0]
    return whole


def test_gpus_of_one_model_must_agree_to_the_bit(job: Job) -> None:
    job = on_gpus(job, count=3)
    whole = as_gpus(job)
    whole["observed"]["devices"][1]["burns"][4]["golden"]["fingerprint"] ^= 1
    (answer,) = (a for a in TENSOR.parse(job, line(whole)).answers if not a.ok)
    assert answer.name == "bf16: 10de:2335 GPUs whose products differ from the others'"
    assert answer.got == "0000:02:00.0"
    mixed = replace(job, devices=(gpu(1), gpu(2, "20b2"), gpu(3)))
    assert wrong(mixed, whole) == []


@pytest.mark.parametrize("capability", [None, [9], ["9", "0"], [9, 0, 0], [-1, 0], [True, 0], [900, 0]])
def test_a_capability_is_two_small_numbers(capability: object, job: Job) -> None:
    job = on_gpus(job)
    whole = as_gpus(job)
    whole["observed"]["devices"][0]["capability"] = capability
    with pytest.raises(ParseError):
        TENSOR.parse(job, line(whole))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda t: t.update(losses=[FIRST, LAST * 1.001]), "last loss, relative to float64"),
        (lambda t: t.update(losses=[FIRST * 0.999, LAST]), "first loss, relative to float64"),
        (lambda t: t.update(losses=[FIRST, FIRST]), "share of the loss left after training"),
        (lambda t: t.update(losses=[FIRST, None]), "last loss, relative to float64"),
        (lambda t: t.update(losses=[None, LAST]), "share of the loss left after training"),
        (lambda t: t.update(losses=[0.0, 0.0]), "share of the loss left after training"),
        (lambda t: t.update(reference_losses=[2.96, 0.2]), "its own float64 reference"),
        (lambda t: t.update(reference_losses=[None, None]), "its own float64 reference"),
        (lambda t: t.update(times=1), "trainings"),
        (lambda t: t.update(differing=1), "trainings that ended in other bits"),
    ],
)
def test_a_wrong_training_is_named(change: Change, name: str, job: Job) -> None:
    whole = recorded("tensorflow")
    change(whole["observed"]["devices"][0]["training"])
    assert f"cpu: {name}" in wrong(job, whole)


@pytest.mark.parametrize(
    "training", [{"steps": 19}, {"losses": [FIRST]}, {"losses": "2.9"}, {"losses": [True, False]}]
)
def test_a_training_that_cannot_be_is_not_read(training: dict[str, Any], job: Job) -> None:
    whole = recorded("tensorflow")
    whole["observed"]["devices"][0]["training"].update(training)
    with pytest.raises(ParseError):
        TENSOR.parse(job, line(whole))


def test_the_references_are_those_of_tensorflow_within_the_tolerance() -> None:
    first, last = reference_losses(TENSOR.spec.defaults)
    tolerance = loss_tolerance(20, 64, 16, 32)
    assert 1e-6 < tolerance < 1e-4
    assert abs(first - FIRST) < tolerance * first
    assert abs(last - LAST) < tolerance * last / 10


@given(drift=st.floats(1e-4, 0.5), up=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_any_drift_beyond_float32_is_noticed(drift: float, up: bool, job: Job) -> None:
    whole = recorded("tensorflow")
    losses = [FIRST, LAST * (1 + drift if up else 1 - drift)]
    whole["observed"]["devices"][0]["training"]["losses"] = losses
    assert "cpu: last loss, relative to float64" in wrong(job, whole)


def test_a_burn_that_ended_early_is_wrong(job: Job) -> None:
    job = replace(job, parameters={"seconds": 8.0})
    names = wrong(job, recorded("tensorflow"))
    assert names == [f"cpu {p}: seconds burned" for p in ("fp64", "fp32", "fp16", "bf16")]
    whole = recorded("tensorflow")
    for burn in whole["observed"]["devices"][0]["burns"]:
        burn["seconds"] = 2.0
    assert wrong(job, whole) == []


def test_the_cost_curve_is_that_of_the_sizes_asked_for(job: Job) -> None:
    job = replace(job, parameters={"curve": "64,128"})
    whole = recorded("tensorflow")
    with pytest.raises(ParseError, match="cost of checking"):
        TENSOR.parse(job, line(whole))
    point = {
        "precision": "fp32", "size": 64, "products": 12, "mismatches": 0, "residual_worst": 0.1, "rate": 0.5,
        "unchecked_rate": 1.0,
    }  # fmt: skip
    whole["observed"]["devices"][0]["curve"] = [point, {**point, "size": 128, "rate": 0.97}]
    parsed = TENSOR.parse(job, line(whole))
    assert [a for a in parsed.answers if not a.ok] == []
    values = {m.name: m.value for m in parsed.measurements}
    assert values["tensor.check_cost.64"] == 0.5
    assert values["tensor.check_cost.128"] == pytest.approx(0.03)
    whole["observed"]["devices"][0]["curve"][0]["mismatches"] = 1
    assert wrong(job, whole) == ["cpu: mismatches among 24 products of the cost curve"]
    whole["observed"]["devices"][0]["curve"][1]["products"] = 0
    with pytest.raises(ParseError, match="no product of size 128 was compared"):
        TENSOR.parse(job, line(whole))


def test_the_share_of_products_that_were_looked_at_is_told(job: Job) -> None:
    whole = recorded("tensorflow")
    for burn in whole["observed"]["devices"][0]["burns"]:
        burn["unchecked_products"] = 2
    values = {m.name: m.value for m in TENSOR.parse(job, line(whole)).measurements}
    assert values["tensor.verified_share"] == pytest.approx(24 / 32)


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    found = [at]
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        found += paths(one, (*at, key))
    return found


PLACES = {name: [p for p in paths(recorded(name)) if p] for name in ("tensorflow", "torch")}
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=3),
    st.just({}),
)


@given(data=st.data(), value=ODD, drop=st.booleans(), framework=st.sampled_from(["tensorflow", "torch"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
def test_whatever_stands_in_any_field_there_is_a_value_or_a_parse_error(
    data: Any, value: Any, drop: bool, framework: str, job: Job
) -> None:
    whole = recorded(framework)
    *way, last = data.draw(st.sampled_from(PLACES[framework]))
    inner: Any = whole
    for key in way:
        inner = inner[key]
    if drop:
        del inner[last]
    else:
        inner[last] = value
    try:
        parsed = TENSOR.parse(replace(job, parameters={"framework": framework}), line(whole))
    except ParseError:
        return
    assert parsed.answers


@given(cut=st.integers(0, 2800), noise=st.binary(max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_output_that_is_cut_or_mixed_with_other_output_is_not_read(cut: int, noise: bytes, job: Job) -> None:
    raw = line(recorded("tensorflow"))
    with pytest.raises(ParseError):
        TENSOR.parse(job, raw[:cut] + noise + b"\n")
    with pytest.raises(ParseError):
        TENSOR.parse(job, b"I0000 CUDA is not here\n" + raw)


def test_numbers_that_json_has_not_are_not_read(job: Job) -> None:
    whole = recorded("tensorflow")
    burn_of(whole)["golden"]["tiles_worst"] = float("nan")
    with pytest.raises(ParseError, match="NaN"):
        TENSOR.parse(job, line(whole))


@pytest.mark.parametrize(
    "parameters",
    [
        {"framework": "jax"}, {"engine": "tpu"}, {"engine": "gpu"}, {"size": 100}, {"size": 1 << 20},
        {"steps": 10**6}, {"steps": 0}, {"precisions": ""}, {"precisions": "fp32,fp32"},
        {"precisions": "int8"},
        {"curve": "abc"}, {"curve": "100"}, {"curve": "64,-64"}, {"tiles": 0}, {"rounds": 0}, {"duty": 0.0},
        {"duty": 2.0}, {"period": 0.0}, {"check_every": 0}, {"blocks": 100}, {"seed": 1 << 63 | 1},
        {"inject": True}, {"inject_inputs": True}, {"batch": 0}, {"seconds": 1e9},
    ],
)  # fmt: skip
def test_parameters_out_of_range_are_refused(parameters: dict[str, Any], job: Job) -> None:
    """And so are the payload's test hooks: no profile can ask for injected faults."""
    with pytest.raises(ConfigError):
        TENSOR.prepare(replace(job, parameters=parameters))


def told(job: Job) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(TENSOR.prepare(job)[-1])
    return found


def test_the_payload_is_told_where_the_framework_lies(job: Job, torch_job: Job) -> None:
    assert told(job)["library_dir"] == "/opt/tf"
    assert TENSOR.prepare(job)[1:3] == ("-I", "-S")
    assert told(torch_job)["library_dir"] == ""
    assert TENSOR.prepare(torch_job)[:2] == ("/usr/bin/python3", "-I")
    assert "-S" not in TENSOR.prepare(torch_job)
    own = {"framework": "torch", "python": "/venv/bin/python", "library_dir": "/opt/torch"}
    argv = TENSOR.prepare(replace(job, parameters=own))
    assert argv[:3] == ("/venv/bin/python", "-I", "-S")
    assert json.loads(argv[-1])["library_dir"] == "/opt/torch"


def test_gpus_are_named_in_the_order_of_their_addresses_and_only_where_they_are_demanded(job: Job) -> None:
    both = replace(job, devices=(gpu(9), gpu(2), *job.devices))
    assert told(both)["devices"] == ["0000:02:00.0", "0000:09:00.0"]
    assert told(replace(both, parameters={"engine": "cpu"}))["devices"] == []
    assert told(job)["devices"] == []
    assert (told(both)["sizes"]["bf16"], told(both)["blocks"]) == (16384, 4)
    assert (told(job)["sizes"]["bf16"], told(job)["blocks"]) == (128, 2)


@pytest.mark.parametrize(("code", "status"), [(3, "lost"), (4, "failed"), (1, "failed")])
def test_a_payload_that_could_not_work_is_judged_by_why(
    code: int, status: str, job: Job, frame: Callable[..., bytes]
) -> None:
    raw = frame(line({"payload": "tensor", "error": "no CUDA"}), exit=code)
    assert judge(TENSOR, job, raw).status == status
