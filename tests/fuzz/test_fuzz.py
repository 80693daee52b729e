"""No text of a host, guest, file or user makes a reader raise anything but its own error, hang, or give what
cannot be recorded.

A minute in every run. ``pytest -m fuzz`` goes on for ten (``SHAKEDOWN_FUZZ_SECONDS``), from other beginnings
each time. What it finds lies in ``corpus`` afterwards, and is tried for ever.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import itertools
import os
import random
import secrets
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from harness.workloads.registry import NAMES
from tests.fuzz.mutate import mutated
from tests.fuzz.readers import WITHIN, Reader, readers
from tests.gates.source import modules, tree

CORPUS = Path(__file__).parent / "corpus"
READERS = readers()
SLOWEST = 10.0
"""Seconds that one reader may take for one small input, on a machine that is shared."""
SHARE = 1.5
"""Seconds for each reader in the default run."""
_BATCH = settings(
    max_examples=10,
    deadline=None,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
"""So many captures at a time: Hypothesis counts, and does not look at the clock."""
LONG = float(os.environ.get("SHAKEDOWN_FUZZ_SECONDS", "600"))


def tried(reader: Reader, raw: bytes) -> None:
    """Read it; an error of another kind, or too much time, fails."""
    began = time.monotonic()
    with contextlib.suppress(*reader.raises):
        reader.read(raw)
    assert time.monotonic() - began < SLOWEST


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_what_it_is_made_for_is_read(reader: Reader) -> None:
    for capture in reader.seeds:
        tried(reader, capture)


@pytest.mark.parametrize(
    "path",
    sorted(path for path in CORPUS.glob("*/*") if path.is_file()),
    ids=lambda p: f"{p.parent.name}-{p.name}",
)
def test_what_was_found_once_stays_mended(path: Path) -> None:
    reader = next(each for each in READERS if each.name == path.parent.name)
    tried(reader, path.read_bytes())


def search(reader: Reader, seconds: float, beginning: str) -> None:
    """Changed captures until the time is over; one that fails is made smaller, kept in the corpus, told.

    Hypothesis chooses the capture, the changes and their places, and shrinks them.
    """
    failing: list[bytes] = []

    def changed(capture: bytes, chance: random.Random) -> None:
        raw = mutated(capture, chance)
        try:
            tried(reader, raw)
        except Exception:
            failing.append(raw)
            raise

    choices = given(st.sampled_from(reader.seeds), st.randoms(use_true_random=False))
    until = time.monotonic() + seconds
    for number in itertools.count(1):
        if time.monotonic() >= until:
            return
        try:
            seed(f"{beginning} {number}")(_BATCH(choices(changed)))()
        except Exception:
            for raw in failing[-1:]:  # the last that failed is the smallest that was found
                keep(reader, raw)
            raise


def keep(reader: Reader, raw: bytes) -> None:
    folder = CORPUS / reader.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hashlib.sha256(raw).hexdigest()[:12]).write_bytes(raw)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_a_changed_capture_is_read_or_refused(reader: Reader) -> None:
    """The same beginnings every time, so that a run says the same as the one before; as many as fit."""
    search(reader, SHARE, reader.name)


@pytest.mark.slow
@pytest.mark.fuzz
def test_many_changed_captures_are_read_or_refused() -> None:
    found = []
    for reader in READERS:
        until = time.monotonic() + LONG / len(READERS)
        while time.monotonic() < until:
            try:
                search(reader, until - time.monotonic(), secrets.token_hex(8))
            except Exception as error:  # noqa: BLE001  told below, with all others
                found.append(f"{reader.name}: {type(error).__name__}: {str(error)[:200]}")
                break
    assert found == []


@settings(
    max_examples=20 * len(READERS),
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
@given(st.data())
def test_any_bytes_are_read_or_refused(data: st.DataObject) -> None:
    reader = data.draw(st.sampled_from(READERS).filter(lambda each: each.name != "events"))
    tried(reader, data.draw(st.one_of(st.binary(max_size=200), st.text(max_size=100).map(_encoded))))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _raises_parse_error(node: ast.FunctionDef) -> bool:
    raised = (each.exc for each in ast.walk(node) if isinstance(each, ast.Raise) and each.exc is not None)
    return any("ParseError" in ast.unparse(each) for each in raised) or "Raises ParseError" in (
        ast.get_docstring(node) or ""
    )


def test_every_reader_is_fuzzed() -> None:
    """A function of text that can raise ParseError is entered by a reader of the list, or by another one."""
    known = {name for reader in READERS for name in reader.covers} | set(WITHIN)
    lost = []
    for module, path in modules().items():
        if not module.startswith("harness.") or module.startswith(("harness.payload", "harness.workloads.")):
            continue  # what workloads read comes by their parse, each of which is in the list
        for node in tree(path).body:
            name = f"{module.removeprefix('harness.')}.{getattr(node, 'name', '')}"
            if (
                isinstance(node, ast.FunctionDef)
                and not node.name.startswith("_")
                and _raises_parse_error(node)
            ):
                lost += [name] if name not in known else []
    assert lost == []


@pytest.mark.parametrize("name", sorted({name for reader in READERS for name in reader.covers}))
def test_every_reader_has_the_boundary(name: str) -> None:
    """``harness.reading.reader`` around it: what nobody foresaw is ParseError too."""
    module, _, function = name.rpartition(".")
    assert hasattr(getattr(importlib.import_module(f"harness.{module}"), function), "__wrapped__")


def test_every_workload_is_fuzzed() -> None:

    assert {f"workload-{name}" for name in NAMES} <= {reader.name for reader in READERS}
