"""What ffmpeg tells ``job.py`` and ``clips.py`` in files: hashes and likeness of frames."""

from __future__ import annotations

IDENTICAL_DB = 100.0
"""Stands for the infinite PSNR of identical frames, which strict JSON cannot say."""


def hashes(path: str) -> list[str]:
    """The MD5 column of a framemd5 file."""
    with open(path, encoding="ascii", errors="replace") as stream:
        return [line.rsplit(",", 1)[-1].strip() for line in stream if line.strip() and line[0] != "#"]


def values(path: str, name: str) -> list[float]:
    """``name:value`` of each line of a filter's statistics file; infinity becomes IDENTICAL_DB."""
    found = []
    with open(path, encoding="ascii", errors="replace") as stream:
        for line in stream:
            for field in line.split():
                if field.startswith(name + ":"):
                    value = float(field[len(name) + 1 :])
                    found.append(IDENTICAL_DB if value == float("inf") else value)
    return found
