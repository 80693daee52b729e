"""The GPU as a PCI function: driver, configuration space, power, BARs, left-over virtual functions."""

from __future__ import annotations

from harness.checks.answers import failed, gpu, host_facts, listing, of_device, ok, present_or_gone, seen
from harness.checks.base import WITH_GUESTS, Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.model.attachment import Observable
from harness.model.outcome import Action, CheckResult, Measurement
from harness.model.topology import Bar, PciDevice
from harness.placement.virtual import VFIO_DRIVERS, split_words
from harness.vendors.names import who_waits

_GIB = 1 << 30
_DEAD_HEADER = 0x7F
"""Header type of a device whose configuration space reads all ones (libvirt: "Unknown PCI header type")."""
_RECOVER = (
    "power the host off and on (a reboot may not be enough); if it comes back, reseat the card and read the "
    "kernel log for AER; then replace it"
)


def _driver(case: Case, subject: Subject) -> CheckResult:
    device = gpu(case, subject)
    evidence = (
        seen(case, of_device(device.address, "driver"), device.driver),
        seen(case, of_device(device.address, "driver_override"), device.driver_override),
    )
    if device.driver is not None and device.driver not in VFIO_DRIVERS:
        return failed(
            f"host driver {device.driver} is bound to the GPU",
            _release_driver(device),
            Action.FIX_CONFIG,
            evidence=evidence,
        )
    if device.driver_override and device.driver_override not in VFIO_DRIVERS:
        return failed(
            f"driver_override reserves the GPU for {device.driver_override}",
            f"echo > /sys/bus/pci/devices/{device.address}/driver_override",
            Action.FIX_CONFIG,
            evidence=evidence,
        )
    return ok(f"free for VFIO (driver: {device.driver or 'none'})", evidence=evidence)


def _release_driver(device: PciDevice) -> str:
    waits = who_waits(device.driver)
    stop = f"stop the processes that use it first ({waits.stop_users}), then " if waits is not None else ""
    return f"{stop}driverctl set-override {device.address} vfio-pci"


def _config_space(case: Case, subject: Subject) -> CheckResult:
    device = present_or_gone(case, subject)
    looks: list[tuple[str, PciDevice | None]] = [("before", device)]
    if case.evidence.facts_after is not None:
        looks.append(("after", case.evidence.facts_after.device(device.address)))
    for when, look in looks:
        evidence = (seen(case, of_device(device.address, "config_ok"), look, after=when == "after"),)
        if look is None or look.vanished:
            message = f"the GPU is gone from the bus ({when} the guests)"
            return failed(message, _RECOVER, Action.RESTART_HOST, evidence=evidence)
        if look.config_ok is False or (look.header_type is not None and look.header_type == _DEAD_HEADER):
            message = f"configuration space reads all ones ({when} the guests): the GPU fell off the bus"
            return failed(message, _RECOVER, Action.RESTART_HOST, evidence=evidence)
    blind = [when for when, look in looks if look is None or look.config_ok is None]
    if blind:
        raise MissingEvidence(f"configuration space could not be read {blind[0]} the guests")
    if len(looks) == 1 and _was_used(case):
        raise MissingEvidence("the GPU was not read again after the guests")
    place = of_device(device.address, "config_ok")
    return ok("configuration space answers", evidence=(seen(case, place, device.config_ok),))


def _was_used(case: Case) -> bool:
    """Whether any guest of the run began: then only a look afterwards tells what became of the GPU."""
    return any(guest.started for guest in case.evidence.guests)


def _power(case: Case, subject: Subject) -> CheckResult:
    device = gpu(case, subject)
    after = case.evidence.facts_after
    later = after.device(device.address) if after is not None else None
    states = [device.power_state, later.power_state if later is not None else None]
    evidence = tuple(
        seen(case, of_device(device.address, "power_state"), state, after=index == 1)
        for index, state in enumerate(states)
    )
    if "D3cold" in states:
        return failed(
            "the GPU is in D3cold: it may not wake for the next guest",
            f"echo on > /sys/bus/pci/devices/{device.address}/power/control, and set disable_idle_d3=1 for "
            "vfio_pci in /etc/modprobe.d; if it stays, power the host off and on",
            Action.FIX_CONFIG,
            evidence=evidence,
        )
    if states[0] is not None:
        return ok(f"power state {states[0]}", evidence=evidence)
    # The kernel names no state for functions without the power management capability. A function in D3cold
    # answers all ones, so configuration space tells as well.
    if device.config_ok is not True or (later is not None and later.config_ok is not True):
        raise MissingEvidence("neither the power state nor configuration space could be read")
    return ok(
        "the kernel names no power state; configuration space answers, so it is awake", evidence=evidence
    )


