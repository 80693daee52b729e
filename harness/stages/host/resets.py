"""Exercising the reset of each GPU: a listed reset method is a claim until the kernel has carried it out.

A trial has two halves. Here, on the host and before any guest, the kernel is asked to reset the function:
it accepts or refuses (a device with a second function lists ``bus`` and answers ENOTTY). Whether state is
*gone* cannot be seen from there: the kernel saves and restores all standard configuration registers around
a reset (``pci_save_state``), and device memory cannot be read with a shell. So that half comes from the
guests: what one tenant leaves in the device must not be there for the next, with the reset that VFIO makes
between them. ``harness.checks.host.reset`` joins the two; here ``state_cleared`` is None, unknown.
"""

from __future__ import annotations

from harness.errors import ParseError
from harness.model.evidence import ResetTrial
from harness.model.pci import PciAddress
from harness.model.topology import HostFacts
from harness.ports import Transport
from harness.reading import reader
from harness.scripts.protocol import Answer
from harness.scripts.script import Script, ask

SCRIPT = Script(
    name="resets",
    package="harness.stages.host",
    file="resets.sh",
    needs="a POSIX sh with find, grep, od, tr and cut",
)

_SECONDS_EACH = 90.0
"""The kernel waits up to 60 s for a function to answer after a reset (PCIE_RESET_READY_POLL_MS)."""

_COMPANION = "companion function: it is reset together with its slot"


def companions_of(facts: HostFacts, gpus: tuple[PciAddress, ...]) -> tuple[PciAddress, ...]:
    """Other functions on the GPUs' slots, which are exempt from trials of their own."""
    slots = {gpu.slot for gpu in gpus}
    return tuple(d.address for d in facts.pci_devices if d.address.slot in slots and d.address not in gpus)


def exercise_resets(
    transport: Transport,
    gpus: tuple[PciAddress, ...],
    *,
    companions: tuple[PciAddress, ...] = (),
    methods: dict[PciAddress, tuple[str, ...]] | None = None,
) -> tuple[ResetTrial, ...]:
    """One trial for each GPU and an exempt entry for each companion, in address order.

    Call it with the devices claimed and before guests start: a function that is bound to a driver other
    than vfio-pci, or whose IOMMU group a process has open, is left alone and counts as not attempted.
    ``methods`` are the companions' listed ones. Raises TransportError, or ParseError for an incomplete
    answer.
    """
    trials: list[ResetTrial] = []
    if gpus:
        names = tuple(str(gpu) for gpu in gpus)
        answer, _ = ask(transport, SCRIPT, *names, deadline=_SECONDS_EACH * len(gpus))
        trials = read_trials(answer)
    if missing := [str(gpu) for gpu in gpus if gpu not in {t.device for t in trials}]:
        raise ParseError(f"resets: no answer about {', '.join(missing)}", host=transport.name)
    exempt = [
        ResetTrial(
            device=device,
            methods=(methods or {}).get(device, ()),
            attempted=False,
            accepted=None,
            state_cleared=None,
            exempt=_COMPANION,
        )
        for device in companions
    ]
    return tuple(sorted((*trials, *exempt), key=lambda trial: trial.device))


@reader("the answer of the resets")
def read_trials(answer: Answer) -> list[ResetTrial]:
    """The trials that ``resets.sh`` tells of. Raises ParseError for a row that is none."""
    return [_trial(row) for row in answer.rows("resets")]


def _trial(row: tuple[str, ...]) -> ResetTrial:
    try:
        address, attempted, accepted, before, after, answers, words = row
        device = PciAddress.parse(address)
    except ValueError as error:
        raise ParseError(f"resets: not a row: {row!r}") from error
    if attempted not in ("0", "1") or accepted not in ("", "0", "1"):
        raise ParseError(f"resets: not a row: {row!r}")
    notes = [words] if words else []
    if after != before:
        notes.append(f"reset methods were {before or 'none'}, are {after or 'none'}")
    if answers == "0":
        notes.append("its configuration space reads all ones after the reset")
    return ResetTrial(
        device=device,
        methods=tuple(before.split()),
        attempted=attempted == "1",
        # A device that is lost after its reset was not reset in any useful sense.
        accepted=None if accepted == "" else accepted == "1" and answers == "1",
        state_cleared=None,
        detail="; ".join(notes),
    )
