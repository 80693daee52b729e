"""``shakedown inventory list | check``: the data that runs are made from, looked at without a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from harness import config
from harness.errors import ConfigError
from harness.shown import hand_out, say, say_json
from harness.verdict.rules import lint_sku


def show(kind: str = "", *, as_json: bool = False) -> int:
    """Print names and files of one kind, or of all; returns 0. Raises ConfigError for an unknown kind."""
    kinds = (kind,) if kind else config.KINDS
    found = {k: {name: str(config.find(k, name)) for name in config.list_names(k)} for k in kinds}
    if as_json:
        say_json(found, indent=2)
        return 0
    for each, names in found.items():
        for name, path in names.items():
            say(f"{each:9} {name:20} {path}")
    return 0


def check(files: Sequence[Path] = (), *, kind: str = "") -> int:
    """Read each file as a run would and print what is wrong with it; returns 0, or 2 when any is wrong.

    Without ``files``, every file that a name stands for. The kind is that of the file's folder unless given.
    Raises ConfigError where the kind is neither given nor to be seen.
    """
    if kind:
        config.list_names(kind)
    wanted = [(kind or _kind_of(path), path) for path in files] or [
        (each, config.find(each, name)) for each in config.KINDS for name in config.list_names(each)
    ]
    wrong = 0
    for each, path in wanted:
        try:
            _LOADERS[each](path)
        except ConfigError as error:
            wrong += 1
            hand_out(f"WRONG  {error}")
        else:
            say(f"ok     {path}")
    return 2 if wrong else 0


def _kind_of(path: Path) -> str:
    folder = path.absolute().parent.name
    if folder not in config.KINDS:
        raise ConfigError(
            f"{path}: its folder does not say what kind of file it is",
            remedy=f"give --kind, one of {', '.join(config.KINDS)}",
        )
    return folder


def _host(path: Path) -> None:
    """A host file, and what it names: its waivers and its lab."""
    host = config.load_host(path)
    config.load_waivers(host.waivers)
    if host.control.lab is not None:
        config.load_lab(host.control.lab)


def _waivers(path: Path) -> None:
    config.load_waivers((path,))


def _sku(path: Path) -> None:
    """A GPU model by itself; ``shakedown rules lint`` also sets it beside its siblings."""
    file = config.load_sku_file(path)
    for problem in lint_sku(file.sku):
        raise file.error(problem)


_LOADERS: dict[str, Callable[[Path], object]] = {
    "hosts": _host,
    "profiles": config.load_profile,
    "labs": config.load_lab,
    "waivers": _waivers,
    "kernel": config.load_kernel_code_file,
    "skus": _sku,
    "standins": config.load_standin,
}