def _prefetchable(bars: tuple[Bar, ...]) -> int:
    return sum(bar.size for bar in bars if bar.is_64bit and bar.prefetchable)


def _bars(case: Case, subject: Subject) -> CheckResult:
    facts, device = host_facts(case), gpu(case, subject)
    own = tuple(bar for bar in device.bars if bar.size > 0 and not bar.io and bar.index < 6)
    evidence = (seen(case, of_device(device.address, "bars"), listing(list(device.bars))),)
    if not own:
        return failed(
            "no memory BAR is assigned: drivers see BAR0 of 0 M",
            "enable Above 4G Decoding (and Resizable BAR support) in the firmware setup, add pci=realloc "
            "to the kernel command line, and reboot",
            Action.FIX_FIRMWARE,
            evidence=evidence,
        )
    bits = facts.physical_address_bits
    if bits is None:
        raise MissingEvidence("the CPU's physical address width could not be read")
    total = sum(_prefetchable(g.bars) for g in case.gpus(facts))
    # KubeVirt's rule: all 64-bit prefetchable BARs plus 1 GiB, rounded up to a power of two. The window lies
    # above the guest's memory, so it may take half of the address space at most.
    window = 1 << (total + _GIB - 1).bit_length()
    measured = (
        Measurement(
            name="pci.mmio_window_needed", value=float(window), unit="B", upper=float(1 << (bits - 1))
        ),
    )
    if window > 1 << (bits - 1):
        return failed(
            f"all GPUs need an MMIO window of {window // _GIB} GiB, too much for {bits} address bits",
            "use a CPU with wider physical addresses, or shrink the BARs (resource*_resize)",
            Action.FIX_CONFIG,
            evidence=evidence,
            measurements=measured,
        )
    message = f"{len(own)} memory BARs; all GPUs need a window of {window // _GIB} GiB of {bits} address bits"
    return ok(message, evidence=evidence, measurements=measured)


def _no_vfs(case: Case, subject: Subject) -> CheckResult:
    device = gpu(case, subject)
    evidence = (seen(case, of_device(device.address, "sriov_numvfs"), device.sriov_numvfs),)
    words, in_use = split_words(host_facts(case), device)
    if words:
        first = "stop the guests and drivers that use them, then " if in_use else ""
        return failed(
            f"the GPU {words}",
            f"{first}echo 0 > /sys/bus/pci/devices/{device.address}/sriov_numvfs",
            Action.FIX_CONFIG,
            evidence=evidence,
        )
    if device.sriov_numvfs is None and device.sriov_totalvfs:
        raise MissingEvidence("the GPU has SR-IOV, but the number of virtual functions could not be read")
    return ok("no virtual functions are enabled", evidence=evidence)


CHECKS = (
    Check(
        id="gpu.driver_state",
        title="Is the GPU free of host drivers?",
        why="A driver that still uses the GPU can hang the host when the GPU is detached.",
        scope=Scope.GPU,
        phase=Phase.READINESS,
        needs=(*WITH_GUESTS, Observable.FUNCTION),
        judge=_driver,
    ),
    Check(
        id="gpu.config_space",
        title="Does the GPU answer on the bus, before and after the guests?",
        why="All ones mean that the card fell off the bus; nothing else about it can be trusted then.",
        scope=Scope.GPU,
        phase=Phase.AFTERWARDS,
        needs=(Observable.FUNCTION,),
        judge=_config_space,
    ),
    Check(
        id="gpu.power_state",
        title="Is the GPU awake?",
        why="GPUs that drop to D3cold between guests may not wake again (kata-containers#11708).",
        scope=Scope.GPU,
        phase=Phase.AFTERWARDS,
        needs=(Observable.FUNCTION,),
        judge=_power,
    ),
    Check(
        id="gpu.bars",
        title="Are the GPU's memory BARs assigned, and do they fit into a guest's address space?",
        why="A guest whose window is too small loses GPUs one by one (lxd#14381).",
        scope=Scope.GPU,
        phase=Phase.READINESS,
        needs=(Observable.FUNCTION,),
        judge=_bars,
    ),
    Check(
        id="gpu.no_virtual_functions",
        title="Is the GPU whole (no SR-IOV virtual functions enabled)?",
        why="A left-over mode changes the device that the next tenant gets.",
        scope=Scope.GPU,
        phase=Phase.READINESS,
        needs=(Observable.CARD,),
        judge=_no_vfs,
    ),
)
