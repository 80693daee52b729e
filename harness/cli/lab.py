"""``shakedown lab``: its commands and their options."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.status import Json, WholeSummaries, count, ends

app = typer.Typer(
    cls=WholeSummaries,
    help="The emulated host: a complete passthrough host in QEMU; needs no GPU.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

LabName = Annotated[str, typer.Argument(help="A lab of inventory/labs, or the path of its file.")]
Instance = Annotated[
    int,
    typer.Option(
        "--instance",
        parser=count,
        metavar="<int>",
        help="Number of the instance, to run several labs of one description.",
    ),
]


@app.command("up")
@ends
def lab_up(
    name: LabName = "default",
    instance: Instance = 0,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Discard the snapshot and boot again first.")
    ] = False,
    json_output: Json = False,
) -> int:
    """Start a lab (built on first use) or find it running, and print how to reach it.

    \b
    Examples:
      shakedown lab up
      shakedown lab up four-nodes --json
    """

    from harness.commands import lab as command  # noqa: PLC0415

    return command.up(name, instance=instance, fresh=fresh, as_json=json_output)


@app.command("down")
@ends
def lab_down(
    name: LabName = "default",
    instance: Instance = 0,
    every: Annotated[bool, typer.Option("--all", help="All labs of this user.")] = False,
) -> int:
    """Stop a lab and remove its process, port and files; no error if there is none.

    \b
    Examples:
      shakedown lab down
      shakedown lab down --all
    """

    from harness.commands import lab as command  # noqa: PLC0415

    return command.down(name, instance=instance, every=every)


@app.command("status")
@ends
def lab_status(json_output: Json = False) -> int:
    """List every lab of this user, its state and its limits.

    \b
    Example:
      shakedown lab status --json
    """

    from harness.commands import lab as command  # noqa: PLC0415

    return command.status(as_json=json_output)


@app.command("ssh", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@ends
def lab_ssh(
    arguments: Annotated[list[str] | None, typer.Argument(help="A command (default: a shell).")] = None,
    name: Annotated[str, typer.Option("--lab", help="Name of the lab.")] = "default",
    instance: Instance = 0,
) -> int:
    """Open a shell in a running lab, or run a command there.

    \b
    Examples:
      shakedown lab ssh
      shakedown lab ssh -- virsh list --all
    """

    from harness.commands import lab as command  # noqa: PLC0415

    return command.ssh(name, tuple(arguments or ()), instance=instance)


@app.command("reset")
@ends
def lab_reset(name: LabName = "default", instance: Instance = 0, json_output: Json = False) -> int:
    """Reset a lab to its snapshot; all later changes are lost.

    \b
    Example:
      shakedown lab reset
    """

    from harness.commands import lab as command  # noqa: PLC0415

    return command.reset(name, instance=instance, as_json=json_output)
