"""Stream cursor: where a window begins, with the counts up to there."""

from dataclasses import dataclass, field

HELD_OUT = -1  # the number of the window that holds the held-out rows


@dataclass(frozen=True)
class StreamPosition:
    """A position in a stream: everything before it has become rows.

    Attributes:
        epoch: finished passes over all units.
        place: units of this epoch already used.
        taken: records of the next unit already used.
        offset: text only: targets of the next record already used.
    """

    epoch: int = 0
    place: int = 0
    taken: int = 0
    offset: int = 0


@dataclass(frozen=True)
class StreamCursor:
    """Where a window begins, with the counts up to there.

    Attributes:
        window: number of the next window.
        cursor: position of the next window.
        read: records read.
        rejected: records rejected, by reason.
        truncated: conversations cut to `max_length`.
    """

    window: int = 0
    cursor: StreamPosition = StreamPosition()
    read: int = 0
    rejected: dict[str, int] = field(default_factory=dict[str, int])
    truncated: int = 0

    @property
    def num_rejected(self) -> int:
        """Records rejected for any reason."""
        return sum(self.rejected.values())
