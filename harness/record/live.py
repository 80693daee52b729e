"""The evidence of a run that still goes on, read back from disk as it grows: what was not recorded does not
count. Each event is read once."""

from __future__ import annotations

from pathlib import Path

from harness.errors import RecordError
from harness.model.evidence import Evidence
from harness.record.attempts import History
from harness.record.events import Event, line_of_run
from harness.regular import open_regular


class Live:
    """Follows one ``events.jsonl``. Not for runs of others: their last line may be half written."""

    def __init__(self, events: Path) -> None:
        self._path = events
        self._offset = 0
        self._lines = 0
        self._seq = 0
        self._history: History | None = None

    def evidence(self) -> Evidence:
        """All that was recorded so far. Raises RecordError when it cannot be read."""
        fresh = self._fresh()
        self._history = History.of(fresh) if self._history is None else self._history.after(fresh)
        return self._history.evidence

    def _fresh(self) -> tuple[Event, ...]:
        try:
            with open_regular(self._path) as file:
                file.seek(self._offset)
                content = file.read()
        except OSError as error:
            raise RecordError(f"{self._path} could not be read: {error}") from error
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        events = []
        for number, line in enumerate(whole.split(b"\n")[:-1], start=self._lines + 1):
            found, _ = line_of_run(line, number, self._seq + 1, self._path)
            self._lines = number
            if found is not None:  # what is none is told when the run is judged
                self._seq = found.seq
                events.append(found)
        return tuple(events)
