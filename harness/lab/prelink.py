"""Preparing TensorFlow's shared library for a guest image: its references to itself are bound beforehand.

``libtensorflow_cc.so.2`` refers 280,000 times to symbols of its own by name. At each start the dynamic
loader looks every one up again: half of the load's CPU time, and 75 MB of symbol names that an emulated
guest must first read from its disk. The outcome is always the same, since a library loaded with
RTLD_LOCAL finds its own symbols before those of its dependencies. Binding writes that outcome into the
relocation table (``R_X86_64_RELATIVE``), as linking with ``-Bsymbolic`` would have. Code and data stay
untouched; symbols of other libraries, thread-local, indirect and GNU-unique ones are left to the loader.

ELF structures: System V ABI, chapters 4 and 5, and its AMD64 supplement, section 4.4.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ParseError

LIBRARY = "tensorflow/libtensorflow_cc.so.2"
"""Below the ``pip --target`` directory: the one library that is worth it."""

_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_SYMTAB, _DT_RELA, _DT_RELASZ, _DT_RELACOUNT = 6, 7, 8, 0x6FFFFFF9
_R_64, _R_GLOB_DAT, _R_RELATIVE = 1, 6, 8
_STB_GNU_UNIQUE, _STT_TLS, _STT_GNU_IFUNC = 10, 6, 10
_SHN_UNDEF, _SHN_LORESERVE = 0, 0xFF00
_RELA = (("offset", "<u8"), ("kind", "<u4"), ("symbol", "<u4"), ("addend", "<i8"))
_SYM = (
    ("name", "<u4"),
    ("info", "u1"),
    ("other", "u1"),
    ("section", "<u2"),
    ("value", "<u8"),
    ("size", "<u8"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What was done: references bound now, and those still left to the loader."""

    bound: int
    left: int


def bind_own_symbols(path: Path) -> Bound:
    """Bind in place; doing it again changes nothing. Raises ParseError for anything but a 64-bit x86 library.

    Takes about a second and no memory to speak of for TensorFlow's 600 MB.
    """
    with path.open("r+b") as stream:
        try:
            with mmap.mmap(stream.fileno(), 0) as image:
                return _bind(image)
        except (ValueError, struct.error, IndexError) as error:
            raise ParseError(f"{path}: not a library that can be bound: {error}") from error


def _bind(image: mmap.mmap) -> Bound:
    import numpy as np  # noqa: PLC0415  a tenth of a second that nobody else in this package needs

    segments, tags = _layout(image)
    start, count = _offset(segments, tags[_DT_RELA][0]), tags[_DT_RELASZ][0] // 24
    table = np.frombuffer(image, np.dtype(list(_RELA)), count, start).copy()
    places = _offset(segments, tags[_DT_SYMTAB][0])
    symbols = np.frombuffer(image, np.dtype(list(_SYM)), int(table["symbol"].max()) + 1, places).copy()
    own = _own(table, symbols[table["symbol"]])
    values = symbols["value"][table["symbol"]].astype(np.int64)
    addends = np.where(table["kind"] == _R_64, table["addend"], 0)
    table["addend"] = np.where(own, values + addends, table["addend"])
    table["kind"] = np.where(own, _R_RELATIVE, table["kind"])
    table["symbol"] = np.where(own, 0, table["symbol"])
    relative = table["kind"] == _R_RELATIVE
    # DT_RELACOUNT promises that many relative entries at the head of the table.
    ordered = np.concatenate((np.sort(table[relative], order="offset"), table[~relative]))
    image[start : start + 24 * count] = ordered.tobytes()
    if _DT_RELACOUNT in tags:
        struct.pack_into("<Q", image, tags[_DT_RELACOUNT][1], int(relative.sum()))
    image.flush()
    return Bound(bound=int(own.sum()), left=int((~relative).sum()))


def _own(table: Any, named: Any) -> Any:
    """Which entries name a plain symbol that the library itself defines."""
    symbolic = (table["kind"] == _R_64) | (table["kind"] == _R_GLOB_DAT)
    defined = (named["section"] != _SHN_UNDEF) & (named["section"] < _SHN_LORESERVE)
    kind, binding = named["info"] & 15, named["info"] >> 4
    plain = (kind != _STT_TLS) & (kind != _STT_GNU_IFUNC) & (binding != _STB_GNU_UNIQUE)
    return symbolic & defined & plain & (table["symbol"] != 0)


Segments = list[tuple[int, int, int]]
Tags = dict[int, tuple[int, int]]


def _layout(image: mmap.mmap) -> tuple[Segments, Tags]:
    """Loaded segments (address, file offset, size) and dynamic tags (value, place of the value)."""
    if image[:6] != b"\x7fELF\x02\x01" or image[16:20] != b"\x03\x00\x3e\x00":
        raise ValueError("no 64-bit x86 shared object")
    (headers,) = struct.unpack_from("<Q", image, 32)
    size, number = struct.unpack_from("<HH", image, 54)
    segments: Segments = []
    tags: Tags = {}
    for at in range(headers, headers + size * number, size):
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", image, at)
        if kind == _PT_LOAD:
            segments.append((address, offset, length))
        elif kind == _PT_DYNAMIC:
            tags = _tags(image, offset, length)
    missing = {_DT_SYMTAB, _DT_RELA, _DT_RELASZ} - tags.keys()
    if missing or tags[_DT_RELASZ][0] < 24:
        raise ValueError("it has no relocations of the kind that can be bound")
    return segments, tags


def _tags(image: mmap.mmap, offset: int, length: int) -> Tags:
    tags: Tags = {}
    for at in range(offset, offset + length, 16):
        tag, value = struct.unpack_from("<qQ", image, at)
        if tag == 0:
            break
        tags[tag] = (value, at + 8)
    return tags


def _offset(segments: Segments, address: int) -> int:
    """File offset of a loaded address."""
    for start, offset, size in segments:
        if start <= address < start + size:
            return offset + address - start
    raise ValueError(f"address {address:#x} is in no segment of the file")
