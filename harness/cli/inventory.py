"""``shakedown inventory``: its commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.status import Json, WholeSummaries, ends

app = typer.Typer(
    cls=WholeSummaries,
    help="List and check hosts, profiles, labs, waivers, kernel codes and GPU models.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
@ends
def inventory_list(
    kind: Annotated[
        str,
        typer.Argument(help="hosts, profiles, labs, waivers, skus, kernel or standins (default: all)."),
    ] = "",
    json_output: Json = False,
) -> int:
    """List the inventory by kind: each name with its file.

    \b
    Examples:
      shakedown inventory list
      shakedown inventory list profiles --json
    """

    from harness.commands import inventory as command  # noqa: PLC0415

    return command.show(kind, as_json=json_output)


@app.command("check")
@ends
def inventory_check(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Files to check (default: every file of the inventory).")
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            help="hosts, profiles, labs, waivers, skus, kernel, standins, if the file's folder does not "
            "show it.",
        ),
    ] = "",
) -> int:
    """Report everything in inventory files that a run would refuse, with file and line (exit 2).

    \b
    Examples:
      shakedown inventory check
      shakedown inventory check inventory/hosts/example.yaml
      shakedown inventory check rack12.yaml --kind hosts
    """

    from harness.commands import inventory_check as command  # noqa: PLC0415

    return command.check(tuple(files or ()), kind=kind)


@app.command("skus")
@ends
def inventory_skus(
    name: Annotated[
        str,
        typer.Argument(help="A GPU model, or the beginning of its name (h200); default: one line for each."),
    ] = "",
    json_output: Json = False,
) -> int:
    """Show what is known of a GPU model: each number with its source, and which are unknown.

    \b
    Examples:
      shakedown inventory skus
      shakedown inventory skus h200-sxm --json
    """

    from harness.commands import skus as command  # noqa: PLC0415

    return command.show(name, as_json=json_output)
