"""Budget of memory and processor time for reading foreign input.

Memory is limited by the kernel (Linux): an allocation beyond the limit fails, and Python raises
MemoryError where it happened. Time is the process's own, so that a busy machine ends nothing.
"""

import os
import resource
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from headway.base.errors import Cause, MachineError, Remedy
from headway.base.foreign.boundary import Interruption
from headway.base.units import seconds, size

READER_BYTES = 1 << 30  # of data in a process that reads: twice what 64 MB of text need
_PAGE_BYTES = resource.getpagesize()
_CORE_BYTES = 32 << 20  # on top of that, for the threads of each core


@dataclass(frozen=True)
class Budget:
    """How much a piece of work may take.

    Attributes:
        memory_bytes: on top of what the process has.
        cpu_s: of processor time.
    """

    memory_bytes: int
    cpu_s: float


class LimitReachedError(Interruption):
    """Work took more than its limits allow; the text says how much: "more than 5 s"."""


@contextmanager
def limited(budget: Budget) -> Generator[None]:
    """Limit a block.

    Time is limited in the main thread only, which receives the signals.

    Raises:
        LimitReachedError: the block needs more.
    """
    try:
        with _limited_memory(budget.memory_bytes), _limited_time(budget.cpu_s):
            yield
    except MemoryError:
        raise LimitReachedError(f"more than {size(budget.memory_bytes)} of memory") from None


def limit_process(num_cores: int, memory_bytes: int = READER_BYTES) -> None:
    """Limit the memory of this process for good (Linux); a lower limit of the user's stays.

    Args:
        num_cores: that its threads run on.
        memory_bytes: of data, apart from the threads.
    """
    if sys.platform == "linux":
        # Arrow's own allocator reserves 1 GB at its first use, which the limit would count.
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
        _set_soft_limit(memory_bytes + num_cores * _CORE_BYTES)


def out_of_memory(name: str) -> MachineError:
    """The refusal of work that reached the limit of its process.

    Args:
        name: of what was being read.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return MachineError(
        f"reading {name} takes too much memory",
        cause=Cause.OUT_OF_MEMORY,
        have=f"a limit of {size(soft)}" if soft != resource.RLIM_INFINITY else "no memory left",
        need="data whose records are smaller, or fewer read before step 1",
        remedies=(Remedy("--survey-exact 8MB", "reads a sample of the data before step 1"),),
    )


@contextmanager
def _limited_memory(memory_bytes: int) -> Generator[None]:
    if sys.platform != "linux":
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    _set_soft_limit(_data_bytes() + memory_bytes)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _set_soft_limit(memory_bytes: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    lowest = min(one for one in (soft, hard, memory_bytes) if one != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_DATA, (lowest, hard))


def _data_bytes() -> int:
    """Bytes of this process that the limit counts."""
    descriptor = os.open("/proc/self/statm", os.O_RDONLY)  # several times faster than `Path`
    try:
        return int(os.read(descriptor, 256).split()[5]) * _PAGE_BYTES
    finally:
        os.close(descriptor)


_AGAIN_S = 1.0  # of processor time; leaving the block takes far less


@contextmanager
def _limited_time(cpu_s: float) -> Generator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(_number: int, _frame: object) -> NoReturn:
        # Python drops what is raised in a destructor: then the time is over once more.
        signal.setitimer(signal.ITIMER_VIRTUAL, _AGAIN_S)
        raise LimitReachedError(f"more than {seconds(cpu_s)} of processor time")

    before = signal.signal(signal.SIGVTALRM, expire)
    signal.setitimer(signal.ITIMER_VIRTUAL, cpu_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
