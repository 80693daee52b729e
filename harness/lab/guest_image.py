"""The lab's kind of guest image: ``cpu`` with what only an emulated host needs.

- the UIO driver by which the stand-in accelerator ``edu`` interrupts (``harness/lab/native/uio_edu_msi.c``);
- the NVML stand-in, which nothing loads unless the host file names a scenario;
- TensorFlow with its own symbols bound beforehand, and a way to it without ``import tensorflow``, which takes
  minutes on an emulated processor (``harness/lab/payload``). A file in the image tells ``tensor`` of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from harness.errors import ImageError
from harness.images import cache
from harness.images.debian import ImageFile
from harness.images.kinds import BASE, KINDS, LOADS, GuestKind, once
from harness.images.processes import require_tool, run_logged
from harness.images.standin import compile_argv
from harness.lab.prelink import LIBRARY, bind_own_symbols
from harness.vendors.standin import GUEST_LIBRARY, sources
from harness.workloads.tensor.payload.library import ENGINE_FILE

_RECIPE = 1
"""Raise it when ``_lean`` changes what it makes of TensorFlow."""
_PACKAGE = "shakedown_lab"
_BUILD = ("gcc", "libc6-dev", "make", "linux-headers-amd64")
"""To compile the stand-ins (a driver, a library) inside the image; taken out again."""
_DRIVER_DIR = "/usr/src/shakedown"
_STANDIN_DIR = "/usr/src/shakedown-nvml"
_DRIVER = """chroot "$1" sh -ec '
release=$(ls /lib/modules)
make -s -C /lib/modules/$release/build M=%s modules
mkdir -p /lib/modules/$release/extra
cp %s/uio_edu_msi.ko /lib/modules/$release/extra/
depmod $release'
""" % (_DRIVER_DIR, _DRIVER_DIR)  # noqa: UP031  braces and percent signs of shell stay readable


def _standin() -> str:
    """Compile our NVML stand-in inside the image, for the C library that it has."""
    make = " ".join(compile_argv("gcc", sources(), GUEST_LIBRARY))
    return f"""chroot "$1" sh -ec 'mkdir -p {GUEST_LIBRARY.rpartition("/")[0]}
cd {_STANDIN_DIR}
{make.replace(str(sources()[0].parent) + "/", "")}'"""


def _files() -> tuple[ImageFile, ...]:
    driver = (resources.files("harness.lab") / "native" / "uio_edu_msi.c").read_text()
    return (
        ImageFile(path=f"{_DRIVER_DIR}/uio_edu_msi.c", content=driver),
        ImageFile(path=f"{_DRIVER_DIR}/Makefile", content="obj-m := uio_edu_msi.o\n"),
        *(
            ImageFile(path=f"{_STANDIN_DIR}/{source.name}", content=source.read_text())
            for source in sources()
        ),
    )


def _payload() -> dict[str, bytes]:
    """What lies beside TensorFlow: name to content."""
    folder = resources.files("harness.lab.payload")
    return {
        item.name: item.read_bytes()
        for item in sorted(folder.iterdir(), key=lambda item: item.name)
        if item.name.endswith((".py", ".pages"))
    }


def lean(target: Path, log: Path, progress: Callable[[str], None]) -> None:
    """Take symbol tables out of TensorFlow that nothing loads, bind its references to itself beforehand, and
    put the lab's way to it beside it. Raises ImageError."""
    library = target / LIBRARY
    if not library.is_file():
        raise ImageError(f"{target} holds no {LIBRARY} after its installation", remedy=f"see {log}")
    libraries = [library, *(target / "tensorflow").glob("libtensorflow_framework.so.*")]
    run_logged(
        [require_tool("strip", "binutils"), "--strip-unneeded", *(str(path) for path in libraries)],
        log=log,
        what="stripping TensorFlow",
        progress=progress,
    )
    bind_own_symbols(library)
    put_beside(target)


def put_beside(target: Path) -> None:
    """Put the lab's way to TensorFlow beside it, and write down that it is to be taken."""
    beside = target / _PACKAGE
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    for name, content in _payload().items():
        (beside / name).write_bytes(content)
    (target / ENGINE_FILE).write_text(f"{_PACKAGE}.engine\n")


LAB = GuestKind(
    packages=once(*BASE, *LOADS, *_BUILD),
    components=("main",),
    framework="cpu",
    disk_mib=5 * 1024,
    takes="about three minutes",
    files=_files(),
    steps=(
        _DRIVER,
        _standin(),
        f'chroot "$1" apt-get purge -qq -y --auto-remove {" ".join(_BUILD)} >/dev/null',
    ),
    change_framework=lean,
    changes_digest=cache.recipe_hash(
        f"lean {_RECIPE}", *(f"{name}\n".encode() + content for name, content in _payload().items())
    ),
)

GUEST_KINDS: dict[str, GuestKind] = {**KINDS, "lab": LAB}
"""All kinds of images that a guest of the lab can have."""
