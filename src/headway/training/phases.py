"""Which phase a job is in: in the pulse, in the log, and in the receipt's times."""

import time
from collections.abc import Generator
from contextlib import contextmanager

from headway.base.events import EventLog, PhaseEntered
from headway.base.pulse import Phase, Pulse


class Phases:
    """Called to be in a phase for a while.

    Attributes:
        seconds: by phase; each second belongs to the innermost one alone, so that they add up.
    """

    def __init__(self, pulse: Pulse, log: EventLog) -> None:
        self.pulse = pulse
        self.seconds: dict[str, float] = {}
        self._log = log
        self._inside = ""

    @contextmanager
    def __call__(self, name: Phase, *, total: int = 0, unit: str = "") -> Generator[None]:
        """Be in a phase; `total` counts its `unit`s where that is known."""
        began_s = time.monotonic()
        outer, self._inside = self._inside, name
        self._log.write(PhaseEntered(name))
        try:
            with self.pulse.phase(name, total=total, unit=unit):
                yield
        finally:
            spent_s, self._inside = time.monotonic() - began_s, outer
            for phase, share_s in ((name, spent_s), (outer, -spent_s)):
                self.seconds[phase] = self.seconds.get(phase, 0.0) + share_s
