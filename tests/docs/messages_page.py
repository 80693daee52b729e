"""``docs/messages.md`` as it must be: everything that the product may say, to be read in one go."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from typer.main import get_command

from harness.checks.registry import CHECKS, run_checks
from harness.cli.app import app
from harness.faults.registry import FAULTS
from harness.model.evidence import Evidence
from harness.model.outcome import Outcome
from tests.docs.checks_page import anchor
from tests.docs.source_words import GAP, Sentence, modules, sentences
from tests.faults import clean
from tests.gates.source import ROOT

PAGE = ROOT / "docs/messages.md"
_HEAD = """# Messages

Everything that Shakedown may say, so that it can be searched and read in one go: the messages of each
check, the help of each command, and all other texts by module. Terms are in [glossary.md](glossary.md), the
checks as a table in [checks.md](checks.md). The page is made by `SHAKEDOWN_UPDATE_DOCS=1 pytest
tests/docs`.

Messages of checks are the answers to deliberate defects, put into the evidence of a healthy host. `missing`
means that there is not enough evidence: the verdict is then INCONCLUSIVE.
"""
_WIDTH = 100
_LONGEST = 600
"""Characters of one cell; longer lists of places are cut."""


@dataclass(frozen=True, slots=True, order=True)
class Played:
    """One answer of a check, and the evidence that gave it."""

    check: str
    outcome: str
    message: str
    remedy: str
    when: str


def page() -> str:
    """The page's text."""
    played = list(dict.fromkeys(_played()))
    parts = [_HEAD, "## Checks\n", *(_of_check(check.id, played) for check in CHECKS)]
    parts += ["## Help of the commands\n", *_help(get_command(app), ("shakedown",))]
    parts += ["## Other texts, by module\n", f"`{GAP}` stands for a value.\n", *_others(played)]
    return "\n".join(parts)


def _cell(text: str) -> str:
    cut = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
    return re.sub(r"([|<>*_])", r"\\\1", " ".join(cut.split())) or "-"


def _of_check(check: str, played: list[Played]) -> str:
    it = next(each for each in CHECKS if each.id == check)
    lines = [f'<a id="{anchor(check)}"></a>\n', f"### `{check}`\n", f"**{it.title}** {it.why}\n"]
    lines += ["| Outcome | When | Message | Remedy |", "|---|---|---|---|"]
    told: set[tuple[str, str]] = set()
    for each in played:
        key = (_shape(each.message), each.remedy)
        if each.check == check and key not in told:
            told.add(key)
            cells = (each.outcome, each.when, each.message, each.remedy)
            lines.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _shape(message: str) -> str:
    """A message without its numbers and addresses, so that each is listed once."""
    return re.sub(r"\b[\da-f]{4}:[\da-f]{2}:[\da-f]{2}\.[\da-f]\b|\bg\d(-\w+)?\b|\d+(\.\d+)?", GAP, message)


def _played() -> Iterator[Played]:
    yield from _answers(clean.evidence(), "healthy host")
    for fault in FAULTS:
        yield from _answers(fault.corrupt(clean.evidence()), fault.title, only=(fault.must_trip, *fault.also))
    for words, evidence in _poorer(clean.evidence()):
        yield from _answers(evidence, words, failed=True)


def _answers(
    evidence: Evidence, when: str, *, only: tuple[str, ...] = (), failed: bool = False
) -> Iterator[Played]:
    results, cells = run_checks(evidence, clean.profile(), clean.HOST)
    remedies = {(result.check, result.subject): result for result in results}
    for cell in cells:
        if only and (cell.check not in only or cell.outcome is Outcome.PASS):
            continue
        if failed and cell.outcome is not None:
            continue
        result = remedies.get((cell.check, cell.subject))
        message = result.message if result is not None else cell.reason
        remedy = result.remedy if result is not None else ""
        yield Played(
            cell.check, "missing" if cell.outcome is None else cell.outcome.value, message, remedy, when
        )


def _poorer(evidence: Evidence) -> Iterator[tuple[str, Evidence]]:
    """The evidence without one of its parts each."""
    for name, less in _without(evidence):
        yield f"no `{name}`", less
    for name, less in _without(evidence.guests[0]):
        yield f"no `{name}` of a guest", replace(evidence, guests=(less, *evidence.guests[1:]))
    facts, release, telemetry = evidence.facts, evidence.guests[0].release, evidence.guests[0].telemetry
    assert facts is not None
    assert release is not None
    assert telemetry is not None
    for name, less in _without(facts):
        yield f"no `{name}` in the facts", replace(evidence, facts=less)
    for number, device in enumerate(facts.pci_devices):
        if device.id != "1234:11e8":
            continue
        for name, less in _without(device):
            devices = (*facts.pci_devices[:number], less, *facts.pci_devices[number + 1 :])
            yield f"no `{name}` of a GPU", replace(evidence, facts=replace(facts, pci_devices=devices))
        break
    for name, less in _without(release):
        guest = replace(evidence.guests[0], release=less)
        yield f"no `{name}` of a release", replace(evidence, guests=(guest, *evidence.guests[1:]))
    for name in telemetry.gpus[0].series:
        series = {key: value for key, value in telemetry.gpus[0].series.items() if key != name}
        gpus = (replace(telemetry.gpus[0], series=series), *telemetry.gpus[1:])
        guest = replace(evidence.guests[0], telemetry=replace(telemetry, gpus=gpus))
        yield f"no `{name}` of a GPU", replace(evidence, guests=(guest, *evidence.guests[1:]))


def _without(whole: Any) -> Iterator[tuple[str, Any]]:
    """A value with each of its fields as it is by default, or None where it may be."""
    for field in dataclasses.fields(whole):
        if field.default is not dataclasses.MISSING:
            empty = field.default
        elif field.default_factory is not dataclasses.MISSING:
            empty = field.default_factory()
        elif "None" in str(field.type):
            empty = None
        else:
            continue
        if getattr(whole, field.name) != empty:
            yield field.name, replace(whole, **{field.name: empty})


def _help(command: Any, words: tuple[str, ...]) -> Iterator[str]:
    context = command.context_class(command, info_name=" ".join(words), terminal_width=_WIDTH)
    yield f"### `{' '.join(words)}`\n\n```text\n{command.get_help(context).strip()}\n```\n"
    for name, child in getattr(command, "commands", {}).items():
        yield from _help(child, (*words, name))


def _others(played: list[Played]) -> Iterator[str]:
    """What the source holds and no check of the page has said, module by module."""
    told = " ".join(f"{each.message} {each.remedy}" for each in played)
    told += " ".join(f"{check.title} {check.why}" for check in CHECKS)
    for path in modules():
        if "faults" in path.parts:
            continue
        rows = [each for each in sentences(path) if not _is_told(each, told)]
        if rows:
            name = path.relative_to(ROOT)
            head = [f"### {name}\n", "| Text | Remedy |", "|---|---|"]
            yield "\n".join([*head, *(f"| {_cell(r.text)} | {_cell(r.remedy)} |" for r in rows)]) + "\n"


def _is_told(sentence: Sentence, told: str) -> bool:
    parts = [part.strip() for part in sentence.text.split(GAP) if part.strip()]
    return all(part in told for part in parts)
