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
from harness.model.pci import PciAddress
from harness.model.telemetry import Change
from harness.reading import reader
from harness.regular import LONGEST_LINE, line_blocks
from harness.telemetry.gpu import spool_fields as form
from harness.telemetry.gpu.samples import Samples
from harness.telemetry.gpu.series import PROPERTIES, SENSOR
from harness.telemetry.gpu.spool_fields import LATEST, Unreadable, decode, plain, read_line, reading
from harness.telemetry.gpu.spool_lines import GpuSpool, HungCall, KernelLine, Plain, Spool
from harness.telemetry.kernel.log import MOST_LINES
from harness.vendors.sampler import LIBRARY_LINE

if TYPE_CHECKING:
    from harness.telemetry.gpu.spool_blocks import Ahead

FORMAT = 1
"""``format`` of the start line that this reads."""
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
        self._take: dict[str, tuple[type[form.Line], Callable[[Any], None]]] = {
            "start": (form.Start, self._start),
            LIBRARY_LINE: (form.Library, self._library),
            "gpu": (form.Introduced, self._gpu),
            "fast": (form.Values, lambda line: self._sample(line, fast=True)),
            "slow": (form.Values, lambda line: self._sample(line, fast=False)),
            "settings": (form.Values, self._settings),
            "processes": (form.Processes, self._processes),
            "error": (form.Failed, self._error),
            "lost": (form.Failed, self._lost),
            "died": (form.Failed, self._died),
            "hung": (form.Late, self._hang),
            "returned": (form.Late, self._returned),
            "kmsg": (form.KernelRecord, self._kmsg),
            "kmsg_start": (form.KernelFrom, self._kmsg_start),
            "kmsg_dropped": (form.KernelDropped, self._kmsg_dropped),
            "usage": (form.Usage, self._usage),
            "end": (form.End, self._end),
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

    def _line(self, data: dict[str, Any]) -> None:
        kind = data.get("type")
        if not kind or not isinstance(kind, str):
            raise Unreadable("no line of a sampler: it has no type")
        if kind not in self._take:
            return  # a type of a later sampler; see its docstring
        if kind in ("start", "gpu"):
            self._begin(self._here)
            self._finish()  # samples before a GPU was introduced are not its own
        if self._spool is None and kind != "start":
            raise Unreadable("before the start line")
        fields, handle = self._take[kind]
        line = read_line(fields, data)
        handle(line)
        self._last = max(self._last, line.mono)

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

    def _start(self, line: form.Start) -> None:
        if self._spool is not None:
            raise Unreadable("a second start: two samplers wrote into one file")
        if line.format != FORMAT:
            raise Unreadable(f"format {line.format} of the samples file is unknown")
        said = line.model_dump(exclude={"format", "mono"})
        self._spool = Spool(started=line.mono, last=line.mono, **said)

    def _library(self, line: form.Library) -> None:
        self._facts |= line.model_dump(exclude={"mono"})

    def _gpu(self, line: form.Introduced) -> None:
        index = line.gpu
        if index in self._gpus:
            raise Unreadable(f"GPU {index} is introduced twice")
        known, wrong = plain(line.properties, "properties")
        try:
            address = PciAddress.parse(line.address) if line.address else None
        except ValueError:
            address, wrong = None, wrong or f"address is {line.address[:40]!r}"
        identity = line.model_dump(include={"uuid", "name", "serial", "vbios"})
        said: dict[str, Plain] = known | {name: text for name, text in identity.items() if text}
        self._gpus[index] = GpuSpool(
            index=index,
            address=address,
            properties={name: value for name, value in known.items() if name in PROPERTIES},
            settings={name: said.get(name) for name in line.settings},
            fast=Samples(line.fast),
            slow=Samples(line.slow),
            **line.model_dump(include={"pci_id", "subsystem", "memory_bytes", "not_offered"}) | identity,
        )
        self._rounds |= {("fast", index): self._gpus[index].fast, ("slow", index): self._gpus[index].slow}
        if wrong:
            raise Unreadable(f"GPU {index}: {wrong}")

    def _of(self, line: form.OfGpu) -> GpuSpool:
        if line.gpu not in self._gpus:
            raise Unreadable(f"GPU {line.gpu} was never introduced")
        return self._gpus[line.gpu]

    def _mentioned(self, line: form.OfGpu) -> GpuSpool:
        """As ``_of``, but a GPU that failed before it could be introduced is one too."""
        return self._gpus.setdefault(line.gpu, GpuSpool(index=line.gpu))

    def _sample(self, line: form.Values, *, fast: bool) -> None:
        gpu = self._of(line)
        samples = gpu.fast if fast else gpu.slow
        if len(line.values) != len(samples.names):
            raise Unreadable(f"GPU {gpu.index}: {len(line.values)} values for {len(samples.names)} names")
        if samples.last is not None and line.mono < samples.last:
            raise Unreadable(f"GPU {gpu.index}: the clock went back")
        wrong, row = "", []
        for name, value in zip(samples.names, line.values, strict=True):
            try:
                read = reading(value, SENSOR[name].unit if name in SENSOR else "1")
            except Unreadable as error:
                read, wrong = math.nan, f"GPU {gpu.index}, {name}: {error}"
            row.append(read)
        samples.add(line.mono, row)
        if wrong:
            raise Unreadable(wrong)

    def _settings(self, line: form.Values) -> None:
        gpu = self._of(line)
        if len(line.values) != len(gpu.settings):
            raise Unreadable(f"GPU {gpu.index}: {len(line.values)} settings for {len(gpu.settings)} names")
        said, wrong = plain(dict(zip(gpu.settings, line.values, strict=True)), "values")
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
                gpu.changes.append(Change(name=name, at=line.mono, before=before, after=value))

    def _processes(self, line: form.Processes) -> None:
        gpu = self._of(line)
        for process in line.processes:
            if process.ours is not True:
                self._told(gpu.foreign)
                gpu.foreign.add(process.name or f"pid {process.pid}")

    def _error(self, line: form.Failed) -> None:
        errors = self._mentioned(line).errors
        self._told(errors)
        errors[line.name] = line.error

    def _told(self, kept: Sized) -> None:
        """What a GPU or call did may be told so often and no more."""
        if len(kept) >= MOST_TOLD:
            raise Unreadable(f"more than {MOST_TOLD} of one kind")

    def _lost(self, line: form.Failed) -> None:
        lost = self._mentioned(line).lost
        self._told(lost)
        lost.append((line.mono, f"{line.error} from {line.call}"))

    def _died(self, line: form.Failed) -> None:
        died = self._mentioned(line).died
        self._told(died)
        died.append((line.mono, f"the sampler's process that asked it died ({str(line.status)[:20]})"))

    def _hang(self, line: form.Late) -> None:
        self._told(self._hung)
        self._out[line.gpu, line.call] = len(self._hung)
        self._hung.append(HungCall(at=line.mono, call=line.call, seconds=line.seconds, gpu=line.gpu))

    def _returned(self, line: form.Late) -> None:
        place = self._out.pop((line.gpu, line.call), None)
        if place is None:
            raise Unreadable(f"GPU {line.gpu}: a call came back that had not been late")
        self._hung[place] = replace(self._hung[place], returned=line.mono, seconds=line.seconds)

    def _kmsg(self, line: form.KernelRecord) -> None:
        if len(self._kernel) >= MOST_LINES:
            self._facts["kernel_dropped"] = self._facts.get("kernel_dropped", 0) + 1
            raise Unreadable(f"more than {MOST_LINES} lines of the kernel's log")
        self._kernel.append(KernelLine(at=line.t, facility=line.facility, text=line.text))

    def _kmsg_start(self, line: form.KernelFrom) -> None:
        if line.error:
            self._facts |= {"kernel_error": line.error, "kernel_until": line.mono}
        else:
            self._facts["kernel_from"] = line.mono

    def _kmsg_dropped(self, line: form.KernelDropped) -> None:
        self._facts["kernel_dropped"] = self._facts.get("kernel_dropped", 0) + line.lines

    def _usage(self, line: form.Usage) -> None:
        self._facts["cpu_seconds"] = line.cpu_seconds

    def _end(self, line: form.End) -> None:
        if "ended" in self._facts:
            raise Unreadable("a second end")
        self._facts |= {"ended": line.mono, "end_reason": line.reason, "cpu_seconds": line.cpu_seconds}
