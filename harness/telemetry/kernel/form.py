"""One way in which a kernel tells of trouble, as a value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from harness.model.outcome import Action
from harness.model.telemetry import Family, Ruling
from harness.telemetry.kernel.text import Message


class Part(Enum):
    """What a line is among those around it."""

    ALONE = "alone"
    CAUSE = "cause"
    """A wrong setting: what the driver then cannot do accuses no card."""
    EFFECT = "effect"
    """Accuses the card, unless a cause of its own came before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One way in which a kernel tells of trouble."""

    kind: str
    """Name of the trouble, for messages."""
    family: Family
    pattern: re.Pattern[str]
    """Matches where the words begin, behind driver and device: text that only quotes a kernel never does."""
    ruling: Ruling
    action: Action
    meaning: str
    driver: re.Pattern[str] | None = None
    """The drivers whose words they are; None where any driver's device may be told of so."""
    part: Part = Part.ALONE

    def fits(self, message: Message) -> bool:
        """Whether the message has this form."""
        if self.pattern.match(message.body) is None:
            return False
        return self.driver is None or self.driver.fullmatch(message.driver) is not None


def form(
    kind: str,
    family: Family,
    verdict: tuple[Ruling, Action],
    meaning: str,
    *words: str,
    driver: str = "",
    part: Part = Part.ALONE,
) -> Form:
    """A form from several ways to say the same, as regular expressions; letters' case does not count."""
    return Form(
        kind=kind,
        family=family,
        pattern=re.compile("|".join(f"(?:{each})" for each in words), re.IGNORECASE | re.DOTALL),
        ruling=verdict[0],
        action=verdict[1],
        meaning=meaning,
        driver=re.compile(driver, re.IGNORECASE) if driver else None,
        part=part,
    )
