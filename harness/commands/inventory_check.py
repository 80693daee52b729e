"""``shakedown inventory check``: everything that a run would refuse, before there is a run."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

from harness.config import files as config
from harness.config.yaml_source import Loc, YamlSource, read_yaml
from harness.errors import ConfigError, ConfigErrors, HarnessError
from harness.images.guest import require_own_image
from harness.model.inventory import SCENARIO_KEY, HostFile
from harness.shown import hand_out
from harness.verdict.rules import lint_sku

T = TypeVar("T")


@dataclass(slots=True)
class _Found:
    """What was found in one file: its name inside, what is wrong, and what could not be told from here."""

    names: tuple[str, ...] = ()
    wrong: list[ConfigError] = field(default_factory=list)
    untold: list[ConfigError] = field(default_factory=list)

    def tried(self, act: Callable[[], T]) -> T | None:
        """What a loader gives. Where it refuses, which is noted, what it could read all the same, or None."""
        try:
            return act()
        except ConfigError as error:
            self.wrong += error.each if isinstance(error, ConfigErrors) else (error,)
            return cast("T | None", error.readable)


def check(files: Sequence[Path] = (), *, kind: str = "") -> int:
    """Read each file as a run would, and what it names; print all that is wrong, and what could not be told.

    Returns 0, or 2 when anything is wrong. Without ``files``, every file that a name stands for. The kind is
    that of the file's folder unless given. Raises ConfigError where the kind is neither given nor to be seen.
    """
    if kind:
        config.list_names(kind)
    wanted = [(kind or _kind_of(path), path) for path in files] or _every()
    wrong = 0
    for each, path in wanted:
        found = _Found()
        _LOOKS[each](path, found)
        found.wrong += _taken(each, path, found.names)
        wrong += bool(found.wrong)
        lines = [f"WRONG  {error}" for error in found.wrong] or [f"ok     {path}"]
        lines += [f"note   {error}" for error in found.untold]
        hand_out("\n".join(lines))
    return 2 if wrong else 0


def _every() -> list[tuple[str, Path]]:
    return [(kind, config.find(kind, name)) for kind in config.KINDS for name in config.list_names(kind)]


def _kind_of(path: Path) -> str:
    folder = path.absolute().parent.name
    if folder not in config.KINDS:
        if not path.exists():
            raise ConfigError(f"{path}: no such file", remedy="give its path; a name needs --kind too")
        raise ConfigError(
            f"{path}: its folder does not show what kind of file it is",
            remedy=f"give --kind, one of {', '.join(config.KINDS)}",
        )
    return folder


def _taken(kind: str, path: Path, names: tuple[str, ...]) -> Iterator[ConfigError]:
    """Names that another file of the kind has too: their runs would get into each other's way."""
    for other in config.list_names(kind) if names and kind in _NAMED else ():
        beside = config.find(kind, other)
        if beside.resolve() == path.resolve():
            continue
        try:
            source = read_yaml(beside)
        except ConfigError:
            continue  # told where that file is looked at
        if isinstance(source.data, dict) and source.data.get("name") in names:
            place = read_yaml(path)
            message = f"{source.data['name']!r} is also the name in {beside}, line {source.line(('name',))}"
            yield place.error(("name",), message, remedy="give each a name of its own")


_NAMED = ("hosts", "profiles", "labs")
"""Kinds whose ``name`` is a key: of run directories and claims, of reports, of running labs."""


def _host(path: Path, found: _Found) -> None:
    """A host file, and all that it names: its waivers, lab, scenario, keys and image."""
    host = found.tried(lambda: config.load_host(path))
    if host is None:
        return
    found.names = (host.name,)
    source = read_yaml(path)
    for index, name in enumerate(host.waivers):
        _named(source, ("waivers", index), found, partial(_waivers_named, name, found))
    if host.control.lab is not None:
        lab = host.control.lab
        _named(source, ("control", "lab"), found, lambda: config.load_lab(lab))
    if host.scenario:
        _named(source, (SCENARIO_KEY,), found, lambda: config.load_standin(host.scenario))
    _keys(host, source, found)
    if host.guest_image.endswith(".qcow2"):
        _named(source, ("guest_image",), found, lambda: require_own_image(host.guest_image))
    for key in ("work_dir", "image_dirs"):
        if host.control.kind != "local" and (key,) in source.lines and getattr(host, key):
            found.untold.append(source.error((key,), "is on the host, which was not contacted"))


def _named(source: YamlSource, loc: Loc, found: _Found, look: Callable[[], object]) -> None:
    """What a host file names, looked at; a refusal also says where it is named."""
    try:
        look()
    except ConfigErrors as errors:
        found.wrong += [source.error(loc, str(error)) for error in errors.each]
    except HarnessError as error:
        found.wrong.append(source.error(loc, error.message, remedy=error.remedy))


def _keys(host: HostFile, source: YamlSource, found: _Found) -> None:
    for key in ("identity_file", "known_hosts"):
        text = getattr(host.ssh, key, None)
        if text is None:
            continue
        path, loc = Path(text).expanduser().absolute(), ("ssh", key)
        try:
            path.stat()
        except FileNotFoundError:
            message = f"{path} is not on this machine: a run from here would be refused"
            remedy = "copy it here; if runs start on another machine, check the file there"
            found.wrong.append(source.error(loc, message, remedy=remedy))
        except OSError as error:
            found.untold.append(source.error(loc, f"{path} could not be read: {error.strerror}"))
        else:
            if not path.is_file() or not os.access(path, os.R_OK):
                found.wrong.append(source.error(loc, f"{path} is not a readable file"))


def _waivers_named(name: str, found: _Found) -> None:
    _waivers(config.find("waivers", name), found)


def _waivers(path: Path, found: _Found) -> None:
    """A file of waivers. One that has expired carries nothing, so who counts on it should hear it now."""
    waivers = found.tried(lambda: config.load_waivers((path,))) or ()
    today = dt.datetime.now(dt.UTC).date().isoformat()
    for index, waiver in enumerate(waivers):
        if waiver.expires < today:
            message = f"waiver {waiver.id!r} has expired: it no longer waives anything"
            place = ("waivers", index, "expires")
            remedy = "fix the failure, or decide on a new waiver"
            found.wrong.append(read_yaml(path).error(place, message, remedy=remedy))


def _sku(path: Path, found: _Found) -> None:
    """A GPU model by itself; ``shakedown rules lint`` also sets it beside its siblings."""
    file = found.tried(lambda: config.load_sku_file(path))
    if file is not None:
        found.wrong += [file.error(problem) for problem in lint_sku(file.sku)]


def _loaded(load: Callable[[Path], object]) -> Callable[[Path, _Found], None]:
    def look(path: Path, found: _Found) -> None:
        value = found.tried(lambda: load(path))
        name = getattr(value, "name", "")
        found.names = (name,) if isinstance(name, str) and name else ()

    return look


_LOOKS: dict[str, Callable[[Path, _Found], None]] = {
    "hosts": _host,
    "profiles": _loaded(config.load_profile),
    "labs": _loaded(config.load_lab),
    "waivers": _waivers,
    "kernel": _loaded(config.load_kernel_code_file),
    "skus": _sku,
    "standins": _loaded(config.load_standin),
}
