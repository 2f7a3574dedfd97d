"""Threads that wait: asleep, unless a person wants them otherwise."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headway.supervise.thread_waiting import ThreadWaiting, choose_waiting, environment

VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_every_kind_of_openmp_is_told() -> None:
    assert choose_waiting() is ThreadWaiting.ASLEEP
    assert environment() == {
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
        "KMP_BLOCKTIME": "0",
    }


@pytest.mark.parametrize("name", VARIABLES)
def test_what_a_person_set_stands_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    assert choose_waiting() is ThreadWaiting.YOURS
    assert environment() == {}


def test_the_library_that_torch_brings_takes_it() -> None:
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    libraries = sorted(Path(spec.origin).parent.glob("lib/libgomp*"))
    name = str(libraries[0]) if libraries else "libgomp.so.1"
    told = subprocess.run(
        [sys.executable, "-c", f"import ctypes; ctypes.CDLL({name!r})"],
        env={**os.environ, **environment(), "OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in told
    assert "GOMP_SPINCOUNT = '0'" in told
