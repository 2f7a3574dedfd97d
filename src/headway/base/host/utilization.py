"""Utilization: how a worker spends its time, once it takes steps."""

from dataclasses import dataclass
from enum import StrEnum


class Activity(StrEnum):
    """What a worker does; what is none of these is evaluating, sampling, logging and the like."""

    COMPUTING = "computing"
    DATA = "waiting for data"
    PEERS = "waiting for workers"
    SAVING = "saving"

    @classmethod
    def parse(cls, text: str) -> "Activity | None":
        """The activity with this text; None for "", and for one this version does not know."""
        return next((one for one in cls if one.value == text), None)


@dataclass(frozen=True)
class Spent:
    """Seconds of a worker since it began to take steps. No second counts twice."""

    computing: float = 0.0
    data: float = 0.0
    peers: float = 0.0
    saving: float = 0.0
    total: float = 0.0

    def plus(self, activity: Activity | None, more_s: float) -> "Spent":
        """The same and some seconds of an activity; `total` stays."""
        values = {field: getattr(self, field) for field in self.__dataclass_fields__}
        if activity:
            values[activity.name.lower()] += more_s
        return Spent(**values)

    @property
    def shares(self) -> "Shares":
        """Shares of the total."""
        total = max(self.total, 1e-9)
        parts = (self.computing, self.data, self.peers, self.saving)
        return Shares(*(min(part / total, 1.0) for part in parts))


@dataclass(frozen=True)
class Shares:
    """Shares of a worker's time since it began to take steps."""

    computing: float = 0.0
    data: float = 0.0  # waiting for the rows of a step
    peers: float = 0.0  # waiting for other workers
    saving: float = 0.0  # the root's alone
