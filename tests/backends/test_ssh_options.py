"""No value of a host file or record becomes an option of ssh, a command, or another machine."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.backends.ssh import SshTransport
from harness.backends.ssh_options import ssh_argv
from harness.config.files import load_host
from harness.errors import ConfigError, ParseError
from harness.lab.access import ssh_command
from harness.model.inventory import SshAccess
from harness.serial import from_data, to_data
from tests.contract.private_sshd import private_sshd

GOOD = SshAccess(address="gpu07")
TEXT_FIELDS = ("address", "user", "identity_file", "known_hosts", "proxy_jump", "config")
HOSTILE = (
    "$(touch {mark})'@host",
    "`touch {mark}`\\",
    "host;touch '{mark}'",
    "-oProxyCommand=touch {mark}",
    "host\n  ProxyCommand touch {mark}",
    'host|touch "{mark}"',
    "a'b",
    'a"b',
    "a\\b",
    "x\0y",
    "\ud800",
    "${{HOME}}/x",
    "\u202ehost",
    "",
)


def refused(field: str, value: Any) -> None:
    """By both who make command lines, and by the type when it is read from data."""
    hostile = replace(GOOD, **{field: value})
    for make in (SshTransport, ssh_argv, ssh_command):
        with pytest.raises(ConfigError, match=f"ssh.{field}"):
            make(hostile)
    with pytest.raises(ParseError):
        from_data(SshAccess, to_data(GOOD) | {field: value})


@pytest.mark.parametrize("field", TEXT_FIELDS)
@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_that_is_more_than_a_value_is_refused(field: str, value: str, tmp_path: Path) -> None:
    refused(field, value.format(mark=tmp_path / "mark"))


@pytest.mark.parametrize("field", ["address", "user", "proxy_jump"])
@pytest.mark.parametrize("value", ["a b", "%h", "a%%b", "a/b", "a@b@c", "x" * 300, "hôst", "a,,b", "[::1"])
def test_names_are_names(field: str, value: str) -> None:
    refused(field, value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("port", 0),
        ("port", 65536),
        ("port", True),
        ("connect_timeout_seconds", 0.0),
        ("connect_timeout_seconds", 1e300),
        ("proxy_jump", "h:0"),
        ("proxy_jump", "h:99999"),
        ("proxy_jump", "a,b,c,d,e"),
    ],
)
def test_numbers_are_within_bounds(field: str, value: object) -> None:
    refused(field, value)


@pytest.mark.parametrize(
    "change",
    [
        {"address": "10.0.0.7"},
        {"address": "::1"},
        {"address": "fe80::1%eth0"},
        {"user": "ubuntu", "port": 2222},
        {"identity_file": "~/.ssh/id of mine 100%"},
        {"proxy_jump": "bastion.example.net"},
        {"proxy_jump": "ada@bastion.example.net:2222,[2001:db8::7]:22"},
        {"config": "/etc/ssh/ssh_config"},
    ],
)
def test_what_a_site_uses_is_taken(change: dict[str, Any]) -> None:
    access = replace(GOOD, **change)
    assert from_data(SshAccess, to_data(access)) == access
    assert ssh_argv(access)


def test_a_host_file_is_told_the_line_and_the_key(tmp_path: Path) -> None:
    path = tmp_path / "h.yaml"
    path.write_text('name: h\nssh:\n  address: h\n  proxy_jump: "$(id)@host"\n')
    with pytest.raises(ConfigError, match=r"h.yaml, line 4: ssh.proxy_jump: not \[USER@\]HOST"):
        load_host(path)


def test_nothing_comes_from_a_configuration_unless_it_is_named() -> None:
    options = ssh_argv(GOOD)
    assert options[options.index("-F") + 1] == "none"
    for wanted in ("ForwardAgent=no", "ForwardX11=no", "PermitLocalCommand=no", "ClearAllForwardings=yes"):
        assert wanted in options
    named = ssh_argv(replace(GOOD, config="/site/ssh_config", proxy_jump="bastion"))
    assert named[named.index("-F") + 1] == "/site/ssh_config"
    proxy = next(option for option in named if option.startswith("ProxyCommand="))
    assert "-F /site/ssh_config" in proxy


@given(st.text(st.sampled_from("ab:@[]%,.-$`;&|\n '\"\\(){}~"), max_size=20))
def test_a_jump_is_refused_or_becomes_words_that_no_shell_reads_otherwise(text: str) -> None:
    try:
        argv = ssh_argv(replace(GOOD, proxy_jump=text))
    except ConfigError:
        return
    command = next(option for option in argv if option.startswith("ProxyCommand="))
    words = shlex.split(command.removeprefix("ProxyCommand="))
    assert words[0] == "ssh"
    assert words[-2] == "--"
    assert not set("$`;&|\n'\"\\(){}~ ,@[]") & set(words[-1])


def test_machines_on_the_way_are_reached_with_the_same_options(tmp_path: Path) -> None:
    """Two hops and the machine itself are one server here; nothing is asked of a configuration."""
    with private_sshd(tmp_path / "with space") as access:
        way = f"{access.user}@127.0.0.1:{access.port}"
        transport = SshTransport(replace(access, proxy_jump=f"{way},{way}"))
        try:
            assert transport.run(("printf", "%s", "a%h b"), deadline=60).text == "a%h b"
        finally:
            transport.close()


def test_ssh_itself_takes_the_options() -> None:
    argv = ssh_argv(replace(GOOD, identity_file="/k e%y", known_hosts="/k h", proxy_jump="b,c"))
    shown = subprocess.run([*argv, "-G", "--", "gpu07"], capture_output=True, text=True, check=True).stdout
    assert "forwardagent no" in shown
    assert "permitlocalcommand no" in shown
    assert "userknownhostsfile /k h" in shown
