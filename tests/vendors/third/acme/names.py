"""ACME's names."""

from __future__ import annotations

from harness.model.outcome import Action
from harness.model.vendor import Advice, Commands, VendorNames

NAMES = VendorNames(
    name="ACME",
    pci_ids=("1ace",),
    modules=("acmegpu",),
    driver="acmegpu",
    waiting=("acmegpu",),
    stop_users="systemctl stop acmed",
    repeats=("acmegpu",),
    log_words=("acmegpu",),
    device_files=("acme[0-9]*",),
    device_file="acme",
    minor_file="/proc/acme/{address}",
    code_tables={"code": "acme"},
    telemetry="acmetel",
    engines=("acme_codec",),
    encoders=("acme_codec",),
    advice=Advice(
        library="ACMETEL",
        code="ACME fault",
        recovery={1: ("a cold start of the card", Action.RESTART_HOST)},
        commands=Commands(power_limit="acmectl power {gpu} {value:g}"),
    ),
)
