"""A candidate host in memory, from first contact to give-back: what its scripts answer, and its guests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.scripts.protocol import read_answer
from tests.fakes import FakeHost
from tests.fakes.scripts import answering, asked_nonce
from tests.stages.groups import an_access
from tests.stages.stand_ins import FakeAccess

FACTS = Path(__file__).parents[1] / "facts" / "cases" / "emulated-host.txt"


def a_candidate(*guests: str) -> FakeAccess:
    """A host whose claims are free, with the facts of the emulated host; of readiness it knows nothing."""
    host = FakeHost()
    host.on("sh", b"", status=1)
    made = an_access(*guests, host=host)
    host.on("facts", telling(FACTS.read_bytes()))
    host.on("claims", _claims)
    host.on("resets", _resets)
    host.on("stream", b"")
    host.on("find-guest-image", lambda argv, _stdin: (0, argv[3].encode(), b""))
    host.on("sweep-bare", b"")
    return made


def telling(transcript: bytes) -> Any:
    """The script of facts on this host: answers to the nonce that it was asked with."""
    known = read_answer(transcript, "facts").nonce

    def answer(argv: tuple[str, ...], _stdin: bytes) -> tuple[int, bytes, bytes]:
        return 0, transcript.replace(known.encode(), asked_nonce(argv).encode()), b""

    return answer


def _claims(argv: tuple[str, ...], stdin: bytes) -> tuple[int, bytes, bytes]:
    taken = {"taken": ""} if argv[4] == "take" else {}
    return answering("claims", {"claims": "", **taken})(argv, stdin)


def _resets(argv: tuple[str, ...], stdin: bytes) -> tuple[int, bytes, bytes]:
    rows = [f"{address}\t1\t1\tbus\tbus\t1\t" for address in argv[4:]]
    return answering("resets", {"resets": "\n".join(rows)})(argv, stdin)


def reach(patch: pytest.MonkeyPatch, found: FakeAccess | HarnessError) -> None:
    """Let whoever opens a host come to this one, or get this error."""

    @contextmanager
    def opened(*_arguments: object, **_options: object) -> Iterator[FakeAccess]:
        if isinstance(found, HarnessError):
            raise found
        yield found

    patch.setattr("harness.stages.host.candidate.open_host", opened)


def asked(access: FakeAccess, label: str) -> list[tuple[str, ...]]:
    """Every command of that label that the host was given."""
    return [argv for argv, said in access.host.calls if said == label]
