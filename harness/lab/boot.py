"""Boot a lab host once and keep it; start later ones from what was kept."""

from __future__ import annotations

import contextlib
import inspect
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from harness.cleanups import Cleanups, notes, undone_if_broken
from harness.errors import LabError
from harness.identity import ProcessId, is_running, read_birth
from harness.images import cache
from harness.images.cache import check_space
from harness.images.processes import tail
from harness.images.qemu import QemuTool
from harness.lab import access, machine, process, snapshot
from harness.lab.accel import Accelerator
from harness.lab.build import HostImage
from harness.lab.ending import read_end
from harness.lab.machine import MachinePaths
from harness.lab.state import LabDirectory
from harness.model.inventory import LabFile, SshAccess

_ATTEMPTS = 3
"""QEMU under TCG now and then fails an assertion (``iotlb_to_section``) while the kernel sets up PCI."""
_BOOT_SECONDS = 300.0
_SETTLE_SECONDS = 400.0
_RESTORED_SECONDS = (20.0, 60.0, 60.0)
"""For each attempt: a machine that hangs after loading (seen once in 80) is given up early the first time."""
_SNAPSHOT_MIB = 2500
_RUNNING_MIB = 1000

_WAIT_FOR_STATE = ("-incoming", "defer", "-S")

_SETTLE = """\
set -u
state=$(systemctl is-system-running --wait)
if [ "$state" != running ]; then
    echo "the host is $state:" >&2
    systemctl --no-legend --plain list-units --failed >&2
    exit 1
fi
udevadm settle
# libvirt probes QEMU at first use, for tens of seconds under emulation: once, here.
virsh -q -c qemu:///system version >/dev/null || exit 1
virsh -q -c qemu:///system capabilities >/dev/null || exit 1
virsh -q -c qemu:///system domcapabilities --machine q35 >/dev/null
lspci -vv >/dev/null
numactl -H >/dev/null
sync
exit 0
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that makes a lab host."""

    lab: LabFile
    tool: QemuTool
    image: HostImage
    accelerator: Accelerator
    images: Path
    """Directory of guest images, shared read-only with the lab host as ``/srv/images``."""

    @property
    def digest(self) -> str:
        """Hash of image, command line, QEMU version and, under KVM, the processor's features."""
        arguments = machine.machine_arguments(self.lab, machine.ANYWHERE, accelerator=self.accelerator.name)
        processor = _processor_features() if self.accelerator.name == "kvm" else ""
        return cache.recipe_hash(
            "lab-snapshot",
            self.image.digest,
            self.tool.version_text,
            processor,
            *arguments,
            _SETTLE,
            inspect.getsource(snapshot),
        )


def _processor_features() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    return next((line for line in lines if line.startswith("flags")), "")


def check_engine(recipe: Recipe) -> None:
    """Refuse what is known to hang. Raises LabError with the way out."""
    stalls = recipe.lab.interrupt_remapping and recipe.lab.iommu != "none"
    if stalls and recipe.accelerator.name == "tcg" and recipe.tool.version >= (10, 0):
        raise LabError(
            f"lab {recipe.lab.name} uses interrupt remapping, which stalls the kernel under QEMU "
            f"{recipe.tool.version_text} and TCG",
            remedy="set interrupt_remapping: false in the lab file, or use a machine with working KVM",
        )


def ensure_snapshot(
    recipe: Recipe, progress: Callable[[str], None], *, root: Path | None = None
) -> Path | None:
    """The kept machine, made by booting once when there is none; None when QEMU cannot keep such a machine.

    Raises LabError or ImageError.
    """
    check_engine(recipe)
    if not machine.can_be_kept(recipe.lab):
        return None

    def build(work: Path) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                _boot_and_save(recipe, LabDirectory(path=work), progress)
            except LabError as error:
                if attempt == _ATTEMPTS:
                    raise
                progress(f"boot {attempt} of {_ATTEMPTS} failed, trying again: {error.message}")
            else:
                break
        cache.prune("lab-snapshot", progress, root=root)

    return cache.ensure("lab-snapshot", recipe.digest, build, progress, need_mib=_SNAPSHOT_MIB, root=root)


def _boot_and_save(recipe: Recipe, work: LabDirectory, progress: Callable[[str], None]) -> None:
    disk = work.path / snapshot.DISK
    work.log.write_bytes(b"")
    _overlay(recipe.tool, recipe.image.disk, disk)
    with Cleanups() as stack:
        stack.callback(process.stop, work.monitor)
        started, reach = _start(recipe, work, disk, (), tied=True)
        with _last_words_told(work):
            _boot(recipe, work, started, reach, progress)
            progress("keeping the booted machine")
            snapshot.save(work.monitor, work.path, recipe.tool.version)
    for secret in (work.keys.identity, work.keys.host_key, work.keys.authorized_key, work.known_hosts):
        secret.unlink()


def _boot(
    recipe: Recipe,
    directory: LabDirectory,
    running: ProcessId,
    reach: SshAccess,
    progress: Callable[[str], None],
) -> None:
    progress(f"booting the lab host under {recipe.accelerator.name} ({recipe.accelerator.reason})")
    access.wait_for_ssh(
        reach,
        alive=lambda: is_running(running),
        deadline=_BOOT_SECONDS,
        waiting=lambda seconds: progress(f"lab host boots: {seconds:.0f} s"),
    )
    progress("lab host answers SSH; waiting until its services are up")
    _settle(reach, directory)


