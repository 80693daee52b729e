"""Answers of scripts as ``harness/scripts/prelude.sh`` frames them, made from little."""

from __future__ import annotations

from collections.abc import Callable, Mapping

NONCE = "0123456789abcdef0123456789abcdef"


def framed(script: str, frames: Mapping[str, str | bytes], *, nonce: str = NONCE, status: int = 0) -> bytes:
    """A whole answer without parts."""
    out = f"shakedown 1 {script} {nonce}\n".encode()
    for title, content in frames.items():
        out += f"\n{nonce} {title}\n".encode() + (content if isinstance(content, bytes) else content.encode())
    return out + f"\n{nonce} exit {status} {len(frames)}\n".encode()


def asked_nonce(argv: tuple[str, ...]) -> str:
    """The nonce that a command line asks with: ``sh -s -- NONCE ...`` or ``sh -c TEXT NAME NONCE ...``."""
    return argv[3] if argv[1] == "-s" else argv[4]


def answering(
    script: str, frames: Mapping[str, str | bytes], *, status: int = 0
) -> Callable[[tuple[str, ...], bytes], tuple[int, bytes, bytes]]:
    """For ``FakeHost.on``: a host that answers a script with these frames, to the nonce it is asked with."""

    def answer(argv: tuple[str, ...], _stdin: bytes) -> tuple[int, bytes, bytes]:
        return status, framed(script, frames, nonce=asked_nonce(argv), status=status), b""

    return answer
