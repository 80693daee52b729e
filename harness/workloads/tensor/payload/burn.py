"""Burning one device in one precision: every product is compared, bit for bit, with one that was proven.

Inputs recur, so outputs must. When the burn starts, one product of each pair of inputs is *proven*: every
element by Freivalds' check (R. Freivalds, 1977: C x = A (B x) for random x), groups of columns apart, in
float64; sampled tiles element by element against a reference that this interpreter computes from the seeds.
Then its checksums are kept. Each later product must give the same ones.

A checksum is the sum modulo 2^64 of the output's bits, read as 64-bit words, down a word's column over 64 or
128 rows. Flipping one bit of a word changes it by 2^b or -2^b with b < 64, and neither is 0 modulo 2^64: so a
single flipped bit anywhere changes its checksum with certainty, whatever the others hold. Errors that cancel
must lie below each other in one column of words of one tile.

``products`` is what computes (``pytorch``, ``tensorflow_engine``): ``multiply``, ``check`` (adds differing
checksums to a count on the device), ``bad`` (reads and clears that count), and what a mismatch is examined
with. Nothing is read from the device more than once in a round of all pairs.
"""

from __future__ import annotations

import os
import time

import numpy as np

from harness.workloads.tensor.payload import numbers

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any

_SLICE_SECONDS = 1.0
_UNCHECKED_EVERY, _OFTEN, _UNCHECKED_LATER = 6, 60, 60
"""One slice in six is multiplied without looking, for the rate that checking is compared with: of the first
sixty; of later ones one in sixty, so that a long burn looks at nearly everything. The last products of such a
slice are looked at, too."""
_TOLD = 16
"""Mismatches that are examined and told in full; all are counted."""


