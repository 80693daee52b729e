"""Read back where a guest really landed: host kernel, QEMU and guest, each asked on its own."""

from __future__ import annotations

import json

from harness.errors import ProvisionError
from harness.model.placement import ObservedPlacement, PlacementPlan
from harness.placement import observe_frame, observe_qmp
from harness.placement.observe import observe
from harness.ports import CommandResult, Hypervisor, Transport
from harness.record.recorder import Recorder


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
    nonce = observe_frame.new_nonce()
    seen_by_host = _must_run(
        host.run(
            observe_frame.host_command(nonce, domain, plan.hostdevs),
            stdin=observe_frame.host_script(),
            deadline=180.0,
            label=f"{plan.guest}-placement-host",
        )
    )
    answers = observe_qmp.ask(lambda query: hypervisor.qmp(domain, query))
    file = recorder.save_file(
        f"transcripts/{plan.guest}-placement-qmp.json", json.dumps(answers, indent=1).encode()
    )
    seen_by_guest = _must_run(
        guest.run(
            observe_frame.guest_command(nonce),
            stdin=observe_frame.guest_script(),
            deadline=180.0,
            label=f"{plan.guest}-placement-guest",
        )
    )
    observed = observe(plan, host=seen_by_host.stdout, qmp=answers, guest=seen_by_guest.stdout)
    return observed, (seen_by_host.transcript, file, seen_by_guest.transcript)


def _must_run(result: CommandResult) -> CommandResult:
    if result.status != 0:
        words = result.complaint[:400]
        raise ProvisionError(
            f"the placement could not be read (exit status {result.status}): {words}",
            remedy="see the transcript; run again",
            transcript=result.transcript,
        )
    return result
