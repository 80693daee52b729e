"""hashcat's side of ``job.py``: one session per mode and device, each alone in its own folder.

Observes only: what hashcat said goes to the controller in hashcat's own words. Nothing of an earlier session
(potfile, restore file, kernels of another user) can be found: no potfile, own ``HOME`` and XDG folders.
"""

from __future__ import annotations

import json
import os
import re

from harness.payload import processes as tools
from harness.workloads.hashing.payload.words import ALPHABET, word

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any

_SECTION = re.compile(r"^(CUDA|HIP|Metal|OpenCL) Info:$")
_PLATFORM = re.compile(r"^OpenCL Platform ID #([0-9]+)")
_DEVICE = re.compile(r"^\s*Backend Device ID #([0-9]+)(?: \(Alias: #([0-9]+)\))?$")
_FIELD = re.compile(r"^\s*([A-Z][A-Za-z().]*?)\.*: (.*)$")
_STATUS = re.compile(r'\{ "session": .*$')
_BACKEND_ERRORS = range(256 - 9, 256 - 2)
"""hashcat's -9 to -3 (``docs/status_codes.txt`` of 6.2.6): a kernel that could not be built or loaded, too
little free memory. That is compilers, drivers and neighbours, and proves nothing of the card."""
_NO_FAULT = (
    "installation found", "compatible platform found", "No devices found", "build failed", "NVRTC_ERROR",
    "unsupported toolchain", "CL_BUILD_PROGRAM_FAILURE", "Not enough allocatable device memory",
    "CUDA_ERROR_OUT_OF_MEMORY", "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
)  # fmt: skip
"""Words of hashcat (``backend.c``), NVRTC and the driver that speak of what is installed or taken here."""
_TELLING = ("self-test", "ATTENTION", "Skipping", "temperature", "rror")
# Sixteen GPUs in four modes must fit into the 1 MiB of output that comes back.
_KEPT_STATUS = 8
_KEPT_LINES = 8
_KEPT_TEXT = 1500


class BrokenEngine(Exception):
    """hashcat is here, and the demanded device does not work."""


def devices(said: str) -> list[dict[str, str]]:
    """The devices of ``hashcat -I``: number, alias, api, platform and the fields of each by their names."""
    api = platform = ""
    found: list[dict[str, str]] = []
    for line in said.splitlines():
        section, begins, device = _SECTION.match(line), _PLATFORM.match(line), _DEVICE.match(line)
        field = _FIELD.match(line)
        if section:
            api, platform = section[1], ""
        elif begins:
            platform = "?"
        elif device:
            found.append(
                {"number": device[1].lstrip("0"), "alias": device[2] or "", "api": api, "platform": platform}
            )
        elif field and platform == "?" and field[1] == "Name":
            platform = field[2]
        elif field and found:
            found[-1].setdefault(field[1], field[2].strip())
    return found


def backend(device: dict[str, str]) -> str:
    """``cuda``, ``hip``, or ``opencl:`` and whose OpenCL it is."""
    if device["api"] != "OpenCL":
        return device["api"].lower()
    platform = device["platform"].lower()
    for mark, name in (
        ("portable computing", "pocl"),
        ("nvidia", "nvidia"),
        ("amd", "amd"),
        ("intel", "intel"),
    ):
        if mark in platform:
            return f"opencl:{name}"
    return "opencl:other"


def _lies_at(device: dict[str, str], address: str) -> bool:
    """Whether hashcat means that address of a GPU's function 0.

    It shows the low byte of a PCI domain (CUDA) or none at all (OpenCL). And it takes CUDA's and OpenCL's PCI
    device number for device and function in one: 0000:10:1c.0 of an A100 is shown as 0000:10:03.4
    (``backend.c``: ``pci_slot_id_nv >> 3``; javydekoning/aws-hashcat, p4d and p3).
    """
    domain, bus, place = address.split(":")
    slot = int(place.partition(".")[0], 16)
    shown = f"{bus}:{slot >> 3:02x}.{slot & 7}"
    if "PCI.Addr.BDFe" in device:
        return device["PCI.Addr.BDFe"].lower() == f"{int(domain, 16) & 0xFF:04x}:{shown}"
    return device.get("PCI.Addr.BDF", "").lower() == shown


