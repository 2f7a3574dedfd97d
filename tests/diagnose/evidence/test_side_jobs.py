"""Side jobs: what hangs is left behind, and keeps nothing else from being read."""

import threading
import time
from collections.abc import Callable

from headway.diagnose.evidence.side_jobs import SideJobs


def test_what_hangs_is_left_behind() -> None:
    over, quick = threading.Event(), threading.Event()

    def hang() -> str:
        over.wait()
        return "late"

    def answer() -> str:
        quick.set()
        return "a"

    jobs = SideJobs({"hung": hang, "quick": answer})
    assert quick.wait(10)
    found = jobs.results(time.monotonic() + 0.05)
    over.set()
    assert found == {"quick": "a"}


def test_what_cannot_be_read_has_no_result() -> None:
    def gone() -> str:
        raise FileNotFoundError

    calls: dict[int, Callable[[], str]] = {1: gone, 2: lambda: "b"}
    assert SideJobs(calls, at_once=1).results(time.monotonic() + 10) == {2: "b"}


def test_nothing_is_begun_after_the_deadline() -> None:
    over, begun = threading.Event(), list[int]()

    def hang(number: int) -> int:
        begun.append(number)
        over.wait()
        return number

    jobs = SideJobs({n: lambda n=n: hang(n) for n in range(5)}, at_once=2)
    assert jobs.results(time.monotonic() + 0.05) == {}
    over.set()
    assert jobs.results(time.monotonic() + 10) == {0: 0, 1: 1}
    assert sorted(begun) == [0, 1]


def test_of_nothing_there_is_nothing() -> None:
    assert SideJobs[int, int]({}).results(time.monotonic()) == {}
