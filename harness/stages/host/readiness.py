"""Readiness: ordinary questions to the host, asked through testinfra, and what refuses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.backends.testinfra_backend import TransportBackend, infra_host
from harness.checks.host.services import QUESTIONS
from harness.errors import CommandTimeout, ProvisionError, why
from harness.model.evidence import SystemAnswer
from harness.ports import Transport
from harness.stages.claimed_host import ClaimedHost

LIBVIRT_UNITS = ("libvirtd.socket", "virtqemud.socket", "libvirtd.service", "virtqemud.service")
"""Any of them active will do: libvirt is one daemon or modular, started at boot or by its socket."""

_UNCLEAR = (AssertionError, ValueError, RuntimeError, LookupError, AttributeError)
"""What testinfra raises when a host answers in a way that it does not understand."""


def ask_system(transport: Transport) -> tuple[SystemAnswer, ...]:
    """An answer to each of ``harness.checks.host.services.QUESTIONS``, in their order.

    A question that a host answers unintelligibly, or not in time, has ``ok`` None. Raises TransportError when
    the host cannot be reached.
    """
    host = infra_host(transport)
    return tuple(_ask(host, question.key) for question in QUESTIONS)


def refuse_foreign_domains(host: ClaimedHost) -> None:
    """Domains that we did not create are never touched; beside them nothing is tried unless allowed.

    Our own are gone by now: the claims are held, and what dead runs left was cleared. Raises ProvisionError.
    """
    context, facts = host.context, host.facts
    if context.host.allow_sharing:
        return
    if facts.domains is None:
        raise ProvisionError(
            "running domains could be read from neither libvirt nor /proc, so there may be some",
            host=context.host.name,
            remedy="check that the SSH user may run `virsh list`, or set allow_sharing: true in its host "
            "file",
        )
    if not facts.domains:
        return
    names = ", ".join(domain.name for domain in facts.domains[:5])
    raise ProvisionError(
        f"{len(facts.domains)} domains that this run did not create are running: {names}",
        host=context.host.name,
        remedy="move these guests away, or set allow_sharing: true in its host file",
    )


def _ask(host: Any, key: str) -> SystemAnswer:
    kind, _, name = key.partition(":")
    backend: TransportBackend = host.backend
    try:
        ok, detail = _ASKERS[kind](host, name)
    except CommandTimeout as error:
        ok, detail = None, error.message
    except _UNCLEAR as error:
        ok, detail = None, why(error)
    return SystemAnswer(question=key, ok=ok, detail=detail[:1000], transcript=backend.transcript)


def _service(host: Any, _name: str) -> tuple[bool, str]:
    for unit in LIBVIRT_UNITS:
        if host.service(unit).is_running:
            return True, f"{unit} is active"
    return False, f"none of {', '.join(LIBVIRT_UNITS)} is active"


def _module(host: Any, name: str) -> tuple[bool, str]:
    there = bool(host.file(f"/sys/module/{name}").exists)
    return there, "loaded" if there else "not loaded"


def _program(host: Any, name: str) -> tuple[bool, str]:
    there = bool(host.exists(name))
    return there, "found" if there else "not in PATH"


_ASKERS: dict[str, Callable[[Any, str], tuple[bool, str]]] = {
    "service": _service,
    "module": _module,
    "program": _program,
}
