"""Measurement beside training: what is still known after a file, while the next is trained."""

import signal
from collections.abc import Callable
from concurrent.futures import Future

from headway.base.errors import Exit
from headway.base.host.background import in_background
from headway.base.machine import this_machine
from headway.base.process import Stop
from headway.runs.plan import Plan

_BYTES_PER_WEIGHT = 4  # fp32
_COPIES = 2  # of the weights, as they are loaded


class MeasuredBeside:
    """One measurement at a time, in a thread that waits for the process that measures.

    Args:
        tell: called from the thread when one has ended, with or without a result.
    """

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self._stop = Stop()
        self._work: Future[None] | None = None

    def start(self, measure: Callable[[Stop], None]) -> None:
        """Start to measure, once the measurement before has ended.

        Args:
            measure: does it; a request to stop ends it without a result.
        """
        self.wait()

        def work() -> None:
            # A stop is for the main thread, which the daemon sends it to.
            signal.pthread_sigmask(signal.SIG_BLOCK, Stop.CODES)
            try:
                measure(self._stop)
            finally:
                self._tell()

        self._work = in_background("still known", work)

    def wait(self) -> None:
        """Wait until nothing is measured any more; why there is no result, the daemon sees."""
        if self._work:
            self._work.exception()
        self._work = None

    def close(self) -> None:
        """End without a result what is still measured."""
        self._stop.ask("the end of the process", Exit.COME_BACK)
        self.wait()


def has_room_beside(plan: Plan, free: int | None = None) -> bool:
    """Whether a second model fits into memory while a file like this one is trained.

    Args:
        plan: of the file before.
        free: bytes of memory, while nothing is trained; None: as it is now.
    """
    free = this_machine().memory_free_bytes if free is None else free
    weights = _COPIES * _BYTES_PER_WEIGHT * plan.model.parameters
    return plan.memory.peak + plan.memory.process + weights <= free
