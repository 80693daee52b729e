"""What people read is in plain words and the field's terms: phrases that were replaced do not come back.

Looked through are the sentences of the source, the report's template, the inventory, README and ``docs``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.docs.source_words import modules, sentences
from tests.gates.source import ROOT

INSTEAD = {
    r"\b(nobody|somebody|anybody)\b": "name what was not read, not recorded or unknown",
    r"\bsound (card|machine|GPU|host)s?\b": "healthy",
    r"faster than can be|than there can be": "above the theoretical peak, out of range",
    r"\bby hand\b|without a hand|needs a hand": "manual, without manual intervention",
    r"\bcarr(y|ies|ied) (by|a|the|it|failures|failure)\b|waivers? carr|\bcarried\b": "waived",
    r"\baccus(e|es|ed)\b": "not a GPU fault, blames",
    r"held to nothing|hold for nothing|guards? nothing": "cannot be judged, has no effect",
    r"worth naming|lasted no time|of nobody's": "negligible, not recorded",
    r"the card goes out|\btake (it|the card) out\b|have it replaced": "replace the card",
    r"cannot be believed|not believed": "is not plausible",
    r"\bfell silent\b": "stopped",
    r"\bspools?\b(?!\.)": "samples",
    r"\b(in|data|of|for|leaves?|left) residue\b": "data remanence",
    r"\btranscript\b": "command log",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\banew\b": "again",
    r"\b(is|was|were|are) due\b": "is required, is expected",
    r"\b(be|is|are) had\b": "is available, can be allocated",
    r"led back": "mapped",
    r"\bfor ever\b": "forever",
    r"throw-away": "temporary",
    r"\bset-up\b": "setup",
    r"\bbare machines?\b|\bthe machine itself\b": "bare metal",
    r"\b(handed|hand|hands) (over|out)\b": "assigned, passed through",
    r"\bstolen time\b": "steal time",
    r"\b(without|says?) (a|no) word\b|says nothing of\b": "without an error, says nothing about",
    r"\bdemand(s|ed|ing)?\b": "requires, required",
    r"\bsiblings? of a family\b|\bof no sane\b|\bsane share\b": "out of range",
    r"\bdecides? nothing\b|\ba say in\b": "has no effect on the verdict",
    r"\bbroke off\b|\bwhat broke\b|\bstage \S+ broke\b": "failed, was cut off",
    r"\bfigures?\b": "spec, measurement, value",
    r"\bfloors?\b": "threshold",
}
"""Patterns that must not stand in what people read, each with what to write instead."""
ALLOWED = re.compile(r"`[^`]*`|\"[^\"]*\"|https?://\S+|\]\([^)]*\)|[\w-]*[./_][\w./-]*\w|--[\w-]+ [A-Z]+")
"""Keys, names, paths and what is quoted: they are what they are called."""
TEXTS = (
    "README.md",
    "docs/*.md",
    "reports/templates/*.j2",
    "inventory/hosts/*.yaml",
    "inventory/profiles/*.yaml",
)
GENERATED = ("messages.md",)


def _read() -> Iterator[tuple[str, str]]:
    for path in modules():
        name = str(path.relative_to(ROOT))
        for each in sentences(path):
            yield name, each.text
            yield name, each.remedy
    for pattern in TEXTS:
        for path in sorted(ROOT.glob(pattern)):
            if path.name not in GENERATED:
                lines = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
                yield from ((str(path.relative_to(ROOT)), line.strip()) for line in lines.split("\n"))


WORDS = [(place, ALLOWED.sub("", text)) for place, text in _read() if text]


@pytest.mark.parametrize("pattern", INSTEAD, ids=list(INSTEAD))
def test_no_phrase_comes_back(pattern: str) -> None:
    """Found one? Write what the list says, or what an engineer would say."""
    found = [(place, text) for place, text in WORDS if re.search(pattern, text)]
    assert found == [], f"write instead: {INSTEAD[pattern]}"


def test_the_sentences_of_the_product_are_found() -> None:
    assert len([place for place, _ in WORDS if place.startswith("harness/checks")]) > 500
    assert any("the GPU count was not read again" in text for _, text in WORDS)
