"""Whether the TensorFlow in a directory can work here: in this Python, with this driver, on this GPU.

TensorFlow itself tells of what it lacks in its log only, and then shows no GPU; nobody could tell a missing
file from a broken card. So everything is looked at before it starts.
"""

from __future__ import annotations

import ctypes
import glob
import os
import sys

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any

BUILD_INFO = "tensorflow/python/platform/build_info.py"
"""What ``tf.sysconfig.get_build_info()`` reads."""
ENGINE_FILE = "shakedown-engine.txt"
"""Beside the packages of an image: one line, the name of a module with an ``Engine``."""
_CUDA = {
    12: (
        "libcudart.so.12",
        "libnvJitLink.so.12",
        "libcublasLt.so.12",
        "libcublas.so.12",
        "libcufft.so.11",
        "libcusparse.so.12",
        "libcusolver.so.11",
        "libcudnn.so.9",
    )
}
"""Major version of CUDA to the libraries without any of which TensorFlow registers no GPU
(``TryDlopenCUDALibraries`` of its ``dso_loader.cc``), each after those that it needs itself."""


def other_python(folder: str) -> str:
    """For which other Python the packages in ``folder`` are; empty when they are for this one."""
    compiled = glob.glob(os.path.join(folder, "numpy/_core/_multiarray_umath.*.so"))
    tags = sorted(os.path.basename(path).split(".")[1] for path in compiled)
    mine = str(sys.implementation.cache_tag)
    if not tags or any(tag == mine or tag.startswith(mine + "-") for tag in tags):
        return ""
    here = ".".join(str(number) for number in sys.version_info[:3])
    return (
        f"{folder} is for {tags[0].rpartition('-x86')[0] or tags[0]}, and {sys.executable} is Python {here}"
    )


def build_info(folder: str) -> dict[str, Any]:
    """With what this TensorFlow was built: ``cuda`` (major and minor version, None without) and ``kernels``:
    for each kind, ``sm`` (machine code) or ``compute`` (PTX), its capability and a letter or none.

    Raises OSError where it does not say so.
    """
    import ast

    path = os.path.join(folder, BUILD_INFO)
    with open(path, encoding="utf-8") as stream:
        text = stream.read()
    try:
        told = dict(ast.literal_eval(text[text.index("OrderedDict(") + 12 : text.rindex(")")]))
        if not told["is_cuda_build"]:
            return {"cuda": None, "kernels": []}
        major, minor = (int(number) for number in told["cuda_version"].split(".")[:2])
        return {
            "cuda": (major, minor),
            "kernels": [_kernel(name) for name in told["cuda_compute_capabilities"]],
        }
    except (ValueError, SyntaxError, TypeError, KeyError, AttributeError) as error:
        raise OSError(f"{path} cannot be understood: {error!r}") from error


def _kernel(name: str) -> tuple[str, tuple[int, int], str]:
    """``sm_89`` is machine code for 8.9, ``compute_90`` PTX for 9.0, ``sm_90a`` code for nothing but 9.0."""
    kind, _, digits = name.partition("_")
    letter = digits[-1] if digits[-1:].isalpha() else ""
    major, minor = divmod(int(digits.removesuffix(letter)), 10)
    return kind, (major, minor), letter


def no_kernels(info: dict[str, Any], capability: tuple[int, int], driver: int) -> str:
    """Why a GPU of that compute capability has no kernels here; empty when it has. ``driver``: as
    ``cuDriverGetVersion`` says it, 12020 for CUDA 12.2.

    Machine code runs on its own major version of the capability, from its minor version on, and with every
    driver of CUDA's major version. PTX runs on all later GPUs, after a driver that is at least as new as the
    CUDA it was made with has compiled it (CUDA C++ programming guide, 3.1; CUDA compatibility guide, 2).
    """
    if info["cuda"] is None:
        return "this TensorFlow is built without CUDA"
    (major, minor), kernels, what = info["cuda"], info["kernels"], _dotted(capability)
    if driver < major * 1000:
        return f"this TensorFlow is built with CUDA {major}, and the driver is for CUDA {_version(driver)}"
    for kind, made_for, letter in kernels:
        near = not letter and made_for[0] == capability[0] and made_for <= capability
        if kind == "sm" and (near or made_for == capability):
            return ""
    if not any(
        k == "compute" and (m == capability or (m < capability and not letter)) for k, m, letter in kernels
    ):
        there = ", ".join(sorted({_dotted(made_for) for _, made_for, _ in kernels}))
        return f"this TensorFlow has no kernels for compute capability {what}, only for {there}"
    if driver < major * 1000 + minor * 10:
        return (
            f"for compute capability {what} this TensorFlow has only PTX of CUDA {major}.{minor}, which a"
            f" driver for CUDA {major}.{minor} or later must compile; this one is for CUDA {_version(driver)}"
        )
    return ""


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"


def _version(driver: int) -> str:
    return f"{driver // 1000}.{driver % 1000 // 10}"


def preload(libraries: list[str]) -> None:
    """Load CUDA's libraries before TensorFlow asks for them by their names. Raises OSError for one that is
    not there: TensorFlow would tell of it in its log only, and show no GPU."""
    for path in libraries:
        ctypes.CDLL(path)


def engine_named(folder: str) -> str:
    """The module that an image has this TensorFlow used through, beside it, as its builder wrote down; empty
    where it is used by ``import tensorflow``, as it is everywhere but in an image that says otherwise."""
    try:
        with open(os.path.join(folder, ENGINE_FILE), encoding="ascii") as stream:
            return stream.read().strip()
    except FileNotFoundError:
        return ""


def cuda_libraries(folder: str, info: dict[str, Any]) -> list[str]:
    """The CUDA libraries to load before TensorFlow: those of the wheels, else by name as the system has them.

    TensorFlow's own way to the wheels leads through the library that asks, and one asks for cuSOLVER that
    knows no way there. Raises OSError for a CUDA whose libraries are not known.
    """
    major = info["cuda"][0]
    if major not in _CUDA:
        raise OSError(f"which libraries TensorFlow needs of CUDA {major} is not known")
    found = []
    for name in _CUDA[major]:
        wheels = sorted(glob.glob(os.path.join(glob.escape(folder), "nvidia", "*", "lib", name)))
        found.append(wheels[0] if wheels else name)
    return found
