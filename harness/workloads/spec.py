"""What a workload is, as data: all that a profile, a document, an image or a GPU model has to know of it.

Each folder of a workload has one in its ``spec.py``, which imports nothing heavier than this: a profile is
read, and ``--help`` answered, without what judges answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.model.sku import Sku

Scalar = int | float | str | bool

Fit = Callable[[Mapping[str, Scalar], Sequence[Sku]], dict[str, Scalar]]
"""Parameters and the GPUs' models, all known, to parameters with what the models decide where the profile
leaves it open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFigure:
    """A figure of GPU models (``inventory/skus``) that measurements of a workload are held to."""

    name: str
    unit: str
    measurements: tuple[str, ...]
    """Names; what stands before the first dot is the workload."""
    plausible: tuple[float, float] | None = None
    """Least and most that a model's file may say: GPUs from 2018 on with room to spare; outside, a unit was
    confused. None: nothing is held to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The workload's line in the README's table and its line in the table of the guest image contract."""

    does: str
    proves: str
    engines: str
    needs: str = ""
    """In the guest, beyond what every guest has."""
    needs_with_gpus: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSpec:
    """One workload. Its folder is ``harness/workloads/<name>``."""

    name: str
    """As profiles name it."""
    title: str
    """What it does, for the report."""
    defaults: Mapping[str, Scalar]
    """Every parameter with its default: also the list of known names and types."""
    row: Row
    packages: tuple[str, ...] = ()
    """Debian packages that its payload needs beside ``python3``, in a guest and on a bare machine."""
    gpu_packages: tuple[str, ...] = ()
    """More of them in a guest with GPUs that loads compute on."""
    bare_packages: tuple[str, ...] = ()
    """More of them on a bare machine without GPUs: too heavy for a guest."""
    engines: tuple[str, ...] = ()
    """Engines of a GPU model without all of which it has nothing to run on; empty: every GPU has what it
    needs."""
    least_gpus: int = 0
    """GPUs that loads compute on, without which it has nothing to do."""
    needs_devices: bool = False
    """Whether it is about devices handed over, and runs only in a guest that has one."""
    figures: tuple[ModelFigure, ...] = ()
    mixed: Mapping[str, Scalar] | None = None
    """None: it is never one of a mix. Else the parameters that are laid over the profile's there."""
    fit: Fit | None = None
    """None: its parameters are the same on every model."""
    keeps_gpus_busy: bool = False
    """Whether a GPU that it runs on computes all the time, which its use and power must show."""
    extra_jobs: tuple[str, ...] = ()
    """Modules of its payload that are started beside ``job``."""

    @property
    def job(self) -> str:
        """The module of its payload that is started."""
        return self.payload("job")

    def payload(self, module: str) -> str:
        """Full name of a module of its payload."""
        return f"harness.workloads.{self.name}.payload.{module}"

    @property
    def jobs(self) -> tuple[str, ...]:
        """All modules of its payload that are started."""
        return (self.job, *(self.payload(module) for module in self.extra_jobs))
