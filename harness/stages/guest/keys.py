"""SSH keys of one guest: made for it, handed to it by QEMU, gone with it."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from pathlib import Path

from harness.backends.process import Surroundings, run_child
from harness.errors import ProvisionError, TransportError

FW_CFG = "opt/org.shakedown"
"""Prefix of what a guest reads under ``/sys/firmware/qemu_fw_cfg/by_name`` (contract: CONTRIBUTING.md)."""

_KEYGEN_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestKeys:
    """Paths and texts of a guest's keys."""

    identity: Path
    """Our private key."""
    authorized: str
    """Our public key, one line."""
    host_private: str
    host_public: str

    def fw_cfg(self) -> tuple[tuple[str, str], ...]:
        """What QEMU hands to the guest: base64, since fw_cfg strings in domain XML are single lines."""
        pairs = (("authorized_keys", self.authorized), ("host_key", self.host_private))
        return tuple((f"{FW_CFG}/{name}", base64.b64encode(text.encode()).decode()) for name, text in pairs)

    def redact(self, xml: str) -> str:
        """Domain XML fit for the record: the guest's private key is left out."""
        return xml.replace(
            base64.b64encode(self.host_private.encode()).decode(), "(private key, not recorded)"
        )

    def pin(self, address: str, known_hosts: Path) -> None:
        """Write the known_hosts file that lets only this guest answer at ``address``."""
        known_hosts.write_text(f"{address} {self.host_public}\n")
        known_hosts.chmod(0o600)  # whatever the umask is


def make_keys(directory: Path, guest: str) -> GuestKeys:
    """New ed25519 keys in ``directory`` (which only we can read). Raises ProvisionError."""
    identity, host = directory / f"{guest}.key", directory / f"{guest}.host_key"
    inherited = replace(Surroundings.now(), umask=0o077)  # no umask may hide them from ssh
    for path in (identity, host):
        argv = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "shakedown", "-f", str(path.absolute()))
        try:
            made = run_child(argv, deadline=_KEYGEN_SECONDS, surroundings=inherited)
        except TransportError as error:
            raise ProvisionError(
                f"ssh-keygen cannot be run: {error.message}", remedy="apt-get install openssh-client"
            ) from error
        if made.status != 0:
            words = made.stderr.decode("utf-8", "backslashreplace").strip()
            raise ProvisionError(f"ssh-keygen failed: {words}", remedy="apt-get install openssh-client")
    return GuestKeys(
        identity=identity,
        authorized=identity.with_suffix(".key.pub").read_text().strip() + "\n",
        host_private=host.read_text(),
        host_public=host.with_suffix(".host_key.pub").read_text().strip(),
    )
