"""Transcripts: a command and all it said, in one file that people read and parsers replay.

The first line is a JSON object with the command, its status, its seconds and the length of each part; then
each part under a heading. Output is kept byte for byte: the lengths, not the headings, say where it ends.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from harness.errors import ParseError, RecordError
from harness.reading import reader
from harness.serial import recorded_json

_PARTS = ("stdin", "stdout", "stderr")


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """A saved command."""

    label: str
    argv: tuple[str, ...]
    status: int
    seconds: float
    at: str
    stdin_bytes: int
    """How much was sent; ``stdin`` is empty when only that was kept."""
    stdin: bytes
    stdout: bytes
    stderr: bytes


def to_bytes(transcript: Transcript) -> bytes:
    """The file's content."""
    parts = [getattr(transcript, name) for name in _PARTS]
    header = {
        "shakedown_transcript": 1,
        "label": transcript.label,
        "argv": list(transcript.argv),
        "status": transcript.status,
        "seconds": round(transcript.seconds, 6),
        "at": transcript.at,
        "stdin_bytes": transcript.stdin_bytes,
        "bytes": [len(part) for part in parts],
    }
    chunks = [json.dumps(header).encode("ascii"), b"\n"]
    for name, part in zip(_PARTS, parts, strict=True):
        chunks += [f"==== {name} ====\n".encode(), part, b"\n"]
    return b"".join(chunks)


@reader("the command log")
def from_bytes(data: bytes, *, source: str = "transcript") -> Transcript:
    """Read a transcript back, for replay. Raises ParseError when it is truncated or something else."""
    first, _, rest = data.partition(b"\n")
    try:
        header: dict[str, Any] = recorded_json(first)
        lengths = [int(n) for n in header["bytes"]]
        parts = _split(rest, lengths)
        return Transcript(
            label=str(header["label"]),
            argv=tuple(str(word) for word in header["argv"]),
            status=int(header["status"]),
            seconds=float(header["seconds"]),
            at=str(header["at"]),
            stdin_bytes=int(header["stdin_bytes"]),
            **dict(zip(_PARTS, parts, strict=True)),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecordError) as error:
        raise ParseError(f"{source} is not a complete command log: {str(error)[:200]}") from error


def _split(rest: bytes, lengths: list[int]) -> list[bytes]:
    parts = []
    for name, length in zip(_PARTS, lengths, strict=True):
        heading = f"==== {name} ====\n".encode()
        stop = len(heading) + length
        if not rest.startswith(heading) or length < 0 or rest[stop : stop + 1] != b"\n":
            raise RecordError(f"its {name} is cut short")
        parts.append(rest[len(heading) : stop])
        rest = rest[stop + 1 :]
    return parts
