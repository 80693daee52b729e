"""What OpenSSH's words mean to a person: told apart, each with a remedy."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.model.inventory import SshAccess


@dataclass(frozen=True, slots=True, kw_only=True)
class SshFailure:
    """One way a connection fails."""

    kind: str
    pattern: re.Pattern[str]
    remedy: str
    """A format string over ``address``, ``port``, ``user`` and ``known_hosts``."""


def _failure(kind: str, pattern: str, remedy: str) -> SshFailure:
    return SshFailure(kind=kind, pattern=re.compile(pattern, re.IGNORECASE), remedy=remedy)


# In this order: a changed key also prints "Host key verification failed". The words are those of OpenSSH
# (ssh.c, sshconnect.c, sshconnect2.c) and of strerror(3); ssh is run with LC_ALL=C.
FAILURES: tuple[SshFailure, ...] = (
    _failure(
        "host key changed",
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|host key for .* has changed|Offending .* key in",
        "find out why the key of {address} changed; if the machine was reinstalled, remove its old line "
        "from {known_hosts} and add the new key",
    ),
    _failure(
        "host key unknown",
        r"Host key verification failed|No .* host key is known for",
        "compare the fingerprint of {address} and add its key to {known_hosts} "
        "(`ssh-keyscan -p {port} {address}` prints it); keys are never accepted blindly",
    ),
    _failure(
        "permission denied",
        r"Permission denied|Too many authentication failures|no mutual signature",
        "check that the public key of `identity_file` is in the authorized_keys of {user} on {address}",
    ),
    _failure(
        "identity unreadable",
        r"UNPROTECTED PRIVATE KEY FILE|Identity file .* not accessible|Load key .*:",
        "check that the identity file exists and that only you can read it (chmod 600)",
    ),
    _failure(
        "connection refused",
        r"Connection refused",
        "check that sshd runs on {address} and listens on port {port}",
    ),
    _failure(
        "name unknown",
        r"Could not resolve hostname|Name or service not known",
        "correct `ssh.address` in the host file, or fix name resolution",
    ),
    _failure(
        "no route",
        r"No route to host|Network is unreachable|Host is down",
        "check that the machine is on and that the network reaches {address}",
    ),
    _failure(
        "timeout",
        r"timed out|Timeout, server .* not responding",
        "see that {address} is up and that no firewall drops port {port}; a slow host may need a larger "
        "`connect_timeout_seconds`",
    ),
    _failure(
        "connection lost",
        r"Connection (reset|closed)|Broken pipe|kex_exchange_identification|Shared connection .* closed"
        r"|from master failed|Connection to .* closed|banner exchange",
        "check that the machine is up; sshd may be starting, restarting or out of sessions",
    ),
    _failure(
        "too many sessions",
        r"Session open refused|open failed: administratively prohibited|open failed: connect failed",
        "raise MaxSessions in the sshd_config of {address}, or check that the guest listens on port {port}",
    ),
)


def classify(words: str) -> SshFailure | None:
    """The first failure whose words occur in what ssh printed; None for words we do not know."""
    return next((failure for failure in FAILURES if failure.pattern.search(words)), None)


def explain(words: str, access: SshAccess) -> tuple[str, str]:
    """A message that quotes ssh and a remedy, for a connection to ``access`` that failed."""
    failure = classify(words)
    quote = _last_words(words)
    target = f"{access.user}@{access.address} port {access.port}"
    if failure is None:
        said = f": {quote}" if quote else " without a message"
        return f"ssh to {target} failed{said}", f"try `ssh -p {access.port} {access.user}@{access.address}`"
    remedy = failure.remedy.format(
        address=access.address,
        port=access.port,
        user=access.user,
        known_hosts=access.known_hosts or "~/.ssh/known_hosts",
    )
    return f"ssh to {target}: {failure.kind}: {quote}", remedy


def _last_words(words: str) -> str:
    """ssh's words on one line without its banners; the end of them when they are long."""
    lines = [line.strip(" @\r\t") for line in words.splitlines()]
    text = "; ".join(line for line in lines if line)
    return text if len(text) <= 600 else "..." + text[-597:]
