"""Memory and time of a block have limits; what was set before is set again."""

import resource
import signal
import subprocess
import sys
import threading

import pytest

from headway.base.foreign.budget import Budget, LimitReachedError, limited

SMALL = Budget(memory_bytes=64_000_000, cpu_s=0.1)


def test_memory_beyond_the_limit_is_refused_before_it_is_taken() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(LimitReachedError, match=r"^more than 64\.0 MB of memory$"), limited(SMALL):
        bytearray(10**10)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    with limited(SMALL):
        assert len(bytearray(10**7)) == 10**7


def spin() -> None:
    while True:
        pass


def test_a_loop_without_end_is_left() -> None:
    before = signal.getsignal(signal.SIGVTALRM)
    with (
        pytest.raises(LimitReachedError, match=r"^more than 0\.1 s of processor time$"),
        limited(SMALL),
    ):
        spin()
    assert signal.getsignal(signal.SIGVTALRM) == before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_another_thread_is_limited_in_memory_alone() -> None:
    found: list[BaseException] = []

    def work() -> None:
        try:
            with limited(SMALL):
                bytearray(10**10)
        except LimitReachedError as error:
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(found) == 1


PROCESS = """
from headway.base.foreign.budget import limit_process, out_of_memory
limit_process(num_cores=1, memory_bytes=100_000_000)
held = bytearray(50_000_000)
try:
    held.extend(bytes(500_000_000))
except MemoryError:
    print(out_of_memory("big.txt"))
"""


def test_a_process_keeps_its_limit_and_says_what_it_read() -> None:
    done = subprocess.run([sys.executable, "-c", PROCESS], capture_output=True, text=True)
    assert done.stdout.startswith("reading big.txt takes too much memory\n  have  a limit of 13")
    assert "try   --survey-exact" in done.stdout


ARROW = """
import resource
from pathlib import Path
from headway.base.foreign.budget import limit_process
limit_process(num_cores=2, memory_bytes=1_500_000_000)
import datasets
print(int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize())
"""


def test_arrow_does_not_spend_the_limit_on_a_reserve() -> None:
    done = subprocess.run([sys.executable, "-c", ARROW], capture_output=True, text=True)
    assert int(done.stdout) < 500_000_000, done.stderr


class Swallows:
    """Something whose destructor takes longer than it may; what is raised in it is dropped."""

    def __del__(self) -> None:
        while True:
            pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_limit_that_a_destructor_swallowed_is_met_again() -> None:
    def endless() -> None:
        Swallows()  # gone at once
        while True:
            pass

    with pytest.raises(LimitReachedError), limited(SMALL):
        endless()
