"""A candidate host in memory, from first contact to give-back: what its scripts answer, and its guests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.facts.frames import nonce_of
from tests.fakes import FakeHost
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
    known = nonce_of(transcript)
    assert known is not None

    def answer(argv: tuple[str, ...], _stdin: bytes) -> tuple[int, bytes, bytes]:
        return 0, transcript.replace(known.encode(), argv[2].encode()), b""

    return answer


def _claims(argv: tuple[str, ...], _stdin: bytes) -> tuple[int, bytes, bytes]:
    return 0, b"taken\nend\n" if argv[3] == "take" else b"end\n", b""


def _resets(argv: tuple[str, ...], _stdin: bytes) -> tuple[int, bytes, bytes]:
    rows = [f"reset\t{address}\t1\t1\tbus\tbus\t1\t" for address in argv[3:]]
    return 0, "\n".join([*rows, "end\n"]).encode(), b""


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
