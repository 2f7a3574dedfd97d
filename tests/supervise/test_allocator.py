"""A trainer's memory allocator: blocks that were freed are had again without touching them anew."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from headway.supervise import allocator
from headway.supervise.allocator import Allocator, choose_allocator

BLOCK = 64 << 20
PAGES = BLOCK // os.sysconf("SC_PAGE_SIZE")
FAULTS = f"""
import ctypes, resource
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = libc.free.argtypes = [ctypes.c_size_t]

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc({BLOCK})
    ctypes.memset(block, 1, {BLOCK})
    libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults(), "tcmalloc" in open("/proc/self/maps").read())
"""


def second_block(environment: dict[str, str]) -> tuple[int, bool]:
    """Pages touched for a large block that was just freed, and whether tcmalloc is loaded."""
    plain = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD" and "MALLOC" not in k}
    told = subprocess.check_output([sys.executable, "-c", FAULTS], env=plain | environment)
    faults, loaded = told.decode().split()
    return int(faults), loaded == "True"


def test_as_it_comes_a_large_block_is_touched_anew() -> None:
    faults, _ = second_block({})
    assert faults >= PAGES // 600  # pages may be huge ones


@pytest.mark.parametrize("here", [True, False], ids=["the best one here", "glibc alone"])
def test_a_block_that_was_freed_is_had_again(here: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    if not here:
        monkeypatch.setattr(allocator, "_FOLDERS", ())
    faults, loaded = second_block(allocator.environment())
    assert faults < 10
    assert loaded == (here and allocator.find_tcmalloc() is not None)
    assert (choose_allocator() is Allocator.TCMALLOC) == loaded


def test_what_a_person_preloads_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/mine.so")
    assert "LD_PRELOAD" not in allocator.environment()
    assert choose_allocator() is Allocator.PRELOADED


def test_elsewhere_than_linux_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert allocator.environment() == {}
    assert choose_allocator() is Allocator.SYSTEM


def test_the_first_that_is_there_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "libtcmalloc.so.4"
    library.touch()
    monkeypatch.setattr(allocator, "_FOLDERS", (str(tmp_path / "none"), str(tmp_path)))
    assert allocator.find_tcmalloc() == library
