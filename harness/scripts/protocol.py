"""What scripts print (``prelude.sh``), read whole or while it grows.

Told apart: text that is no answer, an answer to another question, one of another version, one that was cut
off or lost frames, and a whole one with its exit status.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from harness.errors import ParseError
from harness.reading import reader

VERSION = 1
"""Of the form of answers, as their first line has it."""

FAILED = "failed"
"""Title of the frame in which a script says why it could not do what it was asked for."""

_NONCE = re.compile(r"[0-9a-f]{16,64}")
_FIRST = re.compile(rb"^shakedown (\d{1,4}) ([a-z-]{1,40}) ([0-9a-f]{16,64})\r?$", re.MULTILINE)
_OLDER = re.compile(rb"^shakedown-(?:facts|placement|host) \d", re.MULTILINE)
_PART = re.compile(r"part ([a-z-]{1,40}) (\d{1,9})")
_EXIT = re.compile(r"exit (\d{1,3}) (\d{1,9})")


@dataclass(frozen=True, slots=True)
class Frame:
    """A piece of an answer: its title, and its content byte for byte."""

    title: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer."""

    script: str
    nonce: str
    status: int
    """The script's own exit status."""
    frames: tuple[Frame, ...]
    parts: tuple[str, ...]
    """Names of the parts, in the order in which they ended."""
    raw: bytes
    """All of it as it came, to be stored and read again."""

    def contents(self) -> dict[str, bytes]:
        """Title to content. Raises ParseError for a title that is there twice."""
        found: dict[str, bytes] = {}
        for frame in self.frames:
            if frame.title in found:
                raise ParseError(f"{self.script}: {frame.title[:80]!r} is there twice in the answer")
            found[frame.title] = frame.content
        return found

    def content(self, title: str) -> bytes:
        """The content of the one frame of this title. Raises ParseError where there is none, or two."""
        found = [frame.content for frame in self.frames if frame.title == title]
        if len(found) != 1:
            what = "is there twice in" if found else "is missing from"
            raise ParseError(f"{self.script}: {title!r} {what} the answer")
        return found[0]

    def lines(self, title: str) -> list[str]:
        """Its lines that are not empty. Raises as ``content``."""
        return [line for line in lines_of(self.content(title)) if line]

    def rows(self, title: str) -> list[tuple[str, ...]]:
        """The same lines, each split at its tabs."""
        return [tuple(line.split("\t")) for line in self.lines(title)]

    @property
    def failure(self) -> str:
        """Why the script failed, in its own words; empty where it said nothing."""
        words = (frame.content for frame in self.frames if frame.title == FAILED)
        return " ".join(" ".join(lines_of(content)) for content in words).strip()


def new_nonce() -> str:
    """128 random bits: nothing that existed before can hold them."""
    return secrets.token_hex(16)


def require_nonce(nonce: str) -> str:
    """The nonce. Raises ValueError for what is none."""
    if _NONCE.fullmatch(nonce) is None:
        raise ValueError("a nonce is 16 to 64 lower-case hex digits")
    return nonce


def lines_of(content: bytes) -> list[str]:
    """Lines as text; bytes that are not UTF-8 become escapes."""
    return content.decode("utf-8", "backslashreplace").replace("\r\n", "\n").split("\n")


@reader("the answer of a script")
def read_answer(raw: bytes, script: str, nonce: str | None = None) -> Answer:
    """The answer of ``script``, whole. ``nonce`` is the one that was sent, where it is still known.

    Raises ParseError for anything else: see the module.
    """
    found, end = _first_line(raw, script, nonce)
    head, *pieces = raw[end:].split(b"\n" + found.encode("ascii") + b" ")
    if head.strip():
        raise ParseError(f"{script}: the answer begins with text that belongs to no frame")
    status = _exit_status(script, pieces)
    frames: list[Frame] = []
    parts: list[str] = []
    counted = 0
    for piece in pieces:
        header, _, content = piece.partition(b"\n")
        title = header.decode("utf-8", "backslashreplace").rstrip("\r")
        closed = _PART.fullmatch(title)
        if closed is None and not _EXIT.fullmatch(title):
            frames.append(Frame(title, content))
            continue
        number = closed[2] if closed is not None else title.rpartition(" ")[2]
        _require_count(script, closed[1] if closed is not None else "", int(number), len(frames) - counted)
        counted = len(frames)
        if closed is not None:
            parts.append(closed[1])
    return Answer(
        script=script, nonce=found, status=status, frames=tuple(frames), parts=tuple(parts), raw=raw
    )


