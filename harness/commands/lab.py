"""``shakedown lab up | down | status | ssh | reset``: the emulated candidate host by hand."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from harness.config.files import load_lab
from harness.errors import LabError
from harness.images.cache import clear_abandoned
from harness.lab import access
from harness.lab.control import LabControl, LabStatus, all_status, status_of, take_down
from harness.lab.state import lab_directory, list_labs
from harness.model.inventory import SshAccess
from harness.progress import plain
from harness.serial import to_data
from harness.shown import say, say_json, warn


def print_progress(message: str) -> None:
    """One plain line on standard error."""
    warn(plain(message))


def up(
    name: str = "default",
    *,
    instance: int = 0,
    fresh: bool = False,
    as_json: bool = False,
    progress: Callable[[str], None] = print_progress,
) -> int:
    """Start the lab (or find it running) and print how to reach it; ``fresh`` boots it anew first.

    ``name`` is a file of ``inventory/labs`` or a path. Returns the exit status. Raises ConfigError, LabError
    or ImageError.
    """
    lab = load_lab(name)
    control = LabControl(lab, instance)
    if fresh:
        control.discard_snapshot(progress)
    reach = control.ensure_up(progress)
    progress(control.stays())
    _print_access(lab.name, instance, reach, as_json=as_json)
    return 0


def reset(
    name: str = "default",
    *,
    instance: int = 0,
    as_json: bool = False,
    progress: Callable[[str], None] = print_progress,
) -> int:
    """Put the lab back to its snapshot; everything done on it since is lost. Returns the exit status."""
    lab = load_lab(name)
    reach = LabControl(lab, instance).reset(progress)
    _print_access(lab.name, instance, reach, as_json=as_json)
    return 0


def down(
    name: str = "default",
    *,
    instance: int = 0,
    every: bool = False,
    progress: Callable[[str], None] = print_progress,
) -> int:
    """Stop one lab, or every lab of this user, and remove its files. Needs no lab file. Returns 0.

    What a killed ``lab up`` was still building is stopped and removed too.
    """
    chosen = list_labs() if every else ((name, instance),)
    for lab_name, number in chosen:
        take_down(lab_directory(lab_name, number), progress)
        progress(f"lab {lab_name}-{number} is down")
    clear_abandoned(progress)
    return 0


def status(*, as_json: bool = False) -> int:
    """Print every lab of this user. Returns the exit status 0, running or not."""
    found = all_status()
    if as_json:
        say_json([_status_data(lab) for lab in found], indent=2)
        return 0
    if not found:
        say("no lab; start one with: shakedown lab up")
    for lab in found:
        say(*_status_lines(lab))
    return 0


def ssh(name: str = "default", arguments: Sequence[str] = (), *, instance: int = 0) -> int:
    """Replace this process by ssh into a running lab. Raises LabError when it is not running."""
    lab = status_of(lab_directory(name, instance), name, instance)
    if lab.ssh is None:
        raise LabError(f"lab {name} instance {instance} is not running", remedy=f"shakedown lab up {name}")
    command = access.ssh_command(lab.ssh, arguments)
    os.execvp(command[0], command)  # noqa: S606  handing over to ssh, arguments as a list, is the purpose


def _status_data(lab: LabStatus) -> dict[str, Any]:
    return {
        "name": lab.name,
        "instance": lab.instance,
        "running": lab.running,
        "directory": lab.directory,
        "ssh": None if lab.ssh is None else to_data(lab.ssh),
        "engine": to_data(lab.engine),
        "started_at": lab.started_at,
        "ended": lab.ended,
    }


def _status_lines(lab: LabStatus) -> list[str]:
    if lab.ssh is None:
        why = f": {lab.ended}" if lab.ended else ""
        return [f"{lab.name}-{lab.instance}: not running ({lab.directory}){why}"]
    return [
        f"{lab.name}-{lab.instance}: running since {lab.started_at}, SSH on 127.0.0.1:{lab.ssh.port}",
        f"  {lab.engine.description}",
        *(f"  limit: {limit}" for limit in lab.engine.limits),
    ]


def _print_access(name: str, instance: int, reach: SshAccess, *, as_json: bool) -> None:
    if as_json:
        say_json({"name": name, "instance": instance, "ssh": to_data(reach)}, indent=2)
    else:
        say(shlex.join(access.ssh_command(reach)))
