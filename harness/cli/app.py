"""The command line. Each command imports what it needs when it runs, so that ``--help`` stays quick.

Results go to standard output, progress and problems to standard error. Exit status: 0 GO or done, 1 NO_GO or
no plan, 2 wrong usage or invalid input, 3 INCONCLUSIVE, 4 the harness itself failed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import inventory as cli_inventory
from harness.cli import lab as cli_lab
from harness.cli import rules as cli_rules
from harness.cli.status import Defects, Json, WholeSummaries, ends, number
from harness.shown import say

app = typer.Typer(
    cls=WholeSummaries,
    name="shakedown",
    help="Qualify GPU passthrough hosts: GO, NO_GO or INCONCLUSIVE, with the evidence.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(cli_lab.app, name="lab")
app.add_typer(cli_inventory.app, name="inventory")
app.add_typer(cli_rules.app, name="rules")

HostName = Annotated[str, typer.Option("--host", help="A host of inventory/hosts, or the path of its file.")]


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # noqa: PLC0415  20 ms that only this option pays

        say(f"shakedown {version('shakedown')}")
        raise typer.Exit


@app.callback()
def _every_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Qualify GPU passthrough hosts: GO, NO_GO or INCONCLUSIVE, with the evidence."""


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": False})
@ends
def qualify(
    context: typer.Context,
    host: HostName = "lab",
    profile: Annotated[
        str,
        typer.Option(
            "--profile",
            help="A profile of `shakedown inventory list profiles`, or its path (default: smoke, or bare).",
        ),
    ] = "",
    attach: Annotated[
        str,
        typer.Option(
            "--attach",
            help="vfio: GPUs passed through to guests. bare: bare metal (default: from the profile).",
        ),
    ] = "",
    gpus: Annotated[
        str,
        typer.Option(
            "--gpus",
            help="Guests by number of GPUs, e.g. 1,2+2,4; + runs guests at the same time (default: from the "
            "profile).",
        ),
    ] = "",
    compare: Annotated[
        Path | None,
        typer.Option(
            "--compare",
            help="A recorded bare-metal run of the same machine: guests must reach its performance.",
        ),
    ] = None,
    runs: Annotated[Path, typer.Option("--runs", help="Directory for run directories.")] = Path("runs"),
    json_output: Json = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="List every change that a run would make, and make none; nothing is built or installed.",
        ),
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for GPUs that another run uses.")] = False,
    resume: Annotated[
        Path | None, typer.Option("--resume", help="Continue a killed run; give its directory.")
    ] = None,
) -> int:
    """Qualify a host: discover, judge, place, boot guests, burn, release, decide.

    The default host is the lab, which is built and started when needed.

    \b
    Examples:
      shakedown qualify
      shakedown qualify --gpus 1,2,3,4 --json
      shakedown qualify --host inventory/hosts/example.yaml --profile nightly --dry-run
      shakedown qualify --host local --attach bare
      shakedown qualify --gpus 1,2+2      (a guest alone, then two at the same time)
      shakedown qualify -- -k vram        (what follows goes to pytest; a part of a run is never GO)
    """

    from harness.commands import qualify as command  # noqa: PLC0415

    return command.run(
        host=host,
        profile=profile,
        attach=attach,
        gpus=gpus,
        compare=compare,
        runs=runs,
        json_output=json_output,
        dry_run=dry_run,
        wait=wait,
        resume=resume,
        arguments=tuple(context.args),
    )


@app.command()
@ends
def facts(
    host: Annotated[
        str | None, typer.Option("--host", help="Read this host; a lab is started if needed, and stays up.")
    ] = None,
    sysroot: Annotated[
        Path | None, typer.Option("--sysroot", help="Read a captured tree (DIR/sys, DIR/proc ...).")
    ] = None,
    transcript: Annotated[
        Path | None, typer.Option("--transcript", help="Read a stored command log.")
    ] = None,
    save: Annotated[Path | None, typer.Option("--save", help="Store the host's output in this file.")] = None,
    json_output: Json = False,
) -> int:
    """Show a host's facts: CPUs, NUMA nodes, PCI devices, IOMMU, versions. One round trip.

    \b
    Examples:
      shakedown facts --host lab
      shakedown facts --sysroot ./capture --json > facts.json
    """

    from harness.commands import facts as command  # noqa: PLC0415

    return command.run(host=host, sysroot=sysroot, transcript=transcript, json_output=json_output, save=save)


@app.command()
@ends
def plan(
    facts_file: Annotated[Path, typer.Option("--facts", help="Facts as printed by `facts --json`.")],
    gpus: Annotated[int, number("--gpus", "How many GPUs the guest gets; 0 for an ordinary guest.")],
    given: Annotated[
        list[Path] | None,
        typer.Option(
            "--given", help="Plan (JSON) of a guest already placed; repeat the option for more guests."
        ),
    ] = None,
    gpu: Annotated[
        list[str] | None,
        typer.Option("--gpu", help="Treat this device as a GPU: an address or vendor:device."),
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", help="Use the placement policy of this host file.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", help="Use the guest sizes of this profile.")
    ] = None,
    vcpus_per_gpu: Annotated[int | None, number("--vcpus-per-gpu", "Replaces the profile's value.")] = None,
    memory_mib_per_gpu: Annotated[
        int | None, number("--memory-mib-per-gpu", "Replaces the profile's value.")
    ] = None,
    vcpus: Annotated[int | None, number("--vcpus", "For a guest without a GPU.")] = None,
    memory_mib: Annotated[int | None, number("--memory-mib", "For a guest without a GPU.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the guest.")] = None,
    xml: Annotated[bool, typer.Option("--xml", help="Print the libvirt domain XML.")] = False,
    json_output: Json = False,
) -> int:
    """Plan the placement of a guest on a host, or give every reason why it cannot be placed (exit 1).

    \b
    Example:
      shakedown plan --facts facts.json --gpus 2 --host rack12
    """

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


