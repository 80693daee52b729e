"""Matrix products and training by TensorFlow or PyTorch, on every GPU of the job at once, or on a processor.

Usage: ``job.main(JSON)`` with the parameters of ``harness.workloads.tensor``. Prints one line of strict
JSON: what was observed on each device. It judges nothing; the controller does, by values of its own.

A GPU has a process of its own (``worker.py``), which sees no other GPU; all burn at the same time. An
engine that does not work is never replaced by another.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from harness.payload import processes as tools
from harness.workloads.tensor.payload import device, worker

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any


def _spawn(job: dict[str, Any], visible: dict[str, str], folder: str, number: int) -> tuple[int, str]:
    output = os.path.join(folder, f"worker-{number}.json")
    text = json.dumps(job, allow_nan=False)
    # By what started us, ``start.py`` of the packed tree.
    start = (os.path.abspath(sys.argv[0]), worker.__name__)
    isolated = ["-I", "-S"] if sys.flags.no_site else ["-I"]
    argv = [sys.executable, *isolated, *start, text]
    variables = {**os.environ, **visible}
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions = [(os.POSIX_SPAWN_OPEN, 1, output, flags, 0o600)]
    return os.posix_spawn(sys.executable, argv, variables, file_actions=actions), output


def _report(said: str) -> dict[str, Any] | None:
    try:
        found = json.loads(said)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _ending(status: int, report: dict[str, Any] | None) -> tuple[int, str]:
    """3 or 4 for a GPU's process that did not come through, and why."""
    reason = str((report or {}).get("error") or "")
    if status in (3, 4) and reason:
        return status, reason
    words = f"its process ended with status {status}"
    if status == -signal.SIGKILL:  # no fault of a device ends a process so
        return 3, f"{words}, as the kernel ends one where memory runs out"
    if status == 1:  # an exception, whose trace stands in stderr
        return 3, f"{words}: a bug in this test"
    # Not 1, which beside the trace of another GPU's process would look like a bug in this test.
    return 4, words


def together(job: dict[str, Any], unable: list[dict[str, str]]) -> tuple[list[dict[str, Any]], int, str]:
    """Reports of all GPUs, worst exit status and why; ``unable`` gets those that lacked something."""
    tools.clear(job["folder"])
    started, found, worst, why = [], [], 0, ""
    try:
        places = [device.visible(address) for address in job["devices"]]
    except (device.Unable, device.Broken, OSError) as error:
        return [], 4 if isinstance(error, device.Broken) else 3, str(error)
    for number, (address, visible) in enumerate(zip(job["devices"], places, strict=True)):
        started.append(_spawn({**job, "device": address}, visible, job["folder"], number))
    for (pid, output), address in zip(started, job["devices"], strict=True):
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with open(output, encoding="utf-8", errors="backslashreplace") as stream:
            said = stream.read()
        report = _report(said)
        if status == 0 and report is not None:
            found.append(report)
        elif not worst or worst == 3:
            worst, reason = _ending(status, report)
            why = f"{address}: {reason}"
            if worst == 3:
                unable.append({"device": address, "error": reason})
    tools.clear(job["folder"])
    return found, worst, why


def main(argument: str) -> None:
    """Run with the parameters in ``argument`` (JSON) and print the observation."""
    job = json.loads(argument)
    unable: list[dict[str, str]] = []
    if job["devices"]:
        found, status, why = together(job, unable)
        if status == 3 and found:  # what the others computed may be wrong, and must not be lost
            status = 0
    else:
        one, status = worker.outcome({**job, "device": "cpu"})
        found, why = [one], str(one.get("error", ""))
    result: dict[str, Any] = {"payload": "tensor"}
    if status:
        result["error"] = why
        print(why, file=sys.stderr)
    else:
        versions: dict[str, str] = {}
        for one in found:
            versions.update(one.pop("versions"))
        engine = ",".join(sorted({one["engine"] for one in found}))
        result.update(engine=engine, versions=versions)
        result["observed"] = {"devices": found, **({"unable": unable} if unable else {})}
    print(json.dumps(result, allow_nan=False), flush=True)
    sys.stderr.flush()
    # The library's destructors take down its registries page by page; the answer is already out.
    os._exit(status)
