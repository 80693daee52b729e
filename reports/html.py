"""``report.html``: one file that needs nothing else, for a person who must decide at 3 a.m.

Everything in it came from outside and is treated so: jinja2 escapes it, ``clean`` makes it visible and
short, and a content security policy forbids scripts and loads of any kind.
"""

from __future__ import annotations

import functools
from importlib import resources
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from harness.model.inventory import Waiver
from harness.model.outcome import CoverageCell, Severity, Verdict
from harness.model.record import RunRecord
from harness.verdict.causes import Cause
from harness.verdict.tally import tally
from reports.parts import landing, neighbours, telemetry, view
from reports.parts.charts import against_limits, timings
from reports.parts.drawing import host_drawing
from reports.parts.svg import guest_class
from reports.parts.text import clean, duration, number
from reports.parts.timeline import timeline

_MARKS = {Verdict.GO: "✓", Verdict.GO_WITH_WAIVERS: "✓", Verdict.NO_GO: "✕", Verdict.INCONCLUSIVE: "?"}
_TONES = {"pass": "fine", "fail": "hot", "error": "unsure", "skip": "unsure", "missing": "unsure"}
_NAMES = {"pass": "passed", "fail": "failed", "error": "errors", "skip": "skipped", "missing": "missing"}


_GOOD = (Verdict.GO, Verdict.GO_WITH_WAIVERS)
_DECIDES_NOTHING = ("ADVISORY",)


def render(record: RunRecord) -> str:
    """The page as HTML."""
    evidence = record.evidence
    findings, ledger, broken = view.findings(record), view.ledger(record), view.broken(record)
    required = [row for row in ledger if row.severity is Severity.BLOCKER]
    planned = [guest.name for guest in evidence.guests if guest.plan]
    return _template().render(
        record=record,
        verdict=record.decision.verdict.value,
        verdict_words=record.decision.verdict.value.replace("_", " "),
        mark=_MARKS[record.decision.verdict],
        meaning=view.MEANINGS[record.decision.verdict.value],
        statement=view.statement(record),
        stands_until=view.stands_until(record),
        tiles=_tiles(record),
        shown=view.shown(record) if record.decision.verdict in _GOOD else (),
        broken=[(cause, _by_reason(cause)) for cause in broken],
        findings=[found for found in findings if found.word not in _DECIDES_NOTHING],
        advisory=[found for found in findings if found.word in _DECIDES_NOTHING],
        waivers=_waivers(record),
        host_svg=Markup(host_drawing(record)),  # noqa: S704  built by ElementTree, which escapes
        planned_index={name: index for index, name in enumerate(planned)},
        ledger=[row for row in required if not _open(row, broken)],
        ledger_open=[row for row in required if _open(row, broken)],
        ledger_advisory=[row for row in ledger if row.severity is Severity.ADVISORY],
        strays=view.stray_results(record),
        measurements=[(m, Markup(against_limits(m))) for m in view.measurements(record)],  # noqa: S704
        beside=neighbours.beside(record),
        **_telemetry(record),
        timings_svg=Markup(timings(evidence.seconds)),  # noqa: S704
        total=duration(view.total_seconds(record)),
        landing={guest.name: landing.rows(guest) for guest in evidence.guests},
        identities={guest.name: landing.identities(guest) for guest in evidence.guests},
        engine=evidence.engine,
        reasons=view.reasons(record),
        versions=view.versions(record),
        attempts=view.attempts(record),
        notes=view.notes(record),
        link=functools.partial(_link, frozenset(record.files) | {"run.json", "events.jsonl"}),
        style=Markup(_asset("style.css")),  # noqa: S704  our own file
    )


def _open(row: view.LedgerRow, broken: tuple[Cause, ...]) -> bool:
    """Whether nothing is known of a check on anything, because of what broke."""
    return all(any(cell in cause.cells for cause in broken) for cell in row.cells)


