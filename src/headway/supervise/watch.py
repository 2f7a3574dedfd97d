"""Job watcher: follows pulses and events, notices silence, reports to a screen."""

import time
from collections.abc import Generator
from pathlib import Path

from headway.base.errors import Cause, Finding
from headway.base.events import EventReader
from headway.base.process import ChildProcess
from headway.supervise.live.live_jobs import copy_pulses, read_pulses
from headway.supervise.progress import Progress, Status
from headway.supervise.screen import Screen

POLL_S = 0.05  # between two looks at the process
LOOK_S = 0.2  # between two looks at what it does, which cost more
COPY_S = 1.0


class Watch:
    """Follows a job's pulses and events and tells a screen.

    Args:
        screen: where it is shown.
        live: the live folder with the job's pulses.
        progress: what the job has done so far.
        events: its events, once it has a log.
        run: the run's folder, which gets a copy of the pulses every second.
    """

    def __init__(
        self,
        screen: Screen,
        live: Path,
        progress: Progress,
        events: EventReader | None = None,
        run: Path | None = None,
    ) -> None:
        self.screen = screen
        self.live = live
        self.progress = progress
        self.events = events
        self.run = run
        self._copied_s = 0.0
        self._num_lost = 0

    def take_log_loss(self) -> bool:
        """Whether the log was deleted or replaced since the last call."""
        before, self._num_lost = self._num_lost, self.events.num_lost if self.events else 0
        return self._num_lost > before

    def follow(self, child: ChildProcess) -> Generator[None]:
        """Show the job until a process ends; yields before each look at the process."""
        looked_s = 0.0
        while child.is_running:
            yield
            now_s = time.monotonic()
            if now_s - looked_s >= LOOK_S:
                looked_s = now_s
                self.take_events()
                self.show_status()
                self._copy_pulses()
            child.wait_up_to(POLL_S)
        self.take_events()

    def take_events(self) -> None:
        """Show what was logged since the last look."""
        for entry in self.events.new() if self.events else ():
            self.progress.take(entry)
            self.screen.event(entry)

    def show_status(self) -> None:
        """Show what the job is doing now."""
        self.screen.status(self._status())

    def doing(self) -> str:
        """The phase that the job is in, or what it waits for."""
        now = self._status()
        return f"waiting for {now.waiting_for}" if now.waiting_for else now.phase

    def _status(self) -> Status:
        pulses = read_pulses(self.live)
        return self.progress.status(pulses, time.monotonic(), wall_s=time.time())

    def _copy_pulses(self) -> None:
        if self.run and time.monotonic() - self._copied_s >= COPY_S:
            self._copied_s = time.monotonic()
            copy_pulses(self.live, self.run)


def log_deleted(path: Path) -> Finding:
    """The warning that a log is gone."""
    return Finding(
        "warning",
        f"{path.name} was deleted or replaced during the run",
        have="earlier entries are lost; the run continues",
        need="the whole log, to verify the receipt later",
        cause=Cause.LOG_DELETED,
    )
