"""Keys of a guest: made for it, handed over by QEMU, pinned, and kept out of the record."""

from __future__ import annotations

import base64
import shutil
import stat
import subprocess

import pytest

from harness.errors import ProvisionError
from harness.stages.guest.keys import make_keys
from tests.alone import alone

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen (openssh-client)")


@pytest.fixture
def keys(tmp_path):
    return make_keys(tmp_path, "g1-1gpu")


def test_the_guest_gets_what_belongs_to_our_identity_and_its_own_host_key(keys, tmp_path) -> None:
    handed = {name: base64.b64decode(text).decode() for name, text in keys.fw_cfg()}
    assert set(handed) == {"opt/org.shakedown/authorized_keys", "opt/org.shakedown/host_key"}
    assert all("\n" not in text for _, text in keys.fw_cfg())
    ours = subprocess.run(
        ["ssh-keygen", "-y", "-f", str(keys.identity)], capture_output=True, text=True, check=True
    )
    assert handed["opt/org.shakedown/authorized_keys"].split()[:2] == ours.stdout.split()[:2]
    copy = tmp_path / "copy"
    copy.write_text(handed["opt/org.shakedown/host_key"])
    copy.chmod(0o600)
    theirs = subprocess.run(["ssh-keygen", "-y", "-f", str(copy)], capture_output=True, text=True, check=True)
    assert theirs.stdout.split()[:2] == keys.host_public.split()[:2]


def test_nobody_else_may_read_the_private_keys(keys, tmp_path) -> None:
    private = [p for p in tmp_path.iterdir() if p.suffix != ".pub"]
    assert len(private) == 2
    assert {stat.S_IMODE(p.stat().st_mode) for p in private} == {0o600}


def test_the_recorded_definition_holds_no_private_key(keys) -> None:
    (_, public), (_, secret) = keys.fw_cfg()
    redacted = keys.redact(f"<domain><entry>{public}</entry><entry>{secret}</entry></domain>")
    assert redacted == f"<domain><entry>{public}</entry><entry>(private key, not recorded)</entry></domain>"


def test_only_this_guest_may_answer_at_its_address(keys, tmp_path) -> None:
    pinned = tmp_path / "known_hosts"
    keys.pin("10.213.7.10", pinned)
    found = subprocess.run(
        ["ssh-keygen", "-F", "10.213.7.10", "-f", str(pinned)], capture_output=True, text=True, check=True
    )
    assert keys.host_public.split()[1] in found.stdout
    assert pinned.read_text().count("\n") == 1


def test_two_guests_share_no_key(keys, tmp_path) -> None:
    other = make_keys(tmp_path, "g2-4gpu")
    assert {keys.authorized, keys.host_public} & {other.authorized, other.host_public} == set()


def test_a_directory_that_is_gone_is_told(tmp_path) -> None:
    with pytest.raises(ProvisionError, match=r"ssh-keygen failed: .*No such file"):
        make_keys(tmp_path / "gone", "g1")


def test_a_umask_hides_no_key_and_a_changed_directory_loses_none(tmp_path) -> None:
    code = """
from harness.stages.guest.keys import make_keys
os.chdir(sys.argv[1])
os.mkdir("keys")
os.umask(0o777)
close_all()
keys = make_keys(Path("keys"), "g1")
keys.pin("10.213.7.10", Path("known_hosts"))
assert keys.identity.stat().st_mode & 0o777 == 0o600
assert Path("known_hosts").stat().st_mode & 0o777 == 0o600
"""
    alone(code, tmp_path)
