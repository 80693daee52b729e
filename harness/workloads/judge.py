"""From a collected job to a WorkloadResult: every way of not answering has its own word."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import replace

from harness.errors import ParseError
from harness.model.evidence import WorkloadResult
from harness.model.inventory import LimitSpec
from harness.model.outcome import Measurement
from harness.reading import reader
from harness.workloads.base import Job, Workload, strict_object
from harness.workloads.runs import Collected, parse_collected

UNABLE = 3
"""Exit status of a payload that could not do its work here (a tool is missing) and says so."""
ENGINE_BROKEN = 4
"""Exit status of a payload whose tools are all there and whose demanded engine does not work: a defect of
the machine, said in its ``error``. It never goes on with another engine."""
_NOT_STARTED = (126, 127)
"""What a shell says of a program that it cannot start, or not find (POSIX, Shell Command Language 2.8.2): no
payload ran, so nothing is known of the device. No payload ends with either."""
_TRACE = "Traceback (most recent call last):"


def broke_off(code: int, said: str) -> bool:
    """Whether a payload ended by a defect of its own or was killed from outside. Neither accuses a device.

    Python ends with 1 and a trace where nobody catches an exception; the kernel kills where memory runs out.
    """
    return (code == 1 and _TRACE in said) or code == 128 + signal.SIGKILL


def judge(
    workload: Workload,
    job: Job,
    raw: bytes,
    *,
    limits: Mapping[str, LimitSpec] | None = None,
    transcript: str = "",
    nonce: str | None = None,
) -> WorkloadResult:
    """What ``raw``, the output of ``collect``, says of the workload; ``nonce`` is the one it was asked with.
    Never raises for bad output.

    ``done``: the payload ended well and its answers, right or wrong, are there. ``failed``: it was ended by
    a signal or ended badly by itself. ``timeout``: it still ran, or was stopped. ``lost``: no readable
    result, which is missing evidence and neither health nor a fault of the device.
    """
    result = WorkloadResult(
        workload=workload.spec.name,
        guest=job.guest,
        engine="",
        key=job.key,
        status="lost",
        transcript=transcript,
    )
    try:
        collected = parse_collected(raw, job.key, nonce)
    except ParseError as error:
        return replace(result, detail=error.message)
    times = collected.status
    result = replace(result, seconds=times.seconds, started=times.started, ended=times.ended)
    status, detail = _ending(collected)
    if status != "done":
        return replace(result, status=status, detail=detail)
    try:
        parsed = reader(f"the output of {workload.spec.name}")(workload.parse)(job, collected.stdout)
    except ParseError as error:
        return replace(result, detail=error.message)
    if not parsed.answers:
        return replace(result, detail=f"{workload.spec.name} returned no answers")
    held = tuple(_held(m, limits or {}) for m in parsed.measurements)
    return replace(
        result,
        status="done",
        engine=parsed.engine,
        answers=parsed.answers,
        measurements=held,
        versions=parsed.versions,
    )


def _held(measurement: Measurement, limits: Mapping[str, LimitSpec]) -> Measurement:
    limit = limits.get(measurement.name)
    return measurement if limit is None else replace(measurement, lower=limit.lower, upper=limit.upper)


def _ending(collected: Collected) -> tuple[str, str]:
    """Status and detail of how the job ended, before anybody reads its answers."""
    status, spent = collected.status, collected.status.seconds or 0.0
    if status.stopped:
        return "timeout", f"stopped after {spent:.0f} s"
    if status.state != "done":
        return {
            "running": ("timeout", f"still running after {spent:.0f} s"),
            "absent": (
                "lost",
                "the guest does not know this job: it was never started, or the guest rebooted",
            ),
            "lost": ("lost", "the job has ended without an exit status"),
        }[status.state]
    if status.exit_status:
        return _bad_ending(status.exit_status, collected)
    if status.stdout_total != status.stdout_bytes:
        return "lost", f"only {status.stdout_bytes} of {status.stdout_total} bytes of output were returned"
    return "done", ""


def _bad_ending(code: int, collected: Collected) -> tuple[str, str]:
    said = collected.stderr[-1000:].decode("utf-8", "backslashreplace").strip()
    if code == UNABLE:
        return "lost", _reason(collected.stdout) or said or "the payload cannot run here"
    if code == ENGINE_BROKEN:
        return "failed", _reason(collected.stdout) or said or "the required engine does not work"
    if code in _NOT_STARTED:
        return "lost", f"the machine could not start it (exit status {code}): {said}"
    if broke_off(code, collected.stderr.decode("utf-8", "replace")):
        return "lost", f"the load ended with an error (exit status {code}): {said}"
    how = f"ended by signal {code - 128}" if code > 128 else f"ended with status {code}"
    return "failed", f"{how}: {said}" if said else how


def _reason(stdout: bytes) -> str:
    try:
        return strict_object(stdout, "payload").text("error")[:1000]
    except ParseError:
        return ""
