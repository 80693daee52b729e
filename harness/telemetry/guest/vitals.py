"""What ``harness/stages/guest/pulse.sh`` prints of guests, as values: who lives, and what was last heard."""

from __future__ import annotations

import base64
import binascii
import re
from collections import deque
from dataclasses import dataclass, field

from harness.scripts.protocol import GrowingAnswer
from harness.telemetry.guest.autopsy import beginnings

_NUMBER = r"\d{1,18}"
_LINE = re.compile(
    rf"uptime (?P<uptime>{_NUMBER}\.\d{{1,9}})"
    rf"|(?P<what>pid|gone|cpu) (?P<guest>\d{{1,4}}) (?P<number>{_NUMBER})"
    r"|state (?P<of>\d{1,4})(?P<state>(?: [a-z-]{1,40}(?: [a-z-]{1,40}){0,4})?)"
    rf"|console (?P<whose>\d{{1,4}}) (?P<size>{_NUMBER}) (?P<text>[A-Za-z0-9+/=]{{0,8192}})"
)
PULSE = "pulse"
"""Name of the script whose marks these are."""

MOST_CONSOLE = 16384
"""Characters of a serial console that are kept: a panic with its trace is some 5,000."""
_CPU_KEPT = 40
"""Looks at a QEMU's processor time that are kept."""


@dataclass(slots=True)
class Vitals:
    """One guest as it was last seen. Only the reader changes it."""

    pid: int | None = None
    """Of its QEMU; None before that was seen."""
    gone: bool = False
    """Its QEMU was seen, and is not there any more."""
    state: str = ""
    """libvirt's word for its state and the reason; empty while libvirt does not have it as running."""
    console: str = ""
    """The end of its serial console."""
    begun: int = 0
    """Kernels that began on its console, as far as that came over."""
    cpu: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_CPU_KEPT))
    """When (the host's uptime) its QEMU had used how many ticks of processor time."""

    def busy(self, seconds: float) -> float | None:
        """Ticks a second that its QEMU used over the last ``seconds`` or more; None where nobody looked."""
        if not self.cpu:
            return None
        at, ticks = self.cpu[-1]
        then, before = next(((t, n) for t, n in reversed(self.cpu) if at - t >= seconds), (at, ticks))
        return None if at <= then else (ticks - before) / (at - then)


class VitalsReader:
    """Takes the script's lines as they come. Whatever a host prints, it raises nothing and stays small."""

    def __init__(self, guests: int, nonce: str) -> None:
        """``nonce`` is the one that the script was given."""
        self._answer = GrowingAnswer(PULSE, nonce)
        self.guests = tuple(Vitals() for _ in range(guests))
        self.uptime: float | None = None
        """Of the host, at the last look."""
        self.strange = 0
        """Lines that are none of the script's."""

    def take(self, line: str) -> None:
        """One line without its end."""
        mark = self._answer.take(line)
        if mark == "" or not line:
            return
        match = None if mark is None else _LINE.fullmatch(mark)
        number = None if match is None else match["guest"] or match["of"] or match["whose"]
        if match is None or (number is not None and int(number) >= len(self.guests)):
            self.strange += 1
            return
        if number is None:
            self.uptime = float(match["uptime"])
            return
        self._of_guest(self.guests[int(number)], match)

    def _of_guest(self, guest: Vitals, match: re.Match[str]) -> None:
        if match["what"] == "pid":
            guest.pid, guest.gone = int(match["number"]), False
        elif match["what"] == "gone":
            guest.gone = guest.pid == int(match["number"])
        elif match["what"] == "cpu":
            guest.cpu.append((self.uptime or 0.0, int(match["number"])))
        elif match["of"]:
            guest.state = match["state"].strip() or guest.state
        else:
            try:
                said = base64.b64decode(match["text"], validate=True)
            except (binascii.Error, ValueError):
                self.strange += 1
                return
            text = said.decode("utf-8", "backslashreplace")
            guest.begun += beginnings(text)
            guest.console = (guest.console + text)[-MOST_CONSOLE:]
