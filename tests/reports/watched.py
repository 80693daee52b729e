"""Telemetry of the example runs: a stand-in in the lab, real cards on the larger host, and trouble."""

from __future__ import annotations

from dataclasses import replace

from harness.model.outcome import Action
from harness.model.pci import PciAddress
from harness.model.telemetry import (
    Family,
    Gap,
    GuestTelemetry,
    HostTelemetry,
    KernelEvent,
    KernelLog,
    LoadWindow,
    Ruling,
)
from tests.faults import clean_telemetry

BUS_LINE = "NVRM: Xid (PCI:0000:16:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."


def guest(
    name: str, workloads: tuple[str, ...], gpus: tuple[PciAddress, ...], *, run: str, standin: str, bad: bool
) -> GuestTelemetry:
    """A guest that was watched; ``bad``: a gap, a lost card, a line in the kernel log."""
    clean = clean_telemetry.guest(name, workloads, gpus)
    loads = tuple(replace(load, key=f"{run}-{name}-{load.workload}") for load in clean.loads)
    found = replace(clean, loads=loads, standin=standin, spool="", parquet="")
    if standin:
        cards = tuple(replace(gpu, name="Stand-in GPU 16G", vbios="") for gpu in found.gpus)
        found = replace(found, gpus=cards, driver="stand-in", library="/opt/shakedown/libnvidia-ml.so.1")
    return _troubled(found, loads) if bad else found


def _troubled(found: GuestTelemetry, loads: tuple[LoadWindow, ...]) -> GuestTelemetry:
    last = loads[-1]
    gap = Gap(start=last.start + 21.0, end=last.end, reason="NVMLError_GpuIsLost")
    lost = replace(
        found.gpus[1],
        gaps=(gap,),
        covered_seconds=found.gpus[1].load_seconds - gap.seconds,
        vanished=f"at {gap.start:.1f} s: NVMLError_GpuIsLost",
        reasons={"hw_thermal": 31.0, "sw_power_cap": 12.0},
    )
    event = KernelEvent(
        source=found.guest,
        at=gap.start - 0.25,
        family=Family.XID,
        line=BUS_LINE,
        code=79,
        device=found.gpus[1].host_address,
        inside=found.gpus[1].address,
        ruling=Ruling.STOP,
        meaning="GPU has fallen off the bus",
        action=Action.REPLACE_GPU,
    )
    assert found.kernel is not None
    return replace(
        found,
        gpus=(found.gpus[0], lost, *found.gpus[2:]),
        kernel=replace(found.kernel, events=(event,)),
        hung=(f"nvmlDeviceGetPowerUsage on GPU 1 ({lost.uuid}) at {gap.start:.1f} s",),
    )


def host(gpus: tuple[PciAddress, ...], ports: tuple[PciAddress, ...], cpus: set[int]) -> HostTelemetry:
    """The host beside them."""
    clean = clean_telemetry.host(gpus, ports, cpus)
    return replace(clean, spool="", kernel=KernelLog(source="host", followed_from=990.0, followed_to=1301.0))
