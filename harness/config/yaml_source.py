"""YAML files as plain data plus the line of every key: strict, small, and without surprises.

Only what an inventory needs is read: mappings, lists, text, numbers, true/false and null, by the rules of
YAML 1.2 (so that ``0000:41:00.0`` stays text). Aliases, tags, directives and second documents are refused:
they are how a small file becomes a huge one or a value becomes something else.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, ConfigErrors, why
from harness.regular import read_regular
from harness.serial import finite, whole

MAX_BYTES = 1 << 20
"""Largest inventory file that is read; ours are a few kilobytes."""
MAX_DEPTH = 20
"""Deepest nesting; the deepest inventory file has 4 levels."""
_HALF = re.compile("[\ud800-\udfff]")
_TAG = "tag:yaml.org,2002:"

Loc = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class YamlSource:
    """What a file holds: ``data``, and for each place in it the line (from 1) where it begins."""

    path: Path
    data: Any
    lines: dict[Loc, int]
    problems: list[tuple[Loc, ConfigError]] = field(default_factory=list)
    """What was found wrong so far, and where; ``settle`` raises it."""

    def line(self, loc: Loc) -> int:
        """The line of ``loc``, or of the nearest thing around it that has one."""
        while loc and loc not in self.lines:
            loc = loc[:-1]
        return self.lines.get(loc, 1)

    def wrong(self, loc: Loc, message: str, *, remedy: str = "") -> None:
        """Note that something is wrong there, and go on: whoever mends a file wants to hear all of it."""
        self.problems.append((loc, self.error(loc, message, remedy=remedy)))

    def settle(self) -> None:
        """Raises ConfigError, or ConfigErrors for several, where anything was found wrong."""
        found = tuple({str(problem): problem for _, problem in self.problems}.values())
        if found:
            raise found[0] if len(found) == 1 else ConfigErrors(found)

    def error(self, loc: Loc, message: str, *, remedy: str = "") -> ConfigError:
        """A ConfigError that names the file, the line and the key."""
        where = ".".join(str(part) for part in loc)
        place = f"{self.path}, line {self.line(loc)}"
        return ConfigError(f"{place}: {where}: {message}" if where else f"{place}: {message}", remedy=remedy)


def read_yaml(path: Path) -> YamlSource:
    """The one document of a YAML file.

    Raises ConfigError, naming file and line, for a file that is unreadable, too large, not text, empty, not
    YAML, or that uses a part of YAML which inventories do not need.
    """
    return parse_yaml(path, _read_text(path))


def _read_text(path: Path) -> str:
    try:
        raw = read_regular(path, MAX_BYTES, links=True)
    except OSError as error:
        larger = "; this is not an inventory file" if error.errno == errno.EFBIG else ""
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}{larger}") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}, line {line}: not UTF-8 text (byte {raw[error.start]:#04x})") from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ConfigError(f"{path}, line {line}: holds a NUL byte; this is a binary file")
    return text


def parse_yaml(path: Path, text: str) -> YamlSource:
    """As ``read_yaml``, for text already read; ``path`` is for messages."""
    from ruamel.yaml import YAML  # noqa: PLC0415  0.1 s, which `--help` must not pay
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    _refuse_directives(path, text)
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 2)
    try:
        _refuse_machinery(path, yaml.parse(text))
        node = YAML(typ="safe", pure=True).compose(text)
    except YAMLError as error:
        raise ConfigError(_not_yaml(path, error)) from error
    except ConfigError:
        raise
    except Exception as error:  # a reader that asserts (`%YAML 1.9`) or recurses has not read it either
        raise ConfigError(f"{path}: not YAML: {why(error)[:200]}") from error
    if node is None:
        raise ConfigError(f"{path}, line 1: the file is empty")
    lines: dict[Loc, int] = {}
    source = YamlSource(path, None, lines)
    return YamlSource(path, _plain(node, (), source), lines)


def _refuse_directives(path: Path, text: str) -> None:
    """Before the library sees one: of versions that it does not know it gives no place."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("%"):
            raise ConfigError(f"{path}, line {number}: %-directives are not allowed in inventory files")
        if line.strip() and not line.lstrip().startswith("#"):
            return


def _not_yaml(path: Path, error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    begun = getattr(error, "context_mark", None)
    place = f"{path}, line {mark.line + 1}" if mark is not None else str(path)
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
    since = f" ({error.context} on line {begun.line + 1})" if begun is not None else ""  # type: ignore[attr-defined]
    return f"{place}: not YAML: {problem}{since}"


def _refuse_machinery(path: Path, events: Any) -> None:
    """Look at the event stream, which is linear in the file, before anything is built from it."""
    depth = documents = 0
    for event in events:
        kind = type(event).__name__
        line = event.start_mark.line + 1
        if kind == "DocumentStartEvent":
            documents += 1
            if event.version or event.tags:
                raise ConfigError(f"{path}, line {line}: %-directives are not allowed in inventory files")
            if documents > 1:
                raise ConfigError(f"{path}, line {line}: a second document; a file has only one")
        if kind == "AliasEvent" or getattr(event, "anchor", None):
            raise ConfigError(
                f"{path}, line {line}: anchors (&) and aliases (*) are not allowed; write the value out"
            )
        if getattr(event, "tag", None) not in (None, "", "!"):
            raise ConfigError(f"{path}, line {line}: tags (!) are not allowed in inventory files")
        depth += kind.endswith(("SequenceStartEvent", "MappingStartEvent"))
        depth -= kind.endswith(("SequenceEndEvent", "MappingEndEvent"))
        if depth > MAX_DEPTH:
            raise ConfigError(f"{path}, line {line}: nested deeper than {MAX_DEPTH} levels")


def _plain(node: Any, loc: Loc, source: YamlSource) -> Any:
    source.lines.setdefault(loc, node.start_mark.line + 1)
    kind = type(node).__name__
    if kind == "SequenceNode":
        return [_plain(item, (*loc, i), source) for i, item in enumerate(node.value)]
    if kind == "MappingNode":
        return _mapping(node, loc, source)
    return _scalar(node, loc, source)


def _mapping(node: Any, loc: Loc, source: YamlSource) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = key_node.value
        here = (*loc, key) if isinstance(key, str) else loc
        line = key_node.start_mark.line + 1
        if not isinstance(key, str) or key == "<<" or _HALF.search(key):
            raise ConfigError(f"{source.path}, line {line}: a key must be plain text")
        if key in found:
            first = source.lines[here]
            raise ConfigError(f"{source.path}, line {line}: {key}: given twice (first on line {first})")
        source.lines[here] = line
        found[key] = _plain(value_node, here, source)
    return found


def _whole(text: str) -> int:
    plain = text.replace("_", "")
    based = plain.lstrip("+-")[:2] in ("0x", "0o") and len(plain) <= 24
    return whole(str(int(plain, 0)) if based else plain)


def _scalar(node: Any, loc: Loc, source: YamlSource) -> Any:
    tag = str(node.tag).removeprefix(_TAG)
    text: str = node.value
    if _HALF.search(text):
        raise source.error(loc, "holds half of a surrogate pair, which is no character")
    if tag == "null":
        return None
    if tag == "bool":
        return text.lower() == "true"
    try:
        if tag == "int":
            return _whole(text)
        if tag == "float":
            return finite(text)
    except ValueError as error:
        raise source.error(loc, f"not a plain number: {text[:60]!r}") from error
    return text
