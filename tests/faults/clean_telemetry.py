"""Telemetry of a host on which everything is as it should be: every load watched, every sensor well."""

from __future__ import annotations

from harness.model.gpu import GpuRef
from harness.model.pci import PciAddress
from harness.model.telemetry import (
    GpuTelemetry,
    GuestTelemetry,
    HostDeviceTelemetry,
    HostTelemetry,
    KernelLog,
    LoadWindow,
    SeriesSummary,
    Slice,
    Stretch,
)
from harness.telemetry.host.table import WATCHED, About

LOAD_SECONDS = 60.0
STARTED = 20.0
FIRST_LOAD = 25.0
PROPERTIES: dict[str, float | str | bool | None] = {
    "power_limit": 700.0,
    "power_limit_default": 700.0,
    "power_limit_max": 700.0,
    "temperature_slowdown": 89.0,
    "temperature_shutdown": 92.0,
    "temperature_gpu_max": 87.0,
    "temperature_memory_max": 95.0,
    "temperature_gpu_max_tlimit": None,
    "clock_sm_max": 1980.0,
    "clock_memory_max": 3201.0,
    "pcie_max_gen": 4.0,
    "pcie_max_width": 16.0,
    "ecc_current": True,
    "ecc_pending": True,
    "ecc_default": True,
    "sram_exceeded": False,
    "persistence": True,
    "mig": False,
    "mig_pending": False,
    "nvlink_links": 18.0,
}
VALUES: dict[str, tuple[str, float, float, float]] = {
    "power": ("W", 90.0, 690.0, 640.0),
    "energy": ("J", 1_000.0, 77_800.0, 39_400.0),
    "temperature": ("degC", 34.0, 71.0, 66.0),
    "temperature_memory": ("degC", 38.0, 83.0, 78.0),
    "clock_sm": ("MHz", 345.0, 1980.0, 1755.0),
    "clock_memory": ("MHz", 2619.0, 3201.0, 3200.0),
    "util_gpu": ("%", 0.0, 100.0, 98.0),
    "util_memory": ("%", 0.0, 62.0, 40.0),
    "util_encoder": ("%", 0.0, 0.0, 0.0),
    "util_decoder": ("%", 0.0, 55.0, 20.0),
    "pcie_gen": ("1", 1.0, 4.0, 4.0),
    "pcie_width": ("1", 16.0, 16.0, 16.0),
    "reasons": ("1", 0.0, 5.0, 4.0),
    "memory_used": ("B", 5e8, 1.4e11, 1.2e11),
    "pcie_replays": ("1", 3.0, 3.0, 3.0),
    "ecc_corrected": ("1", 0.0, 2.0, 1.0),
    "ecc_uncorrected": ("1", 0.0, 0.0, 0.0),
    "ecc_corrected_aggregate": ("1", 40.0, 42.0, 41.0),
    "ecc_uncorrected_aggregate": ("1", 0.0, 0.0, 0.0),
    "remap_corrected": ("1", 1.0, 1.0, 1.0),
    "remap_uncorrected": ("1", 0.0, 0.0, 0.0),
    "remap_pending": ("1", 0.0, 0.0, 0.0),
    "remap_failed": ("1", 0.0, 0.0, 0.0),
    "nvlink_active": ("1", 18.0, 18.0, 18.0),
    "nvlink_replay": ("1", 0.0, 0.0, 0.0),
    "nvlink_recovery": ("1", 0.0, 0.0, 0.0),
    "nvlink_crc": ("1", 5.0, 9.0, 7.0),
    "recovery_action": ("1", 0.0, 0.0, 0.0),
    "encoder_sessions": ("1", 0.0, 0.0, 0.0),
    "processes": ("1", 0.0, 2.0, 1.0),
}
"""Series to unit, first and least, last and greatest, and mean."""
STATES = ("pcie_gen", "pcie_width", "nvlink_active", "remap_pending", "remap_failed", "recovery_action")
NOT_OFFERED = {
    "temperature_margin": "degC",
    "nvlink_errors": "1",
    "retired_single_bit": "1",
    "retired_double_bit": "1",
    "retired_pending": "1",
}
"""Ada and later tell a margin, NVLink 5 its own errors; Ampere and later remap rows instead."""


def _series(name: str, count: int) -> SeriesSummary:
    if name in NOT_OFFERED:
        return SeriesSummary(
            name=name, unit=NOT_OFFERED[name], offered=False, detail="NVMLError_NotSupported"
        )
    unit, least, most, mean = VALUES[name]
    return SeriesSummary(
        name=name,
        unit=unit,
        offered=True,
        count=count,
        first=least,
        last=most,
        minimum=least,
        maximum=most,
        mean=mean,
        p50=mean,
        unchanged_seconds=0.4 if name in ("power", "energy") else 30.0,
        levels={f"{most:g}": 55.0} if name in STATES else {},
        held=(Stretch(value=most, start=FIRST_LOAD + 2.0, end=FIRST_LOAD + 57.0),) if name in STATES else (),
    )


