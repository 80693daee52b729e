"""Kernel logs with Xids and SXids."""

from __future__ import annotations

from dataclasses import replace

from harness.faults.base import Fault
from harness.faults.telemetry_host import with_guest_log, with_host_log
from harness.model.outcome import Action, Outcome
from harness.model.telemetry import Family, KernelEvent, Ruling

_BUS_LINE = "NVRM: Xid (PCI:0000:05:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
_LINK_LINE = "NVRM: Xid (PCI:0000:05:00): 45, pid=4242, name=python3, Ch 00000010"
_NEW_LINE = "NVRM: Xid (PCI:0000:05:00): 999, something unknown"
_SWITCH_LINE = "nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30 LTSSM Fault Up"


def _event(line: str, ruling: Ruling, *, code: int, family: Family = Family.XID) -> KernelEvent:
    return KernelEvent(source="", at=None, family=family, line=line, code=code, ruling=ruling)


FAULTS = (
    Fault(
        id="xid-stop",
        title="The guest's driver reports XID 79",
        must_trip="guest.gpu_errors",
        corrupt=lambda e: with_guest_log(
            e,
            events=(replace(_event(_BUS_LINE, Ruling.STOP, code=79), action=Action.REPLACE_GPU),),
        ),
    ),
    Fault(
        id="xid-unknown",
        title="The guest's driver reports an unknown code",
        must_trip="guest.gpu_errors",
        corrupt=lambda e: with_guest_log(e, events=(_event(_NEW_LINE, Ruling.UNKNOWN, code=999),)),
    ),
    Fault(
        id="xid-alone",
        title="A consequence appeared in the log without its cause",
        must_trip="guest.gpu_errors",
        corrupt=lambda e: with_guest_log(e, events=(_event(_LINK_LINE, Ruling.LINK, code=45),)),
        outcome=Outcome.ERROR,
    ),
    Fault(
        id="sxid-fatal",
        title="The host's NVSwitch driver reports a fatal SXid",
        must_trip="host.gpu_errors",
        corrupt=lambda e: with_host_log(
            e, events=(_event(_SWITCH_LINE, Ruling.STOP, code=20034, family=Family.SXID),)
        ),
    ),
)
