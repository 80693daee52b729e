"""``shakedown rules``: its command and its options."""

from __future__ import annotations

import typer

from harness.cli.status import Json, WholeSummaries, ends

app = typer.Typer(
    cls=WholeSummaries,
    help="The rules that judge runs: check that each of them works.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def _rules() -> None:
    """The rules that runs are judged by: whether each of them can do its work."""


@app.command("lint")
@ends
def rules_lint(json_output: Json = False) -> int:
    """List every rule of GPU models, profiles and kernel tables that has no effect or no source (exit 2).

    \b
    Examples:
      shakedown rules lint
      shakedown rules lint --json
    """

    from harness.commands import rules as command  # noqa: PLC0415

    return command.lint(as_json=json_output)
