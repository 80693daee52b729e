"""The GPU's way to the CPU: PCIe link and error counters, read on the host."""

from __future__ import annotations

from harness.checks.answers import facts_after, failed, gpu, host_facts, listing, of_device, ok, seen
from harness.checks.base import Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.checks.watching.links import best_speed
from harness.model.attachment import Observable
from harness.model.inventory import ExpectedLink
from harness.model.outcome import Action, CheckResult, EvidenceRef, Measurement
from harness.model.topology import AerCounters, HostFacts, Link, PciDevice

_RESEAT = "reseat the card and its riser, look for dirt and bent pins, then try another slot and another card"


def _root_port(facts: HostFacts, device: PciDevice) -> PciDevice:
    if not device.upstream:
        raise MissingEvidence("the GPU has no root port above it, so there is no link to judge")
    port = facts.device(device.upstream[-1])
    if port is None or port.vanished:
        raise MissingEvidence(f"root port {device.upstream[-1]} could not be read")
    return port


def _link(case: Case, subject: Subject) -> CheckResult:
    """The root port's link against the host file; the best speed seen before, after and under load counts.

    Current and maximum are both held to what the host file expects: a card of the wrong generation, or a
    lane lost for good, moves the two together.
    """
    facts, device = host_facts(case), gpu(case, subject)
    due = case.host.expected_link
    if due is None or (due.speed_gts is None and due.width is None):
        raise MissingEvidence("the host file does not say what link to expect (expected_link)")
    port = _root_port(facts, device)
    looks = [(port, device, False)]
    after = case.evidence.facts_after
    if after is not None:
        late_port, late_device = after.device(port.address), after.device(device.address)
        if late_port is not None and late_device is not None:
            looks.append((late_port, late_device, True))
    evidence = tuple(
        seen(case, of_device(look.address, "link"), look.link, after=late) for look, _, late in looks
    )
    # The card's own link ends in the same wire; a card without link attributes (conventional PCI) has none.
    links = [
        (name, link)
        for seen_port, card, late in looks
        for name, link in (
            (f"root port {seen_port.address}{_when(late=late)}", seen_port.link),
            (f"{card.address}{_when(late=late)}", card.link),
        )
        if link is not None
    ]
    if port.link is None:
        raise MissingEvidence(f"root port {port.address} reports no link")
    loaded = max((best_speed(case, end) or 0.0) for end in (device.address, port.address))
    if loaded:
        under_load = Link(speed_gts=loaded, width=None, max_speed_gts=None, max_width=None)
        links.append((f"{device.address} under load", under_load))
    return _judge_link(links, port.link, due, f"root port {port.address}", evidence)


def _when(*, late: bool) -> str:
    return " after the guests" if late else ""


def _judge_link(
    links: list[tuple[str, Link]],
    port: Link,
    due: ExpectedLink,
    name: str,
    evidence: tuple[EvidenceRef, ...],
) -> CheckResult:
    """``links``: every reading of either end, with whose and when it was."""
    measured = (
        Measurement(name="pci.link_width", value=_number(port.width), unit="lanes", lower=_number(due.width)),
        Measurement(name="pci.link_speed", value=port.speed_gts, unit="GT/s", lower=due.speed_gts),
    )
    expected = f"expected {_gts(due.speed_gts)} x{due.width}"
    wrong = [
        *(
            f"{end} has {link.width} lanes"
            for end, link in links
            if due.width is not None and link.width is not None and link.width < due.width
        ),
        *(
            f"{end} supports {_gts(link.max_speed_gts)} at most"
            for end, link in links
            if due.speed_gts is not None
            and link.max_speed_gts is not None
            and link.max_speed_gts < due.speed_gts
        ),
    ]
    if wrong:
        words = f"{'; '.join(wrong)}: {expected}"
        return failed(words, _RESEAT, Action.RESEAT, evidence=evidence, measurements=measured)
    said = f"{name} runs {_gts(port.speed_gts)} x{port.width}, {expected}"
    if (due.width is not None and port.width is None) or (
        due.speed_gts is not None and port.speed_gts is None
    ):
        raise MissingEvidence(f"{name} does not report its link speed and width")
    best = max((link.speed_gts for _, link in links if link.speed_gts is not None), default=0.0)
    rest = f", {_gts(best)} at its best" if port.speed_gts is not None and best > port.speed_gts else ""
    if due.speed_gts is not None and best < due.speed_gts:
        raise MissingEvidence(
            f"{said}{rest}: this was read while idle, and idle GPUs drop to 2.5 GT/s; gpu.pcie_under_load "
            "judges the link under load"
        )
    return ok(f"{said}{rest}", evidence=evidence, measurements=measured)


def _number(value: int | None) -> float | None:
    return float(value) if value is not None else None


def _gts(speed: float | None) -> str:
    return "unknown speed" if speed is None else f"{speed:g} GT/s"


_FIELDS = (
    "correctable",
    "nonfatal",
    "fatal",
    "rootport_correctable",
    "rootport_nonfatal",
    "rootport_fatal",
)


def _aer(case: Case, subject: Subject) -> CheckResult:
    """Counters of the GPU and of every port above it, after the guests against before."""
    before, after, device = host_facts(case), facts_after(case), gpu(case, subject)
    if before.boot_id is None or before.boot_id != after.boot_id:
        message = f"counters of boots {before.boot_id} and {after.boot_id} cannot be compared"
        raise MissingEvidence(message)
    grown: list[str] = []
    read: list[EvidenceRef] = []
    for address in (device.address, *device.upstream):
        first, last = before.device(address), after.device(address)
        if first is None or first.aer is None:
            continue
        if last is None or last.aer is None:
            raise MissingEvidence(f"the error counters of {address} could not be read after the guests")
        growth = _growth(first.aer, last.aer)
        if growth:
            read.append(seen(case, of_device(address, "aer"), last.aer, after=True))
        grown += [f"{address} {name} +{count}" for name, count in growth.items() if count]
    if not read:
        raise MissingEvidence("neither the GPU nor a port above it has AER counters")
    if grown:
        return failed(
            f"PCIe errors were counted during the run: {listing(grown)}",
            _RESEAT,
            Action.RESEAT,
            evidence=tuple(read),
        )
    return ok(f"no PCIe error was counted on {len(read)} functions", evidence=tuple(read))


def _growth(first: AerCounters, last: AerCounters) -> dict[str, int]:
    """By how much each counter grew; empty when the function has none that can be read."""
    grown: dict[str, int] = {}
    for name in _FIELDS:
        old, new = getattr(first, name), getattr(last, name)
        if old is None and new is None:
            continue
        if old is None or new is None or new < old:
            raise MissingEvidence(f"counter {name} cannot be compared ({old} before, {new} after)")
        grown[name] = new - old
    return grown


CHECKS = (
    Check(
        id="gpu.link",
        title="Does the GPU's root port have the expected link?",
        why="A lost lane or generation halves the transfer rate without any error message.",
        scope=Scope.GPU,
        phase=Phase.AFTERWARDS,
        needs=(Observable.CARD,),
        judge=_link,
    ),
    Check(
        id="gpu.aer",
        title="Did PCIe errors occur on the GPU or the ports above it during the run?",
        why="Counters, unlike the kernel log, have no rate limit; a port can count errors that the card "
        "does not.",
        scope=Scope.GPU,
        phase=Phase.AFTERWARDS,
        needs=(Observable.CARD,),
        judge=_aer,
    ),
)
