"""A machine in memory: a flat file tree, the few commands the contract needs, and scripted answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.backends.process import Recorder
from harness.errors import CommandTimeout, TransportError
from harness.ports import CommandResult

Answer = Callable[[tuple[str, ...], bytes], tuple[int, bytes, bytes]]
"""argv and standard input to exit status, standard output and standard error."""


class FakeHost:
    """What the transport talks to. Shared by transports, as a real host is."""

    def __init__(self, name: str = "fake") -> None:
        self.name = name
        self.files: dict[str, bytes] = {}
        self.directories = {"/", "/tmp"}  # noqa: S108  names in a dictionary
        self.down = ""
        """Why it cannot be reached; empty while it can."""
        self.calls: list[tuple[tuple[str, ...], str]] = []
        """Every command with its label."""
        self._scripted: list[tuple[str, Answer]] = []

    def on(self, what: str, answer: Answer | bytes | str, *, status: int = 0, stderr: bytes = b"") -> None:
        """Answer commands whose label or program is ``what``; the latest rule for it counts."""
        if callable(answer):
            self._scripted.insert(0, (what, answer))
            return
        data = answer.encode() if isinstance(answer, str) else answer
        self._scripted.insert(0, (what, lambda _argv, _stdin: (status, data, stderr)))

    def execute(self, argv: tuple[str, ...], stdin: bytes, label: str) -> tuple[int, bytes, bytes]:
        for what, answer in self._scripted:
            if what in (label, argv[0]):
                return answer(argv, stdin)
        builtin = _COMMANDS.get(argv[0])
        if builtin is None:
            return 127, b"", f"{argv[0]}: not found\n".encode()
        return builtin(self, argv, stdin)


def _printf(_host: FakeHost, argv: tuple[str, ...], _stdin: bytes) -> tuple[int, bytes, bytes]:
    assert argv[1].replace("%s", "").strip("|") == "", "only %s and | in this printf"
    return 0, "".join(argv[1].replace("%s", word) for word in argv[2:]).encode(), b""


def _cat(host: FakeHost, argv: tuple[str, ...], stdin: bytes) -> tuple[int, bytes, bytes]:
    if len(argv) == 1:
        return 0, stdin, b""
    data = host.files.get(argv[1])
    return (
        (1, b"", f"cat: {argv[1]}: No such file or directory\n".encode()) if data is None else (0, data, b"")
    )


def _sh(_host: FakeHost, argv: tuple[str, ...], _stdin: bytes) -> tuple[int, bytes, bytes]:
    if argv[:2] == ("sh", "-c") and argv[2].startswith("exit "):
        return int(argv[2].removeprefix("exit ")), b"", b""
    if argv == ("sh", "-c", "kill -9 $$"):
        return 137, b"", b""
    raise AssertionError(f"nothing scripted for {argv!r}")


_COMMANDS: dict[str, Callable[[FakeHost, tuple[str, ...], bytes], tuple[int, bytes, bytes]]] = {
    "true": lambda _host, _argv, _stdin: (0, b"", b""),
    "false": lambda _host, _argv, _stdin: (1, b"", b""),
    "printf": _printf,
    "cat": _cat,
    "sh": _sh,
}


class FakeHeld:
    """A held command: the lines it prints, and how often we showed that we live."""

    def __init__(self, lines: tuple[str, ...] = ()) -> None:
        self._lines = list(lines)
        self.alive = True
        self.beats = 0

    def read_line(self, deadline: float) -> str:
        return self._lines.pop(0) if self._lines else ""

    def beat(self) -> bool:
        self.beats += self.alive
        return self.alive

    def errors(self) -> str:
        return ""

    def close(self) -> None:
        self.alive = False


class FakeStreamed:
    """A command that streams into a file; a test may add to the file as the command would."""

    def __init__(self, path: Path, status: int, words: str) -> None:
        self.path = path
        self.alive = True
        self._status = status
        self._words = words

    @property
    def status(self) -> int | None:
        return None if self.alive else self._status

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    @property
    def full(self) -> bool:
        return False

    def errors(self) -> str:
        return self._words

    def end(self) -> None:
        self.alive = False

    def close(self, deadline: float = 10.0) -> None:
        self.alive = False


class FakeTransport:
    """``harness.ports.Transport`` to a FakeHost."""

    def __init__(self, host: FakeHost | None = None, *, recorder: Recorder | None = None) -> None:
        self.host = host or FakeHost()
        self._recorder = recorder
        self.held: list[FakeHeld] = []
        self.streamed: list[FakeStreamed] = []
        self.closed = 0

    @property
    def name(self) -> str:
        return self.host.name

    def run(
        self, argv: tuple[str, ...], *, stdin: bytes = b"", deadline: float = 60.0, label: str = ""
    ) -> CommandResult:
        self._require_up()
        if not argv:
            raise TransportError("no command given", host=self.name)
        self.host.calls.append((argv, label))
        late = argv[0] == "sleep" and float(argv[1]) > deadline
        status, out, err = (137, b"", b"") if late else self._executed(argv, stdin, label)
        result = CommandResult(argv=argv, status=status, stdout=out, stderr=err, seconds=0.0)
        saved = ""
        if self._recorder is not None:
            saved = self._recorder.save(label or argv[0], argv, len(stdin), result)
        if late:
            raise CommandTimeout(f"{' '.join(argv)} did not end", host=self.name, transcript=saved)
        return CommandResult(argv=argv, status=status, stdout=out, stderr=err, seconds=0.0, transcript=saved)

    def _executed(self, argv: tuple[str, ...], stdin: bytes, label: str) -> tuple[int, bytes, bytes]:
        return (0, b"", b"") if argv[0] == "sleep" else self.host.execute(argv, stdin, label)

    def put(self, source: Path, target: str, *, deadline: float = 600.0) -> None:
        self._require_up()
        if not source.is_file() or str(Path(target).parent) not in self.host.directories:
            raise TransportError(f"{source} could not be copied to {target}", host=self.name)
        self.host.files[target] = source.read_bytes()

    def hold(self, argv: tuple[str, ...]) -> FakeHeld:
        self._require_up()
        self.host.calls.append((argv, "hold"))
        first, nonce = argv[3], argv[4]  # sh -c TEXT NAME NONCE ...
        self.held.append(FakeHeld((f"shakedown 1 {first} {nonce}", f"{nonce} holding")))
        return self.held[-1]

    def stream(self, argv: tuple[str, ...], path: Path) -> FakeStreamed:
        """What the host answers is in the file at once; the command lives until it is closed."""
        self._require_up()
        self.host.calls.append((argv, "stream"))
        status, out, err = self._executed(argv, b"", "stream")
        with path.open("ab") as output:
            output.write(out)
        self.streamed.append(FakeStreamed(path, status, err.decode().strip()))
        return self.streamed[-1]

    def close(self) -> None:
        self.closed += 1

    def _require_up(self) -> None:
        if self.host.down:
            raise TransportError(self.host.down, host=self.name)
