"""Recorder: what stages and transports call to write down what they learn, one method a kind of event.

Every method returns after the event is on disk. Values go in as they are and come back from
``harness.record.assemble`` equal to what went in.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import harness
from harness.errors import RecordError
from harness.model.death import GuestDeath
from harness.model.evidence import (
    Asked,
    Engine,
    LedgerRow,
    Reference,
    ReleaseEvidence,
    ResetTrial,
    ResidueTrial,
    StageError,
    SystemAnswer,
    WorkloadResult,
)
from harness.model.gpu import Cards
from harness.model.guest import GuestDemand
from harness.model.inventory import HostFile, Profile, Waiver
from harness.model.placement import NoPlan, ObservedPlacement, PlacementLook, PlacementPlan
from harness.model.record import SCHEMA_VERSION
from harness.model.sku import Sku
from harness.model.telemetry import GuestTelemetry, HostTelemetry
from harness.model.topology import HostFacts
from harness.ports import Clock, CommandResult
from harness.record.directory import DOMAIN, RECORD, TRANSCRIPTS, RunDirectory, new_run_id
from harness.record.events import EventLog, read_events
from harness.record.files import make_folders, safe_name, sha256_bytes, write_whole
from harness.record.kinds import Kind
from harness.record.notes import read_notes, taken_notes
from harness.record.transcripts import Transcript, to_bytes
from harness.regular import sha256_of
from harness.serial import to_data


def shakedown_version() -> str:
    """Version of this code, as frozen into the record."""
    return getattr(harness, "__version__", None) or _installed_version()


def _installed_version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415  costs 20 ms, used once

    try:
        return version("shakedown")
    except PackageNotFoundError:
        return "unknown"


class Recorder:
    """One run's open record. Methods raise RecordError when the disk refuses: a run must not go on blind."""

    def __init__(self, directory: RunDirectory, log: EventLog, clock: Clock) -> None:
        self.directory = directory
        self.log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._taken: set[str] | None = None
        """Files of the notes that the events hold; None until it was asked for."""
        self._explain: Callable[[StageError], StageError] | None = None
        self._explained: set[StageError] = set()
        self._transcripts = sum(1 for _ in (directory.path / TRANSCRIPTS).glob("*"))

    @classmethod
    def begin(
        cls,
        root: Path,
        *,
        host: HostFile,
        profile: Profile,
        waivers: tuple[Waiver, ...],
        skus: tuple[Sku, ...] = (),
        guests: tuple[GuestDemand, ...] = (),
        clock: Clock,
        run_id: str = "",
        command: tuple[str, ...] = (),
        versions: Mapping[str, str] | None = None,
    ) -> Recorder:
        """Create ``root/<host>/<run id>`` and freeze the inputs of the run into its first event.

        ``guests`` are all that the run must try: what is demanded is what was first asked for. ``versions``
        names the software the controller used. Raises RecordError when the directory exists.
        """
        run = run_id or new_run_id(clock.now())
        directory = RunDirectory.create(root, host.name, run)
        recorder = cls(directory, EventLog(directory.events, clock), clock)
        data = {
            "schema_version": SCHEMA_VERSION,
            "run": run,
            "host": to_data(host),
            "profile": to_data(profile),
            "waivers": [to_data(waiver) for waiver in waivers],
            "skus": [to_data(sku) for sku in skus],
            "guests": [to_data(guest) for guest in guests],
            "shakedown_version": shakedown_version(),
            "command": list(command),
            "versions": dict(versions or {}),
        }
        recorder.log.append(Kind.RUN_START, data)
        return recorder

    @classmethod
    def resume(cls, path: Path, clock: Clock) -> Recorder:
        """Go on with a killed run: its next attempt begins.

        Raises ConfigError for a foreign directory, RecordError for a run that has ended.
        """
        directory = RunDirectory.open(path)
        if os.path.lexists(directory.record):
            raise RecordError(
                f"{path} has ended: it has a {RECORD}, and a verdict is final",
                remedy=f"shakedown judge {path}; or start a new run",
            )
        log, cut = EventLog.reopen(directory.events, clock)
        recorder = cls(directory, log, clock)
        data = {"torn_bytes": cut, "shakedown_version": shakedown_version(), "command": list(sys.argv)}
        recorder.log.append(Kind.RUN_RESUMED, data)
        return recorder

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.directory.path

    def close(self) -> None:
        """Close the event log as it is, without an end; safe to call twice and after ``finish``."""
        self.log.close()

    # -- files ---------------------------------------------------------------------------------------

    def save_file(self, relative: str, data: bytes) -> str:
        """Store an evidence file whole, with its hash in the events; returns ``relative``.

        A name that is taken gets a number: evidence is never overwritten.
        """
        self.log.require_writer()
        with self._lock:
            relative = self._free_name(relative)
            path = self.directory.file(relative)
            make_folders(path.parent, like=self.directory.path)
            write_whole(path, data)
            self.log.append(Kind.FILE, {"file": relative, "sha256": sha256_bytes(data), "bytes": len(data)})
        return relative

    def file_path(self, relative: str) -> Path:
        """Where an evidence file that grows while the run goes on is written; see ``adopt``.

        A name that is taken gets a number: a killed run that is resumed has begun one already.
        """
        self.log.require_writer()
        path = self.directory.file(self._free_name(relative))
        make_folders(path.parent, like=self.directory.path)
        return path

    def adopt(self, path: Path) -> str:
        """Take a file of ``file_path`` into the record, as it is now: nothing may be written to it any more.
        Returns its path in the run directory. Raises RecordError when it cannot be read.
        """
        self.log.require_writer()
        relative = path.relative_to(self.path).as_posix()
        try:
            with self._lock:
                data = {"file": relative, "sha256": sha256_of(path), "bytes": path.stat().st_size}
                self.log.append(Kind.FILE, data)
        except OSError as error:
            raise RecordError(f"evidence file {relative} cannot be read: {error}") from error
        return relative

    def save(self, label: str, argv: tuple[str, ...], stdin_len: int, result: CommandResult) -> str:
        """Store a finished command before anyone parses it; returns its path in the run directory.

        What transports call (``harness.backends.process.Recorder``): of the standard input only the length is
        kept.
        """
        self.log.require_writer()  # before the lock, which a fork may have got in the middle of its use
        transcript = Transcript(
            label=label,
            argv=argv,
            status=result.status,
            seconds=result.seconds,
            at=self._clock.now(),
            stdin_bytes=stdin_len,
            stdin=b"",
            stdout=result.stdout,
            stderr=result.stderr,
        )
        with self._lock:
            self._transcripts += 1
            number = self._transcripts
        name = safe_name(label or (argv[0] if argv else ""))
        return self.save_file(f"{TRANSCRIPTS}/{number:04d}-{name}.txt", to_bytes(transcript))

    def save_domain_xml(self, guest: str, xml: str) -> str:
        """Store a domain's XML as ``domain/<guest>.xml``; returns its path in the run directory."""
        return self.save_file(f"{DOMAIN}/{safe_name(guest)}.xml", xml.encode("utf-8", "backslashreplace"))

    def _free_name(self, relative: str) -> str:
        stem, dot, suffix = relative.rpartition(".")
        if not dot or "/" in suffix:
            stem, suffix = relative, ""
        candidate, number = relative, 1
        while self.directory.file(candidate).exists():
            number += 1
            candidate = f"{stem}-{number}{dot}{suffix}"
        return candidate

    # -- the run and its stages ----------------------------------------------------------------------

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Write the start and the end of a stage around the block, with its seconds."""
        begun = self._clock.monotonic()
        self.log.append(Kind.STAGE_START, {"stage": name})
        try:
            yield
        finally:
            self.stage_ended(name, self._clock.monotonic() - begun)

    def stage_ended(self, name: str, seconds: float) -> None:
        """A stage took ``seconds``; a stage that comes again adds to its time."""
        self.log.append(Kind.STAGE_END, {"stage": name, "seconds": round(seconds, 6)})

    def run_ended(self, *, interrupted: bool = False) -> None:
        """All stages are over. Without this event the run counts as interrupted."""
        self.log.append(Kind.RUN_END, {"interrupted": interrupted})

    def ledger(self, rows: Iterable[LedgerRow]) -> None:
        """The tests that were collected, before any of them runs; a resumed run adds its new session's."""
        self.log.append(Kind.LEDGER, {"rows": [to_data(row) for row in rows]})

    def asked(self, answers: Iterable[Asked]) -> None:
        """What tests said, in their order."""
        self.log.append(Kind.ASKED, {"answers": [to_data(answer) for answer in answers]})

    def error(self, error: StageError) -> None:
        """A stage broke."""
        cause = error if self._explain is None else self._explain(error)
        if cause is not error:
            with self._lock:
                if cause in self._explained:
                    return
                self._explained.add(cause)
        self.log.append(Kind.ERROR, {"error": to_data(cause)})

    def explained_by(self, explain: Callable[[StageError], StageError]) -> None:
        """Have ``explain`` look at every error before it is written. The cause that it returns in the place
        of an error is written once, however many errors it explains."""
        self._explain = explain

    def absorb_notes(self) -> tuple[str, ...]:
        """Take the notes that people left since the last call into the events, one event each.

        Returns what of the others is wrong, one sentence each. Cheap and safe to call often.
        """
        with self._lock:
            if self._taken is None:
                # A run that is taken up again knows some already.
                self._taken = set(taken_notes(read_events(self.directory.events).events))
            left = read_notes(self.directory, self._taken)
            for found in left.notes:
                self.log.append(Kind.NOTE, to_data(found))
                self._taken.add(found.file)
        return left.problems

    # -- the host ------------------------------------------------------------------------------------

    def engine(self, engine: Engine) -> None:
        """How the host runs, as its HostControl says."""
        self.log.append(Kind.ENGINE, {"engine": to_data(engine)})

    def facts(self, facts: HostFacts, *, file: str = "", after: bool = False) -> None:
        """What the host says of itself; ``file`` is the transcript; ``after`` marks the end of the run."""
        self.log.append(Kind.FACTS, {"facts": to_data(facts), "file": file, "after": after})

    def system(self, answers: tuple[SystemAnswer, ...]) -> None:
        """Answers to ordinary host questions."""
        self.log.append(Kind.SYSTEM, {"answers": [to_data(answer) for answer in answers]})

    def reference(self, reference: Reference) -> None:
        """The bare run that this run's guests are compared with."""
        self.log.append(Kind.REFERENCE, {"reference": to_data(reference)})

    def reset(self, trial: ResetTrial) -> None:
        """An exercised reset."""
        self.log.append(Kind.RESET, {"trial": to_data(trial)})

    # -- guests --------------------------------------------------------------------------------------

    def guest_planned(self, guest: str, plan: PlacementPlan | NoPlan) -> None:
        """The planner's answer."""
        kind = "plan" if isinstance(plan, PlacementPlan) else "no_plan"
        self.log.append(Kind.GUEST_PLAN, {"guest": guest, kind: to_data(plan)})

    def guest_xml(self, guest: str, file: str, problems: tuple[str, ...] = ()) -> None:
        """The domain XML in ``file`` (see ``save_domain_xml``) and what our own validation found."""
        self.log.append(Kind.GUEST_XML, {"guest": guest, "file": file, "problems": list(problems)})

    def guest_started(self, guest: str) -> None:
        """libvirt started the domain."""
        self.log.append(Kind.GUEST_STARTED, {"guest": guest})

    def guest_reached(self, guest: str, boot_seconds: float) -> None:
        """The guest answered SSH, ``boot_seconds`` after its start."""
        self.log.append(Kind.GUEST_REACHED, {"guest": guest, "boot_seconds": round(boot_seconds, 3)})

    def guest_observed(self, guest: str, observed: ObservedPlacement, files: tuple[str, ...] = ()) -> None:
        """Where the guest really landed; ``files`` are the transcripts it was read from."""
        self.log.append(
            Kind.GUEST_OBSERVED, {"guest": guest, "observed": to_data(observed), "files": list(files)}
        )

    def guest_looked_at(self, guest: str, look: PlacementLook) -> None:
        """Where the guest was at a later moment."""
        self.log.append(Kind.GUEST_LOOKED_AT, {"guest": guest, "look": to_data(look)})

    def guest_died(self, guest: str, death: GuestDeath) -> None:
        """The guest ended before anybody asked it to."""
        self.log.append(Kind.GUEST_DEATH, {"guest": guest, "death": to_data(death)})

    def guest_kernel_log(self, guest: str, lines: tuple[str, ...] | None) -> None:
        """Guest kernel lines of interest at the end; None when they could not be read."""
        self.log.append(
            Kind.GUEST_KERNEL_LOG, {"guest": guest, "lines": None if lines is None else list(lines)}
        )

    def workload(self, result: WorkloadResult) -> None:
        """What one workload brought back from ``result.guest``."""
        self.log.append(Kind.WORKLOAD, {"result": to_data(result)})

    def telemetry(self, telemetry: GuestTelemetry) -> None:
        """What the sampler of ``telemetry.guest`` saw while its loads ran."""
        self.log.append(Kind.TELEMETRY, {"telemetry": to_data(telemetry)})

    def host_telemetry(self, telemetry: HostTelemetry) -> None:
        """What the host's own side showed while loads ran."""
        self.log.append(Kind.HOST_TELEMETRY, {"telemetry": to_data(telemetry)})

    def watch_begins(self, path: Path, guest: str = "") -> None:
        """A file of ``file_path`` grows from now on by what is seen of a guest, or of the host; should the
        controller be killed, a later attempt finds it by this."""
        file = path.relative_to(self.path).as_posix()
        self.log.append(Kind.WATCH, {"file": file, "guest": guest})

    def recovered(self, attempt: int, telemetry: GuestTelemetry | HostTelemetry) -> None:
        """What a killed attempt had watched and could not sum up any more."""
        field = "telemetry" if isinstance(telemetry, GuestTelemetry) else "host_telemetry"
        self.log.append(Kind.RECOVERED, {"attempt": attempt, field: to_data(telemetry)})

    def guest_cards(self, guest: str, cards: Cards) -> None:
        """The devices that the loads of a guest, or of the machine itself, work on."""
        self.log.append(Kind.GUEST_CARDS, {"guest": guest, "cards": to_data(cards)})

    def residue(self, guest: str, trial: ResidueTrial) -> None:
        """Whether an earlier tenant's data was still in the device."""
        self.log.append(Kind.RESIDUE, {"guest": guest, "trial": to_data(trial)})

    def released(self, release: ReleaseEvidence) -> None:
        """The host after ``release.guest`` was given back."""
        self.log.append(Kind.RELEASE, {"release": to_data(release)})
