"""What must hold in an inventory file beyond its shape. Rules note all that is wrong, with file and line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from datetime import date

from harness.attach import ATTACHMENTS
from harness.checks.base import USER
from harness.checks.registry import CHECK_IDS, CHECKS
from harness.config.yaml_source import Loc, YamlSource
from harness.model.inventory import (
    LAB_DEVICES,
    SCENARIO_KEY,
    GroupSpec,
    HostFile,
    LabFile,
    LimitSpec,
    Profile,
    Waiver,
)
from harness.model.outcome import Severity, SubjectKind
from harness.vendors.names import IMAGES
from harness.workloads.registry import NAMES as WORKLOADS

_NEEDS = {check.id: check.needs for check in CHECKS}
_MODES = {mode.name: mode for mode in ATTACHMENTS}
PCI_ID = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
GUEST_IMAGES = ("cpu", *IMAGES, "lab")
"""Kinds of ``harness.images.kinds`` and of the lab; a test compares them."""
_CONTROLS = ("none", "lab", "local")
"""Who starts a host: nobody, the lab, or it is this machine itself (``harness.stages.host.access``)."""
_IOMMUS = ("intel", "amd", "none")
_SPEEDS = (2.5, 5.0, 8.0, 16.0, 32.0, 64.0)
"""GT/s of PCIe generations 1 to 6."""
_WIDTHS = (1, 2, 4, 8, 12, 16, 32)
"""Lanes (PCIe base specification, Maximum Link Width)."""


def check_host(host: HostFile, source: YamlSource) -> None:
    """A host can be reached in exactly one way, and what it lists can be what it says."""
    usable_name(host.name, source)
    _known(host.control.kind, _CONTROLS, source, ("control", "kind"), "control")
    if host.control.kind == "none" and host.ssh is None:
        source.wrong(("ssh",), "the host's access is missing", remedy="add ssh: {address: ...}")
    if host.control.kind == "lab" and not host.control.lab:
        source.wrong(("control", "lab"), "the name of a lab description is missing")
    _gpus(host, source)
    if host.scenario and host.subject is SubjectKind.HARDWARE:
        message = "a host whose subject is hardware cannot use a stand-in of the driver's library"
        source.wrong((SCENARIO_KEY,), message, remedy="set subject: standin, or remove the line")
    if not host.guest_image.endswith(".qcow2"):
        _known(host.guest_image, GUEST_IMAGES, source, ("guest_image",), "guest image")
    if host.guest_image == "lab" and host.control.kind != "lab":
        message = "the image `lab` is for hosts that a lab starts"
        source.wrong(
            ("guest_image",), message, remedy=f"use {' or '.join(IMAGES)}, or cpu for a host without GPUs"
        )
    for key, texts in (("work_dir", (host.work_dir,)), ("image_dirs", host.image_dirs)):
        if any(not text.startswith("/") or not text.isprintable() for text in texts):
            source.wrong((key,), "paths on the host are absolute")


def _gpus(host: HostFile, source: YamlSource) -> None:
    if host.expected_gpus is not None:
        between(host.expected_gpus, 1, 64, source, ("expected_gpus",))
    for index, text in enumerate(host.placement.selector.ids):
        if not PCI_ID.fullmatch(text):
            place = ("placement", "selector", "ids", index)
            source.wrong(place, f"not vendor:device in lower-case hex: {text[:40]!r}")
    for key in ("reserved_cores_per_node", "reserved_memory_mib_per_node"):
        between(getattr(host.placement, key), 0, 1 << 30, source, ("placement", key))
    if host.expected_link is not None:
        link = host.expected_link
        if link.speed_gts is None and link.width is None:
            source.wrong(("expected_link",), "gives neither speed_gts nor width")
        _link(link.speed_gts, link.width, source, ("expected_link",), ("speed_gts", "width"))


def check_profile(profile: Profile, source: YamlSource) -> None:
    """A profile demands something, by names that exist, with limits that can be broken."""
    usable_name(profile.name, source)
    _known(profile.attach, _MODES, source, ("attach",), "attach mode")
    mode = _MODES.get(profile.attach)
    for check in profile.checks:
        if check.startswith(USER):
            _user_test(check, source)
            continue
        _known(check, CHECK_IDS, source, ("checks", check), "check")
        if mode is not None and not mode.observes(_NEEDS.get(check, ())):
            message = f"{check} cannot be asked in attach mode {mode.name}"
            source.wrong(("checks", check), message, remedy="remove the line")
    if Severity.BLOCKER not in profile.checks.values():
        source.wrong(("checks",), "no blocker: this profile would pass any host")
    if not profile.guests:
        source.wrong(("guests",), "no guest is given")
    alone = [(g.gpus, g.together) for g in profile.guests] == [(0, ())]
    if mode is not None and not mode.in_guests and not alone:
        message = f"a {mode.name} profile has exactly one entry, with 0 GPUs"
        source.wrong(("guests",), message)
    _telemetry(profile, source)
    _disturbance(profile, source)
    for index, entry in enumerate(profile.guests):
        _group(entry, source, ("guests", index))
    for at, workload in enumerate(profile.default_workloads):
        _known(workload, WORKLOADS, source, ("default_workloads", at), "workload")
    for workload in profile.workload_parameters:
        # What a workload is given in a mix stands beside what it is given alone: `mix.vram`.
        _known(
            workload.removeprefix("mix."),
            WORKLOADS,
            source,
            ("workload_parameters", workload),
            "workload",
        )
    for name, limit in profile.limits.items():
        _limit(limit, source, ("limits", name))
    between(profile.memory_on_node_share, 0.5, 1.0, source, ("memory_on_node_share",))
    between(profile.valid_days, 1, 366, source, ("valid_days",))
    for key in ("vcpus_per_gpu", "memory_mib_per_gpu"):
        if getattr(profile, key) is not None:
            between(getattr(profile, key), 1, 1 << 30, source, (key,))


def _group(entry: GroupSpec, source: YamlSource, loc: Loc) -> None:
    """An entry is one guest or at least two that live together, never both."""
    if (entry.gpus is None) == (not entry.together):
        message = "a guest has `gpus`; guests that live at the same time are listed in `together`"
        source.wrong(loc, f"gives {'both' if entry.together else 'neither'}: {message}")
    if entry.together and entry.workloads:
        source.wrong((*loc, "workloads"), "each guest of a group has its own workloads")
    if len(entry.together) == 1:
        source.wrong((*loc, "together"), "a group needs at least two guests: write `gpus` alone")
    for at, spec in enumerate(entry.members):
        place = (*loc, "together", at) if entry.together else loc
        between(spec.gpus, 0, 16, source, (*place, "gpus"))
        for number, workload in enumerate(spec.workloads):
            _known(workload, WORKLOADS, source, (*place, "workloads", number), "workload")


def check_fit(profile: Profile, host: HostFile, source: YamlSource) -> None:
    """Guests that live at the same time need no more GPUs than the host file expects of the host."""
    for index, entry in enumerate(profile.guests):
        total = sum(spec.gpus for spec in entry.members)
        if entry.together and host.expected_gpus is not None and total > host.expected_gpus:
            source.wrong(
                ("guests", index, "together"),
                f"these guests need {total} GPUs at the same time, and host {host.name} has "
                f"{host.expected_gpus} (expected_gpus)",
                remedy="choose another profile, or guests with --gpus",
            )


def _user_test(check: str, source: YamlSource) -> None:
    name = check.removeprefix(USER)
    if not name.isidentifier() or not name.startswith("test"):
        source.wrong(
            ("checks", check), f"not the name of a test: {name[:60]!r}", remedy="write user.test_my_driver"
        )


def _telemetry(profile: Profile, source: YamlSource) -> None:
    spec = profile.telemetry
    between(spec.fast_hz, 0.1, 20.0, source, ("telemetry", "fast_hz"))
    between(spec.slow_hz, 0.05, spec.fast_hz, source, ("telemetry", "slow_hz"))
    between(spec.host_period_seconds, 0.5, 60.0, source, ("telemetry", "host_period_seconds"))
    # Two samples may not even be due within a shorter time; a longer one hides a guest that came and went.
    if spec.host_max_gap_seconds is not None:
        least = 2.0 * spec.host_period_seconds
        between(spec.host_max_gap_seconds, least, 120.0, source, ("telemetry", "host_max_gap_seconds"))
    # Two samples may not even be due within a shorter time; a longer one hides a reset between two loads.
    between(
        spec.max_gap_seconds, 2.0 / max(spec.fast_hz, 0.1), 60.0, source, ("telemetry", "max_gap_seconds")
    )
    spares = profile.virtualization
    # One value has no interval, so it could neither keep nor break a floor.
    between(spares.least_runs, 2, 1000, source, ("virtualization", "least_runs"))
    for key, share in (("floor", spares.floor), *spares.floors.items()):
        where = ("virtualization", "floor") if key == "floor" else ("virtualization", "floors", key)
        between(share, 0.5, 1.0, source, where)
    between(profile.burn_seconds, 0.0, 60 * 86400.0, source, ("burn_seconds",))


def _disturbance(profile: Profile, source: YamlSource) -> None:
    spec = profile.disturbance
    # One value has no interval, so it could neither keep nor break a floor.
    between(spec.least_runs, 2, 1000, source, ("disturbance", "least_runs"))
    _share(spec.floor, source, ("disturbance", "floor"))
    for name, share in spec.floors.items():
        where = ("disturbance", "floors", name)
        workload, dot, _ = name.partition(".")
        if not dot:
            source.wrong(where, "not the name of a measurement", remedy="write WORKLOAD.FIGURE")
            continue
        _known(workload, WORKLOADS, source, where, "workload")
        _share(share, source, where)


def check_waiver(waiver: Waiver, source: YamlSource, loc: Loc) -> None:
    """A waiver names a check that exists, an owner, a reason and a day it ends."""
    _known(waiver.check, CHECK_IDS, source, (*loc, "check"), "check")
    for key in ("id", "owner", "reason", "subject"):
        if not getattr(waiver, key).strip():
            source.wrong((*loc, key), "is empty")
    try:
        date.fromisoformat(waiver.expires)
    except ValueError:
        message = f"not a date: {waiver.expires[:40]!r}"
        source.wrong((*loc, "expires"), message, remedy="write YYYY-MM-DD")


def check_lab(lab: LabFile, source: YamlSource) -> None:
    """A lab that QEMU can build: nodes that exist, devices on them, links as PCIe has them."""
    usable_name(lab.name, source)
    _known(lab.iommu, _IOMMUS, source, ("iommu",), "IOMMU kind")
    between(lab.threads_per_core, 1, 2, source, ("threads_per_core",))
    between(lab.distance, 11, 254, source, ("distance",))
    between(lab.disk_gib, 1, 512, source, ("disk_gib",))
    between(len(lab.nodes), 1, 8, source, ("nodes",))
    for index, node in enumerate(lab.nodes):
        place = ("nodes", index)
        between(node.cores, 1, 64, source, (*place, "cores"))
        between(node.memory_mib, 256, 1 << 20, source, (*place, "memory_mib"))
        between(node.hugepages_2m, 0, node.memory_mib // 2, source, (*place, "hugepages_2m"))
    for index, device in enumerate(lab.devices):
        place = ("devices", index)
        _known(device.kind, LAB_DEVICES, source, (*place, "kind"), "device kind")
        if device.node is not None:
            between(device.node, 0, len(lab.nodes) - 1, source, (*place, "node"))
        names = ("link_speed_gts", "link_width")
        _link(device.link_speed_gts, device.link_width, source, place, names)


def usable_name(name: str, source: YamlSource) -> None:
    """Notes a name that cannot be one of a file or directory."""
    # Names become directories under runs/.
    if not _NAME.fullmatch(name) or ".." in name:
        source.wrong(("name",), f"not a usable name: {name[:60]!r}", remedy="letters, digits, . _ -")


def _known(name: str, known: Iterable[str], source: YamlSource, loc: Loc, what: str) -> None:
    names = sorted(known)
    if name not in names:
        close = difflib.get_close_matches(name[:80], names, n=1, cutoff=0.4)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        source.wrong(loc, f"unknown {what} {name[:60]!r}{hint}", remedy=f"known: {', '.join(names)}")


def between(value: float, low: float, high: float, source: YamlSource, loc: Loc) -> None:
    """Notes a value that is out of range."""
    if not low <= value <= high:
        source.wrong(loc, f"{value} is not between {low} and {high}")


def _share(value: float, source: YamlSource, loc: Loc) -> None:
    if not 0.0 < value <= 1.0:
        source.wrong(loc, f"{value} is not a share above 0 and at most 1")


def _link(
    speed: float | None, width: int | None, source: YamlSource, loc: Loc, keys: tuple[str, str]
) -> None:
    for value, allowed, key in ((speed, _SPEEDS, keys[0]), (width, _WIDTHS, keys[1])):
        if value is not None and value not in allowed:
            source.wrong((*loc, key), f"{value} is none of {', '.join(f'{a:g}' for a in allowed)}")


def _limit(limit: LimitSpec, source: YamlSource, loc: Loc) -> None:
    if limit.lower is None and limit.upper is None:
        source.wrong(loc, "has neither lower nor upper: it would accept any value")
    if limit.lower is not None and limit.upper is not None and limit.lower > limit.upper:
        source.wrong(loc, f"lower {limit.lower} is above upper {limit.upper}: no value could pass")
    if not limit.reason.strip():
        source.wrong(loc, "gives no reason for its number")
