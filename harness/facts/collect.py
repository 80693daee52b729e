"""Asking a live host: one round trip."""

from __future__ import annotations

from harness.errors import ParseError
from harness.facts.ask import ARGUMENTS, SCRIPT
from harness.facts.assemble import assemble
from harness.facts.frames import frames_of
from harness.model.topology import HostFacts
from harness.ports import Transport
from harness.scripts.script import ask

DEADLINE_SECONDS = 120.0
"""Six times the script's own limit on any one command."""


def collect(transport: Transport, *, work_dir: str) -> tuple[HostFacts, bytes]:
    """The facts of a host and the transcript they rest on, in one round trip.

    ``work_dir`` is where Shakedown would write on the host: the size of its filesystem is among the facts;
    it need not exist. The transcript is returned as captured, for storing and replaying; a transport with a
    recorder has saved it before it is parsed here. Raises TransportError when the host could not run the
    script, ParseError when its answer is incomplete or not an answer to this question.
    """
    answer, result = ask(transport, SCRIPT, work_dir, *ARGUMENTS, deadline=DEADLINE_SECONDS)
    try:
        return assemble(frames_of(answer)), answer.raw
    except ParseError as error:
        where = {"host": transport.name, "transcript": result.transcript}
        raise ParseError(error.message, remedy=error.remedy, **where) from error