def _slices(loads: tuple[LoadWindow, ...]) -> tuple[Slice, ...]:
    """Each load in six parts, at the power limit, which is what holds its clock back."""
    return tuple(
        Slice(
            workload=load.workload,
            key=load.key,
            start=load.start + 10.0 * part,
            end=load.start + 10.0 * (part + 1),
            samples=100,
            util_gpu=98.0,
            util_gpu_max=100.0,
            power=640.0,
            power_max=690.0,
            clock_sm=1755.0,
            temperature=66.0,
            busy=0.98,
            clock_busy=1755.0,
            clock_memory=3201.0,
            free=0.08,
            clock_free=1965.0,
            capped=0.9,
            power_capped=685.0,
        )
        for load in loads
        for part in range(6)
    )


def gpu(index: int, host: PciAddress, loads: tuple[LoadWindow, ...]) -> GpuTelemetry:
    """One GPU of a guest, well."""
    seconds = sum(load.end - load.start for load in loads)
    count = int(10 * seconds)
    return GpuTelemetry(
        index=index,
        uuid=f"GPU-0000000{index}-aaaa-bbbb-cccc-0123456789ab",
        name="NVIDIA Test 700",
        address=PciAddress(0, 0xE0 + index, 0, 0),
        gpu=GpuRef(
            host=host,
            guest=PciAddress(0, 0xE0 + index, 0, 0),
            uuid=f"GPU-0000000{index}-aaaa-bbbb-cccc-0123456789ab",
            serial=f"16531240{index:05d}",
        ),
        pci_id="10de:2335",
        serial=f"16531240{index:05d}",
        vbios="96.00.A5.00.01",
        memory_bytes=141 << 30,
        properties=dict(PROPERTIES),
        series={name: _series(name, count) for name in (*VALUES, *NOT_OFFERED)},
        reasons={"sw_power_cap": 0.9 * seconds, "hw_slowdown": 0.0, "hw_thermal": 0.0},
        settings_asked=int(seconds / 5.0) + 2,
        slices=_slices(loads),
        idle_power=90.0,
        longest_silence=0.2,
        span_seconds=seconds,
        span_covered=seconds,
        load_seconds=seconds,
        covered_seconds=seconds,
    )


def guest(name: str, workloads: tuple[str, ...], gpus: tuple[PciAddress, ...]) -> GuestTelemetry:
    """A guest whose loads ran one after the other, a minute each, and were watched."""
    loads = tuple(
        LoadWindow(
            workload=workload,
            key=f"{name}-{workload}",
            start=FIRST_LOAD + LOAD_SECONDS * number,
            end=FIRST_LOAD + LOAD_SECONDS * (number + 1),
        )
        for number, workload in enumerate(workloads)
    )
    ended = loads[-1].end + 2.0
    return GuestTelemetry(
        guest=name,
        source="nvml",
        driver="580.65.06",
        library="/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
        fast_hz=10.0,
        slow_hz=1.0,
        started=STARTED,
        ended=ended,
        closed=True,
        loads=loads,
        gpus=tuple(gpu(index, address, loads) for index, address in enumerate(gpus)),
        kernel=KernelLog(source=name, followed_from=STARTED, followed_to=ended, lines=412),
        spool=f"telemetry/{name}.spool.jsonl",
        parquet=f"telemetry/{name}.parquet",
        cpu_seconds=1.1,
    )


def host(
    gpus: tuple[PciAddress, ...], ports: tuple[PciAddress, ...], cpus: set[int], guests: tuple[str, ...] = ()
) -> HostTelemetry:
    """The host beside them: cards that show no link of their own, the ports above them, the guests' CPUs."""
    bare = [HostDeviceTelemetry(device=address, samples=60) for address in gpus]
    linked = [
        HostDeviceTelemetry(
            device=address,
            speed_gts_min=2.5,
            speed_gts_max=16.0,
            width_min=16,
            width_max=16,
            aer={"correctable": 0, "nonfatal": 0, "fatal": 0},
            samples=60,
        )
        for address in ports
    ]
    return HostTelemetry(
        started=1000.0,
        ended=1300.0,
        period_seconds=5.0,
        closed=True,
        samples=60,
        devices=(*bare, *linked),
        temperatures={
            "coretemp/Package id 0": SeriesSummary(
                name="coretemp/Package id 0",
                unit="degC",
                offered=True,
                count=60,
                first=40.0,
                last=61.0,
                minimum=40.0,
                maximum=63.0,
                mean=58.0,
                p50=60.0,
            )
        },
        foreign_tasks={str(cpu): () for cpu in sorted(cpus)},
        steal_seconds={"0": 0.0, "1": 0.01},
        hugepages_free_min={"0/2097152": 12},
        asked={
            f"{row.name} of {guest}" if row.about is About.GUEST else row.name: 40
            for row in WATCHED
            for guest in guests
        },
        kernel=KernelLog(source="host", followed_from=990.0, followed_to=1301.0, lines=77),
        spool="telemetry/host.spool.jsonl",
    )
