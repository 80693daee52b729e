"""``docs/checks.md`` as it must be: every check with its question, its reason and its place in profiles."""

from __future__ import annotations

import textwrap

from harness.checks import CHECKS
from harness.config.files import list_names, load_profile
from harness.faults import FAULTS
from tests.gates.source import ROOT

PAGE = ROOT / "docs/checks.md"

_HEAD = """# Checks

Made from `harness/checks` and `inventory/profiles` by `SHAKEDOWN_UPDATE_DOCS=1 pytest tests/docs`; a test
compares. A **blocker** decides the verdict, an **advisory** is reported only. What was seen and what to do
about it stand in each run's report. Faults are the deliberate defects of `harness/faults` that the test suite
puts into clean evidence: each must trip its check and no other.
"""
_SCOPES = {
    "host": "once, for the host",
    "gpu": "for each GPU of the host",
    "guest": "for each guest",
    "guest_gpu": "for each device of each guest",
    "guest_workload": "for each workload of each guest",
}


def page() -> str:
    """The page's text."""
    profiles = {name: load_profile(name).checks for name in list_names("profiles")}
    parts = [_HEAD]
    for check in CHECKS:
        demanded = ", ".join(
            f"{name}: {checks[check.id].value if check.id in checks else 'not asked'}"
            for name, checks in profiles.items()
        )
        faults = "; ".join(fault.title for fault in FAULTS if fault.must_trip == check.id) or "none yet"
        asked = f"Asked {_SCOPES[check.scope.value]}. In profiles: {demanded}."
        paragraphs = (f"{check.title} {check.why}", asked, f"Faults that trip it: {faults}.")
        text = "\n\n".join(textwrap.fill(p, 110, break_long_words=False) for p in paragraphs)
        parts.append(f"## `{check.id}`\n\n{text}\n")
    return "\n".join(parts)
