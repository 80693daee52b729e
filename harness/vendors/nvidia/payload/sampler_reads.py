"""What is read of a GPU and by which call of NVML, laid out once so that a round makes nothing anew.

A sample of 8 GPUs ten times a second must cost next to nothing, and ctypes is quick only with functions,
arguments and room for results that exist already. ``pynvml`` gives the functions and structures. Numbers are
those of nvml.h (``NVML_FI_DEV_*``, ``NVML_ERROR_*``).
"""

from __future__ import annotations

import ctypes
import itertools

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Found = tuple[list[str], Callable[[list[Any], list[int]], None]]
    """Names of values, and what appends them and their error codes (0: none) to two lists."""
    Call = tuple[tuple[Any, ...], Any]  # arguments, and the room for the result

NOT_OFFERED = (2, 3, 13, 22)
"""INVALID_ARGUMENT (of an old driver, about a field it does not know), NOT_SUPPORTED, FUNCTION_NOT_FOUND,
VGPU_ECC_NOT_SUPPORTED (``NVML_ERROR_*``, nvml.h)."""
DEPRECATED = 26
"""What newer drivers answer of questions that have a successor (seen of several with r580 and r595)."""
LOST = (15, 16, 28)
"""GPU_IS_LOST, RESET_REQUIRED (it cannot be used before), GPU_NOT_FOUND."""
FAST_FIELDS = (("power", 186, 1000), ("energy", 83, 1000), ("temperature_memory", 82, 1))
"""Name, number (``NVML_FI_DEV_*``), and how many of NVML's unit make one of ours."""
SLOW_FIELDS = (
    ("pcie_replays", 94, 1),
    ("ecc_corrected", 3, 1), ("ecc_uncorrected", 4, 1),
    ("ecc_corrected_aggregate", 5, 1), ("ecc_uncorrected_aggregate", 6, 1),
    ("remap_corrected", 142, 1), ("remap_uncorrected", 143, 1),
    ("remap_pending", 144, 1), ("remap_failed", 145, 1),
    ("retired_single_bit", 29, 1), ("retired_double_bit", 30, 1), ("retired_pending", 31, 1),
    ("recovery_action", 230, 1),
)  # fmt: skip
FAST_CALLS = (
    ("power", "PowerUsage", (), "I", 0, 1000),
    ("energy", "TotalEnergyConsumption", (), "Q", 0, 1000),
    ("temperature", "Temperature", (0,), "I", 0, 1),
    ("temperature", "TemperatureV", (), "T", 2, 1),
    ("temperature_margin", "MarginTemperature", (), "N", 1, 1),
    ("clock_sm", "ClockInfo", (1,), "I", 0, 1),
    ("clock_memory", "ClockInfo", (2,), "I", 0, 1),
    ("reasons", "CurrentClocksEventReasons", (), "Q", 0, 1),
    ("reasons", "CurrentClocksThrottleReasons", (), "Q", 0, 1),
    ("util_gpu util_memory", "UtilizationRates", (), "U", 0, 1),
    ("util_encoder", "EncoderUtilization", (), "II", 0, 1),
    ("util_decoder", "DecoderUtilization", (), "II", 0, 1),
    ("pcie_gen", "CurrPcieLinkGeneration", (), "I", 0, 1),
    ("pcie_width", "CurrPcieLinkWidth", (), "I", 0, 1),
)
"""Names, function (``nvmlDeviceGet...``), arguments before the results, results (I: unsigned, Q: 64 bits, the
rest: arrays, see Reader.room), the first result that is ours, and the unit. A name that a field or an earlier
line gave is left out."""
SLOW_CALLS = (
    ("memory_used", "MemoryInfo", (), "M", 2, 1),
    ("pcie_replays", "PcieReplayCounter", (), "I", 0, 1),
    ("ecc_corrected", "TotalEccErrors", (0, 0), "Q", 0, 1),
    ("ecc_uncorrected", "TotalEccErrors", (1, 0), "Q", 0, 1),
    ("ecc_corrected_aggregate", "TotalEccErrors", (0, 1), "Q", 0, 1),
    ("ecc_uncorrected_aggregate", "TotalEccErrors", (1, 1), "Q", 0, 1),
    ("remap_corrected remap_uncorrected remap_pending remap_failed", "RemappedRows", (), "IIII", 0, 1),
    ("retired_pending", "RetiredPagesPendingStatus", (), "I", 0, 1),
    ("encoder_sessions", "EncoderStats", (), "III", 0, 1),
)
LINK_TOTALS = (("nvlink_replay", 52, 1), ("nvlink_recovery", 59, 1), ("nvlink_crc", ((38, 0), (45, 0)), 1))
"""Cyclic redundancy errors of flow control and of data are counted apart."""
LINK_COUNTERS = (("nvlink_replay", (0,)), ("nvlink_recovery", (1,)), ("nvlink_crc", (2, 3)))
"""The same by link, ``nvmlNvLinkErrorCounter_t``: Hopper answers zero for the totals, whatever it counted,
and nvidia-smi reads these (DataDog/datadog-agent#55966)."""
LINK_TURNS = 4
"""Rounds in which all of these are asked once: a card of 18 links has 72, and each costs a driver as much as
a temperature. They only grow, so one that is read three rounds later says the same."""
ALL_LINKS = 0xFFFFFFFF
LINK_5 = (
    ("nvlink_recovery", ((215, ALL_LINKS),), 1),
    ("nvlink_errors", tuple((number, ALL_LINKS) for number in range(206, 212)), 1),
)
"""NVLink 5 has none of these: it counts links that had to recover, and packets that were malformed, overrun,
wrong, stomped or mismatched, and losses of integrity. DCGM asks for all links at once
(``NvmlFieldRequiresNvLinkAggregate``)."""
LINK_FIELDS = (("nvlink_replay", 161), ("nvlink_recovery", 162), ("nvlink_crc", 163))
"""By link (the field's scope), for what no other question brought."""
VALUE_TYPES = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""Member of ``nvmlValue_t`` by ``nvmlValueType_t``."""
UNKNOWN = 999
"""NVML_ERROR_UNKNOWN: also for a value of a type that is not known here."""


class Lost(Exception):
    """The GPU does not answer any more."""


class Reader:
    """One GPU: calls laid out once, and what the last round brought."""

    def __init__(self, nvml: Any, worker: Any, handle: Any) -> None:
        self.nvml, self.worker, self.handle = nvml, worker, handle
        self.errors: dict[str, str] = {}
        """What single questions last failed with; told after the ``gpu`` line, then when it is new."""
        self.introduced = False
        self.whole = True
        """Whether a round asks everything, also what otherwise takes turns: the first one and the last."""

    def ask(self, function: str, *arguments: Any) -> Any:
        """A function of pynvml. Raises Lost, or its NVMLError."""
        try:
            return self.worker.call(function, getattr(self.nvml, function), self.handle, *arguments)
        except self.nvml.NVMLError as error:
            if error.value in LOST:
                raise Lost(function, error.value) from None
            raise

    def get(self, name: str, function: str, *arguments: Any) -> Any:
        """``nvmlDeviceGet`` + function; None when the card has no such thing, or fails (an error line)."""
        try:
            return self.ask("nvmlDeviceGet" + function, *arguments)
        except self.nvml.NVMLError as error:
            if error.value not in NOT_OFFERED:
                self.failed(name, self.word(error.value))
        except AttributeError:  # a pynvml that does not know the function
            pass
        return None

    def field(self, name: str, number: int) -> int | None:
        """A field of 32 bits with a sign, whatever type the driver gives it; None as with ``get``."""
        try:
            (found,) = self.ask("nvmlDeviceGetFieldValues", [number])
        except self.nvml.NVMLError as error:
            code = error.value
        else:
            code = found.nvmlReturn
        self.check("nvmlDeviceGetFieldValues", [code])
        if not code:
            return ctypes.c_int32(found.value.uiVal).value
        if code not in NOT_OFFERED:
            self.failed(name, self.word(code))
        return None

    def driver(self) -> Any:
        """The driver's version; None where it fails (an error line)."""
        try:
            return self.worker.call("nvmlSystemGetDriverVersion", self.nvml.nvmlSystemGetDriverVersion)
        except self.nvml.NVMLError as error:
            self.failed("driver", self.word(error.value))
        return None

    def sram_exceeded(self) -> bool | None:
        """Whether the card's SRAM met more uncorrectable errors than NVIDIA puts up with; None as ``get``."""
        layout = getattr(self.nvml, "c_nvmlEccSramErrorStatus_v1_t", None)
        if layout is None:  # an older pynvml
            return None
        status = layout()
        status.version = 0x1000068  # nvmlEccSramErrorStatus_v1
        if self.get("sram_exceeded", "SramEccErrorStatus", ctypes.byref(status)) is None:
            return None
        return bool(status.bThresholdExceeded)

    def failed(self, name: str, error: str) -> None:
        """Note an error of a single question."""
        if self.introduced and self.errors.get(name) != error:
            self.worker.put("error", gpu=self.worker.gpu, name=name, error=error)
        self.errors[name] = error

    def introduce(self, said: dict[str, Any]) -> None:
        """Write the ``gpu`` line, and after it what failed before."""
        self.worker.put("gpu", gpu=self.worker.gpu, **said)
        self.introduced = True
        for name, error in self.errors.items():
            self.worker.put("error", gpu=self.worker.gpu, name=name, error=error)

    def word(self, code: int) -> str:
        """NVML's word for an error, ``NVMLError_Timeout``; its number where pynvml has no word."""
        name = type(self.nvml.NVMLError(code)).__name__
        return name if name != "NVMLError" else f"NVMLError_{code}"

    def room(self, kind: str) -> Any:
        """Memory for one result."""
        kinds: dict[str, Any] = {
            "I": ctypes.c_uint,
            "Q": ctypes.c_ulonglong,
            "U": ctypes.c_uint * 2,
            "M": ctypes.c_ulonglong * 3,
            "T": ctypes.c_int * 3,
            "N": ctypes.c_int * 2,
        }
        made = kinds[kind]()
        if kind == "T":
            made[0] = 0x100000C  # nvmlTemperature_v1: 12 bytes, version 1
        elif kind == "N":
            made[0] = 0x1000008  # nvmlMarginTemperature_v1
        return made

    def plain(
        self, row: tuple[str, str, tuple[int, ...], str, int, int], *, succeeded: bool = False
    ) -> Found | None:
        """A row of FAST_CALLS or SLOW_CALLS, ready to be read; None when the card does not offer it, or calls
        it deprecated and another row has ``succeeded`` it.
        """
        names, function, before, kinds, first, unit = row
        wanted = names.split()
        label = "nvmlDeviceGet" + function
        pointer = getattr(self.nvml.nvmlLib, label, None)
        if pointer is None:  # an older driver
            return None
        rooms = [self.room(kind) for kind in kinds]
        arguments = (self.handle, *map(ctypes.c_uint, before), *map(ctypes.byref, rooms))
        enter, leave, entry = self.worker.enter, self.worker.leave, self.worker.entry(label)
        arrays = [room for room, kind in zip(rooms, kinds, strict=True) if kind not in "IQ"]
        count, picked = len(wanted), range(first, first + len(wanted))

        def read(values: list[Any], codes: list[int]) -> None:
            enter(entry)
            code = pointer(*arguments)
            leave()
            for n in picked:
                number = None if code else arrays[0][n] if arrays else rooms[n].value
                values.append(number / unit if number is not None and unit != 1 else number)
            codes.extend([code] * count)

        codes: list[int] = []
        read([], codes)
        self.check(label, codes)
        gone = codes[0] in NOT_OFFERED or (succeeded and codes[0] == DEPRECATED)
        return None if gone else (wanted, read)

    def check(self, label: str, codes: list[int]) -> None:
        """Raise Lost when one of these codes says so."""
        for code in codes:
            if code in LOST:
                raise Lost(label, code)

    def fields(self, rows: tuple[tuple[str, Any, int], ...], others: Iterable[str] = ()) -> Found | None:
        """Fields that the card offers, all read by one call; ``others`` can be had in another way.

        The second of a row is the field's number, or pairs of number and scope whose sum is meant: of these,
        what is not offered counts for nothing as long as one is.
        """
        label = "nvmlDeviceGetFieldValues"
        pointer = getattr(self.nvml.nvmlLib, label, None)
        if pointer is None:  # an older driver
            return None
        enter, leave, entry = self.worker.enter, self.worker.leave, self.worker.entry(label)
        # A pynvml that is older than the driver does not know each type.
        known = sum(hasattr(self.nvml.c_nvmlValue_t, name) for name in VALUE_TYPES)

        def lay_out(rows: list[tuple[str, Any, int]]) -> Callable[[list[Any], list[int]], None]:
            parts = [[(row[1], 0)] if isinstance(row[1], int) else row[1] for row in rows]
            array = (self.nvml.c_nvmlFieldValue_t * sum(map(len, parts)))()
            items = iter(array)
            groups = []
            for row, pairs in zip(rows, parts, strict=True):
                group = []
                for (number, scope), item in zip(pairs, items, strict=False):
                    item.fieldId, item.scopeId = number, scope
                    group.append((item, item.value))
                groups.append((group, row[2]))
            arguments = (self.handle, ctypes.c_int(len(array)), ctypes.byref(array))

            def read(values: list[Any], codes: list[int]) -> None:
                enter(entry)
                code = pointer(*arguments)
                leave()
                for group, unit in groups:
                    total, worst, lacking = None, code, 0
                    for item, value in group:
                        failed = code or item.nvmlReturn or (item.valueType >= known and UNKNOWN)
                        if not failed:
                            total = (total or 0) + getattr(value, VALUE_TYPES[item.valueType])
                        elif failed in NOT_OFFERED:
                            lacking = failed
                        else:
                            worst = failed
                    worst = worst or (lacking if total is None else 0)
                    values.append(None if worst else total / unit if unit != 1 and total else total)
                    codes.append(worst)

            return read

        codes: list[int] = []
        lay_out(list(rows))([], codes)
        self.check(label, codes)
        offered = [
            row
            for row, code in zip(rows, codes, strict=True)
            if code not in NOT_OFFERED and not (code == DEPRECATED and row[0] in others)
        ]
        return ([row[0] for row in offered], lay_out(offered)) if offered else None

    def links(self) -> tuple[int | None, list[Found]]:
        """How many NVLinks the card has (None: no such thing), and what reads them."""
        states: list[Call] = []
        while len(states) < self.nvml.NVML_NVLINK_MAX_LINKS:
            state = self.same("NvLinkState", (len(states),), ctypes.c_uint)
            if state is None:
                break
            states.append(state)
        count = len(states)
        if not count:
            return None, []
        # 2 is asleep (NVML_NVLINK_STATE_SLEEP), and no link that is down.
        asks: list[Found] = [self.summed("NvLinkState", {"nvlink_active": states}, bool, 1)]
        sources = [self.fields(LINK_TOTALS), self.link_counters(count), self.fields(LINK_5)]
        offered = [source for source in sources if source]
        if offered:
            asks.append(self.greatest(offered))
        missing = [row for row in LINK_FIELDS if not any(row[0] in names for names, _ in offered)]
        parts = tuple((name, [(number, link) for link in range(count)], 1) for name, number in missing)
        by_link = self.fields(parts) if parts else None
        return count, [*asks, *([by_link] if by_link else [])]

    def link_counters(self, count: int) -> Found | None:
        """LINK_COUNTERS, each summed over the links; None when the card does not offer any."""
        asked: dict[str, list[Call]] = {}
        for name, counters in LINK_COUNTERS:
            each = [(link, counter) for link in range(count) for counter in counters]
            found = [self.same("NvLinkErrorCounter", those, ctypes.c_ulonglong) for those in each]
            if any(found):
                asked[name] = [call for call in found if call]
        return self.summed("NvLinkErrorCounter", asked, int, LINK_TURNS) if asked else None

    def same(self, function: str, before: tuple[int, ...], kind: type[Any]) -> Call | None:
        """One of many calls of a function that brings one number; None when the card does not offer it."""
        label = "nvmlDeviceGet" + function
        pointer = getattr(self.nvml.nvmlLib, label, None)
        if pointer is None:  # an older driver
            return None
        room = kind()
        arguments = (self.handle, *map(ctypes.c_uint, before), ctypes.byref(room))
        self.worker.enter(self.worker.entry(label))
        code = pointer(*arguments)
        self.worker.leave()
        self.check(label, [code])
        return None if code in NOT_OFFERED else (arguments, room)

    def summed(self, function: str, asked: dict[str, list[Call]], each: type[int], turns: int) -> Found:
        """Name to the sum of its calls. A round makes one of ``turns``, and all while ``whole`` is set."""
        pointer = getattr(self.nvml.nvmlLib, "nvmlDeviceGet" + function)
        enter, leave = self.worker.enter, self.worker.leave
        entry = self.worker.entry("nvmlDeviceGet" + function)
        rows = [(calls, [0] * len(calls), [0] * len(calls)) for calls in asked.values()]
        turn = itertools.cycle(range(turns))

        def read(values: list[Any], codes: list[int]) -> None:
            begin, step = (0, 1) if self.whole else (next(turn), turns)
            for calls, seen, failed in rows:
                for place in range(begin, len(calls), step):
                    arguments, room = calls[place]
                    enter(entry)
                    failed[place] = code = pointer(*arguments)
                    leave()
                    seen[place] = 0 if code else each(room.value)
                worst = max(failed)
                values.append(None if worst else sum(seen))
                codes.append(worst)

        return list(asked), read

    @staticmethod
    def greatest(sources: list[Found]) -> Found:
        """Of counters that several questions bring the greatest; an error of one is an error."""
        names = list(dict.fromkeys(name for found in sources for name in found[0]))

        def read(values: list[Any], codes: list[int]) -> None:
            most: dict[str, Any] = {}
            worst = dict.fromkeys(names, 0)
            for offered, ask in sources:
                seen: list[Any] = []
                failed: list[int] = []
                ask(seen, failed)
                for name, value, code in zip(offered, seen, failed, strict=True):
                    most[name] = max(most.get(name, 0), value or 0)
                    worst[name] = max(worst[name], code)
            values.extend(None if worst[name] else most[name] for name in names)
            codes.extend(worst.values())

        return names, read

    def gather(self, fields: Any, calls: Any, more: list[Found]) -> tuple[list[str], list[Any]]:
        """Names and readers of a round: fields first, then calls for what no field offers, then ``more``."""
        names: list[str] = []
        readers = []
        found = self.fields(fields, {name for row in calls for name in row[0].split()})
        for each in [found] if found else []:
            names += each[0]
            readers.append(each[1])
        for place, row in enumerate(calls):
            if not set(row[0].split()) & set(names):
                found = self.plain(row, succeeded=any(row[0] == other[0] for other in calls[place + 1 :]))
                if found:
                    names += found[0]
                    readers.append(found[1])
        for each in more:
            names += each[0]
            readers.append(each[1])
        return names, readers
