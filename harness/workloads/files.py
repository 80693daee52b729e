"""The payload's files, as a stage puts them into a guest or an image builder bakes them in.

Payloads are ordinary modules that import each other by their ordinary names. What is packed is what the
started ones import, and what those import: modules of folders named ``payload``, the data beside them, and
empty packages around them. In the guest that tree is the whole of ``harness``.
"""

from __future__ import annotations

import ast
import io
import tarfile
import threading
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

from harness.errors import WorkloadError
from harness.vendors.sampler import SAMPLER
from harness.workloads.base import Place
from harness.workloads.registry import specs
from harness.workloads.runs import RUNNER

START = "harness.payload.start"
_PACKING = threading.Lock()


def payload_files() -> dict[str, bytes]:
    """Path to content of everything that must lie below ``Place.payload`` in the guest."""
    # Guests of a group ask at the same time, and two threads of Python 3.11 may not parse sources at once
    # ("AST constructor recursion depth mismatch", python/cpython#106905).
    with _PACKING:
        modules = packed((START, SAMPLER, *(module for one in specs() for module in one.jobs)))
    return dict(sorted({**modules, "harness/payload/runner.sh": RUNNER.program()}.items()))


@cache
def packed(modules: tuple[str, ...]) -> dict[str, bytes]:
    """Path to content of these modules, all that they import of us, and the data beside them.

    Raises WorkloadError for a module that is not there, or that imports what no guest has.
    """
    found: dict[str, bytes] = {}
    due = list(modules)
    while due:
        module = due.pop()
        path = f"{module.replace('.', '/')}.py"
        if path in found:
            continue
        package = module.rpartition(".")[0]
        item = _file(package, path.rpartition("/")[2])
        found[path] = item.read_bytes()
        due += _imported(module, found[path])
        found |= _data(package)
        for count in range(1, module.count(".") + 1):
            found["/".join([*module.split(".")[:count], "__init__.py"])] = b""
    return dict(sorted(found.items()))


def _file(package: str, name: str) -> Traversable:
    first, _, rest = package.partition(".")
    return resources.files(first).joinpath(*rest.split("."), name)


def _data(package: str) -> dict[str, bytes]:
    """What lies beside a payload's modules and is none: scripts, kernels, reference streams."""
    folder = package.replace(".", "/")
    beside = _file(package, "").iterdir()
    return {
        f"{folder}/{item.name}": item.read_bytes()
        for item in beside
        if item.is_file() and not item.name.endswith((".py", ".pyc"))
    }


def _imported(module: str, source: bytes) -> Iterator[str]:
    for name in imports(source):
        if name.partition(".")[0] == "harness":
            found = next((each for each in (name, name.rpartition(".")[0]) if _is_payload(each)), None)
            if found is None:
                raise WorkloadError(
                    f"{module} imports {name}, which no guest has: payloads import payloads only",
                    remedy="move what both sides need into a payload folder",
                )
            yield found


def _is_payload(module: str) -> bool:
    package, _, leaf = module.rpartition(".")
    return package.endswith(".payload") and _file(package, f"{leaf}.py").is_file()


def imports(source: bytes) -> tuple[str, ...]:
    """Full names of all that a module imports, but what it imports for types alone. ``from a import b`` is
    ``a.b``, a module or something in one."""
    return tuple(_names(ast.parse(source).body))


def _names(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from (f"{base}.{alias.name}" for alias in node.names)
        else:
            yield from _names(ast.iter_child_nodes(node))


def payload_tar() -> bytes:
    """The same as an uncompressed tar archive, byte for byte reproducible: the stdin of ``install``."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in payload_files().items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755 if name.endswith(".sh") else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def install(place: Place) -> tuple[str, ...]:
    """The command that unpacks ``payload_tar()`` from its standard input in the guest; safe to repeat.

    What lies there is run as root, so nobody else may write to the directory: one that another user made or
    put a link in the place of, in a shared directory for instance, is refused.
    """
    return ("/bin/sh", "-c", _INSTALL, "install", place.payload)


_INSTALL = """
umask 022
mkdir -p -- "$1" && chmod go-w -- "$1" || exit
if [ -L "$1" ] || [ "$(stat -c %u -- "$1")" != "$(id -u)" ]; then
    echo "$1: it belongs to another user, or is a link" >&2
    exit 73
fi
exec tar -C "$1" -xf - --no-same-owner
"""
