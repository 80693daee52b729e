"""Inventory files by name or path, as the values of ``harness.model.inventory``.

A name is looked for in ``./inventory``, then ``$SHAKEDOWN_INVENTORY``, then the inventory shipped with
Shakedown. Whatever is wrong with a file is one ConfigError that names file, line, key and, where a name is
unknown, the nearest one that exists.
"""

from __future__ import annotations

import dataclasses
import os
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from harness.config.rules import check_fit, check_host, check_lab, check_profile, check_waiver
from harness.config.shape import checked, nearest, said
from harness.config.yaml_source import Loc, YamlSource, read_yaml
from harness.errors import ConfigError
from harness.model.inventory import HostFile, LabFile, Profile, Waiver
from harness.model.kernel_codes import KernelCode, KernelCodeFile, KernelCodes
from harness.model.outcome import Action
from harness.model.sku import Sku
from harness.model.telemetry import Ruling
from harness.reading import reader
from harness.vendors.names import CODE_TABLES
from harness.vendors.registry import parts
from harness.vendors.standin import HEALTHY, StandinScenario, healthy
from harness.verdict.rules import Problem, lint_skus

T = TypeVar("T")

KINDS = ("hosts", "profiles", "labs", "waivers", "kernel", "skus", "standins")
ENVIRONMENT = "SHAKEDOWN_INVENTORY"
_BASED_ON = "based_on"
_MERGED = ("checks", "workload_parameters", "limits")
"""Keys of which a profile names only the entries that differ from those of the one it is based on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _WaiverFile:
    """``inventory/waivers/NAME.yaml``: a list of waivers under one roof."""

    __pydantic_config__: typing.ClassVar[dict[str, Any]] = {"extra": "forbid"}
    waivers: tuple[Waiver, ...]
    description: str = ""


@reader("the host file", ConfigError)
def load_host(name: str | Path) -> HostFile:
    """The host file of that name or path. Raises ConfigError."""
    return _load(HostFile, "hosts", name, check_host)


@reader("the profile", ConfigError)
def load_profile(name: str | Path) -> Profile:
    """The profile of that name or path; its check ids and workloads are known ones. Raises ConfigError.

    A profile that is ``based_on`` another takes over all that it does not say itself; of ``checks``,
    ``workload_parameters`` and ``limits`` single entries. That other one stands on its own.
    """
    return _load(Profile, "profiles", name, check_profile, based=True)


@reader("the profile", ConfigError)
def require_fit(profile: Profile, name: str | Path, host: HostFile) -> None:
    """Raises ConfigError, with file and line, where a group needs more GPUs than the host has."""
    source = read_yaml(find("profiles", name))
    check_fit(profile, host, source)
    source.settle()


@reader("the lab description", ConfigError)
def load_lab(name: str | Path) -> LabFile:
    """The lab description of that name or path. Raises ConfigError."""
    return _load(LabFile, "labs", name, check_lab)


@reader("the scenario", ConfigError)
def load_standin(name: str | Path) -> StandinScenario:
    """The scenario of a stand-in of a driver's library, of that name or path. Raises ConfigError.

    ``healthy-MODEL``, where no file is called so, is made from what the inventory knows of that GPU model.
    """
    model = str(name).removeprefix(HEALTHY)
    if model != str(name) and name not in list_names("standins") and model in list_names("skus"):
        return healthy(load_sku_file(model).sku)
    return _load(StandinScenario, "standins", name, _check_standin)


def _check_standin(scenario: StandinScenario, source: YamlSource) -> None:
    for check in parts("config.standin", "check_standin"):
        check(scenario, source)


@reader("the waivers", ConfigError)
def load_waivers(names: Iterable[str | Path]) -> tuple[Waiver, ...]:
    """All waivers of the named files, in order. Raises ConfigError; two waivers with one id are an error."""
    found: dict[str, Waiver] = {}
    for name in names:
        source = read_yaml(find("waivers", name))

        def rules(file: _WaiverFile, source: YamlSource) -> None:
            for index, waiver in enumerate(file.waivers):
                check_waiver(waiver, source, ("waivers", index))
                if waiver.id in found:
                    source.wrong(("waivers", index, "id"), f"waiver {waiver.id!r} is given twice")
                found[waiver.id] = waiver

        checked(_WaiverFile, source, rules)
    return tuple(found.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class SkuFile:
    """One description of a GPU model, and the lines that it was read from."""

    sku: Sku
    source: YamlSource

    def error(self, problem: Problem) -> ConfigError:
        """A problem that the lint found in it, with file and line."""
        return self.source.error(problem.place, problem.message, remedy=problem.remedy)


@reader("the GPU models", ConfigError)
def load_skus() -> tuple[Sku, ...]:
    """Every GPU model that the inventory describes, by name; a model is right only beside its siblings.

    Raises ConfigError, with file and line, for the first thing that is wrong with any of them: no run begins
    with floors that guard nothing.
    """
    files = {name: load_sku_file(name) for name in list_names("skus")}
    skus = tuple(file.sku for file in files.values())
    for problem in lint_skus(skus):
        raise files[problem.name].error(problem)
    return skus


@reader("the GPU model", ConfigError)
def load_sku_file(name: str | Path) -> SkuFile:
    """One description, as far as its shape goes. Raises ConfigError."""
    source = read_yaml(find("skus", name))

    def named_like_its_file(sku: Sku, source: YamlSource) -> None:
        if sku.name != source.path.stem:
            called = f"the file name is {source.path.stem!r}"
            source.wrong(("name",), called, remedy="use the same name for both")

    return SkuFile(sku=checked(Sku, source, named_like_its_file), source=source)


@reader("the kernel codes", ConfigError)
def load_kernel_codes() -> KernelCodes:
    """The codes of GPU drivers with what each means for a verdict. Raises ConfigError."""
    return KernelCodes(tables={family: load_kernel_code_file(name) for family, name in CODE_TABLES.items()})


@reader("the kernel codes", ConfigError)
def load_kernel_code_file(name: str | Path) -> dict[int, KernelCode]:
    """One table by code. Raises ConfigError; a code given twice or without a source is an error."""
    found: dict[int, KernelCode] = {}

    def rules(file: KernelCodeFile, source: YamlSource) -> None:
        for index, entry in enumerate(file.codes):
            _check_kernel_code(entry, file, source, ("codes", index))
            if entry.code in found:
                source.wrong(("codes", index, "code"), f"code {entry.code} is given twice")
            found[entry.code] = entry
        if not found:
            source.wrong(("codes",), "the table has no codes")

    checked(KernelCodeFile, read_yaml(find("kernel", name)), rules)
    return found


def _check_kernel_code(entry: KernelCode, file: KernelCodeFile, source: YamlSource, loc: Loc) -> None:
    unnamed = sorted(set(entry.sources) - set(file.references))
    if entry.ruling is Ruling.UNKNOWN:
        source.wrong((*loc, "ruling"), "an entry needs a known severity (ruling); leave out unknown codes")
    if (entry.action is Action.NONE) != (entry.ruling in (Ruling.LINK, Ruling.NOTE)):
        source.wrong((*loc, "action"), "stop, retest and config need an action; others must have none")
    if not entry.sources or unnamed:
        strangers = f"sources that are not in the list of references: {', '.join(unnamed)}"
        source.wrong((*loc, "sources"), strangers if unnamed else "no source is given")
    if not entry.meaning.strip() or entry.code < 1:
        source.wrong(loc, "a code is a number from 1 and has a meaning")


def inventory_dirs(environment: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """Where inventory files are looked for, first match first."""
    import inventory  # noqa: PLC0415  the shipped data; a package without code

    extra = (os.environ if environment is None else environment).get(ENVIRONMENT, "")
    shipped = Path(next(iter(inventory.__path__)))
    return (Path("inventory"), *((Path(extra).expanduser(),) if extra else ()), shipped)


def list_names(kind: str) -> tuple[str, ...]:
    """Names that exist of a kind (``hosts``, ``profiles`` ...; see ``KINDS``), sorted."""
    if kind not in KINDS:
        raise ConfigError(f"no inventory of kind {kind!r}", remedy=f"kinds are {', '.join(KINDS)}")
    return tuple(sorted({p.stem for d in inventory_dirs() for p in (d / kind).glob("*.yaml")}))


@reader("the name", ConfigError)
def find(kind: str, name: str | Path) -> Path:
    """The file for a name, or the path itself when a path is given. Raises ConfigError."""
    text = str(name)
    if isinstance(name, Path) or "/" in text or text.endswith((".yaml", ".yml")):
        path = Path(name).expanduser()
        if not path.exists():
            raise ConfigError(f"{path}: no such file", remedy=f"give a file, or one of: {_listing(kind)}")
        return path
    for directory in inventory_dirs():
        candidate = directory / kind / f"{text}.yaml"
        # A name that is no file name (NUL, 10 KB of text) is simply not found.
        if text.isprintable() and len(text) < 200 and candidate.is_file():
            return candidate
    raise ConfigError(
        f"no {kind[:-1]} named {text[:80]!r}{nearest(text, list_names(kind))}",
        remedy=f"known: {_listing(kind)}; or give the path of a file",
    )


def _listing(kind: str) -> str:
    return ", ".join(list_names(kind)) or "none"


def _load(
    kind: type[T],
    folder: str,
    name: str | Path,
    rules: Callable[[T, YamlSource], None],
    *,
    based: bool = False,
) -> T:
    source = read_yaml(find(folder, name))
    if based and isinstance(source.data, dict) and _BASED_ON in source.data:
        source = _on_base(folder, source)
    return checked(kind, source, rules)


def _on_base(folder: str, source: YamlSource) -> YamlSource:
    """The file's data laid over those of the file it is based on; lines are this file's own."""
    own = {key: value for key, value in source.data.items() if key != _BASED_ON}
    name = source.data[_BASED_ON]
    if not isinstance(name, str):
        raise source.error((_BASED_ON,), f"the name of a profile was expected, found {said(name)}")
    try:
        base = read_yaml(find(folder, name)).data
    except ConfigError as error:
        raise source.error((_BASED_ON,), error.message, remedy=error.remedy) from error
    if not isinstance(base, dict) or _BASED_ON in base:
        raise source.error((_BASED_ON,), f"{name} is itself based on another, or is no profile")
    merged = {**base, **own}
    for key in _MERGED:
        if isinstance(base.get(key), dict) and isinstance(own.get(key), dict):
            merged[key] = {**base[key], **own[key]}
    return dataclasses.replace(source, data=merged)


def _validate(kind: type[T], source: YamlSource) -> T:
    return checked(kind, source, lambda _value, _source: None)
