"""How a machine is reached over SSH: values that can be nothing but what they say they are.

They come from host files, from the records of runs that are resumed and from state files, and they end on a
command line, in options that ssh expands (``%h``, ``${HOME}``) and hands to a shell (ProxyCommand). What ssh,
a shell or a configuration file could read otherwise is refused twice: when data become an ``SshAccess``, and
in ``harness.backends.ssh_options``, the one place where a command line of ssh is made.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Protocol

_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?", re.ASCII)
_IPV6 = re.compile(r"(?=.{2,100}\Z)[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9_.-]+)?", re.ASCII)
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_HOP = re.compile(
    r"(?:(?P<user>[^@\[\]]*)@)?(?:\[(?P<six>[^\[\]]*)\]|(?P<host>[^:@\[\]]*))(?::(?P<port>[0-9]{1,5}))?"
)
_MOST_HOPS = 4
_LONGEST_PATH = 1024
_LONGEST_WAIT = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """A machine on the way to another."""

    address: str
    user: str | None = None
    port: int | None = None


class Access(Protocol):
    """The values of ``harness.model.inventory.SshAccess``."""

    @property
    def address(self) -> str:
        """Host name or IP address."""

    @property
    def port(self) -> int:
        """Of its SSH server."""

    @property
    def user(self) -> str:
        """Who logs in."""

    @property
    def identity_file(self) -> str | None:
        """Path of a private key."""

    @property
    def known_hosts(self) -> str | None:
        """Path of the pinned keys."""

    @property
    def proxy_jump(self) -> str | None:
        """Machines to go through."""

    @property
    def config(self) -> str | None:
        """Path of an ssh configuration."""

    @property
    def connect_timeout_seconds(self) -> float:
        """How long connecting may take."""


def fault_of(access: Access) -> tuple[str, str] | None:
    """The first field that could be an option, a command or anything else but what it is for, and what is
    wrong with it; None when all of them are usable."""
    path = "not a path without control characters, quotes, backslashes, ${ or a leading dash"
    seconds = access.connect_timeout_seconds
    timely = isinstance(seconds, int | float) and math.isfinite(seconds) and 0 < seconds <= _LONGEST_WAIT
    asked = (
        ("address", is_address(access.address), "not a host name or an IP address"),
        ("user", _matches(_USER, access.user), "not a user name"),
        ("port", _is_port(access.port), "not a port, 1 to 65535"),
        ("identity_file", access.identity_file is None or is_path(access.identity_file), path),
        ("known_hosts", access.known_hosts is None or is_path(access.known_hosts), path),
        ("config", access.config is None or is_path(access.config), path),
        (
            "proxy_jump",
            access.proxy_jump is None or bool(hops(access.proxy_jump)),
            f"not [USER@]HOST[:PORT], or up to {_MOST_HOPS} of them with commas between",
        ),
        ("connect_timeout_seconds", timely, f"not a time above 0 and up to {_LONGEST_WAIT:g} s"),
    )
    for name, usable, why in asked:
        if not usable:
            return name, f"{why}: {str(getattr(access, name))[:60]!a}"
    return None


def hops(proxy_jump: str | None) -> tuple[Hop, ...]:
    """The machines to go through, first to last; none for None, and for what cannot be read as such."""
    if not isinstance(proxy_jump, str) or proxy_jump.count(",") >= _MOST_HOPS:
        return ()
    found = tuple(_hop(text) for text in proxy_jump.split(","))
    return tuple(hop for hop in found if hop is not None) if None not in found else ()


def is_address(text: str) -> bool:
    """Whether it is a host name, an IPv4 or an IPv6 address (with a zone or without)."""
    return _matches(_HOST, text) or _matches(_IPV6, text)


def is_path(text: str) -> bool:
    """Whether a path can be an option's value: ssh reads quotes and backslashes in it, and ``${NAME}``."""
    return (
        isinstance(text, str)
        and 0 < len(text) <= _LONGEST_PATH
        and text.isprintable()
        and not text.startswith("-")
        and not any(mark in text for mark in ('"', "'", "\\", "${"))
    )


def _hop(text: str) -> Hop | None:
    match = _HOP.fullmatch(text)
    if match is None:
        return None
    address, user = match["six"] or match["host"] or "", match["user"]
    port = int(match["port"]) if match["port"] else None
    usable = (
        is_address(address) and (user is None or _matches(_USER, user)) and (port is None or _is_port(port))
    )
    return Hop(address=address, user=user, port=port) if usable else None


def _matches(pattern: re.Pattern[str], text: object) -> bool:
    return isinstance(text, str) and pattern.fullmatch(text) is not None


def _is_port(port: object) -> bool:
    return isinstance(port, int) and not isinstance(port, bool) and 1 <= port <= 65535
