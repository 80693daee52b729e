"""What a session is asked to do: which host, which profile, which guests, against which reference."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from harness.attach import ATTACHMENT_NAMES, attachment
from harness.config import files as config
from harness.errors import ConfigError
from harness.model.evidence import Evidence, Reference
from harness.model.guest import DEFAULT_ATTACH, GuestDemand, GuestRequest
from harness.model.inventory import GuestSpec, HostFile, Profile
from harness.model.outcome import Severity
from harness.record.attempts import History
from harness.record.directory import RunDirectory
from harness.record.events import read_events
from harness.record.reference import read_reference

MOST_GPUS = 16
"""Planner and bus layout are made and tested for guests of up to 16 GPUs."""
VIRTUALIZATION = "workload.virtualization"
_HAND_OVERS = ("device.residue", "gpu.reset_works")
"""Checks of what one tenant of a device leaves to the next."""
_TENANTS = ("", "-second-tenant", "-third-tenant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What one session is to do."""

    host: HostFile
    profile: Profile
    guests: tuple[GuestDemand, ...]
    reference: Reference | None = None
    resume: Path | None = None
    """Directory of a killed run that is to go on."""
    done: frozenset[str] = frozenset()
    """Groups of a killed run that are not tried again: it had given them back already."""
    history: History | None = None
    """What that run had recorded when the session began, in ``events`` events."""
    events: int = 0

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups, in the order in which they are tried."""
        return tuple(dict.fromkeys(guest.group for guest in self.guests))

    def of_group(self, name: str) -> tuple[GuestDemand, ...]:
        """The guests of one group."""
        return tuple(guest for guest in self.guests if guest.group == name)


def demand(
    *,
    host: str,
    profile: str = "",
    attach: str = "",
    gpus: str = "",
    compare: Path | None = None,
) -> Demand:
    """A fresh session's. Raises ConfigError, with file and line where a file is wrong."""
    host_file, chosen = config.load_host(host), choose_profile(profile, attach)
    reference = None if compare is None else read_reference(compare)
    if reference is not None:
        chosen = with_comparison(chosen)
    guests = choose_guests(chosen, gpus, expected_gpus=host_file.expected_gpus)
    if not gpus:
        config.require_fit(chosen, profile or chosen.name, host_file)
    return Demand(host=host_file, profile=chosen, guests=guests, reference=reference)


def resumed(path: Path) -> Demand:
    """What a killed run still has to do, by its own record: a group of which a guest was not given back is
    tried again from the start, and so are those before it where hand-overs are to be judged.

    Raises ConfigError for a run that has ended or a foreign directory, also one that others may write: what
    stands in it says which machine is reached, by which keys and programs.
    """
    directory = RunDirectory.open(path)
    directory.require_ours()
    log = read_events(directory.events)
    history = History.of(log.events)
    inputs, evidence = history.inputs, history.evidence
    if log.ended or os.path.lexists(directory.record):
        raise ConfigError(f"{path} has ended: there is nothing to resume", remedy="start a new run")
    return Demand(
        host=inputs.host,
        profile=inputs.profile,
        guests=inputs.guests,
        reference=evidence.reference,
        resume=path,
        done=_done(evidence, inputs.profile),
        history=history,
        events=len(log.events),
    )


def _done(evidence: Evidence, profile: Profile) -> frozenset[str]:
    kept = {guest.group for guest in evidence.guests if guest.release is None}
    given_back = frozenset(guest.group for guest in evidence.guests) - kept
    handed_over = any(profile.checks.get(check) is Severity.BLOCKER for check in _HAND_OVERS)
    # What was left in a device for the next tenant is known to the controller that saw it left, and a tenant
    # that was killed may have written over it: so tenants come one after another again, in one attempt.
    return frozenset() if kept and handed_over else given_back


def choose_profile(name: str, attach: str) -> Profile:
    """The profile of that name or path; without one, the attach mode's own (``vfio`` unless said).

    Raises ConfigError for an unknown mode, and for a profile of another mode than the one asked for.
    """
    if attach and attach not in ATTACHMENT_NAMES:
        raise ConfigError(f"--attach: {attach[:40]!r} is not one of {', '.join(ATTACHMENT_NAMES)}")
    mode = attachment(attach or DEFAULT_ATTACH)
    profile = config.load_profile(name or mode.default_profile)
    if attach and profile.attach != attach:
        raise ConfigError(
            f"profile {profile.name} is for attach mode {profile.attach}, not {attach}",
            remedy=f"leave out --profile (that means {mode.default_profile}), or choose a profile for that "
            "mode",
        )
    return profile


