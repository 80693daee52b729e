"""Asks NVML through the real, unmodified pynvml, and prints the answers as JSON.

Usage: ``nvml_asker.py LIBRARY STEPS``: each step is ``[seconds, function, arguments...]``: the time since the
start to ask at, and a function of pynvml. An argument ``"gpu N"`` is that GPU's handle.
"""

import ctypes
import json
import re
import sys
import time

import pynvml

ctypes.CDLL(sys.argv[1])


def plain(value):
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, pynvml.c_nvmlFieldValue_t):
        kind = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")[value.valueType]
        return [value.fieldId, value.nvmlReturn, getattr(value.value, kind)]
    if isinstance(value, ctypes.Structure):
        return {name: plain(getattr(value, name)) for name, *_ in value._fields_}
    if isinstance(value, ctypes.Array | list | tuple):
        return [plain(each) for each in value]
    return vars(value) if isinstance(value, pynvml.nvmlFriendlyObject) else value


def argument(value):
    found = re.fullmatch(r"gpu (\d+)", value) if isinstance(value, str) else None
    return pynvml.nvmlDeviceGetHandleByIndex(int(found[1])) if found else value


def ask(function, *arguments):
    try:
        answer = plain(getattr(pynvml, function)(*map(argument, arguments)))
    except pynvml.NVMLError as error:
        return {"error": type(error).__name__, "text": str(error)}
    return "handle" if type(answer).__name__.startswith("LP_") else answer


began = time.monotonic()
answers = [ask("nvmlInit")]
for at, *step in json.loads(sys.argv[2]):
    time.sleep(max(0.0, began + at - time.monotonic()))
    answers.append(ask(*step))
print(json.dumps(answers))
