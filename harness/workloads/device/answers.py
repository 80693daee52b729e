"""The handed-over devices themselves, exercised from inside the guest, each kind in its own way."""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass

from harness.errors import ConfigError, ParseError, WorkloadError
from harness.model.evidence import Answer, ResidueTrial
from harness.model.outcome import Measurement
from harness.model.pci import PciAddress
from harness.vendors.edu.payload.device import BLOCK, keystream
from harness.workloads.base import (
    GuestDevice,
    Job,
    Observation,
    Parsed,
    command,
    exact,
    measure,
    rate,
    report_of,
    settings,
)
from harness.workloads.device import remanence as residue
from harness.workloads.device.spec import SPEC
from harness.workloads.spec import WorkloadSpec

_NUMBERS = (5, 12, 20, 10, 13, 33, 7, 16)
"""What factorials are asked of; 13 and more overflow 32 bits, 34 and more give 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What one device was asked, the same for prepare and parse."""

    liveness: int
    factorials: tuple[int, ...]
    rounds: int
    interrupts: int
    residue: bool
    seed: int


Judge = Callable[[str, Observation, _Asked, GuestDevice], tuple[list[Answer], list[Measurement]]]


def _edu(
    name: str, seen: Observation, asked: _Asked, _device: GuestDevice
) -> tuple[list[Answer], list[Measurement]]:
    """QEMU's ``edu``, the stand-in accelerator (QEMU ``docs/specs/edu.rst``)."""
    results = seen.inner("factorials")
    checksums = seen.items("dma_checksums")
    wanted = [zlib.crc32(keystream(asked.seed + turn, BLOCK)) for turn in range(asked.rounds)]
    answers = [
        exact(
            f"{name} identification", "..00ed", f"..{seen.integer('identification', bits=32) & 0xFFFF:04x}"
        ),
        exact(f"{name} liveness", asked.liveness ^ 0xFFFFFFFF, seen.integer("liveness", bits=32)),
    ]
    for number in asked.factorials:
        expected = math.factorial(number) % (1 << 32)
        answers.append(exact(f"{name} {number}!", expected, results.whole_or_none(str(number), bits=32)))
    answers += [
        exact(f"{name} DMA out and back", str(wanted), str(checksums), f"CRC-32 of {BLOCK} bytes each"),
        exact(f"{name} interrupts", asked.interrupts, seen.integer("interrupts", bits=32)),
    ]
    if asked.residue:
        answers.append(exact(f"{name} final write", True, seen.flag("planted")))
    spent = seen.seconds("dma_seconds")
    speed = rate(2 * BLOCK * asked.rounds, spent)
    return answers, [measure("device.dma_rate", speed, "B/s", subject=name)]


def _nvidia(
    name: str, seen: Observation, _asked: _Asked, device: GuestDevice
) -> tuple[list[Answer], list[Measurement]]:
    """An NVIDIA GPU: NVML knows it at that address, with an identity and memory."""
    memory = seen.integer("memory_bytes")
    bus = seen.text("bus_id")
    try:
        where = str(PciAddress.parse(bus))
    except ValueError:
        raise ParseError(f"device: NVML's bus id is no PCI address: {bus[:40]!r}") from None
    answers = [
        exact(f"{name} address by NVML", str(device.address), where),
        exact(f"{name} has a UUID", True, seen.text("uuid").startswith("GPU-"), seen.text("uuid")[:80]),
        exact(f"{name} has memory", True, memory > 0, f"{memory} bytes, {seen.text('name')[:80]}"),
    ]
    return answers, [measure("device.memory", float(memory), "B", subject=name)]


JUDGES: tuple[tuple[str, str | None, str, Judge], ...] = (
    ("1234", "11e8", "device_edu", _edu),
    ("10de", None, "device_nvidia", _nvidia),
)
"""Vendor, device (None: any), the payload module that exercises it and how its observation is judged. The
payload's ``EXERCISERS`` is the same list; a test compares them."""