class Burn:
    """One precision on one device."""

    def __init__(self, products: Any, job: dict[str, Any]) -> None:
        self.products, self.job = products, job
        self.round = self.unchecked_rounds = self.mismatches = self.proofs = self.input_checks = 0
        self.inputs_changed = 0
        self.worst: float | None = 0.0
        self.busy = self.unchecked_busy = 0.0
        self.paces: dict[bool, list[float]] = {True: [], False: []}
        """Seconds a round of each checked and each unchecked slice, by ``clock``."""
        self.clock = time.perf_counter
        self.told: list[dict[str, Any]] = []
        self.injected: list[dict[str, Any]] = []
        self.chance = job.get("inject_seed", 0)

    def run(self) -> dict[str, Any]:
        """Prove the products, burn, look at the inputs once more; all that was seen."""
        job, blocks = self.job, self.products.blocks
        golden = self._prove()
        began = time.monotonic()
        self._turns(began)
        self._look(list(range(blocks)))
        flops = 2.0 * job["size"] ** 3 * blocks
        return {
            "precision": job["precision"],
            "size": job["size"],
            "blocks": blocks,
            "golden": golden,
            "rounds": self.round,
            "products": self.round * blocks,
            "unchecked_products": self.unchecked_rounds * blocks,
            "mismatches": self.mismatches,
            "told": self.told,
            "inputs_changed": self.inputs_changed,
            "input_checks": self.input_checks,
            "freivalds": self.proofs,
            "residual_worst": self.worst,
            "seconds": time.monotonic() - began,
            "rate": _rate(flops * self.round, self.busy),
            "unchecked_rate": _rate(flops * self.unchecked_rounds, self.unchecked_busy),
            "injected": self.injected,
        }

    def _prove(self) -> dict[str, Any]:
        """Products that all later ones are held against, and how they were proven."""
        job, products = self.job, self.products
        products.multiply()
        sums = products.keep()
        size, precision, seed = job["size"], job["precision"], job["seed"]
        relative, absolute = numbers.element_bound(job["engine"], precision, size)
        worst: float | None = 0.0
        samples = []
        bits = numbers.PRECISIONS[precision][0]
        for block in range(products.blocks):
            seeds = [numbers.seed_of(seed, precision, block, which) for which in (0, 1)]
            for corner in numbers.corners(seed, precision, block, size, job["tiles"]):
                wanted = numbers.tile(seeds, bits, size, corner)
                got = products.elements(block, corner, numbers.TILE)
                error = np.abs(got - wanted) / (relative * np.abs(wanted) + absolute)
                worst = _worse(worst, numbers.finite(float(error.max())))
                samples.append(numbers.finite(float(got[0, 0])))
        self._look(list(range(products.blocks)))
        return {
            "fingerprint": numbers.fingerprint(sums),
            "freivalds": self.proofs,
            "residual_worst": self.worst,
            "tiles": job["tiles"] * products.blocks,
            "tiles_worst": worst,
            "samples": samples,
        }

    def _look(self, blocks: list[int]) -> None:
        """Freivalds' check with fresh vectors on the outputs as they lie there, and the inputs' checksums."""
        fresh = numbers.signs(int.from_bytes(os.urandom(8), "little"), self.job["size"])
        for residual in self.products.freivalds(blocks, fresh):
            self.worst = _worse(self.worst, numbers.finite(residual))
            self.proofs += 1
        for block, changed in zip(blocks, self.products.changed(blocks), strict=True):
            self.input_checks += 1
            if changed:
                self._tell({"kind": "input changed", "block": block, "iteration": self.round, "in": changed})
                self.inputs_changed += 1
                self.products.restore(block)

    def _turns(self, began: float) -> None:
        """Slices of checked and, now and then, unchecked rounds until time and rounds are reached."""
        job, per_slice, turn = self.job, 1, 0
        duty, period = job["duty"], job["period"]
        often, later = (job.get("unchecked_every", each) for each in (_UNCHECKED_EVERY, _UNCHECKED_LATER))
        length = min(_SLICE_SECONDS, job["seconds"] / 16 or _SLICE_SECONDS)
        length = min(length, duty * period / 4) if duty < 1 else length
        while self.round < job["rounds"] or time.monotonic() - began < job["seconds"]:
            if duty < 1:
                _await_load(duty, period)
            checked = bool(turn % (often if turn < _OFTEN else later))
            before = self.clock()
            spent = self._checked(per_slice) if checked else self._unchecked(per_slice)
            turn += 1
            self.paces[checked].append((self.clock() - before) / per_slice)
            per_slice = max(1, min(2 * per_slice, int(per_slice * length / max(spent, 1e-9))))
            if not job["seconds"]:
                per_slice = min(per_slice, max(1, job["rounds"] - self.round))

    def _unchecked(self, rounds: int) -> float:
        products = self.products
        products.sync()
        started = time.perf_counter()
        for _ in range(rounds):
            products.multiply()
        products.sync()
        spent = time.perf_counter() - started
        self.unchecked_rounds += rounds
        self.unchecked_busy += spent
        products.check()
        bad = products.bad()
        if any(bad):
            self._examine(bad)
        return spent

    def _checked(self, rounds: int) -> float:
        products, every = self.products, self.job["check_every"]
        products.sync()
        started = time.perf_counter()
        for _ in range(rounds):
            flip = self._inject("input") if self.job.get("inject_inputs") else None
            products.multiply()
            if self.job.get("inject"):
                flip = self._inject("output")
            products.check()
            bad = products.bad()
            if any(bad):
                self._examine(bad)
            if self.round % every == every - 1:
                self._look([self.round // every % products.blocks])
            if flip is not None:
                self._account(flip, bad)
            self.round += 1
        spent = time.perf_counter() - started
        self.busy += spent
        return spent

    def _examine(self, bad: list[int]) -> None:
        for block, count in enumerate(bad):
            if count:
                self.mismatches += 1
                if len(self.told) < _TOLD or self.job.get("inject") or self.job.get("inject_inputs"):
                    self._tell(self._explain(block))
        self.products.multiply()  # whatever was changed in passing must not be counted again
        self.products.sync()

    def _explain(self, block: int) -> dict[str, Any]:
        """What a mismatch is: read again, the inputs looked at, the product repeated and compared."""
        products = self.products
        seen: dict[str, Any] = {"block": block, "iteration": self.round}
        products.check()
        if not products.bad()[block]:
            return {**seen, "kind": "read"}
        changed = products.changed([block])[0]
        wrong = products.output(block)
        if changed:
            self.inputs_changed += 1
            products.restore(block)
        products.multiply()
        products.check()
        repeats = products.bad()[block] > 0
        apart = wrong ^ products.output(block)
        places = np.flatnonzero(apart)
        seen["kind"] = "input changed" if changed else "product" if repeats else "stored"
        seen["in"] = changed
        seen["elements"] = int(places.size)
        if places.size:
            row, column = divmod(int(places[0]), products.size)
            seen.update(row=row, column=column, bits=hex(int(apart[places[0]])))
        return seen

    def _tell(self, seen: dict[str, Any]) -> None:
        if len(self.told) < _TOLD:
            self.told.append(seen)
        self.last = seen

    def _inject(self, target: str) -> dict[str, Any]:
        """Test hook: flip one bit of one element. Whoever parses the report calls it a failure."""
        products, state = self.products, numbers.mixed(self.chance)
        self.chance = state
        width = products.input_bits if target == "input" else products.output_bits
        element = (state >> 8) % products.size**2
        flip = {
            "target": target,
            "iteration": self.round,
            "block": (state & 0xFF) % products.blocks,
            "row": element // products.size,
            "column": element % products.size,
            "bit": numbers.mixed(state) % width,
        }
        if target == "input":
            products.flip_input(flip["block"], state >> 63, element, flip["bit"])
        else:
            products.flip(flip["block"], element, flip["bit"])
        return flip

    def _account(self, flip: dict[str, Any], bad: list[int]) -> None:
        if flip["target"] == "input":
            flip["by"] = "output" if bad[flip["block"]] else "inputs"
            if not bad[flip["block"]]:
                self._look([flip["block"]])  # as the look at the end would: rounding hid it
        told = getattr(self, "last", {})
        here = told.get("iteration") == self.round and told.get("block") == flip["block"]
        others = [n for n, count in enumerate(bad) if count and n != flip["block"]]
        flip["found"] = here and not others
        if flip["target"] == "output":
            exact = (told.get("row"), told.get("column"), told.get("bits"), told.get("elements"))
            flip["located"] = exact == (flip["row"], flip["column"], hex(1 << flip["bit"]), 1)
        self.injected.append(flip)


def _await_load(duty: float, period: float) -> None:
    """Sleep through the idle part of the pulse. Phases follow the machine's clock, for all devices."""
    phase = time.monotonic() % period
    if phase >= duty * period:
        time.sleep(period - phase)


def _worse(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else max(one, other)


def _rate(flops: float, seconds: float) -> float | None:
    return flops / seconds / 1e12 if flops and seconds > 0 else None


def cost_curve(make: Any, job: dict[str, Any], sizes: list[int]) -> list[dict[str, Any]]:
    """Checked and unchecked rates over the matrix size, TFLOP/s: a short burn at each.

    Rates of the median slice, since a short burn on a machine with other work is easily disturbed; on a
    processor by the seconds that it worked for us.
    """
    found = []
    for size in sizes:
        products = make(job["precision"], size)
        try:
            # Both rates from slices in turn, so that both see the same machine.
            short = {
                "unchecked_every": 2,
                **job,
                "size": size,
                "seconds": job["curve_seconds"],
                "rounds": 6,
                "duty": 1.0,
                "tiles": 1,
            }
            burn = Burn(products, short)
            burn.clock = time.process_time if job["engine"].startswith("cpu:") else time.perf_counter
            seen = burn.run()
        finally:
            products.close()
        keys = ("precision", "size", "products", "mismatches", "residual_worst")
        flops = 2.0 * size**3 * products.blocks
        rates = {
            name: _rate(flops, sorted(burn.paces[checked])[len(burn.paces[checked]) // 2])
            for name, checked in (("rate", True), ("unchecked_rate", False))
        }
        found.append({**{key: seen[key] for key in keys}, **rates})
    return found
