"""libvirt in memory: domains and networks as definitions, with the rules of the port."""

from __future__ import annotations

import uuid
import xml.etree.ElementTree as ET
from dataclasses import replace

from harness.errors import ProvisionError
from harness.placement.domain.definition import run_key
from harness.ports import DomainState


class FakeHypervisor:
    """``harness.ports.Hypervisor``. ``refuse`` maps a domain name to the error its start ends in."""

    def __init__(self) -> None:
        self._domains: dict[str, DomainState] = {}
        self.networks: dict[str, str] = {}
        self.refuse: dict[str, ProvisionError] = {}
        self.deaf: set[str] = set()
        """Domains that ignore the power button."""
        self.immortal: set[str] = set()
        """Domains that cannot be destroyed."""
        self.answers: dict[str, str] = {}
        """QMP command to answer."""
        self.closed = 0

    def version(self) -> str:
        return "libvirt 9.0.0, FAKE 1.0.0"

    def add_foreign(self, name: str, *, xml: str | None = None, running: bool = True) -> None:
        """A domain that is simply there."""
        text = xml or f"<domain type='test'><name>{name}</name></domain>"
        self._domains[name] = DomainState(
            name=name, uuid=str(uuid.uuid4()), running=running, metadata_run=run_key(text), xml=text
        )

    def domains(self) -> tuple[DomainState, ...]:
        return tuple(self._domains[name] for name in sorted(self._domains))

    def define_and_start(self, xml: str, *, run: str) -> None:
        name = _name(xml)
        if run_key(xml) != run:
            raise ProvisionError(f"the definition of {name} does not contain the key of run {run}")
        known = self._domains.get(name)
        if known is not None:
            self._require_ours(name, known.metadata_run, run)
            if known.running:
                return
        if name in self.refuse:
            self._domains.pop(name, None)
            raise self.refuse[name]
        self.add_foreign(name, xml=xml)

    def start_network(self, xml: str) -> None:
        name = _name(xml)
        known = self.networks.get(name)
        if known is not None:
            self._require_ours(name, run_key(known), run_key(xml))
            return
        self.networks[name] = xml

    def stop_network(self, name: str) -> None:
        known = self.networks.get(name)
        if known is not None:
            self._require_ours(name, run_key(known), None)
            del self.networks[name]

    def shutdown(self, name: str, *, deadline: float) -> bool:
        known = self._domains.get(name)
        if known is None or not known.running:
            return True
        self._require_ours(name, known.metadata_run, None)
        if name in self.deaf:
            return False
        self._domains[name] = replace(known, running=False)
        return True

    def destroy(self, name: str) -> None:
        known = self._domains.get(name)
        if known is None:
            return
        self._require_ours(name, known.metadata_run, None)
        if name in self.immortal:
            raise ProvisionError(f"destroy {name}: Failed to terminate process: Device or resource busy")
        del self._domains[name]

    def qmp(self, name: str, command: str) -> str:
        known = self._domains.get(name)
        if known is None or not known.running:
            raise ProvisionError(f"ask QEMU of {name}: Domain not found")
        if command not in self.answers:
            raise ProvisionError(f"ask QEMU of {name}: it does not know {command}")
        return self.answers[command]

    def close(self) -> None:
        self.closed += 1

    def _require_ours(self, name: str, owner: str | None, run: str | None) -> None:
        if owner is None or (run is not None and owner != run):
            raise ProvisionError(f"{name} is not ours and is left alone", remedy="rename it")


def _name(xml: str) -> str:
    try:
        name = ET.fromstring(xml).findtext("name")  # noqa: S314  the test's own text
    except ET.ParseError as error:
        raise ProvisionError(f"the definition is not XML: {error}") from error
    if not name:
        raise ProvisionError("the definition has no <name>")
    return name
