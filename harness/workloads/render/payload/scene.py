"""The scene that ``render.py`` and ``stream.py`` draw, and its two pictures of every frame.

*shaded*: a room, turning cubes and translucent panes: perspective, depth test, textures with bilinear
filter, two lights, blending. Floating point, so another implementation may differ in single pixels.

*exact*: overlapping rectangles whose every pixel is a number made with 32-bit integers: a table looked up,
mixed, stepped ``work`` times and mixed again. Each step can be undone, so whatever goes wrong in it changes
the pixel; and since ``x*a + c`` repeated is again of that form, the controller need not repeat the work.

Everything comes from integers of a seed. ``harness/workloads/render/golden.py`` holds the same scene a second
time, on purpose: it is drawn there without any GPU.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

SIDE = 64
"""Texels along each edge of the texture."""

_SHADED_VERTEX = """#version 330
in vec3 at; in vec3 normal; in vec2 uv; in vec3 centre; in vec2 spin; in vec4 tint;
uniform float frame; uniform float aspect;
out vec3 facing; out vec3 seen; out vec2 where; out vec4 colour;
vec3 turn(vec3 p, float a, float b) {
    vec3 q = vec3(cos(a) * p.x + sin(a) * p.z, p.y, cos(a) * p.z - sin(a) * p.x);
    return vec3(q.x, cos(b) * q.y - sin(b) * q.z, sin(b) * q.y + cos(b) * q.z);
}
void main() {
    float a = spin.x + spin.y * frame, b = 0.75 * a;
    vec3 view = turn(at, a, b) + centre;
    facing = turn(normal, a, b); seen = view; where = uv; colour = tint;
    gl_Position = vec4(1.5 * view.x / aspect, 1.5 * view.y, -1.0625 * view.z - 1.0625, -view.z);
}"""

_SHADED_FRAGMENT = """#version 330
in vec3 facing; in vec3 seen; in vec2 where; in vec4 colour;
uniform sampler2D table;
out vec4 pixel;
const vec3 key = vec3(0.36, 0.48, 0.80), fill = vec3(-0.80, 0.60, 0.0);
void main() {
    vec3 n = normalize(facing), half_way = normalize(key + normalize(-seen));
    float light = 0.25 + 0.55 * max(dot(n, key), 0.0) + 0.25 * max(dot(n, fill), 0.0);
    float shine = 0.3 * pow(max(dot(n, half_way), 0.0), 16.0);
    pixel = vec4(texture(table, where).rgb * colour.rgb * light + shine, colour.a);
}"""

_EXACT_VERTEX = """#version 330
in vec3 at; in float name;
uniform vec2 size;
flat out uint rectangle;
void main() {
    rectangle = uint(name);
    gl_Position = vec4(2.0 * at.xy / size - 1.0, 2.0 * at.z - 1.0, 1.0);
}"""

_EXACT_FRAGMENT = """#version 330
flat in uint rectangle;
uniform sampler2D table; uniform int number; uniform int work;
out vec4 pixel;
uint mixed(uint h) {
    h ^= h >> 16; h *= 0x7FEB352Du; h ^= h >> 15; h *= 0x846CA68Bu; return h ^ (h >> 16);
}
void main() {
    uvec2 p = uvec2(gl_FragCoord.xy);
    uvec4 t = uvec4(texelFetch(table, ivec2(p & 63u), 0) * 255.0 + 0.5);
    uint h = t.x | t.y << 8 | t.z << 16 | t.w << 24;
    h ^= p.x * 0x9E3779B1u ^ p.y * 0x85EBCA77u ^ uint(number) * 0xC2B2AE3Du ^ rectangle * 0x27D4EB2Fu;
    h = mixed(h);
    for (int i = 0; i < work; ++i) h = h * 1664525u + 1013904223u;
    h = mixed(h);
    pixel = vec4(h & 255u, h >> 8 & 255u, h >> 16 & 255u, h >> 24) / 255.0;
}"""


def numbers(seed: int) -> Iterator[int]:
    """Whole numbers of 0 to 255 without end (the generator of C's ``rand``, its upper bits)."""
    state = seed & 0x7FFFFFFF
    while True:
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        yield state >> 16 & 255


def texture(seed: int) -> bytes:
    """RGBA texels: random values at every eighth texel, blended between: smooth, and it repeats."""
    drawn = numbers(seed)
    knots = [[[next(drawn) for _ in range(4)] for _ in range(8)] for _ in range(8)]
    texels = bytearray()
    for y in range(SIDE):
        upper, lower, v = knots[y // 8], knots[(y // 8 + 1) % 8], y % 8
        for x in range(SIDE):
            left, right, u = x // 8, (x // 8 + 1) % 8, x % 8
            for c in range(4):
                top = upper[left][c] * (8 - u) + upper[right][c] * u
                bottom = lower[left][c] * (8 - u) + lower[right][c] * u
                texels.append((top * (8 - v) + bottom * v) // 64)
    return bytes(texels)


def _corner(values: list[float], at: Any, normal: Any, uv: Any, rest: Any) -> None:
    for part in (at, normal, uv, rest):
        values.extend(part)


def _quad(values: list[float], corners: Any, normal: Any, tiles: float, rest: Any) -> None:
    """Two triangles from four corners in turn."""
    uvs = ((0.0, 0.0), (tiles, 0.0), (tiles, tiles), (0.0, tiles))
    for n in (0, 1, 2, 0, 2, 3):
        _corner(values, corners[n], normal, uvs[n], rest)


def _cube(values: list[float], half: float, rest: Any) -> None:
    for axis in range(3):
        for sign in (-1.0, 1.0):
            normal = [0.0, 0.0, 0.0]
            normal[axis] = sign
            corners = []
            for p, q in ((-half, -half), (half, -half), (half, half), (-half, half)):
                corner = [p, q]
                corner.insert(axis, sign * half)
                corners.append(corner)
            _quad(values, corners, normal, 1.0, rest)


def vertices(seed: int, cubes: int) -> list[float]:
    """17 numbers a vertex: place, normal, texture place, centre, phase and speed of turning, colour.

    Every one is a whole number of 256ths, so that float32 holds it exactly.
    """
    drawn, values = numbers(seed + 1), []  # type: ignore[var-annotated]
    still = [0.0, 0.0, 0.0, 0.0, 0.0]
    floor = [(-20.0, -1.5, -2.0), (20.0, -1.5, -2.0), (20.0, -1.5, -14.0), (-20.0, -1.5, -14.0)]
    wall = [(-20.0, -1.5, -14.0), (20.0, -1.5, -14.0), (20.0, 10.0, -14.0), (-20.0, 10.0, -14.0)]
    _quad(values, floor, (0.0, 1.0, 0.0), 4.0, [*still, 1.0, 0.875, 0.75, 1.0])
    _quad(values, wall, (0.0, 0.0, 1.0), 2.0, [*still, 0.625, 0.75, 1.0, 1.0])
    for _ in range(cubes):
        x, y, z = next(drawn), next(drawn), next(drawn)
        centre = [(x - 128) / 32, (y - 64) / 64, -5.0 - z / 64]
        half = (96 + next(drawn) // 2) / 256
        spin = [next(drawn) / 64, (next(drawn) - 128) / 1024]
        tint = [(128 + next(drawn) // 2) / 256 for _ in range(3)]
        _cube(values, half, [*centre, *spin, *tint, 1.0])
    for n in range(4):
        left, low = (next(drawn) - 128) / 128, (next(drawn) - 96) / 128
        tint = [(128 + next(drawn) // 2) / 256 for _ in range(3)]
        corners = [(-0.75, -0.5, 0.0), (0.75, -0.5, 0.0), (0.75, 0.5, 0.0), (-0.75, 0.5, 0.0)]
        rest = [left, low, -4.0 + n * 0.375, 0.0, 0.0, *tint, 0.375]
        _quad(values, corners, (0.0, 0.0, 1.0), 1.0, rest)
    return values


def rectangles(seed: int, width: int, height: int) -> list[tuple[int, int, int, int, int]]:
    """Left, bottom, right, top in pixels, and depth in 64ths: the whole picture, then 15 parts of it."""
    drawn = numbers(seed + 2)
    found = [(0, 0, width, height, 60)]
    for n in range(1, 16):
        x0, x1 = sorted((next(drawn) * width // 255, next(drawn) * width // 255))
        y0, y1 = sorted((next(drawn) * height // 255, next(drawn) * height // 255))
        found.append((x0, y0, x1, y1, 1 + n * 7 % 16 * 3))
    return found


def _floats(values: list[float]) -> bytes:
    import array

    return array.array("f", values).tobytes()


class Scene:
    """Both pictures of one context: ``shaded(n)`` and ``exact(n)`` draw, ``read`` brings RGBA bytes."""

    def __init__(self, context: Any, job: dict[str, Any]) -> None:
        self._context = context
        self._size = (job["width"], job["height"])
        context.enable_only(context.DEPTH_TEST)
        context.depth_func = "<"
        self._texture = context.texture((SIDE, SIDE), 4, texture(job["seed"]))
        self._texture.filter = (context.LINEAR, context.LINEAR)
        self._texture.repeat_x = self._texture.repeat_y = True
        self._buffer = context.framebuffer(
            [context.renderbuffer(self._size, 4)], context.depth_renderbuffer(self._size)
        )
        self._shade = context.program(vertex_shader=_SHADED_VERTEX, fragment_shader=_SHADED_FRAGMENT)
        self._shade["aspect"].value = job["width"] / job["height"]
        corners = context.buffer(_floats(vertices(job["seed"], job["cubes"])))
        names = ("at", "normal", "uv", "centre", "spin", "tint")
        self._room = context.vertex_array(self._shade, [(corners, "3f 3f 2f 3f 2f 4f", *names)])
        self._exact = context.program(vertex_shader=_EXACT_VERTEX, fragment_shader=_EXACT_FRAGMENT)
        self._exact["size"].value = self._size
        self._exact["work"].value = job["work"]
        flat = []
        for n, (x0, y0, x1, y1, depth) in enumerate(rectangles(job["seed"], *self._size)):
            for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y0), (x1, y1), (x0, y1)):
                flat += [float(x), float(y), depth / 64, float(n)]
        self._flat = context.vertex_array(
            self._exact, [(context.buffer(_floats(flat)), "3f 1f", "at", "name")]
        )
        self._texture.use(0)

    def shaded(self, n: int) -> None:
        """Draw the shaded picture of frame ``n`` and wait until it is there."""
        context = self._context
        self._buffer.use()
        self._buffer.clear(0.0, 0.0, 0.0, 1.0)
        context.enable(context.BLEND)
        context.blend_func = context.SRC_ALPHA, context.ONE_MINUS_SRC_ALPHA, context.ONE, context.ONE
        self._shade["frame"].value = float(n)
        self._room.render()
        context.finish()

    def exact(self, n: int) -> None:
        """Draw the exact picture of frame ``n`` and wait until it is there."""
        self._buffer.use()
        self._buffer.clear()
        self._context.disable(self._context.BLEND)
        self._exact["number"].value = n
        self._flat.render()
        self._context.finish()

    def read(self) -> bytes:
        """What was drawn last: RGBA, the lowest row first."""
        return bytes(self._buffer.read(components=4))
