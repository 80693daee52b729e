"""Sentences that a driver spreads over several lines of a kernel log, put together again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from harness.model.pci import PciAddress
from harness.telemetry.kernel.dialect import Dialect, Sentences
from harness.telemetry.kernel.text import Message, address


class Speaker:
    """One vendor's driver in a log: which GPU it speaks of, and the sentence that is not over yet."""

    def __init__(self, dialect: Dialect, sentences: Sentences) -> None:
        self.dialect = dialect
        self._rules = sentences
        self._sentence: list[tuple[int, str]] = []
        self.named: PciAddress | None = None
        """The GPU that it named last."""

    def speaks(self, body: str) -> bool:
        """Whether the words are this driver's."""
        return body.startswith(self._rules.mark)

    def over(self) -> None:
        """What was said is told: no later line goes on with it."""
        self._sentence.clear()

    def joined(
        self, number: int, known: Message, is_trouble: Callable[[Message], bool]
    ) -> tuple[int, Message]:
        """The number of the line where its sentence began, and all of it, where the whole tells of trouble;
        else the line itself."""
        body, mark = known.body, self._rules.mark
        gpu = self._rules.names.match(body)
        if gpu is not None:
            self.named = address(gpu["address"]) or self.named
        kept = [each for each in self._sentence if number - each[0] < self._rules.lines]
        begins = self._rules.begins.match(body) is not None
        self._sentence = [(number, body)] if begins else [*kept, (number, body)] if kept else []
        if len(self._sentence) < 2 or gpu is not None:
            return number, known
        whole = " ".join([mark, *(text.removeprefix(mark).strip() for _, text in self._sentence)])
        sentence = replace(known, body=whole, known=self.named)
        return (self._sentence[0][0], sentence) if is_trouble(sentence) else (number, known)