def with_comparison(profile: Profile) -> Profile:
    """The profile with its guests held against a bare run. Raises ConfigError for one without guests."""
    if not attachment(profile.attach).in_guests:
        raise ConfigError("--compare is for runs with guests: it compares them with a bare-metal run")
    return replace(profile, checks={**profile.checks, VIRTUALIZATION: Severity.BLOCKER})


def choose_guests(
    profile: Profile, gpus: str, *, expected_gpus: int | None = None
) -> tuple[GuestDemand, ...]:
    """The guests to try: the profile's, or one for each number in ``gpus`` (``"1,2+2,4"``: ``+`` joins guests
    that live at the same time).

    A number the profile does not list gets its default workloads; one that it lists several times gets them
    in that order, the last from then on. A bare run has one, the machine with all the GPUs it should have.
    Raises ConfigError.
    """
    mode = attachment(profile.attach)
    if not mode.in_guests:
        if gpus:
            raise ConfigError("--gpus is for guests; a bare-metal run uses all GPUs of the machine")
        request = GuestRequest(name=mode.name, gpus=expected_gpus or 0)
        loads = profile.guests[0].members[0].workloads
        return (GuestDemand(request=request, workloads=loads, group=mode.name),)
    entries = _asked_for(profile, gpus) if gpus else [entry.members for entry in profile.guests]
    if gpus:
        _require_gpus(entries, expected_gpus)
    return tuple(
        GuestDemand(
            request=GuestRequest(
                name=name,
                gpus=spec.gpus,
                vcpus_per_gpu=profile.vcpus_per_gpu,
                memory_mib_per_gpu=profile.memory_mib_per_gpu,
            ),
            workloads=spec.workloads,
            group=group,
        )
        for group, members in zip(_group_names(entries), entries, strict=True)
        for name, spec in zip(_guest_names(group, len(members)), members, strict=True)
    )


def _asked_for(profile: Profile, gpus: str) -> list[tuple[GuestSpec, ...]]:
    listed: dict[int, list[tuple[str, ...]]] = {}
    for entry in profile.guests:
        for spec in entry.members:
            listed.setdefault(spec.gpus, []).append(spec.workloads)

    def spec_of(number: int) -> GuestSpec:
        due = listed.get(number, [profile.default_workloads])
        return GuestSpec(gpus=number, workloads=due.pop(0) if len(due) > 1 else due[0])

    return [tuple(spec_of(_number(n.strip())) for n in part.split("+")) for part in gpus.split(",")]


def _number(text: str) -> int:
    # Two digits hold every number that is allowed, and no text so long that int() would refuse it.
    if not (text.isascii() and text.isdigit() and len(text) <= 2 and 1 <= int(text) <= MOST_GPUS):
        raise ConfigError(f"--gpus: {text[:40]!r} is not a number of GPUs from 1 to {MOST_GPUS}")
    return int(text)


def _require_gpus(entries: list[tuple[GuestSpec, ...]], expected_gpus: int | None) -> None:
    for members in entries:
        total = sum(spec.gpus for spec in members)
        if len(members) > 1 and expected_gpus is not None and total > expected_gpus:
            words = "+".join(str(spec.gpus) for spec in members)
            raise ConfigError(
                f"--gpus: guests {words} need {total} GPUs at the same time, but the host file expects "
                f"{expected_gpus}",
                remedy="run fewer guests at once; a comma runs them one after the other",
            )


def _group_names(entries: list[tuple[GuestSpec, ...]]) -> list[str]:
    """Names that speak: ``1gpu``, ``2x2gpu``, ``1and3gpu``; a size that comes again is the next tenant."""
    seen: Counter[str] = Counter()
    names = []
    for members in entries:
        base = _sizes([spec.gpus for spec in members])
        before = seen[base]
        seen[base] += 1
        names.append(base + (_TENANTS[before] if before < len(_TENANTS) else f"-tenant-{before + 1}"))
    return names


def _sizes(gpus: list[int]) -> str:
    if len(gpus) == 1:
        return f"{gpus[0]}gpu"
    if len(set(gpus)) == 1:
        return f"{len(gpus)}x{gpus[0]}gpu"
    return "and".join(map(str, gpus)) + "gpu"


def _guest_names(group: str, members: int) -> list[str]:
    """A guest alone has its group's name; others are told apart by a letter."""
    return [group] if members == 1 else [f"{group}-{chr(ord('a') + n)}" for n in range(members)]
