"""The stand-in of the library that tells a GPU's telemetry, compiled on this machine for this machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

from harness.errors import ImageError
from harness.images import cache
from harness.images.processes import require_tool, run_logged
from harness.vendors.standin import BINDING, BINDING_PACKAGE, LIBRARY, NAME, sources

CACHE_KIND = f"{NAME.lower()}-standin"
FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden")
_DEADLINE_SECONDS = 300.0


def binding_file() -> Path:
    """The library's Python binding (one file), as this controller has it."""
    spec = importlib.util.find_spec(BINDING)
    if spec is None or spec.origin is None:
        raise ImageError(f"{BINDING} is not installed", remedy=f"pip install {BINDING_PACKAGE}")
    return Path(spec.origin)


def compile_argv(compiler: str, made_of: tuple[Path, ...], output: str) -> tuple[str, ...]:
    """The command that makes the library; it needs nothing but a C compiler and the C library."""
    files = [str(path) for path in made_of if path.suffix == ".c"]
    return (compiler, *FLAGS, f"-Wl,-soname,{LIBRARY}", "-o", output, *files, "-lm")


def ensure_standin(progress: Callable[[str], None], *, root: Path | None = None) -> Path:
    """Path of the compiled library, in the cache by the hash of its sources and flags.

    Raises ImageError when there is no gcc, or when it does not take the sources.
    """
    made_of = sources()
    if not made_of:
        raise ImageError(f"the sources of the {NAME} stand-in are missing from this installation")
    compiler = require_tool("gcc", "gcc libc6-dev")
    digest = cache.recipe_hash(*FLAGS, *(path.read_bytes() for path in made_of))

    def build(work: Path) -> None:
        progress(f"compiling the {NAME} stand-in")
        run_logged(
            compile_argv(compiler, made_of, LIBRARY),
            log=work / "build.log",
            what=f"compiling the {NAME} stand-in",
            progress=progress,
            deadline=_DEADLINE_SECONDS,
            directory=work,
        )

    return cache.ensure(CACHE_KIND, digest, build, progress, root=root) / LIBRARY
