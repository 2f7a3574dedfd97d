"""Restarts: whether new workers continue for killed ones, and how often.

What killed a process from outside may never happen again; an error of its own would. So only runs
whose workers were killed are restarted, and only while that leads anywhere: a restart that ends
before a step that no attempt had finished is the last one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from headway.base.errors import Finding


@dataclass(frozen=True)
class LostWorkers:
    """What ended an attempt whose workers were killed.

    Attributes:
        finding: which worker it was, and what happened to it.
        finished_step: of the job, the last one of the attempt.
        out_of_memory: whether the system's out-of-memory killer was at work during the attempt.
    """

    finding: Finding
    finished_step: int
    out_of_memory: bool = False


@dataclass(frozen=True)
class Restart:
    """Why an attempt takes the place of another.

    Attributes:
        number: of the restart, counted from 1; 0: a person started the attempt.
        after: what happened to the workers before.
    """

    number: int
    after: str


NO_RESTART = Restart(0, "")


class Restarts:
    """The restarts of a run since a person started it.

    Args:
        most: that are allowed.

    Attributes:
        number: that there were.
    """

    def __init__(self, most: int) -> None:
        self.number = 0
        self._most = most
        self._step = 0  # the last one that an attempt had finished before the newest restart
        self._out_of_memory = False

    def take(self, lost: LostWorkers) -> str:
        """Take one more restart; returns why there is none left, "" if there was."""
        if not self._most:
            return "--max-restarts is 0"
        if self.number and lost.finished_step <= self._step:
            return "no new step was finished since the last restart"
        if self._out_of_memory and lost.out_of_memory:
            return "the system's out-of-memory killer ended a process again"
        if self.number >= self._most:
            return f"there were as many restarts as --max-restarts allows: {self._most}"
        self.number += 1
        self._step = max(self._step, lost.finished_step)
        self._out_of_memory |= lost.out_of_memory
        return ""


class FollowedAttempt(Protocol):
    """A running attempt, as `follow_attempts` sees it."""

    def follow(self) -> LostWorkers | None:
        """Show it until it ends; returns what new workers can make good, if that ended it."""
        ...

    def close(self, why_no_restart: str = "") -> int:
        """Say how it ended; returns the exit code."""
        ...


def follow_attempts(
    attempt: FollowedAttempt,
    restarts: Restarts,
    is_stopping: Callable[[], bool],
    start: Callable[[Restart], FollowedAttempt],
) -> int:
    """Follow an attempt and those that take its place, until one ends the run.

    Args:
        attempt: the first one.
        restarts: that are left.
        is_stopping: whether a stop was requested: then nothing is restarted.
        start: ends what is left of the attempt before and starts the next one.

    Returns:
        The exit code.
    """
    while True:
        lost = attempt.follow()
        if lost is None or is_stopping():
            return attempt.close()
        if why_not := restarts.take(lost):
            return attempt.close(why_not)
        attempt = start(Restart(restarts.number, lost.finding.what))
