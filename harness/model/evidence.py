"""Evidence: all that a run learned, as values. Checks judge it and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.model.death import GuestDeath
from harness.model.gpu import Cards, GpuRef, ref_of
from harness.model.guest import DEFAULT_ATTACH, GuestRequest
from harness.model.outcome import Measurement, Outcome, SubjectKind
from harness.model.pci import PciAddress
from harness.model.placement import NoPlan, ObservedPlacement, PlacementLook, PlacementPlan
from harness.model.sku import Sku
from harness.model.telemetry import GuestTelemetry, HostTelemetry
from harness.model.topology import HostFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class StageError:
    """A HarnessError, kept as data: which stage broke, where, and what a person can do."""

    stage: str
    kind: str
    """Class name from ``harness.errors``."""
    message: str
    remedy: str = ""
    host: str = ""
    subject: str = ""
    """Guest or device concerned; empty for the host."""
    transcript: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemAnswer:
    """One ordinary host question (a service, a package, a module) asked through testinfra."""

    question: str
    """``service:libvirtd``, ``module:vfio_pci``, ``file:/dev/kvm`` ..."""
    ok: bool | None
    """None when it could not be asked."""
    detail: str = ""
    transcript: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetTrial:
    """One exercised reset: observable state was set, the reset done, the state read again."""

    device: PciAddress
    methods: tuple[str, ...]
    """As listed before the trial."""
    attempted: bool
    accepted: bool | None
    """Whether the kernel took the reset; None when not attempted."""
    state_cleared: bool | None
    """Whether the state set before was gone; None when it could not be observed."""
    exempt: str = ""
    """Why no trial was due: a companion function, whose reset comes with its slot's."""
    detail: str = ""
    transcript: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One known answer, compared."""

    name: str
    expected: str
    got: str
    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadResult:
    """What one workload run in one guest brought back. Wrong answers are data here, never exceptions."""

    workload: str
    guest: str
    engine: str
    """What computed: ``cpu``, or an engine of the device."""
    key: str
    status: str
    """``done``, ``failed`` (it ended, badly), ``timeout``, ``lost`` (no result) or ``not_applicable``."""
    answers: tuple[Answer, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    seconds: float | None = None
    started: float | None = None
    ended: float | None = None
    """Seconds since the boot of the machine it ran on; the clock of its telemetry."""
    round: int = 1
    """Loads repeat in rounds until the profile's burn time is over."""
    detail: str = ""
    transcript: str = ""
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReturn:
    """One function before it was handed over and after it came back."""

    device: PciAddress
    driver_before: str | None
    driver_after: str | None
    config_ok: bool | None
    reset_methods_before: tuple[str, ...]
    reset_methods_after: tuple[str, ...]
    present: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseEvidence:
    """The host after a guest was released, against the host before."""

    guest: str
    devices: tuple[DeviceReturn, ...]
    hugepages_before: dict[str, int]
    """``node/page bytes`` to free pages."""
    hugepages_after: dict[str, int]
    leftover_processes: tuple[str, ...]
    leftover_files: tuple[str, ...]
    leftover_domains: tuple[str, ...]
    leftover_networks: tuple[str, ...]
    leftover_claims: tuple[str, ...]
    seconds: float | None = None
    forced: bool = False
    """True when the guest had to be destroyed because it did not shut down by itself."""
    ended_before: bool = False
    """True when the domain no longer ran when its release began: nobody had asked it to end."""
    problems: tuple[str, ...] = ()
    """Steps of the release that failed, one sentence each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidueTrial:
    """Whether what one tenant left in a device was still there for the next."""

    device: PciAddress
    planted: bool
    found: bool | None
    """None when it was not looked for."""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestEvidence:
    """One guest, from request to release."""

    name: str
    request: GuestRequest
    workloads: tuple[str, ...]
    """Those the profile demands of it."""
    attach: str = DEFAULT_ATTACH
    """Name of the attach mode (``harness.attach``)."""
    group: str = ""
    """Guests of one group lived at the same time; a guest alone is a group of its own."""
    cards: Cards = Cards()
    """Its devices by both sides' addresses, from the look after its boot; of a machine itself, its GPUs."""
    plan: PlacementPlan | None = None
    no_plan: NoPlan | None = None
    domain_xml: str = ""
    """File in the run directory."""
    xml_problems: tuple[str, ...] = ()
    """What our own validation of the XML found."""
    started: bool = False
    reached: bool = False
    boot_seconds: float | None = None
    observed: ObservedPlacement | None = None
    """Where it landed: as it was after its boot."""
    observed_files: tuple[str, ...] = ()
    looks: tuple[PlacementLook, ...] = ()
    """Where it was later, while its loads ran and when they were over."""
    results: tuple[WorkloadResult, ...] = ()
    residue: tuple[ResidueTrial, ...] = ()
    telemetry: GuestTelemetry | None = None
    death: GuestDeath | None = None
    """How it ended before anybody asked it to."""
    release: ReleaseEvidence | None = None
    kernel_log: tuple[str, ...] | None = None
    """Guest kernel lines of interest at the end."""

    @property
    def gpus(self) -> tuple[PciAddress, ...]:
        """Its GPUs by their addresses on the candidate host: those of its plan, or the machine's own."""
        if self.plan is not None:
            return tuple(gpu.host for gpu in self.plan.gpus)
        return tuple(ref.host for ref in self.cards.refs) if self.cards.same else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """One test that pytest collected for a check: what a run set out to ask, before it asked anything."""

    check: str
    slot: str
    """Planned place of the subject (``gpu2``, ``4gpu-tensor``), known before the host was reached."""
    test: str
    """Pytest's id of the test."""
    deselected: bool = False
    """True where the person who ran it left it out (``-k``, ``-m``, ``--deselect``, ``--lf``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What pytest said of one test, once; a test that is tried again is asked again."""

    check: str
    slot: str
    outcome: Outcome | None
    """None: the test was an error, since what it asks for was missing."""
    message: str = ""
    test: str = ""
    """Pytest's id of the test."""
    not_applicable: bool = False
    """True: there was nothing to ask, as with a load whose engine the GPU model is declared to lack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """How the candidate host itself runs, as its HostControl says: never asked by a check's branch."""

    description: str = ""
    accelerator: str = ""
    limits: tuple[str, ...] = ()
    """What this engine cannot show (``nested guests have no AVX``), for the report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceValue:
    """All values that a bare run measured of one thing."""

    workload: str
    engine: str
    name: str
    unit: str
    device: PciAddress | None
    """The GPU on the candidate host; None for a figure of the whole machine."""
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A recorded bare run that guests are compared with (``--compare``)."""

    run: str
    host: str
    machine_id: str | None
    cpus: int
    """Online on the machine: what a guest of equal size may be compared with as a whole."""
    subject: SubjectKind
    standin: bool
    """True when its telemetry came from a stand-in of the driver's library."""
    verdict: str
    ended_at: str
    parameters: dict[str, dict[str, int | float | str | bool]]
    """Of its workloads: figures of differently sized loads are not comparable."""
    values: tuple[ReferenceValue, ...]
    problems: tuple[str, ...] = ()
    """Why its evidence cannot be trusted; empty when it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a person did or saw, told to the run by ``shakedown note``."""

    at: str
    """When it was told (UTC, ISO 8601)."""
    by: str
    text: str
    intervention: bool = False
    """True: the person touched the host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything a run knows when it is judged."""

    host: str
    subject: SubjectKind
    profile: str
    run: str
    started_at: str
    ended_at: str | None
    engine: Engine = Engine()
    facts: HostFacts | None = None
    facts_file: str = ""
    facts_after: HostFacts | None = None
    skus: tuple[Sku, ...] = ()
    """The GPU models that the inventory described when the run began."""
    host_telemetry: HostTelemetry | None = None
    reference: Reference | None = None
    system: tuple[SystemAnswer, ...] = ()
    resets: tuple[ResetTrial, ...] = ()
    guests: tuple[GuestEvidence, ...] = ()
    errors: tuple[StageError, ...] = ()
    interventions: tuple[str, ...] = ()
    """What a person did by hand during the run, each with who said so and when: the goal is none."""
    notes: tuple[Note, ...] = ()
    """What people saw and told; none of these is an intervention."""
    interrupted: bool = False
    ledger: tuple[LedgerRow, ...] | None = None
    """What was collected; None for a record that no test session made."""
    asked: tuple[Asked, ...] = ()
    """What the tests said, in their order."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Stage to seconds."""
    attempts: tuple[Attempt, ...] = ()
    """Those of a run that was resumed, side by side; empty for a run that went through in one."""

    @property
    def cards(self) -> tuple[GpuRef, ...]:
        """Every GPU that a guest or the machine itself was to work on, once, in order of address; with slot
        and serial number as far as host or driver said them."""
        found = {host: ref_of(self.facts, host) for guest in self.guests for host in guest.gpus}
        found |= {ref.host: ref for guest in self.guests for ref in guest.cards.refs}
        return tuple(found[host] for host in sorted(found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What one controller process did of a run: from its start, or from ``--resume``, to its end."""

    number: int
    """From 1."""
    started_at: str
    ended_at: str
    """The last thing heard of it (UTC, ISO 8601)."""
    seconds: float
    """By the controller's steady clock."""
    ended: str
    """How it ended, in words."""
    shakedown_version: str
    evidence: Evidence
    """What it alone recorded; its own ``attempts`` are empty."""
