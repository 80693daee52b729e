"""What a tenant leaves in the memory of GPUs and the next one looks for.

Written into all free memory when a guest's loads are over (``payload/canary.py``) and held until the guest is
switched off, so that its driver does not clear it as given back (in an image of one's own a service manager
may end the holders first). The next tenant counts it (its exerciser), before its loads write anything, in
the memory that its own driver hands out. Between the two lies what the host does: VFIO's reset.
"""

from __future__ import annotations

import hashlib

from harness.errors import ParseError
from harness.model.evidence import ResidueTrial
from harness.model.pci import PciAddress
from harness.vendors.payload.gpu import gpu_residue
from harness.workloads.base import GuestDevice, Job, Observation, command, gpus, strict_object
from harness.workloads.device.spec import SPEC

_SECONDS = 120.0
"""To write and count all memory of a card: at its own bandwidth a second; a driver's start more."""
_LEAST_SHARE = 0.9
"""Of a card's memory, to say anything of it: the driver keeps some 100 MiB, also of one with 8 GiB."""


def word(job: Job) -> int:
    """The 64 bits that all tenants of the job's run leave: no run finds another's, nor a driver's own."""
    run = job.tenant.partition("/")[0]
    return int.from_bytes(hashlib.sha256(f"residue\n{run}".encode()).digest()[:8], "little") | 1


def leaving(job: Job) -> tuple[str, ...]:
    """The command line that leaves it; empty where the guest has no GPU that can show it."""
    addresses = [str(device.address) for device in gpus(job)]
    arguments = {"gpus": addresses, "word": word(job), "seconds": _SECONDS}
    return command(job, SPEC.payload("canary"), arguments) if addresses else ()


def left(job: Job, stdout: bytes) -> tuple[frozenset[PciAddress], str]:
    """Host addresses of the GPUs that hold it now, and why others do not. Raises ParseError."""
    whole = strict_object(stdout, "leave")
    entries = [Observation(item, "leave") for item in whole.inner("observed").items("entries")]
    if [entry.text("name") for entry in entries] != [str(device.address) for device in gpus(job)]:
        raise ParseError("canary: the guest reports other GPUs than it has")
    held, why = set(), ""
    for device, entry in zip(gpus(job), entries, strict=True):
        if entry.text_or_none("error") is not None:
            why = why or f"{device.address}: {entry.text('error')[:300]}"
            continue
        told = entry.inner("left")
        size, matching = told.integer("bytes", bits=51), told.integer("matching", bits=48)
        short = _short(told)
        if not short and 8 * matching == size:
            held.add(device.host)
        else:
            wrong = short or f"{matching} words of {size} bytes came back as written"
            why = why or f"{device.address}: {wrong}"
    return frozenset(held), why


def trial(device: GuestDevice, outcome: Observation, *, planted: bool, fresh: bool) -> ResidueTrial:
    """What a tenant found in one GPU; ``found`` is None when it could not look. Raises ParseError.

    ``fresh``: none of this tenant's own loads had run before, which write over what they are given.
    """
    if outcome.text("kind") != "done":
        why = f"its memory could not be read: {outcome.text_or_none('error') or 'no reason given'}"
        return ResidueTrial(device=device.host, planted=planted, found=None, detail=why[:400])
    seen = outcome.inner("observed")
    size, matching = seen.integer("bytes", bits=51), seen.integer("matching", bits=48)
    if 8 * matching > size or size > seen.integer("total", bits=51):
        raise ParseError(f"device {device.address}: {matching} words found in {size} bytes")
    if matching:
        detail = f"{8 * matching} of {size} bytes of memory were written by an earlier tenant of this run"
        return ResidueTrial(device=device.host, planted=planted, found=True, detail=detail)
    why = _short(seen)
    if not why and seen.integer("proof", bits=32) != gpu_residue.PROOF_WORDS:
        why = "the search does not find a pattern that is there"
    if not why and not fresh:
        why = "this tenant's own loads had already overwritten the memory: put device first in its workloads"
    if why:
        return ResidueTrial(device=device.host, planted=planted, found=None, detail=why)
    detail = f"none of {size} bytes of memory hold data of an earlier tenant"
    return ResidueTrial(device=device.host, planted=planted, found=False, detail=detail)


def _short(told: Observation) -> str:
    """Why too little of a card's memory could be had; empty where it is enough."""
    size, total = told.integer("bytes", bits=51), told.integer("total", bits=51)
    return (
        ""
        if 0 < _LEAST_SHARE * total <= size
        else f"only {size} of {total} bytes of memory could be allocated"
    )
