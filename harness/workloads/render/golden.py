"""The golden pictures of the render workload: the scene of ``payload/scene.py``, drawn here.

Written down a second time on purpose, and without any OpenGL: *shaded* is a small rasterizer in float64,
*exact* is plain integer arithmetic. So a GPU is not compared with another GPU, nor with a stored
picture that somebody once trusted. Pictures are arrays of height x width x channels,
the lowest row first, as OpenGL reads.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_SIDE = 64
_KEY, _FILL = np.array([0.36, 0.48, 0.80]), np.array([-0.80, 0.60, 0.0])
_STEP, _ADD = 1664525, 1013904223
"""Numerical Recipes' quick generator: the step that a shader repeats."""


def _numbers(seed: int) -> Iterator[int]:
    state = seed % (1 << 31)
    while True:
        state = (state * 1103515245 + 12345) % (1 << 31)
        yield (state >> 16) % 256


def texture(seed: int) -> Array:
    """64 x 64 RGBA texels, as bytes."""
    knots = np.array(list(itertools.islice(_numbers(seed), 256)), dtype=np.int64).reshape(8, 8, 4)
    at, part = np.arange(_SIDE) // 8, np.arange(_SIDE) % 8
    after = (at + 1) % 8
    u, v = part[None, :, None], part[:, None, None]

    def row(y: Array) -> Array:
        return knots[y][:, at] * (8 - u) + knots[y][:, after] * u

    return ((row(at) * (8 - v) + row(after) * v) // 64).astype(np.uint8)


def _cube(half: float) -> Array:
    """36 corners of place, normal and texture place."""
    corners = []
    for axis, sign in itertools.product(range(3), (-1.0, 1.0)):
        normal = np.eye(3)[axis] * sign
        for n in (0, 1, 2, 0, 2, 3):
            p, q = ((-half, -half), (half, -half), (half, half), (-half, half))[n]
            place = np.insert(np.array([p, q]), axis, sign * half)
            corners.append((*place, *normal, *((0, 0), (1, 0), (1, 1), (0, 1))[n]))
    return np.array(corners)


def _quad(corners: Any, normal: Any, tiles: float) -> Array:
    uv = ((0.0, 0.0), (tiles, 0.0), (tiles, tiles), (0.0, tiles))
    return np.array([(*corners[n], *normal, *uv[n]) for n in (0, 1, 2, 0, 2, 3)])


def _parts(seed: int, cubes: int) -> Iterator[tuple[Array, Array, float, float, Array]]:
    """Corners, centre, phase, speed and RGBA tint of each thing, in the order of drawing."""
    drawn, here = _numbers(seed + 1), np.zeros(3)
    floor = ((-20, -1.5, -2), (20, -1.5, -2), (20, -1.5, -14), (-20, -1.5, -14))
    wall = ((-20, -1.5, -14), (20, -1.5, -14), (20, 10, -14), (-20, 10, -14))
    yield _quad(floor, (0, 1, 0), 4), here, 0.0, 0.0, np.array([1, 0.875, 0.75, 1])
    yield _quad(wall, (0, 0, 1), 2), here, 0.0, 0.0, np.array([0.625, 0.75, 1, 1])
    for _ in range(cubes):
        x, y, z, size, phase, speed, red, green, blue = itertools.islice(drawn, 9)
        centre = np.array([(x - 128) / 32, (y - 64) / 64, -5 - z / 64])
        tint = np.array([*((128 + c // 2) / 256 for c in (red, green, blue)), 1])
        yield _cube((96 + size // 2) / 256), centre, phase / 64, (speed - 128) / 1024, tint
    pane = ((-0.75, -0.5, 0), (0.75, -0.5, 0), (0.75, 0.5, 0), (-0.75, 0.5, 0))
    for n in range(4):
        x, y, red, green, blue = itertools.islice(drawn, 5)
        centre = np.array([(x - 128) / 128, (y - 96) / 128, -4 + n * 0.375])
        tint = np.array([*((128 + c // 2) / 256 for c in (red, green, blue)), 0.375])
        yield _quad(pane, (0, 0, 1), 1), centre, 0.0, 0.0, tint


def _turn(points: Array, angle: float) -> Array:
    """About the upright axis by ``angle``, then about the level one by three quarters of it."""
    a, b = angle, 0.75 * angle
    x = np.cos(a) * points[:, 0] + np.sin(a) * points[:, 2]
    z = np.cos(a) * points[:, 2] - np.sin(a) * points[:, 0]
    y = points[:, 1]
    return np.stack((x, np.cos(b) * y - np.sin(b) * z, np.sin(b) * y + np.cos(b) * z), axis=1)


@lru_cache(maxsize=8)
def shaded(width: int, height: int, seed: int, cubes: int, number: int) -> Array:
    """The shaded picture of one frame as RGB bytes, read-only.

    About a second at 1280 x 720, so it is kept: the same ones are due of every GPU and every run in a mix.
    """
    colour, depth = np.zeros((height, width, 3)), np.ones((height, width))
    texels = texture(seed)[..., :3] / 255
    for corners, centre, phase, speed, tint in _parts(seed, cubes):
        angle = phase + speed * number
        view = _turn(corners[:, :3], angle) + centre
        rest = np.concatenate((view, _turn(corners[:, 3:6], angle), corners[:, 6:]), axis=1)
        for first in range(0, len(corners), 3):
            _triangle(colour, depth, view[first : first + 3], rest[first : first + 3], tint, texels)
    picture = np.rint(colour * 255).astype(np.uint8)
    picture.setflags(write=False)
    return picture


def _triangle(colour: Array, depth: Array, view: Array, rest: Array, tint: Array, texels: Array) -> None:  # noqa: PLR0917
    """Draw one triangle by OpenGL's rules: pixel centres, top-left edges, depth less, values in bytes."""
    height, width = depth.shape
    w = -view[:, 2]
    x = (1.5 * view[:, 0] * height / width / w + 1) * width / 2
    y = (1.5 * view[:, 1] / w + 1) * height / 2
    z = ((-1.0625 * view[:, 2] - 1.0625) / w + 1) / 2
    x0, x1 = max(0, int(np.floor(x.min()))), min(width, int(np.ceil(x.max())) + 1)
    y0, y1 = max(0, int(np.floor(y.min()))), min(height, int(np.ceil(y.max())) + 1)
    area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
    if x0 >= x1 or y0 >= y1 or area == 0:
        return
    px, py = np.meshgrid(np.arange(x0, x1) + 0.5, np.arange(y0, y1) + 0.5)
    inside, weights = np.ones(px.shape, dtype=bool), []
    for n in range(3):
        i, k = (n + 1) % 3, (n + 2) % 3
        dx, dy = (x[k] - x[i]) * np.sign(area), (y[k] - y[i]) * np.sign(area)
        edge = dx * (py - y[i]) - dy * (px - x[i])
        owned = dy < 0 or (dy == 0 and dx < 0)  # a pixel centre right on an edge of two triangles is one's
        inside &= (edge > 0) | ((edge == 0) & owned)
        weights.append(edge / abs(area))
    rows, columns = np.nonzero(inside)
    share = np.stack([weight[rows, columns] for weight in weights], axis=1)
    here = share @ z
    nearer = here < depth[rows + y0, columns + x0]
    rows, columns, share, here = rows[nearer] + y0, columns[nearer] + x0, share[nearer], here[nearer]
    if not len(rows):
        return
    level = share / w
    values = (level / level.sum(axis=1, keepdims=True)) @ rest
    lit = np.clip(_light(values, tint, texels), 0, 1)
    mixed = lit * tint[3] + colour[rows, columns] * (1 - tint[3])
    colour[rows, columns] = np.rint(mixed * 255) / 255
    depth[rows, columns] = here


def _light(values: Array, tint: Array, texels: Array) -> Array:
    seen, normal, uv = values[:, :3], values[:, 3:6], values[:, 6:]
    normal = normal / np.linalg.norm(normal, axis=1, keepdims=True)
    half_way = _KEY - seen / np.linalg.norm(seen, axis=1, keepdims=True)
    half_way /= np.linalg.norm(half_way, axis=1, keepdims=True)
    light = 0.25 + 0.55 * np.maximum(normal @ _KEY, 0) + 0.25 * np.maximum(normal @ _FILL, 0)
    shine = 0.3 * np.maximum((normal * half_way).sum(axis=1), 0) ** 16
    return np.asarray(_sample(texels, uv) * tint[:3] * light[:, None] + shine[:, None])


def _sample(texels: Array, uv: Array) -> Array:
    """Bilinear, repeating (OpenGL 3.3 core, section 3.8.11)."""
    at = uv * _SIDE - 0.5
    low = np.floor(at).astype(np.int64)
    part = at - low
    x0, y0 = low[:, 0] % _SIDE, low[:, 1] % _SIDE
    x1, y1 = (x0 + 1) % _SIDE, (y0 + 1) % _SIDE
    u, v = part[:, :1], part[:, 1:]
    lower = texels[y0, x0] * (1 - u) + texels[y0, x1] * u
    upper = texels[y1, x0] * (1 - u) + texels[y1, x1] * u
    return np.asarray(lower * (1 - v) + upper * v)


def _mixed(h: Array) -> Array:
    """Chris Wellons' ``lowbias32``: every output bit depends on every input bit, and it can be undone."""
    h = h ^ (h >> np.uint32(16))
    h = h * np.uint32(0x7FEB352D)
    h = h ^ (h >> np.uint32(15))
    h = h * np.uint32(0x846CA68B)
    return np.asarray(h ^ (h >> np.uint32(16)))


def _many_steps(work: int) -> tuple[int, int]:
    """``x -> a x + c`` repeated ``work`` times, as one such step modulo 2^32 (by squaring)."""
    total, (a, c) = (1, 0), (_STEP, _ADD)
    while work:
        if work & 1:
            total = (a * total[0] % (1 << 32), (a * total[1] + c) % (1 << 32))
        a, c, work = a * a % (1 << 32), (a * c + c) % (1 << 32), work >> 1
    return total


def exact(width: int, height: int, seed: int, work: int, number: int) -> Array:
    """The exact picture of one frame as RGBA bytes."""
    names = _names(width, height, seed)
    x, y = np.arange(width, dtype=np.uint32), np.arange(height, dtype=np.uint32)[:, None]
    texels = texture(seed).view("<u4")[..., 0]
    h = texels[(y % _SIDE).astype(np.intp), (x % _SIDE).astype(np.intp)]
    h = h ^ (x * np.uint32(0x9E3779B1)) ^ (y * np.uint32(0x85EBCA77))
    h = h ^ np.uint32(number * 0xC2B2AE3D % (1 << 32)) ^ (names * np.uint32(0x27D4EB2F))
    a, c = _many_steps(work)
    h = _mixed(_mixed(h) * np.uint32(a) + np.uint32(c))
    return h.astype("<u4").view(np.uint8).reshape(height, width, 4)


def _names(width: int, height: int, seed: int) -> Array:
    """Which of the rectangles is in front at each pixel: the one of least depth."""
    drawn = _numbers(seed + 2)
    found = [(60, 0, 0, 0, width, height)]
    for n in range(1, 16):
        xs = sorted(next(drawn) * width // 255 for _ in range(2))
        ys = sorted(next(drawn) * height // 255 for _ in range(2))
        found.append((1 + n * 7 % 16 * 3, n, xs[0], ys[0], xs[1], ys[1]))
    names = np.zeros((height, width), dtype=np.uint32)
    for _, n, x0, y0, x1, y1 in sorted(found, reverse=True):
        names[y0:y1, x0:x1] = n
    return names
