"""``shakedown rules lint``: can every rule of the inventory do its work?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.config import files as config
from harness.config.yaml_source import YamlSource, read_yaml
from harness.errors import ConfigError
from harness.model.inventory import HostFile, Profile
from harness.model.kernel_codes import KernelCodes
from harness.model.sku import Sku
from harness.shown import say, say_json
from harness.verdict.rules import lint_limits, lint_skus

_LINE = re.compile(r", line (\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One rule that cannot do its work."""

    file: str
    line: int | None
    """None when the file could not be read at all."""
    reason: str
    remedy: str


def lint(*, as_json: bool = False) -> int:
    """Print every wrong rule of GPU models, profiles and kernel tables; returns 0, or 2 when there is one."""
    checked: dict[str, list[str]] = {"skus": [], "profiles": [], "kernel": [], "series": []}
    findings = tuple(_findings(checked))
    if as_json:
        answer = {"checked": checked, "findings": [asdict(finding) for finding in findings]}
        say_json(answer, indent=2)
        return 2 if findings else 0
    for finding in findings:
        place = finding.file if finding.line is None else f"{finding.file}, line {finding.line}"
        say(f"WRONG  {place}: {finding.reason}")
        if finding.remedy:
            say(f"       {finding.remedy}")
    counts = ", ".join(f"{len(names)} {kind}" for kind, names in checked.items())
    say(f"{len(findings)} wrong rules in {counts}")
    return 2 if findings else 0


def _findings(checked: dict[str, list[str]]) -> Iterator[Finding]:
    files: dict[str, config.SkuFile] = {}
    for name in _names("skus", checked):
        try:
            files[name] = config.load_sku_file(name)
        except ConfigError as error:
            yield _unread(config.find("skus", name), error)
    skus = tuple(file.sku for file in files.values())
    for problem in lint_skus(skus):
        source = files[problem.name].source
        yield _found(source, problem.place, problem.message, problem.remedy)
    for name in _names("profiles", checked):
        yield from _profile(name, skus)
    for name in _names("kernel", checked):
        try:
            config.load_kernel_code_file(name)
        except ConfigError as error:
            yield _unread(config.find("kernel", name), error)
    yield from _series(checked)


def _series(checked: dict[str, list[str]]) -> Iterator[Finding]:
    """Rules of series: each is tried on a series that must trip it, and on one that must not."""
    from harness.checks.watching import series_rules  # noqa: PLC0415 - numpy, which the other rules do without

    host, profile = HostFile(name="rehearsed"), Profile(name="rehearsed", checks={}, guests=())
    # What is wrong with kernel codes is told where they are linted; series say nothing of them.
    codes = KernelCodes()
    for rule in series_rules.rules():
        checked["series"].append(rule.id)
        for reason in series_rules.tried(rule, host, profile, codes):
            yield Finding(
                file=rule.file,
                line=None,
                reason=f"{rule.id}: {reason}",
                remedy="correct the threshold, or the series that tests it",
            )


def _names(kind: str, checked: dict[str, list[str]]) -> tuple[str, ...]:
    names = config.list_names(kind)
    checked[kind] += names
    if not names:
        raise ConfigError(f"the inventory has no {kind}: there is nothing to check")
    return names


def _profile(name: str, skus: tuple[Sku, ...]) -> Iterator[Finding]:
    path = config.find("profiles", name)
    try:
        profile = config.load_profile(path)
    except ConfigError as error:
        yield _unread(path, error)
        return
    source = read_yaml(path)
    for problem in lint_limits(profile, skus):
        yield _found(source, problem.place, problem.message, problem.remedy)


def _found(source: YamlSource, place: tuple[str | int, ...], message: str, remedy: str) -> Finding:
    where = ".".join(str(part) for part in place)
    reason = f"{where}: {message}"
    return Finding(file=str(source.path), line=source.line(place), reason=reason, remedy=remedy)


def _unread(path: Path, error: ConfigError) -> Finding:
    found = _LINE.search(error.message)
    reason = error.message.removeprefix(str(path)).lstrip(", ")
    if found is not None:
        reason = reason.removeprefix(f"line {found[1]}").lstrip(": ")
    line = int(found[1]) if found is not None else None
    return Finding(file=str(path), line=line, reason=reason, remedy=error.remedy)
