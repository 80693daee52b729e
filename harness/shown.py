"""The one way out for foreign text: what hosts, guests, files and users say is shown, never sent as it is.

A terminal obeys control characters, and a reader believes a line that looks like ours. So every line that a
command prints goes through ``say`` or ``warn``, JSON through ``say_json`` (which is ASCII), whole documents
of our own making through ``hand_out``. Reports escape for their own formats on top of ``clean``.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any, TextIO

LONGEST = 4000
"""Characters of one line that a command prints."""

# Controls and delete (C0, C1), lone surrogates, what XML 1.0 forbids, and the characters that turn text
# round or hide in it (Unicode TR 36, "bidirectional text spoofing"; CVE-2021-42574).
UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufe00-\ufe0f\ufeff"
    "\ufff9-\uffff\U000e0000-\U000e0fff]"
)
_NAMES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def clean(text: str, limit: int = LONGEST) -> str:
    """``text`` on one line, with every unsafe character shown as an escape, cut after ``limit`` characters.

    The result is valid Unicode and legal in XML 1.0. It still has to be escaped for HTML, XML or Markdown.
    """
    cut = len(text) - limit
    shown = UNSAFE.sub(_escape, text[:limit] if cut > 0 else text)
    return f"{shown}… [{cut} more characters]" if cut > 0 else shown


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    if char in _NAMES:
        return _NAMES[char]
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def say(*lines: str, to: TextIO | None = None) -> None:
    """Print lines on standard output; a line break within one is shown as an escape, a long one is cut."""
    _write(to or sys.stdout, "".join(f"{clean(line)}\n" for line in lines))


def warn(*lines: str) -> None:
    """As ``say``, on standard error."""
    say(*lines, to=sys.stderr)


def say_json(data: Any, *, indent: int | None = None, to: TextIO | None = None) -> None:
    """Print data as JSON, whose own escapes leave nothing but ASCII."""
    _write(to or sys.stdout, json.dumps(data, indent=indent, allow_nan=False, ensure_ascii=True) + "\n")


def hand_out(document: str, *, to: TextIO | None = None) -> None:
    """Print a document of several lines that we made ourselves (domain XML, pytest's own words); all but its
    line breaks is made safe, and nothing is cut."""
    lines = document.removesuffix("\n").split("\n")
    _write(to or sys.stdout, "".join(f"{clean(line, len(line))}\n" for line in lines))


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
    except UnicodeEncodeError:  # a terminal that is not UTF-8
        stream.write(text.encode("ascii", "backslashreplace").decode("ascii"))
    stream.flush()