def _settle(reach: SshAccess, work: LabDirectory) -> None:
    settled = access.run(reach, _SETTLE, deadline=_SETTLE_SECONDS)
    if settled.returncode != 0:
        said = settled.stderr.decode("utf-8", "backslashreplace").strip()
        raise LabError(
            f"the lab host's services did not come up: {said[-500:]}", remedy=f"see {work.serial_log}"
        )


def start(
    recipe: Recipe,
    kept: Path | None,
    directory: LabDirectory,
    started: Callable[[ProcessId, int], None],
    progress: Callable[[str], None],
    *,
    port: int | None = None,
) -> SshAccess:
    """Start a machine in ``directory`` and wait until it answers SSH.

    From the kept one that takes 2 s on an idle computer; without one the host boots, for about a minute.

    ``started`` hears of the process and its SSH port before anything else can go wrong. ``port`` is used
    again when it is still free. Raises LabError.
    """
    check_space(directory.path, _RUNNING_MIB, what="starting a lab")
    failure: LabError | None = None
    for attempt, seconds in enumerate(_RESTORED_SECONDS, 1):
        try:
            with undone_if_broken(lambda: process.stop(directory.monitor)), _last_words_told(directory):
                return _restore(
                    recipe,
                    kept,
                    directory,
                    started,
                    progress,
                    port=port if attempt == 1 else None,
                    deadline=seconds,
                )
        except LabError as error:
            failure = error
            progress(f"start {attempt} of {len(_RESTORED_SECONDS)} failed: {error.message}")
            if notes(error):
                break  # the machine of this attempt could not be stopped
    raise failure or LabError("no attempt was made")


def _restore(
    recipe: Recipe,
    kept: Path | None,
    directory: LabDirectory,
    started: Callable[[ProcessId, int], None],
    progress: Callable[[str], None],
    *,
    port: int | None,
    deadline: float,
) -> SshAccess:
    backing = recipe.image.disk if kept is None else kept / snapshot.DISK
    extra = () if kept is None else _WAIT_FOR_STATE
    _overlay(recipe.tool, backing, directory.disk)
    running, reach = _start(recipe, directory, directory.disk, extra, tied=False, port=port)
    started(running, reach.port)
    if kept is not None:
        snapshot.load(directory.monitor, kept, recipe.tool.version)
    else:
        _boot(recipe, directory, running, reach, progress)
    numbers = machine.nvme_devices(recipe.lab)
    for number in numbers:
        with directory.nvme(number).open("wb") as file:
            file.truncate(machine.NVME_MIB * 1024 * 1024)
    snapshot.plug_nvme(directory.monitor, numbers, {number: directory.nvme(number) for number in numbers})
    access.wait_for_ssh(
        reach,
        alive=lambda: is_running(running),
        deadline=deadline,
        waiting=lambda seconds: progress(f"resuming the lab host: {seconds:.0f} s"),
    )
    if numbers:
        snapshot.wait_for_devices(len(numbers), lambda: _count_nvme(reach), deadline=deadline)
    return reach


def _count_nvme(reach: SshAccess) -> int:
    done = access.run(reach, "ls /sys/class/nvme 2>/dev/null | wc -l", deadline=20.0)
    text = done.stdout.strip()
    return int(text) if text.isdigit() else 0


def _start(
    recipe: Recipe,
    directory: LabDirectory,
    disk: Path,
    extra: tuple[str, ...],
    *,
    tied: bool,
    port: int | None = None,
) -> tuple[ProcessId, SshAccess]:
    keys = directory.keys if directory.keys.identity.exists() else access.make_keys(directory.path)
    recipe.images.mkdir(parents=True, exist_ok=True)
    paths = MachinePaths(
        disk=disk,
        kernel=recipe.image.kernel,
        initrd=recipe.image.initrd,
        images=recipe.images,
        monitor=directory.monitor,
        serial_log=directory.serial_log,
        authorized_key=keys.authorized_key,
        host_key=keys.host_key,
        ssh_port=port or process.free_port(),
    )
    arguments = machine.machine_arguments(recipe.lab, paths, accelerator=recipe.accelerator.name)
    firmware = tuple(part for path in recipe.tool.data_dirs for part in ("-L", str(path)))
    running = process.start(
        recipe.tool.command,
        (*firmware, *arguments, *extra),
        monitor=directory.monitor,
        log=directory.log,
        die_with_parent=tied,
    )
    reach = access.pin(keys, paths.ssh_port, directory.known_hosts)
    return running, replace(reach, connect_timeout_seconds=10.0)


def _overlay(tool: QemuTool, backing: Path, disk: Path) -> None:
    disk.unlink(missing_ok=True)
    argv = [*tool.image_command, "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(backing), str(disk)]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60)
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "backslashreplace").strip()
        raise LabError(f"qemu-img could not make {disk}: {said}")


@contextlib.contextmanager
def _last_words_told(directory: LabDirectory) -> Iterator[None]:
    """What breaks in the block is told with how QEMU ended, if it did, and what it said last."""
    try:
        yield
    except LabError as error:
        raise LabError(f"{error.message} ({_last_words(directory)})", remedy=error.remedy) from error


def _last_words(directory: LabDirectory) -> str:
    """The last thing QEMU or the host's console said, for an error message."""
    born = read_birth(process.birth_file(directory.monitor))
    end = read_end(directory, born) if born is not None else None
    ended = f"QEMU ended: {end.how}; " if end is not None else ""
    for file in (directory.log, directory.serial_log):
        said = tail(file)
        if said:
            return f"{ended}{file.name}: {said[-400:]}"
    return f"{ended}QEMU and the console printed nothing"
