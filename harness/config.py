"""Inventory files by name or path, as the values of ``harness.model.inventory``.

A name is looked for in ``./inventory``, then ``$SHAKEDOWN_INVENTORY``, then the inventory shipped with
Shakedown. Whatever is wrong with a file is one ConfigError that names file, line, key and, where a name is
unknown, the nearest one that exists.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import json
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from harness.config_rules import check_fit, check_host, check_lab, check_profile, check_standin, check_waiver
from harness.errors import ConfigError
from harness.model.inventory import HostFile, LabFile, Profile, Waiver
from harness.model.kernel_codes import KernelCode, KernelCodeFile, KernelCodes
from harness.model.outcome import Action
from harness.model.sku import Sku
from harness.model.standin import StandinScenario
from harness.model.telemetry import Ruling
from harness.reading import reader
from harness.verdict.rules import Problem, lint_skus
from harness.yaml_source import Loc, YamlSource, read_yaml

T = TypeVar("T")

KINDS = ("hosts", "profiles", "labs", "waivers", "kernel", "skus", "standins")
ENVIRONMENT = "SHAKEDOWN_INVENTORY"
_BASED_ON = "based_on"
_MERGED = ("checks", "workload_parameters", "limits")
_EXPECTED = {
    "bool_type": "true or false was expected",
    "dataclass_exact_type": "keys with values were expected",
    "dataclass_type": "keys with values were expected",
    "dict_type": "keys with values were expected",
    "float_type": "a number was expected",
    "int_from_float": "a whole number was expected",
    "int_type": "a whole number was expected",
    "string_type": "text was expected",
    "tuple_type": "a list was expected",
}
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
    """The scenario of the NVML stand-in of that name or path. Raises ConfigError."""
    return _load(StandinScenario, "standins", name, check_standin)


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

        _checked(_WaiverFile, source, rules)
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
            called = f"the file is called {source.path.stem!r}"
            source.wrong(("name",), called, remedy="give both one name")

    return SkuFile(sku=_checked(Sku, source, named_like_its_file), source=source)


@reader("the kernel codes", ConfigError)
def load_kernel_codes() -> KernelCodes:
    """Xids and SXids with what each means for a verdict. Raises ConfigError."""
    return KernelCodes(xids=load_kernel_code_file("xids"), sxids=load_kernel_code_file("sxids"))


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
            source.wrong(("codes",), "a table without codes would call every event unknown")

    _checked(KernelCodeFile, read_yaml(find("kernel", name)), rules)
    return found


def _check_kernel_code(entry: KernelCode, file: KernelCodeFile, source: YamlSource, loc: Loc) -> None:
    unnamed = sorted(set(entry.sources) - set(file.references))
    if entry.ruling is Ruling.UNKNOWN:
        source.wrong((*loc, "ruling"), "what is in the table is ruled; leave out what is unknown")
    if (entry.action is Action.NONE) != (entry.ruling in (Ruling.LINK, Ruling.NOTE)):
        source.wrong((*loc, "action"), "an action is due for stop, retest and config, and only there")
    if not entry.sources or unnamed:
        strangers = f"sources not among the references: {', '.join(unnamed)}"
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
        f"no {kind[:-1]} named {text[:80]!r}{_nearest(text, list_names(kind))}",
        remedy=f"known: {_listing(kind)}; or give the path of a file",
    )


def _listing(kind: str) -> str:
    return ", ".join(list_names(kind)) or "none"


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name[:80], list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


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
    return _checked(kind, source, rules)


def _checked(kind: type[T], source: YamlSource, rules: Callable[[T, YamlSource], None]) -> T:
    """The value. Raises ConfigError with all that is wrong: its shape, and by the rules what has a shape."""
    value, bad = _shaped(kind, source)
    if bad:
        value, _ = _shaped(kind, _without(kind, source, bad))
    if value is not None:
        ruled = dataclasses.replace(source, problems=[])
        try:
            rules(value, ruled)
        except ConfigError as error:
            ruled.problems.append(((), error))
        # What the rules say of a place that was taken out would say of nothing.
        source.problems.extend(
            (loc, problem) for loc, problem in ruled.problems if not any(_overlap(loc, b) for b in bad)
        )
    source.settle()
    assert value is not None  # noqa: S101  without a value there was a problem
    return value


def _overlap(one: Loc, other: Loc) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


_PLACEHOLDERS: dict[Any, Any] = {str: "placeholder", int: 1, float: 1.0}


def _without(kind: type[Any], source: YamlSource, places: Iterable[Loc]) -> YamlSource:
    """The same with what stands at these places taken out, or replaced where a plain value has to be; its
    problems are its own."""
    data = copy.deepcopy(source.data)
    for place in places:
        here, holder, path = data, None, place
        for depth, step in enumerate(place, 1):
            if isinstance(here, dict):
                holder, path = here, place[:depth]
            try:
                here = here[step]
            except (LookupError, TypeError):
                break
        if holder is not None and path[-1] in holder:
            value = _PLACEHOLDERS.get(_type_at(kind, path))
            holder.pop(path[-1])
            holder |= {} if value is None else {path[-1]: value}
    return dataclasses.replace(source, data=data, problems=[])


def _on_base(folder: str, source: YamlSource) -> YamlSource:
    """The file's data laid over those of the file it is based on; lines are this file's own."""
    own = {key: value for key, value in source.data.items() if key != _BASED_ON}
    name = source.data[_BASED_ON]
    if not isinstance(name, str):
        raise source.error((_BASED_ON,), f"the name of a profile was expected, found {_said(name)}")
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
    return _checked(kind, source, lambda _value, _source: None)


def _shaped(kind: type[T], source: YamlSource) -> tuple[T | None, tuple[Loc, ...]]:
    """The value, or every place where the data have another shape than it; those are noted in ``source``."""
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415  0.1 s, which `--help` must not pay

    if not isinstance(source.data, dict):
        raise source.error((), f"a mapping of keys was expected, found {_said(source.data)}")
    try:
        # Through JSON because only there is pydantic strict about scalars ("4" is not 4) and lax about
        # shapes (a list becomes a tuple).
        return TypeAdapter(kind).validate_json(json.dumps(source.data), strict=True), ()
    except ValidationError as error:
        problems = error.errors()
        for problem in problems:
            _explain(kind, source, problem)
        return None, tuple(tuple(problem["loc"]) for problem in problems)


def _explain(kind: type[Any], source: YamlSource, problem: Any) -> None:
    loc: Loc = tuple(problem["loc"])
    parent = _type_at(kind, loc[:-1])
    keys = [f.name for f in dataclasses.fields(parent)] if dataclasses.is_dataclass(parent) else []
    if problem["type"] == "unexpected_keyword_argument":
        message = f"unknown key{_nearest(str(loc[-1]), keys)}"
        remedy = f"keys here are {', '.join(keys)}"
    elif problem["type"] in ("missing", "missing_keyword_only_argument"):
        message, remedy = "this key is required and was not given", ""
    elif problem["type"] == "value_error" and _named_field(kind, loc, problem):
        loc = (*loc, _named_field(kind, loc, problem))
        message, remedy = str(problem["ctx"]["error"]).partition(": ")[2], ""
    else:
        message = f"{_expected(problem)}; found {_said(problem['input'])}"
        expected = str(problem.get("ctx", {}).get("expected", ""))
        remedy = f"use one of {expected}" if problem["type"] in ("enum", "literal_error") else ""
    source.wrong(loc, message, remedy=remedy)


def _expected(problem: Any) -> str:
    """What a place should hold, in the words of who writes the file, not of who reads it."""
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    if problem["type"] in ("enum", "literal_error"):
        return f"{problem['ctx']['expected']} was expected"
    return _EXPECTED.get(problem["type"], str(problem["msg"]))


def _named_field(kind: type[Any], loc: Loc, problem: Any) -> str:
    """The field that a whole value's own rule names before a colon; empty when it names none."""
    owner = _type_at(kind, loc)
    named = str(problem["ctx"]["error"]).partition(": ")[0]
    fields = dataclasses.fields(owner) if dataclasses.is_dataclass(owner) else ()
    return named if named in [field.name for field in fields] else ""


def _said(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _type_at(kind: Any, loc: Loc) -> Any:
    """The type that a place in a file is read as; None when the place is not of a known shape."""
    for step in loc:
        kind = _without_none(kind)
        if dataclasses.is_dataclass(kind):
            kind = typing.get_type_hints(kind).get(str(step))
        else:
            arguments = typing.get_args(kind)
            if not arguments:
                return None
            kind = arguments[0] if typing.get_origin(kind) is tuple else arguments[-1]
    return _without_none(kind)


def _without_none(kind: Any) -> Any:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        rest = [a for a in typing.get_args(kind) if a is not type(None)]
        return rest[0] if len(rest) == 1 else kind
    return kind
