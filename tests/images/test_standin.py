"""The NVML stand-in is compiled once, by the hash of what it is made of, and says what is missing."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path

import pytest

from harness.errors import ImageError
from harness.images.standin import compile_argv, ensure_standin
from harness.vendors.standin import LIBRARY, sources


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc here")
def test_it_is_compiled_once_and_can_be_loaded(tmp_path: Path) -> None:
    said: list[str] = []
    library = ensure_standin(said.append, root=tmp_path)
    assert library.name == LIBRARY
    assert ensure_standin(said.append, root=tmp_path) == library
    assert said == ["compiling the NVML stand-in"]
    loaded = ctypes.CDLL(str(library))
    assert loaded.nvmlShutdown() == 1  # UNINITIALIZED: nothing was started
    with pytest.raises(AttributeError):
        loaded.world_open  # noqa: B018  what is not NVML's is not exported


def test_a_machine_without_a_compiler_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageError) as caught:
        ensure_standin(lambda _: None, root=tmp_path)
    assert "gcc" in str(caught.value)
    assert "apt-get install gcc" in str(caught.value.remedy)


def test_everything_that_it_is_made_of_is_named() -> None:
    names = [path.name for path in sources()]
    assert "nvml_standin.c" in names
    assert "nvml_standin.h" in names
    argv = compile_argv("gcc", sources(), "out")
    assert "-Werror" in argv
    assert not [each for each in argv if each.endswith(".h")]
