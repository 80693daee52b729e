"""SSH to a candidate host or guest: the OpenSSH client as a child, all commands over one connection.

One master connection (ControlMaster) is opened when it is first needed and shared by every command, by
libvirt and by the jumps into guests. It ends with ``close``, or by itself after ``_PERSIST`` seconds
without use if this process was killed. The host key is always checked: against the pinned ``known_hosts``
when the access names one, else against the user's own. All options are those of ``ssh_options``.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from harness.backends.held import HeldCommand
from harness.backends.process import (
    Finished,
    Recorder,
    Surroundings,
    deliver,
    require_owner,
    run_child,
    whole_copy,
)
from harness.backends.ssh_errors import explain
from harness.backends.ssh_options import quoted, require_usable, settled, ssh_argv
from harness.backends.stream import Streamed
from harness.descriptors import memory_file, written
from harness.errors import TransportError
from harness.model.inventory import SshAccess
from harness.ports import CommandResult, Life

_PERSIST = 120
"""Seconds that an idle master outlives its last user: longer than a pause between two stages."""

_LOST = 255
"""ssh's own exit status for everything that is not the remote command's."""

_PUT = """
set -e
part="$1.part.$$"
trap 'rm -f -- "$part"' EXIT
cat > "$part"
have=$(wc -c < "$part")
if [ "$have" -ne "$2" ]; then
    echo "$1: $have of $2 bytes arrived" >&2
    exit 74
