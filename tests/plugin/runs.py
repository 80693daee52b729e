"""A run that is driven by hand, as the fixtures of a session drive it, on a candidate host in memory."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.config.files import load_host, load_profile
from harness.model.evidence import Evidence
from harness.model.guest import GuestDemand
from harness.model.inventory import HostFile
from harness.model.record import RunRecord
from harness.plugin.demand import Demand
from harness.plugin.run import Run
from harness.progress import Progress
from harness.signals import ending_as_interrupt
from harness.stages.context import RunContext
from tests.fakes import FakeClock
from tests.stages.stand_ins import RUN, a_recorder, evidence, quiet


def a_host(directory: Path, **changes: Any) -> HostFile:
    """The lab's host file with a guest image of one's own, and GPUs by their class."""
    image = directory / "own.qcow2"
    image.write_bytes(b"QFI\xfb" + b"\0" * 100)
    fields = {"guest_image": str(image), "placement": load_host("example").placement, **changes}
    return dataclasses.replace(load_host("lab"), **fields)


def a_run(directory: Path, demands: tuple[GuestDemand, ...], host: HostFile, **changes: Any) -> Run:
    """A run of which nothing was done yet; ``changes`` are fields of what it is given, or of its demand."""
    profile = dataclasses.replace(load_profile("smoke"), boot_deadline_seconds=10.0)
    profile = changes.pop("profile", profile)
    done = changes.pop("done", frozenset())
    recorder = a_recorder(directory / "runs", host=host, profile=profile, guests=demands)
    fields: dict[str, Any] = {"clock": FakeClock(), "progress": quiet(), **changes}
    context = RunContext(
        run=RUN, recorder=recorder, host=host, profile=profile, demands=demands, **fields
    )  # fmt: skip
    demand = Demand(host=host, profile=profile, guests=demands, done=done)
    wanted = {each.request.name: each.workloads for each in demands}
    last = demand.groups[-1] if demand.groups else ""
    return Run(context, demand, (), wanted=wanted, last=last)


def known(run: Run) -> Evidence:
    """What the record says."""
    return evidence(run.context.recorder)


def driven(run: Run) -> tuple[RunRecord, bool]:
    """All groups, one after the other, and the end, as a session with the shipped suites goes; whether a
    signal or Ctrl-C broke it off."""
    broke = True
    with ending_as_interrupt(run.context.progress) as signals:
        try:
            run.reach()
            for group in run.demand.groups:
                run.provision(group)
                run.burn(group)
                run.release(group)
            run.settle()
            broke = False
        except KeyboardInterrupt:
            pass
        finally:
            record = run.close(interrupted=broke or bool(signals.came))
    return record, broke or bool(signals.came)


class Acting(Progress):
    """Progress during which something happens, once, when a stage of that name begins."""

    def __init__(self, act: Callable[[], object], when: str = "host") -> None:
        super().__init__(io.StringIO())
        self._act: Callable[[], object] | None = act
        self._when = when

    def stage(self, name: str) -> None:
        if name == self._when and self._act is not None:
            act, self._act = self._act, None
            act()


def interrupt() -> None:
    """Ctrl-C."""
    raise KeyboardInterrupt
