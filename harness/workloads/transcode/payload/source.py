"""The clip that ``clips.py`` encodes: moving texture, film grain and noise, from integers only.

Rows are slices of a few long ones, so that a frame of 3840 x 2160 costs some ten milliseconds of Python, here
and on the controller, which draws the same frames to know their hashes.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from collections.abc import Iterator

GRAINS = 16
WILD = 4096
ORDER = 997


class Noise:
    """15-bit values of a linear congruential generator (ANSI C's constants)."""

    def __init__(self, seed: int) -> None:
        self.state = seed & 0x7FFFFFFF

    def take(self, count: int) -> list[int]:
        """The next ``count`` values."""
        found = []
        for _ in range(count):
            self.state = (self.state * 1103515245 + 12345) & 0x7FFFFFFF
            found.append(self.state >> 16)
        return found


def rows(width: int, bits: int, seed: int) -> tuple[bytes, list[bytes], bytes, bytes, list[int]]:
    """Smooth row, rows with grain, noise, chroma (each long enough to be cut anywhere), and an order."""
    scale, noise = (4 if bits == 10 else 1), Noise(seed)

    def packed(values: list[int]) -> bytes:
        if bits == 8:
            return bytes(values)
        return b"".join([value.to_bytes(2, "little") for value in values])

    soft = [(32 + abs(x * 5 % 320 - 160)) * scale for x in range(width)]
    smooth = packed([v + n % (3 * scale) for v, n in zip(soft, noise.take(width), strict=True)]) * 2
    grains = [
        packed([v + n % (13 * scale) for v, n in zip(soft, noise.take(width), strict=True)]) * 2
        for _ in range(GRAINS)
    ]
    wild = packed([(16 + n % 192) * scale for n in noise.take(width + WILD)])
    chroma = packed([(64 + abs(x * 2 % 256 - 128)) * scale for x in range(width)]) * 2
    return smooth, grains, wild, chroma, noise.take(ORDER)


def frames(width: int, height: int, bits: int, count: int, seed: int) -> Iterator[bytes]:
    """``count`` frames, yuv420p or yuv420p10le.

    Upper half: a texture whose rows drift at different speeds. Lower half: the same under grain that changes
    from frame to frame. The lowest sixteenth: noise.
    """
    smooth, grains, wild, chroma, order = rows(width, bits, seed)
    size = 2 if bits == 10 else 1
    for n in range(count):
        parts = []
        for y in range(height):
            if y * 16 >= height * 15:
                at = order[(y * 31 + n * 17) % ORDER] % WILD * size
                parts.append(wild[at : at + width * size])
                continue
            row = grains[order[(y * 7 + n * 13) % ORDER] % GRAINS] if y * 2 >= height else smooth
            at = (y * 3 + n * (2 + y // 32 % 3) + seed) % width * size
            parts.append(row[at : at + width * size])
        for plane in (1, 2):
            for y in range(height // 2):
                at = (y + n * plane + seed) % width * size
                parts.append(chroma[at : at + width // 2 * size])
        yield b"".join(parts)
