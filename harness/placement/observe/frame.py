"""The framed transcripts of ``observe/host.sh`` and ``observe/guest.sh``, and how those are asked for."""

from __future__ import annotations

import re
import secrets
from importlib import resources

from harness.errors import ParseError
from harness.model.pci import PciAddress
from harness.reading import reader

_NONCE = re.compile(r"[0-9a-f]{16,64}")
_FIRST_LINE = re.compile(rb"^shakedown-placement 1 (host|guest) ([0-9a-f]{16,64})\r?$", re.MULTILINE)


def new_nonce() -> str:
    """A fresh random nonce of 128 bits: no file that existed before can hold it."""
    return secrets.token_hex(16)


def host_script() -> bytes:
    """``observe/host.sh``, to be given to ``host_command`` on standard input."""
    return resources.files("harness.placement.observe").joinpath("host.sh").read_bytes()


def guest_script() -> bytes:
    """``observe/guest.sh``, to be given to ``guest_command`` on standard input."""
    return resources.files("harness.placement.observe").joinpath("guest.sh").read_bytes()


def host_command(nonce: str, domain: str, hostdevs: tuple[PciAddress, ...]) -> tuple[str, ...]:
    """Argument vector that runs ``host_script`` for a domain (its name, or its QEMU's pid)."""
    return ("sh", "-s", "--", _checked(nonce), domain, *(str(address) for address in hostdevs))


def guest_command(nonce: str) -> tuple[str, ...]:
    """Argument vector that runs ``guest_script`` inside a guest."""
    return ("sh", "-s", "--", _checked(nonce))


@reader("the output about a placement")
def read_parts(raw: bytes, kind: str, nonce: str | None = None) -> dict[str, bytes]:
    """The parts of a transcript by title, content as captured.

    ``kind`` is ``host`` or ``guest``; ``nonce`` is the one that was sent, where the caller still knows it.
    Raises ParseError when the transcript is not of this kind, ends early or says a thing twice.
    """
    first = _FIRST_LINE.search(raw)
    if first is None or first[1].decode() != kind or nonce not in (None, first[2].decode()):
        raise ParseError(
            f"the output about the {kind}'s placement is not usable: its first line is missing or wrong",
            remedy="read the command log: the shell cannot run 'sh -s', or it prints a login message",
        )
    parts: dict[str, bytes] = {}
    for piece in raw[first.end() :].split(b"\n" + first[2] + b" ")[1:]:
        title_bytes, _, content = piece.partition(b"\n")
        title = title_bytes.decode("utf-8", "backslashreplace").rstrip("\r")
        if title in parts:
            raise ParseError(f"{title[:80]!r} appears twice in the output")
        if "end" in parts:
            raise ParseError("the output continues after its end")
        parts[title] = content
    if "end" not in parts:
        raise ParseError(
            f"the output about the {kind}'s placement ends early",
            remedy="the connection or the script was cut off: run again",
        )
    return parts


def lines_of(content: bytes) -> list[str]:
    """Lines of a part as text; bytes that are not UTF-8 become escapes."""
    return content.decode("utf-8", "backslashreplace").replace("\r\n", "\n").split("\n")


def _checked(nonce: str) -> str:
    if _NONCE.fullmatch(nonce) is None:
        raise ValueError("a nonce is 16 to 64 lower-case hex digits")
    return nonce
