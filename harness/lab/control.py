"""The lab as a HostControl: up, reset and down, safe to call again after being killed anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from harness.errors import LabError
from harness.identity import ProcessId, is_here, is_running
from harness.images.cache import cache_root, discard, remove_tree
from harness.images.qemu import find_qemu
from harness.lab import access, boot, process
from harness.lab.accel import choose_accelerator
from harness.lab.boot import Recipe
from harness.lab.build import ensure_host_image
from harness.lab.ending import keep_words, kept_in, read_end, told
from harness.lab.state import (
    LabDirectory,
    LabState,
    lab_directory,
    lab_lock,
    list_labs,
    read_state,
    running_state,
    write_state,
)
from harness.model.evidence import Engine
from harness.model.inventory import LabFile, SshAccess
from harness.ports import HostEnd

_ANSWER_SECONDS = 60.0
_EMULATED = "software emulation: rates and times say nothing about hardware"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabStatus:
    """What is known of one lab."""

    name: str
    instance: int
    running: bool
    directory: str
    ssh: SshAccess | None
    engine: Engine
    started_at: str | None
    process: ProcessId | None = None
    """Its QEMU; None when it does not run."""
    ended: str = ""
    """How it ended, where it did so by itself."""


class LabControl:
    """HostControl of one instance of a lab description."""

    def __init__(
        self, lab: LabFile, instance: int = 0, *, cache: Path | None = None, state: Path | None = None
    ) -> None:
        self._lab = lab
        self._instance = instance
        self._cache = cache or cache_root()
        self._directory = lab_directory(lab.name, instance, root=state)
        self._reached: ProcessId | None = None

    def ensure_up(self, progress: Callable[[str], None]) -> SshAccess:
        """Make the lab answer SSH and say how to reach it: 2 s from its snapshot, minutes the first time.

        Raises LabError or ImageError; a lab that runs from another description is never touched.
        """
        recipe = self._recipe(progress)
        with lab_lock(self._directory, progress):
            state = running_state(self._directory)
            if state is not None and state.ready:
                reach = self._reach_running(state, recipe, progress)
                if reach is not None:
                    self._reached = state.process
                    return reach
            kept = boot.ensure_snapshot(recipe, progress, root=self._cache)
            return self._start(recipe, kept, progress)

    def as_it_is(self) -> SshAccess:
        """How to reach the lab that runs; nothing is built or started. Raises LabError when none does."""
        found = status_of(self._directory, self._lab.name, self._instance)
        if found.ssh is None:
            raise LabError(
                f"lab {self._lab.name} is not running, and this command starts and builds nothing",
                remedy=f"shakedown lab up {self._lab.name}, then again",
            )
        self._reached = found.process
        return found.ssh

    def reset(self, progress: Callable[[str], None]) -> SshAccess:
        """Back to the snapshot, on the same SSH port and with the same keys. Raises LabError."""
        recipe = self._recipe(progress)
        with lab_lock(self._directory, progress):
            state = read_state(self._directory)
            kept = boot.ensure_snapshot(recipe, progress, root=self._cache)
            port = state.port if state is not None else None
            return self._start(recipe, kept, progress, port=port)

    def discard_snapshot(self, progress: Callable[[str], None]) -> None:
        """Stop the lab and forget its snapshot, so that the next start boots from the image."""
        self.down(progress)
        discard("lab-snapshot", self._recipe(progress).digest, progress, root=self._cache)

    def down(self, progress: Callable[[str], None]) -> None:
        """Stop the lab and remove everything of it: process, port, files. Safe to call twice."""
        take_down(self._directory, progress)

    def engine(self) -> Engine:
        """How the lab runs and what that cannot show; says so when it is not running."""
        return engine_of(running_state(self._directory))

    def ended(self) -> HostEnd | None:
        """How the QEMU ended that was reached by this object; None while it runs."""
        if self._reached is None:
            return None
        end = read_end(self._directory, self._reached)
        if end is None:
            return None
        if not self._directory.path.exists():
            return HostEnd(
                message=f"the lab's QEMU ended: lab {self._lab.name} was stopped by someone else",
                remedy="run again; `shakedown lab down` ends every run on that lab",
                log=b"",
            )
        return told(self._directory, end, kept=kept_in(self._directory))

    def stays(self) -> str:
        """A lab stays up for the next run, which then takes seconds to reach it; one that ended does not."""
        if self._reached is not None and not is_running(self._reached):
            return ""
        name, number = self._lab.name, f" --instance {self._instance}" if self._instance else ""
        return f"lab {name} stays up for the next run; stop it with: shakedown lab down {name}{number}"

    def _recipe(self, progress: Callable[[str], None]) -> Recipe:
        tool = find_qemu(progress, root=self._cache)
        image = ensure_host_image(self._lab.disk_gib, progress, root=self._cache)
        accelerator = choose_accelerator(tool, image.kernel, self._cache, progress)
        return Recipe(
            lab=self._lab,
            tool=tool,
            image=image,
            accelerator=accelerator,
            images=self._cache / "guest-images",
        )

    def _reach_running(
        self, state: LabState, recipe: Recipe, progress: Callable[[str], None]
    ) -> SshAccess | None:
        """Access to the lab that runs already; None when it does not answer and must be started again."""
        if state.snapshot != recipe.digest:
            raise LabError(
                f"lab {self._lab.name} instance {self._instance} runs with a different description",
                remedy=f"shakedown lab down {self._lab.name}, or choose another --instance",
            )
        reach = access.pin(self._directory.keys, state.port, self._directory.known_hosts)
        try:
            access.wait_for_ssh(
                reach,
                alive=lambda: running_state(self._directory) is not None,
                deadline=_ANSWER_SECONDS,
                waiting=lambda seconds: progress(f"lab is running, waiting for SSH: {seconds:.0f} s"),
            )
        except LabError as error:
            progress(f"the running lab does not answer ({error.message}); starting it again")
            return None
        return reach

    def _start(
        self, recipe: Recipe, kept: Path | None, progress: Callable[[str], None], *, port: int | None = None
    ) -> SshAccess:
        directory = self._directory
        _stop(directory, progress)
        directory.state_file.unlink(missing_ok=True)  # nobody is to ask how a machine ended that we stopped
        keep_keys = port is not None and directory.keys.identity.exists() and directory.keys.host_key.exists()
        if not keep_keys:
            remove_tree(directory.path)
        directory.path.mkdir(mode=0o700, exist_ok=True)

        def started(running: ProcessId, ssh_port: int) -> None:
            write_state(directory, self._state(recipe, running, ssh_port))

        reach = boot.start(recipe, kept, directory, started, progress, port=port)
        state = read_state(directory)
        if state is None:
            raise LabError(f"{directory.state_file} disappeared while the lab started")
        self._reached = state.process
        write_state(directory, replace(state, ready=True))
        tool, accelerator = recipe.tool, recipe.accelerator
        progress(
            f"lab {directory.path.name} is up: SSH port {reach.port}, QEMU {tool.version_text} "
            f"({tool.source}), {accelerator.name}: {accelerator.reason}"
        )
        return reach

    def _state(self, recipe: Recipe, running: ProcessId, port: int) -> LabState:
        emulated = (_EMULATED,) if recipe.accelerator.name == "tcg" else ()
        return LabState(
            name=self._lab.name,
            instance=self._instance,
            snapshot=recipe.digest,
            process=running,
            port=port,
            accelerator=recipe.accelerator.name,
            reason=recipe.accelerator.reason,
            qemu=f"{recipe.tool.version_text} ({recipe.tool.source})",
            limits=(*recipe.tool.limits, *emulated),
            started_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        )


def engine_of(state: LabState | None) -> Engine:
    """The Engine that a state describes."""
    if state is None:
        return Engine(description="lab, not running")
    return Engine(
        description=f"lab under QEMU {state.qemu}, {state.accelerator} ({state.reason})",
        accelerator=state.accelerator,
        limits=state.limits,
    )


def take_down(directory: LabDirectory, progress: Callable[[str], None]) -> None:
    """Stop what runs in a lab's directory and remove it; nothing there is fine. Raises LabError."""
    with lab_lock(directory, progress):
        _stop(directory, progress)
        remove_tree(directory.path)