def _first_line(raw: bytes, script: str, nonce: str | None) -> tuple[str, int]:
    """The answer's nonce, and where its first line ends."""
    others = False
    for first in _FIRST.finditer(raw):
        version, name, found = (each.decode("ascii") for each in first.groups())
        if name != script or nonce not in (None, found):
            others = True  # a login message may hold what looks like one
        elif int(version) != VERSION:
            raise _of_another_version(script)
        else:
            return found, first.end()
    if others:
        raise ParseError(f"{script}: this answers another request: the nonce or the script is not ours")
    if _OLDER.search(raw) is not None:
        raise _of_another_version(script)
    raise ParseError(
        f"{script}: no answer: its first line 'shakedown {VERSION} {script} NONCE' is missing",
        remedy="read the command log: the shell cannot run 'sh -s', or it prints a login message",
    )


def _of_another_version(script: str) -> ParseError:
    return ParseError(
        f"{script}: this answer was written by another version of Shakedown and cannot be read",
        remedy="read it with the version that wrote it, or ask the host again",
    )


def _exit_status(script: str, pieces: list[bytes]) -> int:
    """What the last piece says. Asked first: a cut explains all that is missing before it."""
    last, newline, rest = pieces[-1].partition(b"\n") if pieces else (b"", b"", b"")
    closed = _EXIT.fullmatch(last.decode("utf-8", "backslashreplace").rstrip("\r"))
    if closed is not None and newline:
        if rest.strip() or any(piece.startswith(b"exit ") for piece in pieces[:-1]):
            raise ParseError(f"{script}: the answer continues after its end")
        return int(closed[1])
    if any(piece.startswith(b"exit ") for piece in pieces[:-1]):
        raise ParseError(f"{script}: the answer continues after its end")
    begun = next((title for title, whole, _ in (p.partition(b"\n") for p in reversed(pieces)) if whole), b"")
    where = f" in {begun.decode('utf-8', 'backslashreplace')[:80]!r}" if begun else " before its first frame"
    raise ParseError(
        f"{script}: the answer breaks off{where}",
        remedy="the connection or the script was cut off: run again",
    )


def _require_count(script: str, part: str, told: int, there: int) -> None:
    if told != there:
        where = f"part {part} " if part else ""
        raise ParseError(f"{script}: {where}has {told} frames by its own count, {there} are there")


class GrowingAnswer:
    """An answer that is read line by line while it grows: which of its lines are marks of the script."""

    def __init__(self, script: str, nonce: str = "") -> None:
        """``nonce`` is the one that was sent; without it, that of the first line counts."""
        self._script, self._nonce = script, nonce
        self.begun = False
        """Whether its first line was there."""
        self.status: int | None = None
        """The script's exit status, once it said so."""

    def take(self, line: str) -> str | None:
        """A mark without its nonce, or None for any other line (``line`` has no end).

        The first and the last line of an answer are empty marks: they only change what is known here. An
        answer may begin again, with the same nonce, where its script was started again. Raises ParseError for
        an answer of another version, which cannot be where the nonce is known.
        """
        if self._nonce and line.startswith(f"{self._nonce} "):
            words = line[len(self._nonce) + 1 :].rstrip("\r")
            closed = _EXIT.fullmatch(words)
            if closed is None or not self.begun:
                return words if self.begun else None
            self.status = int(closed[1])
            return ""
        return self._first(line)

    def _first(self, line: str) -> str | None:
        if not line.startswith("shakedown"):
            return None
        raw = line.encode("utf-8", "backslashreplace")
        first = _FIRST.fullmatch(raw)
        version, name, nonce = (
            (each.decode("ascii") for each in first.groups()) if first is not None else ("", "", "")
        )
        if not self._nonce and (_OLDER.match(raw) or (name == self._script and int(version) != VERSION)):
            raise _of_another_version(self._script)
        if name != self._script or int(version) != VERSION or self._nonce not in ("", nonce):
            return None
        self._nonce, self.begun, self.status = nonce, True, None
        return ""