@app.command()
@ends
def judge(
    run_dir: Annotated[Path, typer.Argument(help="A run directory, runs/HOST/RUN.")],
    every: Annotated[
        bool, typer.Option("--all", help="Show every reason, and every check that a failed stage left open.")
    ] = False,
    json_output: Json = False,
) -> int:
    """Judge a recorded run again from its evidence; altered or missing evidence never gives GO.

    \b
    Examples:
      shakedown judge runs/lab/20261122T031500Z-3f9a1c
      shakedown judge runs/lab/20261122T031500Z-3f9a1c --all
    """

    from harness.commands import judge as command  # noqa: PLC0415

    return command.run(run_dir=run_dir, json_output=json_output, every=every)


@app.command()
@ends
def note(
    run_dir: Annotated[
        Path, typer.Argument(help="A run directory, runs/HOST/RUN, of a running or ended run.")
    ],
    text: Annotated[str, typer.Argument(help="What was done or seen, in one line.")],
    by: Annotated[str, typer.Option("--by", help="Who says so.")],
    intervention: Annotated[
        bool,
        typer.Option("--intervention", help="A person touched the host: fails run.no_interventions."),
    ] = False,
    json_output: Json = False,
) -> int:
    """Add a note to a running or ended run: what a person did or saw. Notes are evidence.

    \b
    Examples:
      shakedown note runs/rack12/20261122T031500Z-3f9a1c --by "Ada Example" "fans of GPU 3 are loud"
      shakedown note runs/rack12/20261122T031500Z-3f9a1c --by Ada --intervention "restarted libvirtd"
    """

    from harness.commands import note as command  # noqa: PLC0415

    return command.run(run_dir=run_dir, by=by, text=text, intervention=intervention, json_output=json_output)


@app.command()
@ends
def compare(
    run_dir: Annotated[Path, typer.Argument(help="A run with guests.")],
    bare: Annotated[Path, typer.Argument(help="A bare-metal run of the same machine.")],
    json_output: Json = False,
) -> int:
    """Compare the guests of a recorded run with a recorded bare-metal run; exit 1 if they lose too much.

    \b
    Example:
      shakedown compare runs/rack12/20261122T031500Z-3f9a1c runs/rack12/20261121T220000Z-77be02
    """

    from harness.commands import compare as command  # noqa: PLC0415

    return command.run(run_dir=run_dir, bare=bare, json_output=json_output)


@app.command()
@ends
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run directories.")],
    formats: Annotated[
        str, typer.Option("--format", help="html, md, json, junit, ocp, openmetrics (default: all).")
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help="Write to this folder; or, for one run and one format, to this file (default: the run "
            "directory).",
        ),
    ] = None,
) -> int:
    """Write the reports of recorded runs.

    \b
    Examples:
      shakedown report runs/lab/20261122T031500Z-3f9a1c --format html,junit
      shakedown report runs/lab/20261122T031500Z-3f9a1c --output lab.html
    """

    from harness.commands import report as command  # noqa: PLC0415

    return command.run(runs=runs, formats=tuple(f for f in formats.split(",") if f), output=output)


@app.command()
@ends
def log(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A kernel log; - for standard input.")],
    kmsg: Annotated[
        bool, typer.Option("--kmsg", help="It holds records of /dev/kmsg (6,812,12345678,-;text).")
    ] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print a JSON list on standard output, one object per event.")
    ] = False,
) -> int:
    """Read a kernel log (dmesg, journalctl -k, console): one row for each event of GPUs, PCIe and memory.

    \b
    Examples:
      shakedown log console.log --json
      shakedown log - < journal.txt
    """

    from harness.commands import log as command  # noqa: PLC0415

    return command.run(file, kmsg=kmsg, json_output=json_output)


@app.command("test", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@ends
def run_tests(
    arguments: Annotated[list[str] | None, typer.Argument(help="Arguments of tox.")] = None,
) -> int:
    """Run the project's own tests with tox.

    \b
    Examples:
      shakedown test
      shakedown test -e py311 -- tests/placement -k oracle
    """

    from harness.commands import test as command  # noqa: PLC0415

    return command.run(tuple(arguments or ()))


@app.command("pytest", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@ends
def run_pytest(
    arguments: Annotated[list[str] | None, typer.Argument(help="Arguments of pytest.")] = None,
) -> int:
    """Run pytest in Shakedown's environment.

    \b
    Examples:
      shakedown pytest suites --candidate lab --profile smoke
    """

    from harness.commands import session as command  # noqa: PLC0415

    return command.run(tuple(arguments or ()))


def main() -> None:
    """Entry point of ``shakedown`` and ``python -m harness``."""
    with Defects():
        app(prog_name="shakedown")
