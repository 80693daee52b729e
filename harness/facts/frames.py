"""The framed transcript of ``collect.sh`` as a table of files, links, listings and command outputs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TypeVar

from harness.errors import ParseError
from harness.facts import ask
from harness.facts.notation import bare
from harness.reading import reader
from harness.scripts.protocol import Answer, read_answer

_T = TypeVar("_T")
_LAST_NAMES = frozenset(name.encode() for name in ask.LAST_NAMES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a command printed, and its exit status where it is known."""

    status: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """Everything captured of one host, still unparsed. Keys are absolute paths on that host.

    Filled by ``read_frames`` or by ``harness.facts.tree``; parsers only read it.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    """Link to a directory, and the physical path of that directory."""
    listings: dict[str, tuple[str, ...]] = field(default_factory=dict)
    present: set[str] = field(default_factory=set)
    commands: dict[str, Output] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def text(self, path: str) -> str | None:
        """Content without blanks at its ends, bytes that are not UTF-8 as escapes; None when absent."""
        content = self.files.get(path)
        return None if content is None else bare(content.decode("utf-8", "backslashreplace"))

    def children(self, parent: str, name: re.Pattern[str]) -> list[tuple[str, re.Match[str]]]:
        """Directories PARENT/NAME that were marked present, with the match of their name, sorted."""
        found = []
        for path in self.present:
            head, _, tail = path.rpartition("/")
            match = name.fullmatch(tail) if head == parent else None
            if match is not None:
                found.append((path, match))
        return sorted(found, key=lambda item: (len(item[0]), item[0]))

    def matching(self, parent: str, pattern: re.Pattern[str]) -> list[tuple[re.Match[str], str]]:
        """Files below ``parent`` the rest of whose path matches, and their text, sorted by path."""
        start = len(parent) + 1
        found = [
            (path, match)
            for path in self.files
            if path.startswith(parent) and (match := pattern.fullmatch(path[start:]))
        ]
        return [(match, self.text(path) or "") for path, match in sorted(found, key=lambda item: item[0])]


@reader("the output of the facts script")
def read_frames(raw: bytes) -> Frames:
    """A stored transcript. Raises ParseError as ``frames_of`` and ``read_answer``."""
    return frames_of(read_answer(raw, ask.SCRIPT.name))


@reader("the output of the facts script")
def frames_of(answer: Answer) -> Frames:
    """The answer of ``collect.sh``, whose every section is there once.

    Raises ParseError naming the sections that are missing, or what is wrong.
    """
    if missing := [section for section in ask.SECTIONS if section not in answer.parts]:
        raise ParseError(
            f"the output is incomplete: {', '.join(missing)} missing", remedy="collect the facts again"
        )
    if sorted(answer.parts) != sorted(ask.SECTIONS):
        raise ParseError("the output has duplicate or unknown sections")
    frames = Frames()
    blobs: dict[str, bytes] = {}
    for frame in answer.frames:
        kind, _, name = frame.title.partition(" ")
        _store(frames, blobs, kind, name, frame.content)
    _spread_blobs(frames, blobs)
    return frames


def _store(frames: Frames, blobs: dict[str, bytes], kind: str, name: str, content: bytes) -> None:
    match kind:
        case "G":
            _read_batch(frames.files, content)
        case "F":
            _once(frames.files, name, content)
        case "L":
            _once(frames.links, name, content.decode("utf-8", "backslashreplace").rstrip("\n"))
        case "D":
            names = content.decode("utf-8", "backslashreplace").split("\n")
            _once(frames.listings, name, tuple(n for n in names if n))
        case "P":
            frames.present.add(name)
        case "C":
            status, _, text = content.partition(b"\n")
            if not status.isdigit() or len(status) > 5:
                raise ParseError(f"command {name[:80]!r} has no exit status")
            _once(
                frames.commands,
                name,
                Output(status=int(status), text=text.decode("utf-8", "backslashreplace")),
            )
        case "X":
            _once(blobs, name, _from_hex(name, content))
        case _:
            raise ParseError(f"unknown kind of frame: {kind[:20]!r}")


def _once(table: dict[str, _T], name: str, value: _T) -> None:
    if name in table:
        raise ParseError(f"{name[:200]!r} appears twice in the output")
    table[name] = value


def _read_batch(files: dict[str, bytes], content: bytes) -> None:
    """Lines of ``grep -H ''``: ``PATH:LINE``, all lines of one file together."""
    inside: dict[str, list[bytes]] = {}
    prefix = b"\n"
    lines: list[bytes] = []
    for line in content.rstrip(b"\n").split(b"\n") if content else ():
        if not line.startswith(prefix):
            path = _path_of(line)
            prefix, lines = path + b":", []
            _once(inside, path.decode("utf-8", "backslashreplace"), lines)
        lines.append(line[len(prefix) :])
    for name, parts in inside.items():
        _once(files, name, b"\n".join(parts))


def _path_of(line: bytes) -> bytes:
    """The path before the first colon that ends a name we asked for.

    Addresses hold colons and content may hold anything, but the true path comes first and its last name is
    known, so the leftmost such colon is the one that grep wrote.
    """
    end = line.find(b":")
    while end >= 0:
        path = line[:end]
        head, _, last = path.rpartition(b"/")
        if last in _LAST_NAMES or head.endswith(b"/parameters"):
            return path
        end = line.find(b":", end + 1)
    raise ParseError(f"a line of a file that was not requested: {line[:80]!r}")


def _from_hex(name: str, content: bytes) -> bytes:
    try:
        return bytes.fromhex(content.decode("ascii"))
    except ValueError as error:
        raise ParseError(f"frame {name[:40]!r} is not hexadecimal") from error


def _spread_blobs(frames: Frames, blobs: dict[str, bytes]) -> None:
    """Cut the output of ``head FILE...`` at the names it prints, and store each file's bytes.

    Configuration space is binary and could hold such a name by chance or malice: a name that appears twice,
    or out of the order that was asked, makes the whole output untrusted, hence unknown.
    """
    addresses = frames.listings.get(ask.PCI, ())
    for label in ("header", "deep"):
        blob = blobs.get(label)
        if blob is None:
            continue
        wanted = [f"{address}/{name}" for address in addresses for name in ("config", "vpd")]
        cuts: list[tuple[int, int, str]] = []
        for name in [*wanted, "/dev/null"]:
            banner = f"==> {name} <==\n".encode()
            where = blob.find(banner)
            if where >= 0:
                cuts.append((where, where + len(banner), name))
            if where >= 0 and blob.find(banner, where + 1) >= 0:
                cuts.append((-1, -1, name))
        if cuts != sorted(cuts):
            frames.warnings.append(f"the {label} bytes of PCI functions could not be separated")
            continue
        ends = [start - 1 for start, _, _ in cuts[1:]]
        for (_, start, name), end in zip(cuts, ends, strict=False):
            frames.files[f"{ask.PCI}/{name}"] = blob[start:end]
