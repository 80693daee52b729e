"""The exception tree.

A bad device is a *result* (a failed check), never an exception. An exception means that the harness
could not do or read something; it becomes an ERROR in one place (``harness.stages.boundary``).

::

    HarnessError                 everything below; carries stage, host, transcript, remedy
    ├── ConfigError              inventory, profile, waiver or command line is wrong        (exit 2)
    │   └── ConfigErrors         ... in several places of one file
    ├── TransportError           a host or guest could not be reached, or a command broke off
    │   └── CommandTimeout       ... within its deadline
    ├── ParseError               a transcript does not say what its parser needs
    ├── ProvisionError           libvirt or QEMU refused to define or start a guest, or to say how it is
    │   └── BootError            ... a guest that started, on a host that answers, ended or never answered
    ├── GuestDied                a guest ended, or stopped to answer for good, before anybody asked it to
    ├── ClaimError               a device or host is held by another run
    ├── ReleaseError             something acquired could not be given back
    ├── WorkloadError            a workload could not be prepared, started or collected
    ├── LabError                 the emulated candidate host could not be built or booted
    ├── HostEnded                a host that was started for this run ended while it was used
    ├── ImageError               a disk image could not be built or verified
    └── RecordError              a run directory is damaged, truncated or of an unknown version
"""

from __future__ import annotations


class HarnessError(Exception):
    """Base of everything Shakedown raises on purpose.

    ``message`` says what happened in one sentence; ``remedy`` what a person can do about it. ``stage``,
    ``host`` and ``transcript`` (a path inside the run directory) say where to look. All are plain text and
    may hold hostile characters: renderers escape them.
    """

    def __init__(
        self,
        message: str,
        *,
        remedy: str = "",
        stage: str = "",
        host: str = "",
        transcript: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.stage = stage
        self.host = host
        self.transcript = transcript

    def __str__(self) -> str:
        where = " ".join(part for part in (self.stage, f"on {self.host}" if self.host else "") if part)
        text = f"{where}: {self.message}" if where else self.message
        return f"{text}\n  remedy: {self.remedy}" if self.remedy else text


class ConfigError(HarnessError):
    """An inventory file, profile, waiver or argument is wrong; the message names file, line and key."""

    readable: object = None
    """What of a file has a shape all the same, with stand-ins for the rest: to look at, never to act on."""


class ConfigErrors(ConfigError):
    """Everything that is wrong with one file, so that it can be mended in one go."""

    def __init__(self, each: tuple[ConfigError, ...]) -> None:
        rest = len(each) - 1
        more = f" (and {rest} more problem{'s' if rest > 1 else ''} in this file)"
        super().__init__(each[0].message + more, remedy=each[0].remedy)
        self.each = each

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.each)


class TransportError(HarnessError):
    """A host or guest could not be reached, or a command broke off before it ended."""


class CommandTimeout(TransportError):
    """A command did not end within its deadline."""


class ParseError(HarnessError):
    """A transcript does not hold what its parser needs (truncated, foreign or hostile text)."""


class ProvisionError(HarnessError):
    """A guest could not be defined or started, or libvirt does not say how it is."""


class BootError(ProvisionError):
    """A guest that was started ended in its boot, or did not answer in time, while its host did."""


class GuestDied(HarnessError):
    """A guest ended, or stopped to answer for good, before anybody asked it to: no wait on it may go on."""


class ClaimError(HarnessError):
    """A device or host is held by another run; the message names that run."""


class ReleaseError(HarnessError):
    """Something acquired on a host could not be given back."""


class WorkloadError(HarnessError):
    """A workload could not be prepared, started or collected. A wrong answer is a result, not this."""


class LabError(HarnessError):
    """The emulated candidate host could not be built, booted or reached."""


class HostEnded(HarnessError):
    """A host that was started for this run (the lab) ended under it: the cause of all that broke after."""


class ImageError(HarnessError):
    """A disk image could not be built, found or verified."""


class RecordError(HarnessError):
    """A run directory is damaged, truncated or of an unknown version."""


def why(error: BaseException) -> str:
    """What a foreign exception says, in words: its class is for tracebacks, not for who reads a message."""
    if isinstance(error, KeyError):
        return f"{error} is missing"
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or "no reason was given"
