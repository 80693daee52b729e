"""Read back where a guest landed, and where it is later: host, QEMU and guest, each asked on its own."""

from __future__ import annotations

import json
import re

from harness.errors import HarnessError, RecordError
from harness.model.placement import Moment, ObservedPlacement, PlacementLook, PlacementPlan
from harness.placement.observe import qmp as observe_qmp
from harness.placement.observe import scripts
from harness.placement.observe.observed import observe
from harness.ports import CommandResult, Hypervisor, Transport
from harness.record.recorder import Recorder
from harness.scripts.script import ask

_UPTIME_SECONDS = 20.0
_SECONDS = 180.0


def observe_guest(
    recorder: Recorder,
    host: Transport,
    hypervisor: Hypervisor,
    guest: Transport,
    *,
    plan: PlacementPlan,
    domain: str,
) -> tuple[ObservedPlacement, tuple[str, ...]]:
    """The observation and the transcripts it was read from, which are saved before they are parsed.

    Raises TransportError, ProvisionError (QEMU does not answer) or ParseError.
    """
    seen, answers, files = _outside(recorder, host, hypervisor, plan=plan, domain=domain)
    inside = _inside(guest, plan.guest)
    observed = observe(plan, host=seen.stdout, qmp=answers, guest=inside.stdout)
    return observed, (*files, inside.transcript)


def look_again(
    recorder: Recorder,
    host: Transport,
    hypervisor: Hypervisor,
    guest: Transport,
    *,
    plan: PlacementPlan,
    domain: str,
    moment: Moment,
) -> PlacementLook:
    """The same once more, at a later moment. What the host and QEMU say stands also where the guest does not
    answer, which a paused one does not.

    Never raises for what cannot be read: the look says why. RecordError passes.
    """
    try:
        seen, answers, files = _outside(recorder, host, hypervisor, plan=plan, domain=domain)
        observed = observe(plan, host=seen.stdout, qmp=answers, guest=None)
    except RecordError:
        raise
    except HarnessError as error:
        return PlacementLook(moment=moment, observed=None, at=host_uptime(host), detail=error.message)
    at = observed.at
    if observed.state not in (None, "running"):
        return PlacementLook(moment=moment, observed=observed, at=at, files=files)
    try:
        inside = _inside(guest, plan.guest)
        observed = observe(plan, host=seen.stdout, qmp=answers, guest=inside.stdout)
    except RecordError:
        raise
    except HarnessError as error:
        return PlacementLook(moment=moment, observed=observed, at=at, files=files, detail=error.message)
    return PlacementLook(moment=moment, observed=observed, at=at, files=(*files, inside.transcript))


def host_uptime(host: Transport) -> float | None:
    """Seconds since the host's boot; None when it does not say."""
    try:
        told = host.run(("cat", "/proc/uptime"), deadline=_UPTIME_SECONDS, label="host-uptime").text
    except RecordError:
        raise
    except HarnessError:
        return None
    match = re.match(r"(\d{1,11}\.\d{1,9}) ", told)
    return None if match is None else float(match[1])


def _outside(
    recorder: Recorder,
    host: Transport,
    hypervisor: Hypervisor,
    *,
    plan: PlacementPlan,
    domain: str,
) -> tuple[CommandResult, dict[str, str], tuple[str, ...]]:
    """What host and QEMU say, and the transcripts."""
    functions = (str(address) for address in plan.hostdevs)
    label = f"{plan.guest}-placement-host"
    _, seen_by_host = ask(host, scripts.HOST, domain, *functions, deadline=_SECONDS, label=label)
    answers = observe_qmp.ask(lambda query: hypervisor.qmp(domain, query))
    file = recorder.save_file(
        f"transcripts/{plan.guest}-placement-qmp.json", json.dumps(answers, indent=1).encode()
    )
    return seen_by_host, answers, (seen_by_host.transcript, file)


def _inside(guest: Transport, name: str) -> CommandResult:
    """What the guest says of itself."""
    return ask(guest, scripts.GUEST, deadline=_SECONDS, label=f"{name}-placement-guest")[1]
