"""One question to a host is one POSIX sh script and one round trip; the answer is rows that end in `end`."""

from __future__ import annotations

from importlib import resources

from harness.errors import ParseError
from harness.ports import CommandResult, Transport
from harness.reading import reader


def ask(
    transport: Transport, script: str, arguments: tuple[str, ...], *, deadline: float = 60.0, label: str = ""
) -> tuple[tuple[str, ...], ...]:
    """Run ``harness/stages/host/<script>.sh`` on the host and return its rows, split at tabs.

    Raises TransportError when the host cannot be asked and ParseError when the answer is incomplete: half
    an answer never counts as "nothing there".
    """
    text = resources.files("harness.stages.host").joinpath(f"{script}.sh").read_bytes()
    result = transport.run(
        ("sh", "-s", "--", *arguments), stdin=text, deadline=deadline, label=label or script
    )
    return rows(result, what=script, host=transport.name)


@reader("the host's answer")
def rows(result: CommandResult, *, what: str, host: str = "") -> tuple[tuple[str, ...], ...]:
    """The rows of a finished script. Raises ParseError without the closing ``end`` row."""
    lines = result.text.split("\n")
    if result.status != 0 or lines[-2:] != ["end", ""]:
        said = result.complaint[-400:]
        raise ParseError(
            f"the answer of {what}.sh is incomplete (exit status {result.status}): {said or 'no message'}",
            host=host,
            transcript=result.transcript,
            remedy="run again; if it persists, read the host's answer in the command log",
        )
    return tuple(tuple(line.split("\t")) for line in lines[:-2] if line)
