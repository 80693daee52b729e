"""The QEMU Machine Protocol over a unix socket: one request, one answer.

Written here: the synchronous shim of ``qemu.qmp`` 0.0.6 sets an event loop, with descriptors of its own, in a
process that may be shared with tests of other people.
"""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.errors import LabError
from harness.polling import wait_for
from harness.serial import strict_json

_LONGEST_ANSWER = 16 * 1024 * 1024


class Qmp:
    """One connection to a machine's monitor. Every call raises LabError when the machine does not answer."""

    def __init__(self, path: Path, *, timeout: float = 30.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
            self._stream = self._socket.makefile("rb")
            self._read()
            self.execute("qmp_capabilities")
        except (OSError, LabError) as error:
            self._socket.close()
            raise LabError(f"the monitor {path} does not answer: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect; the machine goes on."""
        self._stream.close()
        self._socket.close()

    def execute(self, command: str, **arguments: Any) -> Any:
        """The answer to one command; LabError holds QEMU's words when it refuses."""
        request = {"execute": command, "arguments": arguments} if arguments else {"execute": command}
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            while True:
                answer = self._read()
                if "return" in answer:
                    return answer["return"]
                if "error" in answer:
                    raise LabError(f"QEMU refused {command}: {answer['error'].get('desc', answer['error'])}")
        except OSError as error:
            raise LabError(f"QEMU did not answer {command}: {error}") from error

    def human(self, line: str) -> str:
        """The text that the human monitor prints for ``line``."""
        return str(self.execute("human-monitor-command", **{"command-line": line}))

    def port_in(self, port: int, size: str) -> int:
        """Read an x86 I/O port; ``size`` is ``b``, ``h`` or ``w`` (8, 16, 32 bits)."""
        said = self.human(f"i /{size}x 0x{port:x}")
        match = re.search(r"=\s*0x([0-9a-fA-F]+)", said)
        if match is None:
            raise LabError(f"QEMU did not read port 0x{port:x}: {said.strip()}")
        return int(match[1], 16)

    def port_out(self, port: int, value: int, size: str) -> None:
        """Write an x86 I/O port."""
        said = self.human(f"o /{size} 0x{port:x} 0x{value:x}")
        if said.strip():
            raise LabError(f"QEMU did not write port 0x{port:x}: {said.strip()}")

    def wait_migration(self, *, deadline: float) -> None:
        """Wait until saving or loading the state is done; LabError when it fails or takes too long."""

        def over() -> bool | None:
            answer = self.execute("query-migrate")
            if answer.get("status") in {"failed", "cancelled"}:
                raise LabError(f"QEMU could not move the machine's state: {answer.get('error-desc', answer)}")
            return True if answer.get("status") == "completed" else None

        if wait_for(over, seconds=deadline, every=0.02) is None:
            raise LabError(f"moving the machine's state took more than {deadline:.0f} s")

    def _read(self) -> dict[str, Any]:
        line = self._stream.readline(_LONGEST_ANSWER)
        if not line:
            raise LabError("the monitor closed the connection")
        try:
            answer = strict_json(line)
        except ValueError as error:
            raise LabError("the monitor sent something that is not JSON") from error
        if not isinstance(answer, dict):
            raise LabError("the monitor sent something that is not an object")
        return answer