def at_address(found: list[dict[str, str]], address: str) -> dict[str, str]:
    """The device at a PCI address, by CUDA where both APIs show it.

    Raises BrokenEngine where hashcat shows other NVIDIA GPUs and not this one, RuntimeError where it shows
    none, or several that it does not tell apart (OpenCL knows no PCI domains).
    """
    here = [d for d in found if _lies_at(d, address)]
    here = [d for d in here if d["api"] == "CUDA"] or [d for d in here if d.get("Type") == "GPU"]
    if len(here) == 1:
        return here[0]
    listed = ", ".join(d.get("PCI.Addr.BDFe") or d.get("PCI.Addr.BDF") or d["api"] for d in found)
    why = f"hashcat shows {len(here)} GPUs at {address} (it shows: {listed or 'no device'})"
    if here or not any(backend(d) in ("cuda", "opencl:nvidia") for d in found):
        raise RuntimeError(f"{why}; it needs NVRTC (CUDA's libnvrtc) or NVIDIA's OpenCL (nvidia-opencl-icd)")
    raise BrokenEngine(why)


def first_cpu(found: list[dict[str, str]]) -> dict[str, str]:
    """The first processor that an OpenCL runtime offers. Raises RuntimeError."""
    for device in found:
        if device.get("Type") == "CPU":
            return device
    raise RuntimeError("hashcat shows no processor: no OpenCL runtime for CPUs (pocl-opencl-icd)")


def _environment(job: dict[str, Any], folder: str, number: str) -> dict[str, str]:
    cache = os.path.join(job["cache"], number)
    names = {
        "HOME": folder, "XDG_DATA_HOME": f"{folder}/data", "XDG_CACHE_HOME": f"{cache}/xdg",
        "POCL_CACHE_DIR": f"{cache}/pocl", "CUDA_CACHE_PATH": f"{cache}/cuda",
    }  # fmt: skip
    for path in names.values():
        os.makedirs(path, mode=0o700, exist_ok=True)
    return names


def attack(one: dict[str, Any]) -> list[str]:
    """hashcat's arguments for one mode: a word list for salted hashes, else a mask."""
    if one["words"]:
        return ["-a", "0", "hashes", "words"]
    return ["-a", "3", "--markov-disable", "-1", ALPHABET, "-2", one["charset"], "hashes", one["mask"]]


def session(job: dict[str, Any], one: dict[str, Any], chosen: list[str]) -> dict[str, Any]:
    """One mode in the current folder: search, then benchmark. Raises RuntimeError or BrokenEngine."""
    program, here = tools.find("hashcat"), os.getcwd()
    environment = _environment(job, here, chosen[1])
    with open("hashes", "w", encoding="ascii") as stream:
        stream.write("\n".join(one["hashes"]) + "\n")
    if one["words"]:
        with open("words", "w", encoding="ascii") as stream:
            stream.write("\n".join([word(one["seed"], n) for n in range(one["words"])]) + "\n")
    argv = [
        program, "-m", str(one["number"]), *chosen, "-O", "-w", "3", "--potfile-disable", "--restore-disable",
        "--logfile-disable", "--session", one["mode"], "--status", "--status-json", "--status-timer", "2",
        "--outfile", "found", "--outfile-format", "1,3", "--outfile-autohex-disable", *attack(one),
    ]  # fmt: skip
    status, said = tools.run(argv, ".", environment=environment)
    lines = said.replace("\r", "\n").splitlines()
    reports = [found[0] for found in map(_STATUS.search, lines) if found]
    plain = "\n".join(_STATUS.sub("", line) for line in lines)
    _refuse(status, plain)
    found = []
    if os.path.exists("found"):
        with open("found", encoding="utf-8", errors="backslashreplace") as stream:
            found = stream.read().splitlines()
    measured = None
    if job["benchmark"] and "self-test fail" not in plain:
        argv = [program, "-b", "-m", str(one["number"]), *chosen, "-O", "--machine-readable",
                "--session", "benchmark"]  # fmt: skip
        ended, measured = tools.run(argv, ".", environment=environment)
        if ended:
            _refuse(255, measured)
    return {
        "mode": one["mode"],
        "exit": status,
        "said": telling(plain),
        "status": reports[-_KEPT_STATUS:],
        "found": found,
        "benchmark": measured and measured[-_KEPT_TEXT:],
    }


def telling(said: str) -> str:
    """The lines about tests, heat and errors, and the end."""
    lines = [line[-300:] for line in said.splitlines() if any(word in line for word in _TELLING)]
    return "\n".join([*lines[:_KEPT_LINES], said[-_KEPT_TEXT:]])


