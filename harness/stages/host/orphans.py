"""Guests of runs that nobody drives any more: their claims are lost too, after a reboot of the host perhaps.

A run that was killed leaves claims, and whoever wants their devices clears it (``claims``). ``/run`` is empty
after a reboot, but libvirt still knows the guests that were defined: they carry the key of a run that has
no claim and whose lease is free, so nobody will ever come for them.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.errors import ClaimError
from harness.ports import Hypervisor
from harness.stages.host.claims import clear, holders
from harness.stages.host.leases import CLAIM_ROOTS, HoldingTransport, require_words


def clear_orphans(
    transport: HoldingTransport,
    hypervisor: Hypervisor,
    *,
    run: str,
    evict: Callable[[str], None],
    progress: Callable[[str], None],
    roots: tuple[str, ...] = CLAIM_ROOTS,
) -> tuple[str, ...]:
    """Remove with ``evict`` what runs without claims left, each under its own lease; returns those runs.

    The caller holds the claims on all devices it wants. Runs with a claim (on devices of another
    inventory, say) and ``run`` itself are not touched. Raises ClaimError for a run that is being driven,
    ReleaseError for what could not be removed.
    """
    claimed = {claim.run for claim in holders(transport, roots=roots)}
    keys = {domain.metadata_run for domain in hypervisor.domains() if domain.metadata_run is not None}
    orphans = tuple(sorted(key for key in keys - claimed - {run} if _is_key(key, roots)))
    for orphan in orphans:
        progress(f"run {orphan} has no claims and no controller: clearing its leftovers on {transport.name}")
        clear(transport, orphan, evict, roots)
    return orphans


def _is_key(text: str, roots: tuple[str, ...]) -> bool:
    """Whether it can be a run's key; a domain with another text there is not ours, whatever it says."""
    try:
        require_words(text, roots)
    except ClaimError:
        return False
    return True
