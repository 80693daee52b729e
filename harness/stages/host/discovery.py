"""What the host says of itself: one round trip, stored before it is understood."""

from __future__ import annotations

from harness import facts as host_facts
from harness.model.topology import HostFacts
from harness.stages.boundary import stage
from harness.stages.context import RunContext
from harness.stages.host.access import HostAccess


def discover(context: RunContext, access: HostAccess, *, after: bool = False) -> HostFacts:
    """Facts of the host, recorded. Raises Stopped."""
    facts, file = look(context, access, after=after)
    context.recorder.facts(facts, file=file, after=after)
    return facts


def look(context: RunContext, access: HostAccess, *, after: bool = False) -> tuple[HostFacts, str]:
    """Facts of the host and their transcript, not yet recorded. Raises Stopped."""
    context.progress.stage("collect the facts again" if after else "discover")
    with stage(context.recorder, "discover"):
        facts, raw = host_facts.collect(access.transport, work_dir=context.host.work_dir)
        name = "facts-after" if after else "facts"
        return facts, context.recorder.save_file(f"transcripts/{name}.frames", raw)
