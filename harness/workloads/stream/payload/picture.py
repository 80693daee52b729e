"""Pictures for ``stream.py``: a pattern whose every pixel is known, and a counter that survives lossy coding.

The counter is painted into the lower left corner of the picture as its bytes come (the first rows): 8 x 5
cells, black or white, row by row: 24 bits of the number, then 16 bits of its CRC (CRC-CCITT of the three
bytes, as ``binascii.crc_hqx``), the highest bits first. ``harness/workloads/stream/golden.py`` draws the same
pictures a second time.
"""

from __future__ import annotations

import binascii

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any

ACROSS, DOWN = 8, 5
"""Cells of the counter."""
DARK, LIGHT, MIDDLE = 16, 235, 126
"""Luma of black and white (ITU-R BT.601), and what divides them."""
PERIOD = 1024
"""Rendered pictures repeat after so many: angles that grow without end lose their last bits."""
CORRUPT = -1
"""Instead of a number: the checksum does not fit."""


def cell_size(width: int) -> int:
    """Pixels along each edge of a cell."""
    return 16 if width >= 640 else 8


def bits(number: int) -> str:
    """The 40 cells as text of 0 and 1."""
    raw = number.to_bytes(3, "big")
    return f"{number:024b}{binascii.crc_hqx(raw, 0xFFFF):016b}"


def cell_rows(number: int, cell: int, dark: bytes, light: bytes) -> list[bytes]:
    """One row of pixels for each of the five rows of cells."""
    text, pixels = bits(number), {"0": dark * cell, "1": light * cell}
    return [b"".join([pixels[bit] for bit in text[n : n + ACROSS]]) for n in range(0, ACROSS * DOWN, ACROSS)]


def read_number(luma: Any, width: int, cell: int) -> int:
    """The number painted into a luma plane, or CORRUPT. Each cell counts by the mean of its middle."""
    quarter, value = cell // 4, 0
    for row in range(DOWN):
        lines = []
        for y in range(row * cell + quarter, (row + 1) * cell - quarter, 2):
            lines.append(bytes(luma[y * width : y * width + ACROSS * cell]))
        for column in range(ACROSS):
            left, right = column * cell + quarter, (column + 1) * cell - quarter
            total = sum([sum(line[left:right]) for line in lines])
            value = value << 1 | (total > MIDDLE * len(lines) * (right - left))
    number, check = value >> 16, value & 0xFFFF
    return number if binascii.crc_hqx(number.to_bytes(3, "big"), 0xFFFF) == check else CORRUPT


class Drawn:
    """yuv420p pictures of integers: a soft texture whose rows drift at different speeds."""

    pixel_format = "yuv420p"
    engine = ""

    def __init__(self, job: dict[str, Any]) -> None:
        self._width, self._height, self._seed = job["width"], job["height"], job["seed"]
        base, value = bytearray(), self._seed & 0x7FFFFFFF
        for x in range(self._width):
            value = (value * 1103515245 + 12345) & 0x7FFFFFFF
            base.append(32 + abs((x * 5) % 320 - 160) + (value >> 16) % 17)
        self._luma = bytes(base) * 2
        self._chroma = bytes([64 + abs(x * 2 % 256 - 128) for x in range(self._width)]) * 2
        self._cell = cell_size(self._width)

    def picture(self, n: int, number: int) -> bytes:
        """Picture ``n`` with ``number`` painted in."""
        width, height, seed, luma, chroma = self._width, self._height, self._seed, self._luma, self._chroma
        parts = []
        for y in range(height):
            at = (y * 3 + n * (2 + y // 32 % 3) + seed) % width
            parts.append(luma[at : at + width])
        inside = ACROSS * self._cell
        for row, cells in enumerate(cell_rows(number, self._cell, bytes([DARK]), bytes([LIGHT]))):
            for y in range(row * self._cell, (row + 1) * self._cell):
                parts[y] = cells + parts[y][inside:]
        for plane in (1, 2):
            for y in range(height // 2):
                at = (y + n * plane + seed) % width
                parts.append(chroma[at : at + width // 2])
        return b"".join(parts)


class Rendered:
    """RGBA pictures of the render workload's shaded scene, drawn by OpenGL."""

    pixel_format = "rgba"

    def __init__(self, job: dict[str, Any], address: str, devices: Any, scenes: Any) -> None:
        context = devices.context(job, address)
        self.engine = devices.engine_of(
            str(context.info["GL_RENDERER"]), str(context.info["GL_VENDOR"]), gpu=bool(address)
        )
        self._scene, self._stride = scenes.Scene(context, job), job["width"] * 4
        self._cell = cell_size(job["width"])

    def picture(self, n: int, number: int) -> Any:
        """Picture ``n`` with ``number`` painted in."""
        self._scene.shaded(n % PERIOD)
        pixels = bytearray(self._scene.read())
        for row, cells in enumerate(cell_rows(number, self._cell, b"\0\0\0\xff", b"\xff\xff\xff\xff")):
            for y in range(row * self._cell, (row + 1) * self._cell):
                pixels[y * self._stride : y * self._stride + len(cells)] = cells
        return pixels


def sample(picture: Any, width: int, height: int, step: int) -> bytes:
    """Every ``step``-th pixel of every ``step``-th row of each of the three planes of a yuv420p picture."""
    planes, at = [], 0
    for across, down in ((width, height), (width // 2, height // 2), (width // 2, height // 2)):
        rows = range(at, at + across * down, across * step)
        planes += [bytes(picture[row : row + across : step]) for row in rows]
        at += across * down
    return b"".join(planes)