fi
mv -f -- "$part" "$1"
"""
# The size is compared because a broken connection looks like a normal end-of-file to `cat`.


class SshTransport:
    """``harness.ports.Transport`` over SSH. Thread-safe: commands share the connection."""

    def __init__(
        self,
        access: SshAccess,
        *,
        name: str = "",
        through: SshTransport | None = None,
        recorder: Recorder | None = None,
        life: Life | None = None,
    ) -> None:
        """Opens nothing yet. ``through`` is the host whose connection leads to this machine (a guest), and
        ``life`` who knows whether that lives: whatever waits for its answer here ends when it does.

        Raises ConfigError for an access that ssh could misread (``harness.model.access``).
        """
        require_usable(access)
        # Settled now: neither HOME nor the working directory changes a path any more.
        self.access = replace(
            access,
            known_hosts=settled(access.known_hosts),
            identity_file=settled(access.identity_file),
            config=settled(access.config),
        )
        self._name = name or access.address
        self._through = through
        self._recorder = recorder
        self._life = life
        self._lock = threading.Lock()
        self._directory: Path | None = None
        self._pid = os.getpid()
        # A guest is connected to when tests have run already, by what its host is reached with.
        self._surroundings: Surroundings = (
            Surroundings.now(LC_ALL="C") if through is None else through._surroundings
        )

    @property
    def name(self) -> str:
        """The machine, for messages."""
        return self._name

    @property
    def search_path(self) -> str:
        """Where programs are looked for, as it was when this was made."""
        return self._surroundings.environment.get("PATH", os.defpath)

    def run(
        self, argv: tuple[str, ...], *, stdin: bytes = b"", deadline: float = 60.0, label: str = ""
    ) -> CommandResult:
        """Run ``argv`` there; every argument arrives as it is, whatever it holds.

        After a timeout the command may still run on the host: only our own child is killed. Raises
        TransportError with ssh's words and a remedy, or CommandTimeout.
        """
        if not argv:
            raise TransportError("no command given", host=self._name)
        with self._living():
            directory = self.connect()
            finished = run_child(
                (*self._ssh(directory), "--", self.access.address, remote_line(argv)),
                stdin=stdin,
                deadline=deadline,
                surroundings=self._surroundings,
                require=self._require,
            )
            result = deliver(
                finished,
                argv,
                where=self._name,
                deadline=deadline,
                stdin_len=len(stdin),
                label=label,
                recorder=self._recorder,
            )
            self._raise_if_lost(result)
        return result

    def _require(self) -> None:
        if self._life is not None:
            self._life.require()

    @contextlib.contextmanager
    def _living(self) -> Iterator[None]:
        """A command that the machine should answer: what kept it from that is told, where it is known."""
        try:
            yield
        except TransportError as error:
            found = error if self._life is None else self._life.explained(error)
            if found is error:
                raise
            raise found from error

    def put(self, source: Path, target: str, *, deadline: float = 600.0) -> None:
        """Copy a local file; it appears at ``target`` whole or not at all (size checked, then renamed)."""
        with self._living():
            directory = self.connect()
            argv = ("sh", "-c", _PUT, "sh", target, str(source.stat().st_size if source.is_file() else -1))
            with whole_copy(source) as stream:
                finished = run_child(
                    (*self._ssh(directory), "--", self.access.address, remote_line(argv)),
                    stdin=stream,
                    deadline=deadline,
                    surroundings=self._surroundings,
                    require=self._require,
                )
            shown = ("put", str(source), target)
            result = deliver(
                finished, shown, where=self._name, deadline=deadline, label="put", recorder=self._recorder
            )
            self._raise_if_lost(result)
        if result.status != 0:
            raise TransportError(
                f"{source} could not be copied to {target}: {_words(result.stderr)}",
                host=self._name,
                transcript=result.transcript,
                remedy="check that the directory exists, is writable and has free space",
            )

    def hold(self, argv: tuple[str, ...]) -> HeldCommand:
        """Start a command there that lives until its handle is closed, this process dies or the
        connection breaks."""
        directory = self.connect()
        line = (*self._ssh(directory), "--", self.access.address, remote_line(argv))
        return HeldCommand(line, where=self._name, surroundings=self._surroundings)

    def stream(self, argv: tuple[str, ...], path: Path) -> Streamed:
        """Start a command there whose output is appended to a local file, held as by ``hold``."""
        directory = self.connect()
        line = (*self._ssh(directory), "--", self.access.address, remote_line(argv))
        return Streamed(line, path, where=self._name, surroundings=self._surroundings)

    def connect(self) -> Path:
        """Open the master connection unless it is up; returns the directory of its socket (mode 0700)."""
        require_owner(self._pid, self._name)
        self._require()
        with self._lock:
            if self._directory is None or not self._directory.exists():
                self._directory = self._private_directory()
            if not (self._directory / "m").exists():
                self._open_master(self._directory)
            return self._directory

    def client(self) -> tuple[str, ...]:
        """``ssh`` and the options that make another ssh client share this connection; no destination."""
        return self._ssh(self.connect())

    def close(self) -> None:
        """End the connection and remove its directory; safe to call twice. A fork leaves both alone."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            directory, self._directory = self._directory, None
        if directory is None:
            return
        if (directory / "m").exists():
            with contextlib.suppress(TransportError):
                run_child(
                    (*self._ssh(directory), "-O", "exit", "--", self.access.address),
                    deadline=10.0,
                    surroundings=self._surroundings,
                )
        shutil.rmtree(directory, ignore_errors=True)

    def _private_directory(self) -> Path:
        try:
            # A socket path may have 107 bytes, and ssh adds a 17-byte suffix while it binds.
            parent = _short_directory()
            remove_abandoned(Path(parent))
            made = Path(tempfile.mkdtemp(prefix=f"shk-{os.getpid()}-", dir=parent))
            made.chmod(0o700)  # whatever the umask is
        except OSError as error:
            raise TransportError(f"no directory for a connection: {error}", host=self._name) from error
        return made

    def _open_master(self, directory: Path) -> None:
        # `-f` returns once the connection stands. Its output goes to a file: clients before OpenSSH 8.5
        # keep standard error open in the background, and a pipe would never end.
        argv = (*self._ssh(directory, master=True), "-f", "-N", "--", self.access.address)
        limit = self.access.connect_timeout_seconds * 3 + 20  # connect, key exchange, authentication
        with memory_file("words") as output:
            finished = run_child(
                argv, deadline=limit, surroundings=self._surroundings, output=output, require=self._require
            )
            words = written(output)
        if finished.timed_out:
            words = f"timed out: no connection within {limit:g} s; {words}"
        if finished.status != 0 or finished.timed_out:
            raise self._unreachable(words, finished)

    def _unreachable(self, words: str, finished: Finished) -> TransportError:
        saved = ""
        if self._recorder is not None:
            result = CommandResult(
                argv=("ssh", f"{self.access.user}@{self.access.address}"),
                status=finished.status,
                stdout=b"",
                stderr=words.encode(),
                seconds=finished.seconds,
            )
            saved = self._recorder.save("connect", result.argv, 0, result)
        message, remedy = explain(words, self.access)
        return TransportError(message, host=self._name, transcript=saved, remedy=remedy)

    def _raise_if_lost(self, result: CommandResult) -> None:
        """255 is ssh's own status unless the master still answers: then the command itself said 255."""
        if result.status != _LOST or self._master_answers():
            return
        words = result.complaint
        message, remedy = explain(words or "Connection closed without a message", self.access)
        message = f"{message} (while running {shlex.join(result.argv)[:120]})"
        raise TransportError(message, host=self._name, transcript=result.transcript, remedy=remedy)

    def _master_answers(self) -> bool:
        directory = self._directory
        if directory is None or not (directory / "m").exists():
            return False
        check = (*self._ssh(directory), "-O", "check", "--", self.access.address)
        return run_child(check, deadline=10.0, surroundings=self._surroundings).status == 0

    def _ssh(self, directory: Path, *, master: bool = False) -> tuple[str, ...]:
        through = None
        if self._through is not None:
            through = (*self._through.client(), "-W", "[%h]:%p", "--", self._through.access.address)
        shared = (
            f"ControlMaster={'yes' if master else 'no'}",
            f"ControlPath={quoted(str(directory / 'm'))}",
            f"ControlPersist={_PERSIST}",
        )
        return ssh_argv(self.access, extra=shared, through=through)


def remote_line(argv: tuple[str, ...]) -> str:
    """``argv`` as one line for the login shell (POSIX) of the other side.

    ``exit $?`` keeps that shell alive, so that a command ended by signal n is reported as 128 + n: a shell
    that replaced itself with the command would make ssh say 255, as if the connection had failed.
    """
    return f"{shlex.join(argv)}; exit $?"


def _short_directory() -> str:
    """A directory for sockets whose path is short enough; ``/tmp`` when the usual one is deep."""
    usual = tempfile.gettempdir()
    return usual if len(usual) <= 60 else "/tmp"  # noqa: S108  mkdtemp makes a private one below it


def remove_abandoned(parent: Path) -> None:
    """Remove connection directories of this user whose process was killed and whose master has ended.

    A socket that is still there, or an age below the master's own, keeps a directory: its owner may live
    where we cannot see its process (another PID namespace).
    """
    for directory in parent.glob("shk-[0-9]*-*"):
        pid = directory.name.split("-")[1]
        with contextlib.suppress(OSError):
            state = directory.lstat()
            young = time.time() - state.st_mtime < 2 * _PERSIST
            alive = not pid.isdecimal() or Path(f"/proc/{pid}").exists()
            if state.st_uid == os.geteuid() and not (young or alive or (directory / "m").exists()):
                shutil.rmtree(directory, ignore_errors=True)


def _words(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace").strip()[-600:] or "(no message)"
