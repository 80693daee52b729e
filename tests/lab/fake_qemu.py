#!/usr/bin/env python3
"""Stands in for qemu-system-x86_64: a monitor that speaks QMP, PCI configuration in memory, no machine.

Behaviour by environment: FAKE_QEMU=refuse prints and fails; =deaf ignores ``quit`` and SIGTERM. FAKE_EMPTY=1
starts with the stand-in's registers cleared, as a restored machine does. The commands ``fake-exit`` and
``fake-signal`` end it by the status or signal ``number``, with a word before.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from typing import Any

REGISTERS = {0x04: 0x0103, 0x10: 0xFDA00000}
DEVICE = 0x80410000


class Machine:
    def __init__(self) -> None:
        self.address = 0x80001234
        empty = os.environ.get("FAKE_EMPTY")
        self.registers = {} if empty else dict(REGISTERS)
        self.received: list[str] = []

    def port(self, line: str) -> str:
        verb, size, port, *value = line.split()
        number = int(port, 16)
        if verb == "i":
            got = self.address if number == 0xCF8 else self.read()
            return f"portl[0x{number:04x}] = 0x{got & (0xFFFF if size == '/hx' else 0xFFFFFFFF):x}\r\n"
        if number == 0xCF8:
            self.address = int(value[0], 16)
        elif self.address & ~0xFF == DEVICE:
            self.registers[self.address & 0xFF] = int(value[0], 16)
        return ""

    def read(self) -> int:
        return self.registers.get(self.address & 0xFF, 0) if self.address & ~0xFF == DEVICE else 0

    def answer(self, command: str, arguments: dict[str, Any]) -> Any:
        if command == "human-monitor-command":
            return self.port(arguments["command-line"])
        if command == "query-pci":
            endpoint = {"bus": 0x41, "slot": 0, "function": 0}
            bridge = {"bus": 0x40, "slot": 0, "function": 0, "pci_bridge": {"devices": [endpoint]}}
            return [{"bus": 0x40, "devices": [bridge]}]
        if command == "query-migrate":
            return {"status": "completed"}
        if command == "fake-report":
            return {
                "registers": {str(key): value for key, value in self.registers.items()},
                "address": self.address,
                "received": self.received,
            }
        return {}


def main() -> None:
    mode = os.environ.get("FAKE_QEMU", "")
    if mode == "refuse":
        sys.exit("fake-qemu: could not set up host forwarding rule")
    if mode == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    argument = sys.argv[sys.argv.index("-qmp") + 1]
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(argument.removeprefix("unix:").split(",")[0])
    server.listen(5)
    machine = Machine()
    while True:
        connection, _ = server.accept()
        stream = connection.makefile("rwb", buffering=0)
        try:
            stream.write(b'{"QMP": {"version": {}}}\n')
            for line in stream:
                request = json.loads(line)
                machine.received.append(request["execute"])
                if request["execute"] == "quit" and mode != "deaf":
                    stream.write(b'{"return": {}}\n')
                    os._exit(0)
                if request["execute"] in ("fake-exit", "fake-signal"):
                    print(request["arguments"]["say"], flush=True)
                    number = request["arguments"]["number"]
                    if request["execute"] == "fake-exit":
                        os._exit(number)
                    os.kill(os.getpid(), number)
                if request["execute"] == "nonsense":
                    stream.write(b'{"error": {"class": "CommandNotFound", "desc": "no such command"}}\n')
                    continue
                stream.write(b'{"event": "NOISE", "data": {}}\n')
                result = machine.answer(request["execute"], request.get("arguments", {}))
                stream.write(json.dumps({"return": result}).encode() + b"\n")
        except OSError:
            pass
        finally:
            stream.close()
            connection.close()


if __name__ == "__main__":
    main()
