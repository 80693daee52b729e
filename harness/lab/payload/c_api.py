"""TensorFlow through its C API: the same library and kernels as ``import tensorflow``, without the import.

``import tensorflow`` executes about 2800 Python modules (Keras, Lite, distribution strategies, every
generated API alias) before the first product; on an emulated guest that is minutes. What this workload
needs of TensorFlow is in two shared objects, ``libtensorflow_cc.so.2`` and
``libtensorflow_framework.so.2``, behind the stable C API (``tensorflow/c/c_api.h``): graphs, automatic
gradients (``TF_AddGradients``), variables, sessions. No TensorFlow Python module is imported here.
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any

FLOAT, DOUBLE, INT32, INT64, BFLOAT16, HALF = 1, 2, 3, 9, 14, 19
"""Element types of ``tensorflow/c/tf_datatype.h``."""

_RTLD_LAZY = 1
"""``dlfcn.h``. ctypes' own loader always adds RTLD_NOW, which resolves 156,000 function symbols that are
never called; binding on first use saves a third of the load."""

_V = ctypes.c_void_p


class Output(ctypes.Structure):
    """``TF_Output``: one output of one operation."""

    _fields_ = (("oper", _V), ("index", ctypes.c_int))


def _opened(process: Any, path: str) -> Any:
    handle = process.dlopen(path.encode(), _RTLD_LAZY)
    if not handle:
        raise OSError((process.dlerror() or b"dlopen failed").decode("utf-8", "replace"))
    return ctypes.CDLL(os.path.basename(path), handle=handle)


def library(tf_dir: str) -> Any:
    """The library with the C API. Raises OSError."""
    process: Any = ctypes.CDLL(None)
    process.dlopen.restype, process.dlopen.argtypes = _V, (ctypes.c_char_p, ctypes.c_int)
    process.dlerror.restype = ctypes.c_char_p
    whole = _opened(process, os.path.join(tf_dir, "tensorflow", "libtensorflow_cc.so.2"))
    _declare(whole)
    return whole


_POINTER_RESULTS = (
    "TF_NewStatus",
    "TF_NewGraph",
    "TF_NewOperation",
    "TF_FinishOperation",
    "TF_NewSessionOptions",
    "TF_NewSession",
    "TF_AllocateTensor",
    "TF_TensorData",
)


def _declare(lib: Any) -> None:
    for name in _POINTER_RESULTS:
        getattr(lib, name).restype = _V
    lib.TF_Message.restype = lib.TF_Version.restype = ctypes.c_char_p
    lib.TF_TensorByteSize.restype = ctypes.c_size_t
    text, size, number = ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int
    outputs, dims = ctypes.POINTER(Output), ctypes.POINTER(ctypes.c_int64)
    for name, arguments in {
        "TF_Message": (_V,),
        "TF_GetCode": (_V,),
        "TF_NewOperation": (_V, text, text),
        "TF_AddInput": (_V, Output),
        "TF_SetAttrType": (_V, text, number),
        "TF_SetAttrString": (_V, text, text, size),
        "TF_SetAttrShape": (_V, text, dims, number),
        "TF_SetAttrTensor": (_V, text, _V, _V),
        "TF_FinishOperation": (_V, _V),
        "TF_AddGradients": (_V, outputs, number, outputs, number, _V, _V, outputs),
        "TF_SetConfig": (_V, text, size, _V),
        "TF_NewSession": (_V, _V, _V),
        "TF_CloseSession": (_V, _V),
        "TF_DeleteSession": (_V, _V),
        "TF_AllocateTensor": (number, dims, number, size),
        "TF_TensorData": (_V,),
        "TF_TensorByteSize": (_V,),
        "TF_DeleteTensor": (_V,),
        "TF_SessionRun": (_V, _V, outputs, _V, number, outputs, _V, number, _V, number, _V, _V),
    }.items():
        getattr(lib, name).argtypes = arguments


def _config(threads: int) -> bytes:
    """A serialised ``ConfigProto``: thread counts, and no graph rewriting (it costs more than it saves).

    Fields (``tensorflow/core/protobuf/config.proto``): intra_op_parallelism_threads 2,
    inter_op_parallelism_threads 5, graph_options 10 {optimizer_options 3 {opt_level 3 = L0 (-1)},
    rewrite_options 10 {disable_meta_optimizer 19 = true}}.
    """
    rewrite = bytes((0x98, 0x01, 0x01))
    level = bytes((0x18,)) + b"\xff" * 9 + b"\x01"
    graph = bytes((0x1A, len(level))) + level + bytes((0x52, len(rewrite))) + rewrite
    return bytes((0x10, threads, 0x28, 1, 0x52, len(graph))) + graph


class Graph:
    """A TensorFlow graph and its session."""

    def __init__(self, library: Any, threads: int) -> None:
        self._lib = library
        self._status = _V(self._lib.TF_NewStatus())
        self._graph = _V(self._lib.TF_NewGraph())
        self._session: Any = None
        self._threads = max(1, min(threads, 127))
        self._count = 0

    @property
    def version(self) -> str:
        """The library's own version."""
        return str(self._lib.TF_Version().decode("ascii", "replace"))

    def _check(self) -> None:
        if self._lib.TF_GetCode(self._status):
            raise RuntimeError("TensorFlow: " + self._lib.TF_Message(self._status).decode("utf-8", "replace"))

    def add(self, kind: str, *inputs: Output, **attributes: Any) -> Output:
        """Add an operation and return its first output. Attributes are types, or shapes as lists."""
        self._count += 1
        name = f"{kind}_{self._count}".encode()
        description = _V(self._lib.TF_NewOperation(self._graph, kind.encode(), name))
        for source in inputs:
            self._lib.TF_AddInput(description, source)
        if kind == "VarHandleOp":  # variables without a name of their own are one variable
            self._lib.TF_SetAttrString(description, b"shared_name", name, len(name))
        for key, value in attributes.items():
            if isinstance(value, list):
                dims = (ctypes.c_int64 * len(value))(*value)
                self._lib.TF_SetAttrShape(description, key.encode(), dims, len(value))
            elif isinstance(value, int):
                self._lib.TF_SetAttrType(description, key.encode(), value)
            else:
                self._lib.TF_SetAttrTensor(description, key.encode(), value, self._status)
        operation = self._lib.TF_FinishOperation(description, self._status)
        self._check()
        return Output(operation, 0)

    def place(self, kind: int = FLOAT) -> Output:
        """A placeholder."""
        return self.add("Placeholder", dtype=kind)

    def constant(self, array: Any, kind: int) -> Output:
        """A small constant, from an array in C order."""
        return self.add("Const", value=_V(self._tensor(array, kind)), dtype=kind)

    def gradients(self, loss: Output, *inputs: Output) -> list[Output]:
        """Outputs that hold d ``loss`` / d ``input``, by TensorFlow's own automatic differentiation."""
        ys, xs, dys = (Output * 1)(loss), (Output * len(inputs))(*inputs), (Output * len(inputs))()
        self._lib.TF_AddGradients(self._graph, ys, 1, xs, len(inputs), None, self._status, dys)
        self._check()
        return list(dys)

    def run(
        self, feeds: list[tuple[Output, Any, int]], fetches: list[Output], also: list[Output] | None = None
    ) -> list[bytes]:
        """Feed arrays (numpy, C order, with their type), run ``also``, return each fetched tensor's bytes."""
        lib = self._lib
        inputs = (Output * len(feeds))(*(place for place, _, _ in feeds))
        values = (_V * len(feeds))(*(self._tensor(array, kind) for _, array, kind in feeds))
        outputs, results = (Output * len(fetches))(*fetches), (_V * len(fetches))()
        targets = (_V * len(also or ()))(*(o.oper for o in also or ()))
        lib.TF_SessionRun(
            self._open(), None, inputs, values, len(feeds), outputs, results, len(fetches),
            targets, len(targets), None, self._status,
        )  # fmt: skip
        for tensor in values:
            lib.TF_DeleteTensor(tensor)
        self._check()
        found = [
            ctypes.string_at(lib.TF_TensorData(tensor), lib.TF_TensorByteSize(tensor)) for tensor in results
        ]
        for tensor in results:
            lib.TF_DeleteTensor(tensor)
        return found

    def close(self) -> None:
        """End the session: its variables give their memory back."""
        if self._session is not None:
            self._lib.TF_CloseSession(self._session, self._status)
            self._lib.TF_DeleteSession(self._session, self._status)
            self._session = None

    def _open(self) -> Any:
        if self._session is None:
            options = _V(self._lib.TF_NewSessionOptions())
            config = _config(self._threads)
            self._lib.TF_SetConfig(options, config, len(config), self._status)
            self._check()
            self._session = _V(self._lib.TF_NewSession(self._graph, options, self._status))
            self._check()
        return self._session

    def _tensor(self, array: Any, kind: int) -> Any:
        shape = array.shape
        dims = (ctypes.c_int64 * len(shape))(*shape)
        tensor = self._lib.TF_AllocateTensor(kind, dims, len(shape), array.nbytes)
        if not tensor:
            raise MemoryError(f"TensorFlow could not allocate {array.nbytes} bytes")
        ctypes.memmove(self._lib.TF_TensorData(tensor), array.ctypes.data, array.nbytes)
        return tensor
