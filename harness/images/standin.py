"""The NVML stand-in, compiled on this machine for this machine (``harness/native/nvml_standin*.c``)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from harness.errors import ImageError
from harness.images import cache
from harness.images.processes import require_tool, run_logged

CACHE_KIND = "nvml-standin"
LIBRARY = "libnvidia-ml.so.1"
"""File name and soname: what pynvml asks the system for."""
GUEST_LIBRARY = f"/usr/lib/shakedown/nvml/{LIBRARY}"
"""Where a guest image that has one holds it; nothing loads it unless the host file names a scenario."""
FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden")
_DEADLINE_SECONDS = 300.0


def pynvml_file() -> Path:
    """NVIDIA's Python binding of NVML (``nvidia-ml-py``, one file), as this controller has it."""
    spec = importlib.util.find_spec("pynvml")
    if spec is None or spec.origin is None:
        raise ImageError("pynvml is not installed", remedy="pip install nvidia-ml-py")
    return Path(spec.origin)


def standin_sources() -> tuple[Path, ...]:
    """Everything it is compiled from, headers included, by name."""
    folder = Path(str(resources.files("harness") / "native"))
    return tuple(sorted([*folder.glob("nvml_standin*.c"), *folder.glob("nvml_standin*.h")]))


def compile_argv(compiler: str, sources: tuple[Path, ...], output: str) -> tuple[str, ...]:
    """The command that makes the library; it needs nothing but a C compiler and the C library."""
    files = [str(path) for path in sources if path.suffix == ".c"]
    return (compiler, *FLAGS, f"-Wl,-soname,{LIBRARY}", "-o", output, *files, "-lm")


def ensure_standin(progress: Callable[[str], None], *, root: Path | None = None) -> Path:
    """Path of the compiled library, in the cache by the hash of its sources and flags.

    Raises ImageError when there is no gcc, or when it does not take the sources.
    """
    sources = standin_sources()
    if not sources:
        raise ImageError("the sources of the NVML stand-in are missing from this installation")
    compiler = require_tool("gcc", "gcc libc6-dev")
    digest = cache.recipe_hash(*FLAGS, *(path.read_bytes() for path in sources))

    def build(work: Path) -> None:
        progress("compiling the NVML stand-in")
        run_logged(
            compile_argv(compiler, sources, LIBRARY),
            log=work / "build.log",
            what="compiling the NVML stand-in",
            progress=progress,
            deadline=_DEADLINE_SECONDS,
            directory=work,
        )

    return cache.ensure(CACHE_KIND, digest, build, progress, root=root) / LIBRARY
