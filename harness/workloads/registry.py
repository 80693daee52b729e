"""Which workloads there are: one line each, the name of its folder.

A folder holds ``spec.py`` with ``SPEC`` (data) and ``answers.py`` with ``WORKLOAD`` (command line and known
answers). Both are loaded by name when they are asked for, so that whoever needs the names or the data alone
loads no judge.
"""

from __future__ import annotations

import importlib
from functools import cache

from harness.errors import ConfigError
from harness.workloads.base import Workload
from harness.workloads.spec import WorkloadSpec

NAMES = (
    "device",
    "hashing",
    "mix",
    "p2p",
    "pcie",
    "render",
    "stream",
    "tensor",
    "transcode",
    "vram",
)
"""Every workload; a test compares them with the folders beside this file."""


@cache
def spec(name: str) -> WorkloadSpec:
    """The data of the workload of that name. Raises ConfigError naming those there are."""
    _require(name)
    found: WorkloadSpec = importlib.import_module(f"harness.workloads.{name}.spec").SPEC
    return found


@cache
def workload(name: str) -> Workload:
    """The workload of that name. Raises ConfigError naming those there are."""
    _require(name)
    found: Workload = importlib.import_module(f"harness.workloads.{name}.answers").WORKLOAD
    return found


def _require(name: str) -> None:
    if name not in NAMES:
        raise ConfigError(f"unknown workload {name!r} (known: {', '.join(NAMES)})")


def specs() -> tuple[WorkloadSpec, ...]:
    """The data of all workloads, by name."""
    return tuple(spec(name) for name in NAMES)


def workloads() -> tuple[Workload, ...]:
    """All workloads, by name."""
    return tuple(workload(name) for name in NAMES)


def bare_packages() -> tuple[str, ...]:
    """Debian packages that loads use on a bare machine; the launcher installs them there."""
    named = (package for one in specs() for package in (*one.packages, *one.bare_packages))
    return tuple(dict.fromkeys(named))
