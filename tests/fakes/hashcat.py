"""A hashcat for tests: speaks like hashcat 6.2.6, really tries every candidate, has the defects asked for.

Beside it lies ``hashcat.json``: ``info`` (what ``-I`` prints) and ``defect``. Its words are those of the
source (``terminal.c``, ``selftest.c``, ``main.c``); only unsalted modes 0 and 1400 are known.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sys
from pathlib import Path

ENDS = {
    "heat": (2, "Temperature limit on GPU #1 reached, aborting..."),
    "memory": (252, "* Device #1: Not enough allocatable device memory for this attack."),
    "compiler": (255, "nvrtcCompileProgram(): NVRTC_ERROR_INVALID_OPTION\nKernel shared.cl build failed."),
    "fault": (255, "cuCtxSynchronize(): an illegal memory access was encountered"),
}


def options(argv: list[str]) -> tuple[dict[str, str], list[str]]:
    """Options with values, and the rest."""
    flags = {"-O", "-b", "-I", "--version", "--potfile-disable", "--restore-disable", "--logfile-disable",
             "--status", "--status-json", "--outfile-autohex-disable", "--markov-disable",
             "--machine-readable"}  # fmt: skip
    found: dict[str, str] = {}
    rest, words = [], iter(argv)
    for item in words:
        if item in flags:
            found[item] = ""
        elif item.startswith("-"):
            found[item] = next(words)
        else:
            rest.append(item)
    return found, rest


def candidates(mask: str, sets: dict[str, str]) -> list[str]:
    """All words of a mask of ``?1``, ``?2`` and letters."""
    parts = []
    while mask:
        take = 2 if mask[0] == "?" else 1
        parts.append(sets[mask[:2]] if take == 2 else mask[0])
        mask = mask[take:]
    return ["".join(letters) for letters in itertools.product(*parts)]


def hunt(given: dict[str, str], rest: list[str], defect: str) -> int:
    """One session."""
    print("hashcat (v6.2.6) starting\n\nStarting self-test. Please be patient...", end="")
    if defect == "self-test":
        print("\n* Device #1: ATTENTION! CUDA kernel self-test failed.\n")
        print("Aborting session due to kernel self-test failure.")
        return 255
    if defect != "no self-test":
        print("Finished self-test", end="")
    print("Starting autotune. Please be patient...Finished autotune")
    end = defect if defect in ENDS else ""
    if defect == "one fault":
        end = "fault" if given["-d"] == "2" else "memory"
    if defect.endswith(", then memory") and (given["-m"], given["-d"]) != ("0", "1"):
        end = "memory"
    if end:
        status, words = ENDS[end]
        print(words)
        return status
    wanted = set(Path(rest[0]).read_text(encoding="ascii").split())
    tried = candidates(rest[1], {"?1": given["-1"], "?2": given["-2"]})
    kind = {"0": "md5", "1400": "sha256"}[given["-m"]]
    found = [(hashlib.new(kind, c.encode()).hexdigest(), c) for c in tried]
    found = [pair for pair in found if pair[0] in wanted]
    if defect == "miss" and kind == "sha256":
        found = found[1:]
    if defect.startswith("wrong") and found:
        found[0] = (found[0][0], "no" + found[0][1])
    if defect == "decoy":
        found.append((min(wanted - {h for h, _ in found}), "invented"))
    finds = "".join(f"{h}:{word.encode().hex()}\n" for h, word in found)
    Path(given["--outfile"]).write_text(finds, encoding="ascii")
    done = len(tried) // 2 if defect == "early" else len(tried)
    for number, progress in ((3, done // 2), (5, done)):
        report = {
            "session": "s", "guess": {}, "status": number, "target": "hashes",
            "progress": [progress, len(tried)],
            "restore_point": 0, "recovered_hashes": [len(found), len(wanted)], "recovered_salts": [0, 1],
            "rejected": 0, "devices": [{"device_id": int(given["-d"]), "device_name": "fake",
            "device_type": "GPU", "speed": 5_000_000_000 // number, "util": 99}],
            "time_start": 1, "estimated_stop": 2,
        }  # fmt: skip
        text = json.dumps(report).replace('{"session"', '{ "session"')
        print("[s]tatus [p]ause [b]ypass =>    " + (text[:-40] if defect == "torn" else text))
    print("Started: Sun Nov 22 06:10:22 2026")
    return 1


def main(argv: list[str]) -> int:
    """Do what hashcat would."""
    told = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    given, rest = options(argv)
    if os.environ["LC_ALL"] != "C" or not os.environ["XDG_DATA_HOME"].startswith(os.environ["HOME"]):
        return 99  # the payload promises both
    if "--version" in given:
        print("v6.2.6")
        return 0
    if "-I" in given:
        print(told["info"])
        return int(told.get("info_exit", 0))
    if "-b" in given:
        print("# version: v6.2.6")
        if told["defect"] != "no benchmark":
            print(f"{given['-d']}:{given['-m']}:1410:5001:8.08:64094800000")
        return 0
    return hunt(given, rest, told["defect"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
