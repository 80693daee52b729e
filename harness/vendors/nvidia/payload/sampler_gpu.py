"""Asks one GPU again and again, in a process of its own (``sampler.py`` starts it and says what it writes).

Every call to NVML is entered on the board that the parent watches, so that the parent knows what hangs.
"""

from __future__ import annotations

import ctypes
import os
import time

from harness.vendors.nvidia.payload import sampler_reads as reads

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PROPERTIES: tuple[tuple[str, str, tuple[int, ...], Callable[[Any], float | bool]], ...] = (
    ("power_limit", "EnforcedPowerLimit", (), lambda mw: mw / 1000),
    ("power_limit_default", "PowerManagementDefaultLimit", (), lambda mw: mw / 1000),
    ("power_limit_max", "PowerManagementLimitConstraints", (), lambda pair: pair[1] / 1000),
    ("temperature_slowdown", "TemperatureThreshold", (1,), int),
    ("temperature_shutdown", "TemperatureThreshold", (0,), int),
    ("temperature_gpu_max", "TemperatureThreshold", (3,), int),
    ("temperature_memory_max", "TemperatureThreshold", (2,), int),
    ("clock_sm_max", "MaxClockInfo", (1,), int),
    ("clock_memory_max", "MaxClockInfo", (2,), int),
    ("pcie_max_gen", "MaxPcieLinkGeneration", (), int),
    ("pcie_max_width", "MaxPcieLinkWidth", (), int),
    ("ecc_current", "EccMode", (), lambda pair: bool(pair[0])),
    ("ecc_pending", "EccMode", (), lambda pair: bool(pair[1])),
    ("ecc_default", "DefaultEccMode", (), bool),
    ("persistence", "PersistenceMode", (), bool),
    ("mig", "MigMode", (), lambda pair: bool(pair[0])),
    ("mig_pending", "MigMode", (), lambda pair: bool(pair[1])),
)
FIELDS = (("temperature_gpu_max_tlimit", 196),)
"""``NVML_FI_DEV_*``."""
TEXTS = (("uuid", "UUID"), ("name", "Name"), ("serial", "Serial"), ("vbios", "VbiosVersion"))
SETTINGS_SECONDS = 5.0
"""How often all of these are asked again: none may change while the run has the card."""


