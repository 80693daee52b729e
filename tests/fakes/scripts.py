"""Answers of scripts as ``harness/scripts/prelude.sh`` frames them, made from little."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping

from harness.scripts.protocol import Answer, read_answer
from harness.scripts.script import Script

NONCE = "0123456789abcdef0123456789abcdef"


def framed(script: str, frames: Mapping[str, str | bytes], *, nonce: str = NONCE, status: int = 0) -> bytes:
    """A whole answer without parts."""
    out = f"shakedown 1 {script} {nonce}\n".encode()
    for title, content in frames.items():
        out += f"\n{nonce} {title}\n".encode() + (content if isinstance(content, bytes) else content.encode())
    return out + f"\n{nonce} exit {status} {len(frames)}\n".encode()


def asked_nonce(argv: tuple[str, ...]) -> str:
    """The nonce that a command line asks with: ``sh -s -- NONCE ...``, ``sh -c TEXT NAME NONCE ...`` or
    ``sh FILE NONCE ...``."""
    return argv[{"-s": 3, "-c": 4}.get(argv[1], 2)]


def answering(
    script: str, frames: Mapping[str, str | bytes], *, status: int = 0
) -> Callable[[tuple[str, ...], bytes], tuple[int, bytes, bytes]]:
    """For ``FakeHost.on``: a host that answers a script with these frames, to the nonce it is asked with."""

    def answer(argv: tuple[str, ...], _stdin: bytes) -> tuple[int, bytes, bytes]:
        return status, framed(script, frames, nonce=asked_nonce(argv), status=status), b""

    return answer


def host_state(**frames: str) -> dict[str, str | bytes]:
    """The frames of the host's state; those that are not named are empty."""
    names = ("devices", "split", "hugepages", "processes", "qemu", "network", "files", "claims")
    assert frames.keys() <= set(names)
    return {name: frames.get(name, "") for name in names}


def really(script: Script, *arguments: str, changes: Mapping[str, str] | None = None) -> Answer:
    """What a script answers on this machine, with parts of its text changed: where it looks."""
    body = script.body()
    for before, after in (changes or {}).items():
        assert before in body, before
        body = body.replace(before, after)
    done = subprocess.run(
        ("sh", "-s", "--", NONCE, *arguments),
        input=script.text(body).encode("ascii"),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == b""
    return read_answer(done.stdout, script.name, NONCE)
