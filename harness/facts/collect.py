"""Asking a live host: one round trip."""

from __future__ import annotations

import secrets

from harness.errors import ParseError, TransportError
from harness.facts import ask
from harness.facts.assemble import parse_transcript
from harness.facts.frames import nonce_of
from harness.model.topology import HostFacts
from harness.ports import Transport

DEADLINE_SECONDS = 120.0
"""Six times the script's own limit on any one command."""


def collect(transport: Transport, *, work_dir: str) -> tuple[HostFacts, bytes]:
    """The facts of a host and the transcript they rest on, in one round trip.

    ``work_dir`` is where Shakedown would write on the host: the size of its filesystem is among the facts;
    it need not exist. The transcript is returned as captured, for storing and replaying; a transport with a
    recorder has saved it before it is parsed here. Raises TransportError when the host could not run the
    script, ParseError when its answer is incomplete or not an answer to this question.
    """
    nonce = secrets.token_hex(16)
    result = transport.run(
        ("sh", "-s", nonce, work_dir), stdin=ask.script(), deadline=DEADLINE_SECONDS, label="facts"
    )
    where = {"host": transport.name, "transcript": result.transcript, "stage": "facts"}
    if result.status != 0:
        errors = result.complaint[-500:]
        raise TransportError(
            f"the facts script ended with status {result.status}: {errors or 'no message'}",
            remedy="the host needs a POSIX sh with grep, head, od, awk, df, date and tr",
            **where,
        )
    answered = nonce_of(result.stdout)
    if answered not in (nonce, None):
        raise ParseError("the output belongs to another request: its nonce does not match", **where)
    try:
        return parse_transcript(result.stdout), result.stdout
    except ParseError as error:
        raise ParseError(error.message, remedy=error.remedy, **where) from error
