"""Scripts on hosts and in guests: how one is made whole, started, and asked for its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources

from harness.errors import HarnessError, ParseError, TransportError
from harness.ports import CommandResult, Transport
from harness.scripts.protocol import Answer, GrowingAnswer, new_nonce, read_answer, require_nonce

_MOST_NOISE = 100
"""Lines that a login may print before a held script's first one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One question: a file of this package's tree that holds the body of a shell function ``answer``."""

    name: str
    """As the answer's first line has it."""
    package: str
    """In which ``file`` lies."""
    file: str
    needs: str
    """What the machine must have for it, for the remedy."""
    error: type[HarnessError] = TransportError
    """Raised when the script says itself that it failed."""

    def body(self) -> str:
        """The file's text."""
        return resources.files(self.package).joinpath(self.file).read_text(encoding="ascii")

    def text(self, body: str | None = None, *, own_input: bool = False) -> str:
        """The whole script, which takes a nonce and then its arguments.

        ``own_input``: it reads standard input itself; else that is empty, since the shell may read the script
        from there. ``body`` stands in the place of the file's text.
        """
        prelude = resources.files(__package__).joinpath("prelude.sh").read_text(encoding="ascii")
        inside = self.body() if body is None else body
        source = "" if own_input else " </dev/null"
        return f'{prelude}\nanswer() {{\n{inside}\n}}\nrun {self.name} "$@"{source}\n'

    def program(self) -> bytes:
        """The whole script as a file that is run by its path, with a nonce and arguments."""
        return self.text(own_input=True).encode("ascii")

    def held(self, nonce: str, *arguments: str, body: str | None = None) -> tuple[str, ...]:
        """Command line of a script that lives as long as its standard input is held."""
        text = self.text(body, own_input=True)
        return ("sh", "-c", text, self.name, require_nonce(nonce), *arguments)


def ask(
    transport: Transport, script: Script, *arguments: str, deadline: float = 60.0, label: str = ""
) -> tuple[Answer, CommandResult]:
    """One round trip: the script's whole answer, and the command that brought it.

    Raises TransportError when the machine cannot be asked or could not run the script, ParseError when the
    answer is not whole (half an answer never counts as "nothing there"), and ``script.error`` when the script
    says that it failed.
    """
    nonce = new_nonce()
    result = transport.run(
        ("sh", "-s", "--", nonce, *arguments),
        stdin=script.text().encode("ascii"),
        deadline=deadline,
        label=label or script.name,
    )
    where = {"host": transport.name, "transcript": result.transcript}
    try:
        answer = read_answer(result.stdout, script.name, nonce)
    except ParseError as error:
        if result.status == 0:
            raise ParseError(error.message, remedy=error.remedy, **where) from error
        words = result.complaint[-500:] or "no message"
        raise TransportError(
            f"the script {script.name} ended with status {result.status}: {words}",
            remedy=f"the machine needs {script.needs}",
            **where,
        ) from error
    if answer.status != 0:
        words = answer.failure[:500] or result.complaint[-500:] or "no message"
        raise script.error(
            f"{script.name} failed with status {answer.status}: {words}",
            remedy=f"the machine needs {script.needs}",
            **where,
        )
    return answer, result


def first_mark(script: Script, nonce: str, read_line: Callable[[], str]) -> str:
    """The first mark of a held script; empty when it ended before. Raises what ``read_line`` raises."""
    answer = GrowingAnswer(script.name, nonce)
    for _ in range(_MOST_NOISE):
        line = read_line()
        mark = answer.take(line)
        if mark or not line:
            return mark or ""
    return ""
