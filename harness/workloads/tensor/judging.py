"""One device's burns and training, read strictly and compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.errors import ParseError
from harness.model.evidence import Answer
from harness.workloads.base import Observation, at_least, at_most, exact
from harness.workloads.tensor.reference import (
    PRECISIONS,
    loss_tolerance,
    reference_losses,
    residual_bound,
    sample_ratio,
    sampled,
)

KINDS = {
    "stored": "the output was stored wrong: read again it was as wrong, multiplied again it was right",
    "read": "it read wrong once: read again it was right",
    "product": "the device multiplies the same inputs to other bits now",
    "input changed": "an input lay changed in memory",
}
"""What a mismatch can be, as the payload names it."""
_REFERENCE_TOLERANCE = 1e-9
"""Two float64 runs of the same steps differ by reordered sums only: some 1e-13."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Burned:
    """What one device said of its burn in one precision."""

    precision: str
    size: int
    blocks: int
    rounds: int
    products: int
    unchecked: int
    """Products that nobody looked at."""
    mismatches: int
    inputs_changed: int
    input_checks: int
    proofs: int
    residual: float | None
    golden_proofs: int
    golden_residual: float | None
    tiles: int
    tiles_worst: float | None
    samples: tuple[float | None, ...]
    fingerprint: int
    injected: int
    first: str
    """The first mismatch in words."""
    told: int
    seconds: float
    rate: float | None
    unchecked_rate: float | None


def read_burn(item: Any) -> Burned:
    """Field by field. Raises ParseError for what cannot be."""
    seen = Observation(item, "tensor.burn")
    golden, precision = seen.inner("golden"), seen.text("precision")
    if precision not in PRECISIONS:
        raise ParseError(f"tensor: unknown precision {precision[:40]!r}")
    told = [Observation(one, "tensor.told") for one in seen.items("told")]
    samples = tuple(
        Observation({"value": value}, "tensor.samples").optional("value") for value in golden.items("samples")
    )
    return Burned(
        precision=precision,
        size=seen.integer("size", bits=32),
        blocks=seen.integer("blocks", bits=32),
        rounds=seen.integer("rounds"),
        products=seen.integer("products"),
        unchecked=seen.integer("unchecked_products"),
        mismatches=seen.integer("mismatches"),
        inputs_changed=seen.integer("inputs_changed"),
        input_checks=seen.integer("input_checks"),
        proofs=seen.integer("freivalds"),
        residual=seen.optional("residual_worst"),
        golden_proofs=golden.integer("freivalds"),
        golden_residual=golden.optional("residual_worst"),
        tiles=golden.integer("tiles"),
        tiles_worst=golden.optional("tiles_worst"),
        samples=samples,
        fingerprint=golden.integer("fingerprint"),
        injected=len(seen.items("injected")),
        first=_mismatch(told[0]) if told else "",
        told=len(told),
        seconds=seen.seconds("seconds"),
        rate=_rate(seen, "rate"),
        unchecked_rate=_rate(seen, "unchecked_rate"),
    )


def _rate(seen: Observation, name: str) -> float | None:
    value = seen.optional(name)
    if value is not None and value <= 0:
        raise ParseError(f"tensor: {name} {value:g} cannot be")
    return value


def _mismatch(one: Observation) -> str:
    kind = one.text("kind")
    if kind not in KINDS:
        raise ParseError(f"tensor: unknown kind of mismatch {kind[:40]!r}")
    words = f"first: block {one.integer('block')}, iteration {one.integer('iteration')}; {KINDS[kind]}"
    if "row" in one.names():
        where = f"row {one.integer('row')}, column {one.integer('column')}, bits {one.text('bits')[:20]}"
        words += f"; {one.integer('elements')} elements, the first in {where}"
    return words