def _judge(device: GuestDevice) -> tuple[str, Judge] | None:
    return next(
        ((module, judge) for vendor, kind, module, judge in JUDGES if device.vendor == vendor
         and kind in (None, device.device)),
        None,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Device:
    """Registers, computing, DMA through the IOMMU and interrupts of each device handed over."""

    spec: WorkloadSpec = SPEC

    def _asked(self, job: Job) -> _Asked:
        given = settings(SPEC, job)
        if not 1 <= given["factorials"] <= len(_NUMBERS):
            raise ConfigError(f"workload device: factorials must be 1 to {len(_NUMBERS)}")
        if not 1 <= given["dma_rounds"] <= 100_000 or not 1 <= given["interrupts"] <= 100_000:
            raise ConfigError("workload device: dma_rounds and interrupts must be 1 to 100,000")
        stream = hashlib.sha256(f"{job.tenant}\n{job.key}".encode()).digest()
        return _Asked(
            liveness=int.from_bytes(stream[:4], "little"),
            factorials=_NUMBERS[: given["factorials"]],
            rounds=given["dma_rounds"],
            interrupts=given["interrupts"],
            residue=given["residue"],
            seed=int.from_bytes(stream[4:12], "little") >> 1,
        )

    def prepare(self, job: Job) -> tuple[str, ...]:
        """The payload's command line. Raises ConfigError, and WorkloadError without any device."""
        asked, devices = self._asked(job), due(job)
        if not devices:
            raise WorkloadError(f"{job.guest} has no device to exercise", remedy="request a GPU")
        arguments = {
            "devices": [{"address": str(d.address), "vendor": d.vendor, "device": d.device} for d in devices],
            "run_key": job.tenant,
            "binding": job.place.binding,
            "liveness": asked.liveness,
            "factorials": list(asked.factorials),
            "dma_rounds": asked.rounds,
            "interrupts": asked.interrupts,
            "seed": asked.seed,
            "residue_scan": asked.residue,
            "residue_word": residue.word(job),
            "residue_plant": asked.residue,
        }
        return command(job, SPEC.job, arguments)

    def parse(self, job: Job, stdout: bytes) -> Parsed:
        """Each device's answers. Raises ParseError, also when a device could not be looked at."""
        asked = self._asked(job)
        whole, engine, versions = report_of(SPEC, stdout)
        answers: list[Answer] = []
        measurements = [measure("device.time", whole.seconds("seconds"), "s")]
        for device, entry in _entries(job, whole):
            known = _judge(device)
            error = entry.text_or_none("error")
            if known is None or error is not None:
                raise ParseError(f"device {device.address}: {(error or 'unknown device')[:500]}")
            if entry.text("exerciser") != known[0]:
                raise ParseError(f"device {device.address}: exercised by {entry.text('exerciser')[:80]!r}")
            more, measured = known[1](str(device.address), entry.inner("observed"), asked, device)
            answers += more
            measurements += measured
        return Parsed(
            engine=engine, answers=tuple(answers), measurements=tuple(measurements), versions=versions
        )


def due(job: Job) -> tuple[GuestDevice, ...]:
    """The devices that must be exercised: all but companions."""
    return tuple(device for device in job.devices if not device.companion)


def _entries(job: Job, whole: Observation) -> list[tuple[GuestDevice, Observation]]:
    """Each due device with its entry; every one exactly once, in order. Raises ParseError."""
    entries = [Observation(item, "device") for item in whole.items("devices")]
    devices = due(job)
    seen = [(e.text("address"), e.text("vendor"), e.text("device")) for e in entries]
    if seen != [(str(d.address), d.vendor, d.device) for d in devices]:
        raise ParseError(f"device: {len(devices)} devices were expected, the guest reports {str(seen)[:300]}")
    return list(zip(devices, entries, strict=True))


def residue_trials(
    job: Job, stdout: bytes, planted_before: Collection[PciAddress], *, fresh: bool
) -> tuple[ResidueTrial, ...]:
    """What this tenant found of earlier ones in each device, by host address. Raises ParseError.

    ``planted_before``: devices where an earlier tenant of the run had left its pattern (``planted``), so
    that finding nothing means something. ``fresh``: this is the tenant's first load. Only devices that can
    show residue have a trial: ``edu`` in its buffer, an NVIDIA GPU in its memory. A second trial of an
    ``edu`` is the reset that this tenant made itself, over its own pattern.
    """
    trials = []
    for device, entry in _entries(job, report_of(SPEC, stdout)[0]):
        if entry.text_or_none("error") is not None:
            continue
        known = device.host in planted_before
        if "memory" in entry.inner("observed").names():
            memory = entry.inner("observed").inner("memory")
            trials.append(residue.trial(device, memory, planted=known, fresh=fresh))
        if "residue" not in entry.inner("observed").names():
            continue
        found, detail = _found(entry.inner("observed").inner("residue"))
        trials.append(ResidueTrial(device=device.host, planted=known, found=found, detail=detail))
        if "after_reset" in entry.inner("observed").names():
            trials.append(_after_reset(device.host, entry.inner("observed").inner("after_reset")))
    return tuple(trials)


def _after_reset(host: PciAddress, seen: Observation) -> ResidueTrial:
    refused = seen.text("refused")[:200]
    found: bool | None = None
    if refused:
        detail = f"the guest's kernel refused a reset: {refused}"
    elif seen.is_null("residue"):
        detail = "after a reset by the guest the device no longer moved data"
    else:
        left = seen.inner("residue")
        bytes_left = left.integer("bytes", bits=32)
        found = left.text("state") != "empty" or bytes_left > 0
        detail = f"after a reset by the guest {bytes_left} of {BLOCK} bytes written before were still there"
    return ResidueTrial(device=host, planted=True, found=found, detail=detail)


def _found(seen: Observation) -> tuple[bool | None, str]:
    state, used = seen.text("state"), seen.integer("bytes", bits=32)
    if state == "empty" and used == 0:
        return False, f"{BLOCK} bytes were zero"
    if state == "unknown" and used:
        return True, f"{used} of {BLOCK} bytes were not zero, and belong to no known tenant"
    if state == "tenant" and used:
        whose, same = seen.text("tenant")[:256], seen.integer("matching", bits=32)
        if seen.flag("own"):
            return None, "the buffer still contained this tenant's own pattern"
        return True, f"{same} of {BLOCK} bytes are what tenant {whose!r} left"
    raise ParseError(f"device: residue is {state[:40]!r} with {used} bytes")


def planted(job: Job, stdout: bytes) -> frozenset[PciAddress]:
    """Host addresses of the devices in which this tenant left its pattern. Raises ParseError."""
    left = set()
    for device, entry in _entries(job, report_of(SPEC, stdout)[0]):
        if entry.text_or_none("error") is None and "planted" in entry.inner("observed").names():
            left |= {device.host} if entry.inner("observed").flag("planted") else set()
    return frozenset(left)


WORKLOAD = Device()
