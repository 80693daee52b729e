"""The command line of ssh: the one place where values become its options.

Nothing is taken from the user's or the system's configuration unless the access names one, nothing of this
machine is forwarded (agent, X11, ports, tunnels), and nothing is run here. Machines on the way are reached by
the same options as the last one.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from harness.errors import ConfigError
from harness.model.access import Hop, fault_of, hops
from harness.model.inventory import SshAccess

_ALIVE_INTERVAL, _ALIVE_COUNT = 15, 8
"""A silent connection is given up after 15 x 8 s. An emulated host pauses up to 30 s for a snapshot."""

_TO_TARGET = "[%h]:%p"
"""Where ssh puts the address and port of the next machine into a ProxyCommand."""

_PLAIN = re.compile(r"[A-Za-z0-9_./~+@:,=-]+", re.ASCII)
"""A path that needs no quotes, in a command line that people read and paste."""

_NOTHING_OF_OURS = (
    "BatchMode=yes",
    "LogLevel=ERROR",
    "StrictHostKeyChecking=yes",
    "UpdateHostKeys=no",
    "ForwardAgent=no",
    "ForwardX11=no",
    "ClearAllForwardings=yes",
    "Tunnel=no",
    "PermitLocalCommand=no",
    "EscapeChar=none",
    "CanonicalizeHostname=no",
)


def require_usable(access: SshAccess) -> None:
    """Raise ConfigError for an access that could make ssh do something else."""
    fault = fault_of(access)
    if fault is not None:
        raise ConfigError(f"ssh.{fault[0]}: {fault[1]}", remedy="correct the host file's `ssh:`")


def settled(path: str | None) -> str | None:
    """A path that neither HOME nor the working directory changes any more. Raises ConfigError."""
    try:
        return None if path is None else str(Path(path).expanduser().absolute())
    except (OSError, RuntimeError) as error:  # no such user, no working directory
        raise ConfigError(f"ssh: {path!r} cannot be resolved: {error}") from error


def ssh_argv(
    access: SshAccess,
    *,
    extra: tuple[str, ...] = (),
    through: tuple[str, ...] | None = None,
    terminal: bool = False,
) -> tuple[str, ...]:
    """``ssh`` with all its options and no destination. Raises ConfigError for values it could misread.

    ``extra`` are options of the connection's own (``ControlPath=...``); ``through`` is the ssh client, with
    destination, by whose connection the machine is reached instead of ``proxy_jump``. With ``terminal`` a
    shell there gets one.
    """
    require_usable(access)
    if through is not None:
        way: tuple[str, ...] | None = through
    else:
        way = None
        for hop in hops(access.proxy_jump):
            way = (*_options(access, (), way, hop), "-W", _TO_TARGET, "--", hop.address)
    argv = _options(access, extra, way, None, shown=terminal)
    return argv if terminal else (*argv, "-T")


def _options(
    access: SshAccess,
    extra: tuple[str, ...],
    way: tuple[str, ...] | None,
    hop: Hop | None,
    *,
    shown: bool = False,
) -> tuple[str, ...]:
    known, key = settled(access.known_hosts), settled(access.identity_file)
    options = [
        *_NOTHING_OF_OURS,
        f"ConnectTimeout={max(1, round(access.connect_timeout_seconds))}",
        f"ServerAliveInterval={_ALIVE_INTERVAL}",
        f"ServerAliveCountMax={_ALIVE_COUNT}",
        *extra,
    ]
    if known is not None and hop is None:
        pinned = known if shown and _PLAIN.fullmatch(known) else quoted(known)
        options += [f"UserKnownHostsFile={pinned}", "GlobalKnownHostsFile=/dev/null"]
    elif known is not None:
        # What is pinned is the last machine's key; those on the way may be known to the user only.
        options.append(f"UserKnownHostsFile={quoted(known)} ~/.ssh/known_hosts")
    if key is not None:
        options += [f"IdentityFile={quoted(key)}", *([] if hop is not None else ["IdentitiesOnly=yes"])]
    if way is not None:
        options.append(f"ProxyCommand={_command(way)}")
    config = settled(access.config)
    user = access.user if hop is None else hop.user
    port = access.port if hop is None else hop.port
    return (
        *("ssh", "-F", config if config is not None else "none"),
        *(part for option in options for part in ("-o", option)),
        *(() if port is None else ("-p", str(port))),
        *(() if user is None else ("-l", user)),
    )


def _command(argv: tuple[str, ...]) -> str:
    # ssh expands % in the command before a shell reads it; only where the next machine is, is meant so. ssh
    # itself puts `exec` before it.
    return shlex.join(part if part == _TO_TARGET else part.replace("%", "%%") for part in argv)


def quoted(path: str) -> str:
    """A path as the value of an option, where blanks and % have a meaning of their own; quotes and the like
    are refused. Raises ConfigError."""
    if any(character in path for character in '"\n\r\\') or "${" in path:
        raise ConfigError(f"ssh cannot be given the path {path!r}: quote, backslash, newline or ${{ in it")
    return '"' + path.replace("%", "%%") + '"'
