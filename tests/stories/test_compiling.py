"""A run that is compiled: it says so, goes on with the same bits, and trains without a compiler."""

import signal
from pathlib import Path

import pytest

from .conftest import Headway, until

TYPED = ("train", "notes.txt", "--preset", "tiny", "--max-length", 64, "--max-steps", 40)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where torch keeps what it compiled in these tests, and nothing else."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def typed(headway: Headway, made: Path) -> Headway:
    headway.environment["TORCHINDUCTOR_CACHE_DIR"] = str(made)
    headway.write("notes.txt", "".join(f"{i}: all work and no play. " for i in range(3000)))
    return headway


def weights(headway: Headway, run: str) -> bytes:
    return (headway.here / "runs" / run / "checkpoint-40" / "model.safetensors").read_bytes()


def test_stopped_and_gone_on_it_has_the_bits_of_one_that_never_stopped(typed: Headway) -> None:
    twin = typed(*TYPED, "--torch-compile", "--run-name", "twin")
    assert twin.code == 0, twin.out + twin.err
    assert "compiling" in twin.out
    assert typed.settled("twin")["compiled"] == "operations"
    again = (*TYPED, "--torch-compile", "--run-name", "again")
    process = typed.start(*again)
    until(lambda: any(e["event"] == "step_done" and e["step"] >= 7 for e in typed.events("again")))
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 75
    assert typed(*again).code == 0
    assert typed.receipt("again")["attempts"] == 2
    assert weights(typed, "again") == weights(typed, "twin")


def test_without_a_working_compiler_it_trains_uncompiled_and_says_so(
    typed: Headway, tmp_path: Path
) -> None:
    broken = {"CXX": "false", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "nothing here yet")}
    told = typed(*TYPED, "--torch-compile", **broken)
    assert told.code == 0, told.out + told.err
    assert "training without compile: the compiler failed" in told.out
    assert "Traceback" not in told.out + told.err
    assert typed.settled("notes")["compiled"] == "nothing"
