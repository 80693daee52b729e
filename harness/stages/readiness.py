"""Readiness: ordinary questions to the host, asked through testinfra."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.backends.testinfra_backend import TransportBackend, infra_host
from harness.checks.services import QUESTIONS
from harness.errors import CommandTimeout
from harness.model.evidence import SystemAnswer
from harness.ports import Transport

LIBVIRT_UNITS = ("libvirtd.socket", "virtqemud.socket", "libvirtd.service", "virtqemud.service")
"""Any of them active will do: libvirt is one daemon or modular, started at boot or by its socket."""

_UNCLEAR = (AssertionError, ValueError, RuntimeError, LookupError, AttributeError)
"""What testinfra raises when a host answers in a way that it does not understand."""


def ask_system(transport: Transport) -> tuple[SystemAnswer, ...]:
    """An answer to each of ``harness.checks.services.QUESTIONS``, in their order.

    A question that a host answers unintelligibly, or not in time, has ``ok`` None. Raises TransportError when
    the host cannot be reached.
    """
    host = infra_host(transport)
    return tuple(_ask(host, question.key) for question in QUESTIONS)


def _ask(host: Any, key: str) -> SystemAnswer:
    kind, _, name = key.partition(":")
    backend: TransportBackend = host.backend
    try:
        ok, detail = _ASKERS[kind](host, name)
    except CommandTimeout as error:
        ok, detail = None, error.message
    except _UNCLEAR as error:
        ok, detail = None, f"{type(error).__name__}: {error}"
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
