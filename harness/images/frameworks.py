"""TensorFlow as a locked ``pip --target`` tree: for guest images, and for a machine that works without a VM.

``cpu`` is the build for processors; ``cuda`` has kernels for GPUs and, as wheels, the CUDA libraries that
they need, while the driver is the machine's own. Both are of one version, for x86-64 and for one Python.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from harness.errors import ImageError
from harness.images import cache
from harness.images.processes import require_tool, run_logged

LOCKS = {"cpu": "tensorflow-cpu.txt", "cuda": "tensorflow-cuda.txt"}
"""Kind to the lock file in ``guest_files``: every package with its version and hashes.

Made by ``uv pip compile --generate-hashes --python-version 3.11 --python-platform x86_64-manylinux_2_28
--only-binary :all: --no-annotate --no-header`` of ``tensorflow-cpu`` or ``tensorflow[and-cuda]``.
"""
PYTHON = "3.11"
"""What the trees are for: its compiled modules load into no other."""
CACHE_KIND = "frameworks"
_RECIPE = 2
"""Raise it when ``install`` changes what is in a tree."""
_PLATFORM = "x86_64-manylinux_2_28"
_NEED_MIB = {"cpu": 4 * 1024, "cuda": 16 * 1024}
"""A tree as it is installed (1.3 and 6.1 GiB, measured), and uv's own copy of what it downloads."""
_FOR_BUILDING = (
    "tensorflow/include",
    "clang",
    "bin",
    "nvidia/*/include",
    "nvidia/*/lib/*.a",
)
"""Headers, static libraries and the C++ SDK are for building against TensorFlow, not for running it."""


def lock_text(kind: str) -> str:
    """The lock file of a kind."""
    return (resources.files("harness.images") / "guest_files" / LOCKS[kind]).read_text()


def tree_digest(kind: str) -> str:
    """The hash of everything that decides what a tree holds."""
    return cache.recipe_hash(
        f"framework {_RECIPE}", PYTHON, _PLATFORM, lock_text(kind), *sorted(_FOR_BUILDING)
    )


def ensure_tensorflow(
    progress: Callable[[str], None], kind: str = "cpu", *, root: Path | None = None
) -> Path:
    """A directory with TensorFlow for this machine, made when the cache does not hold it: a minute or two.

    Raises ImageError when it cannot be made: no space, no network, no uv, a file that is not the locked one.
    """

    def build(work: Path) -> None:
        progress(f"installing TensorFlow ({LOCKS[kind].removesuffix('.txt')}) into the cache, once")
        install(work / "tree", kind, work / "install.log", progress)
        cache.prune(CACHE_KIND, progress, root=root)

    digest = tree_digest(kind)
    return cache.ensure(CACHE_KIND, digest, build, progress, need_mib=_NEED_MIB[kind], root=root) / "tree"


def install(target: Path, kind: str, log: Path, progress: Callable[[str], None]) -> None:
    """Put the packages of a kind into ``target``, as their wheels have them, without what is only for
    building against them. Raises ImageError."""
    beside = Path(sys.executable).with_name("uv")
    tool = str(beside) if beside.is_file() else require_tool("uv", "uv (from PyPI: pip install uv)")
    with resources.as_file(resources.files("harness.images") / "guest_files" / LOCKS[kind]) as lock:
        run_logged(
            [
                *(tool, "pip", "install", "--quiet", "--target", str(target), "--python-version", PYTHON),
                *("--python-platform", _PLATFORM, "--only-binary", ":all:"),
                *("--require-hashes", "--no-deps", "--link-mode", "copy", "-r", str(lock)),
            ],
            log=log,
            what=f"installing TensorFlow ({kind})",
            progress=progress,
        )
    for pattern in _FOR_BUILDING:
        for path in sorted(target.glob(pattern)):
            cache.remove_tree(path) if path.is_dir() else path.unlink()
    if not (target / "tensorflow" / "__init__.py").is_file():
        raise ImageError(f"{target} holds no tensorflow after its installation", remedy=f"see {log}")
