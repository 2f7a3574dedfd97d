"""Phases of a run, recorded in the pulse, the log and the receipt's times."""

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager

from headway.base.events import EventLog, PhaseEntered
from headway.base.pulse import Phase, Pulse


class Phases:
    """Call it to enter a phase for the length of a `with` block.

    Args:
        pulse: of this process.
        log: gets each phase; None for a worker below the root, whose phases show in its pulse.
        before: seconds of the phases that came before, such as imports.

    Attributes:
        seconds: by phase. Each second counts for the innermost phase only, so they add up.
    """

    def __init__(
        self, pulse: Pulse, log: EventLog | None, before: Mapping[Phase, float] | None = None
    ) -> None:
        self.pulse = pulse
        self.seconds = {str(name): spent_s for name, spent_s in (before or {}).items()}
        self._log = log
        self._inside = ""

    @contextmanager
    def __call__(self, name: Phase, *, total: int = 0, unit: str = "") -> Generator[None]:
        """Enter a phase; `total` is its number of `unit`s, 0 if unknown."""
        start_s = time.monotonic()
        outer, self._inside = self._inside, name
        if self._log:
            self._log.write(PhaseEntered(name))
        try:
            with self.pulse.phase(name, total=total, unit=unit):
                yield
        finally:
            spent_s, self._inside = time.monotonic() - start_s, outer
            for phase, share_s in ((name, spent_s), (outer, -spent_s)):
                self.seconds[phase] = self.seconds.get(phase, 0.0) + share_s
