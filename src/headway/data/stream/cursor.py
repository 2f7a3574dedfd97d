"""Stream cursor: where a window begins, and what was counted before it."""

from dataclasses import dataclass, field

HELD_OUT = -1  # the number of the window that holds the held-out rows


@dataclass(frozen=True)
class StreamPosition:
    """A position in a stream: everything before it is in rows.

    Attributes:
        epoch: finished passes over all units.
        place: units of this epoch that are used up.
        taken: records of the next unit that are used up.
        offset: text only: targets of the next record that are used up.
    """

    epoch: int = 0
    place: int = 0
    taken: int = 0
    offset: int = 0


@dataclass(frozen=True)
class StreamCursor:
    """Where a window begins, with counts up to there.

    Attributes:
        window: number of the window that comes next.
        cursor: its position.
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
