"""Reads a sampler's spool: strictly, and losing nothing. A spool is written on a machine that may die.

A torn last line, lines of somebody else, a clock that went back, numbers that cannot be and GPUs that nobody
introduced become ``problems``; what they say is left out, so that it leaves a gap, and all else stands.
"""

from __future__ import annotations

import io
import math
import re
from collections import Counter
from collections.abc import Callable, Sized
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

from harness.errors import ParseError
from harness.model.telemetry import Change
from harness.reading import reader
from harness.regular import LONGEST_LINE, line_blocks
from harness.telemetry.gpu.samples import Samples
from harness.telemetry.gpu.series import PROPERTIES, SENSOR
from harness.telemetry.gpu.spool_lines import (
    LATEST,
    Fields,
    GpuSpool,
    HungCall,
    KernelLine,
    Spool,
    Unreadable,
    address_of,
    decode,
    reading,
    settings_of,
    whole,
)
from harness.telemetry.kernel.log import MOST_LINES

if TYPE_CHECKING:
    from harness.telemetry.gpu.spool_blocks import Ahead

FORMAT = 1
"""``format`` of the start line that this reads."""
MAX_GPUS = 256
MOST_TOLD = 100_000
"""Things of one kind that are kept of one GPU: losses, late calls, processes, errors."""
_SETTINGS = re.compile(
    rb'\{"type":"settings","mono":(?P<mono>(?:0|[1-9][0-9]*)(?:\.[0-9]+)?),"gpu":(?P<gpu>0|[1-9][0-9]{0,2}),'
    rb'(?P<rest>"values":.*)\n'
)
"""Settings as the sampler writes them; they hardly ever say anything new."""
_SHOWN = 20
"""Kinds of problem that are told; of each the first line, and how many more."""


@reader("the spool")
def read_spool(raw: bytes | BinaryIO) -> Spool:
    """The spool, given whole or as an open file. Raises ParseError when no line says how it was begun."""
    # numpy and Arrow are imported where they are used: who reads no spool need not wait for them.
    from harness.telemetry.gpu.spool_blocks import Ahead  # noqa: PLC0415

    with Ahead() as ahead:
        reader, number = _Reader(ahead), 1
        for lines in line_blocks(io.BytesIO(raw) if isinstance(raw, bytes) else raw):
            number += reader.take(number, lines)
        return reader.result()


