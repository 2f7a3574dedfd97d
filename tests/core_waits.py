"""Waits for a core: how long threads were ready to run while other programs had all cores.

Linux counts it for each thread. A limit in seconds holds for what is left without it, so that it
says the same on a busy machine as on a quiet one.
"""

import threading
from pathlib import Path


class CoreWaits:
    """How long a process, and this thread that watches it, have waited for a core.

    Args:
        pid: of the process.
    """

    def __init__(self, pid: int) -> None:
        self._tasks = Path(f"/proc/{pid}/task")
        self._own = Path(f"/proc/self/task/{threading.get_native_id()}")
        self._seen = {self._own: self._read()[self._own]}

    def since_last_s(self) -> float:
        """Seconds since the call before: this thread's, and those of the thread with the most.

        At the first call, those of the process since it was started.
        """
        before, self._seen = self._seen, self._read()
        grown = {task: ns - before.get(task, 0) for task, ns in self._seen.items()}
        own_ns = grown.pop(self._own, 0)
        return (own_ns + max(grown.values(), default=0)) / 1e9

    def _read(self) -> dict[Path, int]:
        """Nanoseconds by thread; those that have ended are left out."""
        tasks = [*self._tasks.iterdir()] if self._tasks.exists() else []
        found: dict[Path, int] = {}
        for task in (self._own, *tasks):
            try:
                found[task] = int((task / "schedstat").read_text().split()[1])
            except OSError:
                continue
        return found
