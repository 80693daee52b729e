"""Which OpenGL device draws: one GPU by its PCI address, or Mesa's software renderer. Never another one.

EGL lists its devices (EGL_EXT_device_enumeration). A GPU's is found by its DRM node's place in sysfs
(EGL_EXT_device_drm) or, where the driver made no node, by its CUDA number (EGL_NV_device_cuda).
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any

_EXTENSIONS, _DRM_DEVICE_FILE, _CUDA_DEVICE = 0x3055, 0x3233, 0x323A
"""EGL_EXTENSIONS, EGL_DRM_DEVICE_FILE_EXT, EGL_CUDA_DEVICE_NV (EGL registry)."""
_NO_MEMORY = "0x3003"
"""EGL_BAD_ALLOC as moderngl writes it: others may have taken the card's memory."""
_MOST = 64
SOFTWARE = ("llvmpipe", "softpipe")


class Missing(Exception):
    """A library that drawing needs is not on this machine."""


class Broken(Exception):
    """All libraries are here, and the demanded device does not draw."""


def open_library(*names: str) -> Any:
    """The first of the shared libraries that can be loaded. Raises Missing."""
    import ctypes

    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise Missing(f"{' and '.join(names)} cannot be loaded on this machine")


class Egl:
    """EGL's device extensions through ``libEGL.so.1``."""

    def __init__(self) -> None:
        import ctypes

        self._c = ctypes
        self._library = open_library("libEGL.so.1")
        self._library.eglGetProcAddress.restype = ctypes.c_void_p
        self._library.eglGetProcAddress.argtypes = [ctypes.c_char_p]
        self._query = self._function("eglQueryDeviceStringEXT", ctypes.c_char_p, ctypes.c_int)
        self._attribute = self._function(
            "eglQueryDeviceAttribEXT", ctypes.c_uint, ctypes.c_int, ctypes.POINTER(ctypes.c_ssize_t)
        )

    def _function(self, name: str, result: Any, *more: Any) -> Any:
        address = self._library.eglGetProcAddress(name.encode())
        if not address:
            raise Missing(f"this machine's EGL has no {name}")
        return self._c.CFUNCTYPE(result, self._c.c_void_p, *more)(address)

    def devices(self) -> list[int]:
        """Handles, in the order that moderngl's ``device_index`` counts."""
        c = self._c
        address = self._library.eglGetProcAddress(b"eglQueryDevicesEXT")
        if not address:
            raise Missing("this machine's EGL has no eglQueryDevicesEXT")
        pointers = c.POINTER(c.c_void_p)
        query = c.CFUNCTYPE(c.c_uint, c.c_int, pointers, c.POINTER(c.c_int))(address)
        found, count = (c.c_void_p * _MOST)(), c.c_int()
        if not query(_MOST, found, c.byref(count)):
            return []
        return [int(found[n] or 0) for n in range(count.value)]

    def text(self, device: int, name: int) -> str:
        """A string of a device; empty when it has none."""
        return (self._query(device, name) or b"").decode("ascii", "replace")

    def cuda_number(self, device: int) -> int | None:
        """Its number among CUDA's devices."""
        value = self._c.c_ssize_t()
        return (
            value.value
            if self.nvidia(device) and self._attribute(device, _CUDA_DEVICE, self._c.byref(value))
            else None
        )

    def address(self, device: int) -> str:
        """The PCI address of a device as ``0000:01:00.0``; empty when nothing tells."""
        extensions = self.text(device, _EXTENSIONS).split()
        if "EGL_EXT_device_drm" in extensions:
            node = self.text(device, _DRM_DEVICE_FILE)
            found = address_of_node(node) if node else ""
            if found:
                return found
        number = self.cuda_number(device)
        return "" if number is None else cuda_address(number)

    def nvidia(self, device: int) -> bool:
        """Whether NVIDIA's EGL offers it. Mesa's lists the DRM nodes of NVIDIA's GPUs, too, and cannot draw
        on them."""
        return "EGL_NV_device_cuda" in self.text(device, _EXTENSIONS).split()

    def software(self, device: int) -> bool:
        """Whether it is Mesa's software renderer."""
        return "EGL_MESA_device_software" in self.text(device, _EXTENSIONS).split()