def _refuse(status: int, said: str) -> None:
    """Raise for an end that is neither found, exhausted nor a failed self-test: RuntimeError where what is
    installed or taken here may be why, else BrokenEngine.

    0 and 1 are hashcat's "cracked" and "exhausted"; a failed self-test is an observation.
    """
    if "Temperature limit on GPU" in said:
        raise BrokenEngine("hashcat stopped for heat: " + _line(said, "Temperature limit on GPU"))
    if status in (0, 1) or "kernel self-test fail" in said:
        return
    why = f"hashcat ended with status {status}: {said[-1500:]}"
    if status in _BACKEND_ERRORS or any(words in said for words in _NO_FAULT):
        raise RuntimeError(why)
    raise BrokenEngine(why)


def _line(said: str, words: str) -> str:
    return next(line for line in said.splitlines() if words in line).strip()[:300]


def on_device(job: dict[str, Any], address: str, device: dict[str, str]) -> dict[str, Any]:
    """All modes on one device, each in a folder of its own. Raises BrokenEngine.

    Where something is lacking here it ends, and what was seen before is told with it.
    """
    chosen = ["-d", device["number"], "-D", "2" if address else "1"]
    modes: list[dict[str, Any]] = []
    for one in job["modes"]:
        folder = os.path.join(job["folder"], device["number"], one["mode"])
        try:
            os.makedirs(folder, mode=0o700)
            os.chdir(folder)
            modes.append(session(job, one, chosen))
        except (RuntimeError, OSError) as error:
            return _told(address, device, modes, str(error))
    return _told(address, device, modes)


def _told(
    address: str, device: dict[str, str], modes: list[dict[str, Any]], unable: str = ""
) -> dict[str, Any]:
    """One device's report; ``unable``: why modes are missing."""
    return {
        "address": address,
        "device": int(device["number"]),
        "name": device.get("Name", "")[:100],
        "type": device.get("Type", "GPU" if device["api"] in ("CUDA", "HIP") else ""),
        "backend": backend(device),
        "modes": modes,
        **({"unable": _at(address, unable)} if unable else {}),
    }


def _at(address: str, why: str) -> str:
    return f"{address}: {why}" if address else why


def _forked(job: dict[str, Any], at: str, device: dict[str, str]) -> tuple[int, str]:
    """Start ``on_device`` in a process of its own; returns its pid and the file of its result."""
    path = os.path.join(job["folder"], f"result-{device['number']}")
    pid = os.fork()
    if pid:
        return pid, path
    code = 5
    try:
        try:
            result = on_device(job, at, device)
        except BrokenEngine as error:
            result = {"broken": _at(at, str(error))}
        with open(path, "w", encoding="utf-8") as stream:
            json.dump(result, stream)
        code = 0
    finally:
        os._exit(code)


def observe(job: dict[str, Any]) -> tuple[dict[str, Any], str, str]:
    """Search on all devices at once. Returns the observation, the engine and hashcat's version.

    Raises MissingTool, RuntimeError (on no device could it be done here) or BrokenEngine (a GPU does not
    work).
    """
    program = tools.find("hashcat")
    environment = _environment(job, job["folder"], "list")
    version = tools.run([program, "--version"], ".", environment=environment)[1].strip()
    status, said = tools.run([program, "-I"], ".", environment=environment)
    if status:
        _refuse(255, f"(-I) {said}")
    listed = devices(said)
    if job["engine"] == "gpu":
        chosen = [(address, at_address(listed, address)) for address in job["addresses"]]
    else:
        chosen = [("", first_cpu(listed))]
    started = [_forked(job, address, device) for address, device in chosen]
    ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid, _ in started]
    results = []
    for code, (_, path), (address, device) in zip(ends, started, chosen, strict=True):
        if code:
            results.append(_told(address, device, [], f"the process beside hashcat ended with {code}"))
            continue
        with open(path, encoding="utf-8") as stream:
            results.append(json.load(stream))
    broken = [result["broken"] for result in results if "broken" in result]
    if broken:
        raise BrokenEngine("; ".join(broken))
    if not any(result["modes"] for result in results):
        raise RuntimeError("; ".join(result["unable"] for result in results))
    backends = sorted({result["backend"] for result in results})
    return {"devices": results}, ",".join(backends), f"hashcat {version}"
