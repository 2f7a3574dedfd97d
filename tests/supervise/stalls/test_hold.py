"""What keeps a process from running that is not its own doing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from headway.base.host.contention import CpuTimes, OtherWork
from headway.supervise.stalls import hold
from headway.supervise.stalls.hold import Hold, Holds, share_left


@pytest.fixture
def process() -> Iterator["subprocess.Popen[bytes]"]:
    """One that sleeps."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as started:
        yield started
        started.kill()


def until(what: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_one_that_stands_still_is_known(process: "subprocess.Popen[bytes]") -> None:
    assert Holds().look([process.pid], 0.0) == {process.pid: Hold()}
    os.kill(process.pid, signal.SIGSTOP)
    until(lambda: Holds().look([process.pid], 0.0)[process.pid].is_stopped)


def test_one_that_a_debugger_has_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "debugger_of", lambda _: 7)
    assert Holds().look([1], 0.0) == {1: Hold(is_traced=True, counted=0.0)}


BUSY = OtherWork(1.0, 2, other_cores=1.5, busy=1.0, steal=0.0, throttled=0.0)


@pytest.mark.parametrize(
    ("work", "left"),
    [
        (None, 1.0),
        (OtherWork(1.0, 2, other_cores=0.9, busy=0.7, steal=0.0, throttled=0.0), 1.0),
        (BUSY, 0.25),
        (OtherWork(1.0, 4, other_cores=2.0, busy=0.95, steal=0.0, throttled=0.0), 0.5),
        (OtherWork(1.0, 2, other_cores=0.0, busy=0.5, steal=0.4, throttled=0.0), 0.6),
        (OtherWork(1.0, 2, other_cores=0.0, busy=0.5, steal=0.0, throttled=0.99), 0.25),
    ],
)
def test_what_others_left(work: OtherWork | None, left: float) -> None:
    assert share_left(work) == pytest.approx(left)


@pytest.mark.parametrize(("wants", "counted"), [(True, 0.25), (False, 1.0)])
def test_others_matter_only_to_one_that_wants_a_core(
    monkeypatch: pytest.MonkeyPatch, wants: bool, counted: float
) -> None:
    monkeypatch.setattr(hold, "_wants_a_core", lambda _: wants)
    monkeypatch.setattr(hold, "is_stopped", lambda _: False)
    seen = iter([CpuTimes(t, 2, 2 * t, 0.0, 0.5 * t, 0, 0) for t in (0.0, 1.0)])
    holds = Holds(lambda _: next(seen))
    assert holds.look([1], 0.0)[1].counted == 1.0  # nothing to compare with yet
    assert holds.look([1], 1.0)[1].counted == counted


def test_they_are_looked_at_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = list[int]()
    monkeypatch.setattr(hold, "is_stopped", lambda pid: bool(looks.append(pid)))
    holds = Holds(lambda _: None)
    for now_s in (0.0, 0.2, 0.4, 1.1):
        holds.look([5], now_s)
    assert looks == [5, 5]
    assert holds.look([], 1.2) == {}


def test_one_that_is_gone_is_held_by_nothing() -> None:
    assert Holds().look([2**22 - 3], 0.0) == {2**22 - 3: Hold()}
