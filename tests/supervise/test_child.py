"""What a trainer is started with, and why it died."""

import signal
from collections import namedtuple
from typing import Any

import pytest

from headway.base.errors import Cause, ComeBack, Exit, MachineError, OurBug, message_of
from headway.supervise.child import child_environment, death_refusal, torch_environment
from headway.supervise.live import shared_memory

Disk = namedtuple("Disk", "total used free")


class Dead:
    """A process that ended."""

    def __init__(self, exit_code: int, *words: str, refusal: Any = None) -> None:
        self.exit_code = exit_code
        self._words, self._refusal = list(words), refusal

    def last_words(self) -> list[str]:
        return self._words

    def last_refusal(self) -> Any:
        return self._refusal


def why(*given: Any, **more: Any) -> Any:
    child: Any = Dead(*given, **more)
    return death_refusal(child, "training notes")


def test_what_a_person_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("LD_PRELOAD", "/mine.so")
    environment = torch_environment()
    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment["LD_PRELOAD"] == "/mine.so"
    assert environment["PYTHONUNBUFFERED"] == "1"
    assert environment["PYTORCH_NVML_BASED_CUDA_CHECK"] == "1"  # a process that forks may ask


def test_only_an_offline_process_is_told_to_stay_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert torch_environment(offline=True)["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in torch_environment()
    assert "HF_HUB_OFFLINE" not in child_environment()


def test_its_own_refusal_is_the_reason() -> None:
    refusal = why(75, "noise", refusal=message_of(ComeBack("later", cause=Cause.LOCKED)))
    assert (type(refusal), refusal.what, refusal.cause) == (ComeBack, "later", Cause.LOCKED)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS])
def test_a_signal_is_named(number: signal.Signals) -> None:
    refusal = why(-number)
    assert isinstance(refusal, MachineError)
    assert refusal.cause is Cause.PROCESS_KILLED
    assert refusal.what == f"training notes was killed by {number.name}"
    assert ("memory ran out" in refusal.have) == (number is signal.SIGKILL)


def test_a_library_that_gave_up_is_told_with_what_was_read() -> None:
    child: Any = Dead(-signal.SIGABRT)
    refusal = death_refusal(child, "planning", "tokenizing a.jsonl, for evil")
    assert refusal.have == (
        "SIGABRT: a library gave up, usually at the limit of its process's memory\n"
        "it was tokenizing a.jsonl, for evil"
    )


@pytest.mark.parametrize("code", [Exit.MACHINE, -signal.SIGBUS])
def test_full_shared_memory_is_the_reason_where_nothing_else_is_known(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_memory.shutil, "disk_usage", lambda _: Disk(100, 100, 0))
    assert why(code).cause is Cause.SHARED_MEMORY_FULL
    assert why(1).cause is Cause.BUG


def test_anything_else_is_a_bug_with_its_last_line() -> None:
    refusal = why(1, "Traceback", "ValueError: no")
    assert isinstance(refusal, OurBug)
    assert refusal.what == "training notes failed: ValueError: no"
    assert refusal.have == "exit code 1, after 2 lines of output"
    assert why(3).what == "training notes failed: exit code 3"


def test_threads_that_wait_sleep_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert torch_environment()["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert torch_environment()["OMP_WAIT_POLICY"] == "ACTIVE"
