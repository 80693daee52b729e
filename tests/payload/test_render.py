"""Real OpenGL, drawn by Mesa: right pictures pass, and one spoilt bit or block under way is found.

Faults are put between the real OpenGL and the payload by a ``moderngl`` of our own that loads the real one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.model.evidence import WorkloadResult
from harness.model.pci import PciAddress
from harness.payload import bounded, processes, render_device
from harness.workloads.base import GuestDevice, Job, Place
from harness.workloads.judge import judge
from harness.workloads.registry import workload
from harness.workloads.render.payload import job as render_job
from harness.workloads.runs import collect, start, wait
from harness.workloads.stream.payload import job as stream_job
from tests.packed import packed

SYSTEM = "/usr/lib/python3/dist-packages"
PYTHON = "/usr/bin/python3"
SMALL = {"driver": "softpipe", "width": 64, "height": 48, "frames": 3, "rounds": 3, "golden": 1, "work": 2,
         "cubes": 6}  # fmt: skip
Perform = Callable[..., WorkloadResult]

REAL = f"""
import sys
sys.modules.pop("moderngl")
sys.path[0] = {SYSTEM!r}
import moderngl as real
sys.modules["moderngl"] = real
draw, count = real.Framebuffer.read, [0]
def read(self, *args, **kwargs):
    pixels = bytearray(draw(self, *args, **kwargs))
    picture, (turn, frame) = count[0] % 2, divmod(count[0] // 2, 3)
    count[0] += 1
    spoil(pixels, ("shaded", "exact")[picture], frame, turn)
    return bytes(pixels)
real.Framebuffer.read = read
"""
CARD = """
info = real.Context.info
def card(self):
    return {**info.fget(self), "GL_RENDERER": "NVIDIA Test Card", "GL_VENDOR": "NVIDIA Corporation"}
make = real.create_context
def software(device_index, libegl, **more):
    global card_number
    card_number = device_index
    import os
    os.environ["LIBGL_ALWAYS_SOFTWARE"], os.environ["GALLIUM_DRIVER"] = "1", "softpipe"
    return make(libegl=REAL_EGL, device_index=0, **more)
real.create_context = software
"""


def loads(module: str) -> bool:
    code = f"import sys; sys.path.insert(0, {SYSTEM!r}); import {module}, ctypes; ctypes.CDLL('libEGL.so.1')"
    if not os.access(PYTHON, os.X_OK):
        return False
    return not subprocess.run([PYTHON, "-I", "-S", "-c", code], capture_output=True, check=False).returncode


needs_gl = pytest.mark.skipif(
    not loads("moderngl"), reason="python3-moderngl or libegl1 is not installed here"
)


@pytest.fixture
def perform(tmp_path: Path) -> Perform:
    place = Place(
        python=PYTHON, payload=str(packed()), jobs=str(tmp_path / "jobs"), work=str(tmp_path / "work")
    )

    def run(*gpus: str, environment: dict[str, str] | None = None, **parameters: Any) -> WorkloadResult:
        places = [PciAddress.parse(text) for text in gpus]
        cards = tuple(GuestDevice(address=p, vendor="10de", device="26b5", host=p) for p in places)
        job = Job(
            key="k1", guest="g1", tenant="t", parameters={**SMALL, **parameters}, place=place, devices=cards
        )
        for argv in (start(job, workload("render").prepare(job)), wait(job, 60)):
            subprocess.run(
                argv, check=True, capture_output=True, timeout=90, env={**os.environ, **(environment or {})}
            )
        raw = subprocess.run(collect(job), check=True, capture_output=True, timeout=60).stdout
        return judge(workload("render"), job, raw)

    return run


@pytest.fixture
def spoilt(tmp_path: Path) -> Callable[[str], str]:
    """A folder with a ``moderngl`` that does that to the real one's pictures."""

    def make(body: str) -> str:
        folder = tmp_path / "spoilt" / "moderngl"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(f"def spoil(pixels, picture, frame, turn):\n    {body}\n" + REAL)
        return str(folder.parent)

    return make


def wrong(result: WorkloadResult) -> list[str]:
    assert (result.status, result.detail) == ("done", "")
    return [a.name.removesuffix(" on cpu") for a in result.answers if not a.ok]


@needs_gl
@pytest.mark.parametrize("driver", ["softpipe", "llvmpipe"])
def test_both_software_renderers_draw_the_golden_pictures(driver: str, perform: Perform) -> None:
    result = perform(driver=driver, width=128, height=96)
    assert wrong(result) == []
    assert len(result.answers) == 7
    assert result.engine == f"opengl:{driver}"
    assert result.versions["renderer"].startswith(driver)
    assert {m.name: m.value for m in result.measurements}["render.rate"]


@needs_gl
def test_pictures_larger_than_their_views_are_compared_too(perform: Perform) -> None:
    assert wrong(perform(driver="llvmpipe", width=640, height=480, golden=2)) == []


@needs_gl
@pytest.mark.parametrize(
    ("body", "names"),
    [
        ("pass", []),
        (
            "if (picture, frame, turn) == ('shaded', 2, 1): pixels[5000] ^= 1",
            ["shaded frames that changed when repeated"],
        ),
        (
            "if (picture, frame, turn) == ('exact', 1, 2): pixels[77] ^= 128",
            ["exact frames with a wrong bit"],
        ),
        ("if (picture, frame) == ('exact', 2): pixels[9000] ^= 1", ["exact frames with a wrong bit"]),
        (
            "if picture == 'shaded':\n"
            "        for y in range(20, 28): pixels[y * 256 + 128 : y * 256 + 160] = bytes(32)",
            ["SSIM of the worst golden frame", "levels apart in the worst block"],
        ),
        (
            "if picture == 'shaded': pixels[0::4], pixels[2::4] = pixels[2::4], pixels[0::4]",
            ["SSIM of the worst golden frame", "levels apart in the worst block"],
        ),
    ],
)
def test_what_goes_wrong_under_way_is_found(
    body: str, names: list[str], perform: Perform, spoilt: Callable[[str], str]
) -> None:
    assert wrong(perform(packages=spoilt(body))) == names


@needs_gl
def test_a_renderer_that_dies_is_named(perform: Perform, spoilt: Callable[[str], str]) -> None:
    result = perform(packages=spoilt("if turn: __import__('os').kill(__import__('os').getpid(), 11)"))
    assert (result.status, [a.name for a in result.answers if not a.ok]) == ("done", ["cpu to the end"])
    assert "signal 11" in result.answers[0].detail


def test_without_moderngl_nothing_is_known(perform: Perform, tmp_path: Path) -> None:
    result = perform(packages=str(tmp_path))
    assert result.status == "lost"
    assert "cannot be loaded" in result.detail


STUB = r"""
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
typedef void *device;
static char one, two, soft, mesa;
static unsigned devices(int most, device *out, int *count) {
    device all[] = {&mesa, &two, &soft, &one};
    (void)most;
    memcpy(out, all, sizeof all);
    *count = getenv("ONLY_MESA") ? 1 : 4;
    return 1;
}
static const char *text(device d, int name) {
    if (d == &mesa) return name == 0x3055 ? "EGL_EXT_device_drm" : name == 0x3233 ? "/dev/null" : 0;
    if (d == &soft) return name == 0x3055 ? "EGL_MESA_device_software" : 0;
    return name == 0x3055 ? "EGL_NV_device_cuda EGL_EXT_device_persistent_id" : 0;
}
static unsigned attribute(device d, int name, intptr_t *value) {
    *value = d == &two;
    return d != &soft && d != &mesa && name == 0x323A;
}
void *eglGetProcAddress(const char *name) {
    if (!strcmp(name, "eglQueryDevicesEXT")) return devices;
    if (!strcmp(name, "eglQueryDeviceStringEXT")) return text;
    if (!strcmp(name, "eglQueryDeviceAttribEXT")) return attribute;
    return 0;
}
int cuInit(unsigned flags) { return getenv("NO_CUDA") ? 999 : (int)flags; }
int cuDeviceGetPCIBusId(char *out, int size, int number) {
    strncpy(out, number ? "0000:C1:00.0" : "00000000:41:00.0", size);
    return number > 1;
}
"""
"""EGL and CUDA of a machine with two GPUs whose driver made no DRM nodes, and Mesa's idea of one of them."""


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    if not shutil.which("gcc"):
        pytest.skip("gcc is not installed here")
    (tmp_path / "stub.c").write_text(STUB)
    for name in ("libEGL.so.1", "libcuda.so.1", "libEGL_nvidia.so.0"):
        argv = ["gcc", "-shared", "-fPIC", "-o", str(tmp_path / name), str(tmp_path / "stub.c")]
        subprocess.run(argv, check=True, capture_output=True)
    return {"LD_LIBRARY_PATH": str(tmp_path)}


def found(address: str, environment: dict[str, str]) -> str:
    code = (
        f"import sys; sys.path.insert(0, {str(packed())!r}); from harness.payload import render_device as r\n"
        f"try: print(r.find(r.Egl(), {address!r}))\n"
        "except (r.Missing, r.Broken) as error: print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    return done.stdout.strip()


def test_a_gpu_is_found_by_its_address_and_never_replaced(machine: dict[str, str]) -> None:
    assert found("0000:41:00.0", machine) == "3"
    assert found("0000:c1:00.0", machine) == "1"
    assert found("", machine) == "2"
    assert found("0000:02:00.0", machine).startswith("Broken EGL has no device for the GPU at 0000:02:00.0")


def test_a_gpu_that_nobody_can_tell_or_that_only_mesa_lists_is_not_broken(machine: dict[str, str]) -> None:
    only = found("0000:41:00.0", {**machine, "ONLY_MESA": "1"})
    assert only.startswith("Missing NVIDIA's EGL shows no GPU here (devices: another driver's)")
    assert "egl_vendor.d" in only
    unknown = found("0000:41:00.0", {**machine, "NO_CUDA": "1"})
    assert unknown.startswith("Missing EGL has no device for the GPU at 0000:41:00.0 (devices: another")


def test_a_node_below_sysfs_says_its_address(tmp_path: Path) -> None:
    address_of_node = render_device.address_of_node
    device = tmp_path / "devices" / "pci0000:40" / "0000:41:00.0"
    device.mkdir(parents=True)
    node = tmp_path / "dev" / "char" / "1:3"  # /dev/null's number, on Linux
    node.mkdir(parents=True)
    (node / "device").symlink_to(device)
    assert address_of_node("/dev/null", str(tmp_path)) == "0000:41:00.0"
    assert address_of_node("/dev/zero", str(tmp_path)) == ""
    assert address_of_node(str(tmp_path / "none"), str(tmp_path)) == ""


@needs_gl
def test_of_a_gpu_without_its_driver_nothing_is_known(perform: Perform) -> None:
    lost = perform("0000:02:00.0")
    assert lost.status == "lost"
    assert "libEGL_nvidia.so.0" in lost.detail


@needs_gl
def test_a_gpu_that_egl_does_not_list_has_failed(perform: Perform, machine: dict[str, str]) -> None:
    result = perform("0000:02:00.0", environment=machine)
    assert result.status == "failed"
    assert "EGL has no device for the GPU at 0000:02:00.0" in result.detail


def cards(folder: str, more: str = "") -> str:
    """Let that ``moderngl`` draw by software for whatever EGL device is asked for."""
    libraries = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    egl = next(line.split()[-1] for line in libraries.splitlines() if line.split()[:1] == ["libEGL.so.1"])
    module = Path(folder) / "moderngl" / "__init__.py"
    module.write_text(module.read_text() + CARD.replace("REAL_EGL", repr(egl)) + more)
    return folder


@needs_gl
def test_software_that_draws_for_a_gpu_is_refused(
    perform: Perform, machine: dict[str, str], spoilt: Callable[[str], str]
) -> None:
    result = perform("0000:41:00.0", packages=cards(spoilt("pass")), environment=machine)
    assert result.status == "failed"
    assert "a GPU was demanded, and 'softpipe'" in result.detail


@needs_gl
def test_two_gpus_draw_at_once_and_a_wrong_one_is_told_from_a_right_one(
    perform: Perform, machine: dict[str, str], spoilt: Callable[[str], str]
) -> None:
    folder = spoilt("if card_number == 3 and picture == 'exact': pixels[0] ^= 1")
    named = cards(folder, "real.Context.info = property(card)\n")
    result = perform("0000:41:00.0", "0000:c1:00.0", packages=named, environment=machine)
    assert wrong(result) == ["exact frames with a wrong bit on 0000:41:00.0"]
    assert result.engine == "opengl:nvidia"
    assert {m.subject for m in result.measurements} == {"0000:41:00.0", "0000:c1:00.0"}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(28, "No space left on device"), "unable"),
        (MemoryError(), "unable"),
        (Exception("GL"), "broken"),
    ],
)
@pytest.mark.parametrize("work", ["render", "stream"])
def test_what_the_machine_has_not_accuses_no_gpu(
    work: str, error: Exception, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(render_device, "context", fail)
    monkeypatch.setattr(processes, "find", fail)
    perform = {"render": render_job.draw, "stream": stream_job.perform}[work]
    outcome = bounded.alone(lambda note: perform({"gpus": ["x"]}, "0000:01:00.0", note), 5)
    assert outcome["kind"] == kind
