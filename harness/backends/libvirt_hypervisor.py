"""``harness.ports.Hypervisor`` by libvirt-python. Touches only what carries a run key of ours."""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any, TypeVar

from harness.backends.clock import SystemClock
from harness.backends.libvirt_call import Connection, SshUri
from harness.backends.ssh import SshTransport
from harness.cleanups import Cleanups
from harness.errors import ProvisionError
from harness.placement.domain.definition import run_key
from harness.ports import Clock, DomainState

T = TypeVar("T")

_CALL_SECONDS = 60.0
"""For a question: an emulated host answers in 1-10 s."""

_FIRST_SECONDS = 300.0
"""For the version: libvirtd first probes every QEMU binary, minutes on an emulated host."""

_START_SECONDS = 900.0
_START_SECONDS_PER_GIB = 1.2
"""For a start: QEMU zeroes and pins all guest memory first (about 1 min for each 100 GiB; twice that)."""

_DESTROY_SECONDS = 120.0
_DYING_SECONDS = 900.0
"""A killed QEMU first gives back the memory that VFIO pinned. libvirt waits for that some 15 s, and 2 s more
for each host device ("stalls by the kernel freeing up the resources", qemuProcessKill), then says "Failed to
terminate process ... with SIGKILL: Device or resource busy" (kubevirt#881): no failure as long as the process
is on its way."""
_ASK_DYING_SECONDS = 5.0
_LOOK_SECONDS = 0.25
"""Between two looks whether a guest is off: one question over an open connection."""
_ASK_AGAIN_SECONDS = 15.0
"""A guest that is still booting ignores the power button; it is pressed again."""


def name_of(xml: str) -> str:
    """The ``<name>`` of a domain or network definition; raises ProvisionError without one."""
    try:
        name = ET.fromstring(xml).findtext("name")  # noqa: S314  our own XML
    except ET.ParseError as error:
        raise ProvisionError(f"the definition is not XML: {error}") from error
    if not name:
        raise ProvisionError("the definition has no <name>")
    return name


def _memory_gib(xml: str) -> float:
    """The guest's memory by its definition, which says it in MiB; 0 where it does not."""
    memory = ET.fromstring(xml).find("memory")  # noqa: S314  our own XML
    text = (memory.text or "").strip() if memory is not None and memory.get("unit") == "MiB" else ""
    return int(text) / 1024 if text.isdecimal() else 0.0


