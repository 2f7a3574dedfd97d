"""Side jobs: readings that may hang, each in a thread of its own, with a deadline for all."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")


class SideJobs(Generic[K, T]):
    """Calls that run in parallel from now on.

    A disk that does not answer blocks every caller. So each call has a daemon thread,
    which is left behind if it is late: it keeps neither this process from ending nor others
    from being read.

    Args:
        calls: by any key; they may raise OSError, which counts as no result.
        at_once: how many run in parallel.
    """

    def __init__(self, calls: Mapping[K, Callable[[], T]], at_once: int = 8) -> None:
        self._done: dict[K, T] = {}
        self._todo = list(calls.items())
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._work, daemon=True)
            for _ in range(min(at_once, len(self._todo)))
        ]
        self._todo.reverse()  # popped from the end
        for thread in self._threads:
            thread.start()

    def results(self, until_s: float) -> dict[K, T]:
        """What is done by then; no further call is begun.

        Args:
            until_s: CLOCK_MONOTONIC.
        """
        for thread in self._threads:
            thread.join(max(until_s - time.monotonic(), 0.0))
        with self._lock:
            self._todo.clear()
            return dict(self._done)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._todo:
                    return
                key, call = self._todo.pop()
            try:
                result = call()
            except OSError:
                continue
            with self._lock:
                self._done[key] = result
