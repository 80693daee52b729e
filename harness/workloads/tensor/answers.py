"""Matrix products in every precision and a training run, by TensorFlow or PyTorch, held against references
computed here. A burn's products are compared with proven ones, bit for bit. ``tensor.verified_share`` says
how many: a few are multiplied without looking, for the rate that the cost of checking is measured by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.errors import ConfigError, ParseError
from harness.model.evidence import Answer
from harness.model.outcome import Measurement
from harness.vendors import loads
from harness.workloads.base import (
    Job,
    Observation,
    Parsed,
    command,
    demanded_engine,
    exact,
    gpus,
    measure,
    rate,
    report_of,
    settings,
)
from harness.workloads.entries import settled
from harness.workloads.spec import WorkloadSpec
from harness.workloads.tensor.judging import Burned, burn_answers, read_burn, training_answers
from harness.workloads.tensor.reference import PRECISIONS
from harness.workloads.tensor.spec import SPEC

FRAMEWORKS = ("tensorflow", "torch")
_SIZES = {"fp64": 6144, "fp32": 8192, "tf32": 12288, "fp16": 16384, "bf16": 16384, "fp8": 16384}
"""Of a GPU's matrices. A check reads each output once, which at n = 8192 in bf16 is some 3 % of a fast card's
product and halves when n doubles; slower precisions can be smaller. Four pairs and their products, and as
many new products again, take at most 10 GiB, so that a card of 16 GiB holds them; and a T4, with 0.25 TFLOP/s
in fp64, does a round of them in seconds."""
_CPU_SIZE = 128
_EVERYWHERE = ("fp64", "fp32", "fp16")
"""Precisions that every GPU and both frameworks have (the makers' programming guides, arithmetic)."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """TensorFlow through its C API, or PyTorch; on every GPU of the guest at once, or on the processor."""

    spec: WorkloadSpec = SPEC

    def _given(self, job: Job) -> dict[str, Any]:
        given = settings(SPEC, job)
        wrong = _wrong(given)
        if wrong:
            raise ConfigError(f"workload tensor: {wrong}")
        gpu = demanded_engine(job, given["engine"]) == "gpu"
        given["gpus"] = gpus(job) if gpu else ()
        given["name"] = f"{loads.COMPUTE if gpu else 'cpu'}:{given['framework']}"
        given["precisions"] = _names(given["precisions"])
        given["curve"] = [int(text) for text in given["curve"].split(",") if text]
        given["blocks"] = given["blocks"] or (4 if gpu else 2)
        size = given["size"]
        given["sizes"] = {p: size or (_SIZES[p] if gpu else _CPU_SIZE) for p in PRECISIONS}
        return given

    def prepare(self, job: Job) -> tuple[str, ...]:
        """The payload's command line. Raises ConfigError for parameters it cannot take."""
        given = self._given(job)
        own = given["framework"] == "torch" and not given["library_dir"]
        names = (
            "framework", "precisions", "size", "sizes", "blocks", "seconds", "rounds", "tiles", "check_every",
            "duty", "period", "curve", "curve_seconds", "seed", "batch", "width", "hidden", "steps",
            "learning_rate",
        )  # fmt: skip
        arguments = {
            **{name: given[name] for name in names},
            "devices": [str(gpu.address) for gpu in given["gpus"]],
            "library_dir": given["library_dir"] or ("" if own else job.place.tensorflow),
            "threads": job.vcpus,
            "folder": f"{job.place.work}/{job.key}",
        }
        python, *rest = command(job, SPEC.job, arguments)
        # PyTorch is where its interpreter keeps its packages, unless a directory is named.
        options = [word for word in rest if word != "-S"] if own else rest
        return (given["python"] or python, *options)

    def parse(self, job: Job, stdout: bytes) -> Parsed:
        """Compare what each device did with what it must have done.

        Raises ParseError, also for a device that nothing is known of and a precision that the framework does
        not offer, unless another answer is wrong: that one stands.
        """
        given = self._given(job)
        seen, engine, versions = report_of(SPEC, stdout)
        absent = _unable(seen)
        unknown = [f"{device}: {why}" for device, why in absent.items()]
        due = [str(gpu.address) for gpu in given["gpus"]] or ["cpu"]
        due = [device for device in due if device not in absent]
        parts = [Observation(item, "tensor.device") for item in seen.items("devices")]
        told = [part.text("device") for part in parts]
        if len(set(told)) != len(told):
            raise ParseError("tensor: a device is listed twice")
        answers = [
            exact("engine", given["name"], engine),
            exact("devices that computed", ", ".join(due), ", ".join(told)[:200]),
        ]
        measurements: list[Measurement] = []
        burned: dict[str, tuple[Burned, ...]] = {}
        references: dict[tuple[str, int], list[float]] = {}
        for part in parts:
            name = part.text("device")
            burned[name] = tuple(read_burn(item) for item in part.items("burns"))
            lacking = part.text("unable")[:500] if "unable" in part.names() else ""
            seconds = 0.0 if lacking else _share(given, burned[name])
            for burn in burned[name]:
                answers += burn_answers(name, burn, given, seconds, references)
            if lacking:  # the rest of it is not all there
                unknown.append(lacking)
                continue
            answers += _device(part, given, burned[name], unknown)
            answers += _curve(part, given, measurements)
            answers += training_answers(name, part.inner("training"), given)
            measurements += _measurements(part, name, burned[name])
        answers += _same_bits(given, burned)
        held = settled("tensor", answers, (), unknown)
        return Parsed(engine=engine, answers=held, measurements=tuple(measurements), versions=versions)


def _wrong(given: dict[str, Any]) -> str:
    """What cannot be among the parameters; empty when all can."""
    names, plain = _names(given["precisions"]), given["curve"].replace(",", "0")
    sizes = [given["size"] or 64]
    sizes += [int(text) for text in given["curve"].split(",") if text and plain.isdecimal()]
    fine = {
        f"framework must be one of {', '.join(FRAMEWORKS)}": given["framework"] in FRAMEWORKS,
        f"precisions must be auto, or some of {', '.join(PRECISIONS)} with commas between them": (
            given["precisions"] == "auto" or 0 < len(names) == len(set(names) & set(PRECISIONS))
        ),
        "curve must be sizes with commas between them": not plain or plain.isdecimal(),
        "sizes must be multiples of 64 from 64 to 65536": all(
            64 <= size <= 65536 and not size % 64 for size in sizes
        ),
        "blocks must be at most 64, tiles 1 to 64": given["blocks"] <= 64 and 1 <= given["tiles"] <= 64,
        "rounds and check_every must be at least 1": given["rounds"] >= 1 and given["check_every"] >= 1,
        "steps must be 1 to 10000": 1 <= given["steps"] <= 10_000,
        "duty must be 0.01 to 1": 0.01 <= given["duty"] <= 1,
        "period must be 0.01 to 3600 seconds": 0.01 <= given["period"] <= 3600,
        "seconds must be at most 10^6": given["seconds"] <= 1e6,
        "batch, width and hidden must be 1 to 65536": all(
            1 <= given[name] <= 1 << 16 for name in ("batch", "width", "hidden")
        ),
        "seed must be below 2^63": given["seed"] < 1 << 63,
    }
    return next((words for words, holds in fine.items() if not holds), "")


def _names(text: str) -> list[str]:
    return [] if text == "auto" else text.split(",")


def _share(given: dict[str, Any], burned: tuple[Burned, ...]) -> float:
    """Seconds that each precision must have burned."""
    return float(given["seconds"]) / len(burned) if burned else 0.0


def _required(part: Observation, given: dict[str, Any]) -> set[str]:
    """Precisions that must have been burned where the profile does not name them: by what the device is."""
    found = set(_EVERYWHERE)
    if not given["gpus"]:
        return found | {"bf16"}
    numbers = part.items("capability")
    if len(numbers) != 2 or any(type(n) is not int or not 0 < n + 1 < 100 for n in numbers):
        raise ParseError("tensor: a compute capability is two small numbers")
    if numbers >= [8, 0]:
        found |= {"tf32", "bf16"}
    if numbers >= [8, 9] and given["framework"] == "torch":
        found.add("fp8")
    return found


def _unable(seen: Observation) -> dict[str, str]:
    """Devices whose process lacked something, and what."""
    items = seen.items("unable") if "unable" in seen.names() else []
    parts = [Observation(item, "tensor.unable") for item in items]
    return {part.text("device")[:80]: part.text("error")[:500] for part in parts}


def _device(
    part: Observation, given: dict[str, Any], burned: tuple[Burned, ...], unknown: list[str]
) -> list[Answer]:
    """What must hold of a device as a whole; ``unknown`` gets the precisions that its framework has not."""
    name, offered = part.text("device"), part.inner("offered")
    why = {precision: offered.text(precision)[:200] for precision in PRECISIONS}
    if set(offered.names()) != set(PRECISIONS):
        raise ParseError("tensor: a precision is missing from the list of supported ones")
    done = [burn.precision for burn in burned]
    if len(set(done)) != len(done):
        raise ParseError("tensor: a precision was burned twice")
    demanded = set(given["precisions"])
    if not demanded:
        demanded = _required(part, given) | {p for p, reason in why.items() if not reason}
    lacking = [p for p in PRECISIONS if p in demanded - set(done) and why[p]]
    unknown += [f"{name}: {p} is not supported: {why[p]}" for p in lacking]
    demanded -= set(lacking)
    missing = ", ".join(p for p in PRECISIONS if p in demanded - set(done))
    ordered = ", ".join(p for p in PRECISIONS if p in demanded)
    answers = [
        exact(
            f"{name}: precisions",
            ordered,
            ", ".join(p for p in PRECISIONS if p in done),
            f"not burned: {missing}" if missing else "",
        ),
        exact(f"{name}: engine", given["name"], part.text("engine")[:80]),
    ]
    if given["gpus"]:
        answers.append(
            exact(f"{name}: the GPU that {loads.DRIVER_WORDS} showed", name, part.text("address")[:80])
        )
    return answers


def _cost(burn: Burned) -> float | None:
    checked, unchecked = burn.rate, burn.unchecked_rate
    return None if checked is None or not unchecked else 1.0 - checked / unchecked


def _measurements(part: Observation, name: str, burned: tuple[Burned, ...]) -> list[Measurement]:
    """Rates of every precision there is: one that was not burned has no value."""
    subject = "" if name == "cpu" else name
    found = []
    mine = {burn.precision: burn for burn in burned}
    for precision in PRECISIONS:
        burn = mine.get(precision)
        unchecked = burn.unchecked_rate if burn else None
        found += [
            measure(f"tensor.{precision}.rate", burn.rate if burn else None, "TFLOP/s", subject=subject),
            measure(f"tensor.{precision}.unchecked_rate", unchecked, "TFLOP/s", subject=subject),
            measure(f"tensor.{precision}.check_cost", _cost(burn) if burn else None, "1", subject=subject),
        ]
    costs = [_cost(burn) for burn in burned]
    worst = max((c for c in costs if c is not None), default=None) if None not in costs else None
    products = float(sum(burn.products for burn in burned))
    unseen = float(sum(burn.unchecked for burn in burned))
    return [
        *found,
        measure("tensor.check_cost", worst, "1", subject=subject),
        measure("tensor.products", products, "1", subject=subject),
        measure("tensor.verified_share", rate(products, products + unseen), "1", subject=subject),
        measure("tensor.import_time", part.seconds("import_seconds"), "s", subject=subject),
        measure("tensor.numpy_import_time", part.seconds("numpy_seconds"), "s", subject=subject),
    ]


def _curve(part: Observation, given: dict[str, Any], measurements: list[Measurement]) -> list[Answer]:
    name = part.text("device")
    sizes, wrong, products = [], 0, 0
    for item in part.items("curve"):
        seen = Observation(item, "tensor.curve")
        size = seen.integer("size", bits=32)
        sizes.append(size)
        wrong += seen.integer("mismatches")
        done = seen.integer("products")
        if not done:
            raise ParseError(f"tensor: no product of size {size} was compared for the cost curve")
        products += done
        checked, unchecked = seen.optional("rate"), seen.optional("unchecked_rate")
        share = None if checked is None or not unchecked else 1.0 - checked / unchecked
        subject = "" if name == "cpu" else name
        measurements.append(measure(f"tensor.check_cost.{size}", share, "1", subject=subject))
    if sizes != given["curve"]:
        raise ParseError(f"tensor: the cost of checking was measured at {sizes[:20]}, not {given['curve']}")
    if not sizes:
        return []
    return [exact(f"{name}: mismatches among {products} products of the cost curve", 0, wrong)]


def _same_bits(given: dict[str, Any], burned: dict[str, tuple[Burned, ...]]) -> list[Answer]:
    """GPUs of one model must turn the same inputs into the same bits."""
    answers = []
    models: dict[str, list[str]] = {}
    for gpu in given["gpus"]:
        models.setdefault(f"{gpu.vendor}:{gpu.device}", []).append(str(gpu.address))
    for model, addresses in models.items():
        prints: dict[str, dict[str, int]] = {}
        for address in addresses:
            for burn in burned.get(address, ()):
                prints.setdefault(burn.precision, {})[address] = burn.fingerprint
        for precision, each in prints.items():
            if len(each) < 2:
                continue
            values = list(each.values())
            common = max(sorted(set(values)), key=values.count)
            other = [address for address, value in each.items() if value != common]
            answers.append(
                exact(
                    f"{precision}: {model} GPUs whose products differ from the others'", "", ", ".join(other)
                )
            )
    return answers


WORKLOAD = Tensor()
