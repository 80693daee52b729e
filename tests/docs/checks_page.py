"""``docs/checks.md`` as it must be: a table with one row for each check."""

from __future__ import annotations

from harness.attach import ATTACHMENTS
from harness.checks.base import Check
from harness.checks.registry import CHECKS
from harness.config.files import list_names, load_profile
from harness.model.outcome import Severity
from tests.gates.source import ROOT

PAGE = ROOT / "docs/checks.md"

_HEAD = """# Checks

One row for each check. Search this page for an id, a word or a profile. Every message that a check can
give, with its remedy, is in [messages.md](messages.md); terms are in [glossary.md](glossary.md). The page
is made by `SHAKEDOWN_UPDATE_DOCS=1 pytest tests/docs`.

- **Subject**: what the check is asked about, once each.
- **Modes**: `vfio` is a run with guests, `bare` a run on bare metal.
- **Phase**: when the check is asked. Later phases have more evidence.
- **Blocker in**: profiles that require the check. If it fails, the verdict is NO_GO; if it is missing,
  skipped or ended with an error, the verdict is INCONCLUSIVE.
- **Advisory in**: profiles that only report it.

"""
_SUBJECTS = {
    "host": "host",
    "gpu": "each GPU of the host",
    "guest": "each guest",
    "guest_gpu": "each GPU of each guest",
    "guest_workload": "each workload of each guest",
}
_COLUMNS = ("Check", "Question", "Why it matters", "Subject", "Modes", "Phase", "Blocker in", "Advisory in")


def page() -> str:
    """The page's text."""
    profiles = {name: load_profile(name).checks for name in list_names("profiles")}
    head = [f"| {' | '.join(_COLUMNS)} |", f"|{'---|' * len(_COLUMNS)}"]
    return _HEAD + "\n".join([*head, *(_row(check, profiles) for check in CHECKS)]) + "\n"


def _row(check: Check, profiles: dict[str, dict[str, Severity]]) -> str:
    named = {
        severity: ", ".join(name for name, checks in profiles.items() if checks.get(check.id) is severity)
        for severity in Severity
    }
    if check.on_demand:
        named[Severity.BLOCKER] = "runs with `--compare`"
    cells = (
        f"[`{check.id}`](messages.md#{anchor(check.id)})",
        check.title,
        check.why,
        _SUBJECTS[check.scope.value],
        ", ".join(mode.name for mode in ATTACHMENTS if mode.observes(check.needs)),
        check.phase.value,
        named[Severity.BLOCKER] or "-",
        named[Severity.ADVISORY] or "-",
    )
    return f"| {' | '.join(cells)} |"


def anchor(check: str) -> str:
    """Where GitHub and most renderers put the heading of a check in ``messages.md``."""
    return check.replace(".", "")