def burn_answers(
    name: str,
    burn: Burned,
    given: dict[str, Any],
    seconds: float,
    references: dict[tuple[str, int], list[float]],
) -> list[Answer]:
    """Everything that must hold of one burn. Raises ParseError where the report contradicts itself.

    ``references`` keeps what was worked out for other devices: the same products are due of all.
    """
    _consistent(burn, given)
    about, engine, size = f"{name} {burn.precision}", given["name"], burn.size
    bound = residual_bound(engine, burn.precision, size)
    residual = None if burn.residual is None else burn.residual / bound
    golden = None if burn.golden_residual is None else burn.golden_residual / bound
    least = given["rounds"] * burn.blocks
    looks = burn.golden_proofs + burn.rounds // given["check_every"] + burn.blocks
    answers = [
        exact(f"{about}: products with other bits", 0, burn.mismatches, burn.first),
        exact(f"{about}: inputs that changed in memory", 0, burn.inputs_changed, burn.first),
        exact(f"{about}: faults injected on purpose", 0, burn.injected, "a run with injected faults"),
        at_least(f"{about}: products verified", least, burn.products, ""),
        at_most(f"{about}: Freivalds residual of the first products over the bound", 1.0, golden),
        at_most(f"{about}: worst Freivalds residual over the bound", 1.0, residual),
        at_least(f"{about}: Freivalds checks", looks, burn.proofs, ""),
        at_least(f"{about}: looks at the inputs", looks, burn.input_checks, ""),
        at_most(f"{about}: worst element of {burn.tiles} tiles over the bound", 1.0, burn.tiles_worst),
        at_most(
            f"{about}: worst of {len(burn.samples)} elements against exact integers, over the bound",
            1.0,
            _samples(burn, given, references),
        ),
    ]
    if seconds:
        answers.append(at_least(f"{about}: seconds burned", seconds * 0.99, burn.seconds, "s"))
    return answers


def _consistent(burn: Burned, given: dict[str, Any]) -> None:
    wanted = (given["sizes"][burn.precision], given["blocks"])
    if (burn.size, burn.blocks) != wanted:
        raise ParseError(
            f"tensor: {burn.blocks} blocks of size {burn.size} instead of {wanted[1]} of {wanted[0]}"
        )
    tiles = given["tiles"] * burn.blocks
    if burn.tiles != tiles or len(burn.samples) != tiles or burn.golden_proofs != burn.blocks:
        raise ParseError("tensor: not every first product was proven")
    if burn.products != burn.rounds * burn.blocks:
        raise ParseError("tensor: the products are not those of the rounds")
    if burn.told > burn.mismatches + burn.inputs_changed or bool(burn.told) != bool(
        burn.mismatches + burn.inputs_changed
    ):
        raise ParseError("tensor: mismatches counted and mismatches told contradict each other")


def _samples(
    burn: Burned, given: dict[str, Any], references: dict[tuple[str, int], list[float]]
) -> float | None:
    worst = 0.0
    for block in range(burn.blocks):
        key = (burn.precision, block)
        if key not in references:
            references[key] = sampled(given["seed"], burn.precision, block, burn.size, given["tiles"])
        mine = burn.samples[block * given["tiles"] : (block + 1) * given["tiles"]]
        for got, wanted in zip(mine, references[key], strict=True):
            ratio = sample_ratio(given["name"], burn.precision, burn.size, got, wanted)
            if ratio is None:
                return None
            worst = max(worst, ratio)
    return worst


def _pair(seen: Observation, name: str) -> tuple[float | None, float | None]:
    values = seen.items(name)
    if len(values) != 2:
        raise ParseError(f"tensor: {name} should be the first and the last loss")
    both = Observation({"first": values[0], "last": values[1]}, f"tensor.{name}")
    return both.optional("first"), both.optional("last")


def _apart(got: float | None, wanted: float) -> float | None:
    return None if got is None else abs(got - wanted) / abs(wanted) if wanted else abs(got)


def training_answers(name: str, seen: Observation, given: dict[str, Any]) -> list[Answer]:
    """Losses against float64, and the same bits before and after the burn. Raises ParseError."""
    if seen.integer("steps") != given["steps"]:
        raise ParseError(f"tensor: {seen.integer('steps')} steps instead of {given['steps']}")
    first, last = _pair(seen, "losses")
    there = _pair(seen, "reference_losses")
    wanted = reference_losses(given)
    tolerance = loss_tolerance(given["steps"], given["batch"], given["width"], given["hidden"])
    fallen = last / first if first and last is not None else None
    words = f"float64 says {wanted[0]:.9g} and {wanted[1]:.9g}; {given['framework']} {first} and {last}"
    return [
        at_most(f"{name}: first loss, relative to float64", tolerance, _apart(first, wanted[0]), words),
        at_most(f"{name}: last loss, relative to float64", tolerance, _apart(last, wanted[1]), words),
        at_most(f"{name}: share of the loss left after training", given["max_loss_share"], fallen),
        at_most(f"{name}: its own float64 reference", _REFERENCE_TOLERANCE, _apart(there[1], wanted[1])),
        at_least(f"{name}: trainings", 2, seen.integer("times"), ""),
        exact(f"{name}: trainings that ended in other bits", 0, seen.integer("differing")),
    ]