class _Reader:
    def __init__(self, ahead: Ahead) -> None:
        self._ahead = ahead
        self._block: Any = None
        """What is being read (a ``spool_blocks.Block``)."""
        self._until = 0
        """Lines of it whose samples are being taken apart already."""
        self._spool: Spool | None = None
        self._gpus: dict[int, GpuSpool] = {}
        self._hung: list[HungCall] = []
        self._out: dict[tuple[int | None, str], int] = {}
        """GPU and call to the place of the one that is not back yet."""
        self._kernel: list[KernelLine] = []
        self._problems: Counter[str] = Counter()
        self._first: dict[str, int] = {}
        """Problem to the number of its first line."""
        self._last = 0.0
        self._facts: dict[str, Any] = {}
        self._rounds: dict[tuple[str, int], Samples] = {}
        """Round and GPU to where its samples go."""
        self._asked: dict[int, bytes] = {}
        """GPU to the latest line of its settings that could be read, from its values on."""
        self._number, self._here = 1, 0
        """Number of the block's first line; place of the other line that is being read."""
        self._take: dict[str, Callable[[Fields], None]] = {
            "start": self._start,
            "nvml": self._nvml,
            "gpu": self._gpu,
            "fast": lambda f: self._sample(f, fast=True),
            "slow": lambda f: self._sample(f, fast=False),
            "settings": self._settings,
            "processes": self._processes,
            "error": self._error,
            "lost": self._lost,
            "died": self._died,
            "hung": self._hang,
            "returned": self._returned,
            "kmsg": self._kmsg,
            "kmsg_start": self._kmsg_start,
            "kmsg_dropped": self._kmsg_dropped,
            "usage": self._usage,
            "end": self._end,
        }

    def take(self, number: int, lines: bytes) -> int:
        """Lines one after the other, the first of which has that number. Returns how many they are.

        Samples wait until the others are read, but not beyond one that introduces a GPU; those of the last
        blocks longer, since they are taken apart meanwhile.
        """
        from harness.telemetry.gpu.spool_blocks import Block  # noqa: PLC0415

        block = Block(lines)
        self._finish(leave=1)
        self._number, self._block, self._until = number, block, 0
        for place in block.others():
            self._here = place
            self._other(number + place, block.line(place))
        self._begin(len(block.starts))
        return len(block.starts)

    def _other(self, number: int, line: bytes) -> None:
        if not line.strip():
            self._problem(number, "an empty line")
        elif not line.endswith(b"\n"):
            cut = f"a line of more than {LONGEST_LINE} bytes"
            self._problem(number, cut if len(line) >= LONGEST_LINE else "the last line is torn")
        else:
            self._one(number, line)

    def _one(self, number: int, line: bytes) -> None:
        again = _SETTINGS.fullmatch(line)
        if again is not None and self._as_before(int(again["gpu"]), float(again["mono"]), again["rest"]):
            return
        try:
            self._line(decode(line))
        except Unreadable as error:
            self._problem(number, str(error))
        else:
            if again is not None:
                self._asked[int(again["gpu"])] = again["rest"]

    def _as_before(self, index: int, at: float, said: bytes) -> bool:
        """Take settings that say what the line before said of this GPU; whether they do."""
        if self._asked.get(index) != said or at > LATEST:
            return False
        self._gpus[index].settings_asked += 1
        self._last = max(self._last, at)
        return True

    def _begin(self, until: int) -> None:
        """Have the samples that wait taken apart, many at once."""
        begin, self._until = self._until, until
        self._ahead.begin(self._block, self._number, (begin, until), self._rounds)

    def _finish(self, leave: int = 0) -> None:
        """Take what was taken apart, oldest first, where all of it is plain, and else read it line by line.

        All but the last ``leave``.
        """
        for waiting, found in self._ahead.finish(self._rounds, leave):
            if found is None:
                for place in waiting.block.samples(waiting.begin, waiting.until):
                    self._other(waiting.number + place, waiting.block.line(place))
            for part in found or ():
                part.samples.append(part.rows)
                self._last = max(self._last, float(part.rows[-1, 0]))

    def _line(self, fields: Fields) -> None:
        kind = fields.text("type")
        if not kind:
            raise Unreadable("no line of a sampler: it has no type")
        handle = self._take.get(kind)
        if handle is None:
            return  # a type of a later sampler; see its docstring
        if kind in ("start", "gpu"):
            self._begin(self._here)
            self._finish()  # samples before a GPU was introduced are not its own
        if self._spool is None and kind != "start":
            raise Unreadable("before the start line")
        handle(fields)
        if fields.data.get("mono") is not None:
            self._last = max(self._last, fields.moment())

    def result(self) -> Spool:
        self._finish()
        if self._spool is None:
            raise ParseError(
                "not a samples file: no readable line of a sampler's start",
                remedy="read the first line of the samples file; the sampler may never have run",
            )
        problems = [
            f"line {first}: {what}" + (f" (and {count - 1} more like it)" if count > 1 else "")
            for what, first in sorted(self._first.items(), key=lambda item: item[1])
            for count in (self._problems[what],)
        ]
        if len(problems) > _SHOWN:
            problems[_SHOWN:] = [f"and {len(problems) - _SHOWN} more kinds of problem"]
        return replace(
            self._spool,
            gpus=tuple(gpu for _, gpu in sorted(self._gpus.items())),
            hung=tuple(self._hung),
            kernel=tuple(self._kernel),
            last=self._last,
            problems=tuple(problems),
            **self._facts,
        )

    def _problem(self, number: int, what: str) -> None:
        if what not in self._problems and len(self._problems) > 1000:
            what = "more lines that could not be read"
        self._problems[what] += 1
        self._first[what] = min(self._first.get(what, number), number)

    def _start(self, fields: Fields) -> None:
        if self._spool is not None:
            raise Unreadable("a second start: two samplers wrote into one file")
        if fields.integer("format") != FORMAT:
            raise Unreadable(f"format {fields.integer('format')} of the samples file is unknown")
        started = fields.moment()
        self._spool = Spool(
            boot_id=fields.text("boot_id"),
            started=started,
            wall=fields.moment("wall"),
            fast_hz=fields.number("fast_hz", least=0),
            slow_hz=fields.number("slow_hz", least=0),
            deadline=fields.number("deadline", least=0),
            last=started,
        )

    def _nvml(self, fields: Fields) -> None:
        names = ("source", "standin", "driver", "library", "detail")
        self._facts |= {name: fields.text(name) for name in names}

    def _gpu(self, fields: Fields) -> None:
        index = fields.integer("gpu")
        if index in self._gpus or index >= MAX_GPUS:
            raise Unreadable(f"GPU {index} is introduced twice, or cannot be")
        known, wrong = fields.properties("properties")
        address, strange = address_of(fields.text("address"))
        fast, slow = fields.names("fast"), fields.names("slow")
        self._gpus[index] = GpuSpool(
            index=index,
            uuid=fields.text("uuid"),
            name=fields.text("name"),
            address=address,
            pci_id=fields.text("pci_id"),
            subsystem=fields.text("subsystem"),
            serial=fields.text("serial"),
            vbios=fields.text("vbios"),
            memory_bytes=whole(fields, "memory_bytes"),
            properties={name: value for name, value in known.items() if name in PROPERTIES},
            not_offered=fields.names("not_offered"),
            settings=settings_of(fields),
            fast=Samples(fast),
            slow=Samples(slow),
        )
        self._rounds |= {("fast", index): self._gpus[index].fast, ("slow", index): self._gpus[index].slow}
        if wrong or strange:
            raise Unreadable(f"GPU {index}: {wrong or strange}")

    def _of(self, fields: Fields) -> GpuSpool:
        index = fields.integer("gpu")
        if index not in self._gpus:
            raise Unreadable(f"GPU {index} was never introduced")
        return self._gpus[index]

    def _mentioned(self, fields: Fields) -> GpuSpool:
        """As ``_of``, but a GPU that failed before it could be introduced is one too."""
        index = fields.integer("gpu")
        if index >= MAX_GPUS:
            raise Unreadable(f"GPU {index} cannot be")
        return self._gpus.setdefault(index, GpuSpool(index=index))

    def _sample(self, fields: Fields, *, fast: bool) -> None:
        gpu = self._of(fields)
        samples = gpu.fast if fast else gpu.slow
        at = fields.moment()
        values = fields.items("values")
        if len(values) != len(samples.names):
            raise Unreadable(f"GPU {gpu.index}: {len(values)} values for {len(samples.names)} names")
        if samples.last is not None and at < samples.last:
            raise Unreadable(f"GPU {gpu.index}: the clock went back")
        wrong, row = "", []
        for name, value in zip(samples.names, values, strict=True):
            try:
                read = reading(value, SENSOR[name].unit if name in SENSOR else "1")
            except Unreadable as error:
                read, wrong = math.nan, f"GPU {gpu.index}, {name}: {error}"
            row.append(read)
        samples.add(at, row)
        if wrong:
            raise Unreadable(wrong)

    def _settings(self, fields: Fields) -> None:
        gpu = self._of(fields)
        values = fields.items("values")
        if len(values) != len(gpu.settings):
            raise Unreadable(f"GPU {gpu.index}: {len(values)} settings for {len(gpu.settings)} names")
        said, wrong = Fields({"values": dict(zip(gpu.settings, values, strict=True))}).properties("values")
        if wrong:
            raise Unreadable(f"GPU {gpu.index}: {wrong}")
        gpu.settings_asked += 1
        for name, value in said.items():
            before = gpu.settings[name]
            if value is None or value == before:
                continue
            gpu.settings[name] = value
            if before is not None:
                self._told(gpu.changes)
                gpu.changes.append(Change(name=name, at=fields.moment(), before=before, after=value))

    def _processes(self, fields: Fields) -> None:
        gpu = self._of(fields)
        for each in fields.items("list"):
            if not isinstance(each, dict):
                raise Unreadable("a process is no object")
            process = Fields(each)
            if each.get("ours") is not True:
                self._told(gpu.foreign)
                gpu.foreign.add(process.text("name") or f"pid {process.integer('pid')}")

    def _error(self, fields: Fields) -> None:
        self._told(self._mentioned(fields).errors)
        self._mentioned(fields).errors[fields.text("name")] = fields.text("error")

    def _told(self, kept: Sized) -> None:
        """What a GPU or call did may be told so often and no more."""
        if len(kept) >= MOST_TOLD:
            raise Unreadable(f"more than {MOST_TOLD} of one kind")

    def _lost(self, fields: Fields) -> None:
        why = f"{fields.text('error')} from {fields.text('call')}"
        self._told(self._mentioned(fields).lost)
        self._mentioned(fields).lost.append((fields.moment(), why))

    def _died(self, fields: Fields) -> None:
        why = f"the sampler's process that asked it died ({str(fields.data.get('status'))[:20]})"
        self._told(self._mentioned(fields).died)
        self._mentioned(fields).died.append((fields.moment(), why))

    def _hang(self, fields: Fields) -> None:
        gpu = None if fields.data.get("gpu") is None else fields.integer("gpu")
        call = HungCall(
            at=fields.moment(), call=fields.text("call"), seconds=fields.number("seconds"), gpu=gpu
        )
        self._told(self._hung)
        self._out[gpu, call.call] = len(self._hung)
        self._hung.append(call)

    def _returned(self, fields: Fields) -> None:
        gpu = None if fields.data.get("gpu") is None else fields.integer("gpu")
        returned, seconds = fields.moment(), fields.number("seconds", least=0)
        place = self._out.pop((gpu, fields.text("call")), None)
        if place is None:
            raise Unreadable(f"GPU {gpu}: a call came back that had not been late")
        self._hung[place] = replace(self._hung[place], returned=returned, seconds=seconds)

    def _kmsg(self, fields: Fields) -> None:
        if len(self._kernel) >= MOST_LINES:
            self._facts["kernel_dropped"] = self._facts.get("kernel_dropped", 0) + 1
            raise Unreadable(f"more than {MOST_LINES} lines of the kernel's log")
        known = fields.data.get("t") is not None
        line = KernelLine(
            at=fields.moment("t") if known else None,
            facility=fields.integer("facility") if known else None,
            text=fields.text("text", most=4096),
        )
        self._kernel.append(line)

    def _kmsg_start(self, fields: Fields) -> None:
        error, at = fields.text("error"), fields.moment()
        if error:
            self._facts |= {"kernel_error": error, "kernel_until": at}
        else:
            self._facts["kernel_from"] = at

    def _kmsg_dropped(self, fields: Fields) -> None:
        self._facts["kernel_dropped"] = self._facts.get("kernel_dropped", 0) + fields.integer("lines")

    def _usage(self, fields: Fields) -> None:
        self._facts["cpu_seconds"] = fields.number("cpu_seconds", least=0)

    def _end(self, fields: Fields) -> None:
        if "ended" in self._facts:
            raise Unreadable("a second end")
        self._facts |= {"ended": fields.moment(), "end_reason": fields.text("reason")}
        self._facts["cpu_seconds"] = fields.number("cpu_seconds", least=0)
