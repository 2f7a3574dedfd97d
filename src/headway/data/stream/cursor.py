"""The place in a stream that a window begins at."""

from dataclasses import dataclass, field

HELD_OUT = -1  # the number of the window that holds the held-out rows


@dataclass(frozen=True)
class StreamPosition:
    """A place in a flow: everything before it is in rows.

    Attributes:
        epoch: times through all units.
        place: units of this epoch that are used up.
        taken: records of the next unit that are used up.
        offset: targets of the next record that are used up, for a text.
    """

    epoch: int = 0
    place: int = 0
    taken: int = 0
    offset: int = 0


@dataclass(frozen=True)
class StreamCursor:
    """Where a flow stands before a window, and what was counted until there.

    Attributes:
        window: the number of the window that comes next.
        cursor: where it begins.
        read: records so far.
        rejected: of these, how many by reason.
        truncated: conversations cut to `max_length`.
    """

    window: int = 0
    cursor: StreamPosition = StreamPosition()
    read: int = 0
    rejected: dict[str, int] = field(default_factory=dict[str, int])
    truncated: int = 0

    @property
    def num_rejected(self) -> int:
        """Records that cannot be trained on."""
        return sum(self.rejected.values())