class Worker:
    """This process: its place on the board, and the spool."""

    def __init__(self, job: dict[str, Any], spool: Any, board: Any, gpu: int) -> None:
        self.job, self.spool, self.board, self.gpu = job, spool, board, gpu
        self.numbers, self.memory = board.numbers, board.memory
        self.since, self.name = board.place(gpu)
        self.parent = job["parent"]
        self.put = spool.put

    def entry(self, label: str) -> bytes:
        """A call's name as it goes on the board."""
        return label.encode()[: self.board.name_bytes].ljust(self.board.name_bytes, b"\0")

    def enter(self, entry: bytes) -> None:
        """A call begins."""
        self.memory[self.name : self.name + len(entry)] = entry
        self.numbers[self.since] = time.clock_gettime(time.CLOCK_BOOTTIME)

    def leave(self) -> None:
        """It came back."""
        self.numbers[self.since] = 0.0

    def call(self, label: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """A call of pynvml."""
        self.enter(self.entry(label))
        try:
            return function(*arguments)
        finally:
            self.leave()

    def spent(self) -> None:
        """Write the processor time used so far on the board; from the first time on it counts as started."""
        self.numbers[self.since + 1] = time.process_time()

    def stopping(self) -> bool:
        """Whether the parent says so, or is gone."""
        return bool(self.board.stopping() or os.getppid() != self.parent)


def start(worker: Worker, nvml: Any) -> None:
    """Load the library and start NVML. Raises NVMLError or OSError."""
    wanted = worker.job["library"]
    if wanted:
        # By its soname, pynvml then finds this one. A path that is no NVML would let it find another.
        chosen = ctypes.CDLL(wanted)
    worker.call("nvmlInit_v2", nvml.nvmlInit)
    if wanted and nvml.nvmlLib._handle != chosen._handle:
        raise OSError(f"{wanted} has another SONAME than libnvidia-ml.so.1, so another library was used")


def introduce(worker: Worker, nvml: Any) -> int:
    """Start NVML and write the ``nvml`` line. Returns the number of GPUs; 0 when NVML cannot be asked."""
    said: dict[str, Any] = {"source": "", "standin": "", "driver": "", "nvml": "", "library": "", "gpus": 0}
    try:
        start(worker, nvml)
        said["driver"] = _text(worker.call("nvmlSystemGetDriverVersion", nvml.nvmlSystemGetDriverVersion))
        said["nvml"] = _text(worker.call("nvmlSystemGetNVMLVersion", nvml.nvmlSystemGetNVMLVersion))
        said["library"] = _library()
        said["gpus"] = worker.call("nvmlDeviceGetCount_v2", nvml.nvmlDeviceGetCount)
        said["standin"] = _standin(nvml, said["driver"])
    except (nvml.NVMLError, OSError) as error:
        worker.put("nvml", **{**said, "gpus": 0}, detail=f"{type(error).__name__}: {error}")
        return 0
    worker.put("nvml", **{**said, "source": "nvml"}, detail="")
    return int(said["gpus"])


def _text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _library() -> str:
    with open("/proc/self/maps", encoding="utf-8", errors="backslashreplace") as maps:
        return next((line.split(None, 5)[5].strip() for line in maps if "libnvidia-ml" in line), "")


def _standin(nvml: Any, driver: str) -> str:
    try:
        function = nvml.nvmlLib.shakedownStandinScenario
    except AttributeError:
        return "unnamed" if "standin" in driver else ""
    function.restype = ctypes.c_char_p
    return _text(function()) or "unnamed"


def describe(reader: Any) -> dict[str, Any]:
    """What does not change, as the ``gpu`` line has it."""
    texts = _texts(reader)
    pci = reader.get("address", "PciInfo")
    address = pci_id = subsystem = ""
    if pci is not None:
        address = f"{pci.domain:04x}:{pci.bus:02x}:{pci.device:02x}.0"
        pci_id = f"{pci.pciDeviceId & 0xFFFF:04x}:{pci.pciDeviceId >> 16:04x}"
        subsystem = f"{pci.pciSubSystemId & 0xFFFF:04x}:{pci.pciSubSystemId >> 16:04x}"
    memory = reader.get("memory_bytes", "MemoryInfo")
    return {
        **texts, "address": address, "pci_id": pci_id, "subsystem": subsystem,
        "memory_bytes": None if memory is None else memory.total, "properties": _properties(reader),
    }  # fmt: skip


def _texts(reader: Any) -> dict[str, str]:
    return {key: _text(reader.get(key, function) or "") for key, function in TEXTS}


def _properties(reader: Any) -> dict[str, float | bool | None]:
    properties: dict[str, float | bool | None] = {}
    for name, function, arguments, convert in PROPERTIES:
        found = reader.get(name, function, *arguments)
        properties[name] = None if found is None else convert(found)
    properties["sram_exceeded"] = reader.sram_exceeded()
    return properties | {name: reader.field(name, number) for name, number in FIELDS}


def settings(reader: Any) -> dict[str, float | bool | str | None]:
    """What must not change while the run has the card; None: not offered, or it could not be read."""
    driver = reader.driver()
    return {
        "driver": None if driver is None else _text(driver),
        **{name: text or None for name, text in _texts(reader).items()},
        **_properties(reader),
    }


class Rounds:
    """The fast and the slow round of one GPU."""

    def __init__(self, reader: Any, reads: Any) -> None:
        self.reader, self.worker, self.reads = reader, reader.worker, reads
        said = describe(reader)
        said["properties"]["nvlink_links"], links = reader.links()
        self.fast_names, self.fast_readers = reader.gather(reads.FAST_FIELDS, reads.FAST_CALLS, [])
        self.slow_names, self.slow_readers = reader.gather(reads.SLOW_FIELDS, reads.SLOW_CALLS, links)
        self.slow_names.append("processes")
        given = {*self.fast_names, *self.slow_names}
        rows = (
            *reads.FAST_FIELDS,
            *reads.SLOW_FIELDS,
            *reads.FAST_CALLS,
            *reads.SLOW_CALLS,
            ("nvlink_active",),
            *reads.LINK_FIELDS,
            *reads.LINK_5,
        )
        known = dict.fromkeys(name for row in rows for name in row[0].split())
        self.settings_names = list(settings(reader))
        said |= {"fast": self.fast_names, "slow": self.slow_names, "settings": self.settings_names}
        said["not_offered"] = [name for name in known if name not in given]
        reader.introduce(said)
        self.fast_codes = [0] * len(self.fast_names)
        self.slow_codes = [0] * (len(self.slow_names) - 1)
        self.before: dict[str, Any] = {}
        self.latest: list[Any] = []
        self.processes: list[tuple[int, str, bool]] | None = None

    def fast(self) -> None:
        """One ``fast`` line."""
        values: list[Any] = []
        codes: list[int] = []
        at = time.clock_gettime(time.CLOCK_BOOTTIME)
        for read in self.fast_readers:
            read(values, codes)
        if codes != self.fast_codes:
            self.complain(self.fast_names, codes, self.fast_codes)
            self.fast_codes = codes
        self.write("fast", at, values)

    def slow(self) -> None:
        """One ``slow`` line, and an ``event`` for each value that changed."""
        values: list[Any] = []
        codes: list[int] = []
        at = time.clock_gettime(time.CLOCK_BOOTTIME)
        for read in self.slow_readers:
            read(values, codes)
        if codes != self.slow_codes:
            self.complain(self.slow_names, codes, self.slow_codes)
            self.slow_codes = codes
        values.append(self.look_at_processes())
        self.write("slow", at, values)
        if values == self.latest:
            return
        self.latest = values
        for name, value in zip(self.slow_names, values, strict=True):
            old = self.before.get(name)
            if value is not None:
                if old is not None and old != value and name != "memory_used":
                    self.worker.put("event", gpu=self.worker.gpu, name=name, old=old, new=value)
                self.before[name] = value

    def write(self, kind: str, at: float, values: list[Any]) -> None:
        """A line of a round, made by hand: all are numbers, and a writer of JSON takes ten times as long."""
        text = ",".join(["null" if value is None else repr(value) for value in values])
        line = f'{{"type":"{kind}","mono":{at:.3f},"gpu":{self.worker.gpu},"values":[{text}]}}\n'
        os.write(self.worker.spool.descriptor, line.encode())

    def settings(self) -> None:
        """One ``settings`` line."""
        found = settings(self.reader)
        values = [found[name] for name in self.settings_names]
        self.worker.put("settings", gpu=self.worker.gpu, values=values)

    def complain(self, names: list[str], codes: list[int], before: list[int]) -> None:
        """An ``error`` line for each sensor with a new error. Raises Lost."""
        for name, code, old in zip(names, codes, before, strict=False):
            if code in self.reads.LOST:
                raise self.reads.Lost(name, code)
            if code and code != old:
                self.worker.put("error", gpu=self.worker.gpu, name=name, error=self.reader.word(code))

    def look_at_processes(self) -> int | None:
        """How many processes use the GPU (None: it does not say); a ``processes`` line when they changed."""
        found: dict[int, int | None] = {}
        for function in ("ComputeRunningProcesses", "GraphicsRunningProcesses"):
            listed = self.reader.get("processes", function)
            if listed is None:
                return None
            found |= {process.pid: process.usedGpuMemory for process in listed}
        ours = _our_sessions(self.worker.job["jobs"]) if found else set()
        before = {pid for pid, _, our in self.processes or () if our}
        # One that ended since it was listed can be asked no more.
        seen = sorted((pid, _name(pid), _started_by(ours, pid) or pid in before) for pid in found)
        if seen != self.processes:
            rows = [{"pid": p, "name": name, "bytes": found[p], "ours": our} for p, name, our in seen]
            self.worker.put("processes", gpu=self.worker.gpu, list=rows)
            self.processes = seen
        return len(found)


def _our_sessions(jobs: str) -> set[int]:
    """Each keyed job (runner.sh) leads a session and has written down its process id."""
    found = set()
    for name in os.listdir(jobs) if os.path.isdir(jobs) else ():
        try:
            with open(os.path.join(jobs, name, "pid"), encoding="ascii") as file:
                found.add(int(file.read()))
        except (OSError, ValueError):
            continue
    return found


def _started_by(sessions: set[int], pid: int) -> bool:
    """Whether it, or one above it, is of these sessions: a load may start others in sessions of their own."""
    for _ in range(32):
        try:
            if os.getsid(pid) in sessions:
                return True
            with open(f"/proc/{pid}/stat", "rb") as file:
                pid = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return False
        if pid <= 1:
            return False
    return False


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="backslashreplace") as file:
            return file.read().strip()
    except OSError:
        return ""


