"""Binding a library's references to itself changes how fast it loads and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import ParseError
from harness.lab.prelink import Bound, bind_own_symbols

SOURCE = """
#include <stdio.h>
int numbers[4] = {1, 2, 3, 4};
int *third = &numbers[2];
int *first = numbers;
__thread int local = 7;
static int twice(int x) { return 2 * x; }
int plus(int x) { return x + 1; }
__attribute__((weak)) int weak(int x) { return x * 100; }
int (*table[])(int) = {twice, plus, weak};
int (*outside)(const char *) = puts;
int sum(void) {
    int s = *third + *first + local + (outside != 0);
    for (int i = 0; i < 3; i++) s += table[i](10);
    return s;
}
"""
compiler = shutil.which("cc") or shutil.which("gcc")
needs_compiler = pytest.mark.skipif(compiler is None, reason="no C compiler here")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    (tmp_path / "x.c").write_text(SOURCE)
    out = tmp_path / "libx.so"
    subprocess.run(
        [str(compiler), "-shared", "-fPIC", "-O0", "-o", str(out), str(tmp_path / "x.c")], check=True
    )
    return out


def answer(library: Path) -> str:
    code = f"import ctypes; lib = ctypes.CDLL({str(library)!r}); print(lib.sum(), lib.plus(1), lib.weak(1))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@needs_compiler
def test_a_bound_library_computes_what_it_did_before(library: Path) -> None:
    before = answer(library)
    done = bind_own_symbols(library)
    # third, first, table[1], table[2] and whatever the linker reaches through its offset table
    assert done.bound >= 4
    assert done.left >= 1  # puts is not its own, `local` is thread-local
    assert answer(library) == before == "1043 2 100\n"


@needs_compiler
def test_binding_twice_changes_nothing(library: Path) -> None:
    first = bind_own_symbols(library)
    content = library.read_bytes()
    assert bind_own_symbols(library) == Bound(bound=0, left=first.left)
    assert library.read_bytes() == content


@needs_compiler
def test_only_the_relocation_table_and_its_count_change(library: Path) -> None:
    before = library.read_bytes()
    bind_own_symbols(library)
    after = library.read_bytes()
    changed = [n for n, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    sections = subprocess.run(
        ["readelf", "-SW", str(library)], capture_output=True, text=True, check=True
    ).stdout
    spans = []
    for name in (".rela.dyn", ".dynamic"):
        words = sections.split(f" {name} ", 1)[1].split()
        spans.append((int(words[2], 16), int(words[2], 16) + int(words[3], 16)))
    assert changed
    assert all(any(a <= n < b for a, b in spans) for n in changed)


@pytest.mark.parametrize("content", [b"x", b"\x7fELF", b"\x7fELF\x02\x01" + bytes(100), b"#!/bin/sh\n" * 100])
def test_what_is_no_library_is_refused_and_left_alone(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(content)
    with pytest.raises(ParseError):
        bind_own_symbols(path)
    assert path.read_bytes() == content


@needs_compiler
@given(cut=st.integers(1, 4000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_a_truncated_library_is_refused(cut: int, library: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut"
    path.write_bytes(library.read_bytes()[:cut])
    with pytest.raises(ParseError):
        bind_own_symbols(path)
