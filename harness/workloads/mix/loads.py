"""Which workloads a mix runs, and with what parameters."""

from __future__ import annotations

from collections.abc import Mapping

from harness.workloads.mix.spec import SPEC
from harness.workloads.registry import spec, specs
from harness.workloads.spec import Scalar


def mixable() -> tuple[str, ...]:
    """Names of the workloads that can be one of a mix."""
    return tuple(one.name for one in specs() if one.mixed is not None)


def parameters_in_mix(profile: Mapping[str, Mapping[str, Scalar]], name: str) -> dict[str, Scalar]:
    """The profile's for that workload, with what it says of it in a mix (``mix.vram``) laid over them."""
    return {**profile.get(name, {}), **(spec(name).mixed or {}), **profile.get(f"mix.{name}", {})}


def loads_of(given: Mapping[str, Scalar]) -> tuple[str, ...]:
    """The workloads that a mix with these parameters runs."""
    return names(str({**SPEC.defaults, **given}["loads"]))


def names(text: str) -> tuple[str, ...]:
    """The parts of a comma list."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