def _by_reason(cause: Cause) -> list[tuple[str, str]]:
    """The cells that a cause left open: each reason, and all that has it."""
    found: dict[str, list[str]] = {}
    for cell in cause.cells:
        found.setdefault(cell.reason, []).append(f"{cell.check} on {cell.subject}")
    return [(reason, ", ".join(cells)) for reason, cells in found.items()]


def _telemetry(record: RunRecord) -> dict[str, object]:
    """What the page's section on telemetry shows."""
    rounds = {guest.name: telemetry.rounds(guest) for guest in record.evidence.guests}
    names = telemetry.workloads(record)
    host = record.evidence.host_telemetry
    return {
        "standins": telemetry.standins(record),
        "unwatched": telemetry.unwatched(record),
        "watched": [
            {
                "guest": seen.guest,
                "standin": seen.standin,
                "sampler": telemetry.sampler(seen),
                "svg": Markup(timeline(seen, rounds.get(seen.guest, {}), names)),  # noqa: S704  as above
                "gpus": telemetry.gpu_rows(seen),
                "seen": telemetry.side_by_side(telemetry.gpu_rows(seen)),
                "spool": seen.spool,
                "parquet": seen.parquet,
            }
            for seen in telemetry.guests(record)
        ],
        "host_watched": telemetry.host_rows(host) if host is not None else (),
        "kernel_events": telemetry.kernel_rows(record),
        "not_planned": telemetry.not_planned(record),
    }


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(
        duration=duration,
        number=number,
        many=view.many,
        word=view.word,
        guest_class=guest_class,
        moment=_moment,
    )
    return environment.from_string(_asset("report.html.j2"))


def _asset(name: str) -> str:
    return resources.files("reports").joinpath("templates", name).read_text(encoding="utf-8")


def _finalize(value: object) -> object:
    """Clean every piece of text that is not markup of our own, wherever the template shows it."""
    return value if isinstance(value, Markup) else clean(str(value))


def _link(files: frozenset[str], name: str) -> Markup:
    """A link to a recorded file beside the report; any other name is plain text."""
    if not name:
        return Markup("")
    shown = clean(name, 200)
    # A leading slash would lead away from the run directory, two of them to another host.
    if name not in files or shown != name or name.startswith("/"):
        return Markup("<span>{}</span>").format(shown)
    return Markup('<a href="{}">{}</a>').format(quote(name), shown)


def _moment(when: str) -> str:
    """``2026-03-10 12:00:00 UTC`` of an ISO 8601 moment in UTC; anything else as it is."""
    day, t, rest = when.partition("T")
    return f"{day} {rest[:8]} UTC" if t and when.endswith("Z") else when


def _tiles(record: RunRecord) -> list[tuple[str, str, str]]:
    """Name, figure and tone of each tile; what decides nothing is counted, and not coloured."""
    coverage = record.decision.coverage
    tiles = []
    for key, count in tally(coverage).items():
        cells = [cell for cell in coverage if _key(cell) == key] if key != "pass" else []
        waived = sum(bool(cell.waived_by) for cell in cells)
        advisory = sum(cell.severity is Severity.ADVISORY for cell in cells)
        notes = [
            f"{number} {word}" for number, word in ((waived, "waived"), (advisory, "advisory")) if number
        ]
        name = f"{_NAMES[key]} ({', '.join(notes)})" if notes else _NAMES[key]
        tiles.append((name, str(count), _TONES[key] if count > waived + advisory else ""))
    evidence = record.evidence
    tiles.append(("guests reached", f"{sum(g.reached for g in evidence.guests)}/{len(evidence.guests)}", ""))
    tiles.append(("manual interventions", str(len(evidence.interventions)), ""))
    return tiles


def _key(cell: CoverageCell) -> str:
    return next(key for key, count in tally((cell,)).items() if count)


def _waivers(record: RunRecord) -> list[tuple[Waiver, str]]:
    """Each waiver that carried something, with the subjects it carried."""
    used = []
    for waiver in record.waivers:
        subjects = [cell.subject for cell in record.decision.coverage if cell.waived_by == waiver.id]
        if subjects:
            used.append((waiver, ", ".join(subjects)))
    return used
