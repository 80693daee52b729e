"""How commands end: errors of ours in words, and the exit statuses that scripts rely on.

0 GO or done, 1 NO_GO or no plan, 2 wrong usage or invalid input, 3 INCONCLUSIVE, 4 the harness itself failed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Annotated

import typer

from harness.cleanups import notes, told
from harness.errors import ClaimError, ConfigError, HarnessError, ParseError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


def words(error: HarnessError | OSError) -> str:
    """The error for a terminal, and behind it what failed after it: what hosts and files say in it is shown,
    never sent as it is."""
    from reports.parts.text import clean  # noqa: PLC0415  only failures need it

    return "\n".join(clean(line) for line in told(error).split("\n")[:40])


def end(action: Callable[[], int]) -> None:
    """Run a command and leave with its status; errors of ours are told in words, without a traceback.

    SIGTERM and SIGHUP end a command as Ctrl-C does: what it made is undone first.
    """
    from harness.signals import ending_as_interrupt  # noqa: PLC0415  `--help` needs none of it

    try:
        with ending_as_interrupt(_say):
            status = action()
    except (ConfigError, ParseError) as error:
        typer.echo(f"shakedown: {words(error)}", err=True)
        status = 2
    except ClaimError as error:
        typer.echo(f"shakedown: {words(error)}", err=True)
        status = 3
    except HarnessError as error:
        typer.echo(f"shakedown: {type(error).__name__}: {words(error)}", err=True)
        status = 4
    except BrokenPipeError:
        # The reader went away (`| head`): not worth a word.
        sys.stderr.close()
        status = 0
    except OSError as error:
        typer.echo(f"shakedown: {words(error)}", err=True)
        status = 4
    except KeyboardInterrupt as error:
        _say("\n".join(("interrupted", *notes(error))))
        status = 130
    raise typer.Exit(status)


def _say(text: str) -> None:
    from reports.parts.text import clean  # noqa: PLC0415  only failures need it

    for line in text.split("\n"):
        typer.echo(f"shakedown: {clean(line)}", err=True)


class Defects:
    """Gives an error of our own code exit status 4: Python's own 1 would read as NO_GO."""

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Print the traceback and leave with 4; exits and interrupts pass."""
        if isinstance(error, Exception):
            import traceback  # noqa: PLC0415

            traceback.print_exception(kind, error, trace)
            typer.echo(
                "shakedown: internal error, a defect of Shakedown: please report the lines above", err=True
            )
            raise SystemExit(4) from error
