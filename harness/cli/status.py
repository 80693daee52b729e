"""How commands end: errors of ours in words, and the exit statuses that scripts rely on.

0 GO or done, 1 NO_GO or no plan, 2 wrong usage or invalid input, 3 INCONCLUSIVE, 4 the harness itself failed.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer
from typer.core import TyperGroup

from harness.cleanups import notes, told
from harness.errors import ClaimError, ConfigError, HarnessError, ParseError
from harness.shown import hand_out, warn

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

P = ParamSpec("P")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


def whole_number(given: str | int) -> int:
    """A whole number of the command line. Raises BadParameter in plain words, not in those of a library."""
    text = str(given)
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise typer.BadParameter(f"{text[:40]!r} is not a whole number")
    return int(text)


def number(flag: str, about: str) -> Any:
    """An option that takes a whole number."""
    return typer.Option(flag, parser=whole_number, metavar="<int>", help=about)


def count(given: str | int) -> int:
    """As ``whole_number``, from 0."""
    number = whole_number(given)
    if number < 0:
        raise typer.BadParameter(f"{number} is below 0")
    return number


class WholeSummaries(TyperGroup):
    """Commands whose list says of each the whole first sentence of its help: Typer cuts it to the line."""

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the list; a summary that is too long for one line goes on in the next."""
        for command in self.commands.values():
            first = " ".join((command.help or "").partition("\n\n")[0].split())
            sentence, stop, _ = first.partition(". ")
            command.short_help = sentence + stop.strip()
        super().format_commands(ctx, formatter)


def words(error: HarnessError | OSError) -> list[str]:
    """The error for a terminal, line by line, and behind it what failed after it."""
    return told(error).split("\n")[:40]


def _complain(error: HarnessError | OSError) -> None:
    first, *rest = words(error)
    warn(f"shakedown: {first}", *rest)


def ends(command: Callable[P, int]) -> Callable[P, None]:
    """Decorator of a command: it leaves with the status that it returns; errors of ours are told in words,
    without a traceback.

    SIGTERM and SIGHUP end a command as Ctrl-C does: what it made is undone first.
    """

    @functools.wraps(command)
    def ended(*args: P.args, **kwargs: P.kwargs) -> None:
        from harness.signals import ending_as_interrupt  # noqa: PLC0415  `--help` needs none of it

        try:
            with ending_as_interrupt(lambda text: warn(f"shakedown: {text}")):
                status = command(*args, **kwargs)
        except (ConfigError, ParseError) as error:
            _complain(error)
            status = 2
        except ClaimError as error:
            _complain(error)
            status = 3
        except HarnessError as error:
            _complain(error)
            status = 4
        except BrokenPipeError:
            # The reader went away (`| head`): not worth a word.
            sys.stderr.close()
            status = 0
        except OSError as error:
            _complain(error)
            status = 4
        except KeyboardInterrupt as error:
            warn("shakedown: interrupted", *notes(error))
            status = 130
        raise typer.Exit(status)

    return ended


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

            hand_out("".join(traceback.format_exception(kind, error, trace)), to=sys.stderr)
            warn("shakedown: internal error, a bug in Shakedown: please report the lines above")
            raise SystemExit(4) from error