def _stop(directory: LabDirectory, progress: Callable[[str], None]) -> None:
    """Stop what runs; what ended by itself is told, and its last words are kept."""
    state = read_state(directory)
    end = ended_by_itself(directory, state)
    if end is not None:
        progress(f"{end.message}; kept in {keep_words(directory, end)}")
    running = state is not None and is_running(state.process)
    process.stop(directory.monitor, state.process if state is not None and running else None)


def ended_by_itself(directory: LabDirectory, state: LabState | None) -> HostEnd | None:
    """How the machine of a lab ended that nobody stopped; None for one that runs, or that ran before this
    computer was started, or in another container."""
    if state is None or not state.ready or not is_here(state.process):
        return None
    end = read_end(directory, state.process)
    return None if end is None else told(directory, end, kept=kept_in(directory))


def status_of(directory: LabDirectory, name: str, instance: int) -> LabStatus:
    """What is known of the lab in ``directory`` without touching it."""
    known = read_state(directory)
    end = ended_by_itself(directory, known)
    state = running_state(directory)
    reach = None
    if state is not None:
        reach = SshAccess(
            address="127.0.0.1",
            port=state.port,
            identity_file=str(directory.keys.identity),
            known_hosts=str(directory.known_hosts),
        )
    return LabStatus(
        name=name,
        instance=instance,
        running=state is not None,
        directory=str(directory.path),
        ssh=reach,
        engine=engine_of(state),
        started_at=state.started_at if state is not None else None,
        process=state.process if state is not None else None,
        ended=end.message if end is not None else "",
    )


def all_status(*, root: Path | None = None) -> tuple[LabStatus, ...]:
    """Every lab that has a directory, running or not."""
    return tuple(
        status_of(lab_directory(name, instance, root=root), name, instance)
        for name, instance in list_labs(root=root)
    )
