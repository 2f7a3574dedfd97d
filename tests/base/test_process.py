"""Stopping: the first request counts, a second one leaves at once, and workers die with us."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from headway.base import process
from headway.base.errors import Exit
from headway.base.process import Left, Stop, raise_now

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


@pytest.fixture
def listening() -> Iterator[Stop]:
    """A `Stop` that hears this process's signals for as long as the test lasts."""
    with Stop().listening() as stop:
        yield stop


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in SIGNALS]


def test_the_handlers_of_before_are_back_whatever_happens() -> None:
    def fail() -> None:
        with Stop().listening():
            assert all(a is not b for a, b in zip(handlers(), before, strict=True))
            raise ZeroDivisionError

    before = handlers()
    with pytest.raises(ZeroDivisionError):
        fail()
    assert handlers() == before


def test_listening_within_listening_gives_back_to_the_outer(listening: Stop) -> None:
    with Stop().listening() as inner:
        os.kill(os.getpid(), signal.SIGTERM)
    assert (inner.by, listening.by) == ("SIGTERM", "")
    os.kill(os.getpid(), signal.SIGINT)
    assert listening.signal is signal.SIGINT


def test_in_another_thread_nothing_is_installed() -> None:
    seen: list[object] = []

    def elsewhere() -> None:
        with Stop().listening():
            seen.extend(handlers())

    before = handlers()
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == before


@pytest.mark.parametrize(
    ("number", "raised"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)],
)
def test_f04_in_a_library_a_second_signal_abandons_the_call(
    number: signal.Signals, raised: type[BaseException]
) -> None:
    def call() -> None:
        with Stop().listening(raise_now):
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), number)
            pytest.fail("it went on")

    before = handlers()
    with pytest.raises(raised):
        call()
    assert handlers() == before


def test_a_second_signal_after_a_time_limit_leaves_at_once(
    listening: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[int] = []
    monkeypatch.setattr(process.os, "_exit", left.append)
    listening.ask("max_time", Exit.COME_BACK)
    os.kill(os.getpid(), signal.SIGTERM)
    assert left == []
    os.kill(os.getpid(), signal.SIGTERM)
    assert left == [Exit.COME_BACK]


def test_what_must_be_done_before_leaving_is_done_newest_first(
    listening: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(process.os, "_exit", lambda _: done.append("left"))
    with (
        listening.before_leaving(lambda: done.append("outer")),
        listening.before_leaving(lambda: done.append("inner")),
    ):
        os.kill(os.getpid(), signal.SIGINT)
        assert done == []
        os.kill(os.getpid(), signal.SIGINT)
    assert done == ["inner", "outer", "left"]


def test_nobody_has_asked() -> None:
    stop = Stop()
    assert (stop.by, stop.since_s()) == ("", 0.0)


def test_the_first_request_counts() -> None:
    stop = Stop()
    stop.ask("max_time", Exit.COME_BACK)
    asked_s = stop.asked_s
    stop.ask("SIGINT", Exit.INTERRUPTED)
    assert (stop.by, stop.code, stop.asked_s) == ("max_time", Exit.COME_BACK, asked_s)
    assert 0 <= stop.since_s() < 60


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGUSR1, 75)]
)
def test_a_signal_only_asks(listening: Stop, number: signal.Signals, code: int) -> None:
    os.kill(os.getpid(), number)
    assert (listening.by, listening.code) == (number.name, code)


def test_a_terminal_that_closes_asks_nothing(listening: Stop) -> None:
    os.kill(os.getpid(), signal.SIGHUP)
    assert listening.by == ""


def test_f04_a_second_signal_leaves_at_once(
    listening: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[int] = []
    monkeypatch.setattr(process.os, "_exit", left.append)
    os.kill(os.getpid(), signal.SIGTERM)
    assert left == []
    os.kill(os.getpid(), signal.SIGINT)
    assert left == [Exit.INTERRUPTED]


def test_o03_where_nothing_has_to_be_finished_a_signal_leaves_in_the_middle(
    listening: Stop,
) -> None:
    done: list[str] = []

    def asked_in_the_middle() -> None:
        with listening.may_leave():
            done.append("begun")
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
            done.append("finished")

    with pytest.raises(Left):
        asked_in_the_middle()
    assert done == ["begun"]
    assert (listening.by, listening.code) == ("SIGTERM", Exit.COME_BACK)


def test_o03_who_was_asked_before_does_not_begin(listening: Stop) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(Left), listening.may_leave():
        pytest.fail("it began")


def test_after_what_may_be_left_a_signal_only_asks(listening: Stop) -> None:
    with listening.may_leave():
        pass
    with pytest.raises(ZeroDivisionError), listening.may_leave():
        1 / 0  # noqa: B018
    os.kill(os.getpid(), signal.SIGTERM)
    assert listening.by == "SIGTERM"


def test_a_signal_after_a_time_limit_still_lets_it_save(
    listening: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process.os, "_exit", lambda _: pytest.fail("it left at once"))
    listening.ask("max_time", Exit.COME_BACK)
    os.kill(os.getpid(), signal.SIGTERM)
    assert listening.by == "max_time"


PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", '''
from headway.base.process import end_with_parent
import time
end_with_parent()
print("ready", flush=True)
time.sleep(60)
'''], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it looks at its parent each step")
def test_f18_a_worker_dies_with_its_supervisor() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    for _ in range(200):
        if not _runs(child):
            return
        time.sleep(0.01)
    pytest.fail(f"process {child} outlived its parent")


def _runs(pid: int) -> bool:
    """Whether it is alive; dead and not yet collected is dead."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
