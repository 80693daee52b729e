"""The machine Shakedown runs on, as a candidate host (``--host local``)."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from harness.backends.held import HeldCommand
from harness.backends.process import Finished, Recorder, Surroundings, deliver, require_owner, run_child
from harness.backends.stream import Streamed
from harness.errors import TransportError
from harness.ports import CommandResult


class LocalTransport:
    """``harness.ports.Transport`` without a connection: argv lists, never a shell of ours.

    Commands get environment and umask as they were when it was made, and ``/`` as their directory.
    """

    def __init__(self, name: str = "local", *, recorder: Recorder | None = None) -> None:
        self._name = name
        self._recorder = recorder
        self._pid = os.getpid()
        self._surroundings = Surroundings.now()

    @property
    def name(self) -> str:
        """The machine, for messages."""
        return self._name

    def run(
        self, argv: tuple[str, ...], *, stdin: bytes = b"", deadline: float = 60.0, label: str = ""
    ) -> CommandResult:
        """Run ``argv``; raises CommandTimeout or TransportError as the port says.

        A program that does not exist is exit status 127, as a shell on a remote host would say it.
        """
        if not argv:
            raise TransportError("no command given", host=self._name)
        self._require_owner()
        if shutil.which(argv[0], path=self._surroundings.environment.get("PATH", os.defpath)) is None:
            words = f"{argv[0]}: not found\n".encode("utf-8", "surrogateescape")
            finished = Finished(status=127, stdout=b"", stderr=words, seconds=0.0)
        else:
            finished = run_child(argv, stdin=stdin, deadline=deadline, surroundings=self._surroundings)
        return deliver(
            finished,
            argv,
            where=self._name,
            deadline=deadline,
            stdin_len=len(stdin),
            label=label,
            recorder=self._recorder,
        )

    def put(self, source: Path, target: str, *, deadline: float = 600.0) -> None:
        """Copy to ``target`` by way of a temporary name beside it. ``deadline`` is not needed here."""
        _ = deadline
        self._require_owner()
        part: str | None = None
        try:
            place = Path(target)
            with (
                source.open("rb") as reader,
                tempfile.NamedTemporaryFile(
                    dir=place.parent, prefix=f".{place.name}.", delete=False
                ) as writer,
            ):
                part = writer.name
                shutil.copyfileobj(reader, writer, 1 << 20)
                writer.flush()
                os.fsync(writer.fileno())
            Path(part).chmod(0o644)
            Path(part).replace(place)
        except OSError as error:
            if part is not None:
                Path(part).unlink(missing_ok=True)
            raise TransportError(
                f"{source} could not be copied to {target}: {error.strerror or error}",
                host=self._name,
                remedy="check that the directory exists, is writable and has free space",
            ) from error

    def hold(self, argv: tuple[str, ...]) -> HeldCommand:
        """Start a command that lives until its handle is closed or this process dies."""
        self._require_owner()
        return HeldCommand(argv, where=self._name, surroundings=self._surroundings)

    def stream(self, argv: tuple[str, ...], path: Path) -> Streamed:
        """Start a command whose output is appended to a file, held as by ``hold``."""
        self._require_owner()
        return Streamed(argv, path, where=self._name, surroundings=self._surroundings)

    def close(self) -> None:
        """Nothing is kept open."""

    def _require_owner(self) -> None:
        require_owner(self._pid, self._name)
