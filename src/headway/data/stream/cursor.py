"""Stream cursor: start position of a window, and the counts so far."""

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
        window: number of the window that comes next.
        position: where it begins.
        steps: steps of the job whose rows come before it.
        rows: rows before it.
        row_sum: sum of `row_hash` over these rows, modulo 2**64, as the reader made them.
        epoch_rows: rows before it in its epoch.
        first_epoch_rows: all rows of the first epoch; 0 until that is known.
        read: records read, once per epoch.
        rejected: records rejected, by reason, once per epoch.
        truncated: conversations cut to `max_length`, once per epoch.
    """

    window: int = 0
    position: StreamPosition = StreamPosition()
    steps: int = 0
    rows: int = 0
    row_sum: int = 0
    epoch_rows: int = 0
    first_epoch_rows: int = 0
    read: int = 0
    rejected: dict[str, int] = field(default_factory=dict[str, int])
    truncated: int = 0

    @property
    def num_rejected(self) -> int:
        """Records rejected for any reason."""
        return sum(self.rejected.values())

    @property
    def distinct_rows(self) -> int:
        """Different rows before the window: later epochs bring those of the first again."""
        return self.first_epoch_rows or self.rows