class LibvirtHypervisor:
    """One kept connection. ``uri`` is called for each (re)connection; ``on_close`` after the last."""

    def __init__(self, connection: Connection, *, name: str, clock: Clock | None = None) -> None:
        self._connection = connection
        self._name = name
        self._clock: Clock = clock or SystemClock()
        self._on_close = Cleanups()

    @classmethod
    def over_ssh(cls, transport: SshTransport, *, clock: Clock | None = None) -> LibvirtHypervisor:
        """libvirt's system daemon on the machine that ``transport`` leads to, over its connection."""
        uri = SshUri(transport)
        made = cls(Connection(uri, name=transport.name, birth=uri.birth), name=transport.name, clock=clock)
        made._on_close.callback(uri.close)
        return made

    @classmethod
    def at(cls, uri: str, *, name: str = "local", clock: Clock | None = None) -> LibvirtHypervisor:
        """The daemon at a libvirt URI: ``qemu:///system`` of this machine, ``test:///default`` in tests."""
        return cls(Connection(lambda: uri, name=name), name=name, clock=clock)

    def version(self) -> str:
        """``libvirt 9.0.0, QEMU 7.2.22``."""

        def ask(conn: Any) -> str:
            return f"libvirt {_dotted(conn.getLibVersion())}, {conn.getType()} {_dotted(conn.getVersion())}"

        return self._call("version", ask, _FIRST_SECONDS)

    def domains(self) -> tuple[DomainState, ...]:
        """All domains; one that goes away while it is read is left out."""

        def ask(conn: Any) -> tuple[DomainState, ...]:
            states = (_unless_gone(functools.partial(_state, one)) for one in conn.listAllDomains(0))
            return tuple(sorted((s for s in states if s is not None), key=lambda s: s.name))

        return self._call("list domains", ask)

    def define_and_start(self, xml: str, *, run: str) -> None:
        """Define with schema validation and start; a domain of ours that runs already is left running.

        Nothing stays defined when the start fails. Raises ProvisionError.
        """
        name = name_of(xml)
        if run_key(xml) != run:
            raise ProvisionError(f"the definition of {name} does not contain the key of run {run}")

        def act(conn: Any) -> None:
            import libvirt  # noqa: PLC0415

            known = _unless_gone(lambda: conn.lookupByName(name))
            if known is not None:
                self._require_ours("domain", name, known.XMLDesc(0), run)
                if known.isActive():
                    return
                _undefine(known)  # its uuid and details may differ from those wanted now
            domain = conn.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
            try:
                domain.create()
            except libvirt.libvirtError:
                with contextlib.suppress(libvirt.libvirtError):
                    _undefine(domain)
                raise

        self._call(f"start {name}", act, _START_SECONDS + _START_SECONDS_PER_GIB * _memory_gib(xml))

    def start_network(self, xml: str) -> None:
        """Create a transient network; one of that name and run is kept. Raises ProvisionError."""
        name, run = name_of(xml), run_key(xml)

        def act(conn: Any) -> None:
            known = _unless_gone(lambda: conn.networkLookupByName(name))
            if known is None:
                conn.networkCreateXML(xml)
                return
            self._require_ours("network", name, known.XMLDesc(0), run)
            if not known.isActive():
                known.create()

        self._call(f"start network {name}", act)

    def stop_network(self, name: str) -> None:
        """Destroy a network of ours; absent is fine. Raises ProvisionError for one that is not ours."""

        def act(conn: Any) -> None:
            known = _unless_gone(lambda: conn.networkLookupByName(name))
            if known is not None:
                self._require_ours("network", name, known.XMLDesc(0), None)
                _unless_gone(known.destroy)

        self._call(f"stop network {name}", act)

    def shutdown(self, name: str, *, deadline: float) -> bool:
        """Ask the guest to power off; True if it is gone (or was) within ``deadline`` seconds."""
        until = self._clock.monotonic() + deadline
        next_ask = self._clock.monotonic()
        while self._running(name):
            now = self._clock.monotonic()
            if now >= until:
                return False
            if now >= next_ask:
                next_ask = now + _ASK_AGAIN_SECONDS
                self._call(f"shut down {name}", lambda conn: self._ask_shutdown(conn, name))
            self._clock.sleep(min(_LOOK_SECONDS, max(0.0, until - self._clock.monotonic())))
        return True

    def destroy(self, name: str) -> None:
        """End and undefine a domain of ours; absent is fine. Raises ProvisionError for a foreign one, and for
        one that does not end."""
        until = self._clock.monotonic() + _DYING_SECONDS

        def act(conn: Any) -> bool:
            known = conn.lookupByName(name)
            self._require_ours("domain", name, known.XMLDesc(0), None)
            patient = self._clock.monotonic() < until
            if known.isActive() and _unless_gone(lambda: _unless_dying(known.destroy, patient)) is False:
                return False
            _undefine(known)
            return True

        while (
            self._call(f"destroy {name}", lambda conn: _unless_gone(lambda: act(conn)), _DESTROY_SECONDS)
            is False
        ):
            self._clock.sleep(_ASK_DYING_SECONDS)

    def qmp(self, name: str, command: str) -> str:
        """One QMP query through libvirt's monitor passthrough; QEMU's JSON answer. ProvisionError."""

        def ask(conn: Any) -> str:
            passthrough = importlib.import_module("libvirt_qemu")
            return str(passthrough.qemuMonitorCommand(conn.lookupByName(name), command, 0))

        return self._call(f"ask QEMU of {name}", ask)

    def close(self) -> None:
        """End the connection; safe to call twice."""
        self._connection.close()
        self._on_close.close()

    def _call(self, what: str, function: Callable[[Any], T], deadline: float = _CALL_SECONDS) -> T:
        return self._connection.call(what, function, deadline=deadline)

    def _running(self, name: str) -> bool:
        def ask(conn: Any) -> bool:
            known = _unless_gone(lambda: conn.lookupByName(name))
            return known is not None and bool(_unless_gone(known.isActive))

        return bool(self._call(f"check whether {name} is running", ask))

    def _ask_shutdown(self, conn: Any, name: str) -> None:
        known = _unless_gone(lambda: conn.lookupByName(name))
        if known is not None:
            self._require_ours("domain", name, known.XMLDesc(0), None)
            _unless_gone(known.shutdown)

    def _require_ours(self, kind: str, name: str, xml: str, run: str | None) -> None:
        owner = run_key(xml)
        if owner is None or (run is not None and owner != run):
            whose = "was not made by Shakedown" if owner is None else f"belongs to run {owner}"
            raise ProvisionError(
                f"{kind} {name} {whose} and is left alone",
                host=self._name,
                remedy=f"remove that {kind} yourself if it is no longer needed, or rename it",
            )


def _state(domain: Any) -> DomainState:
    xml = domain.XMLDesc(0)
    return DomainState(
        name=domain.name(),
        uuid=domain.UUIDString(),
        running=bool(domain.isActive()),
        metadata_run=run_key(xml),
        xml=xml,
    )


def _unless_gone(function: Callable[[], Any]) -> Any:
    """What ``function`` returns; None when the domain or network does not exist or is not running."""
    import libvirt  # noqa: PLC0415

    gone = (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_NO_NETWORK, libvirt.VIR_ERR_OPERATION_INVALID)
    try:
        return function()
    except libvirt.libvirtError as error:
        if error.get_error_code() in gone:
            return None
        raise


def _unless_dying(destroy: Callable[[], Any], patient: bool) -> bool:
    """Whether a domain was ended: False where its process is killed and not gone yet, and we are patient."""
    import libvirt  # noqa: PLC0415

    try:
        destroy()
    except libvirt.libvirtError as error:
        # The first of an error's numbers is errno, for errors of the system.
        dying = error.get_error_code() == libvirt.VIR_ERR_SYSTEM_ERROR and error.get_int1() == errno.EBUSY
        if not (dying and patient):
            raise
        return False
    return True


def _undefine(domain: Any) -> None:
    import libvirt  # noqa: PLC0415

    flags = (
        libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
    )
    try:
        domain.undefineFlags(flags)
    except libvirt.libvirtError as error:
        unsupported = (libvirt.VIR_ERR_INVALID_ARG, libvirt.VIR_ERR_NO_SUPPORT)
        if error.get_error_code() not in unsupported:
            raise
        domain.undefine()


def _dotted(number: int) -> str:
    """libvirt's ``1000000 * major + 1000 * minor + release``."""
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"
