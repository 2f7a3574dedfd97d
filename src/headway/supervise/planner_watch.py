"""Planner watch: a planner that shows nothing new, named and, if it stays so, given up."""

import time
from datetime import UTC, datetime
from pathlib import Path

from headway.base.events import LogEntry
from headway.base.process import ChildProcess
from headway.base.pulse import read_pulse, silent_pulse
from headway.runs.workers import OnStall
from headway.supervise.screen import Screen
from headway.supervise.stalls.due import StallRules
from headway.supervise.stalls.stall_watch import StallWatch


class PlannerWatch:
    """Watches a planner. There is no run yet, and no log: the screen gets the events.

    What a planner waits for is named, and may take as long as it likes: a pipe is somebody else's
    program. A planner that is stuck would be stuck a second time: it is not restarted.

    Args:
        planner: its process.
        live: folder with its pulse.
        on_stall: what is done when it is past its patience.
        screen: shows what is found.
    """

    def __init__(
        self, planner: ChildProcess, live: Path, on_stall: OnStall, screen: Screen
    ) -> None:
        self._planner, self._live, self._screen = planner, live, screen
        self._began_s = time.monotonic()
        self._stalls = StallWatch(live, lambda _: "the planner")
        self._stalls.begin(StallRules(on_stall, ends_waits=False))

    def look(self) -> None:
        """Look at it once more.

        Raises:
            Refusal: it is past its patience.
        """
        pid = self._planner.pid
        pulse = read_pulse(self._live / "planner.pulse")
        self._stalls.look([pulse if pulse and pulse.pid == pid else silent_pulse(pid, 0)], None)
        self._show()
        for due in (*self._stalls.take_due(), self._stalls.ending):
            if due:
                raise due.refusal()

    def close(self) -> None:
        """It has ended."""
        self._stalls.close()
        self._show()

    def _show(self) -> None:
        for event in self._stalls.take_events():
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            t = time.monotonic() - self._began_s
            self._screen.event(LogEntry(at, t, 0, -1, event))