def address_of_node(node: str, sysfs: str = "/sys") -> str:
    """The PCI address of a DRM node, from sysfs; empty when it is not on PCI or not there."""
    try:
        number = os.stat(node).st_rdev
        place = os.path.realpath(f"{sysfs}/dev/char/{os.major(number)}:{os.minor(number)}/device")
    except OSError:
        return ""
    name = os.path.basename(place)
    return name if len(name) == 12 and name[4] == ":" and name[10] == "." else ""


def cuda_address(number: int) -> str:
    """The PCI address of a CUDA device; empty when CUDA does not say."""
    try:
        library = open_library("libcuda.so.1")
    except Missing:
        return ""
    import ctypes

    text = ctypes.create_string_buffer(32)
    if library.cuInit(0) or library.cuDeviceGetPCIBusId(text, 32, number):
        return ""
    return text.value.decode("ascii", "replace").lower()[-12:]  # some drivers write the domain with 8 digits


def find(egl: Any, address: str) -> int:
    """The index of the GPU at that address, or (address empty) of the software renderer.

    Raises Missing when this machine has no such EGL at all or it cannot be said which GPU is which, Broken
    when NVIDIA's EGL has other GPUs and not this one.
    """
    seen, places = [], []
    for index, device in enumerate(egl.devices()):
        if egl.software(device):
            seen.append("software")
            if not address:
                return index
        elif not egl.nvidia(device):
            seen.append("another driver's")
        else:
            places.append(egl.address(device))
            seen.append(places[-1] or "unknown")
            if address and places[-1] == address:
                return index
    listed = ", ".join(seen) or "none"
    if not address:
        raise Missing(f"EGL has no software renderer here (devices: {listed})")
    open_library("libEGL_nvidia.so.0")
    if not places:
        raise Missing(
            f"NVIDIA's EGL shows no GPU here (devices: {listed}): the driver's OpenGL libraries are not all "
            "here, or no file in /usr/share/glvnd/egl_vendor.d names them"
        )
    why = f"EGL has no device for the GPU at {address} (devices: {listed})"
    raise (Broken if all(places) else Missing)(why)


def context(job: dict[str, Any], address: str) -> Any:
    """A moderngl context on the demanded device. Raises Missing or Broken."""
    if not address:
        os.environ["LIBGL_ALWAYS_SOFTWARE"] = "1"
        os.environ["GALLIUM_DRIVER"] = job["driver"]
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    # Compiled shaders stay in memory: nothing is left on the machine, and no run lives off an earlier one.
    os.environ["MESA_SHADER_CACHE_DISABLE"], os.environ["__GL_SHADER_DISK_CACHE"] = "true", "0"
    sys.path.insert(0, job["packages"])
    try:
        import moderngl
    except ImportError as error:
        raise Missing(f"moderngl cannot be loaded from {job['packages']}: {error}") from error
    index = find(Egl(), address)
    libraries = {"libgl": "libGL.so.1", "libegl": "libEGL.so.1"}  # named: else a process searches for them
    try:
        made = moderngl.create_context(
            standalone=True, backend="egl", require=330, device_index=index, **libraries
        )
    except Exception as error:  # moderngl raises its own and bare Exceptions
        broken = address and _NO_MEMORY not in str(error)
        raise (Broken if broken else Missing)(f"no OpenGL 3.3 context: {error}") from error
    engine_of(str(made.info["GL_RENDERER"]), str(made.info["GL_VENDOR"]), gpu=bool(address))
    return made


def engine_of(renderer: str, vendor: str, *, gpu: bool) -> str:
    """``opengl:nvidia``, ``opengl:llvmpipe`` or ``opengl:softpipe``: what really draws.

    Raises Broken when a GPU was demanded and something else draws.
    """
    word = renderer.split(" ", 1)[0].lower()
    if word in SOFTWARE:
        engine = f"opengl:{word}"
    elif "nvidia" in vendor.lower():
        engine = "opengl:nvidia"
    else:
        engine = f"opengl:{word}"
    if gpu and engine != "opengl:nvidia":
        raise Broken(f"a GPU was demanded, and {renderer!r} of {vendor!r} draws")
    return engine
