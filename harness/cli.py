"""The command line. Each command imports what it needs when it runs, so that ``--help`` stays quick.

Results go to standard output, progress and problems to standard error. Exit status: 0 GO or done, 1 NO_GO or
no plan, 2 wrong usage or invalid input, 3 INCONCLUSIVE, 4 the harness itself failed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from harness.errors import ClaimError, ConfigError, HarnessError, ParseError

app = typer.Typer(
    name="shakedown",
    help="Qualify GPU passthrough hosts: GO, NO_GO or INCONCLUSIVE, with the evidence.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
lab_app = typer.Typer(
    help="The emulated candidate host: a whole passthrough host in QEMU, no GPU needed.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(lab_app, name="lab")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
HostName = Annotated[str, typer.Option("--host", help="A host of inventory/hosts, or the path of its file.")]


def _end(action: Callable[[], int]) -> None:
    """Run a command and leave with its status; errors of ours are told in words, without a traceback."""
    try:
        status = action()
    except (ConfigError, ParseError) as error:
        typer.echo(f"shakedown: {error}", err=True)
        status = 2
    except ClaimError as error:
        typer.echo(f"shakedown: {error}", err=True)
        status = 3
    except HarnessError as error:
        typer.echo(f"shakedown: {type(error).__name__}: {error}", err=True)
        status = 4
    except KeyboardInterrupt:
        typer.echo("shakedown: interrupted", err=True)
        status = 130
    except BrokenPipeError:
        # The reader went away (`| head`): not worth a word.
        sys.stderr.close()
        status = 0
    raise typer.Exit(status)


@app.command()
def qualify(
    host: HostName = "lab",
    profile: Annotated[str, typer.Option("--profile", help="smoke, nightly, or a profile's path.")] = "smoke",
    gpus: Annotated[
        str,
        typer.Option("--gpus", help="Guests by their number of GPUs, e.g. 1,2,3,4 (default: the profile's)."),
    ] = "",
    runs: Annotated[Path, typer.Option("--runs", help="Where run directories go.")] = Path("runs"),
    json_output: Json = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List every change that would be made on the host, make none.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for GPUs that another run holds.")] = False,
    resume: Annotated[
        Path | None, typer.Option("--resume", help="Go on with a killed run, from its directory.")
    ] = None,
) -> None:
    """Qualify a host: discover, judge, place, boot guests, burn, release, decide.

    The default host is the lab, which is built and started when needed.

    Examples:  shakedown qualify        shakedown qualify --host r760-03 --gpus 1,2,4 --profile nightly
    """

    def action() -> int:
        from harness.commands import qualify as command  # noqa: PLC0415

        return command.run(
            host=host,
            profile=profile,
            gpus=gpus,
            runs=runs,
            json_output=json_output,
            dry_run=dry_run,
            wait=wait,
            resume=resume,
        )

    _end(action)


@app.command()
def facts(
    host: Annotated[str | None, typer.Option("--host", help="Ask this host over SSH.")] = None,
    sysroot: Annotated[
        Path | None, typer.Option("--sysroot", help="Read a captured tree (DIR/sys, DIR/proc ...).")
    ] = None,
    transcript: Annotated[
        Path | None, typer.Option("--transcript", help="Read a stored transcript again.")
    ] = None,
    save: Annotated[Path | None, typer.Option("--save", help="Store the transcript there.")] = None,
    json_output: Json = False,
) -> None:
    """Say what a host is: CPUs, NUMA nodes, PCI devices, IOMMU, versions. One round trip.

    Examples:  shakedown facts --host lab        shakedown facts --sysroot ./capture --json > facts.json
    """

    def action() -> int:
        from harness.commands import facts as command  # noqa: PLC0415

        return command.run(
            host=host, sysroot=sysroot, transcript=transcript, json_output=json_output, save=save
        )

    _end(action)


@app.command()
def plan(
    facts_file: Annotated[Path, typer.Option("--facts", help="Facts as printed by `facts --json`.")],
    gpus: Annotated[
        int, typer.Option("--gpus", help="How many GPUs the guest gets; 0 for an ordinary guest.")
    ],
    given: Annotated[
        list[Path] | None,
        typer.Option("--given", help="Plan (JSON) of a guest already placed; give it again for more."),
    ] = None,
    gpu: Annotated[
        list[str] | None, typer.Option("--gpu", help="Also a GPU: an address or vendor:device.")
    ] = None,
    host: Annotated[str | None, typer.Option("--host", help="Placement policy of this host file.")] = None,
    profile: Annotated[str | None, typer.Option("--profile", help="Guest sizes of this profile.")] = None,
    vcpus_per_gpu: Annotated[int | None, typer.Option("--vcpus-per-gpu")] = None,
    memory_mib_per_gpu: Annotated[int | None, typer.Option("--memory-mib-per-gpu")] = None,
    vcpus: Annotated[int | None, typer.Option("--vcpus", help="For a guest with no GPU.")] = None,
    memory_mib: Annotated[int | None, typer.Option("--memory-mib", help="For a guest with no GPU.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the guest.")] = None,
    xml: Annotated[bool, typer.Option("--xml", help="Print the libvirt domain XML.")] = False,
    json_output: Json = False,
) -> None:
    """Place a guest on a host, or say every reason why it cannot be placed (exit 1).

    Example:  shakedown plan --facts facts.json --gpus 2 --json
    """

    def action() -> int:
        from harness.commands import plan as command  # noqa: PLC0415

        return command.run(
            facts_file=facts_file,
            gpus=gpus,
            given=tuple(given or ()),
            xml=xml,
            json_output=json_output,
            host=host,
            profile=profile,
            vcpus_per_gpu=vcpus_per_gpu,
            memory_mib_per_gpu=memory_mib_per_gpu,
            vcpus=vcpus,
            memory_mib=memory_mib,
            gpu=tuple(gpu or ()),
            name=name,
        )

    _end(action)


@app.command()
def judge(
    run_dir: Annotated[Path, typer.Argument(help="A run directory, runs/HOST/RUN.")],
    json_output: Json = False,
) -> None:
    """Decide a recorded run again from its evidence; altered or missing evidence never gives GO.

    Example:  shakedown judge runs/lab/20261122T031500Z-3f9a1c
    """

    def action() -> int:
        from harness.commands import judge as command  # noqa: PLC0415

        return command.run(run_dir=run_dir, json_output=json_output)

    _end(action)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run directories.")],
    formats: Annotated[
        str, typer.Option("--format", help="html, md, json, junit, ocp, openmetrics (default: all).")
    ] = "",
    output: Annotated[
        Path | None, typer.Option("--output", help="Write there, not beside the record.")
    ] = None,
) -> None:
    """Render recorded runs.

    Example:  shakedown report runs/lab/20261122T031500Z-3f9a1c --format html,junit
    """

    def action() -> int:
        from harness.commands import report as command  # noqa: PLC0415

        return command.run(runs=runs, formats=tuple(f for f in formats.split(",") if f), output=output)

    _end(action)


def main() -> None:
    """Entry point of ``shakedown`` and ``python -m harness``."""
    app()
