"""Stream windows: finished rows on disk, with the cursor after them.

A window is one file. It can be recreated from the cursor before it, so it need not be durable.
"""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from headway.base.files import write_lightly
from headway.data.batching.rows import Segment
from headway.data.formats.records import Rejected
from headway.data.order import Numbers, WindowOrder, row_identities
from headway.data.stream.cursor import HELD_OUT, StreamCursor


@dataclass(frozen=True, slots=True)
class RowOrigin:
    """Where a row of a stream begins.

    Attributes:
        place: of the unit in its epoch.
        unit: number of the unit.
        record: number of the record in the unit, from 1.
        offset: text only: target of the record that is the row's first.
    """

    place: int
    unit: int
    record: int
    offset: int = 0


@dataclass(frozen=True)
class WindowFacts:
    """What a window's file contains in addition to its rows.

    Attributes:
        before: the cursor that the window begins at.
        after: the cursor after the window.
        has_short: the last row is the remainder of a text at the end of an epoch.
        rejected: records rejected while the window was made.
        units: held-out window only: records taken from each unit; -1 for all of them.
    """

    before: StreamCursor
    after: StreamCursor
    has_short: bool
    rejected: tuple[Rejected, ...]
    units: dict[int, int]

    @property
    def epoch(self) -> int:
        """The epoch that all rows of the window belong to, from 0."""
        return self.before.position.epoch


@dataclass(frozen=True)
class Window:
    """Finished rows of one epoch.

    Attributes:
        ids: (N,) the segments of all rows, concatenated.
        segment_ends: (S,) where each segment ends in `ids`.
        row_ends: (R,) number of segments up to the end of each row.
        trained: (N,) which tokens are trained; None: all but the first of each segment.
        origins_R4: (R, 4) place, unit, record and offset that each row begins at.
        facts: the rest of the file.
    """

    ids: NDArray[Any]
    segment_ends: NDArray[np.int64]
    row_ends: NDArray[np.int64]
    trained: NDArray[np.bool_] | None
    origins_R4: NDArray[np.int64]
    facts: WindowFacts

    def __len__(self) -> int:
        return len(self.row_ends)

    @cached_property
    def identities_R(self) -> Numbers:
        """(R,) the row numbers by which the job counts: a hash of epoch and origin."""
        return row_identities(self.facts.epoch, self.origins_R4[:, 1:])

    def order(self, seed: int, batch_size: int) -> WindowOrder:
        """Which rows make which of the window's steps."""
        short = self.facts.has_short
        number = self.facts.before.window
        return WindowOrder(seed, number, len(self) - short, short, batch_size)

    def repeats(self, last: RowOrigin | None) -> bool:
        """Whether a row begins no later in its epoch than the one before it.

        Args:
            last: origin of the epoch's row before this window, None if this window is its first.
        """
        origins = [tuple(row) for row in self.origins_R4.tolist()]
        if last is not None:
            origins.insert(0, astuple(last))
        return any(after <= before for before, after in pairwise(origins))

    def last_origin(self) -> RowOrigin:
        """Where the last row begins."""
        return RowOrigin(*self.origins_R4[-1].tolist())

    def segments(self, row: int) -> list[Segment]:
        """The segments of a row, numbered from the start of the window."""
        first = int(self.row_ends[row - 1]) if row else 0
        segments: list[Segment] = []
        for number in range(first, int(self.row_ends[row])):
            begin = int(self.segment_ends[number - 1]) if number else 0
            end = int(self.segment_ends[number])
            trained = None if self.trained is None else self.trained[begin + 1 : end]
            segments.append(Segment(self.ids[begin:end], trained))
        return segments


def make_window(
    rows: Sequence[Sequence[Segment]],
    origins: Sequence[RowOrigin],
    facts: WindowFacts,
    dtype: str,
) -> Window:
    """Concatenate rows to a window."""
    segments = [segment for row in rows for segment in row]
    trained = None
    if any(segment.trained is not None for segment in segments):
        trained = np.concatenate([flags for segment in segments for flags in _flags(segment)])
    return Window(
        ids=np.concatenate([segment.ids for segment in segments]).astype(dtype),
        segment_ends=np.cumsum([len(segment.ids) for segment in segments], dtype=np.int64),
        row_ends=np.cumsum([len(row) for row in rows], dtype=np.int64),
        trained=trained,
        origins_R4=origins_array(origins),
        facts=facts,
    )


def origins_array(origins: Sequence[RowOrigin]) -> Numbers:
    """(R, 4) place, unit, record and offset of rows."""
    return np.array([astuple(origin) for origin in origins], dtype=np.int64)


def _flags(segment: Segment) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Training flags of a segment: of its first token, and of its targets."""
    first = np.zeros(1, dtype=np.bool_)
    if segment.trained is None:
        return first, np.ones(len(segment), np.bool_)
    return first, segment.trained


def window_path(folder: Path, number: int) -> Path:
    """The file of a window."""
    return folder / ("held-out.window" if number == HELD_OUT else f"{number:08}.window")


def save_window(folder: Path, number: int, window: Window) -> None:
    """Write a window; its file appears atomically."""
    arrays: dict[str, NDArray[Any]] = {
        "ids": window.ids,
        "segment_ends": window.segment_ends,
        "row_ends": window.row_ends,
        "origins_R4": window.origins_R4,
        "facts": np.frombuffer(msgspec.json.encode(window.facts), dtype=np.uint8),
    }
    if window.trained is not None:
        arrays["trained"] = window.trained
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_lightly(window_path(folder, number), buffer.getvalue())


def load_window(folder: Path, number: int) -> Window | None:
    """Read a window; None if it does not exist or is damaged."""
    try:
        path = window_path(folder, number)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return Window(
                ids=arrays["ids"],
                segment_ends=arrays["segment_ends"],
                row_ends=arrays["row_ends"],
                trained=arrays.get("trained"),
                origins_R4=arrays["origins_R4"],
                facts=msgspec.json.decode(arrays["facts"].tobytes(), type=WindowFacts),
            )
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, msgspec.MsgspecError):
        return None