def sample(rounds: Rounds) -> None:
    """Rounds on a fixed grid of time until told to stop; a round that comes late is not made up for.

    The grid is that of the clock itself, so the processes of all GPUs wake together: what they share is still
    in the caches then, and a sample costs a third less than if they took turns.
    """
    worker, now = rounds.worker, rounds.worker.board.now
    fast, slow = 1 / worker.job["fast_hz"], 1 / worker.job["slow_hz"]
    rounds.slow()
    rounds.settings()
    rounds.reader.whole = False
    worker.spent()
    began = now()
    next_fast, next_slow, next_settings = began, began - began % slow + slow, began + SETTINGS_SECONDS
    while not worker.stopping():
        at = now()
        if at >= next_slow:
            rounds.slow()
            worker.spent()
            next_slow = at - at % slow + slow
        if at >= next_settings:
            rounds.settings()
            next_settings = at - at % SETTINGS_SECONDS + SETTINGS_SECONDS
        if at >= next_fast:
            rounds.fast()
            next_fast = at - at % fast + fast
        time.sleep(max(0.0, min(next_fast, next_slow) - now()))
    rounds.reader.whole = True
    rounds.settings()
    rounds.slow()


def work(job: dict[str, Any], spool: Any, board: Any, gpu: int, nvml: Any) -> None:
    """All that the process of one GPU does; that of GPU 0 also speaks for the library."""
    worker = Worker(job, spool, board, gpu)
    try:
        if gpu == 0:
            count = introduce(worker, nvml)
            board.publish(count)
            if count == 0:
                return
        else:
            start(worker, nvml)
        handle = worker.call("nvmlDeviceGetHandleByIndex_v2", nvml.nvmlDeviceGetHandleByIndex, gpu)
        sample(Rounds(reads.Reader(nvml, worker, handle), reads))
    except reads.Lost as lost:
        call, code = lost.args
        worker.put("lost", gpu=gpu, call=call, error=type(nvml.NVMLError(code)).__name__)
    except nvml.NVMLError as error:
        word = type(error).__name__
        if error.value not in reads.LOST:
            worker.put("error", gpu=gpu, name="start", error=word)
            raise
        worker.put("lost", gpu=gpu, call="nvmlDeviceGetHandleByIndex_v2", error=word)
